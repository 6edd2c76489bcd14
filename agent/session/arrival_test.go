package session

import (
	"slices"
	"testing"
	"time"

	lifeboatv1 "lifeboat/api/lifeboat/v1"
	"lifeboat/hypervisor"
)

// A VM that somebody has migrated here while no manager is reached may be one of
// those that are protected: nobody has told this agent yet. The managers take
// its old host for dead, and this one too, when the leases have run out (S12).
func TestS12WhatHasComeUnheardStopsWithTheLease(t *testing.T) {
	stops := func(b *bench, id hypervisor.UUID) bool {
		return slices.ContainsFunc(b.acts, func(a Action) bool { x, ok := a.(StopVM); return ok && x.ID == id && x.Mode == hypervisor.StopDestroy })
	}
	arrive := func(t *testing.T, r hypervisor.Reason) *bench {
		b := leased(t)
		b.pass(time.Second)
		b.set(vm2, hypervisor.StateRunning, r)
		b.pass(1100 * time.Millisecond)
		return b
	}
	t.Run("unheard", func(t *testing.T) {
		b := arrive(t, hypervisor.ReasonMigrated)
		b.pass(12 * time.Second)
		if !stops(b, vm2) {
			t.Error("it runs on although the lease has run out")
		}
		pets := b.pets
		b.set(vm1, hypervisor.StateOff, hypervisor.ReasonDestroyed)
		b.done(vm1, nil)
		b.pass(3 * time.Second)
		if b.pets != pets {
			t.Error("the watchdog is petted while it may live")
		}
		b.set(vm2, hypervisor.StateOff, hypervisor.ReasonDestroyed)
		b.done(vm2, nil)
		b.pass(3 * time.Second)
		if b.pets == pets {
			t.Error("the watchdog is not petted although both are off")
		}
	})
	t.Run("still on its way", func(t *testing.T) {
		b := leased(t)
		b.pass(time.Second)
		b.set(vm2, hypervisor.StatePaused, hypervisor.ReasonMigrating)
		b.pass(12 * time.Second)
		if !stops(b, vm2) {
			t.Error("it can still arrive although the lease has run out")
		}
	})
	t.Run("the managers know of it, and it is not protected", func(t *testing.T) {
		b := arrive(t, hypervisor.ReasonMigrated)
		b.grant()
		b.pass(15 * time.Second)
		if stops(b, vm2) {
			t.Error("a VM that is not protected is stopped")
		}
	})
	t.Run("it was started here, and is nobody else's", func(t *testing.T) {
		b := arrive(t, hypervisor.ReasonBooted)
		b.pass(15 * time.Second)
		if stops(b, vm2) {
			t.Error("a VM that is not protected is stopped")
		}
	})
	t.Run("it ran here before this agent began", func(t *testing.T) {
		b := leased(t)
		b.set(vm2, hypervisor.StateRunning, hypervisor.ReasonMigrated)
		b.armed = false
		b.boot()
		b.pass(15 * time.Second)
		if stops(b, vm2) {
			t.Error("a VM that may have been here for a year is stopped")
		}
	})
}

// S6: a VM that comes back by migration to a host that has given it up is at first
// no more than a process that has not run, as what is left of a start of ours would
// be. It is not removed before it can be told.
func TestS6AMigrationBeginsAsAProcessThatHasNotRun(t *testing.T) {
	given := Ledger{Boot: "boot", Synced: true, VMs: map[hypervisor.UUID]Entry{vm1: {Incarnation: 8, Phase: PhaseEnded, Refusing: 8, Refused: 8}}}
	for name, orders := range map[string]uint64{"given up": 0, "told to remove the old copy": 9} {
		t.Run(name, func(t *testing.T) {
			b := newBench(t, given).boot()
			b.pass(100 * time.Millisecond)
			b.assign(func(a *lifeboatv1.Assignment) {
				if orders != 0 {
					a.Orders = []*lifeboatv1.Order{b.order(orderDestroy, vm1, orders)}
				}
			})
			if orders != 0 {
				b.acts = nil // it is removed once, before anything comes
				b.done(vm1, nil)
			}
			b.set(vm1, hypervisor.StatePaused, hypervisor.ReasonStarting)
			b.pass(5 * time.Second)
			b.nothing("it may be an incoming migration")
			if v := b.report(vm1, stateOn); v.Reason != lifeboatv1.PowerReason_POWER_REASON_MIGRATING_IN {
				t.Errorf("reported %v", v)
			}
			b.set(vm1, hypervisor.StatePaused, hypervisor.ReasonMigrating)
			b.pass(2 * time.Minute)
			b.nothing("it is an incoming migration")
		})
	}
	t.Run("it never gets further", func(t *testing.T) {
		b := newBench(t, given).boot()
		b.pass(100 * time.Millisecond)
		b.assign(func(*lifeboatv1.Assignment) {})
		b.set(vm1, hypervisor.StatePaused, hypervisor.ReasonStarting)
		for begin := b.now; b.now < begin.Add(arrivalBegins+2*time.Second); b.answer() {
			b.pass(time.Second)
		}
		if a := act[RemoveVM](b); a.ID != vm1 {
			t.Errorf("removed %v", a.ID)
		}
	})
}
