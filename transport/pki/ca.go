package pki

import (
	"crypto/ecdsa"
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

	"lifeboat/internal/durable"
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
	key, keyPEM, err := NewKey()
	if err != nil {
		return nil, err
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
	// A lone ca.crt is refused first: a new key beside it would never match.
	if _, err := os.Lstat(filepath.Join(dir, CACertFile)); err == nil {
		return nil, existsError(filepath.Join(dir, CACertFile))
	}
	for _, f := range []struct {
		name string
		data []byte
		mode fs.FileMode
	}{{CAKeyFile, keyPEM, 0o600}, {CACertFile, encodeCert(der), 0o644}} {
		switch err := durable.WriteNew(filepath.Join(dir, f.name), f.data, f.mode); {
		case errors.Is(err, fs.ErrExist):
			return nil, existsError(filepath.Join(dir, f.name))
		case err != nil:
			return nil, err
		}
	}
	return &CA{Cert: cert, key: key}, nil
}

func existsError(path string) error {
	return fmt.Errorf("write %s: %w; a CA is never overwritten, since every certificate it signed would become worthless: choose another directory, or move the old CA away by hand", path, fs.ErrExist)
}

// LoadCA reads the CA that CreateCA wrote to dir.
func LoadCA(dir string) (*CA, error) {
	return LoadCAFiles(filepath.Join(dir, CACertFile), filepath.Join(dir, CAKeyFile))
}

// LoadCAFiles reads a CA from its two files.
func LoadCAFiles(certFile, keyFile string) (*CA, error) {
	cert, err := ReadCert(certFile)
	if err != nil {
		return nil, fmt.Errorf("load CA: %w", err)
	}
	data, err := os.ReadFile(keyFile)
	if err != nil {
		return nil, fmt.Errorf("load CA key: %w", err)
	}
	der, err := DecodeKey(data)
	if err != nil {
		return nil, fmt.Errorf("load CA key %s: %w", keyFile, err)
	}
	ca, err := ParseCA(cert.Raw, der)
	if err != nil {
		return nil, fmt.Errorf("load CA from %s and %s: %w; restore both from the same backup", certFile, keyFile, err)
	}
	return ca, nil
}

// ParseCA makes a CA of its certificate (DER) and its key (PKCS #8).
func ParseCA(cert, key []byte) (*CA, error) {
	c, err := x509.ParseCertificate(cert)
	if err != nil {
		return nil, fmt.Errorf("read the CA's certificate: %w", err)
	}
	parsed, err := x509.ParsePKCS8PrivateKey(key)
	if err != nil {
		return nil, fmt.Errorf("read the CA's key: %w", err)
	}
	signer, ok := parsed.(*ecdsa.PrivateKey)
	switch {
	case !ok:
		return nil, fmt.Errorf("the CA's key is a %T, expected an ECDSA key as written by 'lifeboat ca init'", parsed)
	case !c.IsCA:
		return nil, fmt.Errorf("%q is not a CA certificate", c.Subject)
	case !signer.PublicKey.Equal(c.PublicKey):
		return nil, errors.New("the CA's key and its certificate do not belong together")
	}
	return &CA{Cert: c, key: signer}, nil
}

// Key is the private key, PKCS #8: whoever has it can be anybody in the cluster.
func (ca *CA) Key() ([]byte, error) {
	der, err := x509.MarshalPKCS8PrivateKey(ca.key)
	if err != nil {
		return nil, fmt.Errorf("encode the CA's key: %w", err)
	}
	return der, nil
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

// EncodeCert is a certificate as its file holds it.
func EncodeCert(c *x509.Certificate) []byte { return encodeCert(c.Raw) }

func encodeCert(der []byte) []byte {
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})
}
