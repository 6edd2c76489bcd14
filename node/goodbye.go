package node

import (
	"context"
	"errors"
	"fmt"
	"time"

	"connectrpc.com/connect"
	"github.com/hashicorp/raft"

	lifeboatv1 "lifeboat/api/lifeboat/v1"
	"lifeboat/api/lifeboat/v1/lifeboatv1connect"
	"lifeboat/fsm"
	"lifeboat/fsm/logpb"
	"lifeboat/transport"
)

// memberTimeout bounds a change of the members: it takes the new majority.
const memberTimeout = 10 * time.Second

func (t *term) controlNode(ctx context.Context, q *lifeboatv1.ControlNodeRequest) (*lifeboatv1.WriteResponse, error) {
	if step, ok := nodeSteps[q.Action]; ok {
		return t.steerNode(ctx, q, step)
	}
	switch q.Action {
	case "transfer-leadership":
		if askedIn(ctx) != nil {
			return nil, refuse("a transfer of leadership takes no request id: it is no entry of the log; nothing was changed: leave it out")
		}
		return t.transfer(ctx, q)
	case "remove":
		return t.takeOut(ctx, q, fsm.GoingRemove)
	case "leave":
		return t.takeOut(ctx, q, fsm.GoingLeave)
	}
	return nil, refuse("%q is no action on a node; it is leave, remove, transfer-leadership, maintenance-on, maintenance-off, shutdown-prepare, shutdown-cancel or shutdown-trigger", q.Action)
}

// errReshaping is a second change of the members at the same time.
var errReshaping = connect.NewError(connect.CodeFailedPrecondition, errors.New("another change of the members is under way; try again when it is done (`lifeboat node list`)"))

// reshape changes the members: one change at a time. why judges, and commits what the
// log is to say of it.
func (n *Node) reshape(ctx context.Context, why func() error, change func() raft.IndexFuture) error {
	if !n.reshaping.TryLock() {
		return errReshaping
	}
	if err := why(); err != nil {
		n.reshaping.Unlock()
		return err
	}
	return n.changed(ctx, change())
}

// changed waits for a change of the members and frees the lock when it has an outcome,
// also when the caller has gone by then.
func (n *Node) changed(ctx context.Context, change raft.IndexFuture) error {
	done := make(chan error, 1)
	go func() {
		err := change.Error()
		n.reshaping.Unlock()
		done <- err
	}()
	select {
	case <-ctx.Done():
		return ctx.Err()
	case err := <-done:
		return err
	}
}

// takeOut takes a node out of the cluster for good. A leave is orderly: a leader
// hands over first, and the next one takes it out.
func (t *term) takeOut(ctx context.Context, q *lifeboatv1.ControlNodeRequest, how fsm.Going) (*lifeboatv1.WriteResponse, error) {
	n := t.node
	if !n.reshaping.TryLock() {
		return nil, errReshaping
	}
	pending := false // the change is out, and may yet be made
	defer func() {
		if !pending {
			n.reshaping.Unlock()
		}
	}()
	f := n.raft.GetConfiguration()
	if err := f.Error(); err != nil {
		return nil, fmt.Errorf("read the members: %w", err)
	}
	x, member := countWithout(f.Configuration().Servers, n.fsm.State(), fsm.NodeID(q.Id))
	if invited := n.fsm.State().Node(fsm.NodeID(q.Id)); !member && invited != nil && invited.Invited {
		return t.write(ctx, &logpb.Command{Body: &logpb.Command_NodeControl{NodeControl: &logpb.NodeControl{Id: q.Id, Action: uint32(how)}}},
			fmt.Sprintf("node %s, which was admitted and never came, may not come any more", q.Id))
	}
	a := askedIn(ctx)
	came := n.fsm.State().Node(fsm.NodeID(q.Id)) // it is about who was there then
	switch why := x.refusal(q.Id, q.Force); {
	case a != nil && a.prior != nil && a.prior.Rejected == "" && came != nil && came.State != fsm.NodeDown && came.Index > a.prior.Index:
		return doneBefore(a.prior.Index, "")
	case !member && a != nil && a.prior != nil && a.prior.Rejected == "":
		return doneBefore(a.prior.Index, "")
	case !member:
		return nil, notFound("node %s is not a member; `lifeboat node list` shows them", q.Id)
	case why != "":
		return nil, connect.NewError(connect.CodeFailedPrecondition, errors.New(why))
	case q.Id == n.cfg.ID && how != fsm.GoingLeave:
		return nil, connect.NewError(connect.CodeFailedPrecondition, fmt.Errorf("node %s leads; let it leave in order with `lifeboat node leave %s`, or give leadership away first with `lifeboat node transfer-leadership`", q.Id, q.Id))
	}
	judged, passed := f.Configuration().Servers, ""
	if q.Force {
		judged, passed = withoutDown(judged, n.fsm.State(), levelNodes, fsm.NodeID(q.Id))
	}
	if err := tooNew(judged, n.fsm.State(), levelNodes, fsm.NodeID(q.Id)); err != nil {
		return nil, err
	}
	if q.Id == n.cfg.ID {
		return n.leaveByNext(ctx, q)
	}
	if _, err := t.write(ctx, &logpb.Command{Body: &logpb.Command_NodeControl{NodeControl: &logpb.NodeControl{Id: q.Id, Action: uint32(how)}}}, ""); err != nil {
		return nil, err
	}
	change := n.raft.RemoveServer(raft.ServerID(q.Id), f.Index(), memberTimeout)
	pending = true
	if err := n.changed(ctx, change); ctx.Err() != nil {
		return nil, err
	} else if err != nil {
		return nil, connect.NewError(connect.CodeAborted, fmt.Errorf("take node %s out: %w", q.Id, err))
	}
	return &lifeboatv1.WriteResponse{Index: change.Index(), Message: fmt.Sprintf("node %s %s; stop its server for good (`systemctl disable --now lifeboat-server` there). %s%s",
		q.Id, map[fsm.Going]string{fsm.GoingLeave: "has left the cluster", fsm.GoingRemove: "is removed from the cluster"}[how], x.sentence(), passed)}, nil
}

