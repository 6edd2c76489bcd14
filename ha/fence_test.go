package ha_test

import (
	"fmt"
	"testing"
	"time"

	"lifeboat/fsm"
	"lifeboat/fsm/logpb"
)

func TestDeadBMCFallsThroughToTheNextLevel(t *testing.T) {
	w := newWorld(t, newBox("h1", 1).fenced("ipmi", "redfish"), newBox("h2"), newBox("h3"))
	w.boxes["h1"].bmc = "ipmi errors"
	w.boxes["h1"].cut()
	w.must(15*time.Second, "fenced", w.is("h1", fsm.HAFenced))
	if by := w.host("h1").Proof.By; by != "redfish" {
		w.fatal("fenced by %s", by)
	}
}

func TestDeadBMCFallsThroughToTheLease(t *testing.T) {
	w := newWorld(t, newBox("h1", 1), newBox("h2"), newBox("h3"))
	w.boxes["h1"].bmc = "dead"
	w.boxes["h1"].die()
	took := w.must(30*time.Second, "start order", w.ordered(1))
	t.Logf("start order after %s", took)
	if w.host("h1").Proof.Kind != fsm.ProofLease {
		w.fatal("proof %+v", w.host("h1").Proof)
	}
}

func TestFailingBMCIsRetried(t *testing.T) {
	w := newWorld(t, newBox("h1", 1).fenced("ipmi"), newBox("h2"), newBox("h3"))
	b := w.boxes["h1"]
	b.bmc = "errors"
	b.cut()
	w.must(10*time.Second, "failure", func() bool { h := w.host("h1"); return h.Attempt != nil && !h.Attempt.Open })
	w.told = nil
	w.advance(61 * time.Second)
	if n := count[*logpb.Command_FenceAttempt](w); n < 5 || n > 6 {
		w.fatal("%d attempts in a minute with fence_retry %s", n, w.state().Policy.FenceRetry)
	}
	b.bmc = "ok"
	w.must(20*time.Second, "start", w.runsOn(1, "h2"))
}

// S12: a lease that was never armed, or that was withdrawn, proves nothing.
func TestS12NoLeaseIsNoProof(t *testing.T) {
	soft := newBox("h1", 1).fenced("lease")
	soft.watchdog = fsm.WatchdogSoft
	w := newWorld(t, soft, newBox("h2"), newBox("h3"))
	if w.host("h1").Lease != nil {
		w.fatal("a soft watchdog got a lease")
	}
	soft.cut()
	w.never(10*time.Minute, "a start", w.ordered(1))

	w = newWorld(t, newBox("h1", 1).fenced("lease"), newBox("h2"), newBox("h3"))
	b := w.boxes["h1"]
	b.stop()
	b.cut()
	w.never(10*time.Minute, "a start", w.ordered(1))
	if h := w.host("h1"); h.HA != fsm.HAFencing {
		w.fatal("host is %s", h.HA)
	}
}

// S13: what is held was granted before the policy was shortened.
func TestS13ShortenedPolicy(t *testing.T) {
	w := newWorld(t, newBox("h2"), newBox("h3"))
	w.apply(&logpb.PolicySet{Settings: []*logpb.Setting{{Key: "takeover", Value: "60s"}, {Key: "lease", Value: "40s"}}})
	b := newBox("h1", 1).fenced("lease")
	b.w, w.boxes["h1"] = w, b
	b.beat()
	w.apply(b.fenceLevels())
	b.beats()
	w.advance(3 * time.Second)
	if d := w.host("h1").Lease.DurationNS; d != int64(40*time.Second) {
		w.fatal("lease of %s", time.Duration(d))
	}
	heard := w.now
	b.cut()
	w.apply(&logpb.PolicySet{Settings: []*logpb.Setting{{Key: "takeover", Value: "18s"}, {Key: "lease", Value: "12s"}}})
	w.must(2*time.Minute, "start order", w.ordered(1))
	if d := time.Duration(w.now - heard); d < 45*time.Second {
		w.fatal("a lease of 40s + 5s was taken for over after %s", d)
	}
}

func TestNewLeaderTakesOverAFenceAtOnce(t *testing.T) {
	w := newWorld(t, newBox("h1", 1).fenced("ipmi"), newBox("h2"), newBox("h3"))
	b := w.boxes["h1"]
	b.cut()
	w.must(10*time.Second, "attempt", func() bool { return w.host("h1").Attempt != nil })
	w.elect("n2")
	w.soft.Proven = 0
	w.settle()
	a := w.host("h1").Attempt
	if a.Number != 2 || !a.Open || a.Level != 0 {
		w.fatal("attempt %+v", a)
	}
	w.must(4*time.Second, "fenced", w.is("h1", fsm.HAFenced))
}

