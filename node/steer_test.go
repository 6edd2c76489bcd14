package node

import (
	"context"
	"net/http"
	"strings"
	"testing"
	"time"

	"connectrpc.com/connect"
	"github.com/hashicorp/raft"

	lifeboatv1 "lifeboat/api/lifeboat/v1"
	"lifeboat/api/lifeboat/v1/lifeboatv1connect"
	"lifeboat/fsm"
	"lifeboat/fsm/logpb"
	"lifeboat/transport/memnet"
)

// steer has an operator say something about the state of a node, by force.
func (w *world) steer(n *testNode, action string) {
	w.Helper()
	w.must(w.control(w.leader(), &lifeboatv1.ControlNodeRequest{Id: n.id, Action: action, Force: true}))
}

// listed is what `node list` says of a node.
func (w *world) listed(n *testNode) (v *lifeboatv1.NodeView) {
	w.Helper()
	w.must(w.operator(w.leader(), func(ctx context.Context, c lifeboatv1connect.AdminServiceClient) error {
		r, err := c.ListNodes(ctx, connect.NewRequest(&lifeboatv1.ListNodesRequest{}))
		if err != nil {
			return err
		}
		for _, x := range r.Msg.Nodes {
			if x.Id == n.id {
				v = x
			}
		}
		return nil
	}))
	return v
}

// only lets the agent of a host reach one node.
func (w *world) only(host string, n *testNode) {
	for _, o := range w.nodes {
		if o != n {
			w.net.CutBoth(host, o.id)
		}
	}
}

// events counts the events of a type about a node that hold a text.
func (w *world) events(n *testNode, kind, text string) int {
	k := 0
	for _, e := range w.state().EventsAfter(0) {
		if e.Type == kind && e.Subject == "node "+n.id && strings.Contains(e.Text, text) {
			k++
		}
	}
	return k
}

// hostsStayUp checks that no host was suspected all along.
func (w *world) hostsStayUp() {
	w.Helper()
	for _, e := range w.state().EventsAfter(0) {
		if strings.HasPrefix(e.Type, "HOST.SUSPECT") || strings.HasPrefix(e.Type, "HOST.DOWN") {
			w.Errorf("%s", e.Text)
		}
	}
}

// Into maintenance and out of it: the node hands over what it carries, says so to
// load balancers, and is left alone until it is back.
func TestMaintenance(t *testing.T) {
	for name, which := range map[string]func(*world) *testNode{"follower": follower, "leader": leading} {
		t.Run(name, func(t *testing.T) {
			run(t, 3, func(w *world) {
				w.fleet(3, 1, "bmc")
				w.allUp()
				n := which(w)
				w.net.CutBoth("h1", w.leader().id) // so that one agent is with a follower
				w.within(5*time.Second, "h1 is Up", w.hostIs("h1", fsm.Up))
				time.Sleep(5 * time.Second)
				w.steer(n, "maintenance-on")
				w.within(2*time.Second, "it says that nobody should come", func() bool {
					code, why := n.get("/readyz")
					return code == http.StatusServiceUnavailable && strings.HasPrefix(why, "this node is in state ")
				})
				t.Logf("after %s", w.within(10*time.Second, "it is in maintenance", w.nodeIs(n.id, fsm.NodeMaintenance)))
				l := w.leader()
				if l == n {
					t.Fatal("it leads")
				}
				if v := w.listed(n); v.Role != "voter" || v.State != "Maintenance" || v.RemainingMs != 0 || v.Waits != "" {
					t.Errorf("node list says %v", v)
				}
				w.stays(20*time.Second, "it stays so, without an agent", func() bool {
					return n.n.agents() == 0 && !n.leads() && w.nodeIs(n.id, fsm.NodeMaintenance)()
				})
				if code, _ := n.get("/readyz"); code != http.StatusServiceUnavailable {
					t.Errorf("/readyz says %d", code)
				}
				w.steer(n, "maintenance-off")
				w.within(time.Second, "it is ready", func() bool { code, _ := n.get("/readyz"); return code == http.StatusOK })
				if !w.nodeIs(n.id, fsm.NodeUp)() || w.state().CountOpenAlerts() != 0 {
					t.Errorf("it is %+v, with %d alerts", w.state().Node(fsm.NodeID(n.id)), w.state().CountOpenAlerts())
				}
				for id := range w.hosts {
					w.within(2*time.Second, id+" is Up", w.hostIs(id, fsm.Up))
				}
				w.net.HealAll()
			})
		})
	}
}

