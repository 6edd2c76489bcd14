package node

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"time"

	"connectrpc.com/connect"
	"github.com/hashicorp/raft"

	lifeboatv1 "lifeboat/api/lifeboat/v1"
	"lifeboat/fsm"
	"lifeboat/fsm/logpb"
	"lifeboat/transport"
)

const (
	// stableFor is how long a node without a vote must have kept up before it gets
	// one: a node that comes and goes would make the majority larger and not be there.
	stableFor = 5 * time.Second
	// keptUp is how many entries behind still counts as keeping up.
	keptUp = 256
	// shapeEvery is the pause between two looks at the members.
	shapeEvery = 500 * time.Millisecond
)

// welcome makes a node that was admitted by a token a member without a vote, when it
// has come.
func (m *members) welcome(ctx context.Context, req *lifeboatv1.HelloRequest) error {
	n := m.t.node
	if err := n.freeAddress(req.Id, req.Addr); err != nil {
		return err
	}
	if err := m.admit(ctx, &logpb.NodeAdmit{Id: req.Id, Step: 1, Addr: req.Addr}, func() raft.IndexFuture {
		return n.raft.AddNonvoter(raft.ServerID(req.Id), raft.ServerAddress(req.Addr), 0, memberTimeout)
	}); err != nil {
		return connect.NewError(connect.CodeUnavailable, fmt.Errorf("make node %s a member: %w", req.Id, err))
	}
	return nil
}

// admit commits why the members change, and then the change.
func (m *members) admit(ctx context.Context, why *logpb.NodeAdmit, change func() raft.IndexFuture) error {
	return m.t.node.reshape(ctx, m.saying(ctx, "", &logpb.Command{Body: &logpb.Command_NodeAdmit{NodeAdmit: why}}), change)
}

// saying is a command that says why the members change.
func (m *members) saying(ctx context.Context, actor string, why *logpb.Command) func() error {
	return func() error {
		_, err := m.t.propose(ctx, actor, why)
		return err
	}
}

// shape keeps the members as they should be: who has caught up gets a vote, who has
// moved is reached at the new address, and who is dead for long is taken out where
// the policy says so. One change at a time; what fails is tried again.
func (m *members) shape(ctx context.Context) error {
	since := map[raft.ServerID]time.Duration{} // when a node without a vote began to keep up
	for pause(ctx, shapeEvery) {
		n := m.t.node
		s := n.fsm.State()
		servers, err := n.servers()
		if err != nil || s.Level < fsm.LevelJoin {
			continue
		}
		why, change := m.nextShape(s, servers, since)
		if change == nil {
			continue
		}
		if err := change(ctx); err != nil && ctx.Err() == nil && !errors.Is(err, errReshaping) {
			m.t.log.Warn("the members could not be changed; it is tried again", "change", why, "error", err)
		}
	}
	return nil
}

// nextShape is what should be changed next; nil = nothing.
func (m *members) nextShape(s *fsm.State, servers []raft.Server, since map[raft.ServerID]time.Duration) (why string, change func(context.Context) error) {
	n := m.t.node
	for _, srv := range servers {
		x := s.Node(fsm.NodeID(srv.ID))
		ago, lag, heard := m.lastSeen(fsm.NodeID(srv.ID))
		here := x.AtWork() && heard && ago < maxLag
		moved := m.movedTo(srv)
		if srv.Suffrage == raft.Voter || !here || lag > keptUp {
			delete(since, srv.ID)
		} else if _, ok := since[srv.ID]; !ok {
			since[srv.ID] = m.t.mono()
		}
		began, keeps := since[srv.ID]
		switch id := string(srv.ID); {
		case moved != "":
			return fmt.Sprintf("node %s is at %s", id, moved), func(ctx context.Context) error {
				if err := n.isAt(ctx, id, moved); err != nil {
					return err
				}
				return m.admit(ctx, &logpb.NodeAdmit{Id: id, Step: 3, Addr: moved}, func() raft.IndexFuture {
					if srv.Suffrage == raft.Voter {
						return n.raft.AddVoter(srv.ID, raft.ServerAddress(moved), 0, memberTimeout)
					}
					return n.raft.AddNonvoter(srv.ID, raft.ServerAddress(moved), 0, memberTimeout)
				})
			}
		case keeps && m.t.mono()-began >= stableFor:
			return fmt.Sprintf("node %s gets a vote", id), func(ctx context.Context) error {
				return m.admit(ctx, &logpb.NodeAdmit{Id: id, Step: 2}, func() raft.IndexFuture {
					return n.raft.AddVoter(srv.ID, srv.Address, 0, memberTimeout)
				})
			}
		case m.dead(s, x, srv, servers):
			return fmt.Sprintf("node %s has been Down for long and is removed", id), func(ctx context.Context) error {
				why := &logpb.Command{Body: &logpb.Command_NodeControl{NodeControl: &logpb.NodeControl{Id: id, Action: uint32(fsm.GoingRemove)}}}
				return n.reshape(ctx, m.saying(ctx, "policy dead_node_cleanup", why), func() raft.IndexFuture { return n.raft.RemoveServer(srv.ID, 0, memberTimeout) })
			}
		}
	}
	return "", nil
}

// isAt checks that a node is reached at an address: from the moment on that it stands
// in the configuration the log goes there and nowhere else, and a slip of the pen in
// advertise could cost the majority.
func (n *Node) isAt(ctx context.Context, id, addr string) error {
	if err := n.freeAddress(id, addr); err != nil {
		return err
	}
	client := transport.NewHTTPClient(n.deps.Creds, transport.ClientOptions{NameOf: func(string) string { return id }, Dial: transport.DialOptions{Dial: n.deps.Dial}})
	defer transport.HangUp(client)
	ctx, cancel := context.WithTimeout(ctx, maxLag)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "https://"+addr+"/", nil)
	if err != nil {
		return fmt.Errorf("look for node %s at %s: %w", id, addr, err)
	}
	resp, err := client.Do(req)
	if err != nil {
		return fmt.Errorf("node %s says that it is at %s, and is not reached there; correct its advertise: %w", id, addr, err)
	}
	return resp.Body.Close()
}

// leastVoters are left by the cleanup of dead nodes.
const leastVoters = 3

// dead reports whether a node is to be removed because it has been Down for as long
// as the policy says. The rest must be able to go without it, and a term that is
// younger than the time has seen too little of it.
func (m *members) dead(s *fsm.State, x *fsm.Node, srv raft.Server, servers []raft.Server) bool {
	after := s.Policy.DeadNodeCleanup
	if after == 0 || x == nil || x.State != fsm.NodeDown || time.Duration(s.Time-x.Since) < after || m.quiet(x.ID) < min(after, time.Minute) {
		return false
	}
	c, _ := countWithout(servers, s, x.ID)
	return srv.Suffrage != raft.Voter || c.voters >= leastVoters && c.up >= leastVoters && tolerance(c.up, c.voters) >= 1
}
