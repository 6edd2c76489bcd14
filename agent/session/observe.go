package session

import (
	"time"

	lifeboatv1 "lifeboat/api/lifeboat/v1"
	"lifeboat/hypervisor"
)

type pollState struct {
	id       uint64
	inFlight bool
	tick     uint64  // input in which the one in flight was begun
	at       Instant // when it was begun
	answered uint64  // newest report that had been answered when it was begun
	next     Instant
	want     bool // look again at once
	look     bool // look again soon: the hypervisor says that something happened
	failures int  // in a row
	failure  string
	tried    bool   // one ended, well or not
	looked   bool   // a good one has ended before the one that is taken in
	okTick   uint64 // input in which the last good one was begun; 0: none yet
}

func (s *Session) stepPoll() {
	p := &s.poll
	if p.inFlight {
		return
	}
	next := p.next
	if p.look {
		next = min(next, p.at.Add(coalesce))
	}
	if !p.want && !s.due(next) {
		return
	}
	p.want, p.look = false, false
	p.inFlight = true
	p.id++
	p.tick, p.at, p.answered = s.tick, s.now, s.conn.answered
	p.next = s.now.Add(s.cfg.PollEvery)
	// S5: what the agent holds now is what the poll is evidence about. An
	// incarnation whose start begins while the poll is under way is another.
	for _, v := range s.list {
		v.stamp = v.disk.Incarnation
	}
	s.do(Poll{ID: p.id, Timeout: pollTimeout})
}

// Polled answers [Poll].
func (s *Session) Polled(now Instant, id uint64, domains []hypervisor.Domain, err error) Out {
	s.begin(now)
	p := &s.poll
	if !p.inFlight || id != p.id {
		return s.step()
	}
	p.inFlight = false
	p.tried = true
	if err != nil {
		p.failures++
		if p.failures <= 2 || p.failure != err.Error() {
			s.conn.changed = true
		}
		p.failure = err.Error()
		return s.step()
	}
	if p.failures > 0 {
		s.conn.changed = true
	}
	p.failures, p.failure = 0, ""
	p.looked = p.okTick != 0
	p.okTick = p.tick
	listed := make(map[hypervisor.UUID]bool, len(domains))
	for _, d := range domains {
		if !d.UUID.IsZero() {
			listed[d.UUID] = true
			s.observe(s.vm(d.UUID), d, true)
		}
	}
	for i := 0; i < len(s.list); {
		v := s.list[i]
		if !listed[v.id] {
			s.observe(v, hypervisor.Domain{UUID: v.id, Name: v.name, State: hypervisor.StateAbsent}, false)
			if s.forgettable(v) {
				s.conn.changed = true
				s.forget(v.id)
				continue
			}
		}
		i++
	}
	return s.step()
}

// forgettable: an unprotected domain that is gone.
func (s *Session) forgettable(v *vm) bool {
	_, known := s.ledger.VMs[v.id]
	return !known && v.owned == nil && !s.ledger.protects(v.id) && v.op == opNone && v.orders == orders{}
}

// observe takes over what a poll says about one VM. A poll during which an
// operation on the VM was under way says nothing: it may have looked before or
// after.
func (s *Session) observe(v *vm, d hypervisor.Domain, listed bool) {
	if v.op != opNone || v.opEnd > s.poll.tick {
		s.poll.want = s.poll.want || v.op == opNone
		return
	}
	if !v.seen || v.dom != d || v.held != v.stamp || v.listed != listed {
		s.conn.changed = true
	}
	if listed && (!v.listed || v.name != d.Name || v.dom.Active() != d.Active()) {
		v.hashDue = s.now
	}
	was, unborn, known, before := v.ran(), v.unborn(), v.seen, v.dom
	v.dom, v.listed, v.seen = d, listed, true
	if !unborn {
		v.bornAt = s.poll.at
	}
	s.arrives(v, was)
	s.seeGuest(v, known, was, before)
	v.obsTick, v.obsAt, v.obsSeq, v.held = s.poll.tick, s.poll.at, s.poll.answered, v.stamp
	v.started = false
	if d.Name != "" {
		v.name = d.Name
	}
	if e, ok := s.ledger.VMs[v.id]; ok && e.Phase != PhaseStarting {
		s.set(v, s.lived(v, e))
	}
	if v.ran() && !s.newborn(v) {
		v.wasActive = true
	}
}

// lived brings the entry up to date with an observation.
func (s *Session) lived(v *vm, e Entry) Entry {
	switch {
	case v.ran() && e.Incarnation > e.barred():
		e.Phase, e.Boot, e.Ended = PhaseRunning, s.cfg.BootID, lifeboatv1.PowerReason_POWER_REASON_UNSPECIFIED
		if !s.lease.expired {
			e.Fenced = false
		}
	case v.inactive() && e.Phase == PhaseRunning:
		e.Ended = s.whyOff(v, e)
		e.Phase, e.Fenced, e.Stopping = PhaseEnded, false, false
	}
	return e
}

