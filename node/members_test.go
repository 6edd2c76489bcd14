package node

import (
	"context"
	"testing"
	"time"

	"connectrpc.com/connect"

	lifeboatv1 "lifeboat/api/lifeboat/v1"
	"lifeboat/api/lifeboat/v1/lifeboatv1connect"
	"lifeboat/fsm"
	"lifeboat/transport/memnet"
)

// allUp waits until every management node is Up.
func (w *world) allUp() {
	w.Helper()
	for id := range w.nodes {
		w.within(3*time.Second, id+" is Up", w.nodeIs(id, fsm.NodeUp))
	}
}

func follower(w *world) *testNode { return w.others(w.leader())[0] }
func leading(w *world) *testNode  { return w.leader() }

// A node that stops cleanly is Down at once, leader or not; nobody is missed,
// and it is Up when it returns.
func TestNodeStops(t *testing.T) {
	for name, which := range map[string]func(*world) *testNode{"follower": follower, "leader": leading} {
		t.Run(name, func(t *testing.T) {
			run(t, 3, func(w *world) {
				w.allUp()
				n := which(w)
				begin := time.Now()
				n.halt()
				n.n = nil
				w.within(100*time.Millisecond, n.id+" is Down", w.nodeIs(n.id, fsm.NodeDown))
				t.Logf("stopped and Down after %s", time.Since(begin))
				if got := w.state().Node(fsm.NodeID(n.id)).Reason; got != "it was stopped" {
					t.Errorf("it is Down because %q", got)
				}
				w.stays(5*time.Second, n.id+" is Down", w.nodeIs(n.id, fsm.NodeDown))
				n.start()
				w.within(3*time.Second, n.id+" is Up again", w.nodeIs(n.id, fsm.NodeUp))
			})
		})
	}
}

// One that crashes is Down within 5 s, and Up when it returns.
func TestNodeCrashes(t *testing.T) {
	for name, which := range map[string]func(*world) *testNode{"follower": follower, "leader": leading} {
		for how, death := range map[string]memnet.Death{"power": memnet.PowerLoss, "process": memnet.Crash} {
			t.Run(name+"/"+how, func(t *testing.T) {
				run(t, 3, func(w *world) {
					w.allUp()
					n := which(w)
					n.crash(death)
					t.Logf("Down after %s", w.within(5*time.Second, n.id+" is Down", w.nodeIs(n.id, fsm.NodeDown)))
					n.back()
					w.within(3*time.Second, n.id+" is Up again", w.nodeIs(n.id, fsm.NodeUp))
					for _, a := range w.state().Alerts() {
						if a.State != fsm.AlertResolved {
							t.Errorf("still open: %s", a.Text)
						}
					}
				})
			})
		}
	}
}

// A node that is cut off is Down, and Up again in the same run when it is back.
func TestNodeIsCutOff(t *testing.T) {
	run(t, 3, func(w *world) {
		w.allUp()
		l := w.leader()
		n := w.others(l)[0]
		for _, o := range w.others(n) {
			w.net.CutBoth(n.id, o.id)
		}
		w.within(5*time.Second, n.id+" is Down", w.nodeIs(n.id, fsm.NodeDown))
		w.net.HealAll()
		w.within(4*time.Second, n.id+" is Up again", w.nodeIs(n.id, fsm.NodeUp))
		w.stays(3*time.Second, "the leader leads on", l.leads) // pre-vote
	})
}

// A node that is removed is Down at that entry and speaks for nobody any more.
func TestNodeIsRemoved(t *testing.T) {
	run(t, 3, func(w *world) {
		w.fleet(2, 1, "bmc")
		w.allUp()
		n := follower(w)
		var index uint64
		w.must(w.operator(w.leader(), func(ctx context.Context, c lifeboatv1connect.AdminServiceClient) error {
			r, err := c.ControlNode(ctx, connect.NewRequest(&lifeboatv1.ControlNodeRequest{Id: n.id, Action: "remove", Force: true}))
			if err == nil {
				index = r.Msg.Index
			}
			return err
		}))
		w.within(0, n.id+" is Down", w.nodeIs(n.id, fsm.NodeDown))
		if got := w.state().Node(fsm.NodeID(n.id)).Index; got != index {
			t.Errorf("it is Down at index %d, it left at %d", got, index)
		}
		w.stays(5*time.Second, n.id+" is Down", w.nodeIs(n.id, fsm.NodeDown))
		err := w.operator(n, func(ctx context.Context, c lifeboatv1connect.AdminServiceClient) error {
			_, err := c.ListHosts(ctx, connect.NewRequest(&lifeboatv1.ListHostsRequest{}))
			return err
		})
		if err == nil {
			t.Error("a removed node still speaks for an operator")
		}
		w.stays(5*time.Second, "h1 is Up", w.hostIs("h1", fsm.Up))
		n.crash(memnet.Crash) // or its state would be compared
	})
}

