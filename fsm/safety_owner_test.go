package fsm

import (
	"strings"
	"testing"
	"time"

	"lifeboat/fsm/logpb"
)

// The tests of this file are named after the rule they hold: who owns a VM.

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

// What an agent said when it registered may come long after, by way of a manager
// that was frozen: when its machine has rebooted, has died, or was removed.
func TestS5LateRegistrationsSayNothing(t *testing.T) {
	asked := func(l *lab, boot string) *logpb.HostRegister {
		c := registration("h1", boot, said{vm: 1, power: PowerOn, inc: inc(1)})
		c.Ticket = l.state().Index
		return c
	}
	for name, since := range map[string]func(*lab){
		"registered": func(l *lab) { l.register("h1", "b1", said{vm: 1, power: PowerOn, inc: inc(1)}) },
		"rebooted":   func(l *lab) { l.register("h1", "b2") },
		"dead":       func(l *lab) { l.ok(l.suspect("h1")); l.ok(l.hostDown("h1")) },
		"proven dead": func(l *lab) {
			l.ok(l.suspect("h1"))
			l.ok(l.hostDown("h1"))
			l.ok(l.fenced("h1", ProofOperator))
		},
		"removed": func(l *lab) {
			l.ok(&logpb.VMProtect{Vm: idBytes(1), Protect: &logpb.Protection{}})
			l.ok(&logpb.HostLeave{Host: "h1", Epoch: l.host("h1").Epoch, Session: "s1"})
			l.ok(&logpb.HostControl{Host: "h1", Action: HostRemove})
		},
	} {
		t.Run(name, func(t *testing.T) {
			l := fleet(t, 2, 1)
			late := asked(l, "b1")
			since(l)
			before := essence(l.state())
			if no := l.do(late); !strings.Contains(no, "it must ask again") {
				t.Fatalf("it was not refused, but: %q", no)
			}
			if after := essence(l.state()); after != before {
				t.Fatalf("it changed\n%s\nto\n%s", before, after)
			}
			if no := l.do(asked(l, "b3")); no != "" {
				t.Fatalf("one that was asked for since is refused: %s", no)
			}
		})
	}
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

func TestS6NoAdoptionWithoutANewIncarnation(t *testing.T) {
	l := fleet(t, 2, 1)
	l.report("h1", said{vm: 1, power: PowerOff, reason: ReasonMigrated, inc: l.vm(1).Incarnation})
	l.report("h2", said{vm: 1, power: PowerOn, inc: ^Incarnation(0)})
	if l.owner(1) != "h1" {
		t.Fatalf("adopted at an incarnation that cannot be beaten:\n%s", essence(l.state()))
	}
}
