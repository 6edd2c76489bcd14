package node

import (
	"context"
	"errors"
	"net/http"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"connectrpc.com/connect"

	lifeboatv1 "lifeboat/api/lifeboat/v1"
	"lifeboat/api/lifeboat/v1/lifeboatv1connect"
	"lifeboat/fsm"
	"lifeboat/internal/lifecycle"
	"lifeboat/transport/memnet"
)

// Every component of a node fails its stop in turn, in each way: the node is Down
// on the others all the same, within the time a crash takes, and everything else
// is stopped.
func TestEachComponentFailsToStop(t *testing.T) {
	ways := map[string]func(free <-chan struct{}, real stopFunc) stopFunc{
		"error": func(_ <-chan struct{}, real stopFunc) stopFunc {
			return func(ctx context.Context, why error) error {
				return errors.Join(real(ctx, why), errors.New("it will not"))
			}
		},
		"panic": func(<-chan struct{}, stopFunc) stopFunc {
			return func(context.Context, error) error { panic("it cannot") }
		},
		"hang": func(free <-chan struct{}, _ stopFunc) stopFunc {
			return func(context.Context, error) error { <-free; return nil }
		},
	}
	victims := map[string]func(*world) *testNode{"leader": leading, "follower": follower}
	for _, c := range (&Node{}).components() {
		for name, way := range ways {
			for which, choose := range victims {
				t.Run(c.Name+"/"+name+"/"+which, func(t *testing.T) {
					t.Parallel()
					var free chan struct{} // of the bubble
					var asked sync.Map     // of components; one that hangs is not waited for
					var victim string
					var undone atomic.Pointer[func()]
					fault := func(id string) func(string, stopFunc) stopFunc {
						return func(component string, real stopFunc) stopFunc {
							note := func(ctx context.Context, why error) error { asked.Store(component, true); return real(ctx, why) }
							return func(ctx context.Context, why error) error {
								if id != victim {
									return real(ctx, why)
								}
								if component != c.Name {
									return note(ctx, why)
								}
								asked.Store(component, true)
								if name != "error" {
									later := func() { _ = real(ctx, why) }
									undone.Store(&later)
								}
								return way(free, real)(ctx, why)
							}
						}
					}
					runWith(t, 3, func(w *world) {
						free = make(chan struct{})
						for id, n := range w.nodes {
							n.faults.stop = fault(id)
						}
					}, func(w *world) {
						w.fleet(2, 1, "bmc")
						w.allUp()
						n := choose(w)
						victim = n.id
						w.closers = append(w.closers, func() {
							close(free)
							if later := undone.Load(); later != nil {
								(*later)() // so that the bubble can end
							}
						})
						n.stop()
						last := n.n
						n.n = nil
						took := w.within(5*time.Second, n.id+" is Down on the others", w.nodeIs(n.id, fsm.NodeDown))
						err := <-n.done
						n.done = nil
						var failed *lifecycle.StopError
						if !errors.As(err, &failed) || failed.Component != c.Name {
							t.Errorf("it ended with %v, want a failure of %s", err, c.Name)
						}
						for _, other := range last.components() {
							if _, ok := asked.Load(other.Name); !ok {
								t.Errorf("%s was not stopped", other.Name)
							}
						}
						t.Logf("Down after %s, ended with: %v", took, err)
						w.stays(5*time.Second, "it stays Down, and the hosts are Up", func() bool {
							return w.nodeIs(n.id, fsm.NodeDown)() && w.hostIs("h1", fsm.Up)() && w.hostIs("h2", fsm.Up)()
						})
						downs := 0
						for _, a := range w.state().Alerts() {
							if a.Key == (fsm.AlertKey{Type: fsm.AlertNode, Subject: n.id, Cause: "down"}) {
								downs++
							}
						}
						if downs != 1 {
							t.Errorf("there are %d alerts about it, want 1", downs)
						}
					})
				})
			}
		}
	}
}

