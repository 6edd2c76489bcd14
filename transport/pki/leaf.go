package pki

import (
	"crypto"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"errors"
	"fmt"
	"net"
	"net/url"
	"os"
	"path/filepath"
	"time"

	"lifeboat/internal/durable"
	"lifeboat/transport"
)

// DefaultValidity is how long a certificate lasts unless asked otherwise.
const DefaultValidity = 365 * 24 * time.Hour

// IssueOptions are the parts of a certificate that may be chosen.
type IssueOptions struct {
	// Validity from now; zero means DefaultValidity. It is cut at the end of
	// the CA's own validity. Negative is an error.
	Validity time.Duration
	// DNS names and IPs are for other programs (browsers, curl); Lifeboat checks
	// the identity only.
	DNS []string
	IPs []net.IP
	// Now is the time of issue; zero means the present. Tests make expired
	// certificates with it.
	Now time.Time
}

// Leaf is an issued certificate with its new key, not yet written.
type Leaf struct {
	Identity transport.Identity
	Cert     *x509.Certificate
	CertPEM  []byte
	KeyPEM   []byte
}

// Issue makes a key and a certificate for id, usable as client and as server.
func (ca *CA) Issue(id transport.Identity, opts IssueOptions) (*Leaf, error) {
	key, keyPEM, err := NewKey()
	if err != nil {
		return nil, err
	}
	cert, err := ca.Sign(&key.PublicKey, id, opts)
	if err != nil {
		return nil, err
	}
	return &Leaf{Identity: id, Cert: cert, CertPEM: encodeCert(cert.Raw), KeyPEM: keyPEM}, nil
}

// Sign makes a certificate for id, usable as client and as server, over a key that
// stays with its owner.
func (ca *CA) Sign(public crypto.PublicKey, id transport.Identity, opts IssueOptions) (*x509.Certificate, error) {
	if err := id.Validate(); err != nil {
		return nil, fmt.Errorf("issue certificate: %w", err)
	}
	now, validity := opts.Now, opts.Validity
	if now.IsZero() {
		now = time.Now()
	}
	if validity == 0 {
		validity = DefaultValidity
	}
	notAfter := now.Add(validity)
	switch {
	case validity < 0:
		return nil, errors.New("issue certificate: the validity is negative")
	case now.After(ca.Cert.NotAfter):
		return nil, fmt.Errorf("issue certificate: the CA expired on %s; create a new one with 'lifeboat ca init'", ca.Cert.NotAfter.UTC().Format(time.RFC3339))
	case notAfter.After(ca.Cert.NotAfter):
		notAfter = ca.Cert.NotAfter
	}
	uri, err := url.Parse(id.String())
	if err != nil {
		return nil, fmt.Errorf("issue certificate: %w", err)
	}
	template := &x509.Certificate{
		Subject:               pkix.Name{CommonName: id.Name, Organization: []string{"Lifeboat " + string(id.Kind)}},
		NotBefore:             now.Add(-backdate),
		NotAfter:              notAfter,
		KeyUsage:              x509.KeyUsageDigitalSignature,
		ExtKeyUsage:           []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth, x509.ExtKeyUsageServerAuth},
		BasicConstraintsValid: true,
		URIs:                  []*url.URL{uri},
		DNSNames:              opts.DNS,
		IPAddresses:           opts.IPs,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, ca.Cert, public, ca.key)
	if err != nil {
		return nil, fmt.Errorf("sign certificate: %w", err)
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		return nil, fmt.Errorf("sign certificate: %w", err)
	}
	return cert, nil
}

// Write puts KIND-NAME.key (mode 0600) and KIND-NAME.crt into dir and returns
// where, with CA set to dir/ca.crt. Files of an earlier issue are replaced, each
// atomically, the key first: a running process that looks in between sees a pair
// that does not match and keeps its old one until the certificate follows.
func (l *Leaf) Write(dir string) (transport.Files, error) {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return transport.Files{}, fmt.Errorf("create certificate directory: %w", err)
	}
	base := filepath.Join(dir, string(l.Identity.Kind)+"-"+l.Identity.Name)
	files := transport.Files{Cert: base + ".crt", Key: base + ".key", CA: filepath.Join(dir, CACertFile)}
	if err := durable.Write(files.Key, l.KeyPEM, 0o600); err != nil {
		return transport.Files{}, err
	}
	if err := durable.Write(files.Cert, l.CertPEM, 0o644); err != nil {
		return transport.Files{}, err
	}
	return files, nil
}
