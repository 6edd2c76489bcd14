package fsm

import (
	"strings"
	"testing"
	"time"

	"google.golang.org/protobuf/proto"

	"lifeboat/fsm/logpb"
)

// The tests of this file are named after the rule they hold.

func TestS1IncarnationsGrowAcrossGenerations(t *testing.T) {
	for _, i := range []Incarnation{0, inc(1), inc(41), NewIncarnation(3, 7), NewIncarnation(1, 1<<40-1), ^Incarnation(0) - 1} {
		for _, g := range []uint32{1, 2, 9} {
			if n := i.Next(g); n <= i {
				t.Errorf("after %s in generation %d comes %s", i, g, n)
			}
		}
	}
	if n := NewIncarnation(1, 8).Next(2); n != NewIncarnation(2, 9) {
		t.Errorf("a new generation grants %s", n)
	}
}

func TestS1AdoptedCopyOfALaterGenerationIsBeaten(t *testing.T) {
	l := fleet(t, 2, 1)
	l.report("h1", said{vm: 1, power: PowerOff, reason: ReasonShutdown, inc: inc(1)})
	held := NewIncarnation(4, 9) // an agent remembers more than a restored state
	l.report("h2", said{vm: 1, power: PowerOn, inc: held})
	if l.owner(1) != "h2" || l.vm(1).Incarnation <= held {
		t.Fatalf("on %s at %s", l.owner(1), l.vm(1).Incarnation)
	}
}

func TestS2NoGrantWithoutProof(t *testing.T) {
	for _, tc := range []struct {
		name  string
		lose  func(l *lab)
		where HostID
		ok    bool
	}{
		{"crashed, in place", func(l *lab) { l.report("h1", crashed(1)) }, "h1", true},
		{"crashed, elsewhere", func(l *lab) { l.report("h1", crashed(1)) }, "h2", false},
		{"crashed and given up", func(l *lab) {
			l.report("h1", crashed(1))
			l.ok(&logpb.WorkUpdate{Work: uint64(l.vm(1).Work), Action: WorkWithdraw, Reason: "r"})
			l.report("h1", said{vm: 1, power: PowerOff, refused: inc(1)})
		}, "h2", true},
		{"withdrawn without an answer", func(l *lab) {
			l.report("h1", crashed(1))
			l.ok(&logpb.WorkUpdate{Work: uint64(l.vm(1).Work), Action: WorkWithdraw, Reason: "r"})
			l.wait(time.Hour)
		}, "h2", false},
		{"host down", func(l *lab) { l.ok(l.hostDown("h1")); l.wait(50 * time.Minute) }, "h2", false},
		{"host dead", func(l *lab) { l.kill("h1") }, "h2", true},
		{"host rebooted", func(l *lab) { l.register("h1", "b2") }, "h2", true},
		{"missing", func(l *lab) { l.missing("h1", 1); l.wait(50 * time.Minute) }, "h2", false},
		{"released, elsewhere", func(l *lab) {
			l.missing("h1", 1)
			l.ok(&logpb.VMReleased{Vm: idBytes(1), Work: uint64(l.vm(1).Work), Reason: "nobody has it"})
		}, "h2", false},
		{"released, in place", func(l *lab) {
			l.missing("h1", 1)
			l.ok(&logpb.VMReleased{Vm: idBytes(1), Work: uint64(l.vm(1).Work), Reason: "nobody has it"})
		}, "h1", true},
		{"still running", func(*lab) {}, "h2", false},
	} {
		t.Run(tc.name, func(t *testing.T) {
			l := fleet(t, 2, 1)
			tc.lose(l)
			l.ok(l.place(1, tc.where))
			if granted := l.vm(1).Incarnation == inc(2); granted != tc.ok {
				t.Fatalf("granted: %v\n%s", granted, essence(l.state()))
			}
			if tc.ok && (l.owner(1) != tc.where || l.host(tc.where).order(OrderStart, testVM(1)).Incarnation != inc(2)) {
				t.Fatalf("ownership did not move with the grant\n%s", essence(l.state()))
			}
		})
	}
}