// S10: an attempt of an earlier epoch proves nothing about this death, and is
// not begun again under its old number.
func TestS10AttemptOfAnEarlierEpoch(t *testing.T) {
	w := newWorld(t, newBox("h1", 1).fenced("ipmi"), newBox("h2"), newBox("h3"))
	b := w.boxes["h1"]
	b.bmc = "dead"
	b.cut()
	w.must(10*time.Second, "attempt", func() bool { return w.host("h1").Attempt != nil })
	b.unmute()
	w.must(2*time.Second, "Connecting", func() bool { return w.host("h1").Status == fsm.Connecting })
	if v, h := w.vm(1); h.ID != "h1" || v.Gone {
		w.fatal("VM %+v", v)
	}
	b.cut()
	b.bmc = "ok"
	w.must(10*time.Second, "Down again", func() bool { return w.host("h1").Status == fsm.Down })
	if a := w.host("h1").Attempt; a.Number != 2 {
		w.fatal("attempt %+v", a)
	}
	w.must(10*time.Second, "start", w.runsOn(1, "h2"))
}

// S10: back while a fence may be in flight is not Up.
func TestS10BackDuringAFence(t *testing.T) {
	w := newWorld(t, newBox("h1", 1).fenced("ipmi"), newBox("h2"), newBox("h3"))
	b := w.boxes["h1"]
	b.bmc = "dead"
	b.cut()
	w.must(10*time.Second, "attempt", func() bool { return w.host("h1").Attempt != nil })
	until := w.host("h1").Attempt.Until
	b.unmute()
	w.must(20*time.Second, "Up", func() bool { return w.host("h1").Status == fsm.Up })
	if w.now < until {
		w.fatal("Up %s before the attempt has ended for certain", time.Duration(until-w.now))
	}
	w.must(5*time.Second, "work closed", func() bool { return w.state().CountOpenWork() == 0 })
	if v, h := w.vm(1); h.ID != "h1" || v.Power != fsm.PowerOn {
		w.fatal("VM %+v on %s", v, h.ID)
	}
}

// S10: a leader does not fence the machine it runs on.
func TestS10LeaderHandsOverBeforeItFencesItself(t *testing.T) {
	w := newWorld(t, newBox("h1", 1), newBox("h2"), newBox("h3"))
	w.machine = "h1"
	w.soft.Machine = "h1"
	w.boxes["h1"].cut() // its agent; the manager is still connected
	w.must(10*time.Second, "handover", func() bool { return w.term == 2 })
	if n := count[*logpb.Command_FenceAttempt](w); n != 0 {
		w.fatal("%d attempts before the handover", n)
	}
	w.must(10*time.Second, "start order", w.ordered(1))
}

// Cutting power helps nobody where nobody waits.
func TestHostWithoutVMsIsNotFenced(t *testing.T) {
	w := newWorld(t, newBox("h1").fenced("ipmi"), newBox("h2"), newBox("h3"))
	w.boxes["h1"].cut()
	w.must(10*time.Second, "Down", func() bool { return w.host("h1").Status == fsm.Down })
	w.never(5*time.Minute, "an attempt", func() bool { return w.host("h1").Attempt != nil })
}

// Two controllers of one kind say different things; the log keeps one finding
// of each source.
func TestTwoSourcesOfOneName(t *testing.T) {
	w := newWorld(t, newBox("h1", 1).fenced("ipmi", "ipmi"), newBox("h2"), newBox("h3"))
	b := w.boxes["h1"]
	b.mute()
	w.must(10*time.Second, "Degraded", w.is("h1", fsm.HADegraded))
	w.told = nil
	w.advance(time.Minute)
	if len(w.told) > 0 {
		w.fatal("%d entries without news: %v", len(w.told), w.told[0].cmd)
	}
}

// rack is n hosts in a rack, each with a VM, and 2n others.
func rack(n int, levels ...string) (out []*box) {
	for i := range n {
		out = append(out, newBox(fmt.Sprintf("a%d", i+1), i+1).in("a").fenced(levels...))
	}
	for i := range 2 * n {
		out = append(out, newBox(fmt.Sprintf("b%d", i+1)).in("b"))
	}
	return out
}

