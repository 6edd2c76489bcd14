package ha_test

import (
	"strings"
	"testing"
	"time"

	"lifeboat/fsm"
	"lifeboat/fsm/logpb"
	"lifeboat/ha"
)

// checked is when a host's first level was last checked.
func (w *world) checked(id fsm.HostID) int64 { w.t.Helper(); return w.host(id).Fence[0].Check.Checked }

func TestFenceLevelsAreCheckedByTheHour(t *testing.T) {
	w := newWorld(t, newBox("h1", 1).fenced("ipmi", "lease"), newBox("h2").fenced("lease"), newBox("h3").fenced("ipmi"))
	w.must(5*time.Second, "the first check", func() bool { return w.checked("h1") > 0 && w.checked("h3") > 0 })
	first := w.checked("h1")
	w.never(50*time.Minute, "a second check", func() bool { return w.checked("h1") != first })
	w.must(11*time.Minute, "the next check", func() bool { return w.checked("h1") != first })
	if n := count[*logpb.Command_FenceAttempt](w); n != 0 {
		t.Errorf("%d attempts", n)
	}
	w.set("fence_check_every", "0s")
	last := w.checked("h1")
	w.never(3*time.Hour, "a check", func() bool { return w.checked("h1") != last })
}

func TestOnlyAFewAreCheckedAtOnce(t *testing.T) {
	var boxes []*box
	for i := range 40 {
		boxes = append(boxes, newBox("h"+string(rune('A'+i))).fenced("ipmi"))
	}
	w := newWorld(t, boxes...)
	w.elect("n2")
	w.set("fence_check_every", "2m")
	w.never(10*time.Minute, "more than eight at once", func() bool {
		running := 0
		for _, c := range w.soft.Checks {
			if c.Ended == 0 {
				running++
			}
		}
		return running > 8
	})
	for _, b := range boxes {
		if w.now-w.checked(b.id) > int64(3*time.Minute) {
			t.Errorf("%s was last checked %s ago", b.id, time.Duration(w.now-w.checked(b.id)))
		}
	}
}

// Who may carry an attempt out is decided before it is committed, and nobody who
// runs on the machine that is to be switched off is among them (S10, S25).
func TestS25ExecutorsAreCommittedAndNotOnTheMachine(t *testing.T) {
	for executor, want := range map[string]int{"": 0, "leader": 0, "any": 2, "peers": 2, "host:h2": 1} {
		t.Run(executor, func(t *testing.T) {
			w := newWorld(t, newBox("h1", 1).fenced("ipmi"), newBox("h2").fenced("ipmi"), newBox("h3").fenced("ipmi"))
			for _, n := range []string{"n1", "n2", "n3"} {
				w.apply(&logpb.NodeHello{Id: n, RunId: "r", Machine: map[string]string{"n3": "h1"}[n]})
			}
			w.soft.Node = "n1"
			w.apply(&logpb.HostFenceLevels{Host: "h1", Levels: []*logpb.FenceLevel{{Driver: "ipmi", Executor: executor}}})
			w.boxes["h1"].cut()
			var via []string
			w.must(15*time.Second, "an attempt", func() bool {
				a := w.host("h1").Attempt
				if a != nil {
					via = a.Via
				}
				return a != nil
			})
			if len(via) != want {
				t.Errorf("%q is executed by %q", executor, via)
			}
			for _, v := range via {
				if v == fsm.ViaNode+"n3" || v == fsm.ViaNode+"n1" || v == fsm.ViaHost+"h1" {
					t.Errorf("%q is executed by %q", executor, via)
				}
			}
			w.must(10*time.Second, "the proof", w.is("h1", fsm.HAFenced))
		})
	}
}

// A node that is about to be worked on executes a fence only after those that are
// Up; one that shuts down, never.
func TestFenceByWithdrawnNodes(t *testing.T) {
	w := newWorld(t, newBox("h1", 1), newBox("h2"), newBox("h3"))
	for _, n := range []string{"n1", "n2", "n3", "n4"} {
		w.apply(&logpb.NodeHello{Id: n, RunId: "r"})
	}
	w.soft.Node = "n1"
	w.apply(&logpb.NodeSteer{Id: "n2", RunId: "r", Step: uint32(fsm.StepMaintain), WithinNs: int64(time.Hour)})
	w.apply(&logpb.NodeSteer{Id: "n4", RunId: "r", Step: uint32(fsm.StepStop), Force: true, WithinNs: int64(time.Hour)})
	w.apply(&logpb.HostFenceLevels{Host: "h1", Levels: []*logpb.FenceLevel{{Driver: "ipmi", Executor: fsm.ExecAny}}})
	w.boxes["h1"].cut()
	w.must(15*time.Second, "an attempt", func() bool { return w.host("h1").Attempt != nil })
	if got := strings.Join(w.host("h1").Attempt.Via, ", "); got != "leader, node n3, node n2" {
		t.Errorf("it is executed by %s", got)
	}
}

var _ ha.Effect = ha.Check{}
