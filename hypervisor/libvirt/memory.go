package libvirt

import (
	"sync"
	"time"

	golibvirt "github.com/digitalocean/go-libvirt"

	"lifeboat/hypervisor"
)

// memory knows what libvirt forgets: transient domains that are gone, and why.
type memory struct {
	keep time.Duration

	mu      sync.Mutex
	active  map[hypervisor.UUID]alive // by the last poll, or started since
	stopped map[hypervisor.UUID]stop  // by event, since it was last seen to start
	gone    map[hypervisor.UUID]departed
	removed map[hypervisor.UUID]time.Time // by Remove: nothing to report
	guests  map[hypervisor.UUID]guestCounts
}

type stop struct {
	name   string
	reason hypervisor.Reason
	at     time.Time
	off    bool // it was seen to stay behind, off: if it goes now, that is no loss
}

// alive is a domain that was active, and since when at least, as far as that is
// known from its start; a poll that began earlier may not have seen it.
type alive struct {
	domain hypervisor.Domain
	since  time.Time
}

type departed struct {
	domain hypervisor.Domain
	at     time.Time
}

// event remembers why a domain stopped.
func (m *memory) event(e golibvirt.DomainEventLifecycleMsg) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.init()
	id := hypervisor.UUID(e.Dom.UUID)
	switch golibvirt.DomainEventType(e.Event) {
	case golibvirt.DomainEventStarted:
		delete(m.stopped, id)
		delete(m.gone, id)
		m.active[id] = alive{hypervisor.Domain{UUID: id, Name: e.Dom.Name}, time.Now()}
	case golibvirt.DomainEventStopped:
		m.stopped[id] = stop{name: e.Dom.Name, reason: stopReason(e.Detail), at: time.Now()}
	}
}

// started remembers a domain that no poll has seen yet: when the daemon loses
// it first, it is missing all the same. It may come later than the events of
// the same start, even than those of a stop after it, and must not undo them.
func (m *memory) started(id hypervisor.UUID, name string) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.init()
	m.active[id] = alive{hypervisor.Domain{UUID: id, Name: name}, time.Now()}
}

// complete adds what is missing from the answer of a poll that began at begin.
func (m *memory) complete(listed []hypervisor.Domain, begin time.Time) []hypervisor.Domain {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.init()
	now := time.Now()
	was := m.active
	m.active = make(map[hypervisor.UUID]alive, len(listed))
	present := make(map[hypervisor.UUID]bool, len(listed))
	for i, d := range listed {
		present[d.UUID] = true
		g := m.guests[d.UUID]
		listed[i].Reboots, listed[i].Fired = g.reboots, g.fired
		if m.removed[d.UUID].Before(begin) {
			delete(m.removed, d.UUID)
		}
		delete(m.gone, d.UUID)
		s, stopped := m.stopped[d.UUID]
		switch {
		case d.Active():
			m.active[d.UUID] = alive{domain: d, since: was[d.UUID].since}
			if s.at.Before(begin) { // of an earlier life, whose successor's start we missed
				delete(m.stopped, d.UUID)
			}
		case stopped:
			if d.Reason == hypervisor.ReasonUnknown {
				listed[i].Reason = s.reason
			}
			s.off = true
			m.stopped[d.UUID] = s
		}
	}
	for id, a := range was {
		switch {
		case present[id]:
		case a.since.Before(begin):
			m.leave(a.domain, m.stopped[id].reason, now)
		default: // started while the answer was on its way
			m.active[id] = a
		}
	}
	for id, s := range m.stopped {
		switch g, known := m.gone[id]; {
		case present[id]:
		case s.off:
			delete(m.stopped, id)
		case known: // the event came after the poll that missed the domain
			m.leave(g.domain, s.reason, now)
		default: // it came and went between two polls
			m.leave(hypervisor.Domain{UUID: id, Name: s.name}, s.reason, now)
		}
	}
	m.expire(now)
	for _, g := range m.gone {
		listed = append(listed, g.domain)
	}
	return listed
}

func (m *memory) leave(d hypervisor.Domain, r hypervisor.Reason, now time.Time) {
	if _, ours := m.removed[d.UUID]; ours {
		return
	}
	if g, known := m.gone[d.UUID]; known {
		now = g.at
	}
	d.State, d.Reason, d.Persistent, d.Autostart = hypervisor.StateAbsent, r, false, false
	m.gone[d.UUID] = departed{d, now}
}

func (m *memory) expire(now time.Time) {
	for id, s := range m.stopped {
		if now.Sub(s.at) > m.keep {
			delete(m.stopped, id)
		}
	}
	for id, g := range m.gone {
		if now.Sub(g.at) > m.keep {
			delete(m.gone, id)
			delete(m.guests, id)
		}
	}
	for id, at := range m.removed {
		if now.Sub(at) > m.keep {
			delete(m.removed, id)
		}
	}
}

// forget is called when Remove has verified that nothing is left.
func (m *memory) forget(id hypervisor.UUID) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.init()
	delete(m.active, id)
	delete(m.stopped, id)
	delete(m.gone, id)
	delete(m.guests, id)
	m.removed[id] = time.Now()
}

func (m *memory) init() {
	if m.stopped == nil {
		m.active = make(map[hypervisor.UUID]alive)
		m.stopped = make(map[hypervisor.UUID]stop)
		m.gone = make(map[hypervisor.UUID]departed)
		m.removed = make(map[hypervisor.UUID]time.Time)
		m.guests = make(map[hypervisor.UUID]guestCounts)
	}
}