// A power state that is not known is not "off": a start order that failed in an
// unknown way does not free the VM.
func TestS2StopRightAfterStartStaysWithItsHost(t *testing.T) {
	l := fleet(t, 2, 1)
	l.kill("h1", "h2")
	l.report("h2", said{vm: 1, power: PowerOff, reason: ReasonCrashed, inc: inc(2)})
	l.register("h3", "b1")
	l.ok(l.place(1, "h3"))
	if l.owner(1) != "h2" || l.vm(1).Gone {
		t.Fatalf("moved on its owner's bare word\n%s", essence(l.state()))
	}
}

func TestS3FailureOfAnotherIncarnationIsNoNews(t *testing.T) {
	l := fleet(t, 2, 1)
	l.kill("h1", "h2") // 1.2 on h2
	l.report("h2", said{vm: 1, power: PowerOff, inc: inc(1), failed: inc(1), refused: inc(1)})
	if l.step(1) != Restarting || l.vm(1).Gone {
		t.Fatalf("%s", essence(l.state()))
	}
}

func TestS4OrdersAreWithdrawnOnlyByTombstoneOrDeath(t *testing.T) {
	restarting := func(t *testing.T) *lab {
		l := fleet(t, 3, 1)
		l.kill("h1", "h2")
		return l
	}
	start := func(l *lab) *Order { return l.host("h2").order(OrderStart, testVM(1)) }
	t.Run("a timeout is no answer", func(t *testing.T) {
		l := restarting(t)
		l.ok(&logpb.WorkUpdate{Work: uint64(l.vm(1).Work), Action: WorkWithdraw, Reason: "too slow"})
		if start(l) != nil || l.host("h2").order(OrderDestroy, testVM(1)) == nil || l.step(1) != Stopping {
			t.Fatalf("%s", essence(l.state()))
		}
		l.ok(l.place(1, "h3"))
		if l.owner(1) != "h2" {
			t.Fatal("started elsewhere before the tombstone")
		}
		l.report("h2", said{vm: 1, power: PowerOff, refused: inc(2)})
		l.ok(l.place(1, "h3"))
		if l.owner(1) != "h3" || l.vm(1).Incarnation != inc(3) {
			t.Fatalf("%s", essence(l.state()))
		}
	})
	t.Run("nobody cancels it away", func(t *testing.T) {
		l := restarting(t)
		l.rejected(&logpb.WorkUpdate{Work: uint64(l.vm(1).Work), Action: WorkCancel})
		l.rejected(&logpb.VMControl{Vm: idBytes(1), Action: VMStop})
		l.rejected(&logpb.VMProtect{Vm: idBytes(1)})
		l.rejected(&logpb.VMProtect{Vm: idBytes(1), Protect: &logpb.Protection{On: true, Ha: "none"}})
		l.ok(l.hostDown("h2"))
		l.rejected(&logpb.WorkUpdate{Work: uint64(l.vm(1).Work), Action: WorkCancel})
		l.ok(l.fenced("h2", ProofPower))
		l.ok(&logpb.WorkUpdate{Work: uint64(l.vm(1).Work), Action: WorkCancel})
	})
	t.Run("losing the metadata does not either", func(t *testing.T) {
		l := restarting(t)
		x := spec(1)
		x.Protect = nil
		l.ok(&logpb.VMSpecs{Host: "h2", Epoch: 1, Specs: []*logpb.Spec{x}})
		if start(l) == nil || l.step(1) != Restarting {
			t.Fatalf("%s", essence(l.state()))
		}
		l.report("h2", said{vm: 1, power: PowerOff, inc: inc(2), failed: inc(2)})
		if l.vm(1).Work != 0 || l.state().CountOpenWork() != 0 {
			t.Fatalf("an unprotected VM is restarted\n%s", essence(l.state()))
		}
	})
	t.Run("a new epoch renews it, a new boot ends it", func(t *testing.T) {
		l := restarting(t)
		l.register("h2", "b1")
		if o := start(l); o == nil || o.Epoch != 2 || o.BootID != "b1" {
			t.Fatalf("%+v", o)
		}
		l.register("h2", "b2")
		if start(l) != nil || l.step(1) != Scheduled || !l.vm(1).Gone {
			t.Fatalf("%s", essence(l.state()))
		}
	})
	t.Run("a host that still has to give up is no target", func(t *testing.T) {
		l := restarting(t)
		l.ok(&logpb.WorkUpdate{Work: uint64(l.vm(1).Work), Action: WorkWithdraw, Reason: "too slow"})
		l.register("h2", "b2") // gone by proof, but the order may be under way there
		l.ok(l.place(1, "h2"))
		if l.step(1) != Scheduled || l.vm(1).Incarnation != inc(2) {
			t.Fatalf("%s", essence(l.state()))
		}
		l.report("h2", said{vm: 1, power: PowerOff, refused: inc(2)})
		l.ok(l.place(1, "h2"))
		if l.step(1) != Restarting {
			t.Fatalf("%s", essence(l.state()))
		}
	})
	t.Run("the tombstone order follows its host", func(t *testing.T) {
		l := restarting(t)
		for _, boot := range []string{"b1", "b2"} {
			l.register("h1", boot)
			if o := l.host("h1").order(OrderDestroy, testVM(1)); o == nil || o.Incarnation != inc(1) || o.Epoch != l.host("h1").Epoch {
				t.Fatalf("after a return in %s: %+v", boot, o)
			}
		}
		l.report("h1", said{vm: 1, power: PowerOff, refused: inc(0)})
		if l.host("h1").order(OrderDestroy, testVM(1)) == nil {
			t.Fatal("an older tombstone was taken for this one")
		}
		l.report("h1", said{vm: 1, power: PowerOff, refused: inc(1)})
		if len(l.host("h1").Orders) != 0 {
			t.Fatal("the tombstone was not taken")
		}
	})
}

