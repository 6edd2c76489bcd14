package session

import (
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	lifeboatv1 "lifeboat/api/lifeboat/v1"
	"lifeboat/hypervisor"
)

func TestS3StartWaitsForTheLedger(t *testing.T) {
	b := newBench(t, Ledger{}).boot()
	b.pass(100 * time.Millisecond)
	b.slowDisk = true
	b.starts(vm1, 8)
	b.pass(3 * time.Second)
	b.nothing("the incarnation is not on disk")
	b.slowDisk = false
	b.persisted()
	if a := act[StartVM](b); a.Incarnation != 8 || b.disk.VMs[vm1].Incarnation != 8 {
		t.Errorf("started %+v, on disk %+v", a, b.disk.VMs[vm1])
	}
}

func TestS3SameIncarnationAgain(t *testing.T) {
	b := newBench(t, Ledger{}).boot()
	b.pass(100 * time.Millisecond)
	b.runs(vm1, 8)
	b.starts(vm1, 8)
	b.pass(5 * time.Second)
	b.nothing("the incarnation runs")
	b.report(vm1, stateOn)
	b.set(vm1, hypervisor.StateOff, hypervisor.ReasonShutdown)
	b.starts(vm1, 8)
	b.pass(5 * time.Second)
	b.nothing("the incarnation ran and ended")
	b.starts(vm1, 7)
	b.pass(5 * time.Second)
	b.nothing("an older incarnation")
	b.starts(vm1, 9)
	act[StartVM](b)
}

func TestS3AlreadyRunning(t *testing.T) {
	b := newBench(t, Ledger{}).boot()
	b.pass(100 * time.Millisecond)
	b.starts(vm1, 8)
	act[StartVM](b)
	b.set(vm1, hypervisor.StatePaused, hypervisor.ReasonUser) // by a person, a moment earlier
	b.done(vm1, fmt.Errorf("start: %w", hypervisor.ErrActive))
	b.pass(10 * time.Second)
	b.nothing("it is active and not ours to resume or remove")
	if v := b.report(vm1, stateOn); v.Incarnation != 8 {
		t.Errorf("reported %v, want incarnation 8", v)
	}
}

// A start whose outcome is not known left a process whose guest has not run: it is
// made to run, also where an earlier incarnation of the VM has run before.
func TestS3AStartIsFinishedWhereItRanBefore(t *testing.T) {
	b := newBench(t, Ledger{}).boot()
	b.pass(100 * time.Millisecond)
	b.runs(vm1, 8)
	b.set(vm1, hypervisor.StateOff, hypervisor.ReasonCrashed)
	b.pass(5 * time.Second)
	b.starts(vm1, 9)
	act[StartVM](b)
	b.set(vm1, hypervisor.StatePaused, hypervisor.ReasonUser) // as the hypervisor shows it
	b.done(vm1, fmt.Errorf("libvirtd went away: %w", hypervisor.ErrUnknownOutcome))
	b.pass(quiet + 2*time.Second)
	act[ResumeVM](b)
	b.set(vm1, hypervisor.StateRunning, hypervisor.ReasonUser)
	b.done(vm1, nil)
	b.pass(5 * time.Second)
	if v := b.report(vm1, stateOn); v.Incarnation != 9 {
		t.Errorf("reported %v, want incarnation 9", v)
	}
}

func TestS4OrdersAreVoidElsewhere(t *testing.T) {
	for name, change := range map[string]func(*lifeboatv1.Order){
		"another epoch":    func(o *lifeboatv1.Order) { o.Epoch-- },
		"another boot":     func(o *lifeboatv1.Order) { o.BootId = "old" },
		"no such vm":       func(o *lifeboatv1.Order) { o.Vm = []byte("short") },
		"no incarnation":   func(o *lifeboatv1.Order) { o.Incarnation = 0 },
		"wrong definition": func(o *lifeboatv1.Order) { o.Definition = []byte("<other/>") },
	} {
		t.Run(name, func(t *testing.T) {
			b := newBench(t, Ledger{}).boot()
			b.pass(100 * time.Millisecond)
			b.assign(func(a *lifeboatv1.Assignment) {
				o := b.order(orderStart, vm1, 8)
				change(o)
				a.Orders = []*lifeboatv1.Order{o}
			})
			b.pass(5 * time.Second)
			for _, a := range b.acts {
				if _, ok := a.(StartVM); ok {
					t.Errorf("%+v", a)
				}
			}
		})
	}
}