// A maintenance that was given a time ends by itself.
func TestTimedMaintenance(t *testing.T) {
	run(t, 3, func(w *world) {
		w.allUp()
		n := follower(w)
		w.must(w.control(n, &lifeboatv1.ControlNodeRequest{Id: n.id, Action: "maintenance-on", ForMs: 60_000, Force: true}))
		w.within(5*time.Second, "it is in maintenance", w.nodeIs(n.id, fsm.NodeMaintenance))
		if v := w.listed(n); v.RemainingMs < 50_000 || v.RemainingMs > 60_000 {
			t.Errorf("%d ms are left", v.RemainingMs)
		}
		w.must(w.control(n, &lifeboatv1.ControlNodeRequest{Id: n.id, Action: "maintenance-on", ForMs: 60_000})) // again: from now on
		took := w.within(62*time.Second, "it is Up again", w.nodeIs(n.id, fsm.NodeUp))
		if took < 58*time.Second || w.events(n, "NODE.STATE", "is over") != 1 {
			t.Errorf("after %s, %q", took, w.state().Node(fsm.NodeID(n.id)).Reason)
		}
	})
}

// Shut down in order: prepared, ready, told to stop. The process ends by itself and
// well, it is Down at once, with one alert, and the next run is Up.
func TestShutDown(t *testing.T) {
	for name, which := range map[string]func(*world) *testNode{"follower": follower, "leader": leading} {
		t.Run(name, func(t *testing.T) {
			run(t, 3, func(w *world) {
				w.fleet(3, 1, "bmc")
				w.allUp()
				n := which(w)
				if err := w.control(n, &lifeboatv1.ControlNodeRequest{Id: n.id, Action: "shutdown-trigger"}); connect.CodeOf(err) != connect.CodeFailedPrecondition || !strings.Contains(err.Error(), "not ReadyToShutDown") {
					t.Errorf("it is stopped without being ready: %v", err)
				}
				w.steer(n, "shutdown-prepare")
				w.within(10*time.Second, "it is ready", w.nodeIs(n.id, fsm.NodeReadyToShutDown))
				w.steer(n, "shutdown-cancel")
				w.within(0, "it is Up", w.nodeIs(n.id, fsm.NodeUp))
				w.steer(n, "shutdown-prepare")
				w.within(10*time.Second, "it is ready", w.nodeIs(n.id, fsm.NodeReadyToShutDown))
				if left := w.listed(n).RemainingMs; left < 3_590_000 || left > 3_600_000 {
					t.Errorf("%d ms are left", left)
				}
				// What was accepted as it was prepared needs no force any more.
				w.must(w.control(w.leader(), &lifeboatv1.ControlNodeRequest{Id: n.id, Action: "shutdown-trigger"}))
				w.must(n.wait())
				n.n = nil
				w.within(100*time.Millisecond, "it is Down", w.nodeIs(n.id, fsm.NodeDown))
				w.alertsOnce(n)
				if w.events(n, "NODE.DOWN", "it was stopped (was ShuttingDown)") != 1 {
					t.Error("nothing says what it was")
				}
				n.start()
				w.within(3*time.Second, "it is Up", w.nodeIs(n.id, fsm.NodeUp))
				w.stays(10*time.Second, "it stays Up", w.nodeIs(n.id, fsm.NodeUp))
				w.hostsStayUp()
			})
		})
	}
}

// alertsOnce checks that there is exactly one alert about a node that is Down.
func (w *world) alertsOnce(n *testNode) {
	w.Helper()
	k := 0
	for _, a := range w.state().Alerts() {
		if a.Key.Type == fsm.AlertNode && a.Key.Subject == n.id {
			k += int(a.Count)
		}
	}
	if k != 1 {
		w.Errorf("%d alerts were raised about %s", k, n.id)
	}
}

