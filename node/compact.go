package node

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/hashicorp/raft"
)

// longLog is how many entries make a log that is replaced by a snapshot.
const longLog = 4096

// compact takes a snapshot as soon as this node has applied the log that it was started
// with, if that is long. Raft by itself takes one after a minute or two: a node that is
// started again and again before that would have more to apply each time.
func (n *Node) compact(ctx context.Context) error {
	list, err := n.store.snapshots.List()
	if err != nil {
		return fmt.Errorf("list the snapshots: %w", err)
	}
	kept := uint64(0)
	if len(list) > 0 {
		kept = list[0].Index
	}
	last := n.raft.LastIndex()
	if last < kept+longLog {
		return nil
	}
	for n.raft.AppliedIndex() < last {
		if !pause(ctx, time.Second) {
			return nil
		}
	}
	done := make(chan error, 1)
	go func() { done <- n.raft.Snapshot().Error() }() // Raft's end is its end
	select {
	case <-ctx.Done():
	case err := <-done:
		if err != nil && !errors.Is(err, raft.ErrNothingNewToSnapshot) {
			n.log.Warn("no snapshot could be taken after the start", "error", err, "log_entries", last-kept)
		}
	}
	return nil
}
