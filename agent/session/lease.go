package session

import (
	"time"

	lifeboatv1 "lifeboat/api/lifeboat/v1"
	"lifeboat/hypervisor"
)

type watchdogState uint8

const (
	wdOff watchdogState = iota
	wdArming
	wdArmed
	wdDisarming
)

// leaseState is the lease that the agent runs under. Armed with or without a
// watchdog: after a restart the lease counts before the watchdog is back.
type leaseState struct {
	armed    bool
	duration time.Duration
	until    Instant // protected VMs do not run after this
	granted  bool    // until is a grant of this process, not merely the fence time

	// withdrawn is the first report that said "not armed" while it still was.
	// The lease ends when that is committed: until then a leader may count on
	// it, because it was armed again or because the report was lost.
	withdrawn uint64
	acked     bool

	watchdog watchdogState
	retryWd  Instant
	failure  string
	nextPet  Instant

	expired     bool
	expiredTick uint64

	held Held // as last written
	sent map[uint64]Instant
}

// bootLease continues a lease that an earlier process of this boot was under.
// When its end is not known it has ended: the leader may count on that. A lease
// file of this boot that says "not armed" is newer than the mark: no report
// said armed before the file did.
func (s *Session) bootLease() {
	l := &s.lease
	l.sent = map[uint64]Instant{}
	held := l.held
	l.held = Held{}
	mark := s.ledger.Lease
	switch {
	case held.Boot == s.cfg.BootID && !held.Armed:
	case held.Boot == s.cfg.BootID:
		l.armed, l.duration, l.until = true, mark.Duration, held.Until
	case mark.Armed && mark.Boot == s.cfg.BootID:
		l.armed, l.duration, l.until = true, mark.Duration, s.now
	}
}

// leaseValid reports whether VMs may be started or resumed now.
func (s *Session) leaseValid() bool {
	l := &s.lease
	return !l.armed || l.granted && s.now < l.until && !l.expired
}

// armingLease: a lease is about to be armed. A start begun now would be refused
// as soon as it is, and count as failed.
func (s *Session) armingLease() bool {
	return s.wantLease() && !s.lease.armed && s.lease.failure == "" && s.ledgerErr == nil
}

// wantLease: the state says that this host is to run under a lease.
func (s *Session) wantLease() bool {
	if s.assigned == nil {
		return s.lease.armed
	}
	return s.assigned.Armed && s.assigned.Lease.GetArmed()
}

func (s *Session) stepLease() {
	l := &s.lease
	if l.armed && l.watchdog != wdDisarming && !l.expired && s.due(l.until) {
		l.expired, l.expiredTick = true, s.tick
		s.poll.want = true
		s.note(Error, "the lease ran out: protected VMs are stopped here, so that they can be started elsewhere", "vms", len(s.ledger.Protected), "ha_armed", s.ledger.HAArmed)
	}
	if s.leaving {
		s.stepLeavingLease()
	} else if s.wantLease() {
		s.stepArm()
	} else {
		s.stepDisarm()
	}
	h := Held{Boot: s.cfg.BootID, Armed: l.armed, Until: l.until}
	if h != l.held {
		l.held = h
		s.do(SaveLease{Held: h})
	}
}

// stepArm: first the mark on disk, then the watchdog, then the report says so (S12).
func (s *Session) stepArm() {
	l := &s.lease
	if l.withdrawn != 0 && l.watchdog != wdDisarming {
		l.withdrawn, l.acked = 0, false
		s.conn.changed = true
	}
	if l.armed && s.assigned != nil {
		if d := leaseDuration(s.assigned.Lease.GetDurationMs()); d != l.duration {
			l.duration = d
			s.conn.changed = true
		}
	}
	if l.watchdog != wdOff || !s.due(l.retryWd) || s.ledgerErr != nil && !l.armed {
		return
	}
	if s.starve() {
		return // arming would be a pet: the one that a previous process armed is right to bite
	}
	if !l.armed {
		mark := LeaseMark{Armed: true, Boot: s.cfg.BootID, Duration: leaseDuration(s.assigned.Lease.GetDurationMs())}
		if s.ledger.Lease != mark {
			s.ledger.Lease = mark
			s.dirty = true
		}
		if s.saved.Lease != mark {
			return
		}
	}
	l.watchdog = wdArming
	s.do(ArmWatchdog{Bound: s.cfg.Bound})
}