// arrives notes a domain that somebody has migrated here: was says whether it ran
// here before. Whether it is protected is not known until the managers have it.
func (s *Session) arrives(v *vm, was bool) {
	switch {
	case !v.ran():
		v.came = false
	case !was && v.dom.Reason == hypervisor.ReasonMigrated && s.poll.looked:
		v.came, v.cameSeq = true, 0
	}
}

// inactive: verified to use no disk.
func (v *vm) inactive() bool { return v.seen && !v.dom.Active() }

// ran: it is active and its guest has run, or runs, here.
func (v *vm) ran() bool {
	if !v.seen || !v.dom.Active() || v.dom.State == hypervisor.StateUnknown {
		return false
	}
	return !v.unborn() && !v.incoming()
}

// incoming: an incoming migration that is not complete. A paused domain that
// has run here is on its way out instead.
func (v *vm) incoming() bool {
	return v.seen && v.dom.State == hypervisor.StatePaused && v.dom.Reason == hypervisor.ReasonMigrating && !v.wasActive
}

// unborn: the process exists, its guest has not run a single instruction.
func (v *vm) unborn() bool {
	return v.seen && v.dom.State == hypervisor.StatePaused && v.dom.Reason == hypervisor.ReasonStarting
}

// arrivalBegins is how long a process may exist before it is known whether it is an
// incoming migration.
const arrivalBegins = time.Minute

// mayArrive: it may be an incoming migration (S6). libvirt says of one that it is
// starting up, before it says that it migrates in.
func (v *vm) mayArrive() bool {
	return v.incoming() || v.unborn() && v.obsAt.Sub(v.bornAt) < arrivalBegins
}

// whyOff explains the end of a VM that was running when last seen (S18).
func (s *Session) whyOff(v *vm, e Entry) lifeboatv1.PowerReason {
	switch {
	case v.dom.Reason == hypervisor.ReasonMigrated:
		// Also when it was to be stopped: it has left before, and runs elsewhere.
		return lifeboatv1.PowerReason_POWER_REASON_MIGRATED
	case e.Fenced:
		return lifeboatv1.PowerReason_POWER_REASON_SELF_FENCED
	case e.Stopping:
		return lifeboatv1.PowerReason_POWER_REASON_ORDERED
	case s.lease.expired && v.dom.Reason == hypervisor.ReasonDestroyed && s.ledger.protects(v.id):
		// We did it, and died before the mark was on disk.
		return lifeboatv1.PowerReason_POWER_REASON_SELF_FENCED
	case e.Boot != s.cfg.BootID && v.dom.Reason == hypervisor.ReasonUnknown:
		return lifeboatv1.PowerReason_POWER_REASON_HOST_REBOOT
	case s.hostStopping:
		return lifeboatv1.PowerReason_POWER_REASON_HOST_SHUTDOWN
	case v.dom.Reason == hypervisor.ReasonUnknown && v.listed:
		return lifeboatv1.PowerReason_POWER_REASON_CRASHED
	}
	return offReason(v.dom.Reason)
}

// offReason translates the hypervisor's own word for why a domain is off.
func offReason(r hypervisor.Reason) lifeboatv1.PowerReason {
	switch {
	case r.Crash():
		return lifeboatv1.PowerReason_POWER_REASON_CRASHED
	case r == hypervisor.ReasonShutdown:
		return lifeboatv1.PowerReason_POWER_REASON_SHUTDOWN
	case r == hypervisor.ReasonDestroyed, r == hypervisor.ReasonSnapshot:
		return lifeboatv1.PowerReason_POWER_REASON_DESTROYED
	case r == hypervisor.ReasonMigrated:
		return lifeboatv1.PowerReason_POWER_REASON_MIGRATED
	case r == hypervisor.ReasonSaved:
		return lifeboatv1.PowerReason_POWER_REASON_SAVED
	}
	return lifeboatv1.PowerReason_POWER_REASON_UNSPECIFIED
}

// power is what a report says about the state of a VM. What it says about a
// start is on disk; the reason why a VM is off is known before it is written.
func (s *Session) power(v *vm) (lifeboatv1.PowerState, lifeboatv1.PowerReason) {
	e, known := s.ledger.VMs[v.id]
	none := lifeboatv1.PowerReason_POWER_REASON_UNSPECIFIED
	if s.startUnderWay(v) {
		return lifeboatv1.PowerState_POWER_STATE_STARTING, none
	}
	if !v.seen || s.poll.failures >= 2 {
		return lifeboatv1.PowerState_POWER_STATE_UNKNOWN, none
	}
	if v.dom.Active() {
		return s.activePower(v)
	}
	state := lifeboatv1.PowerState_POWER_STATE_OFF
	if v.dom.State == hypervisor.StateAbsent {
		state = lifeboatv1.PowerState_POWER_STATE_ABSENT
	}
	switch {
	case known && e.Ended != none && (e.Phase == PhaseEnded || e.Phase == PhaseOwned):
		return state, e.Ended
	case v.wasActive && v.listed && v.dom.Reason == hypervisor.ReasonUnknown:
		return state, lifeboatv1.PowerReason_POWER_REASON_CRASHED
	}
	return state, offReason(v.dom.Reason)
}

