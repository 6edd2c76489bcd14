package session

import (
	"slices"
	"testing"
	"time"

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
