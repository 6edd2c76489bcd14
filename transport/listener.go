package transport

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"sync"
	"time"

	"github.com/hashicorp/go-hclog"
)

// Listener is one port that serves Raft and HTTP, both over mutual TLS.
// Who takes it calls Raft and HTTP and hands them to their servers; a protocol
// nobody accepts holds a connection for HandshakeTimeout and drops it.
type Listener struct {
	ln    net.Listener
	opts  Options
	log   hclog.Logger
	tls   *tls.Config
	raft  *protoListener
	http  *protoListener
	join  *protoListener
	conns *connTable
	turns turns
	warn  throttle
	wg    sync.WaitGroup
	once  sync.Once
}

// Listen opens addr (host:port) and serves it with creds. ctx bounds opening
// only; Close ends the listener.
func Listen(ctx context.Context, addr string, creds *Credentials, opts Options) (*Listener, error) {
	ln, err := listenTCP(ctx, addr)
	if err != nil {
		return nil, fmt.Errorf("listen on %s: %w; choose another address, or stop what uses this one", addr, err)
	}
	return Serve(ln, creds, opts), nil
}

// Serve is Listen over a listener that is open already, such as memnet's.
// The Listener owns ln from here on.
func Serve(ln net.Listener, creds *Credentials, opts Options) *Listener {
	opts = opts.withDefaults()
	l := &Listener{
		ln:    ln,
		opts:  opts,
		log:   opts.Logger,
		conns: newConnTable(opts.MaxPerSource, opts.MaxTotal),
		turns: make(turns, handshakesAtOnce()),
	}
	l.raft = newProtoListener(ln.Addr(), func() { l.conns.closeProto(ProtoRaft) })
	l.http = newProtoListener(ln.Addr(), nil)
	l.join = newProtoListener(ln.Addr(), nil)
	l.tls = creds.serverConfig([]string{ProtoHTTP, ProtoRaft}, opts.Join, l.begin, l.authorize)
	l.wg.Go(l.acceptLoop)
	return l
}

// Addr is the address that is listened on.
func (l *Listener) Addr() net.Addr { return l.ln.Addr() }

// Raft yields connections of authorised nodes. Closing it also closes the Raft
// connections accepted so far, since hashicorp/raft leaves them open and a
// half-sent snapshot would block its shutdown.
func (l *Listener) Raft() net.Listener { return l.raft }

// HTTP yields handshaken *tls.Conn that negotiated h2, for http.Server.Serve.
// Closing it leaves its connections to http.Server.Shutdown.
func (l *Listener) HTTP() net.Listener { return l.http }

// Join yields handshaken connections of strangers who speak ProtoJoin, for
// NewJoinServer.
func (l *Listener) Join() net.Listener { return l.join }

// CloseConns closes the accepted connections whose identity matches and returns
// how many. Make Authorize refuse the identity first: then none slips through,
// not even one that is in its handshake right now. match must not block.
func (l *Listener) CloseConns(match func(Identity) bool) int { return l.conns.closeMatching(match) }

// Close closes the port, both protocol listeners and every connection, and
// waits for the goroutines of the listener (not for the servers).
func (l *Listener) Close() error {
	var err error
	l.once.Do(func() {
		err = l.ln.Close()
		l.raft.Close()
		l.http.Close()
		l.join.Close()
		l.conns.closeAll()
	})
	l.wg.Wait()
	return err
}

func (l *Listener) acceptLoop() {
	const maxPause = time.Second
	pause := time.Duration(0)
	for {
		c, err := l.ln.Accept()
		if errors.Is(err, net.ErrClosed) || (err != nil && l.conns.isClosed()) {
			return
		}
		if err != nil {
			// Usually out of file descriptors: wait for some to come back.
			pause = min(max(2*pause, 5*time.Millisecond), maxPause)
			l.warnSome("connections cannot be accepted, trying again", "error", err)
			if !l.conns.pauseOpen(pause) {
				return
			}
			continue
		}
		pause = 0
		t, err := l.conns.add(c)
		if err != nil {
			c.Close()
			if !errors.Is(err, net.ErrClosed) {
				l.warnSome("connection refused", "remote", c.RemoteAddr().String(), "reason", err)
			}
			continue
		}
		l.wg.Go(func() { l.handshake(t) })
	}
}