func TestLastMajorityIsNotRemoved(t *testing.T) {
	run(t, 3, func(w *world) {
		w.allUp()
		l := w.leader()
		rest := w.others(l)
		rest[0].crash(memnet.PowerLoss)
		w.within(5*time.Second, "one is Down", w.nodeIs(rest[0].id, fsm.NodeDown))
		remove := func(id string) error {
			return w.operator(l, func(ctx context.Context, c lifeboatv1connect.AdminServiceClient) error {
				_, err := c.ControlNode(ctx, connect.NewRequest(&lifeboatv1.ControlNodeRequest{Id: id, Action: "remove"}))
				return err
			})
		}
		for id, want := range map[string]connect.Code{rest[1].id: connect.CodeFailedPrecondition, l.id: connect.CodeFailedPrecondition, "n9": connect.CodeNotFound} {
			if err := remove(id); connect.CodeOf(err) != want {
				t.Errorf("remove %s: %v, want %s", id, err, want)
			}
		}
		w.must(remove(rest[0].id))
		if !l.leads() {
			t.Error("the leader is gone")
		}
	})
}

// Leadership is given away on request, by whatever node is asked.
func TestTransfer(t *testing.T) {
	run(t, 3, func(w *world) {
		w.allUp()
		for range 3 {
			old := w.leader()
			w.must(w.operator(w.others(old)[0], func(ctx context.Context, c lifeboatv1connect.AdminServiceClient) error {
				_, err := c.ControlNode(ctx, connect.NewRequest(&lifeboatv1.ControlNodeRequest{Action: "transfer-leadership"}))
				return err
			}))
			took := w.within(2*time.Second, "another leads", func() bool { s := w.serving(); return len(s) == 1 && s[0] != old })
			t.Logf("after %s", took)
		}
	})
}

// A clock that is wrong does not lead, and what it would have committed does not
// keep the others from leading (S21).
func TestWrongClockDoesNotLead(t *testing.T) {
	for name, off := range map[string]time.Duration{"3 s ahead": 3 * time.Second, "3 s behind": -3 * time.Second, "50 min ahead": 50 * time.Minute, "50 min behind": -50 * time.Minute} {
		t.Run(name, func(t *testing.T) {
			runWith(t, 3, func(w *world) { w.nodes["n2"].faults.clock = off }, func(w *world) {
				w.within(10*time.Second, "a right clock leads", func() bool {
					s := w.serving()
					return len(s) == 1 && s[0].id != "n2"
				})
				time.Sleep(2 * time.Second)
				for range 3 {
					w.leader().handOver()
					w.within(10*time.Second, "a right clock leads", func() bool {
						s := w.serving()
						return len(s) == 1 && s[0].id != "n2"
					})
					w.stays(3*time.Second, "it goes on leading", func() bool { s := w.serving(); return len(s) == 1 && s[0].id != "n2" })
				}
				for _, n := range w.live() {
					ahead := time.Duration(n.n.fsm.State().Time - time.Now().UnixNano())
					if ahead > 4*time.Second || ahead < -4*time.Second {
						t.Errorf("the cluster's time is off by %s", ahead)
					}
				}
			})
		})
	}
}

// handOver has the leader step down.
func (n *testNode) handOver() {
	w := n.w
	w.Helper()
	w.must(w.operator(n, func(ctx context.Context, c lifeboatv1connect.AdminServiceClient) error {
		_, err := c.ControlNode(ctx, connect.NewRequest(&lifeboatv1.ControlNodeRequest{Action: "transfer-leadership"}))
		return err
	}))
}

// A hello of an earlier run that comes late does not make that run the one that is
// Up, and is no sign of life of the newer one.
func TestLateHello(t *testing.T) {
	run(t, 3, func(w *world) {
		w.allUp()
		n := follower(w)
		old := w.state().Node(fsm.NodeID(n.id))
		n.halt()
		n.n = nil
		n.start()
		w.within(3*time.Second, n.id+" is Up again", w.nodeIs(n.id, fsm.NodeUp))
		now, m := w.state().Node(fsm.NodeID(n.id)), w.leader().n.term.Load().members
		quiet := m.quiet(fsm.NodeID(n.id))
		err := m.hello(t.Context(), &lifeboatv1.HelloRequest{Id: n.id, Addr: old.Addr, RunId: old.RunID, Version: old.Version, FeatureLevel: FeatureLevel, StartedUnixNs: old.Started, TimeUnixNs: time.Now().UnixNano()})
		if err == nil || w.state().Node(fsm.NodeID(n.id)) != now || m.quiet(fsm.NodeID(n.id)) < quiet {
			t.Errorf("it was taken: %v; the node was %+v and is %+v", err, now, w.state().Node(fsm.NodeID(n.id)))
		}
	})
}
