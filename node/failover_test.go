package node

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"lifeboat/fsm"
	"lifeboat/transport/memnet"
)

// onceElsewhere waits until VMs 1..n run on another host than h1, each begun
// exactly once there, and says how long the slowest took.
func (w *world) onceElsewhere(n int, most time.Duration) time.Duration {
	w.Helper()
	begin := time.Now()
	for i := 1; i <= n; i++ {
		w.within(most-time.Since(begin), vmName(i)+" runs elsewhere", func() bool {
			_, host := w.vm(i)
			return host != "h1" && w.vmOn(i, "")()
		})
	}
	took := time.Since(begin)
	time.Sleep(5 * time.Second) // a second start would come by now
	for i := 1; i <= n; i++ {
		if got := w.starts(i); len(got) != 2 {
			w.Errorf("%s began %d times, want once by hand and once by us: %v", vmName(i), len(got), got)
		}
	}
	return took
}

// armed waits until every host runs under a lease.
func (w *world) armed() {
	w.Helper()
	for id := range w.hosts {
		w.within(10*time.Second, id+" runs under a lease", func() bool { return w.state().Host(fsm.HostID(id)).Lease != nil })
	}
}

func TestHostDies(t *testing.T) {
	for _, c := range []struct {
		level string
		most  time.Duration
	}{{"bmc", 12 * time.Second}, {"lease", 30 * time.Second}} {
		t.Run(c.level, func(t *testing.T) {
			run(t, 3, func(w *world) {
				w.fleet(4, 3, c.level)
				if c.level == "lease" {
					w.armed()
				}
				w.hosts["h1"].powerOff()
				w.Logf("all run after %s", w.onceElsewhere(3, c.most))
				w.hosts["h1"].powerOn()
				w.within(10*time.Second, "h1 is Up again", w.hostIs("h1", fsm.Up))
				w.stays(5*time.Second, "VMs stay where they are", func() bool { _, h := w.vm(1); return h != "h1" })
			})
		})
	}
}

// The machine of the leader dies together with a host.
func TestHostAndLeaderDie(t *testing.T) {
	for _, c := range []struct {
		level string
		most  time.Duration
	}{{"bmc", 15 * time.Second}, {"lease", 33 * time.Second}} {
		t.Run(c.level, func(t *testing.T) {
			run(t, 3, func(w *world) {
				w.fleet(4, 3, c.level)
				if c.level == "lease" {
					w.armed()
				}
				old := w.leader()
				old.crash(memnet.PowerLoss)
				w.hosts["h1"].powerOff()
				w.Logf("all run after %s", w.onceElsewhere(3, c.most))
				old.back()
				w.within(5*time.Second, old.id+" is Up again", w.nodeIs(old.id, fsm.NodeUp))
			})
		})
	}
}

// The leader dies at each step of a failover; the next one completes it.
func TestLeaderDiesAtEachStep(t *testing.T) {
	host := func(f func(*fsm.Host) bool) func(*fsm.State) bool {
		return func(s *fsm.State) bool { return f(s.Host("h1")) }
	}
	steps := []struct {
		name string
		at   func(*fsm.State) bool
	}{
		{"suspect", host(func(h *fsm.Host) bool { return h.Status == fsm.Alert })},
		{"down", host(func(h *fsm.Host) bool { return h.Status == fsm.Down })},
		{"attempt", host(func(h *fsm.Host) bool { return h.Attempt != nil && h.Attempt.Open })},
		{"fenced", host(func(h *fsm.Host) bool { return h.HA == fsm.HAFenced })},
		{"started", func(s *fsm.State) bool { v, h := s.VM(vmid(1)); return h.ID != "h1" && v.Power == fsm.PowerOn }},
	}
	for _, step := range steps {
		for _, how := range []memnet.Death{memnet.PowerLoss, memnet.Crash} {
			t.Run(fmt.Sprintf("%s/%d", step.name, how), func(t *testing.T) {
				run(t, 3, func(w *world) {
					w.fleet(4, 3, "bmc")
					old := w.leader()
					w.hosts["h1"].powerOff()
					w.catch(old, 15*time.Second, step.at)
					old.crash(how)
					w.onceElsewhere(3, 20*time.Second)
					if n := w.state().CountOpenWork(); n != 0 {
						t.Errorf("%d work items are still open", n)
					}
				})
			})
		}
	}
}

