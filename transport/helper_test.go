package transport_test

import (
	"bytes"
	"crypto/tls"
	"crypto/x509"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/hashicorp/go-hclog"
	"go.uber.org/goleak"

	"lifeboat/transport"
	"lifeboat/transport/pki"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func node(name string) transport.Identity {
	return transport.Identity{Kind: transport.KindNode, Name: name}
}

func host(name string) transport.Identity {
	return transport.Identity{Kind: transport.KindHost, Name: name}
}

// authority is a CA in a directory of its own.
type authority struct {
	t   testing.TB
	dir string
	ca  *pki.CA
}

func newAuthority(t testing.TB) *authority {
	t.Helper()
	dir := t.TempDir()
	ca, err := pki.CreateCA(dir, "test "+t.Name())
	if err != nil {
		t.Fatal(err)
	}
	return &authority{t, dir, ca}
}

func (a *authority) issue(id transport.Identity, opts pki.IssueOptions) transport.Files {
	a.t.Helper()
	leaf, err := a.ca.Issue(id, opts)
	if err != nil {
		a.t.Fatal(err)
	}
	files, err := leaf.Write(a.dir)
	if err != nil {
		a.t.Fatal(err)
	}
	return files
}

func (a *authority) creds(id transport.Identity) *transport.Credentials {
	a.t.Helper()
	c, err := transport.LoadCredentials(a.issue(id, pki.IssueOptions{}), nil)
	if err != nil {
		a.t.Fatal(err)
	}
	return c
}

// rawConfig is a TLS client that does none of our checks and presents whatever
// certificate it is told to: the adversary.
func (a *authority) rawConfig(files *transport.Files, protos ...string) *tls.Config {
	a.t.Helper()
	cfg := &tls.Config{InsecureSkipVerify: true, NextProtos: protos}
	if files != nil {
		cert, err := tls.LoadX509KeyPair(files.Cert, files.Key)
		if err != nil {
			a.t.Fatal(err)
		}
		cfg.GetClientCertificate = func(*tls.CertificateRequestInfo) (*tls.Certificate, error) { return &cert, nil }
	}
	return cfg
}

// journal collects log lines.
type journal struct {
	mu  sync.Mutex
	buf bytes.Buffer
}

func (j *journal) Write(b []byte) (int, error) {
	j.mu.Lock()
	defer j.mu.Unlock()
	return j.buf.Write(b)
}

func (j *journal) lines() []string {
	j.mu.Lock()
	defer j.mu.Unlock()
	return strings.Split(strings.TrimSuffix(j.buf.String(), "\n"), "\n")[:strings.Count(j.buf.String(), "\n")]
}

func (j *journal) logger() hclog.Logger {
	return hclog.New(&hclog.LoggerOptions{Level: hclog.Debug, Output: j, DisableTime: true})
}

// eventually is for tests over real sockets, where there is nothing to wait on.
func eventually(t *testing.T, what string, ok func() bool) {
	t.Helper()
	deadline := time.Now().Add(10 * time.Second)
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for !ok() {
		if time.Now().After(deadline) {
			t.Fatalf("waited in vain until %s", what)
		}
		<-tick.C
	}
}

func mustWrite(t *testing.T, path string, data []byte) {
	t.Helper()
	if err := os.WriteFile(path, data, 0o600); err != nil {
		t.Fatal(err)
	}
}

func mustRead(t *testing.T, path string) []byte {
	t.Helper()
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return data
}

func caFile(a *authority) string { return filepath.Join(a.dir, pki.CACertFile) }

func leafOf(t *testing.T, files transport.Files) *x509.Certificate {
	t.Helper()
	cert, err := pki.ReadCert(files.Cert)
	if err != nil {
		t.Fatal(err)
	}
	return cert
}

func tlsClient(w *world, files *transport.Files) *tls.Conn {
	w.t.Helper()
	c := tls.Client(w.dial("client"), w.rawConfig(files, transport.ProtoHTTP))
	if err := c.Handshake(); err != nil {
		w.t.Fatal(err)
	}
	return c
}