// handshake takes a fresh connection to its protocol, or closes it and says why
// in one line. That is a debug line, since any stranger can cause it, unless a
// certificate was refused: then an operator looks for the reason here.
func (l *Listener) handshake(c *trackedConn) {
	err := l.admit(c)
	if err == nil {
		return
	}
	defer c.Close()
	var refused *refusedError
	var unverified *tls.CertificateVerificationError
	switch {
	case errors.Is(err, net.ErrClosed):
	case errors.As(err, &refused):
		l.warnSome("connection refused", "remote", c.source, "identity", refused.id.String(), "protocol", refused.proto, "reason", refused.err)
		c.lingerForAlert()
	case errors.As(err, &unverified) && len(unverified.UnverifiedCertificates) > 0:
		l.warnSome("connection refused", "remote", c.source, "certificate", unverified.UnverifiedCertificates[0].Subject.String(), "reason", err)
		c.lingerForAlert()
	default:
		l.log.Debug("connection failed before its first request", "remote", c.source, "reason", err)
	}
}

// begin lets a handshake go on after its first message. Whose protocol is closed is
// hung up on here: had the client's side of the handshake succeeded, it would have sent
// a request, and could not know whether anybody has carried it out.
func (l *Listener) begin(hello *tls.ClientHelloInfo) error {
	for proto, p := range map[string]*protoListener{ProtoHTTP: l.http, ProtoRaft: l.raft, ProtoJoin: l.join} {
		if len(hello.SupportedProtos) == 1 && hello.SupportedProtos[0] == proto && p.closed() {
			hello.Conn.Close()
			return net.ErrClosed
		}
	}
	return l.turns.take(hello)
}

func (l *Listener) admit(c *trackedConn) error {
	if err := setUserTimeout(c.Conn, l.opts.UserTimeout); err != nil {
		return err
	}
	tc := tls.Server(c, l.tls)
	if err := l.turns.handshake(tc, c, l.opts.HandshakeTimeout); err != nil {
		return err
	}
	deadline := time.Now().Add(l.opts.HandshakeTimeout) // to be taken by its protocol
	cs := tc.ConnectionState()
	if cs.NegotiatedProtocol == ProtoJoin {
		c.SetDeadline(time.Time{})
		return l.join.deliver(joinConn{tc}, deadline)
	}
	id, err := PeerIdentity(cs)
	if err != nil {
		return err
	}
	proto := cs.NegotiatedProtocol
	c.identify(proto, id)
	// Asked again now that CloseConns can find this connection: an identity that
	// was removed in between is caught by one or the other.
	if err := l.authorize(cs); err != nil {
		return err
	}
	if proto == ProtoHTTP {
		c.SetDeadline(time.Time{})
		return l.http.deliver(tc, deadline)
	}
	rc, err := greet(tc, l.opts.FirstByteTimeout)
	if err != nil {
		return err
	}
	return l.raft.deliver(rc, time.Now().Add(l.opts.HandshakeTimeout))
}

// joinConn hides that it is TLS: net/http drops a connection whose ALPN protocol it
// does not know.
type joinConn struct{ net.Conn }

// authorize runs inside the handshake, where its error reaches the peer as an
// alert, and once more after it.
func (l *Listener) authorize(cs tls.ConnectionState) error {
	id, err := PeerIdentity(cs)
	if err != nil {
		return err
	}
	proto := cs.NegotiatedProtocol
	switch {
	case proto == "":
		// TLS lets a client without ALPN pass; nobody could serve it.
		err = fmt.Errorf("the client names no protocol (ALPN); it must ask for %s or %s", ProtoHTTP, ProtoRaft)
	case proto == ProtoRaft && id.Kind != KindNode:
		err = errors.New("only management nodes may speak Raft")
	case l.opts.Authorize != nil:
		err = l.opts.Authorize(proto, id)
	}
	if err != nil {
		return &refusedError{proto: proto, id: id, err: err}
	}
	return nil
}

// refusedError is a verified peer that may not come in.
type refusedError struct {
	proto string
	id    Identity
	err   error
}

func (e *refusedError) Error() string { return fmt.Sprintf("refuse %s: %v", e.id, e.err) }
func (e *refusedError) Unwrap() error { return e.err }

// warnSome is a warning at most once a second; the rest goes to debug.
func (l *Listener) warnSome(msg string, args ...any) {
	if l.warn.allow(time.Now()) {
		l.log.Warn(msg, args...)
	} else {
		l.log.Debug(msg, args...)
	}
}

// throttle lets one through per second.
type throttle struct {
	mu   sync.Mutex
	last time.Time
}

func (t *throttle) allow(now time.Time) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	if now.Sub(t.last) < time.Second {
		return false
	}
	t.last = now
	return true
}
