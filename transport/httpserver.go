package transport

import (
	"context"
	"crypto/tls"
	stdlog "log"
	"net"
	"net/http"
	"strings"
	"time"

	"github.com/hashicorp/go-hclog"
)

// NewHTTPServer makes the server for Listener.HTTP. Its requests carry the
// identity of the peer, see IdentityFromContext. Bodies have no limit here and
// requests no deadline: reports are long polls, and their handler knows the
// limits. log may be nil.
func NewHTTPServer(handler http.Handler, log hclog.Logger) *http.Server {
	if log == nil {
		log = hclog.NewNullLogger()
	}
	protocols := new(http.Protocols)
	protocols.SetHTTP2(true)
	return &http.Server{
		Handler:           handler,
		ReadHeaderTimeout: 5 * time.Second,
		IdleTimeout:       2 * time.Minute,
		MaxHeaderBytes:    64 << 10,
		Protocols:         protocols,
		HTTP2: &http.HTTP2Config{
			// A node that passes on the reports of thousands of agents parks one stream for
			// each: with few to a connection it would need more connections than one
			// source may have.
			MaxConcurrentStreams: 1000,
			SendPingTimeout:      15 * time.Second,
			PingTimeout:          10 * time.Second,
			WriteByteTimeout:     10 * time.Second,
		},
		ConnContext: func(ctx context.Context, c net.Conn) context.Context {
			tc, ok := c.(*tls.Conn)
			if !ok {
				return ctx
			}
			id, err := PeerIdentity(tc.ConnectionState())
			if err != nil {
				return ctx
			}
			return WithIdentity(ctx, id)
		},
		ErrorLog: stdlog.New(complaints{log}, "", 0),
	}
}

// complaints sorts what net/http has to say: a panic of a handler is a bug of
// ours, the rest is about single connections of others.
type complaints struct{ log hclog.Logger }

func (c complaints) Write(line []byte) (int, error) {
	text := strings.TrimSpace(string(line))
	if strings.Contains(text, "panic") {
		c.log.Error("request handler failed", "error", text)
	} else {
		c.log.Debug("http connection", "error", text)
	}
	return len(line), nil
}

type identityKey struct{}

// WithIdentity makes a context whose requests come from id. Servers other than
// NewHTTPServer's, and tests of handlers, use it.
func WithIdentity(ctx context.Context, id Identity) context.Context {
	return context.WithValue(ctx, identityKey{}, id)
}

// IdentityFromContext is who sent the request whose context this is. False means
// nobody was verified: treat it as a refusal.
func IdentityFromContext(ctx context.Context) (Identity, bool) {
	id, ok := ctx.Value(identityKey{}).(Identity)
	return id, ok
}
