package session

import (
	"fmt"
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

// errSilentAgent is what the hypervisor says of an agent that does not answer.
var errSilentAgent = fmt.Errorf("ask the agent: %w", hypervisor.ErrSilent)

func (b *bench) watch(ids ...hypervisor.UUID) {
	b.assign(func(a *lifeboatv1.Assignment) {
		for _, id := range ids {
			x := own(id, 8)
			x.WatchGuest = true
			a.Vms = append(a.Vms, x)
		}
	})
	b.pass(100 * time.Millisecond)
}

// guests lets time pass in which each question is answered by says, after took.
func (b *bench) guests(d, took time.Duration, says func(hypervisor.UUID) error) {
	for end := b.now.Add(d); b.now < end; {
		acts := b.acts
		b.acts = nil
		b.pass(max(took, 100*time.Millisecond))
		for _, a := range acts {
			if a, ok := a.(AskGuest); ok {
				b.take(b.s.GuestAsked(b.now, a.ID, says(a.ID)))
			}
		}
	}
	b.next()
}

// silence is for how long the reports say that the agent of VM 1 has been silent.
func (b *bench) silence() time.Duration {
	return time.Duration(b.vm(vm1).GuestSilentMs) * time.Millisecond
}

func always(err error) func(hypervisor.UUID) error { return func(hypervisor.UUID) error { return err } }

// watching is a bench on which VM 1 runs and is watched.
func watching(t *testing.T) *bench {
	b := newBench(t, Ledger{}).boot()
	b.pass(100 * time.Millisecond)
	b.runs(vm1, 8)
	b.watch(vm1)
	return b
}

// An agent that has answered and falls silent is reported as silent for as long as it was
// asked in vain; one answer ends that.
func TestGuestFallsSilent(t *testing.T) {
	b := watching(t)
	b.guests(time.Minute, 3*time.Second, always(errSilentAgent))
	if b.silence() != 0 {
		t.Fatalf("it has never answered, and was silent for %s", b.silence())
	}
	b.guests(time.Minute, 0, always(nil))
	if b.silence() != 0 || !b.vm(vm1).GuestAnswers {
		t.Fatalf("it answers: %v", b.vm(vm1))
	}
	b.guests(time.Minute, 3*time.Second, always(errSilentAgent))
	if s := b.silence(); s < 50*time.Second || s > 62*time.Second {
		t.Fatalf("it was asked in vain for a minute, and silent for %s", s)
	}
	b.guests(10*time.Second, 0, always(nil))
	if b.silence() != 0 {
		t.Fatalf("it answers, and was silent for %s", b.silence())
	}
}

// What says nothing about a guest is no silence: a hypervisor that does not answer, a
// machine that stood still, a guest that is paused, one that boots again.
func TestGuestIsNotSilent(t *testing.T) {
	for name, c := range map[string]struct {
		then func(b *bench)
		most time.Duration
	}{
		"libvirtd is gone for ten minutes": {func(b *bench) {
			b.guests(10*time.Minute, time.Second, always(hypervisor.ErrUnavailable))
			b.guests(20*time.Second, 3*time.Second, always(errSilentAgent))
		}, 25 * time.Second},
		"libvirtd does not say": {func(b *bench) { b.guests(10*time.Minute, time.Second, always(hypervisor.ErrUnknownOutcome)) }, 0},
		"the machine stood still": {func(b *bench) {
			b.pass(watchEvery)
			b.now = b.now.Add(time.Hour)
			b.guests(time.Second, 0, always(errSilentAgent))
		}, askAtMost},
		"paused by a user": {func(b *bench) {
			b.guests(40*time.Second, 3*time.Second, always(errSilentAgent))
			b.set(vm1, hypervisor.StatePaused, hypervisor.ReasonUser)
			b.guests(10*time.Minute, 0, always(errSilentAgent))
			b.set(vm1, hypervisor.StateRunning, hypervisor.ReasonUser)
			b.guests(5*time.Second, 0, always(errSilentAgent))
		}, askAtMost},
		"it boots again": {func(b *bench) {
			b.doms[0].Reboots++
			b.guests(10*time.Minute, 3*time.Second, always(errSilentAgent))
		}, 0},
		"it was started anew": {func(b *bench) {
			b.set(vm1, hypervisor.StateOff, hypervisor.ReasonCrashed)
			b.guests(time.Second, 0, always(errSilentAgent))
			b.set(vm1, hypervisor.StateRunning, hypervisor.ReasonBooted)
			b.guests(10*time.Minute, 3*time.Second, always(errSilentAgent))
		}, 0},
	} {
		t.Run(name, func(t *testing.T) {
			b := watching(t)
			b.guests(20*time.Second, 0, always(nil))
			c.then(b)
			if s := b.silence(); s > c.most {
				t.Errorf("it was silent for %s, want at most %s", s, c.most)
			}
		})
	}
}

// A new process of the agent does not know whether the guest has answered, the state
// does: it reports the silence that it sees itself, from its own begin on.
func TestGuestIsSilentForANewAgent(t *testing.T) {
	b := watching(t)
	b.guests(20*time.Second, 0, always(nil))
	b.guests(50*time.Second, 3*time.Second, always(errSilentAgent))
	b.acts = nil
	b.s = New(b.cfg, Saved{Ledger: b.disk, Held: b.held})
	b.take(b.s.Boot(b.now))
	b.pass(time.Second)
	b.watch(vm1)
	b.guests(10*time.Second, 3*time.Second, always(errSilentAgent))
	if s := b.silence(); s > 15*time.Second || b.vm(vm1).GuestAnswers {
		t.Fatalf("it was silent for %s after ten seconds", s)
	}
	b.guests(50*time.Second, 3*time.Second, always(errSilentAgent))
	if s := b.silence(); s < 50*time.Second {
		t.Fatalf("it was silent for %s after a minute", s)
	}
}

// Guests that do not answer keep others neither from being asked nor the agent from
// reporting, however many they are.
func TestSilentGuestsDelayNobody(t *testing.T) {
	b := newBench(t, Ledger{}).boot()
	b.pass(100 * time.Millisecond)
	var ids []hypervisor.UUID
	for i := range 30 {
		id := hypervisor.UUID{byte(i + 1)}
		ids = append(ids, id)
		b.set(id, hypervisor.StateRunning, hypervisor.ReasonBooted)
	}
	b.watch(ids...)
	sent, most := b.sent, 0
	asked := map[hypervisor.UUID]Instant{}
	out := map[hypervisor.UUID]Instant{}
	for end := b.now.Add(3 * time.Minute); b.now < end; {
		acts := b.acts
		b.acts = nil
		for _, a := range acts {
			if a, ok := a.(AskGuest); ok {
				asked[a.ID], out[a.ID] = b.now, b.now
			}
		}
		most = max(most, len(out))
		for _, id := range ids {
			at, asking := out[id]
			switch {
			case !asking:
			case id[0] == 30:
				delete(out, id)
				b.take(b.s.GuestAsked(b.now, id, nil))
			case b.now.Sub(at) >= 4*time.Second:
				delete(out, id)
				b.take(b.s.GuestAsked(b.now, id, errSilentAgent))
			}
		}
		for _, id := range ids {
			if quiet := b.now.Sub(asked[id]); asked[id] != 0 && quiet > 40*time.Second {
				t.Fatalf("guest %d was not asked for %s", id[0], quiet)
			}
		}
		b.pass(100 * time.Millisecond)
		b.answer()
	}
	if most > asksAtOnce || len(asked) != len(ids) {
		t.Errorf("%d were asked at a time, and %d of %d at all", most, len(asked), len(ids))
	}
	if n := b.sent - sent; n < 170 {
		t.Errorf("%d reports in three minutes", n)
	}
}

// A watchdog that fires is reported once, with its age, until the guest answers again or
// ends; one that has paused its guest for as long as it is paused.
func TestGuestWatchdogFires(t *testing.T) {
	b := watching(t)
	b.guests(10*time.Second, 0, always(nil))
	b.doms[0].Fired++
	b.pass(2 * time.Second)
	b.next()
	if ms := b.vm(vm1).WatchdogMs; ms < 1 || ms > 6000 {
		t.Fatalf("it fired %d ms ago", ms)
	}
	b.guests(20*time.Second, 3*time.Second, always(errSilentAgent))
	if ms := b.vm(vm1).WatchdogMs; ms < 15000 || ms > 30000 {
		t.Fatalf("it fired %d ms ago", ms)
	}
	b.guests(10*time.Second, 0, always(nil))
	if ms := b.vm(vm1).WatchdogMs; ms != 0 {
		t.Fatalf("it answers, and its watchdog fired %d ms ago", ms)
	}
	b.doms[0].Fired++
	b.set(vm1, hypervisor.StateOff, hypervisor.ReasonCrashed)
	b.guests(time.Second, 0, always(nil))
	d := &b.doms[0]
	d.State, d.Reason, d.Fired = hypervisor.StateRunning, hypervisor.ReasonBooted, 7 // of the time before
	b.guests(2*time.Second, 0, always(nil))
	if ms := b.vm(vm1).WatchdogMs; ms != 0 {
		t.Fatalf("another run's watchdog fired %d ms ago", ms)
	}
	b.set(vm1, hypervisor.StatePaused, hypervisor.ReasonWatchdog)
	b.guests(time.Minute, 0, always(errSilentAgent))
	if r := b.vm(vm1); r.WatchdogMs != 1 || !r.WatchdogPaused {
		t.Fatalf("it stands still: %v", r)
	}
	b.acts = nil
	b.assign(func(a *lifeboatv1.Assignment) {
		a.Vms = append(a.Vms, own(vm1, 8))
		a.Orders = append(a.Orders, b.order(orderStop, vm1, 8))
	})
	if a := act[StopVM](b); a.Mode != hypervisor.StopDestroy {
		t.Fatalf("a guest that stands still is asked to shut down (%v)", a.Mode)
	}
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
	b.ask(true)
	for n := 1; n <= 3; n++ {
		if b.asked() != n {
			t.Fatalf("it was asked %d times, want %d", b.asked(), n)
		}
		b.pass(5 * time.Second)
		if b.asked() != n {
			t.Fatal("it is asked while it is being asked")
		}
		b.take(b.s.GuestAsked(b.now, vm1, errSilentAgent))
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
