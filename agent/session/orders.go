package session

import (
	"crypto/sha256"
	"errors"
	"time"

	lifeboatv1 "lifeboat/api/lifeboat/v1"
	"lifeboat/hypervisor"
)

// Why a start is refused by [Session.Confirm].
var (
	ErrNoLease   = errors.New("the lease ran out before the VM could run")
	ErrWithdrawn = errors.New("the order to start was withdrawn")
	ErrStopping  = errors.New("the agent or the machine is being stopped")
)

func (s *Session) stepVMs() {
	for _, v := range s.list {
		s.checkAccepted(v)
		s.stepMove(v)
		if v.op == opNone && s.due(v.retry) {
			s.stepVM(v)
		}
	}
}

// stepVM does at most one thing with a VM.
func (s *Session) stepVM(v *vm) {
	if s.mustFence(v) {
		s.fence(v)
		return
	}
	if v.obsTick < v.opEnd && s.poll.failures == 0 {
		return // the last operation's effect has not been seen yet
	}
	if s.leaving || s.destroyed(v) || s.resolve(v) || s.sendStart(v) || s.accept(v) {
		return
	}
	s.adopt(v)
	if s.stopOrdered(v) || s.resumeOrdered(v) {
		return
	}
	s.keepFromAutostart(v)
}

// destroyed carries out an order to destroy (S4, S6). It reports whether there
// is one that is not done, which everything else about the VM must wait for.
func (s *Session) destroyed(v *vm) bool {
	o := v.orders.destroy
	if o == nil {
		return false
	}
	e, n := v.entry, o.Incarnation
	if e.Incarnation > n {
		// What is here is a later incarnation. The one to destroy is gone.
		e.Refusing, e.Refused = max(e.Refusing, n), max(e.Refused, n)
		s.set(v, e)
		return false
	}
	if e.Refused >= n && v.seen && v.dom.State == hypervisor.StateAbsent {
		return false
	}
	if v.mayArrive() {
		return true // S6
	}
	if !s.mayDestroy() {
		return true
	}
	e.Refusing = max(e.Refusing, n)
	s.set(v, e)
	if !s.onDisk(v) || !s.due(v.settle) {
		return true
	}
	v.removing = n
	s.operate(v, opRemove, RemoveVM{ID: v.id})
	s.note(Info, "removing a VM that was ordered away", "vm", v.name, "uuid", v.id.String(), "incarnation", n)
	return true
}

// accept writes down the incarnation of an order to start, if it is to be
// obeyed (S3). The start itself waits until that is on disk.
func (s *Session) accept(v *vm) bool {
	o := v.orders.start
	if o == nil || !v.seen || s.ledgerErr != nil || s.saveErr != "" {
		return false
	}
	e, n := v.entry, o.Incarnation
	if n == 0 || n <= e.barred() || n < e.Incarnation || n == e.Incarnation && e.Phase != PhaseOwned {
		return false
	}
	if s.mayStart() != nil || s.armingLease() {
		return false // it stays an order
	}
	if v.dom.State == hypervisor.StateCrashed && s.assigned.Armed {
		s.operate(v, opStop, StopVM{ID: v.id, Mode: hypervisor.StopDestroy}) // the remains of the previous incarnation
		return true
	}
	e.Incarnation, e.Phase, e.Boot = n, PhaseStarting, s.cfg.BootID
	e.Ended, e.Fenced, e.Stopping = lifeboatv1.PowerReason_POWER_REASON_UNSPECIFIED, false, false
	s.set(v, e)
	if o.Name != "" {
		v.name = o.Name
	}
	v.failure = "the start was not tried"
	v.settle = s.now
	v.existed, v.stuck = false, false
	if v.inactive() {
		v.wasActive = false // the process that is to come has not run
	}
	if len(o.DefinitionHash) > 0 {
		if sum := sha256.Sum256(o.Definition); string(sum[:]) != string(o.DefinitionHash) {
			v.failure = "the definition in the order does not match its hash"
			v.opEnd = s.tick
			return true
		}
	}
	v.start = o
	return true
}