func TestS4Tombstone(t *testing.T) {
	b := newBench(t, Ledger{}).boot()
	b.pass(100 * time.Millisecond)
	b.runs(vm1, 8)
	b.slowDisk = true
	b.assign(func(a *lifeboatv1.Assignment) {
		a.Orders = []*lifeboatv1.Order{b.order(orderDestroy, vm1, 8), b.order(orderStart, vm1, 8)}
	})
	b.pass(time.Second)
	b.nothing("the refusal is not on disk")
	b.slowDisk = false
	b.persisted()
	act[RemoveVM](b)
	if v := b.report(vm1, stateOn); v.Refused != 0 {
		t.Errorf("reported %v before the domain is gone", v)
	}
	b.slowDisk = true
	b.set(vm1, hypervisor.StateAbsent, 0)
	b.done(vm1, nil)
	b.pass(time.Second)
	if v := b.vm(vm1); v.Refused != 0 {
		t.Errorf("reported %v before the tombstone is on disk", v)
	}
	b.slowDisk = false
	b.persisted()
	if v := b.report(vm1, stateAbsent); v.Refused != 8 || v.Reason != lifeboatv1.PowerReason_POWER_REASON_ORDERED {
		t.Errorf("reported %v, want the tombstone", v)
	}
	b.pass(5 * time.Second)
	b.nothing("a start at the tombstone")
}

func TestS5IncarnationOfThePoll(t *testing.T) {
	b := newBench(t, Ledger{}).boot()
	b.set(vm1, hypervisor.StateOff, hypervisor.ReasonShutdown)
	b.pass(100 * time.Millisecond)
	b.slowPoll = true
	b.take(b.s.Look(b.now, vm1)) // a poll begins while incarnation 8 is not held
	b.assign(func(a *lifeboatv1.Assignment) { a.Vms = []*lifeboatv1.AssignedVM{own(vm1, 8)} })
	if b.disk.VMs[vm1].Incarnation != 8 {
		t.Fatalf("not adopted: %+v", b.disk.VMs[vm1])
	}
	b.polled()
	if v := b.report(vm1, stateOff); v.Incarnation != 0 {
		t.Errorf("reported %v of a poll that began before the incarnation was held", v)
	}
	b.slowPoll = false
	b.polled()
	b.pass(2 * time.Second)
	if v := b.vm(vm1); v.Incarnation != 8 {
		t.Errorf("reported %v, want incarnation 8", v)
	}
}

func TestS6IncomingMigrationStays(t *testing.T) {
	b := newBench(t, Ledger{}).boot()
	b.set(vm1, hypervisor.StatePaused, hypervisor.ReasonMigrating)
	b.pass(100 * time.Millisecond)
	b.assign(func(a *lifeboatv1.Assignment) { a.Orders = []*lifeboatv1.Order{b.order(orderDestroy, vm1, 8)} })
	b.pass(10 * time.Second)
	b.nothing("an incoming migration is not destroyed")
	if v := b.report(vm1, stateOn); v.Reason != lifeboatv1.PowerReason_POWER_REASON_MIGRATING_IN {
		t.Errorf("reported %v", v)
	}
}

func TestS6AbsenceDestroysNothing(t *testing.T) {
	b := newBench(t, Ledger{}).boot()
	b.pass(100 * time.Millisecond)
	b.runs(vm1, 8)
	b.assign(func(*lifeboatv1.Assignment) {})
	b.pass(10 * time.Second)
	b.nothing("it is only not assigned any more")
}

func TestS8AutostartIsCleared(t *testing.T) {
	b := newBench(t, Ledger{}).boot()
	b.doms = []hypervisor.Domain{{UUID: vm1, Name: "vm", State: hypervisor.StateRunning, Autostart: true}, {UUID: vm2, Name: "mine", State: hypervisor.StateRunning, Autostart: true}}
	b.pass(2 * time.Second)
	b.assign(func(a *lifeboatv1.Assignment) { a.Vms = []*lifeboatv1.AssignedVM{own(vm1, 8)} })
	b.pass(2 * time.Second)
	if a := act[ClearAutostart](b); a.ID != vm1 {
		t.Errorf("cleared %v", a.ID)
	}
	b.doms[0].Autostart = false
	b.done(vm1, nil)
	b.nothing("the other VM is not protected")
}

