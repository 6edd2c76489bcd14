package node

import (
	"context"
	"errors"
	"time"

	"github.com/hashicorp/raft"
)

// leadership runs a term each time this node is elected.
func (n *Node) leadership(ctx context.Context) error {
	var end context.CancelFunc
	var over chan error
	finish := func() {
		if end != nil {
			end()
			var restore *errRestoring
			if errors.As(<-over, &restore) {
				restore.job.done <- restored{err: errNoLeader}
			}
			end, over = nil, nil
		}
	}
	defer finish()
	begin := func() {
		var tctx context.Context
		tctx, end = context.WithCancel(ctx)
		ch := make(chan error, 1)
		over = ch
		go func() { ch <- n.lead(tctx) }()
	}
	for {
		select {
		case <-ctx.Done():
			return nil
		case leads := <-n.raft.LeaderCh():
			finish()
			if leads {
				begin()
			}
		case err := <-over:
			end()
			end, over = nil, nil
			var restore *errRestoring
			if errors.As(err, &restore) {
				if err := n.restore(ctx, restore.job); err != nil {
					return err
				}
				if n.raft.State() == raft.Leader {
					begin()
				}
				continue
			}
			if again, err := n.termEnded(ctx, err); err != nil {
				return err
			} else if again {
				begin()
			}
		}
	}
}

// termEnded deals with a term that ended by itself. If this node still leads,
// somebody else must: it hands over, or begins anew when there is nobody.
func (n *Node) termEnded(ctx context.Context, err error) (again bool, fatal error) {
	if n.raft.State() != raft.Leader || ctx.Err() != nil || errors.Is(err, errOver) {
		return false, nil
	}
	if errors.Is(err, errTransfer) && n.own().Withdrawn() {
		n.log.Info("leadership is given away", "reason", err) // as it was asked for
	} else {
		n.log.Error("the term ended", "error", err)
	}
	if errors.Is(err, ErrStalled) {
		return false, err // a transfer would need what has just failed
	}
	if err := n.giveAway(ctx); err != nil {
		n.log.Warn("nobody else can lead; going on", "error", err)
		return pause(ctx, time.Second), nil
	}
	return false, nil
}
