package memnet

import (
	"io"
	"net"
	"os"
	"syscall"
	"time"
)

// sendBuffer is how many bytes a writer may be ahead of the reader.
const sendBuffer = 256 << 10

// link is one connection: two ends, and a pipe for each direction. Everything in
// it is guarded by the network's lock, which is never held while waiting.
type link struct {
	net     *Network
	ends    [2]*Conn
	names   [2]string // machine of each end
	dead    Death
	changed chan struct{} // closed and replaced at every change of this link
}

// pipe is what one end sent and the other has not read yet.
type pipe struct {
	queue []chunk
	size  int
	fin   time.Time // when the reader learns that no more will come; zero: not closed
}

// chunk is one write, readable from due on.
type chunk struct {
	data []byte
	due  time.Time
}

// Conn is one end of a connection. It is a net.Conn with deadlines.
type Conn struct {
	link          *link
	side          int // index in link.ends
	local, remote Addr

	in                          pipe // what the other end sent
	closed                      bool
	readDeadline, writeDeadline time.Time
}

func (n *Network) newLink(from, to string, local, remote Addr) (client, server *Conn) {
	l := &link{net: n, names: [2]string{from, to}, changed: make(chan struct{})}
	client = &Conn{link: l, side: 0, local: local, remote: remote}
	server = &Conn{link: l, side: 1, local: remote, remote: local}
	l.ends = [2]*Conn{client, server}
	n.conns[l] = struct{}{}
	return client, server
}

func (l *link) touches(name string) bool { return l.names[0] == name || l.names[1] == name }

func (l *link) notifyLocked() {
	close(l.changed)
	l.changed = make(chan struct{})
}

func (l *link) dieLocked(death Death) {
	l.dead = death
	for _, end := range l.ends {
		end.in.queue, end.in.size = nil, 0
	}
	l.notifyLocked()
}

func (c *Conn) peer() *Conn { return c.link.ends[1-c.side] }

// Read waits for data, for the end of it, for the deadline, or for a reset.
func (c *Conn) Read(b []byte) (n int, err error) {
	err = c.wait("read", func(now time.Time) (done bool, err error, until time.Time) {
		n, done, err, until = c.readLocked(b, now)
		return done, err, until
	})
	return n, err
}

func (c *Conn) readLocked(b []byte, now time.Time) (n int, done bool, err error, until time.Time) {
	if done, err = c.brokenLocked(c.readDeadline, now); done {
		return 0, true, err, until
	}
	until = c.readDeadline
	if len(b) == 0 {
		return 0, true, nil, until
	}
	if c.deafLocked() {
		return 0, false, nil, until
	}
	if len(c.in.queue) == 0 {
		switch fin := c.in.fin; {
		case fin.IsZero():
			return 0, false, nil, until
		case fin.After(now):
			return 0, false, nil, earliest(until, fin)
		}
		return 0, true, io.EOF, until
	}
	head := &c.in.queue[0]
	if head.due.After(now) {
		return 0, false, nil, earliest(until, head.due)
	}
	n = copy(b, head.data)
	if head.data = head.data[n:]; len(head.data) == 0 {
		c.in.queue = c.in.queue[1:]
	}
	c.in.size -= n
	c.link.notifyLocked() // room for the writer
	return n, true, nil, until
}

// Write waits while the send buffer is full. What it has taken is delivered when
// the network allows, and lost silently when the peer loses power.
func (c *Conn) Write(b []byte) (n int, err error) {
	err = c.wait("write", func(now time.Time) (bool, error, time.Time) {
		if done, err := c.brokenLocked(c.writeDeadline, now); done {
			return true, err, time.Time{}
		}
		peer := c.peer()
		if peer.closed && !c.deafLocked() {
			return true, syscall.EPIPE, time.Time{}
		}
		if room := min(sendBuffer-peer.in.size, len(b)-n); room > 0 {
			data := append([]byte(nil), b[n:n+room]...)
			peer.in.queue = append(peer.in.queue, chunk{data: data, due: now.Add(c.link.net.latency)})
			peer.in.size += room
			n += room
			c.link.notifyLocked()
		}
		return n == len(b), nil, c.writeDeadline
	})
	return n, err
}

// deafLocked reports whether nothing reaches this end at present.
func (c *Conn) deafLocked() bool {
	l := c.link
	return l.dead == PowerLoss || l.net.cutLocked(l.names[1-c.side], l.names[c.side])
}

// brokenLocked is what ends any operation: our own close, a missed deadline, a
// reset.
func (c *Conn) brokenLocked(deadline, now time.Time) (bool, error) {
	switch {
	case c.closed:
		return true, net.ErrClosed
	case !deadline.IsZero() && !deadline.After(now):
		return true, os.ErrDeadlineExceeded
	case c.link.dead == Crash:
		return true, syscall.ECONNRESET
	}
	return false, nil
}

// wait runs step until it is done, again after every change of the link or of
// the network and at the time step asks for.
func (c *Conn) wait(op string, step func(now time.Time) (done bool, err error, until time.Time)) error {
	n := c.link.net
	for {
		n.mu.Lock()
		now := time.Now()
		done, err, until := step(now)
		link, network := c.link.changed, n.changed
		n.mu.Unlock()
		if err == io.EOF {
			return err
		}
		if err != nil {
			return &net.OpError{Op: op, Net: "memnet", Source: c.local, Addr: c.remote, Err: err}
		}
		if done {
			return nil
		}
		pause(link, network, until, now)
	}
}

func pause(link, network <-chan struct{}, until, now time.Time) {
	var expired <-chan time.Time
	if !until.IsZero() {
		timer := time.NewTimer(until.Sub(now))
		defer timer.Stop()
		expired = timer.C
	}
	select {
	case <-link:
	case <-network:
	case <-expired:
	}
}

func earliest(a, b time.Time) time.Time {
	if a.IsZero() || b.Before(a) {
		return b
	}
	return a
}

// Close sends what was written, then an end of file, if the network lets it.
func (c *Conn) Close() error {
	n := c.link.net
	n.mu.Lock()
	defer n.mu.Unlock()
	if c.closed {
		return net.ErrClosed
	}
	c.closed = true
	c.peer().in.fin = time.Now().Add(n.latency)
	if c.peer().closed {
		delete(n.conns, c.link)
	}
	c.link.notifyLocked()
	return nil
}

// LocalAddr is the address of this end.
func (c *Conn) LocalAddr() net.Addr { return c.local }

// RemoteAddr is the address of the other end.
func (c *Conn) RemoteAddr() net.Addr { return c.remote }

// SetDeadline sets both deadlines. The zero time means none.
func (c *Conn) SetDeadline(t time.Time) error { return c.setDeadlines(&t, &t) }

// SetReadDeadline also ends a Read that is waiting already.
func (c *Conn) SetReadDeadline(t time.Time) error { return c.setDeadlines(&t, nil) }

// SetWriteDeadline also ends a Write that is waiting already.
func (c *Conn) SetWriteDeadline(t time.Time) error { return c.setDeadlines(nil, &t) }

func (c *Conn) setDeadlines(read, write *time.Time) error {
	n := c.link.net
	n.mu.Lock()
	defer n.mu.Unlock()
	if c.closed {
		return net.ErrClosed
	}
	if read != nil {
		c.readDeadline = *read
	}
	if write != nil {
		c.writeDeadline = *write
	}
	c.link.notifyLocked()
	return nil
}
