package pki

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"time"
)

// The files of a CA inside its directory.
const (
	CACertFile = "ca.crt"
	CAKeyFile  = "ca.key"
)

const (
	caValidity = 10 * 365 * 24 * time.Hour
	// backdate makes a new certificate acceptable to machines whose clock is a
	// little behind the one that issued it.
	backdate = 5 * time.Minute
)

// CA can sign certificates. It holds the private key.
type CA struct {
	Cert *x509.Certificate
	key  *ecdsa.PrivateKey
}

// CreateCA makes a CA in dir (created with mode 0700 if missing): ca.key, mode
// 0600, and ca.crt. name becomes the subject, for people to tell two CAs apart.
// It refuses to replace a key or certificate that exists.
func CreateCA(dir, name string) (*CA, error) {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, fmt.Errorf("create CA directory: %w", err)
	}
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, fmt.Errorf("generate CA key: %w", err)
	}
	now := time.Now()
	template := &x509.Certificate{
		Subject:               pkix.Name{CommonName: name, Organization: []string{"Lifeboat CA"}},
		NotBefore:             now.Add(-backdate),
		NotAfter:              now.Add(caValidity),
		IsCA:                  true,
		BasicConstraintsValid: true,
		MaxPathLenZero:        true, // it signs leaves, never another CA
		KeyUsage:              x509.KeyUsageCertSign | x509.KeyUsageCRLSign,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	if err != nil {
		return nil, fmt.Errorf("create CA certificate: %w", err)
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		return nil, fmt.Errorf("create CA certificate: %w", err)
	}
	keyPEM, err := encodeKey(key)
	if err != nil {
		return nil, err
	}
	// A lone ca.crt is refused first: a new key beside it would never match.
	if _, err := os.Lstat(filepath.Join(dir, CACertFile)); err == nil {
		return nil, existsError(filepath.Join(dir, CACertFile))
	}
	if err := writeNew(filepath.Join(dir, CAKeyFile), keyPEM, 0o600); err != nil {
		return nil, err
	}
	if err := writeNew(filepath.Join(dir, CACertFile), encodeCert(der), 0o644); err != nil {
		return nil, err
	}
	return &CA{Cert: cert, key: key}, nil
}

func existsError(path string) error {
	return fmt.Errorf("write %s: %w; a CA is never overwritten, since every certificate it signed would become worthless: choose another directory, or move the old CA away by hand", path, fs.ErrExist)
}

// LoadCA reads the CA that CreateCA wrote to dir.
func LoadCA(dir string) (*CA, error) {
	cert, err := ReadCert(filepath.Join(dir, CACertFile))
	if err != nil {
		return nil, fmt.Errorf("load CA: %w", err)
	}
	path := filepath.Join(dir, CAKeyFile)
	data, err := os.ReadFile(path)
	if err != nil {
		return nil, fmt.Errorf("load CA key: %w", err)
	}
	block, _ := pem.Decode(data)
	if block == nil {
		return nil, fmt.Errorf("load CA key %s: it is not PEM; restore it from a backup", path)
	}
	parsed, err := x509.ParsePKCS8PrivateKey(block.Bytes)
	if err != nil {
		return nil, fmt.Errorf("load CA key %s: %w", path, err)
	}
	key, ok := parsed.(*ecdsa.PrivateKey)
	if !ok {
		return nil, fmt.Errorf("load CA key %s: it is a %T, expected an ECDSA key as written by 'lifeboat ca init'", path, parsed)
	}
	switch {
	case !cert.IsCA:
		return nil, fmt.Errorf("load CA %s: %q is not a CA certificate", dir, cert.Subject)
	case !key.PublicKey.Equal(cert.PublicKey):
		return nil, fmt.Errorf("load CA %s: %s and %s do not belong together; restore both from the same backup", dir, CAKeyFile, CACertFile)
	}
	return &CA{Cert: cert, key: key}, nil
}

// ReadCert reads the first certificate of a PEM file.
func ReadCert(path string) (*x509.Certificate, error) {
	data, err := os.ReadFile(path)
	if err != nil {
		return nil, fmt.Errorf("read certificate: %w", err)
	}
	block, _ := pem.Decode(data)
	if block == nil || block.Type != "CERTIFICATE" {
		return nil, fmt.Errorf("read certificate %s: %w", path, errors.New("no PEM certificate in it"))
	}
	cert, err := x509.ParseCertificate(block.Bytes)
	if err != nil {
		return nil, fmt.Errorf("read certificate %s: %w", path, err)
	}
	return cert, nil
}

// Fingerprint is the SHA-256 of the certificate in the form openssl prints it
// ("AB:CD:..."), to be compared by people over another channel.
func Fingerprint(cert *x509.Certificate) string {
	sum := sha256.Sum256(cert.Raw)
	return strings.ReplaceAll(fmt.Sprintf("% X", sum[:]), " ", ":")
}

func encodeCert(der []byte) []byte {
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})
}

func encodeKey(key *ecdsa.PrivateKey) ([]byte, error) {
	der, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return nil, fmt.Errorf("encode private key: %w", err)
	}
	return pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der}), nil
}