func TestS5ReportsOfOthersSayNothing(t *testing.T) {
	l := fleet(t, 2, 1)
	quiet := func(body *logpb.HostReports) {
		t.Helper()
		before := withoutSeq(essence(l.state()))
		l.do(body)
		if after := withoutSeq(essence(l.state())); after != before {
			t.Fatalf("%s changed\n%s\nto\n%s", body, before, after)
		}
	}
	quiet(l.reportOf("h1", said{vm: 1, power: PowerOff, reason: ReasonCrashed, inc: inc(0)}))
	quiet(l.reportOf("h1", said{vm: 1, power: PowerOff, reason: ReasonCrashed}))
	quiet(l.reportOf("h1", said{vm: 1, power: PowerOff, reason: ReasonCrashed, inc: inc(2)}))
	quiet(l.reportOf("h2", said{vm: 1, power: PowerOff, reason: ReasonCrashed, inc: inc(1)}))
	late := l.reportOf("h1", crashed(1))
	l.report("h1", said{vm: 1, power: PowerOn, inc: inc(1)})
	quiet(late)
	old := l.reportOf("h1", crashed(1))
	l.register("h1", "b1", said{vm: 1, power: PowerOn, inc: inc(1)})
	quiet(old) // an epoch ago
	fresh := l.reportOf("h1", crashed(1))
	l.ok(fresh)
	if l.step(1) != Scheduled {
		t.Fatal("a fresh report says nothing either")
	}
}

func TestS6OnlyOlderIncarnationsAreDestroyed(t *testing.T) {
	for _, tc := range []struct {
		name    string
		held    Incarnation
		reason  Reason
		destroy bool
		alert   bool
	}{
		{"ours of before", inc(1), ReasonBooted, true, true},
		{"never ours", 0, ReasonBooted, false, true},
		{"the same", inc(2), ReasonBooted, false, true},
		{"newer than we know", inc(9), ReasonBooted, false, true},
		{"incoming migration", 0, ReasonMigratingIn, false, false},
	} {
		t.Run(tc.name, func(t *testing.T) {
			l := fleet(t, 3, 1)
			l.kill("h1", "h2")
			l.report("h2", said{vm: 1, power: PowerOn, inc: inc(2)})
			l.report("h3", said{vm: 1, power: PowerOn, reason: tc.reason, inc: tc.held})
			o := l.host("h3").order(OrderDestroy, testVM(1))
			if (o != nil) != tc.destroy || o != nil && o.Incarnation >= l.vm(1).Incarnation {
				t.Errorf("order %+v", o)
			}
			if a := l.state().OpenAlert(copyAlert(l.vm(1), "h3")); (a != nil) != tc.alert {
				t.Errorf("alert %+v", a)
			}
			if l.owner(1) != "h2" {
				t.Error("it was adopted")
			}
			l.report("h3", said{vm: 1, power: PowerOff, refused: tc.held})
			if a := l.state().OpenAlert(copyAlert(l.vm(1), "h3")); a != nil {
				t.Error("the alert stays although the copy is gone")
			}
		})
	}
}

