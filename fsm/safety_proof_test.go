package fsm

import (
	"strings"
	"testing"
	"time"

	"lifeboat/fsm/logpb"
)

// The tests of this file are named after the rule they hold: what proves a death.

func TestS9OnlyProofFences(t *testing.T) {
	for kind, want := range map[ProofKind]bool{0: false, ProofPower: true, ProofLease: true, ProofBoot: true, ProofOperator: true, 5: false, 77: false} {
		l := fleet(t, 2, 1)
		l.ok(l.hostDown("h1"))
		if no := l.do(l.fenced("h1", kind)); (no == "") != want {
			t.Errorf("proof %d: %q", kind, no)
		}
	}
	l := fleet(t, 2, 1)
	l.ok(l.hostDown("h1"))
	l.rejected(&logpb.HostFenced{Host: "h1", Epoch: 1})
}

func TestS10FromHostDownOnTheEpochIsOver(t *testing.T) {
	l := fleet(t, 2, 1)
	l.ok(l.hostDown("h1"))
	l.rejected(l.reportOf("h1", said{vm: 1, power: PowerOn, inc: inc(1)}))
	l.rejected(&logpb.VMSpecs{Host: "h1", Epoch: 1, Specs: []*logpb.Spec{spec(1)}})
	l.rejected(leaseOf(l.host("h1")))
	before := essence(l.state())
	l.ok(&logpb.HostSeen{Host: "h1", Epoch: 1})
	l.ok(l.suspect("h1"))
	l.ok(l.hostDown("h1"))
	if essence(l.state()) != before {
		t.Fatal("a host that is Down was talked back")
	}
	l.register("h1", "b1")
	l.rejected(&logpb.HostFenced{Host: "h1", Epoch: 1, Proof: &logpb.Proof{Kind: uint32(ProofPower)}})
	if l.host("h1").Status != Up {
		t.Fatalf("%s", essence(l.state()))
	}
}

