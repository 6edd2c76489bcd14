package transport

import (
	"context"
	"net"
	"time"

	"github.com/hashicorp/go-hclog"
)

// The protocols of the listener, as negotiated by ALPN.
const (
	// ProtoRaft carries hashicorp/raft's stream between management nodes. After
	// the handshake the acceptor sends one byte, which tells the dialer that it
	// was authorised; then the stream is Raft's.
	ProtoRaft = "lifeboat-raft/1"
	// ProtoHTTP is HTTP/2: the API, the agents, the page.
	ProtoHTTP = "h2"
	// ProtoJoin is HTTP/1.1 for those who have no certificate yet and a token
	// instead. Who speaks it names nothing else.
	ProtoJoin = "lifeboat-join/1"
)

// Options of a listener. The zero value is ready for production.
type Options struct {
	// Authorize is asked at every handshake, after the certificate of the peer
	// was verified, and an error refuses the connection. It runs concurrently,
	// possibly twice for one connection, and must not block. Nil lets everybody
	// in that has a certificate; ProtoRaft is for nodes in any case.
	Authorize func(proto string, id Identity) error

	// Join lets strangers speak ProtoJoin.
	Join bool

	HandshakeTimeout time.Duration // for a peer's hello, and for the rest of its handshake; 0 means 5 s
	// FirstByteTimeout is how long a Raft peer may stay silent after the
	// handshake; 0 means 10 s. For HTTP net/http has the same limit.
	FirstByteTimeout time.Duration
	MaxPerSource     int           // connections of one source IP; 0 means 512
	MaxTotal         int           // connections altogether; 0 means 32768 (raise LimitNOFILE with it)
	UserTimeout      time.Duration // TCP: unacknowledged data kills the connection; 0 means 3 s

	Logger hclog.Logger // nil: silent
}

func (o Options) withDefaults() Options {
	o.HandshakeTimeout = orDefault(o.HandshakeTimeout, 5*time.Second)
	o.FirstByteTimeout = orDefault(o.FirstByteTimeout, 10*time.Second)
	o.MaxPerSource = orDefault(o.MaxPerSource, 512)
	o.MaxTotal = orDefault(o.MaxTotal, 32768)
	o.UserTimeout = orDefault(o.UserTimeout, defaultUserTimeout)
	if o.Logger == nil {
		o.Logger = hclog.NewNullLogger()
	}
	return o
}

// DialFunc opens the connection that TLS then runs on.
type DialFunc func(ctx context.Context, network, addr string) (net.Conn, error)

// DialOptions of outgoing connections. The zero value is ready for production.
type DialOptions struct {
	Dial             DialFunc      // nil: TCP, tuned to notice a dead peer
	ConnectTimeout   time.Duration // TCP connect; 0 means 2 s. Ignored when Dial is set
	HandshakeTimeout time.Duration // TLS, beside the connect; 0 means 5 s
	UserTimeout      time.Duration // as in Options
}

func (o DialOptions) withDefaults() DialOptions {
	o.ConnectTimeout = orDefault(o.ConnectTimeout, 2*time.Second)
	o.HandshakeTimeout = orDefault(o.HandshakeTimeout, 5*time.Second)
	o.UserTimeout = orDefault(o.UserTimeout, defaultUserTimeout)
	if o.Dial == nil {
		o.Dial = tcpDialer(o.ConnectTimeout, o.UserTimeout)
	}
	return o
}

func orDefault[T comparable](v, def T) T {
	var zero T
	if v == zero {
		return def
	}
	return v
}