// checkAccepted drops an accepted order that must not be carried out any more.
func (s *Session) checkAccepted(v *vm) {
	if v.start == nil {
		return
	}
	err := s.mayStart()
	if cur := v.orders.start; err == nil && (cur == nil || cur.Id != v.start.Id || cur.Incarnation != v.start.Incarnation) {
		err = ErrWithdrawn
	}
	if o := v.orders.destroy; err == nil && o != nil && o.Incarnation >= v.start.Incarnation {
		err = ErrWithdrawn
	}
	if err != nil {
		v.start = nil
		v.failure = err.Error()
		v.opEnd = s.tick
		s.poll.want = true
	}
}

func (s *Session) sendStart(v *vm) bool {
	o := v.start
	if o == nil {
		return false
	}
	if !s.onDisk(v) {
		return true
	}
	v.start = nil
	s.operate(v, opStart, StartVM{ID: v.id, Name: v.name, Incarnation: o.Incarnation, Order: o.Id, Definition: o.Definition})
	s.note(Info, "starting a VM", "vm", v.name, "uuid", v.id.String(), "incarnation", o.Incarnation)
	return true
}

// mayStart is nil while VMs may be started or resumed.
func (s *Session) mayStart() error {
	switch {
	case s.leaving || s.hostStopping:
		return ErrStopping
	case s.assigned == nil || s.epoch == 0:
		return ErrWithdrawn
	case !s.leaseValid():
		return ErrNoLease
	}
	return nil
}

// adopt takes over the incarnation that the state has given to a VM here. One
// with an order to start it is not adopted but started.
func (s *Session) adopt(v *vm) {
	a := v.owned
	if a == nil || !v.seen || v.orders.startSeen || s.ledgerErr != nil {
		return
	}
	e := v.entry
	if a.Incarnation <= e.Incarnation || a.Incarnation <= e.barred() {
		return
	}
	e.Incarnation, e.Boot = a.Incarnation, s.cfg.BootID
	if v.ran() {
		e.Phase, e.Ended = PhaseRunning, lifeboatv1.PowerReason_POWER_REASON_UNSPECIFIED
	} else {
		e.Phase = PhaseOwned
	}
	s.set(v, e)
	s.poll.want = true // a look that counts for the new incarnation
}

// stopOrdered asks the guest to shut down and pulls the plug at the deadline.
func (s *Session) stopOrdered(v *vm) bool {
	o, e := v.orders.stop, v.entry
	if o == nil || o.Incarnation != e.Incarnation || e.Phase != PhaseRunning {
		if o == nil && e.Stopping && e.Phase == PhaseRunning {
			e.Stopping = false
			s.set(v, e)
		}
		return false
	}
	if !v.ran() {
		return false
	}
	st := &v.stopping
	if st.order != o.Id {
		grace := min(max(o.GraceMs, 0), int64(24*time.Hour/time.Millisecond))
		if v.pausedByWatchdog() {
			grace = 0 // it hangs and stands still: it would hear nothing of it
		}
		*st = stopState{order: o.Id, deadline: s.now.Add(time.Duration(grace) * time.Millisecond)}
		e.Stopping = true
		s.set(v, e)
	}
	if s.due(st.deadline) {
		if !s.assigned.Armed {
			return true // S22
		}
		s.operate(v, opStop, StopVM{ID: v.id, Mode: hypervisor.StopDestroy})
		return true
	}
	if !st.asked {
		st.asked = true
		s.operate(v, opStop, StopVM{ID: v.id, Mode: hypervisor.StopShutdown})
	}
	return true
}

func (s *Session) resumeOrdered(v *vm) bool {
	o, e := v.orders.resume, v.entry
	if o == nil || o.Incarnation != e.Incarnation || e.Phase != PhaseRunning || s.mayStart() != nil {
		return false
	}
	if !v.seen || v.dom.State != hypervisor.StatePaused {
		return false
	}
	switch v.dom.Reason {
	case hypervisor.ReasonIOError, hypervisor.ReasonUser, hypervisor.ReasonWatchdog, hypervisor.ReasonUnknown:
		s.operate(v, opResume, ResumeVM{ID: v.id})
		return true
	}
	return false
}

// keepFromAutostart: libvirt must not start what the managers decide about (S8).
func (s *Session) keepFromAutostart(v *vm) {
	a := v.owned
	if a == nil || !a.Protected || !s.assigned.Armed || !v.dom.Autostart || !v.listed || v.move.out {
		return
	}
	s.operate(v, opAutostart, ClearAutostart{ID: v.id})
}
