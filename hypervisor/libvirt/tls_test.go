package libvirt_test

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"fmt"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"testing"
	"time"

	"lifeboat/hypervisor"
	"lifeboat/hypervisor/libvirt"
)

// authority signs certificates for one test.
type authority struct {
	cert *x509.Certificate
	key  *ecdsa.PrivateKey
}

func newAuthority(t *testing.T) authority {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	must(t, err)
	tmpl := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "CA"}, NotAfter: time.Now().Add(time.Hour),
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign,
	}
	der, err := x509.CreateCertificate(rand.Reader, tmpl, tmpl, key.Public(), key)
	must(t, err)
	cert, err := x509.ParseCertificate(der)
	must(t, err)
	return authority{cert, key}
}

func (a authority) issue(t *testing.T, name string) tls.Certificate {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	must(t, err)
	der, err := x509.CreateCertificate(rand.Reader, &x509.Certificate{
		SerialNumber: big.NewInt(2), Subject: pkix.Name{CommonName: name}, NotAfter: time.Now().Add(time.Hour),
		KeyUsage: x509.KeyUsageDigitalSignature | x509.KeyUsageKeyEncipherment, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth},
		IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)},
	}, a.cert, key.Public(), a.key)
	must(t, err)
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}
}

// save writes the files that libvirt's own clients and daemons read.
func (a authority) save(t *testing.T, dir string, c tls.Certificate) {
	t.Helper()
	key, err := x509.MarshalPKCS8PrivateKey(c.PrivateKey)
	must(t, err)
	for name, block := range map[string]pem.Block{
		"cacert.pem":     {Type: "CERTIFICATE", Bytes: a.cert.Raw},
		"clientcert.pem": {Type: "CERTIFICATE", Bytes: c.Certificate[0]},
		"clientkey.pem":  {Type: "PRIVATE KEY", Bytes: key},
	} {
		must(t, os.WriteFile(filepath.Join(dir, name), pem.EncodeToMemory(&block), 0o644)) // test keys; the daemon is another user
	}
}

func TestTLS(t *testing.T) {
	ca, rogue := newAuthority(t), newAuthority(t)
	files, err := os.MkdirTemp("", "lifeboat-tls-") // not t.TempDir: an unprivileged daemon reads it
	must(t, err)
	t.Cleanup(func() { os.RemoveAll(files) })
	must(t, os.Chmod(files, 0o755))
	ca.save(t, files, ca.issue(t, "server"))
	daemon := newDaemon(t, "test", fmt.Sprintf(`listen_tls = 1
auth_tls = "none"
ca_file = "%[1]s/cacert.pem"
cert_file = "%[1]s/clientcert.pem"
key_file = "%[1]s/clientkey.pem"
tls_allowed_dn_list = ["CN=agent"]
`, files))
	uri := fmt.Sprintf("test+tls://127.0.0.1:%d/default", daemon.tls)
	pool := x509.NewCertPool()
	pool.AddCert(ca.cert)
	for _, c := range []struct {
		name   string
		config *tls.Config
		good   bool
	}{
		{"good", &tls.Config{RootCAs: pool, Certificates: []tls.Certificate{ca.issue(t, "agent")}}, true},
		{"another name", &tls.Config{RootCAs: pool, Certificates: []tls.Certificate{ca.issue(t, "somebody")}}, false},
		{"another authority", &tls.Config{RootCAs: pool, Certificates: []tls.Certificate{rogue.issue(t, "agent")}}, false},
		{"no certificate", &tls.Config{RootCAs: pool}, false},
		{"server of another authority", &tls.Config{RootCAs: x509.NewCertPool(), Certificates: []tls.Certificate{ca.issue(t, "agent")}}, false},
	} {
		t.Run(c.name, func(t *testing.T) {
			o := hasty
			o.TLS = c.config
			wantAnswer(t, uri, o, c.good)
		})
	}
	t.Run("from files", func(t *testing.T) {
		dir := t.TempDir()
		ca.save(t, dir, ca.issue(t, "agent"))
		wantAnswer(t, uri+"?pkipath="+dir, hasty, true)
		wantAnswer(t, uri+"?pkipath="+t.TempDir(), hasty, false)
	})
}

func wantAnswer(t *testing.T, uri string, o libvirt.Options, good bool) {
	t.Helper()
	d, err := libvirt.Open(uri, o)
	must(t, err)
	defer d.Close()
	began := time.Now()
	_, err = d.Domains(t.Context())
	if good && err != nil || !good && !errors.Is(err, hypervisor.ErrUnavailable) {
		t.Errorf("good %v, got %v", good, err)
	}
	if took := time.Since(began); took > 2*time.Second {
		t.Errorf("took %v", took)
	}
}
