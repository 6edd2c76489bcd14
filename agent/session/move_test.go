package session

import (
	"errors"
	"strings"
	"testing"
	"time"

	lifeboatv1 "lifeboat/api/lifeboat/v1"
	"lifeboat/hypervisor"
)

// toMigrate makes a host that runs vm1 one that is told to migrate it.
func toMigrate(t *testing.T, abort bool) *bench {
	b := newBench(t, Ledger{}).boot()
	b.pass(100 * time.Millisecond)
	b.runs(vm1, 8)
	b.pass(1100 * time.Millisecond)
	b.tell(abort)
	return b
}

// tell repeats the order to migrate.
func (b *bench) tell(abort bool) {
	b.Helper()
	b.next()
	b.assign(func(a *lifeboatv1.Assignment) {
		o := b.order(lifeboatv1.OrderKind_ORDER_KIND_MIGRATE, vm1, 8)
		o.Target, o.TargetUri, o.WithinMs, o.Abort = "h2", "qemu+tls://h2/system", 60_000, abort
		a.Vms, a.Orders = []*lifeboatv1.AssignedVM{own(vm1, 8)}, []*lifeboatv1.Order{o}
	})
}

// stays checks that the next reports say why the VM was not migrated; silent: that
// they say nothing of it yet.
func (b *bench) stays(why string) {
	b.Helper()
	b.pass(1100 * time.Millisecond)
	v := b.report(vm1, stateOn)
	if said := v.Order == 108; said != (why != "") || !strings.Contains(v.OrderFailure, why) || v.Incarnation != 8 {
		b.Errorf("reported %v, want order 108: %q", v, why)
	}
}

// S7: what an agent makes of an order to migrate. It says that it has failed only when
// none is under way, and it has looked since.
func TestS7OrderToMigrate(t *testing.T) {
	failure := errors.New("unable to connect to h2")
	t.Run("fails", func(t *testing.T) {
		b := toMigrate(t, false)
		if a := act[MigrateVM](b); a.ID != vm1 || a.Order != 108 || a.URI != "qemu+tls://h2/system" || a.Within != time.Minute {
			t.Errorf("ordered %+v", a)
		}
		if b.disk.VMs[vm1].Moving != 108 {
			t.Error("it is handed to the hypervisor before that is on disk")
		}
		b.stays("")
		b.take(b.s.MigrateDone(b.now, vm1, 108, failure))
		b.stays("unable to connect to h2")
		b.tell(false)
		b.pass(5 * time.Second)
		b.nothing("one order is tried once")
		b.next()
		b.assign(func(a *lifeboatv1.Assignment) { a.Vms = []*lifeboatv1.AssignedVM{own(vm1, 8)} })
		b.pass(time.Second)
		if b.disk.VMs[vm1].Moving != 0 {
			t.Error("the order is gone, and still in the ledger")
		}
	})
	t.Run("called off before it began", func(t *testing.T) {
		b := toMigrate(t, true)
		b.nothing("it is not to begin")
		b.stays("called off before it began")
	})
	t.Run("called off on the way", func(t *testing.T) {
		b := toMigrate(t, false)
		act[MigrateVM](b)
		b.tell(true)
		act[AbortMigration](b)
		b.take(b.s.AbortDone(b.now, vm1, nil))
		b.stays("")
		act[AbortMigration](b) // again, as long as it has not ended
		b.take(b.s.MigrateDone(b.now, vm1, 108, errors.New("canceled by client")))
		b.stays("")
		b.take(b.s.AbortDone(b.now, vm1, nil))
		b.stays("canceled by client")
	})
	t.Run("outcome not known", func(t *testing.T) {
		b := toMigrate(t, false)
		act[MigrateVM](b)
		b.take(b.s.MigrateDone(b.now, vm1, 108, hypervisor.ErrUnknownOutcome))
		b.stays("")
		b.pass(quiet)
		act[AbortMigration](b)
		b.take(b.s.AbortDone(b.now, vm1, errors.New("libvirt hangs")))
		b.stays("")
		b.pass(retryOp)
		act[AbortMigration](b)
		b.take(b.s.AbortDone(b.now, vm1, nil))
		b.stays(hypervisor.ErrUnknownOutcome.Error())
	})
	t.Run("it has left", func(t *testing.T) {
		b := toMigrate(t, false)
		act[MigrateVM](b)
		b.set(vm1, hypervisor.StateOff, hypervisor.ReasonMigrated)
		b.take(b.s.MigrateDone(b.now, vm1, 108, nil))
		b.pass(1100 * time.Millisecond)
		if v := b.report(vm1, stateOff); v.Reason != lifeboatv1.PowerReason_POWER_REASON_MIGRATED || v.Order != 0 {
			t.Errorf("reported %v", v)
		}
		b.nothing("what has left is not touched")
	})
	t.Run("the agent is killed on the way", func(t *testing.T) {
		b := toMigrate(t, false)
		act[MigrateVM](b)
		b.boot()
		b.pass(time.Second)
		b.tell(false)
		b.pass(time.Second)
		act[AbortMigration](b)
		b.take(b.s.AbortDone(b.now, vm1, nil))
		b.stays("the agent ended while the VM was being migrated")
	})
}
