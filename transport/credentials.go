package transport

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"os"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/hashicorp/go-hclog"
)

// checkEvery bounds how often the files are looked at, however many handshakes
// there are.
const checkEvery = time.Second

// Files are the paths of one party's credentials, all PEM. CA may hold several
// certificates, which is how a CA is replaced: old and new side by side first.
type Files struct {
	Cert, Key, CA string
}

// Credentials are a certificate, its key and the CA that peers are checked
// against, kept up to date with their files. A change that cannot be used (half
// written, expired, of another identity) is logged once and the previous
// credentials stay. Safe for concurrent use.
type Credentials struct {
	files Files
	log   hclog.Logger
	id    Identity

	current atomic.Pointer[material]

	mu        sync.Mutex // guards the rest; never held during a handshake
	checked   time.Time
	lastError string
}

// material is one consistent reading of the three files. Immutable.
type material struct {
	cert     tls.Certificate
	roots    *x509.CertPool
	root     *x509.Certificate // the first of roots
	rootsPEM []byte
	stamp    stamp
}

// stamp tells two versions of the files apart without reading them.
type stamp [3]fileStamp

type fileStamp struct {
	mtime time.Time
	size  int64
	inode uint64
}

// LoadCredentials reads and checks the files: the key must belong to the
// certificate, the certificate must be valid today, signed by the CA and carry
// one identity. log may be nil.
func LoadCredentials(files Files, log hclog.Logger) (*Credentials, error) {
	if log == nil {
		log = hclog.NewNullLogger()
	}
	m, id, err := loadMaterial(files, time.Now())
	if err != nil {
		return nil, err
	}
	c := &Credentials{files: files, log: log, id: id, checked: time.Now()}
	c.current.Store(m)
	c.warnOpenKey()
	return c, nil
}

// Identity is who these credentials speak for. It never changes: a rotated
// certificate with another identity is refused.
func (c *Credentials) Identity() Identity { return c.id }

// Expires is when the certificate in use stops being accepted.
func (c *Credentials) Expires() time.Time { return c.material().cert.Leaf.NotAfter }

// material is the current credentials, after a look at the files if the last
// one is more than a second ago.
func (c *Credentials) material() *material {
	now := time.Now()
	c.mu.Lock()
	due := now.Sub(c.checked) >= checkEvery
	if due {
		c.checked = now
	}
	c.mu.Unlock()
	if due {
		c.reload(now)
	}
	return c.current.Load()
}

// reload takes over changed files. Only one caller a second gets here.
func (c *Credentials) reload(now time.Time) {
	s, err := stampOf(c.files)
	if err == nil && s == c.current.Load().stamp {
		c.noteError("")
		return
	}
	var m *material
	if err == nil {
		m, err = c.loadSame(now)
	}
	if err != nil {
		c.noteError(err.Error())
		return
	}
	c.current.Store(m)
	c.noteError("")
	c.warnOpenKey()
	c.log.Info("certificate reloaded", "identity", c.id.String(), "expires", m.cert.Leaf.NotAfter)
}

func (c *Credentials) loadSame(now time.Time) (*material, error) {
	m, id, err := loadMaterial(c.files, now)
	if err != nil {
		return nil, err
	}
	if id != c.id {
		return nil, fmt.Errorf("load certificate %s: it is for %s now, this process runs as %s; put the right file back, or restart to change the identity", c.files.Cert, id, c.id)
	}
	return m, nil
}

// noteError logs a reload failure when it is a new one: the files are looked at
// every second, and a key and a certificate are never replaced in one instant.
func (c *Credentials) noteError(text string) {
	c.mu.Lock()
	changed := text != c.lastError
	c.lastError = text
	c.mu.Unlock()
	if changed && text != "" {
		c.log.Warn("changed certificate files are not usable, the previous ones stay in use", "error", text)
	}
}

func (c *Credentials) warnOpenKey() {
	if fi, err := os.Stat(c.files.Key); err == nil && fi.Mode().Perm()&0o077 != 0 {
		c.log.Warn("private key can be read by other users; run chmod 600 on it", "file", c.files.Key, "mode", fi.Mode().Perm().String())
	}
}