// leased is a host under a lease of 10 s that runs vm1.
func leased(t *testing.T) *bench {
	b := newBench(t, Ledger{}).boot()
	b.pass(100 * time.Millisecond)
	b.runs(vm1, 8)
	b.lease()
	b.pass(time.Second)
	b.grant()
	return b
}

func (b *bench) lease() {
	b.assign(func(a *lifeboatv1.Assignment) {
		a.Vms = []*lifeboatv1.AssignedVM{own(vm1, 8)}
		a.Lease = &lifeboatv1.Lease{Armed: true, DurationMs: 10_000}
	})
}

func (b *bench) grant() {
	b.answer(func(r *lifeboatv1.ReportResponse) { r.LeaseSeq, r.LeaseMs = r.AckedSeq, 10_000 })
}

func TestS12LeaseIsArmedBeforeItIsReported(t *testing.T) {
	b := newBench(t, Ledger{}).boot()
	b.pass(100 * time.Millisecond)
	b.slowDisk, b.slowDog = true, true
	b.lease()
	b.pass(2 * time.Second)
	if b.armed || b.last.Req.Lease.GetArmed() {
		t.Fatal("the watchdog is armed before the mark is on disk")
	}
	b.slowDisk = false
	b.persisted()
	b.pass(2 * time.Second)
	if !b.armed || b.last.Req.Lease.GetArmed() {
		t.Fatalf("watchdog armed %v, reported %v; want true, false", b.armed, b.last.Req.Lease)
	}
	b.take(b.s.WatchdogDone(b.now, nil))
	b.pass(2 * time.Second)
	if !b.last.Req.Lease.GetArmed() || !b.held.Armed || b.pets == 0 {
		t.Errorf("reported %v, lease file %+v, %d pets", b.last.Req.Lease, b.held, b.pets)
	}
}

// The lease counts from the moment its report was sent, less 1 % (S13).
func TestS13LeaseRunsFromTheRequest(t *testing.T) {
	b := leased(t)
	b.pass(time.Second)
	b.next()
	sent := b.now
	b.pass(time.Second) // the answer takes its time
	b.grant()
	end := sent.Add(9900 * time.Millisecond)
	b.pass(end.Sub(b.now) - 10*time.Millisecond)
	b.nothing("the lease is valid")
	b.pass(20 * time.Millisecond)
	if a := act[StopVM](b); a.Mode != hypervisor.StopDestroy {
		t.Errorf("%+v", a)
	}
	pets := b.pets
	b.pass(3 * time.Second)
	if b.pets != pets {
		t.Error("the watchdog is petted while the VM may live")
	}
	b.set(vm1, hypervisor.StateOff, hypervisor.ReasonDestroyed)
	b.done(vm1, nil)
	b.pass(3 * time.Second)
	if b.pets == pets {
		t.Error("the watchdog is not petted although the VM is off")
	}
	if v := b.vm(vm1); v.Power != stateOff || v.Reason != lifeboatv1.PowerReason_POWER_REASON_SELF_FENCED {
		t.Errorf("reported %v", v)
	}
	b.starts(vm1, 9)
	b.pass(time.Second)
	b.nothing("a start without a lease")
	b.answer(func(r *lifeboatv1.ReportResponse) { r.LeaseSeq, r.LeaseMs = r.AckedSeq, 10_000 })
	act[StartVM](b)
}

// S18: what has left by migration runs elsewhere, also when the agent was about to
// stop it: the migration may have ended first.
func TestS18WhatHasLeftWasNotStopped(t *testing.T) {
	for name, stop := range map[string]func(b *bench){
		"the lease ran out": func(b *bench) { b.pass(11 * time.Second) },
		"a stop was ordered": func(b *bench) {
			b.assign(func(a *lifeboatv1.Assignment) {
				a.Vms = []*lifeboatv1.AssignedVM{own(vm1, 8)}
				a.Orders = []*lifeboatv1.Order{b.order(orderStop, vm1, 8)}
				a.Lease = &lifeboatv1.Lease{Armed: true, DurationMs: 10_000}
			})
			b.pass(100 * time.Millisecond)
		},
	} {
		t.Run(name, func(t *testing.T) {
			b := leased(t)
			stop(b)
			act[StopVM](b)
			b.set(vm1, hypervisor.StateOff, hypervisor.ReasonMigrated)
			b.done(vm1, nil)
			b.pass(3 * time.Second)
			if v := b.vm(vm1); v.Power != stateOff || v.Reason != lifeboatv1.PowerReason_POWER_REASON_MIGRATED {
				t.Errorf("reported %v", v)
			}
		})
	}
}

