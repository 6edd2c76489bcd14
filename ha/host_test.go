package ha_test

import (
	"testing"
	"time"

	"lifeboat/fsm"
	"lifeboat/fsm/logpb"
)

func TestSilentHostIsFencedAndItsVMsStartElsewhere(t *testing.T) {
	w := newWorld(t, newBox("h1", 1, 2), newBox("h2"), newBox("h3"))
	w.boxes["h1"].cut() // it runs on, and its BMC works
	order := w.must(12*time.Second, "a start order", w.ordered(1))
	t.Logf("start order after %s", order)
	if h := w.host("h1"); h.Proof == nil || h.Proof.Kind != fsm.ProofPower {
		w.fatal("proof %+v", h.Proof)
	}
	v, _ := w.vm(2)
	if w.state().Work(v.Work).Step != fsm.Restarting {
		w.fatal("the other VM is not ordered in the same entry")
	}
	w.must(4*time.Second, "both VMs run", func() bool { return w.runsOn(1, "h2")() && w.runsOn(2, "h3")() })
	if n := count[*logpb.Command_HostDown](w); n != 1 {
		w.fatal("%d HostDown", n)
	}
}

func TestSuspectAfterThreeBeats(t *testing.T) {
	w := newWorld(t, newBox("h1", 1), newBox("h2"))
	b := w.boxes["h1"]
	heard := w.soft.Hosts.Of("h1").Heard
	b.cut()
	w.must(10*time.Second, "suspicion", func() bool { return w.host("h1").Status == fsm.Alert })
	if quiet := w.mono() - heard; quiet != 3*time.Second {
		w.fatal("suspect after %s", quiet)
	}
}

func TestLeaseAloneProvesDeath(t *testing.T) {
	w := newWorld(t, newBox("h1", 1).fenced("lease"), newBox("h2"), newBox("h3"))
	w.boxes["h1"].cut()
	took := w.must(30*time.Second, "a start order", w.ordered(1))
	t.Logf("start order after %s", took)
	if w.host("h1").Proof.Kind != fsm.ProofLease {
		w.fatal("proof %+v", w.host("h1").Proof)
	}
}

func TestHostWithoutLevelsWaitsForTheOperator(t *testing.T) {
	w := newWorld(t, newBox("h1", 1).fenced(), newBox("h2"))
	w.boxes["h1"].die()
	w.never(10*time.Minute, "a start without proof", w.ordered(1))
	h := w.host("h1")
	if h.HA != fsm.HAFencing {
		w.fatal("host is %s", h.HA)
	}
	w.apply(&logpb.HostFenced{Host: "h1", Epoch: h.Epoch, Proof: &logpb.Proof{Kind: uint32(fsm.ProofOperator), By: "alice"}})
	w.must(5*time.Second, "start after the operator's word", w.runsOn(1, "h2"))
}

// S12, S20: seen alive, and nothing could stop its VMs.
func TestSeenAliveWithoutLeaseIsNeverTouched(t *testing.T) {
	w := newWorld(t, newBox("h1", 1).fenced("ipmi"), newBox("h2"), newBox("h3"))
	b := w.boxes["h1"]
	b.mute()
	w.must(10*time.Second, "Degraded", w.is("h1", fsm.HADegraded))
	w.told = nil
	w.never(time.Hour, "Down", func() bool { return w.host("h1").Status == fsm.Down })
	if len(w.told) > 0 {
		w.fatal("an hour of the same situation made %d log entries", len(w.told))
	}
	b.die() // and now it really dies
	w.must(30*time.Second, "start elsewhere", w.runsOn(1, "h2"))
}

