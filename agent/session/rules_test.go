package session

import (
	"errors"
	"fmt"
	"slices"
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

func TestS18WhyOff(t *testing.T) {
	type reason = lifeboatv1.PowerReason
	cases := []struct {
		name   string
		change func(*bench)
		state  hypervisor.State
		why    hypervisor.Reason
		want   reason
	}{
		{"crashed", nil, hypervisor.StateOff, hypervisor.ReasonCrashed, lifeboatv1.PowerReason_POWER_REASON_CRASHED},
		{"failed", nil, hypervisor.StateOff, hypervisor.ReasonFailed, lifeboatv1.PowerReason_POWER_REASON_CRASHED},
		{"transient, crashed", nil, hypervisor.StateAbsent, hypervisor.ReasonCrashed, lifeboatv1.PowerReason_POWER_REASON_UNSPECIFIED},
		{"shut down", nil, hypervisor.StateOff, hypervisor.ReasonShutdown, lifeboatv1.PowerReason_POWER_REASON_SHUTDOWN},
		{"destroyed", nil, hypervisor.StateOff, hypervisor.ReasonDestroyed, lifeboatv1.PowerReason_POWER_REASON_DESTROYED},
		{"migrated", nil, hypervisor.StateOff, hypervisor.ReasonMigrated, lifeboatv1.PowerReason_POWER_REASON_MIGRATED},
		{"saved", nil, hypervisor.StateOff, hypervisor.ReasonSaved, lifeboatv1.PowerReason_POWER_REASON_SAVED},
		{"no word for it", nil, hypervisor.StateOff, hypervisor.ReasonUnknown, lifeboatv1.PowerReason_POWER_REASON_CRASHED},
		{"machine going down", func(b *bench) { b.take(b.s.HostStopping(b.now)) }, hypervisor.StateOff, hypervisor.ReasonShutdown, lifeboatv1.PowerReason_POWER_REASON_HOST_SHUTDOWN},
		{"migrated while it goes down", func(b *bench) { b.take(b.s.HostStopping(b.now)) }, hypervisor.StateOff, hypervisor.ReasonMigrated, lifeboatv1.PowerReason_POWER_REASON_MIGRATED},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			b := newBench(t, Ledger{}).boot()
			b.pass(100 * time.Millisecond)
			b.runs(vm1, 8)
			if c.change != nil {
				c.change(b)
			}
			b.set(vm1, c.state, c.why)
			want := stateOff
			if c.state == hypervisor.StateAbsent {
				want = stateAbsent
			}
			if v := b.report(vm1, want); v.Reason != c.want {
				t.Errorf("reported %v, want %v", v.Reason, c.want)
			}
		})
	}
}

func TestS18RebootExplainsItself(t *testing.T) {
	b := newBench(t, Ledger{}).boot()
	b.pass(100 * time.Millisecond)
	b.runs(vm1, 8)
	b.cfg.BootID, b.held = "boot2", Held{}
	b.doms = []hypervisor.Domain{{UUID: vm1, Name: "vm", State: hypervisor.StateOff}}
	b.boot()
	b.pass(100 * time.Millisecond)
	if v := b.vm(vm1); v.Power != stateOff || v.Reason != lifeboatv1.PowerReason_POWER_REASON_HOST_REBOOT || v.Incarnation != 8 {
		t.Errorf("reported %v", v)
	}
}

func TestS22DisarmedDestroysNothing(t *testing.T) {
	b := leased(t)
	b.assign(func(a *lifeboatv1.Assignment) {
		a.Armed = false
		a.Vms = []*lifeboatv1.AssignedVM{own(vm1, 8)}
		a.Orders = []*lifeboatv1.Order{b.order(orderDestroy, vm1, 8), b.order(orderStop, vm1, 8)}
	})
	b.pass(20 * time.Second) // longer than the lease, and nobody answers
	for _, a := range b.acts {
		if s, ok := a.(StopVM); !ok || s.Mode == hypervisor.StopDestroy {
			t.Errorf("%#v while HA is disarmed", a)
		}
	}
}

