package pki

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
)

// NewKey makes a private key, and the file that holds it.
func NewKey() (*ecdsa.PrivateKey, []byte, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, nil, fmt.Errorf("generate private key: %w", err)
	}
	der, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return nil, nil, fmt.Errorf("encode private key: %w", err)
	}
	return key, pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der}), nil
}

// NewRequest proves to whoever signs that one has the private key of a file that
// NewKey wrote (DER).
func NewRequest(keyFile []byte) ([]byte, error) {
	der, err := DecodeKey(keyFile)
	if err != nil {
		return nil, fmt.Errorf("read private key: %w", err)
	}
	key, err := x509.ParsePKCS8PrivateKey(der)
	if err != nil {
		return nil, fmt.Errorf("read private key: %w", err)
	}
	request, err := x509.CreateCertificateRequest(rand.Reader, &x509.CertificateRequest{}, key)
	if err != nil {
		return nil, fmt.Errorf("make certificate request: %w", err)
	}
	return request, nil
}

// DecodeKey takes the key (PKCS #8) out of its file.
func DecodeKey(data []byte) ([]byte, error) {
	block, _ := pem.Decode(data)
	if block == nil {
		return nil, errors.New("it is not PEM; restore it from a backup")
	}
	return block.Bytes, nil
}

// maxRequest bounds a certificate request, in bytes.
const maxRequest = 16 << 10

// ReadRequest takes the public key out of a certificate request (DER), once it has
// proven that whoever made it has the private one. What else it asks for does not
// count: who it is for says the one who signs.
func ReadRequest(der []byte) (crypto.PublicKey, error) {
	if len(der) > maxRequest {
		return nil, fmt.Errorf("read certificate request: %d bytes are too many", len(der))
	}
	req, err := x509.ParseCertificateRequest(der)
	if err != nil {
		return nil, fmt.Errorf("read certificate request: %w", err)
	}
	if err := req.CheckSignature(); err != nil {
		return nil, fmt.Errorf("check certificate request: %w", err)
	}
	const leastRSA = 2048
	switch key := req.PublicKey.(type) {
	case *ecdsa.PublicKey, ed25519.PublicKey:
	case *rsa.PublicKey:
		if key.N.BitLen() < leastRSA {
			return nil, fmt.Errorf("check certificate request: an RSA key of %d bits is too weak; it takes %d", key.N.BitLen(), leastRSA)
		}
	default:
		return nil, fmt.Errorf("check certificate request: a key of type %T is not accepted; use ECDSA", key)
	}
	return req.PublicKey, nil
}