func TestSeenAliveWithLeaseWaitsForItsEnd(t *testing.T) {
	w := newWorld(t, newBox("h1", 1), newBox("h2"), newBox("h3"))
	b := w.boxes["h1"]
	heard := w.now
	b.mute()
	w.must(10*time.Second, "Degraded", w.is("h1", fsm.HADegraded))
	order := w.ordered(1)
	w.must(30*time.Second, "start order", order)
	if d := time.Duration(w.now - heard); d < w.state().Policy.Takeover {
		w.fatal("started %s after the last contact", d)
	}
	if w.host("h1").Proof.Kind != fsm.ProofLease || count[*logpb.Command_FenceAttempt](w) != 0 {
		w.fatal("proof %+v, %d attempts", w.host("h1").Proof, count[*logpb.Command_FenceAttempt](w))
	}
}

func TestHeardAgainWhileSuspect(t *testing.T) {
	w := newWorld(t, newBox("h1", 1), newBox("h2"), newBox("h3"))
	b := w.boxes["h1"]
	b.mute()
	w.must(10*time.Second, "suspicion", func() bool { return w.host("h1").Status == fsm.Alert })
	b.unmute()
	w.must(2*time.Second, "Up", func() bool { return w.host("h1").Status == fsm.Up })
	v, h := w.vm(1)
	if h.ID != "h1" || v.Power != fsm.PowerOn || w.work(1).ID != 0 {
		w.fatal("VM %+v on %s", v, h.ID)
	}
	// What was found out then says nothing about the next silence.
	w.advance(time.Hour)
	b.cut()
	w.must(10*time.Second, "suspicion", func() bool { return w.host("h1").Status == fsm.Alert })
	at := w.mono()
	w.must(10*time.Second, "Down", func() bool { return w.host("h1").Status == fsm.Down })
	if i := w.soft.Hosts.Of("h1").Check; i.Started < at {
		w.fatal("Down by what was found %s before the suspicion", at-i.Started)
	}
}

// S15: nobody hears a host in the first moments of a term.
func TestS15NewLeaderListensFirst(t *testing.T) {
	w := newWorld(t, newBox("h1", 1), newBox("h2"), newBox("h3"))
	w.advance(time.Hour)
	for _, b := range w.boxes {
		b.network = false
	}
	w.elect("n2")
	w.never(2900*time.Millisecond, "a suspicion", func() bool { return w.host("h1").Status != fsm.Up || w.host("h2").Status != fsm.Up })
	for _, b := range w.boxes {
		b.network = true
	}
	w.never(time.Minute, "a suspicion", func() bool { return w.host("h1").Status != fsm.Up })
}

// S15: a new leader asks at once about a suspect, but does not take its own
// deafness for the host's death.
func TestS15InheritedSuspectIsNotDownByTheLeadersDeafness(t *testing.T) {
	w := newWorld(t, newBox("h1", 1), newBox("h2"), newBox("h3"))
	b := w.boxes["h1"]
	b.cut()
	w.must(10*time.Second, "suspicion", func() bool { return w.host("h1").Status == fsm.Alert })
	for _, x := range w.boxes {
		x.network = false
	}
	w.elect("n2")
	w.advance(500 * time.Millisecond)
	if c := w.soft.Hosts.Of("h1").Check; c == nil {
		w.fatal("the new leader does not ask")
	}
	w.never(2*time.Second, "Down", func() bool { return w.host("h1").Status == fsm.Down })
	for _, x := range w.boxes {
		x.network, x.seen = true, true
	}
	w.must(2*time.Second, "Up", func() bool { return w.host("h1").Status == fsm.Up })
	b.cut()
	w.elect("n3") // and when it is really gone
	w.must(8*time.Second, "Down", func() bool { return w.host("h1").Status == fsm.Down })
}

// S15: a lease may have been renewed until the term began.
func TestS15LeaseWaitStartsWithTheTerm(t *testing.T) {
	w := newWorld(t, newBox("h1", 1).fenced("lease"), newBox("h2"), newBox("h3"))
	w.boxes["h1"].cut()
	w.must(10*time.Second, "Down", func() bool { return w.host("h1").Status == fsm.Down })
	w.elect("n2")
	start := w.now
	w.must(30*time.Second, "start order", w.ordered(1))
	if d := time.Duration(w.now - start); d < w.state().Policy.Takeover {
		w.fatal("the lease was taken for over %s after the term began", d)
	}
}

