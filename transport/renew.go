package transport

import (
	"context"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"os"
	"time"

	"lifeboat/internal/durable"
)

// ErrNoCA says that the cluster signs no certificates: somebody else does, and
// renews them.
var ErrNoCA = errors.New("the cluster has no CA of its own; whoever made this certificate renews it")

const (
	// renewLook is the longest time between two looks whether a certificate is to be
	// renewed: its files may have been replaced.
	renewLook = time.Hour
	// renewRetry is the pause after a renewal that failed; it doubles up to renewLook.
	renewRetry = 30 * time.Second
)

// Renewal is when a certificate should be renewed: after two thirds of its life.
func Renewal(c *x509.Certificate) time.Time {
	return c.NotBefore.Add(c.NotAfter.Sub(c.NotBefore) * 2 / 3)
}

// KeepFresh renews the certificate before it expires, until ctx ends. ask sends a
// certificate request (DER) to the cluster and returns the certificate (DER). The
// key stays: one file is replaced, in one step, so that a crash leaves no pair that
// does not match. A failure is logged and tried again.
func (c *Credentials) KeepFresh(ctx context.Context, ask func(ctx context.Context, request []byte) ([]byte, error)) error {
	retry := renewRetry
	for {
		wait := time.Until(Renewal(c.material().cert.Leaf))
		if wait <= 0 {
			switch err := c.renew(ctx, ask); {
			case ctx.Err() != nil:
				return nil
			case errors.Is(err, ErrNoCA):
				wait, retry = renewLook, renewRetry
			case err != nil:
				left := time.Until(c.Expires()).Round(time.Minute)
				c.log.Warn("the certificate could not be renewed; it is tried again", "identity", c.id.String(), "expires_in", left, "error", err)
				wait, retry = retry, min(2*retry, renewLook)
			default:
				wait, retry = 0, renewRetry
			}
		}
		timer := time.NewTimer(max(min(wait, renewLook), time.Second))
		select {
		case <-ctx.Done():
			timer.Stop()
			return nil
		case <-timer.C:
		}
	}
}

func (c *Credentials) renew(ctx context.Context, ask func(context.Context, []byte) ([]byte, error)) error {
	m := c.material()
	request, err := x509.CreateCertificateRequest(rand.Reader, &x509.CertificateRequest{}, m.cert.PrivateKey)
	if err != nil {
		return fmt.Errorf("make certificate request: %w", err)
	}
	der, err := ask(ctx, request)
	if err != nil {
		return err
	}
	leaf, err := x509.ParseCertificate(der)
	if err != nil {
		return fmt.Errorf("read the new certificate: %w", err)
	}
	switch id, err := CertIdentity(leaf); {
	case err != nil:
		return err
	case id != c.id:
		return fmt.Errorf("the new certificate is for %s, expected %s", id, c.id)
	case !leaf.NotAfter.After(m.cert.Leaf.NotAfter):
		return fmt.Errorf("the new certificate ends no later than the old one, on %s: the CA itself expires", leaf.NotAfter.UTC().Format(time.RFC3339))
	}
	if err := verifyOwn(tls.Certificate{Certificate: [][]byte{der}, Leaf: leaf}, m.roots, time.Now()); err != nil {
		return fmt.Errorf("the new certificate is not valid here: %w", explainVerify(err, leaf))
	}
	certPEM := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})
	keyPEM, err := os.ReadFile(c.files.Key)
	if err != nil {
		return fmt.Errorf("read private key: %w", err)
	}
	if _, err := tls.X509KeyPair(certPEM, keyPEM); err != nil {
		return fmt.Errorf("the new certificate does not fit the key in %s: %w", c.files.Key, err)
	}
	if err := durable.Write(c.files.Cert, certPEM, 0o644); err != nil {
		return err
	}
	c.reload(time.Now())
	if c.Expires() != leaf.NotAfter {
		return errors.New("the new certificate was written and is not in use: its files are being changed by somebody else")
	}
	c.log.Info("certificate renewed", "identity", c.id.String(), "expires", leaf.NotAfter)
	return nil
}

// Root is the certificate of the CA that peers are checked against, the first of
// its file.
func (c *Credentials) Root() *x509.Certificate { return c.material().root }

// RootsPEM is the whole file of the CA.
func (c *Credentials) RootsPEM() []byte { return c.material().rootsPEM }
