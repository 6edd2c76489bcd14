package node

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"time"

	"github.com/hashicorp/raft"
)

const (
	// beginLook is how often a node that was elected looks for the first entry of its
	// term, which is written while it does; nobody can be told sooner than that takes.
	beginLook = 2 * time.Millisecond
	// catchLook is how often it looks whether it gets on.
	catchLook = time.Second
)

// begin waits until a term can be led: its first entry is in this node's log, and
// everything that earlier terms committed is applied here. A node whose disk stalls as it
// is elected heartbeats like any other leader, and Raft takes nothing from it, not even
// the question; the error is ErrStalled then. What else takes long is waited for: after a
// restart of the whole cluster a log is applied, and a follower that was away for long
// gets a snapshot before it can take an entry.
func (n *Node) begin(ctx context.Context, term uint64) error {
	if err := n.firstEntry(ctx, term); err != nil {
		return err
	}
	written, outcome := n.raft.LastIndex(), n.askBarrier()
	waits := time.AfterFunc(canaryStall, func() {
		n.log.Warn("this node is elected, and leads when what earlier terms committed is applied here and another node takes entries", "term", term)
	})
	defer waits.Stop()
	look := time.NewTicker(catchLook)
	defer look.Stop()
	applied, still := n.fsm.State().Index, 0
	for {
		select {
		case <-ctx.Done():
			return errOver
		case err := <-outcome:
			return err
		case <-look.C:
		}
		// Raft's loop takes the barrier late where it waits for the state machine.
		now := n.fsm.State().Index
		if still++; now != applied || n.raft.LastIndex() != written {
			applied, still = now, 0
		}
		if time.Duration(still)*catchLook >= canaryStall {
			return errStalled
		}
	}
}

// firstEntry waits until the first entry of a term is in this node's log. It counts its
// looks, since a process that was frozen has not looked.
func (n *Node) firstEntry(ctx context.Context, term uint64) error {
	began := time.Now()
	for looks := 0; ; looks++ {
		newest, err := strconv.ParseUint(n.raft.Stats()["last_log_term"], 10, 64)
		if err != nil {
			return fmt.Errorf("read the term of the newest entry: %w", err)
		}
		if newest >= term {
			return nil
		}
		if looks >= 100 && time.Since(began) >= canaryStall {
			return errStalled
		}
		if !pause(ctx, beginLook) {
			return errOver
		}
	}
}

// barrier waits until everything earlier terms committed is applied here.
func (n *Node) barrier(ctx context.Context) error {
	select {
	case <-ctx.Done():
		return errOver
	case err := <-n.askBarrier():
		return err
	}
}

// askBarrier has Raft say when everything earlier terms committed is applied here. The
// question alone can take long: it is asked of Raft's loop.
func (n *Node) askBarrier() <-chan error {
	outcome := make(chan error, 1)
	go func() {
		err := n.raft.Barrier(0).Error()
		switch {
		case errors.Is(err, raft.ErrLeadershipLost), errors.Is(err, raft.ErrNotLeader):
			err = errOver
		case err != nil:
			err = fmt.Errorf("wait for the barrier: %w", err)
		}
		outcome <- err
	}()
	return outcome
}
