package transport

import (
	"crypto/tls"
	"fmt"
	"net"
	"runtime"
	"slices"
	"sync"
	"time"
)

// turns bound how many handshakes are computed at once. When ten thousand agents come
// at the same moment, as after the death of a leader, their signatures would keep
// every core busy for seconds, and with them what elects the next one. Who speaks Raft
// does not wait.
type turns chan struct{}

// turnTime is how long a handshake may keep the others waiting: somebody who says
// hello and nothing more must not. The rest of it goes on beside theirs. All the
// connections that one source may have delay the others by less than a second.
const turnTime = 5 * time.Millisecond

// turnWait is how long a connection waits for its turn at most. That time is not the
// peer's: of ten thousand agents the last ones would else be sent away when they had
// waited longest, and begin anew.
const turnWait = 10 * time.Second

// handshakesAtOnce leaves the scheduler something else to choose from.
func handshakesAtOnce() int { return 2 * runtime.GOMAXPROCS(0) }

// take waits for a turn; the end of the handshake's time is an error.
func (t turns) take(hello *tls.ClientHelloInfo) error {
	c, ok := hello.Conn.(*trackedConn)
	if !ok || slices.Contains(hello.SupportedProtos, ProtoRaft) {
		return nil
	}
	late := time.NewTimer(turnWait)
	defer late.Stop()
	select {
	case t <- struct{}{}:
	case <-c.table.done:
		return net.ErrClosed
	case <-late.C:
		return fmt.Errorf("it waited for %s for its turn among the handshakes", turnWait)
	}
	c.yield = sync.OnceFunc(func() { <-t })
	time.AfterFunc(turnTime, c.yield)
	return c.SetDeadline(time.Now().Add(c.within))
}

// handshake runs a handshake whose peer may take so long, its turn not counted: for its
// hello, and for the rest.
func (t turns) handshake(tc *tls.Conn, c *trackedConn, within time.Duration) error {
	c.within = within
	if err := c.SetDeadline(time.Now().Add(within)); err != nil {
		return err
	}
	err := tc.Handshake()
	if c.yield != nil {
		c.yield()
	}
	return err
}
