package node

import (
	"context"
	"fmt"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"connectrpc.com/connect"

	lifeboatv1 "lifeboat/api/lifeboat/v1"
	"lifeboat/api/lifeboat/v1/lifeboatv1connect"
	"lifeboat/fence"
	"lifeboat/fence/wire"
	"lifeboat/fsm"
	"lifeboat/ha"
	"lifeboat/transport/memnet"
)

// fencedBy gives a host one power controller, used by an executor.
func (h *testHost) fencedBy(executor string) error {
	h.w.Helper()
	return h.w.operator(h.w.leader(), func(ctx context.Context, c lifeboatv1connect.AdminServiceClient) error {
		_, err := c.SetFence(ctx, connect.NewRequest(&lifeboatv1.SetFenceRequest{Host: h.id, Levels: []*lifeboatv1.FenceSpec{
			{Driver: "bmc", Address: bmcAddr(h.id), Password: "secret", Executor: executor, TimeoutMs: 5000}}}))
		return err
	})
}

// test is `lifeboat fence test`, at a node that need not lead.
func (h *testHost) test() []*lifeboatv1.FenceTestView {
	h.w.Helper()
	var out []*lifeboatv1.FenceTestView
	h.w.must(h.w.operator(h.w.live()[0], func(ctx context.Context, c lifeboatv1connect.AdminServiceClient) error {
		r, err := c.TestFence(ctx, connect.NewRequest(&lifeboatv1.TestFenceRequest{Host: h.id}))
		if err == nil {
			out = r.Msg.Levels
		}
		return err
	}))
	return out
}

func (h *testHost) check() fsm.FenceCheck { return h.w.state().Host(fsm.HostID(h.id)).Fence[0].Check }

// hide cuts a host's power controller off from machines.
func (h *testHost) hide(from ...string) {
	for _, id := range from {
		h.w.net.CutBoth("bmc-"+h.id, id)
	}
}

func (w *world) nodeIDs() []string {
	var out []string
	for id := range w.nodes {
		out = append(out, id)
	}
	return out
}

func TestFenceTestTellsWhatIsProven(t *testing.T) {
	run(t, 3, func(w *world) {
		w.fleet(3, 0, "bmc", "lease", "manual")
		h := w.hosts["h1"]
		w.armed()
		l := h.test()
		if len(l) != 3 || !l[0].Proven || !l[1].Proven || l[2].Proven || !strings.Contains(l[0].Text, "serial-of-h1") || !strings.Contains(l[1].Text, "external watchdog") {
			t.Fatalf("%+v", l)
		}
		if !h.powered() {
			t.Fatal("the test has cut the power")
		}
		if c := h.check(); c.Proven == 0 || c.Failure != "" {
			t.Errorf("the test was not recorded: %+v", c)
		}
		h.hide(w.nodeIDs()...)
		if l = h.test(); l[0].Proven || l[0].Action == "" {
			t.Fatalf("a controller that nobody reaches: %+v", l[0])
		}
		if c := h.check(); c.Failures != 1 || c.Proven == 0 {
			t.Errorf("%+v", c)
		}
		w.must(w.operator(w.leader(), func(ctx context.Context, c lifeboatv1connect.AdminServiceClient) error {
			r, err := c.Status(ctx, connect.NewRequest(&lifeboatv1.StatusRequest{}))
			if err == nil && !strings.Contains(strings.Join(r.Msg.Notes, "\n"), "the fence path of 1 hosts is not proven to work: h1;") {
				t.Errorf("status says %q", r.Msg.Notes)
			}
			return err
		}))
	})
}

// A controller that reads off while its host reports is another machine's.
func TestS9FenceTestSeesACrossedController(t *testing.T) {
	run(t, 1, func(w *world) {
		w.fleet(2, 0, "bmc")
		h := w.hosts["h1"]
		h.mu.Lock()
		h.crossed = true
		h.mu.Unlock()
		if l := h.test(); l[0].Proven || !strings.Contains(l[0].Text, "although the host reports") {
			t.Fatalf("%+v", l[0])
		}
	})
}

