package node

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"connectrpc.com/connect"
	"github.com/hashicorp/raft"

	lifeboatv1 "lifeboat/api/lifeboat/v1"
	"lifeboat/fsm"
	"lifeboat/fsm/logpb"
	"lifeboat/ha"
)

const (
	// levelNodes is the feature level that knows how nodes leave, and their states.
	levelNodes = 2
	// prepareWithin is the deadline of a preparation for which none is given.
	prepareWithin = 5 * time.Minute
	// stopWithin is how long a node may take to be gone once it shuts down.
	stopWithin = 5 * time.Minute
)

// nodeSteps are the actions on a node that change its state.
var nodeSteps = map[string]fsm.NodeStep{
	"maintenance-on": fsm.StepMaintain, "maintenance-off": fsm.StepResume,
	"shutdown-prepare": fsm.StepPrepareStop, "shutdown-cancel": fsm.StepCancelStop, "shutdown-trigger": fsm.StepStop,
}

// steerNode commits an operator's wish about the state of a node.
func (t *term) steerNode(ctx context.Context, q *lifeboatv1.ControlNodeRequest, step fsm.NodeStep) (*lifeboatv1.WriteResponse, error) {
	n := t.node
	if !n.reshaping.TryLock() {
		return nil, errReshaping
	}
	defer n.reshaping.Unlock() // who may go is counted one after the other
	servers, err := n.servers()
	if err != nil {
		return nil, err
	}
	s := n.fsm.State()
	x, member := countWithout(servers, s, fsm.NodeID(q.Id))
	was := s.Node(fsm.NodeID(q.Id))
	switch why := x.absence(q.Id, q.Force); {
	case !member || was == nil:
		return nil, notFound("node %s is not a member, or was never up; `lifeboat node list` shows the nodes", q.Id)
	case leaves(was, step) && why != "":
		return nil, connect.NewError(connect.CodeFailedPrecondition, errors.New(why))
	}
	if err := n.needs(t, s, levelNodes); err != nil {
		return nil, err
	}
	within := time.Duration(q.WithinMs) * time.Millisecond
	switch {
	case q.WithinMs < 0 || q.WithinMs > fsm.MaxNodeWithin.Milliseconds() || q.ForMs < 0 || q.ForMs > fsm.MaxNodeFor.Milliseconds():
		return nil, refuse("a deadline is between 1ms and %s, a maintenance lasts %s at most", fsm.MaxNodeWithin, fsm.MaxNodeFor)
	case step == fsm.StepStop:
		within = stopWithin
	case within == 0:
		within = prepareWithin
	}
	// Not given up when the caller is gone: the next one is counted after this one.
	r, err := t.write(context.WithoutCancel(ctx), &logpb.Command{Body: &logpb.Command_NodeSteer{NodeSteer: &logpb.NodeSteer{
		Id: q.Id, RunId: was.RunID, Step: uint32(step), WithinNs: int64(within), ForNs: q.ForMs * int64(time.Millisecond), Force: q.Force}}}, "")
	if err != nil {
		return nil, err
	}
	if r.DoneBefore {
		return r, nil
	}
	y, _ := countWithout(servers, n.fsm.State(), was.ID)
	r.Message = steered(was, n.fsm.State().Node(was.ID), within) + ". " + y.now().sentence()
	return r, nil
}

// leaves reports whether a step takes a node away from its duties, so that the rest
// must be able to go without it.
func leaves(n *fsm.Node, step fsm.NodeStep) bool {
	switch step {
	case fsm.StepMaintain:
		return n.AtWork()
	case fsm.StepPrepareStop:
		return n.AtWork() || n.State == fsm.NodePreparingForMaintenance || n.State == fsm.NodeMaintenance
	case fsm.StepStop:
		return n.State == fsm.NodeReadyToShutDown
	}
	return false
}

// steered says what became of a node.
func steered(was, is *fsm.Node, within time.Duration) string {
	switch {
	case is != nil && is.State == was.State && is.Until > was.Until:
		return fmt.Sprintf("node %s stays in state %s until %s", is.ID, is.State, time.Unix(0, is.Until).UTC().Format(time.RFC3339))
	case is == nil || is.State == was.State:
		return fmt.Sprintf("node %s is in state %s, as it was", was.ID, was.State)
	case is.State == fsm.NodePreparingForMaintenance:
		return fmt.Sprintf("node %s prepares for maintenance: it hands over what it carries, and is Up again if that takes longer than %s; `lifeboat node list` shows how far it is", is.ID, within)
	case is.State == fsm.NodePreparingForShutDown:
		return fmt.Sprintf("node %s prepares to shut down: it hands over what it carries, and is Up again if that takes longer than %s; once it is ready, `lifeboat node shutdown trigger %s` stops it", is.ID, within, is.ID)
	case is.State == fsm.NodeShuttingDown:
		return fmt.Sprintf("node %s stops now", is.ID)
	}
	return fmt.Sprintf("node %s is %s", is.ID, is.State)
}

