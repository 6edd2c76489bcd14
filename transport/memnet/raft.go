package memnet

import (
	"context"
	"net"
	"sync"
	"time"

	"github.com/hashicorp/raft"
)

var _ raft.StreamLayer = (*StreamLayer)(nil)

// StreamLayer is one machine's view of the network for hashicorp/raft. As with
// the real one, give it to raft.NewNetworkTransportWithConfig and do not wrap
// what comes out.
type StreamLayer struct {
	net      *Network
	listener *Listener

	mu     sync.Mutex
	conns  map[*layerConn]struct{}
	closed bool
}

// StreamLayer listens at addr and dials from its machine.
func (n *Network) StreamLayer(addr string) (*StreamLayer, error) {
	l, err := n.Listen(addr)
	if err != nil {
		return nil, err
	}
	return &StreamLayer{net: n, listener: l, conns: map[*layerConn]struct{}{}}, nil
}

// Accept waits for a connection of another machine.
func (s *StreamLayer) Accept() (net.Conn, error) {
	c, err := s.listener.Accept()
	if err != nil {
		return nil, err
	}
	return s.track(c)
}

// Dial connects to address within timeout; 0 means as long as it takes.
func (s *StreamLayer) Dial(address raft.ServerAddress, timeout time.Duration) (net.Conn, error) {
	ctx := context.Background() // raft.StreamLayer has none to pass on
	if timeout > 0 {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, timeout)
		defer cancel()
	}
	c, err := s.net.Dial(ctx, machine(string(s.listener.addr)), string(address))
	if err != nil {
		return nil, err
	}
	return s.track(c)
}

// Addr is the address listened on.
func (s *StreamLayer) Addr() net.Addr { return s.listener.Addr() }

// Close ends listening and closes every connection, so that all goroutines of a
// raft.NetworkTransport end and a synctest bubble can.
func (s *StreamLayer) Close() error {
	err := s.listener.Close()
	s.mu.Lock()
	s.closed = true
	conns := make([]*layerConn, 0, len(s.conns))
	for c := range s.conns {
		conns = append(conns, c)
	}
	s.mu.Unlock()
	for _, c := range conns {
		c.Close()
	}
	return err
}

func (s *StreamLayer) track(c net.Conn) (net.Conn, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		c.Close()
		return nil, net.ErrClosed
	}
	lc := &layerConn{Conn: c, layer: s}
	s.conns[lc] = struct{}{}
	return lc, nil
}

// layerConn leaves its layer when it is closed.
type layerConn struct {
	net.Conn
	layer *StreamLayer
}

func (c *layerConn) Close() error {
	c.layer.mu.Lock()
	delete(c.layer.conns, c)
	c.layer.mu.Unlock()
	return c.Conn.Close()
}
