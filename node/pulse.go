package node

import (
	"context"
	"fmt"
	"time"

	"github.com/hashicorp/raft"

	"lifeboat/internal/lifecycle"
)

// Supervisor is told how a node fares; whoever is behind it (systemd) ends a
// process that says nothing any more. Its methods do not block for long.
type Supervisor interface {
	Every() time.Duration // how often Alive wants to be called
	Ready()               // it answers requests
	Alive(status string)  // it is well, and does this
	Stopping()            // its stop has begun
}

// supervision is the component that tells the supervisor. It comes last: a stop
// begins with it.
func (n *Node) supervision() lifecycle.Component {
	return lifecycle.Component{Name: "supervision", Run: n.pulse, Within: time.Second,
		Stop: func(context.Context, error) error { n.deps.Supervisor.Stopping(); return nil }}
}

// pulse says that this node is well for as long as Raft's loop answers a question
// and the state machine gets through what it is given. Nothing else counts,
// because silence ends the process and must be something that a restart can cure:
// not that there is no leader, nor that others cannot be reached. It is the last
// resort; a leader that cannot commit has ended itself long before (ErrStalled).
func (n *Node) pulse(ctx context.Context) error {
	every := n.deps.Supervisor.Every()
	var asked <-chan struct{} // not nil: Raft has not answered yet
	var was progress
	for first := true; first || pause(ctx, every); first = false {
		if asked == nil {
			asked = n.askRaft()
		}
		patience := time.NewTimer(every / 2)
		select {
		case <-asked:
			asked = nil
		case <-patience.C:
			n.log.Warn("Raft's loop does not answer", "within", every/2)
			continue
		case <-ctx.Done():
			return nil
		}
		is := n.progress()
		if is.waiting && is == was {
			n.log.Warn("the state machine does not get on", "index", is.index)
			continue
		}
		was = is
		n.deps.Supervisor.Alive(n.standing())
	}
	return nil
}

// askRaft closes the channel once Raft's loop has answered; any answer will do.
func (n *Node) askRaft() <-chan struct{} {
	answered := make(chan struct{})
	go func() {
		_ = n.raft.VerifyLeader().Error()
		close(answered)
	}()
	return answered
}

// progress is how far the state machine is.
type progress struct {
	index   uint64
	waiting bool // Raft has given it more
}

func (n *Node) progress() progress {
	return progress{index: n.fsm.State().Index, waiting: n.raft.Stats()["fsm_pending"] != "0"}
}

// standing is what this node does, in a few words.
func (n *Node) standing() string {
	if n.term.Load() != nil {
		return "leading"
	}
	if why := n.notReady(); why != "" {
		return why
	}
	if _, id := n.raft.LeaderWithID(); n.raft.State() != raft.Leader {
		return fmt.Sprintf("following %s", id)
	}
	return "ready"
}