func TestS10HeldWhileAFenceMayBeInFlight(t *testing.T) {
	flight := func(t *testing.T) *lab {
		l := fleet(t, 2, 1)
		l.ok(l.hostDown("h1"))
		l.ok(l.attempt("h1", 1)) // 10 s
		l.wait(time.Second)
		return l
	}
	on := said{vm: 1, power: PowerOn, inc: inc(1)}
	held := func(t *testing.T, l *lab) {
		t.Helper()
		if h := l.host("h1"); h.Status != Connecting || h.HA != HARecovering {
			t.Fatalf("not held: %s/%s", h.Status, h.HA)
		}
		l.do(&logpb.HostSeen{Host: "h1", Epoch: l.host("h1").Epoch})
		if l.host("h1").Status == Up || l.step(1) != Fencing {
			t.Fatalf("let go\n%s", essence(l.state()))
		}
	}
	seen := func(l *lab) *logpb.HostSeen { return &logpb.HostSeen{Host: "h1", Epoch: l.host("h1").Epoch} }
	t.Run("until the deadline", func(t *testing.T) {
		l := flight(t)
		l.register("h1", "b1", on)
		held(t, l)
		l.wait(10 * time.Second)
		l.ok(seen(l))
		if l.host("h1").Status != Up || l.vm(1).Work != 0 || l.vm(1).Incarnation != inc(1) {
			t.Fatalf("%s", essence(l.state()))
		}
		for _, w := range l.state().AllWork() {
			if w.Step != Done || !strings.HasPrefix(w.Outcome, "not needed") {
				t.Fatalf("the work ended %s: %s", w.Step, w.Outcome)
			}
		}
	})
	t.Run("until its end", func(t *testing.T) {
		l := flight(t)
		l.register("h1", "b1", on)
		l.ok(&logpb.FenceResult{Host: "h1", Epoch: 1, Attempt: 1, Failure: "no answer"})
		l.ok(seen(l))
		if l.host("h1").Status != Up {
			t.Fatal("held for ever")
		}
	})
	t.Run("the end of another attempt is not its end", func(t *testing.T) {
		l := flight(t)
		l.register("h1", "b1", on)
		l.ok(&logpb.FenceResult{Host: "h1", Epoch: 1, Attempt: 2, Failure: "no answer"})
		held(t, l)
	})
	t.Run("however often it registers", func(t *testing.T) {
		l := flight(t)
		for range 3 {
			l.register("h1", "b1", on)
			held(t, l)
		}
	})
	t.Run("by way of Alert", func(t *testing.T) {
		l := flight(t)
		l.register("h1", "b1", on)
		l.ok(&logpb.HostUnproven{Host: "h1", Epoch: 2, Reason: "silent again"})
		l.ok(seen(l))
		held(t, l)
	})
	t.Run("by way of a goodbye", func(t *testing.T) {
		l := flight(t)
		l.register("h1", "b1", on)
		l.ok(&logpb.HostLeave{Host: "h1", Epoch: 2, Session: "s1"})
		l.register("h1", "b1", on)
		held(t, l)
	})
	t.Run("by way of a second death", func(t *testing.T) {
		l := flight(t)
		l.register("h1", "b1", on)
		l.ok(l.hostDown("h1"))
		l.register("h1", "b1", on)
		held(t, l)
	})
	t.Run("by way of another proof", func(t *testing.T) {
		l := flight(t)
		l.ok(l.fenced("h1", ProofLease))
		l.register("h1", "b1")
		if l.host("h1").Status != Connecting {
			t.Fatalf("%s", essence(l.state()))
		}
	})
	// Another leader tries again at once; what the first one sent may still happen.
	again := func(t *testing.T) *lab {
		l := flight(t)
		a := l.attempt("h1", 2)
		a.DeadlineNs = int64(2 * time.Second)
		l.ok(a)
		l.wait(time.Second)
		return l
	}
	letGo := func(t *testing.T, l *lab) {
		t.Helper()
		l.wait(9 * time.Second)
		if l.ok(seen(l)); l.host("h1").Status != Up {
			t.Fatalf("held for ever\n%s", essence(l.state()))
		}
	}
	t.Run("while the attempt before the last may be", func(t *testing.T) {
		l := again(t)
		l.ok(&logpb.FenceResult{Host: "h1", Epoch: 1, Attempt: 2, Failure: "no answer"})
		l.register("h1", "b1", on)
		held(t, l)
		letGo(t, l)
	})
	t.Run("while the attempt before the last three may be", func(t *testing.T) {
		l := again(t)
		for n := range uint32(3) {
			l.ok(&logpb.FenceResult{Host: "h1", Epoch: 1, Attempt: 2 + n, Failure: "no answer"})
			a := l.attempt("h1", 3+n)
			a.DeadlineNs = int64(time.Second)
			l.ok(a)
		}
		l.register("h1", "b1", on)
		held(t, l)
		letGo(t, l)
	})
	t.Run("while the attempt before the one that succeeded may be", func(t *testing.T) {
		l := again(t)
		l.ok(l.fenced("h1", ProofPower))
		if l.register("h1", "b2"); l.host("h1").Status != Connecting {
			t.Fatalf("let go\n%s", essence(l.state()))
		}
		letGo(t, l)
	})
	t.Run("through an attempt without a deadline", func(t *testing.T) {
		l := fleet(t, 2, 1)
		l.ok(l.hostDown("h1"))
		a := l.attempt("h1", 1)
		a.DeadlineNs = -1 << 63
		l.ok(a)
		l.register("h1", "b1", on)
		held(t, l)
	})
	t.Run("also after a reboot, whose VMs need not wait", func(t *testing.T) {
		l := flight(t)
		l.register("h1", "b2") // the power of the new boot may be cut as well
		if l.host("h1").Status != Connecting || !l.vm(1).Gone || l.step(1) != Scheduled {
			t.Fatalf("%s", essence(l.state()))
		}
	})
}

func TestS11AnotherMachineIsRefused(t *testing.T) {
	l := fleet(t, 2, 1)
	r := registration("h1", "b9")
	r.MachineId = "stolen id"
	l.rejected(r)
}

func TestS12LateRequestArmsNothing(t *testing.T) {
	l := fleet(t, 2, 1)
	h := l.host("h1")
	told := max(h.Assigned, l.state().ArmedIndex)
	arm := &logpb.HostLease{Host: "h1", Epoch: h.Epoch, Armed: true, BootId: h.BootID, DurationNs: int64(10 * time.Second),
		Watchdog: uint32(WatchdogHardware), BoundNs: int64(time.Second), Assignment: told}
	l.ok(&logpb.Arm{})
	l.ok(&logpb.Arm{Armed: true})
	l.rejected(arm) // said before it was told to give the lease up
	if l.host("h1").Lease != nil {
		t.Fatal("a lease that the agent has given up is armed")
	}
	arm.Assignment = max(l.host("h1").Assigned, l.state().ArmedIndex)
	l.ok(arm)
}