// serverConfig is the TLS side of a listener. verify runs after the chain of the
// client was verified, and an error from it ends the handshake.
// turn is called before anything is computed for a client; an error from it ends the
// handshake. join lets those in who speak ProtoJoin only; they are nobody.
func (c *Credentials) serverConfig(protos []string, join bool, turn func(*tls.ClientHelloInfo) error, verify func(tls.ConnectionState) error) *tls.Config {
	return &tls.Config{
		MinVersion: tls.VersionTLS13,
		GetConfigForClient: func(hello *tls.ClientHelloInfo) (*tls.Config, error) {
			if err := turn(hello); err != nil {
				return nil, err
			}
			m := c.material()
			if join && len(hello.SupportedProtos) == 1 && hello.SupportedProtos[0] == ProtoJoin {
				return m.joinConfig(), nil
			}
			return &tls.Config{
				MinVersion:   tls.VersionTLS13,
				Certificates: []tls.Certificate{m.cert},
				ClientAuth:   tls.RequireAndVerifyClientCert,
				ClientCAs:    m.roots,
				NextProtos:   protos,
				// A resumed session would carry a decision of the past: every
				// connection is verified and authorised anew.
				SessionTicketsDisabled: true,
				VerifyConnection:       verify,
			}, nil
		},
	}
}

// joinConfig shows the CA beside the certificate: a stranger knows its fingerprint.
func (m *material) joinConfig() *tls.Config {
	cert := m.cert
	cert.Certificate = append(slices.Clone(cert.Certificate), m.root.Raw)
	return &tls.Config{MinVersion: tls.VersionTLS13, Certificates: []tls.Certificate{cert}, NextProtos: []string{ProtoJoin}, SessionTicketsDisabled: true}
}

// clientConfig is the TLS side of a dialer that speaks proto to a peer that must
// satisfy want.
func (c *Credentials) clientConfig(proto string, want Identity) *tls.Config {
	m := c.material()
	return &tls.Config{
		MinVersion: tls.VersionTLS13,
		NextProtos: []string{proto},
		// Only the built-in check of a host name is switched off; the chain and
		// the identity are verified below, on every handshake.
		InsecureSkipVerify: true,
		VerifyConnection: func(cs tls.ConnectionState) error {
			return verifyServer(cs, m.roots, proto, want)
		},
		// Always ours, also when the server's list of CAs does not name ours:
		// a refusal says more than a missing certificate.
		GetClientCertificate: func(*tls.CertificateRequestInfo) (*tls.Certificate, error) {
			return &m.cert, nil
		},
	}
}

func verifyServer(cs tls.ConnectionState, roots *x509.CertPool, proto string, want Identity) error {
	if len(cs.PeerCertificates) == 0 {
		return errors.New("verify server: it sent no certificate")
	}
	leaf := cs.PeerCertificates[0]
	opts := x509.VerifyOptions{
		Roots:         roots,
		Intermediates: x509.NewCertPool(),
		KeyUsages:     []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
	}
	for _, c := range cs.PeerCertificates[1:] {
		opts.Intermediates.AddCert(c)
	}
	if _, err := leaf.Verify(opts); err != nil {
		return fmt.Errorf("verify server certificate %q: %w", leaf.Subject, explainVerify(err, leaf))
	}
	got, err := CertIdentity(leaf)
	if err != nil {
		return err
	}
	if !got.Satisfies(want) {
		return &WrongPeerError{Want: want, Got: got}
	}
	if cs.NegotiatedProtocol != proto {
		return fmt.Errorf("verify server %s: it does not speak %s", got, proto)
	}
	return nil
}

// WrongPeerError is returned by a dial that reached a party of this cluster, but
// not the one that was expected at the address.
type WrongPeerError struct{ Want, Got Identity }

func (e *WrongPeerError) Error() string {
	return fmt.Sprintf("the certificate there is for %s, expected %s: check the address, or which certificate that machine was given", e.Got, e.Want.describe())
}