func TestS12RestartContinuesTheLease(t *testing.T) {
	for name, c := range map[string]struct {
		file  bool
		after time.Duration
		stops bool
	}{
		"before its end":             {true, time.Second, false},
		"after its end":              {true, 12 * time.Second, true},
		"its file is lost":           {false, time.Second, true},
		"disarmed, mark still there": {true, time.Second, false},
	} {
		t.Run(name, func(t *testing.T) {
			b := leased(t)
			b.now = b.now.Add(c.after)
			if !c.file {
				b.held = Held{}
			}
			if strings.HasPrefix(name, "disarmed") {
				b.held.Armed, b.held.Until = false, 0
			}
			pets, held := b.pets, b.held
			b.armed = false
			b.boot()
			stopped := len(b.acts) > 0
			if stopped != c.stops {
				t.Fatalf("VMs stopped: %v, want %v", stopped, c.stops)
			}
			if c.stops && (b.armed || b.pets != pets) {
				t.Error("a watchdog that may be about to bite was fed")
			}
			if held.Armed && !c.stops {
				b.starts(vm2, 3)
				b.pass(100 * time.Millisecond)
				b.nothing("no lease was granted to this process")
			}
		})
	}
}

// A lease ends only after the managers have committed that they do not count
// on it.
func TestS12WithdrawnBeforeItEnds(t *testing.T) {
	b := leased(t)
	off := func() {
		b.assign(func(a *lifeboatv1.Assignment) { a.Vms = []*lifeboatv1.AssignedVM{own(vm1, 8)} })
	}
	off()
	b.pass(100 * time.Millisecond)
	if !b.armed || !b.held.Armed || b.last.Req.Lease.GetArmed() {
		t.Fatalf("watchdog %v, lease %+v, reported %v; want true, armed, not armed", b.armed, b.held, b.last.Req.Lease)
	}
	// Armed again before that was answered: nothing happens.
	b.lease()
	b.pass(100 * time.Millisecond)
	if !b.armed || !b.last.Req.Lease.GetArmed() {
		t.Fatalf("watchdog %v, reported %v; want armed again", b.armed, b.last.Req.Lease)
	}
	off()
	b.pass(100 * time.Millisecond)
	b.answer(func(r *lifeboatv1.ReportResponse) { r.AckedSeq-- })
	b.pass(100 * time.Millisecond)
	if !b.armed {
		t.Fatal("let go before the managers have committed it")
	}
	b.pass(time.Second)
	b.answer()
	if b.armed || b.held.Armed {
		t.Errorf("watchdog %v, lease %+v after the managers know", b.armed, b.held)
	}
}

func TestS14OldLeaderIsIgnored(t *testing.T) {
	b := leased(t)
	b.pass(2 * time.Second)
	until := b.held.Until
	b.answer(func(r *lifeboatv1.ReportResponse) {
		r.Term, r.LeaseSeq, r.LeaseMs = 4, r.AckedSeq, 10_000
		r.Assignment = &lifeboatv1.Assignment{Index: 99, Armed: true, Orders: []*lifeboatv1.Order{b.order(orderDestroy, vm1, 8)}}
	})
	b.pass(2 * time.Second)
	b.nothing("an order of a deposed leader")
	if b.held.Until != until {
		t.Error("a deposed leader renewed the lease")
	}
	if b.disk.Term != 5 {
		t.Errorf("term on disk: %d", b.disk.Term)
	}
}

func TestS16CleanStop(t *testing.T) {
	b := leased(t)
	b.take(b.s.Stop(b.now, false))
	l := act[Leave](b)
	b.pass(10 * time.Millisecond)
	if !b.armed || b.exit != nil {
		t.Fatal("let go before the managers have withdrawn the lease")
	}
	b.take(b.s.Left(b.now, false, errors.New("lost")))
	b.pass(3 * time.Second)
	if l2 := act[Leave](b); l2.Req.Epoch != l.Req.Epoch || !b.armed {
		t.Fatal("a goodbye that failed ended it")
	}
	b.take(b.s.Left(b.now, false, nil))
	b.pass(10 * time.Millisecond)
	if b.armed || b.exit == nil || b.exit.Err != nil || b.held.Armed || b.disk.Lease.Armed {
		t.Errorf("watchdog %v, exit %+v, lease %+v, mark %+v", b.armed, b.exit, b.held, b.disk.Lease)
	}
	b.nothing("VMs are not touched")
}
