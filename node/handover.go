package node

import (
	"context"
	"errors"
	"fmt"
	"time"

	"connectrpc.com/connect"
	"github.com/hashicorp/raft"

	lifeboatv1 "lifeboat/api/lifeboat/v1"
	"lifeboat/fsm"
	"lifeboat/ha"
)

// handOverEvery bounds how often a node that should not lead gives leadership
// away by itself: whoever has it next may have to give it back.
const handOverEvery = 10 * time.Second

// transfer gives leadership to a node, or to whoever fits best.
func (t *term) transfer(ctx context.Context, q *lifeboatv1.ControlNodeRequest) (*lifeboatv1.WriteResponse, error) {
	n := t.node
	if q.Id == n.cfg.ID {
		return &lifeboatv1.WriteResponse{Index: n.fsm.State().Index, Message: "node " + q.Id + " leads already"}, nil
	}
	if q.Id != "" {
		servers, err := n.servers()
		if err != nil {
			return nil, err
		}
		p, x := t.members.crew(servers).Peers[fsm.NodeID(q.Id)], n.fsm.State().Node(fsm.NodeID(q.Id))
		switch {
		case x == nil || !n.isMember(x.ID):
			return nil, notFound("node %s is not a member, or was never up; `lifeboat node list` shows the nodes", q.Id)
		case !x.AtWork():
			return nil, connect.NewError(connect.CodeFailedPrecondition, fmt.Errorf("node %s is in state %s and is not to lead; choose one that is Up", q.Id, x.State))
		case !p.Voter:
			return nil, connect.NewError(connect.CodeFailedPrecondition, fmt.Errorf("node %s is no voter and cannot lead yet; wait until it has caught up (`lifeboat node list`)", q.Id))
		}
	}
	give := n.giveAway
	if q.Id != "" {
		give = func(ctx context.Context) error { return n.handOver(ctx, fsm.NodeID(q.Id)) }
	}
	if err := give(ctx); err != nil {
		return nil, connect.NewError(connect.CodeFailedPrecondition, fmt.Errorf("leadership could not be given away: %w", err))
	}
	message := "node " + n.cfg.ID + " has given its leadership away"
	if q.Id != "" {
		message += " to node " + q.Id
	}
	return &lifeboatv1.WriteResponse{Index: n.fsm.State().Index, Message: message}, nil
}

// giveAway transfers leadership and waits until it is gone. Raft takes the newest
// of the other voters; while one of them is withdrawn, it is told whom to take.
func (n *Node) giveAway(ctx context.Context) error {
	to := fsm.NodeID("")
	if m := n.heard.Load(); m != nil {
		servers, err := n.servers()
		if err != nil {
			return err
		}
		s := n.fsm.State()
		for _, srv := range servers {
			if id := fsm.NodeID(srv.ID); id != n.self() && s.Node(id).Withdrawn() {
				to = ha.Successor(s, m.crew(servers))
			}
		}
	}
	return n.handOver(ctx, to)
}

// handOver transfers leadership to a node, "" = Raft's choice, and waits until it is
// gone.
func (n *Node) handOver(ctx context.Context, to fsm.NodeID) error {
	servers, err := n.servers()
	if err != nil {
		return err
	}
	transfer := n.raft.LeadershipTransfer
	for _, srv := range servers {
		if to != "" && fsm.NodeID(srv.ID) == to {
			transfer = func() raft.Future { return n.raft.LeadershipTransferToServer(srv.ID, srv.Address) }
		}
	}
	done := make(chan error, 1)
	go func() { done <- transfer().Error() }()
	ctx, cancel := context.WithTimeout(ctx, transferTimeout)
	defer cancel()
	select {
	case err := <-done:
		if err != nil && !errors.Is(err, raft.ErrLeadershipTransferInProgress) {
			return err
		}
	case <-ctx.Done():
	}
	for n.raft.State() == raft.Leader {
		if !pause(ctx, 20*time.Millisecond) {
			return ErrStalled
		}
	}
	return nil
}
