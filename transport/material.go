package transport

import (
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"os"
	"syscall"
	"time"
)

// loadMaterial reads the three files and checks everything a peer would.
func loadMaterial(files Files, now time.Time) (*material, Identity, error) {
	fail := func(err error) (*material, Identity, error) { return nil, Identity{}, err }
	// The stamp is taken before reading: a file replaced in between is seen as
	// changed the next time, never missed.
	s, err := stampOf(files)
	if err != nil {
		return fail(err)
	}
	m := &material{stamp: s}
	if err := m.loadRoots(files.CA); err != nil {
		return fail(err)
	}
	cert, err := loadPair(files)
	if err != nil {
		return fail(err)
	}
	id, err := CertIdentity(cert.Leaf)
	if err != nil {
		return fail(fmt.Errorf("load certificate %s: %w", files.Cert, err))
	}
	if err := verifyOwn(cert, m.roots, now); err != nil {
		return fail(fmt.Errorf("load certificate %s of %s: %w", files.Cert, id, explainOwn(err, cert.Leaf, files, id)))
	}
	m.cert = cert
	return m, id, nil
}

func stampOf(files Files) (stamp, error) {
	var s stamp
	for i, f := range []struct{ what, path string }{
		{"certificate", files.Cert}, {"private key", files.Key}, {"CA certificate", files.CA},
	} {
		if f.path == "" {
			return s, fmt.Errorf("load %s: no file is configured", f.what)
		}
		fi, err := os.Stat(f.path)
		if err != nil {
			return s, fmt.Errorf("load %s: %w; make one with 'lifeboat ca issue', or correct the path", f.what, err)
		}
		s[i] = fileStamp{mtime: fi.ModTime(), size: fi.Size()}
		if st, ok := fi.Sys().(*syscall.Stat_t); ok {
			s[i].inode = st.Ino
		}
	}
	return s, nil
}

func (m *material) loadRoots(path string) error {
	data, err := os.ReadFile(path)
	if err != nil {
		return fmt.Errorf("load CA certificate: %w", err)
	}
	m.roots, m.rootsPEM = x509.NewCertPool(), data
	for block, rest := pem.Decode(data); block != nil; block, rest = pem.Decode(rest) {
		if block.Type != "CERTIFICATE" {
			continue
		}
		cert, err := x509.ParseCertificate(block.Bytes)
		if err != nil {
			return fmt.Errorf("load CA certificate %s: %w; copy the file anew from where the CA is kept", path, err)
		}
		if !cert.IsCA {
			return fmt.Errorf("load CA certificate %s: %q is not a CA certificate; use the ca.crt that 'lifeboat ca init' wrote", path, cert.Subject)
		}
		m.roots.AddCert(cert)
		if m.root == nil {
			m.root = cert
		}
	}
	if m.root == nil {
		return fmt.Errorf("load CA certificate %s: no PEM certificate in it; use the ca.crt that 'lifeboat ca init' wrote", path)
	}
	return nil
}

func loadPair(files Files) (tls.Certificate, error) {
	certPEM, err := os.ReadFile(files.Cert)
	if err != nil {
		return tls.Certificate{}, fmt.Errorf("load certificate: %w", err)
	}
	keyPEM, err := os.ReadFile(files.Key)
	if err != nil {
		return tls.Certificate{}, fmt.Errorf("load private key: %w", err)
	}
	cert, err := tls.X509KeyPair(certPEM, keyPEM)
	if err != nil {
		return tls.Certificate{}, fmt.Errorf("load certificate %s with key %s: %w; both must come from the same 'lifeboat ca issue'", files.Cert, files.Key, err)
	}
	return cert, nil
}

// verifyOwn checks our certificate the way peers will, so that a mistake is
// reported here, by name of file, and not there as a refused connection.
func verifyOwn(cert tls.Certificate, roots *x509.CertPool, now time.Time) error {
	opts := x509.VerifyOptions{Roots: roots, Intermediates: x509.NewCertPool(), CurrentTime: now}
	for _, der := range cert.Certificate[1:] {
		c, err := x509.ParseCertificate(der)
		if err != nil {
			return fmt.Errorf("parse intermediate certificate: %w", err)
		}
		opts.Intermediates.AddCert(c)
	}
	for _, usage := range []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth, x509.ExtKeyUsageServerAuth} {
		// One at a time: a list would ask for any of them.
		opts.KeyUsages = []x509.ExtKeyUsage{usage}
		if _, err := cert.Leaf.Verify(opts); err != nil {
			return err
		}
	}
	return nil
}

func explainOwn(err error, leaf *x509.Certificate, files Files, id Identity) error {
	renew := fmt.Sprintf("; issue a new one with 'lifeboat ca issue %s %s'", id.Kind, id.Name)
	var unknown x509.UnknownAuthorityError
	if errors.As(err, &unknown) {
		return fmt.Errorf("it was not signed by the CA in %s: %w%s", files.CA, err, renew)
	}
	return fmt.Errorf("%w%s", explainVerify(err, leaf), renew)
}

// explainVerify adds to a verification error what the library leaves out.
func explainVerify(err error, leaf *x509.Certificate) error {
	var invalid x509.CertificateInvalidError
	var unknown x509.UnknownAuthorityError
	switch {
	case errors.As(err, &invalid) && invalid.Reason == x509.Expired:
		if time.Now().Before(leaf.NotBefore) {
			return fmt.Errorf("it is not valid before %s: check the clock of this machine", leaf.NotBefore.UTC().Format(time.RFC3339))
		}
		if cert := invalid.Cert; cert != nil && cert.IsCA {
			return fmt.Errorf("its CA certificate %q expired on %s: %w", cert.Subject, cert.NotAfter.UTC().Format(time.RFC3339), err)
		}
		return fmt.Errorf("it expired on %s: %w", leaf.NotAfter.UTC().Format(time.RFC3339), err)
	case errors.As(err, &invalid) && invalid.Reason == x509.IncompatibleUsage:
		return fmt.Errorf("it must be usable by clients and by servers: %w", err)
	case errors.As(err, &unknown):
		return fmt.Errorf("it was signed by another CA than ours: %w", err)
	}
	return err
}
