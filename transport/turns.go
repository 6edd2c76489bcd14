package transport

import (
	"context"
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

// handshakesAtOnce leaves the scheduler something else to choose from.
func handshakesAtOnce() int { return 2 * runtime.GOMAXPROCS(0) }

// take waits for a turn; the end of the handshake's time is an error.
func (t turns) take(hello *tls.ClientHelloInfo) error {
	c, ok := hello.Conn.(*trackedConn)
	if !ok || slices.Contains(hello.SupportedProtos, ProtoRaft) {
		return nil
	}
	select {
	case t <- struct{}{}:
	case <-c.table.done:
		return net.ErrClosed
	case <-hello.Context().Done():
		return fmt.Errorf("wait for a turn among the handshakes: %w", context.Cause(hello.Context()))
	}
	c.yield = sync.OnceFunc(func() { <-t })
	time.AfterFunc(turnTime, c.yield)
	return nil
}

// handshake runs a handshake until a moment.
func (t turns) handshake(tc *tls.Conn, c *trackedConn, deadline time.Time) error {
	ctx, cancel := context.WithDeadline(context.Background(), deadline)
	defer cancel()
	err := tc.HandshakeContext(ctx)
	if c.yield != nil {
		c.yield()
	}
	return err
}
