package fsm

import (
	"fmt"
	"time"
)

// NodeStep is what moves a running management node from one state to another;
// docs/decisions/node-states.md has the table. The numbers are the log's.
type NodeStep uint8

const (
	StepMaintain    NodeStep = iota + 1 // an operator: prepare for maintenance
	StepResume                          // an operator: the maintenance is over
	StepPrepareStop                     // an operator: prepare to shut down
	StepCancelStop                      // an operator: do not shut down
	StepStop                            // an operator: shut down
	StepNothingLeft                     // the leader: it carries nothing any more
	StepDeadline                        // the leader: its time is over
)

const (
	// MaxNodeWithin bounds the deadline of a state.
	MaxNodeWithin = 30 * 24 * time.Hour
	// MaxNodeFor bounds a maintenance that ends by itself.
	MaxNodeFor = 365 * 24 * time.Hour
)

// AtWork reports whether a node is there to lead and to be asked: it is Up, and
// nobody is about to stop it.
func (n *Node) AtWork() bool { return n != nil && n.State == NodeUp }

// Withdrawn reports whether a node runs, and nobody should come to it.
func (n *Node) Withdrawn() bool { return n != nil && n.State != NodeUp && n.State != NodeDown }

// next is the state that a step leads to, the same one if it changes nothing; or
// a sentence about why it cannot be taken. Every pair has one.
func (n *Node) next(step NodeStep, force bool) (to NodeState, no string) {
	switch step {
	case StepMaintain:
		switch n.State {
		case NodeUp:
			return NodePreparingForMaintenance, ""
		case NodePreparingForMaintenance, NodeMaintenance:
			return n.State, ""
		}
	case StepResume:
		switch n.State {
		case NodePreparingForMaintenance, NodeMaintenance:
			return NodeUp, ""
		case NodeUp, NodeDown:
			return n.State, ""
		}
	case StepPrepareStop:
		switch n.State {
		case NodeUp, NodePreparingForMaintenance, NodeMaintenance:
			return NodePreparingForShutDown, ""
		case NodePreparingForShutDown, NodeReadyToShutDown:
			return n.State, ""
		}
	case StepCancelStop:
		switch n.State {
		case NodePreparingForShutDown, NodeReadyToShutDown:
			return NodeUp, ""
		case NodeUp, NodeDown:
			return n.State, ""
		}
	case StepStop:
		switch {
		case n.State == NodeDown:
		case n.State == NodeShuttingDown:
			return n.State, ""
		case n.State == NodeReadyToShutDown || force:
			return NodeShuttingDown, ""
		default:
			return n.State, fmt.Sprintf("management node %s is in state %s, not ReadyToShutDown; prepare it with `lifeboat node shutdown prepare %s` and wait until it is ready (--force stops it at once)", n.ID, n.State, n.ID)
		}
	case StepNothingLeft:
		switch n.State {
		case NodePreparingForMaintenance:
			return NodeMaintenance, ""
		case NodePreparingForShutDown:
			return NodeReadyToShutDown, ""
		}
		return n.State, ""
	case StepDeadline:
		if n.Until == 0 || !n.Withdrawn() {
			return n.State, ""
		}
		return NodeUp, ""
	default:
		return n.State, "this version of lifeboat knows no such step of a management node; install the version that asked for it"
	}
	return n.State, n.obstacle()
}

// obstacle says what an operator does about a state in which a step cannot be
// taken.
func (n *Node) obstacle() string {
	switch n.State {
	case NodeDown:
		return fmt.Sprintf("management node %s is Down: it carries nothing, and can be worked on as it is", n.ID)
	case NodePreparingForMaintenance, NodeMaintenance:
		return fmt.Sprintf("management node %s is in state %s; `lifeboat node maintenance off %s` ends that", n.ID, n.State, n.ID)
	case NodeShuttingDown:
		return fmt.Sprintf("management node %s is ShuttingDown, which cannot be called off; it is Up when its server is started again", n.ID)
	}
	return fmt.Sprintf("management node %s is in state %s; `lifeboat node shutdown cancel %s` ends that", n.ID, n.State, n.ID)
}