// The identity that a controller gives is matched with what an operator named
// and with what the machine says of itself (S9).
func TestS9FenceLevelIsRegisteredOnlyForItsMachine(t *testing.T) {
	run(t, 1, func(w *world) {
		h := w.host("h1")
		w.within(10*time.Second, "h1 is Up", w.hostIs("h1", fsm.Up))
		set := func(identity string) error {
			return w.operator(w.leader(), func(ctx context.Context, c lifeboatv1connect.AdminServiceClient) error {
				_, err := c.SetFence(ctx, connect.NewRequest(&lifeboatv1.SetFenceRequest{Host: "h1", Levels: []*lifeboatv1.FenceSpec{
					{Driver: "bmc", Address: bmcAddr("h1"), Password: "secret", Identity: identity}}}))
				return err
			})
		}
		if err := set("serial-of-h2"); err == nil || !strings.Contains(err.Error(), "serial-of-h1") {
			t.Errorf("another machine's identity was taken: %v", err)
		}
		w.must(set("serial-of-h1"))
		const system, other = "0a1b2c3d-4e5f-4678-8abc-def012345678", "11111111-4e5f-4678-8abc-def012345678"
		h.mu.Lock()
		h.identity = other
		h.mu.Unlock()
		w.must(h.halt())
		h.setHardware(system)
		h.run()
		w.within(10*time.Second, "h1 says who it is", func() bool { return w.state().Host("h1").HardwareID == system })
		if err := set(""); err == nil || !strings.Contains(err.Error(), "says of itself") {
			t.Errorf("a controller of another machine was pinned: %v", err)
		}
		w.must(set(other)) // an operator's word
		if l := h.test(); !l[0].Proven || l[0].Action == "" {
			t.Errorf("%+v", l[0])
		}
	})
}

func TestFencePathsAreCheckedByThemselves(t *testing.T) {
	run(t, 3, func(w *world) {
		w.fleet(3, 0, "bmc")
		first := w.hosts["h1"].check()
		if first.Proven == 0 {
			t.Fatal("the registration did not count as a check")
		}
		w.must(w.operator(w.leader(), func(ctx context.Context, c lifeboatv1connect.AdminServiceClient) error {
			_, err := c.SetPolicy(ctx, connect.NewRequest(&lifeboatv1.SetPolicyRequest{Settings: []*lifeboatv1.Setting{{Key: "fence_check_every", Value: "90s"}}}))
			return err
		}))
		time.Sleep(2 * time.Minute)
		for id, h := range w.hosts {
			if c := h.check(); c.Proven <= first.Proven || c.By != fsm.ViaLeader {
				t.Errorf("%s was not checked in time: %+v", id, c)
			}
		}
		h := w.hosts["h2"]
		h.hide(w.nodeIDs()...)
		alert := func() *fsm.AlertRecord {
			return w.state().OpenAlert(fsm.AlertKey{Type: fsm.AlertFence, Subject: "h2", Cause: "not proven"})
		}
		begin := w.state().Index
		took := w.within(6*time.Minute, "an alert", func() bool { return alert() != nil })
		if c := h.check(); c.Failures != 3 {
			t.Errorf("the alert came after %+v", c)
		}
		if a := alert(); a.Severity != fsm.Warning {
			t.Errorf("%+v", a)
		}
		if n := w.state().Index - begin; n > uint64(took/time.Second)+50 { // a canary a second, and an entry a check
			t.Errorf("%d entries", n)
		}
		w.net.HealAll()
		w.within(3*time.Minute, "no alert", func() bool { return alert() == nil })
		if !h.powered() {
			t.Error("a check has cut the power")
		}
	})
}

// Levels may be taken away between the decision to check them and the check.
func TestFenceCheckOfALevelThatIsGone(t *testing.T) {
	run(t, 1, func(w *world) {
		w.fleet(1, 0, "bmc")
		w.leader().n.term.Load().checkFence(context.Background(), ha.Check{Host: "h1", Round: 9, Levels: []ha.Level{{Index: 0}, {Index: 1}}})
		if c := w.hosts["h1"].check(); c.Proven == 0 {
			t.Errorf("%+v", c)
		}
	})
}

// Where the leader does not reach the controller, others do, and the host is
// proven dead all the same.
func TestS25ExecutorsReachWhatTheLeaderDoesNot(t *testing.T) {
	for _, c := range []struct {
		executor string
		by       string
		reach    func(w *world) []string // who is cut off from the controller
	}{
		{"any", "through node ", func(w *world) []string { return []string{w.leader().id} }},
		{"peers", "through host h", func(w *world) []string { return w.nodeIDs() }},
		{"host:h3", "through host h3", func(w *world) []string { return append(w.nodeIDs(), "h2", "h4") }},
	} {
		t.Run(c.executor, func(t *testing.T) {
			run(t, 3, func(w *world) {
				w.fleet(4, 2, "bmc")
				h := w.hosts["h1"]
				h.hide(c.reach(w)...)
				w.must(h.fencedBy(c.executor))
				if l := h.test(); !l[0].Proven || l[0].By == fsm.ViaLeader {
					t.Fatalf("%+v", l[0])
				}
				for _, n := range w.nodes {
					w.net.CutBoth("h1", n.id)
				}
				t.Logf("all run after %s", w.onceElsewhere(2, 20*time.Second))
				x := w.state().Host("h1")
				if h.powered() || x.Proof == nil || x.Proof.Kind != fsm.ProofPower || !strings.Contains(x.Proof.By, c.by) {
					t.Errorf("the proof is %+v", x.Proof)
				}
			})
		})
	}
}

