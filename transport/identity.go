package transport

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"strings"
)

// Kind says what sort of party an identity is.
type Kind string

// The kinds. There are no others; ParseIdentity refuses anything else.
const (
	KindNode     Kind = "node"     // a management node
	KindHost     Kind = "host"     // an agent on a hypervisor host
	KindOperator Kind = "operator" // a person or a script with the command line
)

// Identity is who a certificate speaks for. The zero value is nobody.
// Identities are comparable.
type Identity struct {
	Kind Kind
	Name string
}

const (
	uriScheme  = "lifeboat"
	uriPrefix  = uriScheme + "://"
	maxNameLen = 63
)

// ParseIdentity reads "lifeboat://kind/name". The form is strict: no escapes,
// no upper case, no port, query or trailing slash, so that equal identities
// are equal strings.
func ParseIdentity(uri string) (Identity, error) {
	rest, ok := strings.CutPrefix(uri, uriPrefix)
	if !ok {
		return Identity{}, fmt.Errorf("parse identity %q: it must look like lifeboat://node/n1", uri)
	}
	kind, name, ok := strings.Cut(rest, "/")
	if !ok {
		return Identity{}, fmt.Errorf("parse identity %q: the name is missing, it must look like lifeboat://node/n1", uri)
	}
	id := Identity{Kind: Kind(kind), Name: name}
	if err := id.Validate(); err != nil {
		return Identity{}, fmt.Errorf("parse identity %q: %w", uri, err)
	}
	return id, nil
}

// Validate says in a sentence what is wrong with the identity, or returns nil.
func (id Identity) Validate() error {
	switch id.Kind {
	case KindNode, KindHost, KindOperator:
	default:
		return fmt.Errorf("unknown kind %q: use node, host or operator", string(id.Kind))
	}
	return validateName(id.Name)
}

func validateName(name string) error {
	switch {
	case name == "":
		return errors.New("the name is empty")
	case len(name) > maxNameLen:
		return fmt.Errorf("the name has %d characters, at most %d are allowed", len(name), maxNameLen)
	case !isAlnum(name[0]):
		return fmt.Errorf("name %q must begin with a-z or 0-9", name)
	}
	for i := range len(name) {
		if c := name[i]; !isAlnum(c) && c != '.' && c != '-' {
			return fmt.Errorf("name %q may only contain a-z, 0-9, '.' and '-'", name)
		}
	}
	return nil
}

func isAlnum(c byte) bool { return 'a' <= c && c <= 'z' || '0' <= c && c <= '9' }

// String is the URI form, the one ParseIdentity reads.
func (id Identity) String() string { return uriPrefix + string(id.Kind) + "/" + id.Name }

// Actor is how the audit names it: "operator/alice".
func (id Identity) Actor() string { return string(id.Kind) + "/" + id.Name }

// Satisfies reports whether id is what was wanted: the same kind, and the same
// name unless want.Name is empty, which stands for any name.
func (id Identity) Satisfies(want Identity) bool {
	return id.Kind == want.Kind && (want.Name == "" || id.Name == want.Name)
}

// describe names a wanted identity for people: "any node" or its URI.
func (id Identity) describe() string {
	if id.Name == "" {
		return "any " + string(id.Kind)
	}
	return id.String()
}

// PeerIdentity is the identity of the peer of a connection accepted by a
// [Listener]. It refuses a state without a verified chain, so a connection made
// with another TLS configuration never yields an identity.
func PeerIdentity(cs tls.ConnectionState) (Identity, error) {
	if len(cs.VerifiedChains) == 0 || len(cs.PeerCertificates) == 0 {
		return Identity{}, errors.New("read peer identity: the peer's certificate was not verified")
	}
	return CertIdentity(cs.PeerCertificates[0])
}

// CertIdentity reads the one lifeboat:// URI of a certificate. It does not
// verify the certificate. URIs of other schemes are ignored; two of ours are an
// error, since nobody could say which one counts.
func CertIdentity(cert *x509.Certificate) (Identity, error) {
	var found *Identity
	for _, u := range cert.URIs {
		if u.Scheme != uriScheme {
			continue
		}
		id, err := ParseIdentity(u.String())
		if err != nil {
			return Identity{}, fmt.Errorf("read certificate %q: %w", cert.Subject, err)
		}
		if found != nil {
			return Identity{}, fmt.Errorf("read certificate %q: it names two identities, %s and %s; issue one certificate for each", cert.Subject, found, id)
		}
		found = &id
	}
	if found == nil {
		return Identity{}, fmt.Errorf("read certificate %q: it has no lifeboat://kind/name URI; issue it with 'lifeboat ca issue'", cert.Subject)
	}
	return *found, nil
}
