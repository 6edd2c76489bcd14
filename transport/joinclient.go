package transport

import (
	"context"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"net/http"
	"time"
)

// NewJoinClient makes a client for one who has no certificate yet. It speaks with
// management nodes whose certificate was signed by the CA with this fingerprint,
// and with nobody else: what it sends is a secret. It has no timeout.
func NewJoinClient(fingerprint [sha256.Size]byte, opts DialOptions) *http.Client {
	opts = opts.withDefaults()
	conf := &tls.Config{
		MinVersion:         tls.VersionTLS13,
		NextProtos:         []string{ProtoJoin},
		InsecureSkipVerify: true, // verified below, by fingerprint
		VerifyConnection:   func(cs tls.ConnectionState) error { return verifyByFingerprint(cs, fingerprint) },
	}
	protocols := new(http.Protocols)
	protocols.SetHTTP1(true)
	return &http.Client{
		Transport: &http.Transport{
			DialTLSContext: func(ctx context.Context, network, addr string) (net.Conn, error) {
				c, err := opts.Dial(ctx, network, addr)
				if err != nil {
					return nil, fmt.Errorf("connect to %s: %w", addr, err)
				}
				hctx, cancel := context.WithTimeoutCause(ctx, opts.HandshakeTimeout, errHandshakeTimeout)
				defer cancel()
				tc := tls.Client(c, conf)
				if err := tc.HandshakeContext(hctx); err != nil {
					c.Close()
					if cause := context.Cause(hctx); cause != nil {
						err = cause
					}
					return nil, fmt.Errorf("connect to %s: %w", addr, explainJoin(err))
				}
				return tc, nil
			},
			Protocols:         protocols,
			DisableKeepAlives: true,
		},
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
		Timeout:       0,
	}
}

// verifyByFingerprint wants a management node, signed by the CA of the token, which
// it shows beside its own certificate.
func verifyByFingerprint(cs tls.ConnectionState, fingerprint [sha256.Size]byte) error {
	if len(cs.PeerCertificates) == 0 {
		return errors.New("verify server: it sent no certificate")
	}
	leaf := cs.PeerCertificates[0]
	opts := x509.VerifyOptions{Intermediates: x509.NewCertPool(), KeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth}}
	for _, c := range cs.PeerCertificates[1:] {
		if sha256.Sum256(c.Raw) == fingerprint {
			opts.Roots = x509.NewCertPool()
			opts.Roots.AddCert(c)
			continue
		}
		opts.Intermediates.AddCert(c)
	}
	if opts.Roots == nil {
		return errors.New("it belongs to another cluster than the token: its CA has another fingerprint; check the address")
	}
	if _, err := leaf.Verify(opts); err != nil {
		return fmt.Errorf("verify server certificate %q: %w", leaf.Subject, explainVerify(err, leaf))
	}
	id, err := CertIdentity(leaf)
	switch {
	case err != nil:
		return err
	case id.Kind != KindNode:
		return &WrongPeerError{Want: Identity{Kind: KindNode}, Got: id}
	case cs.NegotiatedProtocol != ProtoJoin:
		return errors.New("it lets nobody join: is it a management node of this version?")
	}
	return nil
}

func explainJoin(err error) error {
	var op *net.OpError
	if errors.As(err, &op) && op.Op == "remote error" && op.Err.Error() == "tls: no application protocol" {
		return fmt.Errorf("it lets nobody join: is it a management node of this version? (%w)", err)
	}
	return err
}

// NewJoinServer makes the server for Listener.Join. Whoever asks is a stranger:
// all that he can make it do is short and small. The handler must bound bodies.
func NewJoinServer(handler http.Handler) *http.Server {
	protocols := new(http.Protocols)
	protocols.SetHTTP1(true)
	const patience = 5 * time.Second
	return &http.Server{
		Handler: handler, Protocols: protocols, ReadHeaderTimeout: patience, ReadTimeout: patience, WriteTimeout: 30 * time.Second, IdleTimeout: patience,
		MaxHeaderBytes: 16 << 10,
		ErrorLog:       nil,
	}
}
