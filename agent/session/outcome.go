package session

import (
	"errors"

	lifeboatv1 "lifeboat/api/lifeboat/v1"
	"lifeboat/hypervisor"
)

// Confirm is the last check of a start: the domain exists, its guest has not
// run yet (S3). Nil lets it run. It changes nothing.
func (s *Session) Confirm(now Instant, id hypervisor.UUID, incarnation, order uint64) error {
	s.now = max(s.now, now)
	if err := s.confirm(id, incarnation); err != nil {
		return err
	}
	if s.vms[id].orders.start.Id != order {
		return ErrWithdrawn
	}
	return nil
}

// confirm is nil while the incarnation, of which a start is under way, may run.
func (s *Session) confirm(id hypervisor.UUID, incarnation uint64) error {
	if err := s.mayStart(); err != nil {
		return err
	}
	v := s.vms[id]
	if v == nil {
		return ErrWithdrawn
	}
	e, o := v.entry, v.orders
	switch {
	case e.Incarnation != incarnation || e.Phase != PhaseStarting || incarnation <= e.barred():
		return ErrWithdrawn
	case o.start == nil || o.start.Incarnation != incarnation:
		return ErrWithdrawn
	case o.destroy != nil && o.destroy.Incarnation >= incarnation:
		return ErrWithdrawn
	}
	return nil
}

// resolve finds out what became of a start whose outcome is not known, and
// removes what is left of one that came to nothing.
func (s *Session) resolve(v *vm) bool {
	e := v.entry
	if e.Phase != PhaseStarting {
		if s.newborn(v) && !v.mayArrive() && v.obsTick >= v.opEnd && s.mayDestroy() {
			v.removing = 0
			s.operate(v, opRemove, RemoveVM{ID: v.id}) // a call that was given up, late
			return true
		}
		return false
	}
	if v.start != nil {
		return false
	}
	switch {
	case !v.seen || v.obsTick < v.opEnd || v.dom.State == hypervisor.StateUnknown:
		return true // look again
	case v.incoming():
		return true // S6: somebody's migration; look again when it is complete
	case s.newborn(v):
		s.finish(v, e)
		return true
	case v.ran():
		e.Phase, e.Boot = PhaseRunning, s.cfg.BootID
		s.set(v, e)
		s.conn.changed = true
		return true
	}
	if s.settled(v) && s.onDisk(v) {
		v.removing = 0
		s.operate(v, opRemove, RemoveVM{ID: v.id})
	}
	return true
}

// newborn: a process that a start of ours made and whose guest has not run. The
// hypervisor shows it paused, as if a user had done it.
func (s *Session) newborn(v *vm) bool {
	if !v.seen || v.dom.State != hypervisor.StatePaused || v.wasActive || v.existed {
		return false
	}
	e := v.entry
	late := e.Incarnation > 0 && e.Incarnation <= e.barred()
	switch v.dom.Reason {
	case hypervisor.ReasonStarting:
		return e.Phase == PhaseStarting || late
	case hypervisor.ReasonUser, hypervisor.ReasonUnknown:
		return e.Phase == PhaseStarting || late && v.late
	}
	return false
}

// settled: no call that was given up can happen any more, and the last look
// was after that.
func (s *Session) settled(v *vm) bool { return s.due(v.settle) && v.obsAt >= v.settle }

// finish takes the last step of a start that was interrupted before it: the
// same process runs, or goes.
func (s *Session) finish(v *vm, e Entry) {
	if !s.settled(v) || s.assigned == nil {
		return
	}
	if !v.stuck && s.confirm(v.id, e.Incarnation) == nil {
		s.operate(v, opResume, ResumeVM{ID: v.id})
		return
	}
	if s.mayDestroy() && s.onDisk(v) {
		v.removing = 0
		s.operate(v, opRemove, RemoveVM{ID: v.id})
	}
}

// mayDestroy: nothing active is destroyed while HA is disarmed (S22), or when
// it cannot be written down.
func (s *Session) mayDestroy() bool {
	return s.assigned != nil && s.assigned.Armed && s.ledgerErr == nil
}

func (s *Session) startDone(v *vm, err error) {
	e := v.entry
	if err == nil {
		e.Phase, e.Boot = PhaseRunning, s.cfg.BootID
		v.started, v.late = true, false
		s.set(v, e)
		s.conn.changed = true
		return
	}
	v.retry = s.now // resolve at once
	v.failure = failureText(err)
	v.settle = s.now
	v.existed = errors.Is(err, hypervisor.ErrActive)
	if errors.Is(err, hypervisor.ErrUnknownOutcome) {
		v.settle = s.now.Add(quiet)
		v.late = true
	}
}

// resumeDone: a newborn that definitely cannot run is given up.
func (s *Session) resumeDone(v *vm, err error) {
	if err == nil || v.entry.Phase != PhaseStarting || errors.Is(err, hypervisor.ErrUnavailable) || errors.Is(err, hypervisor.ErrUnknownOutcome) {
		return
	}
	v.stuck, v.failure = true, failureText(err)
}

// removeDone: the domain was verified inactive and undefined.
func (s *Session) removeDone(v *vm) {
	e := v.entry
	if e.Phase == PhaseStarting {
		if v.removing < e.Incarnation {
			e.Failed, e.Failure = max(e.Failed, e.Incarnation), v.failure
		}
		e.Ended = lifeboatv1.PowerReason_POWER_REASON_UNSPECIFIED
	} else if e.Phase == PhaseRunning || e.Phase == PhaseOwned {
		e.Ended = lifeboatv1.PowerReason_POWER_REASON_ORDERED
	}
	if v.removing > 0 {
		e.Refused = max(e.Refused, v.removing)
	}
	e.Phase, e.Fenced, e.Stopping = PhaseEnded, false, false
	s.set(v, e)
	v.dom = hypervisor.Domain{UUID: v.id, Name: v.name, State: hypervisor.StateAbsent}
	v.seen, v.listed, v.wasActive, v.hash = true, false, false, nil
	v.obsTick, v.obsAt, v.held = s.tick, s.now, v.disk.Incarnation
	s.conn.changed = true
}
