package node

import (
	"context"
	"errors"
	"time"

	"github.com/hashicorp/raft"
)

const (
	transferTimeout = 2 * time.Second
	farewellTimeout = 3 * time.Second
)

// withdraw is the first step of a stop: /readyz and /leader say no, another node
// leads, and load balancers get the time to notice. Until they have, this node
// answers. Hellos go on for that time and no longer, whatever hangs here: the
// node must be Down soon.
func (n *Node) withdraw(ctx context.Context, why error) error {
	began := time.Now()
	n.leaving.Store(true)
	if speechless(why) {
		// Raft goes on with its heartbeats, even where its disk hangs: they must not
		// keep the others from electing.
		n.hushed.Store(true)
		n.streams.Hangup()
		return nil
	}
	time.AfterFunc(n.cfg.drainTime(), func() { n.hushed.Store(true) })
	n.stepDown(ctx)
	pause(ctx, n.cfg.drainTime()-time.Since(began))
	return nil
}

// speechless is a node that can or may tell the others nothing: it does not
// commit, or it has a state that they need not have.
func speechless(why error) bool {
	return errors.Is(why, ErrStalled) || errors.Is(why, ErrRestore) || errors.Is(why, ErrContradicted)
}

// stepDown gives leadership away, if there is anybody to take it.
func (n *Node) stepDown(ctx context.Context) {
	if n.raft.State() != raft.Leader || len(n.others()) == 0 {
		return
	}
	if err := n.giveAway(ctx); err != nil {
		n.log.Warn("leadership could not be given away; the others will elect", "error", err)
	}
}

// farewell tells the leader that this node stops.
func (n *Node) farewell(ctx context.Context, why error) error {
	n.hushed.Store(true)
	if speechless(why) {
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, farewellTimeout)
	defer cancel()
	select {
	case n.greeting <- struct{}{}: // not before a hello that is out has been answered
		<-n.greeting
	case <-ctx.Done():
	}
	n.stepDown(ctx) // it may have been elected anew
	for first := true; first || pause(ctx, 50*time.Millisecond); first = false {
		if !n.isMember(n.self()) {
			return nil // it has left for good
		}
		if err := n.sayHello(ctx, true); err == nil {
			return nil
		}
	}
	n.log.Warn("no leader could be told that this node stops; it will be missed instead")
	return nil
}
