package libvirt

import (
	"testing"
	"testing/synctest"
	"time"

	golibvirt "github.com/digitalocean/go-libvirt"

	"lifeboat/hypervisor"
)

var guest = hypervisor.Domain{UUID: hypervisor.UUID{7}, Name: "g", State: hypervisor.StateRunning}

// tape plays events and polls against a memory.
type tape struct {
	t *testing.T
	m memory
}

func newTape(t *testing.T) *tape { return &tape{t: t, m: memory{keep: 10 * time.Minute}} }

func (p *tape) event(e golibvirt.DomainEventType, detail int32) {
	time.Sleep(time.Millisecond)
	p.m.event(golibvirt.DomainEventLifecycleMsg{
		Dom: golibvirt.Domain{UUID: golibvirt.UUID(guest.UUID), Name: guest.Name}, Event: int32(e), Detail: detail,
	})
}

func (p *tape) crash() {
	p.event(golibvirt.DomainEventStopped, int32(golibvirt.DomainEventStoppedCrashed))
}

func (p *tape) started() { p.event(golibvirt.DomainEventStarted, 0) }

// poll is one whose answer held these domains; it returns what is reported of
// the guest.
func (p *tape) poll(listed ...hypervisor.Domain) (hypervisor.Domain, bool) {
	time.Sleep(time.Millisecond)
	return p.pollSince(time.Now(), listed...)
}

func (p *tape) pollSince(begin time.Time, listed ...hypervisor.Domain) (hypervisor.Domain, bool) {
	p.t.Helper()
	time.Sleep(time.Millisecond)
	var found []hypervisor.Domain
	for _, d := range p.m.complete(listed, begin) {
		if d.UUID == guest.UUID {
			found = append(found, d)
		}
	}
	if len(found) > 1 {
		p.t.Fatalf("reported twice: %+v", found)
	}
	if len(found) == 0 {
		return hypervisor.Domain{}, false
	}
	return found[0], true
}

func (p *tape) want(state hypervisor.State, reason hypervisor.Reason, d hypervisor.Domain, ok bool) {
	p.t.Helper()
	if !ok || d.State != state || d.Reason != reason {
		p.t.Errorf("reported %v, %v %v, want %v %v", ok, d.State, d.Reason, state, reason)
	}
}

func (p *tape) wantAbsent(reason hypervisor.Reason, listed ...hypervisor.Domain) {
	p.t.Helper()
	d, ok := p.poll(listed...)
	p.want(hypervisor.StateAbsent, reason, d, ok)
}

func (p *tape) wantNothing(listed ...hypervisor.Domain) {
	p.t.Helper()
	if d, ok := p.poll(listed...); ok {
		p.t.Errorf("reported %+v, want nothing", d)
	}
}