// A leader that was frozen has not heard anybody: that is no sign of life
// either.
func TestFrozenLeaderTakesSilenceForNothing(t *testing.T) {
	w := newWorld(t, newBox("h1", 1), newBox("h2"), newBox("h3"))
	w.boxes["h1"].mute()
	w.must(10*time.Second, "Degraded", w.is("h1", fsm.HADegraded))
	w.frozen = true
	w.advance(4 * time.Second)
	w.frozen = false
	w.soft.Since = w.mono()
	w.soft.Proven = w.mono()
	w.settle()
	if h := w.host("h1"); h.Status != fsm.Alert {
		w.fatal("host is %s", h.Status)
	}
	for _, id := range []fsm.HostID{"h2", "h3"} {
		if w.host(id).Status != fsm.Up {
			w.fatal("%s is %s", id, w.host(id).Status)
		}
	}
}

// S14: without a fresh commit nothing is done to the world.
func TestS14NothingWithoutFreshCommit(t *testing.T) {
	w := newWorld(t, newBox("h1", 1).fenced("ipmi"), newBox("h2"), newBox("h3"))
	w.commits = false
	w.advance(4 * time.Second)
	w.boxes["h1"].cut()
	w.never(time.Minute, "Down", func() bool { return w.host("h1").Status == fsm.Down })
	w.commits = true
	w.must(5*time.Second, "attempt", func() bool { return w.host("h1").Attempt != nil })
	w.commits = false
	w.soft.Proven = w.mono() - 4*time.Second
	w.never(30*time.Second, "Fenced", w.is("h1", fsm.HAFenced))
	w.commits = true
	w.must(5*time.Second, "Fenced", w.is("h1", fsm.HAFenced))
}

// S14: frozen between the commit of an attempt and its start.
func TestS14AttemptIsNotBegunLate(t *testing.T) {
	w := newWorld(t, newBox("h1", 1).fenced("ipmi"), newBox("h2"), newBox("h3"))
	b := w.boxes["h1"]
	b.cut()
	w.must(10*time.Second, "Down", func() bool { return w.host("h1").Status == fsm.Down })
	// The attempt is committed in the same instant; take back that it began.
	if w.host("h1").Attempt == nil {
		w.fatal("no attempt")
	}
	c := w.soft.Hosts.Of("h1")
	c.Fence = nil
	w.soft.Hosts.Set("h1", c)
	w.queue = nil // nothing of it happens, and nobody beats
	w.now = w.host("h1").Attempt.Until
	w.soft.Since, w.soft.Proven = w.mono(), w.mono()
	plan := w.decide()
	if len(plan.Effects) != 0 || len(plan.Commands) != 1 || plan.Commands[0].GetFenceResult() == nil {
		w.fatal("after the deadline: %v", plan)
	}
	w.soft.Proven = w.mono() - time.Minute
	w.now -= int64(8 * time.Second)
	if plan := w.decide(); len(plan.Effects) != 0 {
		w.fatal("begun without a fresh commit: %v", plan)
	}
}

// S16
func TestS16CleanStopIsGivenGrace(t *testing.T) {
	w := newWorld(t, newBox("h1", 1), newBox("h2"), newBox("h3"))
	b := w.boxes["h1"]
	b.stop()
	w.never(59*time.Second, "a change", func() bool { return w.host("h1").Status != fsm.Disconnected })
	w.must(5*time.Second, "suspicion", func() bool { return w.host("h1").Status == fsm.Alert })
	// It is seen alive and its lease was withdrawn: not touched.
	w.never(10*time.Minute, "Down", func() bool { return w.host("h1").Status == fsm.Down || w.host("h1").Status == fsm.Up })
	b.die()
	w.must(30*time.Second, "start elsewhere", w.runsOn(1, "h2"))
}

