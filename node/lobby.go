package node

import (
	"context"
	"errors"
	"sync"
	"time"

	"github.com/hashicorp/raft"
)

// lobby is where requests of agents wait while this node has no leader to pass them on
// to. A fleet that is sent away comes again and again, and what elects must not wait
// for it.
type lobby struct {
	mu   sync.Mutex
	news chan struct{}      // closed when who leads may have changed; nil = nobody waits
	gone raft.ServerAddress // the leader that could not be reached last
	at   time.Time          // when that was
}

// absentFor is how long a leader that could not be reached is not tried again. Raft
// names it until its own patience ends, and to find out again for each agent takes more
// than to have them wait.
const absentFor = 300 * time.Millisecond

// changed is closed when who leads may have changed since the call.
func (l *lobby) changed() <-chan struct{} {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.news == nil {
		l.news = make(chan struct{})
	}
	return l.news
}

// open has those look again who wait.
func (l *lobby) open() {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.news != nil {
		close(l.news)
		l.news = nil
	}
}

// missed notes a leader that could not be reached.
func (l *lobby) missed(addr raft.ServerAddress) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.gone, l.at = addr, time.Now()
}

// lately says whether a leader could not be reached a moment ago.
func (l *lobby) lately(addr raft.ServerAddress) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.gone == addr && time.Since(l.at) < absentFor
}

// usher opens the lobby whenever Raft says that somebody leads, or nobody.
func (n *Node) usher(ctx context.Context) error {
	seen := make(chan raft.Observation, 16)
	o := raft.NewObserver(seen, false, func(o *raft.Observation) bool { _, leads := o.Data.(raft.LeaderObservation); return leads })
	n.raft.RegisterObserver(o)
	defer n.raft.DeregisterObserver(o)
	for {
		n.lobby.open() // for what was before the first one, too
		select {
		case <-ctx.Done():
			return nil
		case <-seen:
		}
	}
}

// leaderKnown says whether there is somebody to do what agents ask: this node, or one
// that it passes it on to. A node that is no member says so itself.
func (n *Node) leaderKnown() bool {
	if n.term.Load() != nil || !n.isMember(n.self()) {
		return true
	}
	addr, id := n.raft.LeaderWithID()
	return addr != "" && string(id) != n.cfg.ID && !n.lobby.lately(addr)
}

// awaitLeader waits until there is a leader, for half a beat at most: an agent that hears
// nothing for longer would take this node for dead, and one that could reach another node
// with a leader must get there before its host is suspect. The error is for the agent.
func (n *Node) awaitLeader(ctx context.Context) error {
	if n.leaderKnown() {
		return nil
	}
	ctx, done := n.calls.repeatable(ctx)
	defer done()
	patience := time.NewTimer(n.fsm.State().Policy.Beat / 2)
	defer patience.Stop()
	for {
		changed := n.lobby.changed()
		if n.leaderKnown() {
			return nil
		}
		select {
		case <-changed:
		case <-patience.C:
			return noLeader()
		case <-ctx.Done():
			if errors.Is(context.Cause(ctx), errStopping) {
				return errStopping
			}
			return context.Cause(ctx)
		}
	}
}