// into brings a node into each state in which it may be killed or restarted.
var into = map[string]func(*world, *testNode){
	"PreparingForMaintenance": func(w *world, n *testNode) { w.hold(n); w.steer(n, "maintenance-on") },
	"Maintenance": func(w *world, n *testNode) {
		w.steer(n, "maintenance-on")
		w.within(10*time.Second, "in maintenance", w.nodeIs(n.id, fsm.NodeMaintenance))
	},
	"PreparingForShutDown": func(w *world, n *testNode) { w.hold(n); w.steer(n, "shutdown-prepare") },
	"ReadyToShutDown": func(w *world, n *testNode) {
		w.steer(n, "shutdown-prepare")
		w.within(10*time.Second, "ready", w.nodeIs(n.id, fsm.NodeReadyToShutDown))
	},
}

// hold gives a node an agent that can go nowhere else.
func (w *world) hold(n *testNode) {
	w.Helper()
	w.only("h1", n)
	w.within(10*time.Second, "h1's agent is with "+n.id, func() bool { return n.n.agents() == 1 })
	w.within(5*time.Second, "h1 is Up", w.hostIs("h1", fsm.Up))
}

// Down follows from every state: within 5 s of kill -9, at once on a stop, with one
// alert, once; a quick restart is a new run, and shows as left and joined.
func TestDownFromEachState(t *testing.T) {
	for state, bring := range into {
		t.Run(state, func(t *testing.T) {
			for how, end := range map[string]func(*world, *testNode) time.Duration{
				"crash":      func(_ *world, n *testNode) time.Duration { n.crash(memnet.Crash); return 5 * time.Second },
				"power loss": func(_ *world, n *testNode) time.Duration { n.crash(memnet.PowerLoss); return 5 * time.Second },
				"stop":       func(_ *world, n *testNode) time.Duration { n.halt(); n.n = nil; return 0 },
			} {
				t.Run(how, func(t *testing.T) {
					run(t, 3, func(w *world) {
						w.fleet(2, 1, "bmc")
						w.allUp()
						n := follower(w)
						bring(w, n)
						if got := w.state().Node(fsm.NodeID(n.id)).State.String(); got != state {
							t.Fatalf("it is %s", got)
						}
						t.Logf("Down after %s", w.within(end(w, n), "it is Down", w.nodeIs(n.id, fsm.NodeDown)))
						w.stays(3*time.Second, "it stays Down", w.nodeIs(n.id, fsm.NodeDown))
						w.alertsOnce(n)
						if w.events(n, "NODE.DOWN", "(was "+state+")") != 1 {
							t.Error("nothing says what it was")
						}
						w.net.HealAll()
						n.back()
						w.within(5*time.Second, "it is Up again", w.nodeIs(n.id, fsm.NodeUp))
					})
				})
			}
			t.Run("quick restart", func(t *testing.T) {
				run(t, 3, func(w *world) {
					w.fleet(2, 1, "bmc")
					w.allUp()
					n := follower(w)
					bring(w, n)
					m := w.leader().n.term.Load().members
					w.must(m.hello(context.Background(), &lifeboatv1.HelloRequest{Id: n.id, Addr: n.cfg.Advertise, RunId: "next", Version: "test", FeatureLevel: FeatureLevel, StartedUnixNs: time.Now().UnixNano(), TimeUnixNs: time.Now().UnixNano()}))
					if x := w.state().Node(fsm.NodeID(n.id)); x.State != fsm.NodeUp || x.RunID != "next" || x.Until != 0 {
						t.Errorf("it is %+v", x)
					}
					w.stays(2*time.Second, "what the run before still says changes nothing", func() bool { return w.state().Node(fsm.NodeID(n.id)).RunID == "next" })
					if w.events(n, "NODE.DOWN", "restarted before it was missed (was "+state+")") != 1 || w.events(n, "NODE.UP", "") != 2 {
						t.Error("it is not shown as left and joined")
					}
					w.net.HealAll()
				})
			})
		})
	}
	t.Run("ShuttingDown", func(t *testing.T) { // and it dies before it hears of it
		run(t, 3, func(w *world) {
			w.fleet(2, 1, "bmc")
			w.allUp()
			n := follower(w)
			n.crash(memnet.PowerLoss)
			w.steer(n, "shutdown-trigger")
			w.within(0, "it shuts down", w.nodeIs(n.id, fsm.NodeShuttingDown))
			w.within(5*time.Second, "it is Down", w.nodeIs(n.id, fsm.NodeDown))
			w.alertsOnce(n)
			n.back() // the entry that told the run before to stop does not stop this one
			w.within(5*time.Second, "it is Up again", w.nodeIs(n.id, fsm.NodeUp))
			w.stays(10*time.Second, "it stays Up", w.nodeIs(n.id, fsm.NodeUp))
		})
	})
}

