package node

import (
	"context"
	"strings"
	"testing"
	"time"

	"connectrpc.com/connect"
	"github.com/hashicorp/raft"

	lifeboatv1 "lifeboat/api/lifeboat/v1"
	"lifeboat/api/lifeboat/v1/lifeboatv1connect"
	"lifeboat/fsm"
	"lifeboat/transport"
	"lifeboat/transport/memnet"
)

func (w *world) control(at *testNode, q *lifeboatv1.ControlNodeRequest) error {
	w.Helper()
	return w.operator(at, func(ctx context.Context, c lifeboatv1connect.AdminServiceClient) error {
		r, err := c.ControlNode(ctx, connect.NewRequest(q))
		if err == nil {
			w.Log(r.Msg.Message)
		}
		return err
	})
}

// Who may go: never the last voter; without force nobody whose going costs the
// majority, or the tolerance of one failure where there is one.
func TestWhoMayGo(t *testing.T) {
	for _, c := range []struct {
		up, voters      int  // of the others
		goesUp          bool // whether the one that goes is up
		may, mayByForce bool
	}{
		{0, 0, true, false, false},
		{1, 1, true, true, true},   // 2 → 1 of 1: nobody may fail, but nobody might before
		{2, 2, true, false, true},  // 3 → 2
		{2, 2, false, true, true},  // a dead one of three
		{1, 2, true, false, true},  // no majority
		{1, 2, false, false, true}, // no majority now either
		{3, 3, true, true, true},   // 4 → 3
		{4, 4, true, true, true},   // 5 → 4, one may fail
		{3, 4, true, false, true},  // one of five is dead: 5 → 4, three up
		{3, 4, false, true, true},  // and it goes: 4 → 4 of which three are up
		{6, 6, true, true, true},
	} {
		x := count{voters: c.voters, up: c.up, votersNow: c.voters + 1, upNow: c.up, only: c.voters == 0}
		if c.goesUp {
			x.upNow++
		}
		for force, may := range map[bool]bool{false: c.may, true: c.mayByForce} {
			if why := x.refusal("n9", force); (why == "") != may {
				t.Errorf("%+v, force %v: %q", c, force, why)
			}
		}
	}
}

func TestCountWithout(t *testing.T) {
	b := newBook()
	for _, id := range []string{"n1", "n2", "n4"} {
		b.hello(id)
	}
	servers := []raft.Server{{ID: "n1"}, {ID: "n2"}, {ID: "n3"}, {ID: "n4", Suffrage: raft.Nonvoter}}
	for id, want := range map[fsm.NodeID]count{
		"n1": {voters: 2, up: 1, votersNow: 3, upNow: 2},
		"n3": {voters: 2, up: 2, votersNow: 3, upNow: 2},
		"n4": {voters: 3, up: 2, votersNow: 3, upNow: 2},
	} {
		if got, member := countWithout(servers, b.m.State(), id); got != want || !member {
			t.Errorf("without %s: %+v, %v; want %+v", id, got, member, want)
		}
	}
	if _, member := countWithout(servers, b.m.State(), "n9"); member {
		t.Error("n9 is taken for a member")
	}
}

// A node leaves in order, also the leader: the next one takes it out, it is Down
// at that entry, nobody has to do anything about it, and it speaks for nobody.
func TestNodeLeaves(t *testing.T) {
	for name, which := range map[string]func(*world) *testNode{"follower": follower, "leader": leading} {
		t.Run(name, func(t *testing.T) {
			run(t, 5, func(w *world) {
				w.fleet(3, 1, "bmc")
				w.allUp()
				n := which(w)
				w.must(w.control(n, &lifeboatv1.ControlNodeRequest{Id: n.id, Action: "leave"}))
				w.within(200*time.Millisecond, n.id+" is Down", w.nodeIs(n.id, fsm.NodeDown))
				x := w.state().Node(fsm.NodeID(n.id))
				if !x.Left || x.Going != fsm.GoingLeave || x.Reason != "it has left the cluster" {
					t.Errorf("it is %+v", x)
				}
				who := ""
				for _, e := range w.state().EventsAfter(0) {
					if e.Type == "NODE.LEAVE" {
						who = e.Actor
					}
				}
				if who != "operator/alice" {
					t.Errorf("%q is said to have asked for it", who)
				}
				w.stays(5*time.Second, "it stays Down, without an open alert", func() bool { return w.nodeIs(n.id, fsm.NodeDown)() && w.state().CountOpenAlerts() == 0 })
				for id := range w.hosts {
					w.within(time.Second, id+" is Up", w.hostIs(id, fsm.Up))
				}
				if err := w.control(w.leader(), &lifeboatv1.ControlNodeRequest{Id: n.id, Action: "leave"}); connect.CodeOf(err) != connect.CodeNotFound {
					t.Errorf("it leaves twice: %v", err)
				}
				n.crash(memnet.Crash) // or its state would be compared
			})
		})
	}
}

