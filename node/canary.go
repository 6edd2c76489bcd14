package node

import (
	"context"
	"errors"
	"fmt"
	"time"

	"lifeboat/fsm"
	"lifeboat/fsm/logpb"
)

const (
	canaryEvery = time.Second
	// canaryStall is how long a leader may fail to commit before it ends: with a stalled
	// disk it would go on heartbeating for ever.
	canaryStall = 5 * time.Second
)

// unheardStall is how long a leader whose own disk writes goes on when the others take no
// entry although they answer heartbeats. When it is they who have no time, nobody could
// commit, and ending costs the cluster one node more. When it is this node's way to them,
// another node could, and must before leases run out that nobody renews meanwhile.
func unheardStall(p *fsm.Policy) time.Duration { return max(canaryStall, p.Lease/4) }

var errStalled = fmt.Errorf("%w: nothing could be written for %s; is its disk stalled?", ErrStalled, canaryStall)

func errUnheard(after time.Duration) error {
	return fmt.Errorf("%w: the other nodes answer, and have taken no entry for %s; are their disks stalled, or does the network between lose what is large?", ErrStalled, after)
}

// canary proves every second that this term commits (S14).
func (t *term) canary(ctx context.Context) error {
	last := t.mono()
	for seq := uint64(1); ; seq++ {
		proposed := t.mono()
		err := t.commitCanary(ctx, seq, last)
		var no *errRejected
		switch {
		case ctx.Err() != nil:
			return nil
		case errors.As(err, &no):
			// The cluster's time stands still (S21). This node goes on to lead, so
			// that an operator can accept the time; nothing is renewed meanwhile.
			t.log.Error("nothing can be decided", "reason", no.reason, "do", "if the clocks are right, run lifeboat ha accept-time")
		case err != nil:
			return err
		default:
			t.node.metrics.commit.Observe((t.mono() - proposed).Seconds())
			t.contacts.committed(proposed)
		}
		last = t.mono()
		if !pause(ctx, canaryEvery-(last-proposed)) {
			return nil
		}
	}
}

// commitCanary proposes one and waits for what becomes of it; last is when something was
// committed before. The error is ErrStalled when this node must end.
func (t *term) commitCanary(ctx context.Context, seq uint64, last time.Duration) error {
	// Counted from the last commit; but not when this process was frozen since.
	first := max(canaryStall-(t.mono()-last), canaryStall-2*canaryEvery)
	limited, cancel := context.WithTimeout(ctx, first)
	defer cancel()
	written := t.node.raft.LastIndex()
	f, err := t.submit(limited, "", &logpb.Command{Body: &logpb.Command_Canary{Canary: &logpb.Canary{Node: t.node.cfg.ID, Term: t.number, Seq: seq}}})
	if err != nil {
		return err
	}
	outcome := make(chan error, 1)
	go func() {
		_, err := t.await(context.Background(), f) // also when it comes late: it proves what it proves
		outcome <- err
	}()
	patience := time.NewTimer(first)
	defer patience.Stop()
	most := unheardStall(t.node.fsm.State().Policy)
	for {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case err := <-outcome:
			if errors.Is(err, context.DeadlineExceeded) { // Raft did not even take it
				return errStalled
			}
			return err
		case <-patience.C:
		}
		silent := t.mono() - last
		if t.node.raft.LastIndex() == written {
			return errStalled
		}
		if silent >= most {
			return errUnheard(most)
		}
		t.log.Warn("the other nodes answer, but take no entry; nothing is decided until they do", "for", silent.Round(time.Millisecond), "at_most", most)
		patience.Reset(most - silent)
	}
}
