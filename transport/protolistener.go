package transport

import (
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"sync"
	"time"
)

// protoListener is the part of a Listener that speaks one protocol.
type protoListener struct {
	addr    net.Addr
	ready   chan net.Conn
	done    chan struct{}
	once    sync.Once
	onClose func() // nil or idempotent
}

func newProtoListener(addr net.Addr, onClose func()) *protoListener {
	return &protoListener{addr: addr, ready: make(chan net.Conn), done: make(chan struct{}), onClose: onClose}
}

func (p *protoListener) Addr() net.Addr { return p.addr }

func (p *protoListener) closed() bool {
	select {
	case <-p.done:
		return true
	default:
		return false
	}
}

func (p *protoListener) Accept() (net.Conn, error) {
	if p.closed() { // it accepts nothing, even when one waits
		return nil, net.ErrClosed
	}
	select {
	case c := <-p.ready:
		return c, nil
	case <-p.done:
		return nil, net.ErrClosed
	}
}

func (p *protoListener) Close() error {
	p.once.Do(func() {
		close(p.done)
		if p.onClose != nil {
			p.onClose()
		}
	})
	return nil
}

// deliver hands c to Accept, or fails at the deadline or when closed. The caller
// keeps c in that case.
func (p *protoListener) deliver(c net.Conn, deadline time.Time) error {
	timer := time.NewTimer(time.Until(deadline))
	defer timer.Stop()
	select {
	case p.ready <- c:
		return nil
	case <-p.done:
		return net.ErrClosed
	case <-timer.C:
		return errors.New("this process is too busy to take the connection")
	}
}

// welcome is the byte by which the acceptor of a Raft stream says "come in".
const welcome = 'L'

// greet welcomes a Raft peer and waits for its first byte, so that Raft never
// sees a connection on which nothing comes.
func greet(tc *tls.Conn, patience time.Duration) (net.Conn, error) {
	tc.SetDeadline(time.Now().Add(patience))
	if _, err := tc.Write([]byte{welcome}); err != nil {
		return nil, fmt.Errorf("welcome peer: %w", err)
	}
	first := make([]byte, 1)
	if _, err := tc.Read(first); err != nil {
		return nil, fmt.Errorf("wait for first byte: %w", err)
	}
	tc.SetDeadline(time.Time{})
	return &peekedConn{Conn: tc, first: first}, nil
}

// peekedConn gives back the bytes read by greet before the rest. Like any
// stream that is decoded, it has one reader.
type peekedConn struct {
	*tls.Conn
	first []byte
}

func (c *peekedConn) Read(b []byte) (int, error) {
	if len(c.first) > 0 && len(b) > 0 {
		n := copy(b, c.first)
		c.first = c.first[n:]
		return n, nil
	}
	return c.Conn.Read(b)
}