// stepDisarm happens only when told: first the reports say so, then the lease
// ends, then the watchdog is let go.
func (s *Session) stepDisarm() {
	l := &s.lease
	if !l.armed && l.watchdog == wdOff {
		if s.ledger.Lease.Armed {
			s.ledger.Lease = LeaseMark{}
			s.dirty = true
		}
		return
	}
	if l.watchdog == wdArming || l.watchdog == wdDisarming || !s.due(l.retryWd) {
		return
	}
	if l.armed && !l.acked && !s.left {
		if l.withdrawn == 0 {
			l.withdrawn = s.conn.seq + 1
			s.conn.changed = true
		}
		return
	}
	l.watchdog = wdDisarming
	s.do(DisarmWatchdog{})
}

// WatchdogDone answers [ArmWatchdog] and [DisarmWatchdog].
func (s *Session) WatchdogDone(now Instant, err error) Out {
	s.begin(now)
	l := &s.lease
	switch l.watchdog {
	case wdArming:
		s.armDone(err)
	case wdDisarming:
		s.disarmDone(err)
	}
	s.conn.changed = true
	return s.step()
}

func (s *Session) armDone(err error) {
	l := &s.lease
	if err != nil {
		l.watchdog = wdOff
		l.retryWd = s.now.Add(retryWatch)
		if l.armed {
			l.retryWd = s.now.Add(retryOp)
		} else {
			s.ledger.Lease = LeaseMark{}
			s.dirty = true
		}
		l.failure = "the watchdog cannot be armed: " + err.Error()
		s.note(Error, "the watchdog cannot be armed: this host has no lease", "error", err)
		return
	}
	l.watchdog, l.failure = wdArmed, ""
	l.nextPet = s.now
	if !l.armed {
		l.armed, l.granted, l.expired = true, false, false
		l.duration = s.ledger.Lease.Duration
		// The managers may count from the first report that says "armed". It
		// has not been sent yet.
		l.until = s.now.Add(counted(l.duration))
		s.note(Info, "a lease is armed", "duration", l.duration.String(), "watchdog", s.cfg.Watchdog.String())
	}
}

// WatchdogLost says that the watchdog cannot be petted: it is gone, or about to
// bite.
func (s *Session) WatchdogLost(now Instant, err error) Out {
	s.begin(now)
	l := &s.lease
	if l.watchdog == wdArmed {
		l.watchdog, l.retryWd = wdOff, now
		l.failure = "the watchdog cannot be petted: " + err.Error()
		s.note(Error, "the watchdog cannot be petted; arming it again", "error", err)
		s.conn.changed = true
	}
	return s.step()
}

// watchdogKind is what reports say. A lease whose watchdog is gone proves
// nothing.
func (s *Session) watchdogKind() lifeboatv1.WatchdogKind {
	if l := &s.lease; l.armed && l.watchdog != wdArmed && l.failure != "" {
		return lifeboatv1.WatchdogKind_WATCHDOG_KIND_UNSPECIFIED
	}
	return s.cfg.Watchdog
}

func (s *Session) disarmDone(err error) {
	l := &s.lease
	if err != nil {
		l.watchdog = wdArmed
		l.retryWd = s.now.Add(retryOp)
		l.failure = "the watchdog cannot be disarmed: " + err.Error()
		return
	}
	*l = leaseState{sent: l.sent, held: l.held}
	s.ledger.Lease = LeaseMark{}
	s.dirty = true
	s.note(Info, "the lease is disarmed")
}