// catch waits until a node's state is as asked, to the very entry.
func (w *world) catch(n *testNode, most time.Duration, ok func(*fsm.State) bool) {
	w.Helper()
	end := time.After(most)
	for {
		changed := n.n.fsm.Changed()
		if ok(n.n.fsm.State()) {
			return
		}
		select {
		case <-changed:
		case <-end:
			w.story()
			w.Fatal("this never came")
		}
	}
}

// A leader is cut off together with a host: it steps down and renews no lease,
// the others take over when the lease has run out, and no VM is live twice
// (S14).
func TestLeaderAndHostAreCutOff(t *testing.T) {
	run(t, 3, func(w *world) {
		w.fleet(4, 3, "lease")
		w.armed()
		old := w.leader()
		island, main := []string{old.id, "h1"}, []string{"h2", "h3", "h4"}
		for _, n := range w.others(old) {
			main = append(main, n.id)
		}
		for _, id := range island {
			w.net.Isolate(id, main...)
		}
		cut := time.Now()
		w.within(3*time.Second, "the old leader has stepped down", func() bool { return old.n.term.Load() == nil })
		w.Logf("all run after %s", w.onceElsewhere(3, 33*time.Second))
		for i := 1; i <= 3; i++ {
			if d := w.starts(i)[1].at.Sub(cut); d < 17*time.Second {
				t.Errorf("%s was started %s after the cut, before the lease had run out", vmName(i), d)
			}
		}
		w.net.HealAll()
		w.within(10*time.Second, "h1 is Up again", w.hostIs("h1", fsm.Up))
		time.Sleep(5 * time.Second)
	})
}

// A host whose way to the leader is broken reports through another node.
func TestReportsGoAroundABrokenLink(t *testing.T) {
	run(t, 3, func(w *world) {
		w.fleet(3, 1, "bmc")
		l := w.leader()
		w.net.CutBoth("h1", l.id)
		w.stays(30*time.Second, "h1 is Up", w.hostIs("h1", fsm.Up))
		if got := w.starts(1); len(got) != 1 {
			t.Errorf("vm began %v", got)
		}
	})
}

// After a restart of every management node all hosts are Up at once, in the same
// epoch.
func TestAllNodesRestart(t *testing.T) {
	run(t, 3, func(w *world) {
		w.fleet(4, 3, "bmc")
		epoch := w.state().Host("h1").Epoch
		for _, n := range w.live() {
			n.crash(memnet.Crash)
		}
		time.Sleep(10 * time.Second)
		for _, n := range w.nodes {
			n.back()
		}
		w.leader()
		heard := func() bool {
			serving := w.serving()
			if len(serving) == 0 {
				return false
			}
			tm := serving[0].n.term.Load()
			for id := range w.hosts {
				if _, ok := tm.contacts.lastHeard(fsm.HostID(id), tm.mono()); !ok || !w.hostIs(id, fsm.Up)() {
					return false
				}
			}
			return true
		}
		w.Logf("all hosts are Up and heard %s after the barrier", w.within(5*time.Second, "all hosts are Up and heard", heard))
		w.stays(10*time.Second, "h1 is Up", w.hostIs("h1", fsm.Up))
		if got := w.state().Host("h1").Epoch; got != epoch {
			t.Errorf("h1 went from epoch %d to %d", epoch, got)
		}
		if got := w.starts(1); len(got) != 1 {
			t.Errorf("vm began %v", got)
		}
	})
}