func TestS6UnprotectedIsNeverTouched(t *testing.T) {
	l := fleet(t, 2, 1)
	l.ok(&logpb.VMProtect{Vm: idBytes(1)})
	l.report("h1", said{vm: 1, power: PowerOff, reason: ReasonMigrated})
	l.report("h2", said{vm: 1, power: PowerOn})
	if l.owner(1) != "h2" || len(l.host("h1").Orders)+len(l.host("h2").Orders) != 0 {
		t.Fatalf("%s", essence(l.state()))
	}
}

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

func TestS6NoAdoptionWithoutANewIncarnation(t *testing.T) {
	l := fleet(t, 2, 1)
	l.report("h1", said{vm: 1, power: PowerOff, reason: ReasonMigrated, inc: l.vm(1).Incarnation})
	l.report("h2", said{vm: 1, power: PowerOn, inc: ^Incarnation(0)})
	if l.owner(1) != "h1" {
		t.Fatalf("adopted at an incarnation that cannot be beaten:\n%s", essence(l.state()))
	}
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

func TestS18PowerReasons(t *testing.T) {
	for reason, want := range map[Reason]struct {
		step   Step
		cause  Cause
		wanted bool
	}{
		ReasonCrashed:      {Scheduled, CauseCrash, true},
		ReasonNone:         {Scheduled, CauseCrash, true},
		ReasonShutdown:     {0, 0, false},
		ReasonDestroyed:    {0, 0, false},
		ReasonSaved:        {0, 0, false},
		ReasonMigrated:     {Investigating, CauseMigrated, true},
		ReasonSelfFenced:   {Scheduled, CauseSelfFenced, true},
		ReasonHostShutdown: {Scheduled, CauseHostShutdown, true},
		ReasonHostReboot:   {Scheduled, CauseHostReboot, true},
	} {
		l := fleet(t, 2, 1)
		l.report("h1", said{vm: 1, power: PowerOff, reason: reason, inc: inc(1)})
		v := l.vm(1)
		if v.Wanted != want.wanted || l.step(1) != want.step || v.Work != 0 && l.work(1).Cause != want.cause {
			t.Errorf("off (%s): wanted %v, step %s", reason, v.Wanted, l.step(1))
		}
		l = fleet(t, 2, 1)
		l.ok(&logpb.VMProtect{Vm: idBytes(1), Protect: &logpb.Protection{On: true, Ha: "always"}})
		l.report("h1", said{vm: 1, power: PowerOff, reason: reason, inc: inc(1)})
		if !l.vm(1).Wanted || l.vm(1).Work == 0 {
			t.Errorf("always, off (%s): wanted %v, step %s", reason, l.vm(1).Wanted, l.step(1))
		}
	}
	for reason, alert := range map[Reason]bool{ReasonUserPaused: false, ReasonIOError: true, ReasonCrashed: false} {
		l := fleet(t, 2, 1)
		l.report("h1", said{vm: 1, power: PowerOn, reason: reason, inc: inc(1)})
		if a := l.state().OpenAlert(AlertKey{AlertVM, "vm1", "I/O error"}); (a != nil) != alert || l.vm(1).Work != 0 {
			t.Errorf("on (%s): alert %v, step %s", reason, a, l.step(1))
		}
	}
}

// A VM that has left, or is missing, is started nowhere before everybody was
// asked, whatever becomes of the host it was on.
func TestS18LostFromSight(t *testing.T) {
	left := said{vm: 1, power: PowerOff, reason: ReasonMigrated, inc: inc(1)}
	for name, lose := range map[string]func(l *lab){
		"migrated": func(l *lab) { l.report("h1", left) },
		"missing":  func(l *lab) { l.missing("h1", 1) },
		"absent":   func(l *lab) { l.report("h1", said{vm: 1, power: PowerReportMissing, inc: inc(1)}) },
		"after a fence that failed": func(l *lab) {
			l.ok(l.hostDown("h1"))
			l.register("h1", "b1", left)
		},
		"missing after a fence that failed": func(l *lab) {
			l.ok(l.hostDown("h1"))
			l.register("h1", "b1")
			l.missing("h1", 1)
		},
		"right after a start": func(l *lab) {
			l.report("h1", crashed(1))
			l.ok(l.place(1, "h1"))
			l.report("h1", said{vm: 1, power: PowerOff, reason: ReasonMigrated, inc: inc(2)})
		},
		"libvirt forgot why": func(l *lab) {
			l.report("h1", left)
			l.report("h1", said{vm: 1, power: PowerOff, reason: ReasonNone, inc: inc(1)})
		},
		"libvirt does not answer": func(l *lab) {
			l.report("h1", left)
			l.report("h1", said{vm: 1, power: PowerUnknown, inc: inc(1)})
		},
	} {
		for then, f := range map[string]func(l *lab){
			"":             func(*lab) {},
			"host dead":    func(l *lab) { l.kill("h1") },
			"rebooted":     func(l *lab) { l.register("h1", "b2") },
			"dead, back":   func(l *lab) { l.kill("h1"); l.register("h1", "b1") },
			"down, back":   func(l *lab) { l.ok(l.hostDown("h1")); l.register("h1", "b1", left) },
			"down, reboot": func(l *lab) { l.ok(l.hostDown("h1")); l.register("h1", "b2") },
		} {
			t.Run(name+"/"+then, func(t *testing.T) {
				l := fleet(t, 3, 1)
				lose(l)
				f(l)
				if l.step(1) != Investigating || l.state().CountOpenWork() != 1 {
					t.Fatalf("not looked for\n%s", essence(l.state()))
				}
				for _, h := range []HostID{"h1", "h2", "h3"} {
					l.do(l.place(1, h))
				}
				if l.step(1) != Investigating {
					t.Fatalf("started\n%s", essence(l.state()))
				}
				l.report("h2", said{vm: 1, power: PowerOn})
				if l.owner(1) != "h2" || l.vm(1).Work != 0 {
					t.Fatalf("not adopted\n%s", essence(l.state()))
				}
			})
		}
	}
}

func TestS18ReleasedStartsAgain(t *testing.T) {
	left := said{vm: 1, power: PowerOff, reason: ReasonMigrated, inc: inc(1)}
	released := func(l *lab) *logpb.VMReleased {
		return &logpb.VMReleased{Vm: idBytes(1), Work: uint64(l.vm(1).Work), Reason: "nobody has it"}
	}
	l := fleet(t, 2, 1)
	l.report("h1", left)
	work := l.vm(1).Work
	l.ok(released(l))
	for range 3 { // libvirt goes on saying why it is off
		l.report("h1", left)
		l.missing("h1", 1)
	}
	if l.step(1) != Scheduled || l.vm(1).Work != work {
		t.Fatalf("looked for again and again\n%s", essence(l.state()))
	}
	l.ok(l.place(1, "h1"))
	if l.step(1) != Restarting {
		t.Fatalf("%s", essence(l.state()))
	}

	l = fleet(t, 2, 1)
	l.report("h1", left)
	l.kill("h1")
	l.ok(released(l))
	l.ok(l.place(1, "h2"))
	if l.owner(1) != "h2" {
		t.Fatalf("its owner is proven dead, everybody was asked, and still it waits\n%s", essence(l.state()))
	}
}

func TestS19DisconnectedWithoutInvestigation(t *testing.T) {
	for name, f := range map[string]func(l *lab){
		"runs a protected VM":     func(*lab) {},
		"one may run":             func(l *lab) { l.report("h1", said{vm: 1, power: PowerUnknown, inc: inc(1)}) },
		"has an order to start":   func(l *lab) { l.report("h1", crashed(1)); l.ok(l.place(1, "h1")) },
		"owns one that is off":    nil,
		"its only VM is nobody's": nil,
	} {
		t.Run(name, func(t *testing.T) {
			l := fleet(t, 2, 1)
			if f != nil {
				f(l)
			} else if strings.HasSuffix(name, "off") {
				l.report("h1", said{vm: 1, power: PowerOff, reason: ReasonShutdown, inc: inc(1)})
			} else {
				l.ok(&logpb.VMProtect{Vm: idBytes(1)})
			}
			l.maintain("h1", 3)
			c := &logpb.HostLeave{Host: "h1", Epoch: 1, Reason: "silent"}
			if f != nil {
				l.rejected(c)
				l.ok(l.hostDown("h1")) // fails over like any other
				if l.step(1) != Fencing {
					t.Fatalf("%s", essence(l.state()))
				}
			} else {
				l.ok(c)
			}
		})
	}
	l := fleet(t, 2, 1)
	l.maintain("h2", 2)
	l.kill("h1", "h2")
	if l.owner(1) != "h1" || l.step(1) != Scheduled {
		t.Fatal("a Disabled host was given a VM")
	}
}

func TestS20UnknownNeverBecomesDead(t *testing.T) {
	l := fleet(t, 2, 1)
	l.ok(l.suspect("h1"))
	l.ok(&logpb.HostEvidence{Host: "h1", Epoch: 1, Evidence: []*logpb.Evidence{{Source: "x", Verdict: 0}, {Source: "y", Verdict: 1}}})
	for range 20 {
		l.wait(50 * time.Minute)
		l.ok(&logpb.Canary{})
	}
	if h := l.host("h1"); h.Status != Alert || h.Evidence[0].Verdict != Unknown || h.Evidence[1].Verdict != Alive {
		t.Fatalf("%s", essence(l.state()))
	}
}

func TestS21ApplyClampsTime(t *testing.T) {
	l := newLab(t)
	at := func(ns int64, body proto.Message) string {
		c := command(body)
		c.TimeUnixNs = ns
		return l.m.Apply([]Entry{l.entry(c)})[0].Rejected
	}
	start := l.state().Time
	for _, back := range []int64{start - int64(time.Second), 1, -1, -1 << 63} {
		if no := at(back, &logpb.NodeHello{Id: "n1", RunId: "r"}); no != "" || l.state().Time != start {
			t.Fatalf("a clock behind: %q, time %d", no, l.state().Time)
		}
	}
	hour := int64(time.Hour)
	if no := at(start+hour, &logpb.Canary{}); no != "" || l.state().Time != start+hour {
		t.Fatalf("one hour ahead: %q", no)
	}
	for _, far := range []int64{start + 2*hour + 1, 1 << 61, 1<<62 + 1, 1<<63 - 1} {
		before := essence(l.state())
		if no := at(far, &logpb.NodeHello{Id: "n2", RunId: "r"}); no == "" || l.state().Time != start+hour || essence(l.state()) != before {
			t.Fatalf("%d ahead: %q, time %d", far-start, no, l.state().Time)
		}
	}
	// A cluster that was off for a day is not stuck for ever.
	if no := at(start+24*hour, &logpb.AcceptTime{}); no != "" || l.state().Time != start+24*hour {
		t.Fatalf("accepted by the operator: %q", no)
	}
	if no := at(start+24*hour+1, &logpb.NodeHello{Id: "n2", RunId: "r"}); no != "" {
		t.Fatalf("and after that: %q", no)
	}
	if no := at(1<<62+1, &logpb.AcceptTime{}); no == "" {
		t.Fatal("a year that no clock shows was accepted")
	}
	if err := l.m.Check(); err != nil {
		t.Fatal(err)
	}
}

func TestS21TheFirstTimeIsAnyTimeButNonsense(t *testing.T) {
	m := NewMachine()
	c := command(&logpb.ClusterInit{ClusterId: "c"})
	c.TimeUnixNs = 1<<63 - 1
	if no := m.Apply([]Entry{{Index: 1, Term: 1, Data: encode(t, c)}})[0].Rejected; no == "" {
		t.Fatal("the end of time was accepted: no later command would be")
	}
	c.TimeUnixNs = epochStart
	if no := m.Apply([]Entry{{Index: 2, Term: 1, Data: encode(t, c)}})[0].Rejected; no != "" {
		t.Fatal(no)
	}
}

func TestS23InvalidPlacementLeavesTheVMScheduled(t *testing.T) {
	for name, f := range map[string]func(l *lab){
		"unknown host":        nil,
		"host is not Up":      func(l *lab) { l.ok(l.suspect("h2")) },
		"host is disabled":    func(l *lab) { l.maintain("h2", 2) },
		"host in maintenance": func(l *lab) { l.maintain("h2", 3) },
		"host left":           func(l *lab) { l.ok(&logpb.HostLeave{Host: "h2", Epoch: 1, Session: "s1"}) },
		"host is Down":        func(l *lab) { l.ok(l.hostDown("h2")) },
		"disarmed meanwhile":  func(l *lab) { l.ok(&logpb.Arm{}) },
		"local disk": func(l *lab) {
			x := spec(1)
			x.Local = []string{"disk /var/lib/a.img"}
			l.ok(&logpb.VMSpecs{Host: "h1", Epoch: 1, Specs: []*logpb.Spec{x}})
		},
	} {
		t.Run(name, func(t *testing.T) {
			l := fleet(t, 2, 1)
			l.ok(l.hostDown("h1"))
			target := "h2"
			if f == nil {
				target = "h9"
			} else if name != "local disk" {
				f(l)
			} else {
				l = fleet(t, 2, 1)
				f(l)
				l.ok(l.hostDown("h1"))
			}
			l.ok(l.fenced("h1", ProofPower, target))
			w := l.work(1)
			if w == nil || w.Step != Scheduled || !strings.Contains(w.Reason, "refused") || l.vm(1).Incarnation != inc(1) || !l.vm(1).Gone {
				t.Fatalf("%+v\n%s", w, essence(l.state()))
			}
		})
	}
	t.Run("no definition", func(t *testing.T) {
		l := fleet(t, 2, 0)
		l.report("h1", said{vm: 1, power: PowerOn})
		l.ok(&logpb.VMProtect{Vm: idBytes(1), Protect: &logpb.Protection{On: true}})
		l.kill("h1", "h2")
		if l.step(1) != Scheduled || l.owner(1) != "h1" {
			t.Fatalf("%s", essence(l.state()))
		}
	})
}

func TestS23OnlyProtectedDefinitionsAreKept(t *testing.T) {
	l := fleet(t, 1, 1)
	x := spec(1)
	x.Problem, x.Definition = "broken XML", nil
	l.ok(&logpb.VMSpecs{Host: "h1", Epoch: 1, Specs: []*logpb.Spec{x}})
	if v := l.vm(1); string(v.Spec.Definition()) != "<domain/>" || v.Spec.Problem == "" {
		t.Fatalf("a definition that cannot be read replaced the last good one: %+v", v.Spec)
	}
	x = spec(1)
	x.Protect = nil
	l.ok(&logpb.VMSpecs{Host: "h1", Epoch: 1, Specs: []*logpb.Spec{x}})
	if v := l.vm(1); v.Protected() || v.Spec.Definition() != nil {
		t.Fatalf("%+v", v)
	}
}

func TestS24ConfirmDeadNeedsForceWhileAnythingIsHeard(t *testing.T) {
	l := fleet(t, 2, 1)
	l.rejected(l.fenced("h1", ProofOperator))
	l.ok(l.hostDown("h1"))
	l.ok(l.attempt("h1", 1))
	l.register("h1", "b1")
	l.rejected(l.fenced("h1", ProofOperator)) // Connecting
	c := l.fenced("h1", ProofOperator)
	c.Force = true
	l.ok(c)
	if !l.vm(1).Gone {
		t.Fatal("forced, and nothing happened")
	}
}
