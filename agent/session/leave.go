package session

import (
	"errors"
	"fmt"

	lifeboatv1 "lifeboat/api/lifeboat/v1"
)

// Leaving, S16: starts end, the managers commit that the lease is withdrawn,
// only then the watchdog is let go. VMs are not touched.

func (s *Session) readyToLeave() bool {
	for _, v := range s.list {
		if v.op == opStart {
			return false
		}
	}
	return s.now >= s.leaveFrom && !s.emptying()
}

func (s *Session) stepLeave() {
	c := &s.conn
	if !s.leaving || s.exited {
		return
	}
	clean := s.lease.watchdog == wdOff && !s.lease.armed
	saved := s.ledgerErr != nil || !s.dirty && s.saving == nil
	switch {
	case s.left && clean && saved:
		s.exit(nil)
		return
	case s.epoch == 0 && clean && saved && !c.registering:
		s.exit(nil) // nobody counts on us
		return
	case s.emptying():
		s.leaveBy = s.now.Add(s.cfg.StopTimeout)
		s.due(s.emptyBy)
		return
	case s.due(s.leaveBy):
		s.exit(s.unleft())
		return
	}
	if !s.due(s.leaveFrom) && s.epoch != 0 {
		return
	}
	if s.left || s.epoch == 0 || c.leaving || c.target == nil || !s.readyToLeave() || !s.due(c.retryAt) {
		return
	}
	c.leaving = true
	s.do(Leave{To: c.target.Manager, Timeout: leaveTimeout, Req: &lifeboatv1.LeaveRequest{
		HostId: s.cfg.HostID, Epoch: s.epoch, Session: s.cfg.Session, Reason: s.leaveReason(), MachineStop: s.machineStop,
	}})
}

// Left answers [Leave]. register: the manager answered that it does not know
// this epoch of the host.
func (s *Session) Left(now Instant, register bool, err error) Out {
	s.begin(now)
	c := &s.conn
	if !c.leaving {
		return s.step()
	}
	c.leaving = false
	if err == nil {
		s.left = true
		return s.step()
	}
	s.note(Debug, "a manager did not take the goodbye", "manager", c.target.Addr, "error", err)
	s.lost()
	if register {
		s.reregister()
	}
	return s.step()
}

// stepLeavingLease lets go of the watchdog, once the state does not count on
// the lease any more.
func (s *Session) stepLeavingLease() {
	if s.left {
		s.stepDisarm()
	}
}

func (s *Session) leaveReason() string {
	if s.hostStopping {
		return "the machine is shutting down"
	}
	return "the agent was stopped"
}

// unleft says what an operator must know when the time for a clean stop is
// over.
func (s *Session) unleft() error {
	switch {
	case s.left && s.lease.watchdog != wdOff:
		return fmt.Errorf("the managers have withdrawn the lease, but the watchdog could not be disarmed and resets this machine within %s: start the agent again before that", s.cfg.Bound)
	case s.left:
		return nil
	case s.lease.armed:
		return fmt.Errorf("no manager has confirmed that the lease is withdrawn, so the watchdog stays armed and resets this machine within %s: start the agent again before that", s.cfg.Bound)
	}
	return errors.New("no manager could be told that the agent stops here: they will look for this host as if it had failed")
}

func (s *Session) exit(err error) {
	s.exited = true
	s.do(Exit{Err: err})
}
