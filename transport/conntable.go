package transport

import (
	"fmt"
	"io"
	"net"
	"sync"
	"time"
)

// connTable knows every open connection of a listener or a dialer: for the caps,
// and to close them by who they are.
type connTable struct {
	perSource, total int // caps; 0 means none

	mu      sync.Mutex
	conns   map[*trackedConn]struct{}
	sources map[string]int
	closed  bool
	done    chan struct{}
}

// trackedConn lies under the TLS connection, so that closing works at once and
// whatever layer closes is noticed.
type trackedConn struct {
	net.Conn
	table  *connTable
	source string // IP of the peer, or its whole address

	yield  func()        // gives its turn at handshakes back; nil = it had none
	within time.Duration // for each half of its handshake

	proto string   // guarded by table.mu; empty until the handshake is over
	id    Identity // the same
}

func newConnTable(perSource, total int) *connTable {
	return &connTable{
		perSource: perSource, total: total,
		conns:   map[*trackedConn]struct{}{},
		sources: map[string]int{},
		done:    make(chan struct{}),
	}
}

// add counts c in, or refuses it. The caller closes a refused connection.
func (t *connTable) add(c net.Conn) (*trackedConn, error) {
	tc := &trackedConn{Conn: c, table: t, source: sourceOf(c.RemoteAddr())}
	t.mu.Lock()
	defer t.mu.Unlock()
	switch {
	case t.closed:
		return nil, net.ErrClosed
	case t.total > 0 && len(t.conns) >= t.total:
		return nil, fmt.Errorf("there are %d connections already, the most allowed", t.total)
	case t.perSource > 0 && t.sources[tc.source] >= t.perSource:
		return nil, fmt.Errorf("%s has %d connections already, the most allowed for one source", tc.source, t.perSource)
	}
	t.conns[tc] = struct{}{}
	t.sources[tc.source]++
	return tc, nil
}

func sourceOf(addr net.Addr) string {
	host, _, err := net.SplitHostPort(addr.String())
	if err != nil {
		return addr.String()
	}
	return host
}

func (c *trackedConn) identify(proto string, id Identity) {
	c.table.mu.Lock()
	defer c.table.mu.Unlock()
	c.proto, c.id = proto, id
}

func (c *trackedConn) Close() error {
	c.table.forget(c)
	return c.Conn.Close()
}

// lingerForAlert gives the peer a second to read the TLS alert that says why it
// is refused. Closing at once, with bytes of it unread, would make the kernel
// send a reset, which overtakes the alert.
func (c *trackedConn) lingerForAlert() {
	half, ok := c.Conn.(interface{ CloseWrite() error })
	if !ok || half.CloseWrite() != nil {
		return
	}
	c.SetDeadline(time.Now().Add(time.Second))
	io.Copy(io.Discard, io.LimitReader(c.Conn, 64<<10))
}

func (t *connTable) forget(c *trackedConn) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if _, ok := t.conns[c]; !ok {
		return
	}
	delete(t.conns, c)
	if t.sources[c.source]--; t.sources[c.source] == 0 {
		delete(t.sources, c.source)
	}
}

func (t *connTable) closeMatching(match func(Identity) bool) int {
	return t.closeWhere(func(c *trackedConn) bool { return c.proto != "" && match(c.id) })
}

func (t *connTable) closeProto(proto string) int {
	return t.closeWhere(func(c *trackedConn) bool { return c.proto == proto })
}

// closeAll also refuses every later connection.
func (t *connTable) closeAll() {
	t.mu.Lock()
	if !t.closed {
		t.closed = true
		close(t.done)
	}
	t.mu.Unlock()
	t.closeWhere(func(*trackedConn) bool { return true })
}

func (t *connTable) closeWhere(match func(*trackedConn) bool) int {
	t.mu.Lock()
	var victims []*trackedConn
	for c := range t.conns {
		if match(c) {
			victims = append(victims, c)
		}
	}
	t.mu.Unlock()
	for _, c := range victims {
		c.Close()
	}
	return len(victims)
}

func (t *connTable) isClosed() bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.closed
}

// pauseOpen waits for d and reports whether the table is still open.
func (t *connTable) pauseOpen(d time.Duration) bool {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return true
	case <-t.done:
		return false
	}
}