// S17: a dead switch fences nobody.
func TestS17BrakeHoldsActiveFences(t *testing.T) {
	w := newWorld(t, rack(5, "ipmi")...)
	for _, b := range w.boxes {
		if b.rack == "a" {
			b.cut()
		}
	}
	w.must(10*time.Second, "the brake", func() bool { return w.state().Brake("rack a") != "" })
	w.never(10*time.Minute, "a fence", func() bool { return w.host("a1").Attempt != nil || w.host("a5").Attempt != nil })
	if w.host("a1").HA != fsm.HAFencing {
		w.fatal("a1 is %s", w.host("a1").HA)
	}
	w.told = nil
	w.advance(10 * time.Minute)
	if len(w.told) > 0 {
		w.fatal("%d entries without news: %v", len(w.told), w.told[0].cmd)
	}
	// A host that fails later has nothing to do with them.
	w.boxes["b1"].cut()
	w.must(10*time.Second, "Down", func() bool { return w.host("b1").Status == fsm.Down })
	// The switch is back.
	for _, b := range w.boxes {
		if b.rack == "a" {
			b.unmute()
		}
	}
	w.must(20*time.Second, "release", func() bool { return w.state().Brake("rack a") == "" })
	if n := count[*logpb.Command_FenceAttempt](w); n != 0 {
		w.fatal("%d attempts", n)
	}
}

// S17: power read as off harms nobody, and counts whenever it is read.
func TestS17RackWithoutPowerRecovers(t *testing.T) {
	w := newWorld(t, rack(5, "ipmi")...)
	for _, b := range w.boxes {
		if b.rack == "a" {
			b.die()
			b.bmc = "dead"
		}
	}
	w.must(10*time.Second, "the brake", func() bool { return w.state().Brake("rack a") != "" })
	w.never(time.Minute, "a fence", func() bool { return w.host("a1").Attempt != nil })
	for _, b := range w.boxes {
		b.bmc = "ok" // the controllers are back: the power reads as off
	}
	w.must(30*time.Second, "recovery", func() bool { return w.state().CountOpenWork() == 0 })
	w.must(20*time.Second, "release", func() bool { return w.state().Brake("rack a") == "" })
}

func TestS17LeaseGoesOnUnderTheBrake(t *testing.T) {
	w := newWorld(t, rack(5, "ipmi", "lease")...)
	for _, b := range w.boxes {
		if b.rack == "a" {
			b.cut()
		}
	}
	w.must(40*time.Second, "recovery", func() bool { return w.state().CountOpenWork() == 0 && w.host("a1").Proof != nil })
	if n := count[*logpb.Command_FenceAttempt](w); n != 0 {
		w.fatal("%d attempts", n)
	}
}

// S17: the limit holds for all that fell silent together, also when the first
// of them have been fenced in the meantime.
func TestS17FencedHostsCountToo(t *testing.T) {
	var boxes []*box
	for i := range 6 {
		boxes = append(boxes, newBox(fmt.Sprintf("h%d", i+1), i+1).fenced("ipmi"))
	}
	w := newWorld(t, boxes...)
	for i := range 3 {
		boxes[i].cut()
	}
	w.must(15*time.Second, "three are fenced", func() bool {
		return w.host("h1").HA == fsm.HAFenced && w.host("h2").HA == fsm.HAFenced && w.host("h3").HA == fsm.HAFenced
	})
	boxes[3].cut()
	boxes[4].cut()
	w.never(5*time.Minute, "a fence beyond the brake", func() bool { return w.host("h4").Attempt != nil || w.host("h5").Attempt != nil })
}

// S17: hosts that failed long ago do not hold back the next.
func TestS17OldFailuresDoNotCount(t *testing.T) {
	var boxes []*box
	for i := range 6 {
		boxes = append(boxes, newBox(fmt.Sprintf("h%d", i+1), i+1).fenced("ipmi"))
	}
	w := newWorld(t, boxes...)
	for i := range 3 {
		boxes[i].bmc = "errors"
		boxes[i].cut()
	}
	w.advance(10 * time.Minute)
	boxes[3].cut()
	w.must(12*time.Second, "fenced", w.is("h4", fsm.HAFenced))
}

// S17: more than 20 %, not a fifth rounded up.
func TestS17FourOfSixteen(t *testing.T) {
	var boxes []*box
	for i := range 16 {
		boxes = append(boxes, newBox(fmt.Sprintf("h%d", i+1), i+1).fenced("ipmi"))
	}
	w := newWorld(t, boxes...)
	for i := range 4 {
		boxes[i].cut()
	}
	w.never(time.Minute, "a fence", func() bool { return w.host("h1").Attempt != nil })
	if w.state().Brake("cluster") == "" {
		w.fatal("4 of 16 are more than 20 %%")
	}
}
