package fsm

import (
	"fmt"
	"time"

	"lifeboat/fsm/logpb"
)

// nodeSteer moves a run of a management node from one state to another. Deadlines
// come with the entry; that one has passed is judged by the state's own record.
func (t *tx) nodeSteer(c *logpb.NodeSteer) string {
	n, step := t.s.Node(NodeID(c.Id)), NodeStep(c.Step)
	leaders := step == StepNothingLeft || step == StepDeadline
	switch {
	case n == nil || n.RunID != c.RunId:
		if leaders {
			return "" // late
		}
		return fmt.Sprintf("management node %s is not known, or has been restarted meanwhile; `lifeboat node list` shows the nodes", c.Id)
	case step == StepDeadline && t.now < n.Until:
		return "" // the clock of the leader that said so was fast
	case c.ForNs < 0 || c.ForNs > int64(MaxNodeFor):
		return fmt.Sprintf("a maintenance of %s is out of range; it may last %s at most", time.Duration(c.ForNs), MaxNodeFor)
	}
	to, no := n.next(step, c.Force)
	if no != "" {
		return no
	}
	x := *n
	switch {
	case to != n.State:
		x.State, x.Until, x.For, x.Reason, x.Since, x.Index = to, 0, 0, c.Reason, t.now, t.index
		switch to {
		case NodeUp:
		case NodeMaintenance:
			x.Until = t.after(n.For)
		default:
			if c.WithinNs <= 0 || c.WithinNs > int64(MaxNodeWithin) {
				return fmt.Sprintf("a deadline of %s is out of range; it must be above 0 and at most %s", time.Duration(c.WithinNs), MaxNodeWithin)
			}
			x.Until = t.after(c.WithinNs)
		}
		if to == NodePreparingForMaintenance {
			x.For = c.ForNs
		}
		t.steered(n, &x, step)
	case step != StepMaintain || c.ForNs == 0:
		return "" // it is so already
	case n.State == NodeMaintenance:
		x.Until = t.after(c.ForNs)
	default:
		x.For = c.ForNs
	}
	t.s.nodes.set(x.ID, &x)
	return ""
}

// after is the time when a span has passed, 0 for none.
func (t *tx) after(span int64) int64 {
	if span == 0 {
		return 0
	}
	return t.now + span
}

// steered tells a change of state. That a node had to come back is a warning.
func (t *tx) steered(old, n *Node, step NodeStep) {
	level := Info
	if step == StepDeadline && old.State != NodeMaintenance {
		level = Warning
	}
	text := fmt.Sprintf("management node %s is %s (was %s)", n.ID, n.State, old.State)
	if n.Until != 0 {
		text += fmt.Sprintf(", for %s at most", time.Duration(n.Until-t.now))
	}
	if n.Reason != "" {
		text += ": " + n.Reason
	}
	begun := EventID(0)
	if old.State != NodeUp {
		begun = old.Begun
	}
	id := t.linked(begun, "", "NODE.STATE", level, "node "+string(n.ID), text)
	if old.State == NodeUp && t.s.Level >= LevelPolicy {
		n.Begun = id
	}
}