// STARTING is reported from the moment the incarnation is on disk until its
// outcome is known, and on disk if it is a failure.
func TestStartingUntilTheOutcomeIsKnown(t *testing.T) {
	b := newBench(t, Ledger{}).boot()
	b.pass(100 * time.Millisecond)
	b.starts(vm1, 8)
	act[StartVM](b)
	if v := b.report(vm1, stateStart); v.Incarnation != 8 {
		t.Errorf("reported %v", v)
	}
	b.set(vm1, hypervisor.StatePaused, hypervisor.ReasonUser)
	b.report(vm1, stateStart)
	b.set(vm1, hypervisor.StateAbsent, 0)
	b.done(vm1, errors.New("no such disk"))
	act[RemoveVM](b)
	b.report(vm1, stateStart)
	b.slowDisk = true
	b.done(vm1, nil)
	if v := b.report(vm1, stateStart); v.Failed != 0 {
		t.Errorf("reported %v before it is on disk", v)
	}
	b.slowDisk = false
	b.persisted()
	if v := b.report(vm1, stateAbsent); v.Failed != 8 || v.Incarnation != 8 || !strings.Contains(v.Failure, "no such disk") {
		t.Errorf("reported %v", v)
	}
	b.pass(10 * time.Second)
	b.nothing("it is never tried again here")
}

// The agent died between the creation of the process and its first
// instruction: the same process runs, if it still may.
func TestInterruptedStart(t *testing.T) {
	died := Ledger{Boot: "boot", VMs: map[hypervisor.UUID]Entry{vm1: {Incarnation: 8, Phase: PhaseStarting, Boot: "boot"}}}
	paused := []hypervisor.Domain{{UUID: vm1, Name: "vm", State: hypervisor.StatePaused, Reason: hypervisor.ReasonUser}}
	t.Run("goes on", func(t *testing.T) {
		b := newBench(t, died)
		b.doms = slices.Clone(paused)
		b.boot()
		b.pass(100 * time.Millisecond)
		if v := b.vm(vm1); v.Power != stateStart {
			t.Errorf("reported %v", v)
		}
		b.starts(vm1, 8)
		b.pass(4 * time.Second)
		b.nothing("the last call of the dead agent may still happen")
		b.pass(3 * time.Second)
		act[ResumeVM](b)
		b.set(vm1, hypervisor.StateRunning, hypervisor.ReasonUser)
		b.done(vm1, nil)
		b.report(vm1, stateOn)
	})
	t.Run("was withdrawn", func(t *testing.T) {
		b := newBench(t, died)
		b.doms = slices.Clone(paused)
		b.boot()
		b.pass(100 * time.Millisecond)
		b.assign(func(*lifeboatv1.Assignment) {})
		b.pass(8 * time.Second)
		act[RemoveVM](b)
	})
	t.Run("came to nothing", func(t *testing.T) {
		b := newBench(t, died).boot()
		b.pass(8 * time.Second)
		act[RemoveVM](b)
		b.done(vm1, nil)
		if v := b.report(vm1, stateAbsent); v.Failed != 8 {
			t.Errorf("reported %v", v)
		}
	})
	t.Run("runs", func(t *testing.T) {
		b := newBench(t, died)
		b.doms = []hypervisor.Domain{{UUID: vm1, Name: "vm", State: hypervisor.StateRunning}}
		b.boot()
		b.pass(2 * time.Second)
		b.nothing("it runs")
		if v := b.vm(vm1); v.Power != stateOn || v.Incarnation != 8 {
			t.Errorf("reported %v", v)
		}
	})
}

func TestStopAsksFirst(t *testing.T) {
	b := newBench(t, Ledger{}).boot()
	b.pass(100 * time.Millisecond)
	b.runs(vm1, 8)
	b.assign(func(a *lifeboatv1.Assignment) {
		a.Vms = []*lifeboatv1.AssignedVM{own(vm1, 8)}
		a.Orders = []*lifeboatv1.Order{b.order(orderStop, vm1, 8)}
	})
	if a := act[StopVM](b); a.Mode != hypervisor.StopShutdown {
		t.Errorf("%+v", a)
	}
	b.done(vm1, nil)
	b.pass(2500 * time.Millisecond)
	b.nothing("the grace is not over")
	b.pass(time.Second)
	if a := act[StopVM](b); a.Mode != hypervisor.StopDestroy {
		t.Errorf("%+v", a)
	}
	b.set(vm1, hypervisor.StateOff, hypervisor.ReasonDestroyed)
	b.done(vm1, nil)
	if v := b.report(vm1, stateOff); v.Reason != lifeboatv1.PowerReason_POWER_REASON_ORDERED {
		t.Errorf("reported %v", v)
	}
}