func TestS12LeaseIsProofOnlyWhileArmed(t *testing.T) {
	for _, tc := range []struct {
		name string
		do   func(l *lab)
		ok   bool
	}{
		{"armed", func(*lab) {}, true},
		{"withdrawn", func(l *lab) { c := leaseOf(l.host("h1")); c.Armed = false; l.ok(c) }, false},
		{"never armed since it registered", func(l *lab) { l.register("h1", "b1", said{vm: 1, power: PowerOn, inc: inc(1)}) }, false},
		{"HA was disarmed and armed", func(l *lab) { l.ok(&logpb.Arm{}); l.ok(&logpb.Arm{Armed: true}) }, false},
		{"level removed", func(l *lab) {
			l.ok(&logpb.HostFenceLevels{Host: "h1", Levels: []*logpb.FenceLevel{{Driver: "ipmi"}}})
		}, false},
		{"soft watchdog", func(l *lab) { c := leaseOf(l.host("h1")); c.Watchdog = uint32(WatchdogSoft); l.ok(c) }, false},
		{"soft watchdog, accepted", func(l *lab) {
			c := leaseOf(l.host("h1"))
			c.Watchdog = uint32(WatchdogSoft)
			l.ok(c)
			l.ok(&logpb.PolicySet{Settings: []*logpb.Setting{{Key: "accept_soft_watchdog", Value: "true"}}})
		}, true},
		{"external watchdog", func(l *lab) { c := leaseOf(l.host("h1")); c.Watchdog = uint32(WatchdogExternal); l.ok(c) }, true},
		{"no watchdog", func(l *lab) { c := leaseOf(l.host("h1")); c.Watchdog = 0; l.ok(c) }, false},
	} {
		t.Run(tc.name, func(t *testing.T) {
			l := fleet(t, 2, 1)
			tc.do(l)
			l.ok(l.hostDown("h1"))
			if no := l.do(l.fenced("h1", ProofLease)); (no == "") != tc.ok {
				t.Fatalf("%q", no)
			}
		})
	}
}

func TestS12LeasesThatMakeNoSenseAreNotArmed(t *testing.T) {
	for name, f := range map[string]func(c *logpb.HostLease, l *lab){
		"no duration":      func(c *logpb.HostLease, _ *lab) { c.DurationNs = 0 },
		"negative":         func(c *logpb.HostLease, _ *lab) { c.DurationNs = -1 },
		"negative bound":   func(c *logpb.HostLease, _ *lab) { c.BoundNs = -1 },
		"too long":         func(c *logpb.HostLease, _ *lab) { c.DurationNs = int64(13 * time.Second) },
		"bound too long":   func(c *logpb.HostLease, _ *lab) { c.BoundNs = int64(6 * time.Second) },
		"unknown watchdog": func(c *logpb.HostLease, _ *lab) { c.Watchdog = 257 },
		"another boot":     func(c *logpb.HostLease, _ *lab) { c.BootId = "b0" },
		"another epoch":    func(c *logpb.HostLease, _ *lab) { c.Epoch = 7 },
		"disarmed":         func(_ *logpb.HostLease, l *lab) { l.ok(&logpb.Arm{}) },
		"no such level":    func(_ *logpb.HostLease, l *lab) { l.ok(&logpb.HostFenceLevels{Host: "h1"}) },
	} {
		t.Run(name, func(t *testing.T) {
			l := fleet(t, 1, 0)
			withdrawn := leaseOf(l.host("h1"))
			withdrawn.Armed = false
			l.ok(withdrawn)
			c := leaseOf(l.host("h1"))
			f(c, l)
			l.rejected(c)
		})
	}
}

func TestS16GoodbyeWithdrawsTheLease(t *testing.T) {
	bye := func(l *lab) *logpb.HostLeave {
		return &logpb.HostLeave{Host: "h1", Epoch: l.host("h1").Epoch, Session: "s1", Reason: "stopped"}
	}
	t.Run("and a late request does not bring it back", func(t *testing.T) {
		l := fleet(t, 2, 1)
		late := leaseOf(l.host("h1"))
		l.ok(bye(l))
		if v := l.vm(1); v.Power != PowerOn || v.Work != 0 {
			t.Fatal("the VM was touched")
		}
		l.rejected(late)
		l.ok(l.hostDown("h1"))
		l.rejected(l.fenced("h1", ProofLease))
	})
	t.Run("of a host that is Down already", func(t *testing.T) {
		l := fleet(t, 2, 1)
		l.ok(l.hostDown("h1"))
		l.ok(bye(l))
		l.rejected(l.fenced("h1", ProofLease))
	})
	t.Run("too late for one that is proven dead", func(t *testing.T) {
		l := fleet(t, 2, 1)
		l.ok(l.hostDown("h1"))
		l.ok(l.fenced("h1", ProofLease))
		l.rejected(bye(l))
	})
	t.Run("not of another agent", func(t *testing.T) {
		l := fleet(t, 2, 1)
		c := bye(l)
		c.Session = "s0"
		l.rejected(c)
		if l.host("h1").Lease == nil {
			t.Fatal("withdrawn")
		}
	})
}