func TestS16StoppedAgentComesBack(t *testing.T) {
	w := newWorld(t, newBox("h1", 1), newBox("h2"))
	b := w.boxes["h1"]
	b.stop()
	w.advance(30 * time.Second)
	b.agent = true
	b.session++
	w.must(2*time.Second, "Up", func() bool { return w.host("h1").Status == fsm.Up })
	w.never(2*time.Minute, "a change", func() bool { return w.host("h1").Status != fsm.Up })
}

// The grace protects the agent's restart, not a machine that is off.
func TestS16StoppedAgentAndThenPowerOff(t *testing.T) {
	for _, at := range []time.Duration{0, 20 * time.Second} {
		w := newWorld(t, newBox("h1", 1), newBox("h2"), newBox("h3"))
		b := w.boxes["h1"]
		b.stop()
		w.advance(at)
		b.die()
		w.never(2*time.Second, "Up by its goodbye", func() bool { return w.host("h1").Status == fsm.Up })
		w.must(30*time.Second, "start elsewhere", func() bool {
			if w.host("h1").Status == fsm.Up {
				w.fatal("its goodbye was taken for a sign of life")
			}
			return w.runsOn(1, "h2")()
		})
	}
}

// S16: no grace at all is not "at once and back again".
func TestS16NoGrace(t *testing.T) {
	w := newWorld(t, newBox("h1", 1), newBox("h2"), newBox("h3"))
	w.apply(&logpb.PolicySet{Settings: []*logpb.Setting{{Key: "agent_stop_grace", Value: "0s"}}})
	w.boxes["h1"].stop()
	w.must(5*time.Second, "suspicion", func() bool { return w.host("h1").Status == fsm.Alert })
	w.never(time.Minute, "Up by its goodbye", func() bool { return w.host("h1").Status == fsm.Up })
}

// S19
func TestS19MaintenanceWithoutProtectedVMs(t *testing.T) {
	w := newWorld(t, newBox("h1"), newBox("h2", 1), newBox("h3"))
	for _, h := range []string{"h1", "h2"} {
		w.apply(&logpb.HostControl{Host: h, Action: fsm.HostMaintenanceOn})
	}
	w.boxes["h1"].cut()
	w.boxes["h2"].cut()
	w.must(10*time.Second, "Disconnected", func() bool { return w.host("h1").Status == fsm.Disconnected })
	w.must(30*time.Second, "failover", w.runsOn(1, "h3"))
	if h := w.host("h1"); h.Status != fsm.Disconnected {
		w.fatal("h1 is %s", h.Status)
	}
	w.boxes["h1"].unmute()
	w.must(5*time.Second, "Up", func() bool { return w.host("h1").Status == fsm.Up })
}

// A registration is committed before its first contact is noted.
func TestRegistrationIsNotSilence(t *testing.T) {
	w := newWorld(t, newBox("h1", 1), newBox("h2"))
	w.advance(time.Hour)
	b := w.boxes["h1"]
	b.session++
	w.never(10*time.Second, "a suspicion", func() bool { return w.host("h1").Status == fsm.Alert })
	if n := count[*logpb.Command_HostSuspect](w); n != 0 {
		w.fatal("%d suspicions", n)
	}
}

func TestDisarmedNothingIsDone(t *testing.T) {
	w := newWorld(t, newBox("h1", 1, 2), newBox("h2"), newBox("h3"))
	w.boxes["h1"].guests[vmID(2)].on = false
	w.boxes["h1"].guests[vmID(2)].reason = fsm.ReasonCrashed
	w.apply(&logpb.Arm{Armed: false})
	w.advance(2 * time.Second)
	w.boxes["h1"].die()
	w.never(10*time.Minute, "Down or a start", func() bool { return w.host("h1").Status == fsm.Down || w.ordered(2)() })
	w.apply(&logpb.Arm{Armed: true})
	w.must(30*time.Second, "start", func() bool { return w.runsOn(1, "h2")() || w.runsOn(1, "h3")() })
}
