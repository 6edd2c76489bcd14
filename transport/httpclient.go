package transport

import (
	"context"
	"net"
	"net/http"
	"time"
)

// maxConnsPerNode connections take as many times MaxConcurrentStreams requests at once.
const maxConnsPerNode = 32

// ClientOptions of an HTTP client. The zero value is ready for production.
type ClientOptions struct {
	// NameOf says which node is expected at an address (host:port), empty for
	// any node. Nil means any node everywhere.
	NameOf func(addr string) string

	PingAfter   time.Duration // a connection silent for this long is pinged; 0 means 2 s
	PingTimeout time.Duration // an unanswered ping closes it; 0 means 3 s

	Dial DialOptions
}

// NewHTTPClient makes a client that speaks HTTP/2 with management nodes and with
// nobody else, whatever the URL says: "https://10.0.0.1:7000/...". It has no
// overall timeout, since reports are long polls: give each request a context.
// Neither proxies nor redirects are followed. A dead machine is noticed after
// UserTimeout, a frozen process after PingAfter + PingTimeout.
func NewHTTPClient(creds *Credentials, opts ClientOptions) *http.Client {
	opts.Dial = opts.Dial.withDefaults()
	table := newConnTable(0, 0)
	protocols := new(http.Protocols)
	protocols.SetHTTP2(true)
	t := &http.Transport{
		DialTLSContext: func(ctx context.Context, _, addr string) (net.Conn, error) {
			want := Identity{Kind: KindNode}
			if opts.NameOf != nil {
				want.Name = opts.NameOf(addr)
			}
			return dial(ctx, addr, ProtoHTTP, want, creds, opts.Dial, table)
		},
		Protocols: protocols,
		// Without a bound, each of a thousand requests that find no connection would
		// begin one of its own.
		MaxConnsPerHost:    maxConnsPerNode,
		DisableCompression: true, // Connect compresses by itself, where it pays
		IdleConnTimeout:    90 * time.Second,
		HTTP2: &http.HTTP2Config{
			SendPingTimeout:  orDefault(opts.PingAfter, 2*time.Second),
			PingTimeout:      orDefault(opts.PingTimeout, 3*time.Second),
			WriteByteTimeout: 5 * time.Second,
		},
	}
	return &http.Client{
		Transport: &explainingTransport{Transport: t, self: creds.Identity(), table: table},
		CheckRedirect: func(*http.Request, []*http.Request) error {
			return http.ErrUseLastResponse
		},
	}
}

// explainingTransport says in words why a node hung up on our certificate.
// Embedding keeps CloseIdleConnections.
type explainingTransport struct {
	*http.Transport
	self  Identity
	table *connTable
}

// HangUp closes every connection of a client of NewHTTPClient, also one that is
// in use, and ends dialling for good. CloseIdleConnections alone would miss one
// that is being dialled for a request which has been given up.
func HangUp(c *http.Client) {
	if t, ok := c.Transport.(*explainingTransport); ok {
		t.table.closeAll()
		t.CloseIdleConnections()
	}
}

func (t *explainingTransport) RoundTrip(r *http.Request) (*http.Response, error) {
	resp, err := t.Transport.RoundTrip(r)
	return resp, explainRemote(err, t.self, ProtoHTTP)
}