// An agent that reaches no other node is answered, and the deadline decides: its
// host is never silent, and the node is Up again, with the reason.
func TestAgentWithNowhereToGo(t *testing.T) {
	run(t, 3, func(w *world) {
		w.fleet(3, 1, "bmc")
		w.allUp()
		n := follower(w)
		w.hold(n)
		time.Sleep(2 * time.Second)
		w.must(w.control(n, &lifeboatv1.ControlNodeRequest{Id: n.id, Action: "maintenance-on", WithinMs: 60_000, Force: true}))
		w.within(5*time.Second, "it is known what is waited for", func() bool { return w.listed(n).Waits == "the agent of one host comes to it" })
		if left := w.listed(n).RemainingMs; left < 50_000 || left > 60_000 {
			t.Errorf("%d ms are left", left)
		}
		w.stays(50*time.Second, "it prepares, and the host is Up", func() bool {
			return w.nodeIs(n.id, fsm.NodePreparingForMaintenance)() && w.hostIs("h1", fsm.Up)()
		})
		w.within(10*time.Second, "it is Up again", w.nodeIs(n.id, fsm.NodeUp))
		if w.events(n, "NODE.STATE", "it was not ready within 1m0s: the agent of one host comes to it") != 1 {
			t.Errorf("the reason is %q", w.state().Node(fsm.NodeID(n.id)).Reason)
		}
		w.stays(5*time.Second, "the host is Up", w.hostIs("h1", fsm.Up))
		w.net.HealAll()
	})
}

// The leader dies while another node prepares: the next one goes on, with the same
// deadline, and ends it when nothing is left.
func TestLeaderDiesWhileANodePrepares(t *testing.T) {
	run(t, 5, func(w *world) {
		w.fleet(3, 1, "bmc")
		w.allUp()
		l, n := w.leader(), follower(w)
		leave := n.n.crowd.come("one that does not go")
		w.must(w.control(l, &lifeboatv1.ControlNodeRequest{Id: n.id, Action: "shutdown-prepare"}))
		before := w.state().Node(fsm.NodeID(n.id))
		l.crash(memnet.PowerLoss)
		next := w.leader()
		if next == n {
			time.Sleep(handOverEvery)
			next = w.leader()
		}
		if next == n {
			t.Fatal("the node that prepares leads")
		}
		w.stays(20*time.Second, "it still prepares", w.nodeIs(n.id, fsm.NodePreparingForShutDown))
		if x := w.state().Node(fsm.NodeID(n.id)); x.Until != before.Until || x.Index != before.Index {
			t.Errorf("it was %+v and is %+v", before, x)
		}
		leave()
		t.Logf("ready %s after its agent has gone", w.within(20*time.Second, "it is ready", w.nodeIs(n.id, fsm.NodeReadyToShutDown)))
	})
}