func TestResumeAfterIOError(t *testing.T) {
	b := newBench(t, Ledger{}).boot()
	b.pass(100 * time.Millisecond)
	b.runs(vm1, 8)
	b.set(vm1, hypervisor.StatePaused, hypervisor.ReasonIOError)
	if v := b.report(vm1, stateOn); v.Reason != lifeboatv1.PowerReason_POWER_REASON_IO_ERROR {
		t.Errorf("reported %v", v)
	}
	b.nothing("nobody has ordered it")
	b.assign(func(a *lifeboatv1.Assignment) {
		a.Vms = []*lifeboatv1.AssignedVM{own(vm1, 8)}
		a.Orders = []*lifeboatv1.Order{b.order(orderResume, vm1, 8)}
	})
	act[ResumeVM](b)
}

func TestProbesAreAskedOnceAndKept(t *testing.T) {
	b := newBench(t, Ledger{}).boot()
	b.pass(100 * time.Millisecond)
	ask := func(r *lifeboatv1.ReportResponse) {
		r.Probes = []*lifeboatv1.Probe{{HostId: "h2", Addrs: []string{"h2:22"}, Nonce: 7}}
	}
	b.answer(ask)
	act[Probe](b)
	b.pass(time.Second)
	b.answer(ask)
	b.nothing("it is under way")
	b.take(b.s.Probed(b.now, &lifeboatv1.ProbeResult{HostId: "h2", Nonce: 7, Verdict: lifeboatv1.ProbeVerdict_PROBE_VERDICT_ALIVE}))
	for range 2 { // the first report with the result is lost
		b.next()
		if len(b.last.Req.Probes) != 1 {
			t.Fatalf("reported probes %v", b.last.Req.Probes)
		}
		b.take(b.s.SendFailed(b.now, b.last.Req.Seq+1000, false, errors.New("of another report")))
		b.take(b.s.SendFailed(b.now, b.last.Req.Seq, false, errors.New("lost")))
	}
	b.pass(2 * time.Second)
	b.answer()
	b.pass(2 * time.Second)
	if len(b.last.Req.Probes) != 0 {
		t.Errorf("reported again: %v", b.last.Req.Probes)
	}
}

func TestLostStorageIsReportedDown(t *testing.T) {
	b := newBench(t, Ledger{})
	b.inv.Storages = []hypervisor.Storage{
		{Name: "images", Kind: "netfs", Path: "/mnt/vms", Source: "nfs1:/vms", Shared: true},
		{Name: "local", Kind: "dir", Path: "/var/lib/libvirt/images"},
	}
	b.boot()
	b.pass(100 * time.Millisecond)
	if st := b.last.Req.Storages; len(st) != 1 || st[0].Id != "nfs1:/vms@/mnt/vms" || !st[0].Up {
		t.Fatalf("reported %v", st)
	}
	b.answer()
	b.inv.Storages = nil
	b.pass(61 * time.Second)
	if st := b.last.Req.Storages; len(st) != 1 || st[0].Up {
		t.Errorf("reported %v", st)
	}
}

func TestManagersAreLearnedAndFollowed(t *testing.T) {
	b := newBench(t, Ledger{}).boot()
	b.pass(100 * time.Millisecond)
	b.answer(func(r *lifeboatv1.ReportResponse) {
		r.Managers = []*lifeboatv1.Manager{{Id: "n1", Addr: "m1"}, {Id: "n2", Addr: "m2"}, {Id: "n3", Addr: "m3"}}
		r.LeaderId, r.LeaderAddr = "n2", "m2"
	})
	b.pass(2 * time.Second)
	if b.last.To.Addr != "m2" || len(b.disk.Managers) != 3 {
		t.Fatalf("reports go to %v, on disk are %v", b.last.To, b.disk.Managers)
	}
	b.take(b.s.SendFailed(b.now, b.last.Req.Seq, false, errors.New("dead")))
	b.pass(time.Second)
	if b.last.To.Addr == "m2" {
		t.Error("reports still go to the dead leader")
	}
	b.answer(func(r *lifeboatv1.ReportResponse) { r.LeaderAddr = "m2" })
	b.pass(2 * time.Second)
	if b.last.To.Addr == "m2" {
		t.Error("a node says that the dead leader leads, and is believed at once")
	}
}

func TestDamagedLedger(t *testing.T) {
	b := newBench(t, Ledger{})
	b.s = New(b.cfg, Saved{LedgerErr: errors.New("torn")})
	b.take(b.s.Boot(b.now))
	b.pass(100 * time.Millisecond)
	b.starts(vm1, 8)
	b.pass(5 * time.Second)
	b.nothing("the ledger is damaged")
	if b.unsaved != nil || b.disk.Boot != "" {
		t.Error("it was written over")
	}
	if v := b.vm(vm1); v.Power != stateAbsent && v.Power != stateUnknown {
		t.Errorf("reported %v", v)
	}
}