// leaveByNext hands leadership over and has the next leader take this node out.
func (n *Node) leaveByNext(ctx context.Context, q *lifeboatv1.ControlNodeRequest) (*lifeboatv1.WriteResponse, error) {
	ctx, cancel := context.WithTimeout(ctx, memberTimeout)
	defer cancel()
	if err := n.giveAway(ctx); err != nil {
		return nil, connect.NewError(connect.CodeFailedPrecondition, fmt.Errorf("node %s leads and could not hand over: %w; nothing was changed, try again", n.cfg.ID, err))
	}
	id, _ := transport.IdentityFromContext(ctx)
	for pause(ctx, 20*time.Millisecond) {
		addr, leader := n.raft.LeaderWithID()
		if addr == "" || string(leader) == n.cfg.ID {
			continue
		}
		out := connect.NewRequest(q)
		out.Header().Set(headerBehalf, id.String())
		if id := requestID(ctx); id != "" {
			out.Header().Set(lifeboatv1.HeaderRequestID, id)
		}
		r, err := lifeboatv1connect.NewAdminServiceClient(n.client, "https://"+string(addr)).ControlNode(ctx, out)
		switch {
		case err == nil:
			return r.Msg, nil
		case connect.CodeOf(err) != connect.CodeUnavailable || !connect.IsWireError(err):
			return nil, passOn(err)
		}
	}
	return nil, connect.NewError(connect.CodeFailedPrecondition, fmt.Errorf("node %s has given leadership away, but no other node leads yet; it is still a member, try again", n.cfg.ID))
}

// count is what is left of the voters when one node goes.
type count struct {
	voters, up       int // without it
	votersNow, upNow int // with it
	only             bool
}

// countWithout counts the voters and those of them that are up, and not about to be
// stopped, without a node.
func countWithout(servers []raft.Server, s *fsm.State, id fsm.NodeID) (c count, member bool) {
	for _, srv := range servers {
		node := s.Node(fsm.NodeID(srv.ID))
		vote, up := srv.Suffrage == raft.Voter, node.AtWork()
		if fsm.NodeID(srv.ID) == id {
			member = true
		}
		if !vote {
			continue
		}
		c.votersNow++
		if up {
			c.upNow++
		}
		if fsm.NodeID(srv.ID) == id {
			continue
		}
		c.voters++
		if up {
			c.up++
		}
	}
	c.only = c.voters == 0
	return c, member
}

// tolerance is how many of the voters that are up may still fail; below zero
// there is no majority.
func tolerance(up, voters int) int { return up - (voters/2 + 1) }

// refusal says why a node should not go; "" = it may.
func (c count) refusal(id string, force bool) string {
	after := tolerance(c.up, c.voters)
	switch {
	case c.only:
		return fmt.Sprintf("node %s is the only voter: without it there is no cluster", id)
	case force:
		return ""
	case after < 0:
		return fmt.Sprintf("without %s only %d of %d voters would be up, which is no majority; bring the others up first (--force overrides this)", id, c.up, c.voters)
	case after < 1 && tolerance(c.upNow, c.votersNow) >= 1:
		return fmt.Sprintf("without %s the cluster would survive no failure any more: %d of %d voters would be up, and a majority is %d; add another node first (--force overrides this)",
			id, c.up, c.voters, c.voters/2+1)
	}
	return ""
}

// sentence says how the rest stands.
func (c count) sentence() string {
	left := max(tolerance(c.up, c.voters), 0)
	failures := "failures"
	if left == 1 {
		failures = "failure"
	}
	return fmt.Sprintf("%d of %d voters are at work: the cluster survives %d more %s", c.up, c.voters, left, failures)
}
