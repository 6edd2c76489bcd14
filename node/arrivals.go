package node

import (
	"context"

	"github.com/hashicorp/raft"
)

// arrivals are what other nodes send to Raft, after the guard has seen the entries.
// Raft alone would not get as far as storing those that the guard waits for: it
// looks for the entry that stands there already, finds a hole, and refuses for ever.
type arrivals struct {
	*raft.NetworkTransport
	guard *guard
	out   chan raft.RPC
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
		case rpc := <-in:
			if q, ok := rpc.Command.(*raft.AppendEntriesRequest); ok && len(q.Entries) > 0 && q.Term >= term() {
				if err := a.guard.check(q.Entries); err != nil {
					return err
				}
			}
			select {
			case <-ctx.Done():
				return nil
			case a.out <- rpc:
			}
		}
	}
}
