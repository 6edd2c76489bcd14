package transport

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"strings"
)

// dial opens a connection to addr, speaks proto, and checks that the peer
// satisfies want. table tracks the connection until it is closed.
func dial(ctx context.Context, addr, proto string, want Identity, creds *Credentials, opts DialOptions, table *connTable) (*tls.Conn, error) {
	c, err := opts.Dial(ctx, "tcp", addr)
	if err != nil {
		return nil, fmt.Errorf("connect to %s at %s: %w", want.describe(), addr, err)
	}
	tracked, err := table.add(c)
	if err != nil {
		c.Close()
		return nil, fmt.Errorf("connect to %s at %s: %w", want.describe(), addr, err)
	}
	hctx, cancel := context.WithTimeoutCause(ctx, opts.HandshakeTimeout, errHandshakeTimeout)
	defer cancel()
	tc := tls.Client(tracked, creds.clientConfig(proto, want))
	if err := tc.HandshakeContext(hctx); err != nil {
		tracked.Close()
		if cause := context.Cause(hctx); cause != nil {
			err = cause
		}
		return nil, fmt.Errorf("connect to %s at %s: %w", want.describe(), addr, explainRemote(err, creds.Identity(), proto))
	}
	id, err := CertIdentity(tc.ConnectionState().PeerCertificates[0])
	if err != nil {
		tracked.Close()
		return nil, fmt.Errorf("connect to %s at %s: %w", want.describe(), addr, err)
	}
	tracked.identify(proto, id)
	return tc, nil
}

var errHandshakeTimeout = errors.New("it took the connection and did not answer in time: it hangs, or something else listens there")

// explainRemote adds to a TLS alert of the peer what it most likely means. In
// TLS 1.3 a refusal of our certificate arrives after our own handshake is done,
// as an error of the first read.
func explainRemote(err error, self Identity, proto string) error {
	var op *net.OpError
	switch {
	case err == nil:
		return nil
	case strings.Contains(err.Error(), "http2: client conn could not be established"):
		// net/http says no more when the alert arrives before the request is sent.
		return fmt.Errorf("it hung up before its first answer, most likely it refused our certificate for %s; its log says why: %w", self, err)
	case !errors.As(err, &op) || op.Op != "remote error":
		return err
	case op.Err.Error() == "tls: no application protocol":
		return fmt.Errorf("it does not speak %s: check the address: %w", proto, err)
	}
	return fmt.Errorf("it refused our certificate for %s: not a member (any more), expired, or signed by another CA; its log says which: %w", self, err)
}
