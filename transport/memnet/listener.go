package memnet

import "net"

// backlog is how many connections may wait for Accept.
const backlog = 128

// Listener accepts connections at one address. It is a net.Listener.
type Listener struct {
	net     *Network
	addr    Addr
	backlog chan *Conn
	done    chan struct{}
	closed  bool // guarded by net.mu
}

// Accept waits for a connection. After Close it fails with net.ErrClosed.
func (l *Listener) Accept() (net.Conn, error) {
	select {
	case <-l.done:
		return nil, opError("accept", string(l.addr), net.ErrClosed)
	default:
	}
	select {
	case c := <-l.backlog:
		return c, nil
	case <-l.done:
		return nil, opError("accept", string(l.addr), net.ErrClosed)
	}
}

// Close frees the address and resets what was not accepted.
func (l *Listener) Close() error {
	l.net.change(l.closeLocked)
	return nil
}

func (l *Listener) closeLocked() {
	if l.closed {
		return
	}
	l.closed = true
	close(l.done)
	delete(l.net.listeners, string(l.addr))
	for {
		select {
		case c := <-l.backlog:
			c.link.dieLocked(Crash)
		default:
			return
		}
	}
}

// Addr is the address listened on.
func (l *Listener) Addr() net.Addr { return l.addr }