// A load balancer has the drain time to leave a node that stops: it says so at
// once, leads no more, and answers until then.
func TestDrain(t *testing.T) {
	for name, which := range map[string]func(*world) *testNode{"follower": follower, "leader": leading} {
		t.Run(name, func(t *testing.T) {
			drain := 2 * time.Second
			runWith(t, 3, func(w *world) {
				for _, n := range w.nodes {
					n.cfg.DrainTime = &drain
				}
			}, func(w *world) {
				w.fleet(2, 1, "bmc")
				w.allUp()
				n := which(w)
				n.stop()
				w.within(200*time.Millisecond, "another leads", func() bool {
					s := w.serving()
					return len(s) == 1 && s[0] != n
				})
				for begin := time.Now(); time.Since(begin) < drain-500*time.Millisecond; time.Sleep(100 * time.Millisecond) {
					if code, why := n.get("/readyz"); code != http.StatusServiceUnavailable || why != "this node is stopping\n" {
						t.Fatalf("/readyz says %d %s", code, why)
					}
					if code, _ := n.get("/leader"); code != http.StatusServiceUnavailable {
						t.Fatalf("/leader says %d", code)
					}
					w.must(w.operator(n, listHosts))
					if w.nodeIs(n.id, fsm.NodeDown)() {
						t.Fatal("it is Down while it still answers")
					}
				}
				w.must(n.wait())
				n.n = nil
				w.within(100*time.Millisecond, "it is Down", w.nodeIs(n.id, fsm.NodeDown))
			})
		})
	}
}

// A node that is Down says nothing to anybody: the agents go elsewhere, and the
// command line asks the next node.
func TestNobodyTalksToADownNode(t *testing.T) {
	for name, down := range map[string]func(*world, *testNode){
		"stopped": func(w *world, n *testNode) { n.halt(); n.n = nil },
		"removed, and it runs on": func(w *world, n *testNode) {
			w.must(w.control(w.leader(), &lifeboatv1.ControlNodeRequest{Id: n.id, Action: "remove", Force: true}))
		},
		"cut off from the others": func(w *world, n *testNode) {
			for _, o := range w.others(n) {
				w.net.CutBoth(n.id, o.id)
			}
		},
	} {
		t.Run(name, func(t *testing.T) {
			run(t, 3, func(w *world) {
				w.fleet(4, 1, "bmc")
				w.allUp()
				n := follower(w)
				raw := w.raw("h9", n)
				w.must(raw.register())
				down(w, n)
				w.within(5*time.Second, n.id+" is Down", w.nodeIs(n.id, fsm.NodeDown))
				time.Sleep(3 * time.Second)
				asks := 0
				for range 20 {
					err := w.operator(n, listHosts)
					if connect.CodeOf(err) != connect.CodeUnavailable {
						t.Fatalf("it answers an operator: %v", err)
					}
					if n.n != nil {
						asks = max(asks, n.n.calls.under())
					}
					time.Sleep(100 * time.Millisecond)
				}
				if asks > 0 {
					t.Errorf("%d agents still wait for its answer", asks)
				}
				if err := raw.register(); connect.CodeOf(err) != connect.CodeUnavailable {
					t.Errorf("it answers an agent: %v", err)
				}
				for id := range w.hosts {
					w.within(0, id+" is Up", w.hostIs(id, fsm.Up))
				}
				if n.n != nil {
					if code, why := n.get("/readyz"); code != http.StatusServiceUnavailable {
						t.Errorf("/readyz says %d %s", code, why)
					}
					w.net.HealAll()
					n.crash(memnet.Crash) // or its state would be compared
				}
			})
		})
	}
}

func listHosts(ctx context.Context, c lifeboatv1connect.AdminServiceClient) error {
	_, err := c.ListHosts(ctx, connect.NewRequest(&lifeboatv1.ListHostsRequest{}))
	return err
}

// A parked report is answered as soon as its node stops, wherever that is, with
// the promise that nothing was done; and the agents go on with another node
// before anybody misses them.
func TestParkedCallsAreAnswered(t *testing.T) {
	for name, which := range map[string]func(*world) *testNode{"follower": follower, "leader": leading} {
		t.Run(name, func(t *testing.T) {
			run(t, 3, func(w *world) {
				w.fleet(4, 1, "bmc")
				w.allUp()
				n := which(w)
				r := w.raw("h9", n)
				w.must(r.register())
				req := r.next()
				first, err := r.report(req)
				w.must(err)
				req = r.next()
				req.HaveAssignment = first.GetAssignment().GetIndex() + 1<<40
				answered := make(chan error, 1)
				go func() {
					_, err := r.report(req)
					answered <- err
				}()
				time.Sleep(50 * time.Millisecond)
				begin := time.Now()
				n.stop()
				err = <-answered
				if took := time.Since(begin); connect.CodeOf(err) != connect.CodeUnavailable || took > 300*time.Millisecond {
					t.Errorf("it was answered after %s: %v", took, err)
				}
				w.must(n.wait())
				n.n = nil
				took := w.within(time.Second, "all agents are with another node", func() bool {
					l := w.leader().n.term.Load()
					for id := range w.hosts {
						if quiet, ok := l.contacts.lastHeard(fsm.HostID(id), l.mono()); !ok || quiet > time.Since(begin) {
							return false
						}
					}
					return true
				})
				t.Logf("after %s", took)
			})
		})
	}
}
