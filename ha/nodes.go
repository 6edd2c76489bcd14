package ha

import (
	"cmp"
	"fmt"
	"slices"
	"time"

	"lifeboat/fsm"
	"lifeboat/fsm/logpb"
)

// Peer is what a leader knows of a management node and the log does not.
type Peer struct {
	Voter  bool
	Heard  bool          // in this term
	Quiet  time.Duration // since it was heard last
	Lag    uint64        // entries behind the commit index then
	State  uint64        // index of the newest change of its state that it knew then
	Agents int           // hosts whose agents came to it then
}

// Crew are the members of the cluster as the leader, Self, knows them.
type Crew struct {
	Self  fsm.NodeID
	Peers map[fsm.NodeID]Peer
}

// NodePlan is what is to be done now about the states of the management nodes.
type NodePlan struct {
	Commands []*logpb.Command
	// HandOver is who is to lead instead of Self; "" = Self leads on.
	HandOver fsm.NodeID
}

const (
	// ReadyFor is how long a node may be ReadyToShutDown.
	ReadyFor = time.Hour
	// successorQuiet is the longest silence of a node that is to lead next: two
	// hellos.
	successorQuiet = 2 * time.Second
)

// SteerNodes moves nodes on that carry nothing any more, back whose time is over,
// and the leadership away from one that should not have it. wall is the time of
// the log, unix ns.
func SteerNodes(s *fsm.State, crew Crew, wall int64) NodePlan {
	var plan NodePlan
	steer := func(n *fsm.Node, step fsm.NodeStep, within time.Duration, reason string) {
		plan.Commands = append(plan.Commands, &logpb.Command{Body: &logpb.Command_NodeSteer{NodeSteer: &logpb.NodeSteer{
			Id: string(n.ID), RunId: n.RunID, Step: uint32(step), WithinNs: int64(within), Reason: reason}}})
	}
	for id, n := range s.Nodes() {
		switch waits := Waits(s, crew, n); {
		case !n.Withdrawn():
			continue
		case preparing(n) && waits == "":
			steer(n, fsm.StepNothingLeft, ReadyFor, "")
		case n.Until != 0 && wall >= n.Until:
			steer(n, fsm.StepDeadline, 0, overdue(n, waits))
		}
		if id == crew.Self {
			plan.HandOver = Successor(s, crew)
		}
	}
	return plan
}

func preparing(n *fsm.Node) bool {
	return n.State == fsm.NodePreparingForMaintenance || n.State == fsm.NodePreparingForShutDown
}

// overdue says why a node returns from a state whose deadline has passed.
func overdue(n *fsm.Node, waits string) string {
	within := time.Duration(n.Until - n.Since)
	switch n.State {
	case fsm.NodeMaintenance:
		return fmt.Sprintf("the time of its maintenance, %s, is over", within)
	case fsm.NodeReadyToShutDown:
		return fmt.Sprintf("nobody shut it down within %s", within)
	case fsm.NodeShuttingDown:
		return fmt.Sprintf("it did not stop within %s; look at its log", within)
	}
	return fmt.Sprintf("it was not ready within %s: %s", within, waits)
}

// Waits says what a node that should carry nothing carries yet; "" = nothing, or
// it is at work.
func Waits(s *fsm.State, crew Crew, n *fsm.Node) string {
	p := crew.Peers[n.ID]
	switch {
	case !n.Withdrawn():
		return ""
	case n.ID == crew.Self && Successor(s, crew) == "":
		return "it leads, and no other node that is Up could"
	case n.ID == crew.Self:
		return "it leads"
	case preparing(n) && (!p.Heard || p.State != n.Index):
		return "it has not said yet what it carries"
	case p.Agents == 1:
		return "the agent of one host comes to it"
	case p.Agents > 0:
		return fmt.Sprintf("the agents of %d hosts come to it", p.Agents)
	}
	return ""
}

// Successor is the node that should lead next: one at work that was heard lately,
// the least behind; "" = there is none.
func Successor(s *fsm.State, crew Crew) fsm.NodeID {
	var fit []fsm.NodeID
	for id, n := range s.Nodes() {
		if p := crew.Peers[id]; id != crew.Self && n.AtWork() && p.Voter && p.Heard && p.Quiet <= successorQuiet {
			fit = append(fit, id)
		}
	}
	if len(fit) == 0 {
		return ""
	}
	return slices.MinFunc(fit, func(a, b fsm.NodeID) int {
		return cmp.Or(cmp.Compare(crew.Peers[a].Lag, crew.Peers[b].Lag), cmp.Compare(a, b))
	})
}