// absence says why a voter should not leave its duties for a time; "" = it may. It
// stays a voter: the majority does not become smaller.
func (c count) absence(id string, force bool) string {
	votes := c.votersNow != c.voters
	after := tolerance(c.up, c.votersNow)
	switch {
	case force || !votes:
		return ""
	case c.only:
		return fmt.Sprintf("node %s is the only voter: nobody could take over what it does; add another node first (--force overrides this)", id)
	case after < 0:
		return fmt.Sprintf("without %s only %d of %d voters would be at work, which is no majority; bring the others up first (--force overrides this)", id, c.up, c.votersNow)
	case after < 1 && tolerance(c.upNow, c.votersNow) >= 1:
		return fmt.Sprintf("without %s the cluster would survive no failure: %d of %d voters would be at work, and a majority is %d; add nodes first, or accept that for as long as it takes with --force",
			id, c.up, c.votersNow, c.votersNow/2+1)
	}
	return ""
}

// absent are sentences about nodes that run and are not to be counted on.
func (n *Node) absent(s *fsm.State) (notes []string) {
	for id, x := range s.Nodes() {
		if !x.Withdrawn() {
			continue
		}
		note := fmt.Sprintf("management node %s is in state %s", id, x.State)
		if servers, err := n.servers(); err == nil {
			c, _ := countWithout(servers, s, id)
			note += ": without it " + c.now().sentence()
		}
		notes = append(notes, note)
	}
	return notes
}

// now is the count as it stands, nobody left out.
func (c count) now() count {
	c.voters, c.up = c.votersNow, c.upNow
	return c
}

// tooNew refuses an entry that a member could not read: its replica would stop. A
// node that was never up is not judged, nor one that is about to go.
func tooNew(servers []raft.Server, s *fsm.State, level uint32, but fsm.NodeID) error {
	if n := older(servers, s, level, but); n != nil {
		return connect.NewError(connect.CodeFailedPrecondition, fmt.Errorf(
			"node %s runs version %s, which could not read this in the log, and would stop; install the version of the others there first", n.ID, n.Version))
	}
	return nil
}

// older is a member that does not know a feature level; nil = none is known to be so.
func older(servers []raft.Server, s *fsm.State, level uint32, but fsm.NodeID) *fsm.Node {
	for _, srv := range servers {
		if n := s.Node(fsm.NodeID(srv.ID)); n != nil && n.ID != but && n.Level < level {
			return n
		}
	}
	return nil
}

// withoutDown leaves out who is Down and too old for a level, and says so: forced, a
// dead node does not keep another one in the cluster.
func withoutDown(servers []raft.Server, s *fsm.State, level uint32, but fsm.NodeID) (rest []raft.Server, note string) {
	var down []string
	for _, srv := range servers {
		if n := s.Node(fsm.NodeID(srv.ID)); n != nil && n.ID != but && n.State == fsm.NodeDown && n.Level < level {
			down = append(down, string(n.ID))
			continue
		}
		rest = append(rest, srv)
	}
	if len(down) > 0 {
		note = fmt.Sprintf(". Node %s is Down and runs a version that could not read this in the log, and would stop: remove it too, or install the version of the others there before it starts again", strings.Join(down, ", "))
	}
	return rest, note
}

func (n *Node) servers() ([]raft.Server, error) {
	f := n.raft.GetConfiguration()
	if err := f.Error(); err != nil {
		return nil, fmt.Errorf("read the members: %w", err)
	}
	return f.Configuration().Servers, nil
}

// steer carries out what is to be done about the states of the nodes.
func (m *members) steer(ctx context.Context, s *fsm.State) error {
	n := m.t.node
	servers, err := n.servers()
	if err != nil {
		return nil // Raft ends
	}
	plan := ha.SteerNodes(s, m.crew(servers), m.t.wall())
	if _, err := m.t.carryOut(ctx, plan.Commands); err != nil {
		return err
	}
	if plan.HandOver != "" && time.Since(n.gaveAway) >= handOverEvery {
		n.gaveAway = time.Now()
		return fmt.Errorf("%w: this one is in state %s", errTransfer, s.Node(n.self()).State)
	}
	return nil
}

// crew is what this term knows of the members.
func (m *members) crew(servers []raft.Server) ha.Crew {
	m.mu.Lock()
	defer m.mu.Unlock()
	crew := ha.Crew{Self: m.t.node.self(), Peers: map[fsm.NodeID]ha.Peer{}}
	for _, srv := range servers {
		id := fsm.NodeID(srv.ID)
		at, heard := m.heard[id]
		crew.Peers[id] = ha.Peer{Voter: srv.Suffrage == raft.Voter, Heard: heard, Quiet: m.t.mono() - at, Lag: m.lag[id],
			State: m.said[id].state, Agents: m.said[id].agents}
	}
	return crew
}

// obey ends the process once the state says that this run is to shut down.
func (n *Node) obey(ctx context.Context) error {
	for {
		changed := n.fsm.Changed()
		if x := n.own(); x != nil && x.State == fsm.NodeShuttingDown {
			n.log.Info("this node was told to shut down", "node", n.cfg.ID)
			n.shutdown()
			return nil
		}
		select {
		case <-ctx.Done():
			return nil
		case <-changed:
		}
		if !pause(ctx, wakePause) {
			return nil
		}
	}
}