// What would cost the majority or the tolerance of one failure takes force, and
// nothing happens without.
func TestAbsenceKeepsTolerance(t *testing.T) {
	run(t, 3, func(w *world) {
		w.allUp()
		l, n := w.leader(), follower(w)
		for _, q := range []*lifeboatv1.ControlNodeRequest{{Id: n.id, Action: "maintenance-on"}, {Id: l.id, Action: "shutdown-prepare"}} {
			err := w.control(n, q)
			if connect.CodeOf(err) != connect.CodeFailedPrecondition || !strings.Contains(err.Error(), "would survive no failure: 2 of 3 voters would be at work, and a majority is 2") {
				t.Errorf("%s of %s: %v", q.Action, q.Id, err)
			}
			if !w.nodeIs(q.Id, fsm.NodeUp)() {
				t.Error("it was done all the same")
			}
		}
		w.steer(n, "maintenance-on")
		err := w.control(n, &lifeboatv1.ControlNodeRequest{Id: l.id, Action: "maintenance-on"})
		if connect.CodeOf(err) != connect.CodeFailedPrecondition || !strings.Contains(err.Error(), "only 1 of 3 voters would be at work, which is no majority") {
			t.Errorf("the second of three: %v", err)
		}
		for _, q := range []*lifeboatv1.ControlNodeRequest{{Id: n.id, Action: "maintenance-on", WithinMs: -1}, {Id: n.id, Action: "maintenance-on", ForMs: 1 << 60}, {Id: n.id, Action: "maintenance"}} {
			if err := w.control(l, q); connect.CodeOf(err) != connect.CodeInvalidArgument {
				t.Errorf("%v: %v", q, err)
			}
		}
	})
}

func TestAbsence(t *testing.T) {
	for name, c := range map[string]struct {
		count
		may bool
	}{
		"the only voter":              {count{voters: 0, votersNow: 1, up: 0, upNow: 1, only: true}, false},
		"one of two":                  {count{voters: 1, votersNow: 2, up: 1, upNow: 2}, false},
		"one of three":                {count{voters: 2, votersNow: 3, up: 2, upNow: 3}, false},
		"one of three, one is Down":   {count{voters: 2, votersNow: 3, up: 1, upNow: 2}, false},
		"of three, it is away":        {count{voters: 2, votersNow: 3, up: 2, upNow: 2}, true},
		"one of five":                 {count{voters: 4, votersNow: 5, up: 4, upNow: 5}, true},
		"one of five, one is Down":    {count{voters: 4, votersNow: 5, up: 3, upNow: 4}, false},
		"one that has no vote":        {count{voters: 3, votersNow: 3, up: 3, upNow: 3}, true},
		"no vote, and no majority":    {count{voters: 3, votersNow: 3, up: 1, upNow: 1}, true},
		"of three, away, one died":    {count{voters: 2, votersNow: 3, up: 1, upNow: 1}, false},
		"of five, two are Down":       {count{voters: 4, votersNow: 5, up: 2, upNow: 3}, false},
		"of four: 3 are a majority":   {count{voters: 3, votersNow: 4, up: 3, upNow: 4}, false},
		"of seven, two others are so": {count{voters: 6, votersNow: 7, up: 4, upNow: 5}, false},
	} {
		if why := c.absence("n9", false); (why == "") != c.may {
			t.Errorf("%s: %q", name, why)
		}
		if why := c.absence("n9", true); why != "" {
			t.Errorf("%s, by force: %q", name, why)
		}
	}
}

// An entry that a member could not read is not written.
func TestTooNew(t *testing.T) {
	b := newBook()
	for id, level := range map[string]uint32{"n1": 2, "n2": 1} {
		b.do(&logpb.Command{Body: &logpb.Command_NodeHello{NodeHello: &logpb.NodeHello{Id: id, RunId: "r", Version: "test", FeatureLevel: level}}})
	}
	servers := []raft.Server{{ID: "n1"}, {ID: "n2"}, {ID: "n3"}}
	if err := tooNew(servers, b.m.State(), 2, ""); err == nil || !strings.Contains(err.Error(), "node n2 runs version") {
		t.Errorf("%v", err)
	}
	if err := tooNew(servers, b.m.State(), 2, "n2"); err != nil { // it goes
		t.Errorf("%v", err)
	}
	if err := tooNew(servers, b.m.State(), 1, ""); err != nil {
		t.Errorf("%v", err)
	}
}
