package ha_test

import (
	"testing"
	"time"

	"lifeboat/fsm"
	"lifeboat/fsm/logpb"
)

// braked is a rack of five hosts behind a dead switch.
func braked(t *testing.T, expiry string) *world {
	w := newWorld(t, rack(5, "ipmi")...)
	w.apply(&logpb.PolicySet{Settings: []*logpb.Setting{{Key: "brake_expiry", Value: expiry}}})
	for _, b := range w.boxes {
		if b.rack == "a" {
			b.cut()
		}
	}
	w.must(10*time.Second, "the brake", func() bool { return w.state().Brake("rack a") != "" })
	return w
}

func (w *world) ofRack(is func(*fsm.Host) bool) (n int) {
	for _, h := range w.state().Hosts() {
		if h.Label("rack") == "a" && is(h) {
			n++
		}
	}
	return n
}

func fencedBy(h *fsm.Host) bool { return h.HA == fsm.HAFenced }
func beingFenced(h *fsm.Host) bool {
	return h.HA == fsm.HAFencing && h.Attempt != nil && h.Attempt.Open
}

// S17: a brake that may expire lets go of one host at a time, and of no more than
// brake_min in each expiry.
func TestS17BrakeExpires(t *testing.T) {
	w := braked(t, "5m")
	w.never(4*time.Minute+50*time.Second, "a fence before the brake expires", func() bool { return w.ofRack(fencedBy)+w.ofRack(beingFenced) > 0 })
	two := func() bool { return w.ofRack(beingFenced) > 1 }
	w.until(4*time.Minute+30*time.Second, two)
	if two() {
		w.fatal("two are fenced at a time")
	}
	if n := w.ofRack(fencedBy); n != 3 {
		w.fatal("%d hosts were fenced in the first expiry, want 3", n)
	}
	w.until(5*time.Minute, two)
	if n := w.ofRack(fencedBy); n != 5 || two() {
		w.fatal("%d hosts were fenced in the second", n)
	}
	if w.state().CountOpenWork() != 0 {
		w.fatal("%d VMs still wait", w.state().CountOpenWork())
	}
}

// S17: by default it never expires.
func TestS17BrakeDoesNotExpireByDefault(t *testing.T) {
	if fsm.DefaultPolicy().BrakeExpiry != 0 {
		t.Fatal("it does")
	}
	w := braked(t, "0s")
	w.never(time.Hour, "a fence", func() bool { return w.ofRack(fencedBy)+w.ofRack(beingFenced) > 0 })
}

// S17: a dead controller does not keep the others of an expired brake waiting.
func TestS17ExpiredBrakeGoesAroundDeadControllers(t *testing.T) {
	w := braked(t, "5m")
	w.boxes["a1"].bmc, w.boxes["a2"].bmc = "errors", "errors"
	w.advance(9 * time.Minute)
	if n := w.ofRack(fencedBy); n != 1 {
		w.fatal("%d hosts were fenced in the first expiry, want the one of 3 whose controller works", n)
	}
	w.advance(5 * time.Minute)
	if n := w.ofRack(fencedBy); n != 3 {
		w.fatal("%d hosts were fenced, want the 3 whose controllers work", n)
	}
}

// S17: what an expiry lets go of counts when it is let go of: a controller may cut
// the power and never say so.
func TestS17BrakeExpiryCountsWhatItLetsGo(t *testing.T) {
	w := braked(t, "5m")
	for _, b := range w.boxes {
		b.bmc = "errors"
	}
	tried := func(h *fsm.Host) bool { return h.Attempt != nil }
	w.never(9*time.Minute+30*time.Second, "a fourth host whose power may be cut in the first expiry", func() bool { return w.ofRack(tried) > 3 })
	if n := w.ofRack(tried); n != 3 {
		w.fatal("it let go of %d hosts in the first expiry, want 3", n)
	}
	w.advance(5 * time.Minute)
	if n := w.ofRack(tried); n != 5 {
		w.fatal("it let go of %d hosts in two expiries, want all 5", n)
	}
}

// S17: a host whose silence is explained, because its power was read as off, is not
// held, so it takes nobody's turn.
func TestS17BrakeExpiryDoesNotCountWhatWasSeenDead(t *testing.T) {
	w := braked(t, "5m")
	w.advance(5*time.Minute - 2*time.Second)
	w.must(time.Minute, "the expiry", func() bool { return w.ofRack(beingFenced) > 0 })
	for _, id := range []fsm.HostID{"a3", "a4", "a5"} {
		w.boxes[id].die()
	}
	w.must(2*time.Minute, "a fence of all", func() bool { return w.ofRack(fencedBy) == 5 })
}

// S9, S17: an operator's word ends the wait of one host under the brake, and of
// that one only.
func TestS17ConfirmDeadUnderTheBrake(t *testing.T) {
	w := braked(t, "0s")
	w.must(10*time.Second, "Down", w.is("a1", fsm.HAFencing))
	w.boxes["a1"].die()
	w.apply(&logpb.HostFenced{Host: "a1", Epoch: w.host("a1").Epoch, Proof: &logpb.Proof{Kind: uint32(fsm.ProofOperator), By: "alice", Detail: "I pulled the plug"}})
	w.must(30*time.Second, "restart", func() bool { _, h := w.vm(1); return h.Label("rack") == "b" && w.work(1).ID == 0 })
	w.never(10*time.Minute, "another fence", func() bool { return w.ofRack(fencedBy) > 1 || w.ofRack(beingFenced) > 0 })
	if w.state().Brake("rack a") == "" {
		w.fatal("the brake is off")
	}
}
