package node

import (
	"context"
	"errors"
	"fmt"
	"sync"

	"connectrpc.com/connect"

	"lifeboat/fsm/logpb"
)

// confirmations prove to linearizable reads that this node leads. One entry serves
// all reads that came before it was proposed.
type confirmations struct {
	mu   sync.Mutex
	next *confirmation // not proposed yet; nil = nobody waits for one
	busy bool          // somebody proposes
}

type confirmation struct {
	done chan struct{} // closed when err is set
	err  error
}

// confirm waits until an entry that was proposed after the call has been committed
// and applied here: from then on the state holds everything that was confirmed to
// anybody before the call. Raft's own word (VerifyLeader) is no proof: it takes an
// answer that lay in a buffer while this process was frozen (S14).
func (t *term) confirm(ctx context.Context) error {
	c := &t.confirmations
	c.mu.Lock()
	if c.next == nil {
		c.next = &confirmation{done: make(chan struct{})}
	}
	x := c.next
	if !c.busy {
		c.busy = true
		go t.confirmAll()
	}
	c.mu.Unlock()
	select {
	case <-x.done:
		if x.err != nil {
			return connect.NewError(connect.CodeUnavailable, fmt.Errorf("node %s could not confirm that it leads: %w", t.node.cfg.ID, x.err))
		}
		return nil
	case <-t.over:
		return errNoLeader
	case <-ctx.Done():
		return fmt.Errorf("confirm that node %s leads: %w", t.node.cfg.ID, ctx.Err())
	}
}

// confirmAll proposes one entry after the other until nobody waits for one. Each
// ends within canaryStall.
func (t *term) confirmAll() {
	c := &t.confirmations
	for {
		c.mu.Lock()
		x := c.next
		c.next = nil // who comes from here on came after the proposal
		if x == nil {
			c.busy = false
			c.mu.Unlock()
			return
		}
		c.mu.Unlock()
		ctx, cancel := context.WithTimeout(context.Background(), canaryStall)
		_, x.err = t.propose(ctx, "", &logpb.Command{Body: &logpb.Command_Canary{Canary: &logpb.Canary{Node: t.node.cfg.ID, Term: t.number}}})
		cancel()
		var no *errRejected
		if errors.As(x.err, &no) {
			x.err = nil // it changed nothing, and was committed and applied all the same
		}
		close(x.done)
	}
}
