package session

import (
	"errors"
	"fmt"
	"testing"
	"time"

	lifeboatv1 "lifeboat/api/lifeboat/v1"
	"lifeboat/hypervisor"
)

// The last look before a guest's first instruction (S3).
func TestS3Confirm(t *testing.T) {
	cases := map[string]struct {
		change func(*bench)
		want   error
	}{
		"nothing has changed": {func(*bench) {}, nil},
		"the order was withdrawn": {func(b *bench) {
			b.assign(func(a *lifeboatv1.Assignment) { a.Vms = []*lifeboatv1.AssignedVM{own(vm2, 9)} })
		}, ErrWithdrawn},
		"it is to be destroyed": {func(b *bench) {
			b.assign(func(a *lifeboatv1.Assignment) {
				a.Orders = []*lifeboatv1.Order{b.order(orderStart, vm2, 9), b.order(orderDestroy, vm2, 9)}
			})
		}, ErrWithdrawn},
		"another order": {func(b *bench) {
			b.assign(func(a *lifeboatv1.Assignment) {
				o := b.order(orderStart, vm2, 9)
				o.Id++
				a.Orders = []*lifeboatv1.Order{o}
			})
		}, ErrWithdrawn},
		"the epoch is over": {func(b *bench) {
			b.answer(func(r *lifeboatv1.ReportResponse) { r.Register = true })
		}, ErrWithdrawn},
		"the lease ran out":                         {func(b *bench) { b.pass(11 * time.Second) }, ErrNoLease},
		"the lease ran out, and nobody has noticed": {func(b *bench) { b.now = b.held.Until }, ErrNoLease},
		"the agent is being stopped":                {func(b *bench) { b.take(b.s.Stop(b.now, false)) }, ErrStopping},
		"the machine goes down":                     {func(b *bench) { b.take(b.s.HostStopping(b.now)) }, ErrStopping},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			b := leased(t)
			b.assign(func(a *lifeboatv1.Assignment) {
				a.Vms = []*lifeboatv1.AssignedVM{own(vm1, 8), own(vm2, 9)}
				a.Lease = &lifeboatv1.Lease{Armed: true, DurationMs: 10_000}
				a.Orders = []*lifeboatv1.Order{b.order(orderStart, vm2, 9)}
			})
			x := act[StartVM](b)
			c.change(b)
			if err := b.s.Confirm(b.now, x.ID, x.Incarnation, x.Order); !errors.Is(err, c.want) {
				t.Errorf("got %v, want %v", err, c.want)
			}
			if err := b.s.Confirm(b.now, x.ID, x.Incarnation-1, x.Order); err == nil {
				t.Error("an older incarnation is confirmed")
			}
		})
	}
}

func TestS4TombstoneOfWhatWasNeverHere(t *testing.T) {
	b := newBench(t, Ledger{}).boot()
	b.pass(100 * time.Millisecond)
	b.assign(func(a *lifeboatv1.Assignment) { a.Orders = []*lifeboatv1.Order{b.order(orderDestroy, vm1, 9)} })
	b.pass(100 * time.Millisecond)
	act[RemoveVM](b)
	b.done(vm1, nil)
	if v := b.report(vm1, stateAbsent); v.Refused != 9 {
		t.Errorf("reported %v", v)
	}
	for _, inc := range []uint64{8, 9} {
		b.starts(vm1, inc)
		b.pass(3 * time.Second)
		b.nothing("a refused incarnation")
	}
	b.set(vm1, hypervisor.StateRunning, hypervisor.ReasonBooted)
	b.assign(func(a *lifeboatv1.Assignment) { a.Vms = []*lifeboatv1.AssignedVM{own(vm1, 9)} })
	b.pass(2 * time.Second)
	if e := b.disk.VMs[vm1]; e.Incarnation == 9 {
		t.Errorf("a refused incarnation was adopted: %+v", e)
	}
	b.starts(vm1, 10)
	act[StartVM](b)
}

// A call that was given up may still happen: nothing is said to have failed
// before that is over (S4).
func TestS4UnknownOutcome(t *testing.T) {
	b := newBench(t, Ledger{}).boot()
	b.pass(100 * time.Millisecond)
	b.starts(vm1, 8)
	act[StartVM](b)
	b.done(vm1, fmt.Errorf("start: %w", hypervisor.ErrUnknownOutcome))
	b.pass(4 * time.Second)
	b.nothing("it may still happen")
	b.set(vm1, hypervisor.StateRunning, hypervisor.ReasonBooted)
	if v := b.report(vm1, stateOn); v.Incarnation != 8 || v.Failed != 0 {
		t.Errorf("reported %v", v)
	}
	b.nothing("it runs")
}

// What was seen before the lease ran out does not keep the machine alive: the
// VM may have been started since.
func TestS12OnlyALookAfterTheEndCounts(t *testing.T) {
	b := leased(t)
	b.set(vm1, hypervisor.StateOff, hypervisor.ReasonShutdown)
	b.pass(2 * time.Second)
	b.now = b.held.Until - 1
	b.take(b.s.Tick(b.now))
	b.slowPoll = true
	b.pass(20 * time.Millisecond)
	pets := b.pets
	b.pass(3 * time.Second)
	if b.pets != pets {
		t.Error("petted on the word of an old poll")
	}
	b.polled()
	b.slowPoll = false
	b.pass(3 * time.Second)
	if b.pets == pets {
		t.Error("not petted although the VM is off")
	}
}

func TestWatchdogLost(t *testing.T) {
	b := leased(t)
	b.slowDog = true
	b.take(b.s.WatchdogLost(b.now, errors.New("gone")))
	b.take(b.s.WatchdogDone(b.now, errors.New("still gone")))
	b.pass(100 * time.Millisecond)
	if b.last.Req.Watchdog != lifeboatv1.WatchdogKind_WATCHDOG_KIND_UNSPECIFIED || len(b.last.Req.Problems) == 0 {
		t.Errorf("a watchdog that is gone is reported as %v, problems %v", b.last.Req.Watchdog, b.last.Req.Problems)
	}
	b.slowDog = false
	b.pass(2 * time.Second)
	if b.last.Req.Watchdog != lifeboatv1.WatchdogKind_WATCHDOG_KIND_HARDWARE || len(b.last.Req.Problems) != 0 {
		t.Errorf("after it was armed again: %v, %v", b.last.Req.Watchdog, b.last.Req.Problems)
	}
}