// startUnderWay: the incarnation on disk was, or will be, handed to the
// hypervisor, and what came of it has not been seen by a poll, or is not on
// disk where it must be: a start that failed.
func (s *Session) startUnderWay(v *vm) bool {
	e, disk := v.entry, v.disk
	if e.Incarnation != disk.Incarnation || disk.Phase == "" {
		return false
	}
	return e.Phase == PhaseStarting || v.started || e.Phase == PhaseEnded && disk.Phase == PhaseStarting
}

func (s *Session) activePower(v *vm) (lifeboatv1.PowerState, lifeboatv1.PowerReason) {
	on := lifeboatv1.PowerState_POWER_STATE_ON
	none := lifeboatv1.PowerReason_POWER_REASON_UNSPECIFIED
	switch v.dom.State {
	case hypervisor.StateUnknown:
		return lifeboatv1.PowerState_POWER_STATE_UNKNOWN, none
	case hypervisor.StateCrashed:
		return on, lifeboatv1.PowerReason_POWER_REASON_CRASHED // the remains hold the disks
	case hypervisor.StatePaused:
		switch v.dom.Reason {
		case hypervisor.ReasonUser:
			return on, lifeboatv1.PowerReason_POWER_REASON_USER_PAUSED
		case hypervisor.ReasonIOError:
			return on, lifeboatv1.PowerReason_POWER_REASON_IO_ERROR
		case hypervisor.ReasonCrashed, hypervisor.ReasonPanicked:
			return on, lifeboatv1.PowerReason_POWER_REASON_CRASHED
		}
		if v.incoming() || v.owned == nil && v.mayArrive() {
			return on, lifeboatv1.PowerReason_POWER_REASON_MIGRATING_IN
		}
		return on, none
	}
	return on, lifeboatv1.PowerReason_POWER_REASON_BOOTED
}

// vmReports is the full list of a report: every domain, and every VM held.
func (s *Session) vmReports() []*lifeboatv1.VMReport {
	list := make([]*lifeboatv1.VMReport, len(s.list))
	all := make([]lifeboatv1.VMReport, len(s.list)) // in one piece
	for i, v := range s.list {
		disk, r := v.disk, &all[i]
		r.Id, r.Name, r.SpecHash, r.Autostart = v.id[:], v.name, v.hash, v.dom.Autostart
		r.Incarnation = v.held
		if s.ungranted(v, disk) {
			r.Incarnation = 0
		}
		r.Power, r.Reason = s.power(v)
		if s.startUnderWay(v) {
			r.Incarnation = disk.Incarnation
		}
		if !v.seen || !v.dom.Active() {
			// A tombstone speaks of a domain that is gone; one that somebody
			// has brought back is not.
			r.Refused, r.Failed, r.Failure = disk.Refused, disk.Failed, disk.Failure
		}
		r.Order, r.OrderFailure = v.notMoved()
		r.GuestAnswers = v.guest.answers
		silent, watchdog := v.hangs(s.now)
		r.GuestSilentMs, r.WatchdogMs, r.WatchdogPaused = silent.Milliseconds(), watchdog.Milliseconds(), v.pausedByWatchdog()
		list[i] = r
	}
	return list
}

// ungranted: it runs here although this host has given up what it held of it, so
// nobody told it to. It may have come by somebody's migration, and is no leftover
// of what was granted before (S6).
func (s *Session) ungranted(v *vm, disk Entry) bool {
	return v.seen && v.dom.Active() && v.op == opNone && disk.Phase != PhaseStarting && v.held <= disk.barred() &&
		s.assigned != nil && v.owned == nil && v.orders == orders{}
}

// lookedAfter is the newest report that had been answered when the oldest of the
// looks began that a report tells of.
func (s *Session) lookedAfter() uint64 {
	seq := s.conn.answered
	for _, v := range s.list {
		if v.seen {
			seq = min(seq, v.obsSeq)
		}
	}
	return seq
}

// clampBeat reads a beat that a manager named.
func clampBeat(ms int64) time.Duration {
	if ms <= 0 {
		return defaultBeat
	}
	return min(max(time.Duration(ms)*time.Millisecond, minBeat), maxBeat)
}
