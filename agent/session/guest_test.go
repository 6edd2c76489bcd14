package session

import (
	"errors"
	"testing"
	"time"

	lifeboatv1 "lifeboat/api/lifeboat/v1"
	"lifeboat/hypervisor"
)

// asked counts how often the guest's agent was asked so far.
func (b *bench) asked() (n int) {
	for _, a := range b.acts {
		if _, ok := a.(AskGuest); ok {
			n++
		}
	}
	return n
}

func (b *bench) ask(on bool) {
	b.assign(func(a *lifeboatv1.Assignment) {
		x := own(vm1, 8)
		x.AskGuest = on
		a.Vms = []*lifeboatv1.AssignedVM{x}
	})
	b.pass(100 * time.Millisecond)
}

// The agent of a guest is asked where the state wants to know, until it has answered
// once; what it said is forgotten when the guest ends.
func TestGuestIsAskedUntilItAnswers(t *testing.T) {
	b := newBench(t, Ledger{}).boot()
	b.pass(100 * time.Millisecond)
	b.runs(vm1, 8)
	b.pass(10 * time.Second)
	if b.asked() != 0 {
		t.Fatal("it is asked although nobody waits for it")
	}
	silent := errors.New("guest agent is not responding")
	b.ask(true)
	for n := 1; n <= 3; n++ {
		if b.asked() != n {
			t.Fatalf("it was asked %d times, want %d", b.asked(), n)
		}
		b.pass(5 * time.Second)
		if b.asked() != n {
			t.Fatal("it is asked while it is being asked")
		}
		b.take(b.s.GuestAsked(b.now, vm1, silent))
		b.pass(askEvery + time.Second)
	}
	if b.vm(vm1).GuestAnswers {
		t.Fatal("it has not answered")
	}
	b.take(b.s.GuestAsked(b.now, vm1, nil))
	b.pass(20 * time.Second)
	if b.asked() != 4 || !b.vm(vm1).GuestAnswers {
		t.Fatalf("asked %d times, reported %v", b.asked(), b.vm(vm1))
	}
	b.set(vm1, hypervisor.StateOff, hypervisor.ReasonCrashed)
	b.pass(3 * time.Second)
	if b.vm(vm1).GuestAnswers {
		t.Fatal("one that is off answers")
	}
}

// An answer that comes after the guest has ended is that of another run.
func TestGuestThatEndsWhileItIsAsked(t *testing.T) {
	b := newBench(t, Ledger{}).boot()
	b.pass(100 * time.Millisecond)
	b.runs(vm1, 8)
	b.ask(true)
	b.set(vm1, hypervisor.StateOff, hypervisor.ReasonCrashed)
	b.pass(3 * time.Second)
	b.set(vm1, hypervisor.StateRunning, hypervisor.ReasonBooted)
	b.pass(3 * time.Second)
	b.take(b.s.GuestAsked(b.now, vm1, nil))
	b.pass(time.Second)
	if b.vm(vm1).GuestAnswers {
		t.Fatal("the answer of the guest before it counts")
	}
	b.pass(2 * askEvery)
	if b.asked() != 2 {
		t.Fatalf("asked %d times, want a second time", b.asked())
	}
}
