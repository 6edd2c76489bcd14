package session

import (
	"cmp"
	"errors"
	"slices"
	"time"

	"lifeboat/hypervisor"
)

const (
	// askEvery is how often the agent of a guest is asked that others wait for, and
	// watchEvery one that is watched.
	askEvery   = 2 * time.Second
	watchEvery = 5 * time.Second
	// askAtMost is what one question adds to a silence at most. Time in which nobody
	// could ask, because this machine stood still or others were asked, is no silence.
	askAtMost = 2 * watchEvery
	// asksAtOnce guests are asked at a time: each that is silent keeps a worker of
	// libvirt's busy, of which it has twenty.
	asksAtOnce = 8
)

// guestState is what is known of the guest of a VM, since it runs or has booted again.
type guestState struct {
	asking  bool
	void    bool // the guest that is being asked runs no more
	answers bool
	// fresh: this process has seen it begin. Its silence says nothing before it has
	// answered: it boots, or has no agent.
	fresh  bool
	due    Instant
	asked  Instant       // when the last question began
	silent time.Duration // its agent was asked in vain for so long, in a row
	mark   Instant       // up to which silent counts; 0: nothing does yet

	fired   bool // its watchdog, and it has not answered since
	firedAt Instant
}

// begin is a guest that begins anew.
func (g *guestState) begin() { *g = guestState{asking: g.asking, void: g.asking, fresh: true} }

// seeGuest takes over what a look says about a guest. known: there was a look before,
// which saw before; was: the guest ran then.
func (s *Session) seeGuest(v *vm, known, was bool, before hypervisor.Domain) {
	g := &v.guest
	switch {
	case !v.ran():
		s.conn.changed = s.conn.changed || g.answers
		g.begin()
	case !was && known && v.dom.Reason == hypervisor.ReasonMigrated:
		g.fresh = false // it has run elsewhere
	case was && v.dom.Reboots > before.Reboots:
		s.conn.changed = s.conn.changed || g.answers
		g.begin()
	case was && v.dom.Fired > before.Fired:
		g.fired, g.firedAt, s.conn.changed = true, s.now, true
		s.note(Warn, "the watchdog of a guest has fired", "vm", v.name, "uuid", v.id.String())
	}
	if v.dom.State != hypervisor.StateRunning {
		g.silent, g.mark = 0, 0
	}
}

// stepGuests asks the agents inside guests: until they have answered once where others
// wait for that, and on and on where they are watched. Who waits longest comes first.
func (s *Session) stepGuests() {
	var due []*vm
	free := asksAtOnce
	for _, v := range s.list {
		switch {
		case v.guest.asking:
			free--
		case s.asks(v) && s.due(v.guest.due):
			due = append(due, v)
		}
	}
	slices.SortStableFunc(due, func(a, b *vm) int { return cmp.Compare(a.guest.due, b.guest.due) })
	for _, v := range due[:min(len(due), max(free, 0))] {
		v.guest.asking, v.guest.asked = true, s.now
		s.do(AskGuest{ID: v.id})
	}
}

func (s *Session) asks(v *vm) bool {
	a := v.owned
	return a != nil && (a.WatchGuest || a.AskGuest && !v.guest.answers) && v.ran() && v.dom.State == hypervisor.StateRunning && v.op == opNone
}

// GuestAsked answers [AskGuest].
func (s *Session) GuestAsked(now Instant, id hypervisor.UUID, err error) Out {
	s.begin(now)
	v := s.vms[id]
	if v == nil || !v.guest.asking {
		return s.step()
	}
	g := &v.guest
	switch {
	case g.void:
	case err == nil:
		if !g.answers {
			s.conn.changed = true
			s.note(Info, "the agent of a guest answers", "vm", v.name, "uuid", id.String())
		}
		g.answers, g.silent, g.mark = true, 0, 0
		g.fired = g.fired && g.firedAt > g.asked
	case errors.Is(err, hypervisor.ErrSilent) && v.dom.State == hypervisor.StateRunning:
		from := g.asked
		if g.mark != 0 {
			from = g.mark
		}
		g.silent += min(s.now.Sub(from), askAtMost)
		g.mark = s.now
	default:
		g.mark = 0
	}
	g.asking, g.void, g.due = false, false, s.now.Add(watchEvery)
	if v.owned != nil && v.owned.AskGuest && !g.answers {
		g.due = s.now.Add(askEvery)
	}
	return s.step()
}

// hangs is what a report says of a guest that may hang: for how long its agent has been
// silent, and how long ago its watchdog fired; 0: nothing. One that its watchdog has
// paused stands still as long as it is paused.
func (v *vm) hangs(now Instant) (silent, watchdog time.Duration) {
	g := &v.guest
	if !v.ran() {
		return 0, 0
	}
	if g.answers || !g.fresh {
		silent = g.silent
	}
	switch {
	case v.pausedByWatchdog():
		watchdog = time.Millisecond
	case g.fired:
		watchdog = max(now.Sub(g.firedAt), time.Millisecond)
	}
	return silent, watchdog
}

func (v *vm) pausedByWatchdog() bool {
	return v.ran() && v.dom.State == hypervisor.StatePaused && v.dom.Reason == hypervisor.ReasonWatchdog
}