// TestMemory: whatever order events and polls come in, a guest that ran and is
// gone is reported, with the reason once that is known, and nothing else is.
func TestMemory(t *testing.T) {
	for name, play := range map[string]func(*tape){
		"vanishes without an event": func(p *tape) {
			p.poll(guest)
			p.wantAbsent(hypervisor.ReasonUnknown)
			p.wantAbsent(hypervisor.ReasonUnknown)
		},
		"the event comes before the poll": func(p *tape) {
			p.poll(guest)
			p.crash()
			p.wantAbsent(hypervisor.ReasonCrashed)
		},
		"the event comes after the poll": func(p *tape) {
			p.poll(guest)
			p.wantAbsent(hypervisor.ReasonUnknown)
			p.crash()
			p.wantAbsent(hypervisor.ReasonCrashed)
		},
		"comes and goes between two polls": func(p *tape) {
			p.poll()
			p.started()
			p.crash()
			p.wantAbsent(hypervisor.ReasonCrashed)
		},
		"lost before any poll": func(p *tape) {
			p.m.started(guest.UUID, guest.Name)
			p.wantAbsent(hypervisor.ReasonUnknown)
		},
		"starts while the answer is on its way": func(p *tape) {
			begin := time.Now()
			p.started()
			if d, ok := p.pollSince(begin); ok {
				p.t.Errorf("reported %+v by a poll that is older than the start", d)
			}
			d, ok := p.poll(guest)
			p.want(hypervisor.StateRunning, hypervisor.ReasonUnknown, d, ok)
		},
		"a late note of a start does not undo the stop": func(p *tape) {
			p.started()
			p.crash()
			p.m.started(guest.UUID, guest.Name)
			p.wantAbsent(hypervisor.ReasonCrashed)
		},
		"runs again": func(p *tape) {
			p.poll(guest)
			p.wantAbsent(hypervisor.ReasonUnknown)
			d, ok := p.poll(guest)
			p.want(hypervisor.StateRunning, hypervisor.ReasonUnknown, d, ok)
			p.wantAbsent(hypervisor.ReasonUnknown) // not the crash of a former life
		},
		"a stop of an earlier life": func(p *tape) {
			p.poll(guest)
			p.crash()
			p.poll(guest) // its start was missed
			p.wantAbsent(hypervisor.ReasonUnknown)
		},
		"persistent, off, undefined later": func(p *tape) {
			off := guest
			off.State, off.Persistent = hypervisor.StateOff, true
			p.poll(guest)
			p.crash()
			d, ok := p.poll(off)
			p.want(hypervisor.StateOff, hypervisor.ReasonCrashed, d, ok)
			p.wantNothing()
		},
		"removed by us": func(p *tape) {
			p.poll(guest)
			p.m.forget(guest.UUID)
			p.event(golibvirt.DomainEventStopped, int32(golibvirt.DomainEventStoppedDestroyed))
			p.wantNothing()
			p.wantNothing()
		},
		"removed by us, started again, gone": func(p *tape) {
			p.poll(guest)
			p.m.forget(guest.UUID)
			p.wantNothing()
			p.poll(guest)
			p.wantAbsent(hypervisor.ReasonUnknown)
		},
		"not for ever": func(p *tape) {
			p.poll(guest)
			p.wantAbsent(hypervisor.ReasonUnknown)
			time.Sleep(11 * time.Minute)
			p.poll() // the one that notices
			p.wantNothing()
			if n := len(p.m.gone) + len(p.m.stopped) + len(p.m.active) + len(p.m.removed); n != 0 {
				p.t.Errorf("%d entries are still remembered", n)
			}
		},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) { play(newTape(t)) })
		})
	}
}

// Every number that libvirt may send means something, and never that a domain
// which may run is off.
func TestStateOfIsTotal(t *testing.T) {
	for state := int32(-2); state < 20; state++ {
		for reason := int32(-2); reason < 30; reason++ {
			s, r := stateOf(state, reason)
			off := golibvirt.DomainState(state) == golibvirt.DomainShutoff
			if s.Active() == off || s == hypervisor.StateAbsent {
				t.Errorf("state %d reason %d became %v %v", state, reason, s, r)
			}
		}
	}
	for detail := int32(-2); detail < 30; detail++ {
		_ = stopReason(detail)
	}
}

// What a guest does without a new start is counted, by domain, for as long as the domain
// is known.
func TestGuestEventsAreCounted(t *testing.T) {
	p := newTape(t)
	dom := golibvirt.Domain{UUID: golibvirt.UUID(guest.UUID), Name: guest.Name}
	fires := func(a golibvirt.DomainEventWatchdogAction) {
		if id := p.m.guestEvent(&golibvirt.DomainEventCallbackWatchdogMsg{Msg: golibvirt.DomainEventWatchdogMsg{Dom: dom, Action: int32(a)}}); id != guest.UUID {
			t.Errorf("the event is about %s", id)
		}
	}
	want := func(when string, reboots, fired uint32) {
		t.Helper()
		if d, _ := p.poll(guest); d.Reboots != reboots || d.Fired != fired {
			t.Errorf("%s: %d reboots, fired %d times; want %d and %d", when, d.Reboots, d.Fired, reboots, fired)
		}
	}
	p.started()
	want("at the start", 0, 0)
	for _, a := range []golibvirt.DomainEventWatchdogAction{golibvirt.DomainEventWatchdogReset, golibvirt.DomainEventWatchdogPause,
		golibvirt.DomainEventWatchdogPoweroff, golibvirt.DomainEventWatchdogInjectnmi} {
		fires(a)
	}
	want("somebody else has acted on it, or it is seen paused", 0, 0)
	for _, a := range []golibvirt.DomainEventWatchdogAction{golibvirt.DomainEventWatchdogNone, golibvirt.DomainEventWatchdogShutdown, golibvirt.DomainEventWatchdogDebug} {
		fires(a)
	}
	want("nobody has", 0, 3)
	if id := p.m.guestEvent(&golibvirt.DomainEventCallbackRebootMsg{Msg: golibvirt.DomainEventRebootMsg{Dom: dom}}); id != guest.UUID {
		t.Errorf("the event is about %s", id)
	}
	want("it has booted again", 1, 3)
	p.crash()
	p.started()
	want("they only grow", 1, 3)
	p.m.forget(guest.UUID)
	want("it was removed", 0, 0)
}