// An executor that is not there lets the attempt fail, and the next level have
// its turn.
func TestS25AbsentExecutorFallsThrough(t *testing.T) {
	run(t, 3, func(w *world) {
		w.fleet(4, 2, "bmc")
		h := w.hosts["h1"]
		w.must(w.operator(w.leader(), func(ctx context.Context, c lifeboatv1connect.AdminServiceClient) error {
			_, err := c.SetFence(ctx, connect.NewRequest(&lifeboatv1.SetFenceRequest{Host: "h1", Levels: []*lifeboatv1.FenceSpec{
				{Driver: "bmc", Address: bmcAddr("h1"), Password: "secret", Executor: "host:h4"}, {Driver: "bmc", Address: bmcAddr("h1"), Password: "secret"}}}))
			return err
		}))
		w.must(w.hosts["h4"].halt())
		h.powerOff()
		w.onceElsewhere(2, 20*time.Second)
	})
}

// A leader that is deposed while its proxy is at work: what the proxy does ends
// with the attempt's deadline at the latest, and the host waits for that (S10).
func TestS10ProxyEndsWithTheAttempt(t *testing.T) {
	for _, executor := range []string{"any", "host:h3"} {
		t.Run(executor, func(t *testing.T) {
			run(t, 3, func(w *world) {
				w.fleet(4, 1, "bmc")
				h := w.hosts["h1"]
				w.must(h.fencedBy(executor))
				old := w.leader()
				h.hide(old.id)
				h.slow(time.Hour) // the controller takes orders and does not answer
				for _, n := range w.nodes {
					w.net.CutBoth("h1", n.id)
				}
				var attempt *fsm.Attempt
				w.catch(old, 20*time.Second, func(s *fsm.State) bool { attempt = s.Host("h1").Attempt; return attempt != nil })
				if len(attempt.Via) == 0 {
					t.Fatalf("the executor is not committed: %+v", attempt)
				}
				w.within(8*time.Second, "the proxy is at work", func() bool { return h.busy() > 0 })
				old.crash(memnet.PowerLoss)
				if executor != "any" {
					for _, n := range w.others(old) { // no later leader can call it off either
						w.net.CutBoth("h3", n.id)
					}
				}
				until := time.Unix(0, attempt.Until)
				w.within(time.Minute, "nobody else is at work by the deadline", func() bool {
					if time.Now().Before(until) {
						return false
					}
					for _, since := range h.sessions() {
						if since.Before(until.Add(-fenceOverlap)) {
							t.Errorf("a session of the first attempt, begun %s, outlived its deadline %s", since, until)
						}
					}
					return true
				})
			})
		})
	}
}

// fenceOverlap: sessions that began later than this before the end of an attempt
// are of the next one.
const fenceOverlap = 5 * time.Second

// A job that comes late is refused, and one is not done twice.
func TestS10LateAndRepeatedJobsAreRefused(t *testing.T) {
	run(t, 3, func(w *world) {
		w.fleet(2, 0, "bmc")
		l := w.leader()
		other := w.others(l)[0]
		client := lifeboatv1connect.NewNodeServiceClient(l.n.client, "https://"+other.cfg.Listen)
		term := l.n.raft.CurrentTerm()
		job := wire.Job("h1", 1, fence.Job{Task: fence.TaskProbe, Target: fence.Target{Driver: "bmc", Address: bmcAddr("h1")}, Expect: fence.Expect{Identity: "serial-of-h1"}})
		job.WithinMs = 5000
		try := func(late time.Duration, term uint64, times int) (err error) {
			ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
			defer cancel()
			k, err := client.FenceTicket(ctx, connect.NewRequest(&lifeboatv1.FenceTicketRequest{Term: term}))
			if err != nil {
				return err
			}
			time.Sleep(late)
			for range times {
				r, failed := client.RunFence(ctx, connect.NewRequest(&lifeboatv1.RunFenceRequest{Ticket: k.Msg.Ticket, Term: term, Job: job}))
				if err = failed; err == nil && r.Msg.Failure != "" {
					err = fmt.Errorf("%s", r.Msg.Failure)
				}
			}
			return err
		}
		if err := try(0, term, 1); err != nil {
			t.Fatal(err)
		}
		for want, err := range map[string]error{
			"too late": try(6*time.Second, term, 1), "ticket": try(0, term, 2), "term is over": try(0, term-1, 1),
		} {
			if err == nil || !strings.Contains(err.Error(), want) {
				t.Errorf("want %s: %v", want, err)
			}
		}
		synctest.Wait()
	})
}
