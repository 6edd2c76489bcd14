package node

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"time"

	"github.com/hashicorp/raft"
)

// beginLook is how often a node that was elected looks for the first entry of its term,
// which is written while it does; nobody can be told sooner than that takes.
const beginLook = 2 * time.Millisecond

// begin waits until a term can be led: its first entry is in this node's log, and
// everything that earlier terms committed is applied here. A node whose disk stalls as it
// is elected heartbeats like any other leader, and Raft takes nothing from it, not even
// the question; the error is ErrStalled then.
func (n *Node) begin(ctx context.Context, term uint64) error {
	began := time.Now()
	for {
		newest, err := strconv.ParseUint(n.raft.Stats()["last_log_term"], 10, 64)
		if err != nil {
			return fmt.Errorf("read the term of the newest entry: %w", err)
		}
		if newest >= term {
			break
		}
		if time.Since(began) >= canaryStall {
			return errStalled
		}
		if !pause(ctx, beginLook) {
			return errOver
		}
	}
	written, outcome := n.raft.LastIndex(), make(chan error, 1)
	f := n.raft.Barrier(canaryStall)
	go func() { outcome <- barred(f.Error()) }()
	err := n.outlast(ctx, outcome, written, canaryStall, func() time.Duration { return time.Since(began) })
	if ctx.Err() != nil {
		return errOver
	}
	return err
}

// barrier waits until everything earlier terms committed is applied here.
func (n *Node) barrier(ctx context.Context) error {
	f := n.raft.Barrier(0)
	done := make(chan error, 1)
	go func() { done <- f.Error() }()
	select {
	case <-ctx.Done():
		return errOver
	case err := <-done:
		return barred(err)
	}
}

// barred is what became of a barrier.
func barred(err error) error {
	switch {
	case err == nil:
		return nil
	case errors.Is(err, raft.ErrEnqueueTimeout): // Raft did not even take it
		return errStalled
	case errors.Is(err, raft.ErrLeadershipLost), errors.Is(err, raft.ErrNotLeader):
		return errOver
	}
	return fmt.Errorf("wait for the barrier: %w", err)
}