// grant: the lease runs from the moment the report was sent (S13).
func (s *Session) grant(seq uint64, d time.Duration) {
	l := &s.lease
	at, ok := l.sent[seq]
	if !l.armed || !ok || d <= 0 {
		return
	}
	until := at.Add(counted(d))
	if until < l.until && l.granted {
		return // the managers wait for the longest they granted
	}
	l.until = max(l.until, until)
	if s.now >= l.until {
		return
	}
	l.granted = true
	if l.expired {
		l.expired = false
		s.note(Info, "the lease is renewed")
	}
}

// counted is how much of a lease the agent uses: clocks differ by 1 % (S13).
func counted(d time.Duration) time.Duration { return d - d/100 }

func leaseDuration(ms int64) time.Duration {
	return time.Duration(min(max(ms, 0), int64(24*time.Hour/time.Millisecond))) * time.Millisecond
}

// mustFence: the lease is over and the VM is protected, or may be, and is not
// known to have stopped since.
func (s *Session) mustFence(v *vm) bool {
	l := &s.lease
	return l.expired && l.armed && s.ledger.HAArmed && l.watchdog != wdDisarming && (s.ledger.protects(v.id) || v.unheard()) && !s.stoppedSinceExpiry(v)
}

// unheard: it comes or has come by migration, and the managers may still take
// it to be where it was: with this host's lease they count on its end as well.
func (v *vm) unheard() bool { return v.came || v.incoming() }

func (s *Session) stoppedSinceExpiry(v *vm) bool {
	return v.seen && !v.dom.Active() && v.obsTick >= s.lease.expiredTick && v.obsTick >= v.opEnd && s.poll.failures == 0
}

// fence pulls the plug of one VM (S12). It is repeated until the VM was seen
// to be off.
func (s *Session) fence(v *vm) {
	if v.seen && v.obsTick < v.opEnd && s.poll.failures == 0 {
		return // look first whether the last attempt worked
	}
	if v.seen && !v.dom.Active() && s.poll.failures == 0 {
		return // it was off before; the poll that proves it is under way
	}
	if e := v.entry; e.Phase == PhaseRunning || e.Phase == PhaseStarting {
		e.Fenced = true
		s.set(v, e)
	}
	v.retry = s.now.Add(retryOp)
	s.operate(v, opStop, StopVM{ID: v.id, Mode: hypervisor.StopDestroy})
}

// fenced reports whether all protected VMs were verified to be off since the
// lease ran out.
func (s *Session) fenced() bool {
	if s.ledgerErr != nil && s.assigned == nil {
		return false // which VMs are protected is not known
	}
	if s.poll.failures > 0 || s.poll.okTick == 0 || s.poll.okTick < s.lease.expiredTick {
		return false
	}
	for _, v := range s.list {
		if v.unheard() {
			return false
		}
	}
	for _, p := range s.ledger.Protected {
		v := s.vms[p.ID]
		if v != nil && (v.op == opStart || v.op == opResume || !s.stoppedSinceExpiry(v)) {
			return false
		}
	}
	return true
}

// starve: the lease is over and protected VMs may still live.
func (s *Session) starve() bool {
	l := &s.lease
	return l.armed && l.expired && s.ledger.HAArmed && !s.fenced()
}

// stepPet keeps the machine alive while its VMs may live: from the end of the
// lease on, only once all of them were seen to be off.
func (s *Session) stepPet() {
	l := &s.lease
	if l.watchdog != wdArmed || s.starve() {
		return
	}
	if !s.due(l.nextPet) {
		return
	}
	every := min(time.Second, s.cfg.Bound/4)
	if every <= 0 {
		every = time.Second
	}
	l.nextPet = s.now.Add(every)
	s.wake = min(s.wake, l.nextPet)
	s.do(PetWatchdog{})
}

func (s *Session) leaseReport() *lifeboatv1.Lease {
	l := &s.lease
	if !l.armed || l.withdrawn != 0 {
		return &lifeboatv1.Lease{}
	}
	return &lifeboatv1.Lease{Armed: true, DurationMs: l.duration.Milliseconds()}
}