// What would cost the tolerance of a failure is refused, in a sentence, and done
// with --force.
func TestLeaveKeepsTolerance(t *testing.T) {
	run(t, 3, func(w *world) {
		w.allUp()
		l := w.leader()
		n := w.others(l)[0]
		for _, q := range []*lifeboatv1.ControlNodeRequest{{Id: n.id, Action: "leave"}, {Id: n.id, Action: "remove"}, {Id: l.id, Action: "leave"}} {
			err := w.control(n, q)
			if connect.CodeOf(err) != connect.CodeFailedPrecondition || !strings.Contains(err.Error(), "would survive no failure any more: 2 of 2 voters would be up, and a majority is 2") {
				t.Errorf("%s of %s: %v", q.Action, q.Id, err)
			}
		}
		if !l.leads() || !n.n.isMember(n.n.self()) {
			t.Error("something was done all the same")
		}
		w.must(w.control(l, &lifeboatv1.ControlNodeRequest{Id: n.id, Action: "leave", Force: true}))
		w.within(time.Second, n.id+" is Down", w.nodeIs(n.id, fsm.NodeDown))
		n.crash(memnet.Crash)
	})
}

// A node that was taken out is refused with its valid certificate, by everybody,
// for Raft and for the API, on connections that are open and on new ones.
func TestRemovedNodeIsRefused(t *testing.T) {
	run(t, 3, func(w *world) {
		w.allUp()
		l := w.leader()
		n := w.others(l)[0]
		w.must(w.control(l, &lifeboatv1.ControlNodeRequest{Id: n.id, Action: "remove", Force: true}))
		time.Sleep(2 * expelEvery)
		for _, at := range w.others(n) {
			if k := at.n.listener.CloseConns(at.n.stranger); k > 0 {
				t.Errorf("%s still has %d connections of it", at.id, k)
			}
			for _, proto := range []string{transport.ProtoRaft, transport.ProtoHTTP} {
				if err := at.n.authorize(proto, transport.Identity{Kind: transport.KindNode, Name: n.id}); err == nil {
					t.Errorf("%s lets it in for %s", at.id, proto)
				}
			}
			err := n.n.sayTo(at.cfg.Advertise)
			if err == nil || !strings.Contains(err.Error(), "refused") && !strings.Contains(err.Error(), "not a member") {
				t.Errorf("%s: %v", at.id, err)
			}
		}
		// And it does not come back as another run.
		n.halt()
		n.n = nil
		n.start()
		w.stays(5*time.Second, "it stays Down, and the leader leads on", func() bool { return w.nodeIs(n.id, fsm.NodeDown)() && l.leads() })
		n.crash(memnet.Crash)
	})
}

// One that was down when it was removed does not know it when it is back: it is
// refused all the same, disturbs nobody, and answers nobody.
func TestRemovedWhileDown(t *testing.T) {
	run(t, 3, func(w *world) {
		w.allUp()
		l := w.leader()
		n := w.others(l)[0]
		n.crash(memnet.PowerLoss)
		w.within(5*time.Second, n.id+" is Down", w.nodeIs(n.id, fsm.NodeDown))
		w.must(w.control(l, &lifeboatv1.ControlNodeRequest{Id: n.id, Action: "remove"}))
		if k := w.state().CountOpenAlerts(); k != 0 {
			t.Errorf("%d alerts are still open", k)
		}
		n.back()
		w.stays(5*time.Second, "it stays Down, and the leader leads on", func() bool { return w.nodeIs(n.id, fsm.NodeDown)() && l.leads() })
		if err := w.operator(n, listHosts); connect.CodeOf(err) != connect.CodeUnavailable {
			t.Errorf("it answers an operator: %v", err)
		}
		n.crash(memnet.Crash)
	})
}

// sayTo says hello at an address.
func (n *Node) sayTo(addr string) error {
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
	defer cancel()
	_, err := lifeboatv1connect.NewNodeServiceClient(n.client, "https://"+addr).Hello(ctx, connect.NewRequest(&lifeboatv1.HelloRequest{Id: n.cfg.ID, RunId: "another", FeatureLevel: FeatureLevel}))
	return err
}

// node list says who is what, how far behind, and when it was heard.
func TestNodeList(t *testing.T) {
	run(t, 5, func(w *world) {
		w.allUp()
		l := w.leader()
		others := w.others(l)
		dead, gone, cut := others[0], others[1], others[2]
		dead.crash(memnet.PowerLoss)
		w.must(w.control(l, &lifeboatv1.ControlNodeRequest{Id: gone.id, Action: "leave", Force: true}))
		w.within(5*time.Second, "one is Down", w.nodeIs(dead.id, fsm.NodeDown))
		views := func() map[string]*lifeboatv1.NodeView {
			out := map[string]*lifeboatv1.NodeView{}
			w.must(w.operator(cut, func(ctx context.Context, c lifeboatv1connect.AdminServiceClient) error {
				r, err := c.ListNodes(ctx, connect.NewRequest(&lifeboatv1.ListNodesRequest{}))
				if err == nil {
					for _, v := range r.Msg.Nodes {
						out[v.Id] = v
					}
				}
				return err
			}))
			return out
		}
		v := views()
		for id, want := range map[string]string{l.id: "leader", dead.id: "voter", gone.id: "left", cut.id: "voter"} {
			if v[id].Role != want {
				t.Errorf("%s is a %s, want %s", id, v[id].Role, want)
			}
		}
		for _, id := range []string{l.id, cut.id} {
			if v[id].State != "Up" || v[id].Lag > 3 || v[id].LastContactMs < 0 || v[id].LastContactMs > 1500 || v[id].Version != "test" {
				t.Errorf("%s is %+v", id, v[id])
			}
		}
		if v[dead.id].State != "Down" || v[dead.id].LastContactMs < 3000 {
			t.Errorf("the dead one is %+v", v[dead.id])
		}
		gone.crash(memnet.Crash)
	})
}