// An agent that stops cleanly leaves its VMs alone, and its host Disconnected.
func TestAgentStops(t *testing.T) {
	run(t, 3, func(w *world) {
		w.fleet(3, 1, "bmc", "lease")
		w.armed()
		h := w.hosts["h1"]
		if err := h.halt(); err != nil {
			t.Fatal(err)
		}
		w.within(time.Second, "h1 is Disconnected", w.hostIs("h1", fsm.Disconnected))
		if w.state().Host("h1").Lease != nil {
			t.Error("the lease was not withdrawn (S16)")
		}
		w.stays(40*time.Second, "h1 is Disconnected", w.hostIs("h1", fsm.Disconnected))
		h.run()
		w.within(5*time.Second, "h1 is Up", w.hostIs("h1", fsm.Up))
		w.within(5*time.Second, "the VM is on", w.vmOn(1, "h1"))
		if got := w.starts(1); len(got) != 1 {
			t.Errorf("vm began %v", got)
		}
	})
}

// A leader does not cut the power of the machine it runs on: it hands over, and
// the next one does (S10).
func TestS10LeaderHandsOverBeforeItFencesItself(t *testing.T) {
	runWith(t, 3, func(w *world) { w.nodes["n1"].cfg.Host = "h1" }, func(w *world) {
		w.fleet(4, 3, "bmc")
		for w.leader().id != "n1" {
			w.leader().handOver()
			time.Sleep(500 * time.Millisecond)
		}
		fenced := false
		for _, n := range w.nodes {
			w.net.CutBoth("h1", n.id)
		}
		w.catch(w.nodes["n1"], 15*time.Second, func(s *fsm.State) bool {
			h := s.Host("h1")
			if h.Attempt != nil && strings.HasPrefix(h.Attempt.Executor, "n1 ") {
				t.Errorf("n1 fences its own machine: %+v", h.Attempt)
			}
			fenced = fenced || h.Attempt != nil
			return h.HA == fsm.HAFenced
		})
		if !fenced || w.hosts["h1"].powered() {
			t.Errorf("h1 was not fenced (attempt seen: %v)", fenced)
		}
		w.onceElsewhere(3, 12*time.Second)
	})
}

// A host that is merely cut off is switched off before its VMs start elsewhere.
func TestCutOffHostIsFenced(t *testing.T) {
	run(t, 3, func(w *world) {
		w.fleet(4, 3, "bmc")
		for _, n := range w.nodes {
			w.net.CutBoth("h1", n.id)
		}
		t.Logf("all run after %s", w.onceElsewhere(3, 12*time.Second))
		if w.hosts["h1"].powered() {
			t.Error("h1 is still on")
		}
		w.net.HealAll()
		w.hosts["h1"].powerOn()
		w.within(10*time.Second, "h1 is Up again", w.hostIs("h1", fsm.Up))
		for i := 1; i <= 3; i++ {
			if _, on := w.vm(i); on == "h1" {
				t.Errorf("%s is back on h1", vmName(i))
			}
		}
	})
}

// A dead power controller falls through to the lease.
func TestDeadControllerFallsThrough(t *testing.T) {
	run(t, 3, func(w *world) {
		w.fleet(4, 2, "bmc", "lease")
		w.armed()
		w.net.Kill("bmc-h1", memnet.PowerLoss)
		w.hosts["h1"].powerOff()
		t.Logf("all run after %s", w.onceElsewhere(2, 30*time.Second))
		if p := w.state().Host("h1").Proof; p == nil || p.Kind != fsm.ProofLease {
			t.Errorf("the proof is %+v", p)
		}
	})
}

// With nothing but silence, nothing is started: unknown never becomes dead (S20).
func TestS20SilenceIsNoProof(t *testing.T) {
	run(t, 3, func(w *world) {
		w.fleet(3, 1, "bmc")
		w.net.Kill("bmc-h1", memnet.PowerLoss)
		w.hosts["h1"].powerOff()
		w.stays(2*time.Minute, "the VM stays h1's", func() bool { _, on := w.vm(1); return on == "h1" })
		if got := w.starts(1); len(got) != 1 {
			t.Errorf("it began %v", got)
		}
	})
}
