package session

import (
	"errors"
	"slices"
	"strings"
	"testing"
	"time"

	lifeboatv1 "lifeboat/api/lifeboat/v1"
	"lifeboat/hypervisor"
)

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
	b.inv.Storages = []hypervisor.Storage{{Name: "images", Path: "/vms", Shared: true}}
	b.pass(6 * time.Second)
	b.answer()
	b.pass(2 * time.Second)
	if st := b.last.Req.Storages; len(st) != 1 || !st[0].Up {
		t.Errorf("the storage is back, reported is %v", st)
	}
	b.assign(func(a *lifeboatv1.Assignment) {
		a.Vms = []*lifeboatv1.AssignedVM{own(vm1, 8)}
		a.Orders = []*lifeboatv1.Order{b.order(orderResume, vm1, 8)}
	})
	act[ResumeVM](b)
}
