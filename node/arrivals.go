package node

import (
	"context"
	"fmt"

	"github.com/hashicorp/raft"

	"lifeboat/fsm"
)

// arrivals are what other nodes send to Raft, after the guard has seen the entries.
// Raft alone would not get as far as storing those that the guard waits for: it
// looks for the entry that stands there already, finds a hole, and refuses for ever.
type arrivals struct {
	*raft.NetworkTransport
	guard   *guard
	level   uint32     // the newest feature level that this node knows
	refused chan error // capacity 1: why this node must end
	out     chan raft.RPC
}

// Consumer implements raft.Transport.
func (a *arrivals) Consumer() <-chan raft.RPC { return a.out }

// run hands on what arrives until ctx ends or the guard says that this node must end.
// term is the newest term that this node knows; what an older leader sends says
// nothing.
func (a *arrivals) run(ctx context.Context, term func() uint64) error {
	in := a.NetworkTransport.Consumer()
	for {
		select {
		case <-ctx.Done():
			return nil
		case err := <-a.refused:
			return err
		case rpc := <-in:
			if q, ok := rpc.Command.(*raft.AppendEntriesRequest); ok && len(q.Entries) > 0 && q.Term >= term() {
				if err := a.guard.check(q.Entries); err != nil {
					return err
				}
				if err := a.readable(q.Entries); err != nil {
					return err
				}
			}
			if _, ok := rpc.Command.(*raft.InstallSnapshotRequest); ok {
				rpc.Reader = &inspected{from: rpc.Reader, level: a.level, refused: a.refuse}
			}
			select {
			case <-ctx.Done():
				return nil
			case a.out <- rpc:
			}
		}
	}
}

// readable refuses entries that this build must not go on with, before they are
// stored.
func (a *arrivals) readable(entries []*raft.Log) error {
	for _, e := range entries {
		if e.Type != raft.LogCommand {
			continue
		}
		if err := fsm.CheckEntry(e.Data, a.level); err != nil {
			return fmt.Errorf("log index %d: %w", e.Index, err)
		}
	}
	return nil
}

// refuse ends this node because of what another one has sent.
func (a *arrivals) refuse(err error) {
	select {
	case a.refused <- err:
	default: // it ends already
	}
}
