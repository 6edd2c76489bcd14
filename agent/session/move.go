package session

import (
	"cmp"
	"errors"
	"time"

	lifeboatv1 "lifeboat/api/lifeboat/v1"
	"lifeboat/hypervisor"
)

// moveState is an order to migrate, from the moment it was handed to the hypervisor
// until the state does not hold it any more. It runs beside the other operations:
// a lease that runs out does not wait for it.
type moveState struct {
	order    uint64
	out      bool    // MigrateVM is under way
	aborting bool    // AbortMigration is under way
	unknown  bool    // what became of it is not known: it is aborted before anything is said
	retry    Instant // of the abort
	end      uint64  // input in which it ended
	failure  string
}

// stepMove carries out an order to migrate, or calls it off (S7).
func (s *Session) stepMove(v *vm) {
	m, o := &v.move, v.orders.migrate
	wanted := o != nil && !o.Abort && (m.order == 0 || m.order == o.Id)
	switch {
	case m.aborting:
		return
	case m.out:
		if s.assigned != nil && !wanted && s.due(m.retry) {
			s.abort(v)
		}
		return
	case m.unknown:
		if s.due(m.retry) {
			s.abort(v)
		}
		return
	case s.assigned == nil:
		return
	case o == nil:
		if e := v.entry; e.Moving != 0 {
			e.Moving = 0
			s.set(v, e)
		}
		*m = moveState{}
		return
	case m.order == o.Id:
		return // it has ended, and the state is told
	case o.Abort:
		*m = moveState{order: o.Id, end: s.tick, failure: "it was called off before it began"}
		s.poll.want, s.conn.changed = true, true
		return
	}
	e := v.entry
	if o.Incarnation != e.Incarnation || e.Phase != PhaseRunning || !v.ran() || v.op != opNone || !s.assigned.Armed || !s.leaseValid() ||
		s.ledgerErr != nil || s.leaving && !s.emptying() {
		return // it stays an order
	}
	if e.Moving != o.Id {
		e.Moving = o.Id
		s.set(v, e)
	}
	if !s.onDisk(v) {
		return
	}
	*m = moveState{order: o.Id, out: true}
	s.do(MigrateVM{ID: v.id, Order: o.Id, URI: o.TargetUri, Within: time.Duration(max(o.WithinMs, 0)) * time.Millisecond})
	s.note(Info, "migrating a VM", "vm", v.name, "uuid", v.id.String(), "incarnation", o.Incarnation, "to", o.Target, "uri", o.TargetUri)
}

func (s *Session) abort(v *vm) {
	v.move.aborting = true
	s.do(AbortMigration{ID: v.id})
}

// MigrateDone answers [MigrateVM].
func (s *Session) MigrateDone(now Instant, id hypervisor.UUID, order uint64, err error) Out {
	s.begin(now)
	v := s.vms[id]
	if v == nil || !v.move.out || v.move.order != order {
		return s.step()
	}
	m := &v.move
	m.out, m.end = false, s.tick
	m.failure = "the hypervisor says that it has migrated, and it runs here"
	if err != nil {
		m.failure = failureText(err)
		s.note(Warn, "a VM could not be migrated", "vm", cmp.Or(v.name, id.String()), "uuid", id.String(), "error", err)
	}
	if errors.Is(err, hypervisor.ErrUnknownOutcome) {
		m.unknown, m.retry = true, now.Add(quiet)
	}
	s.poll.want, s.conn.changed = true, true
	return s.step()
}

// AbortDone answers [AbortMigration]: without an error none is under way.
func (s *Session) AbortDone(now Instant, id hypervisor.UUID, err error) Out {
	s.begin(now)
	v := s.vms[id]
	if v == nil || !v.move.aborting {
		return s.step()
	}
	m := &v.move
	m.aborting = false
	switch m.retry = now.Add(retryOp); {
	case err != nil:
		s.note(Warn, "a migration could not be called off; it is tried again", "vm", cmp.Or(v.name, id.String()), "error", err)
	case m.unknown:
		m.unknown, m.end = false, s.tick
	}
	s.poll.want, s.conn.changed = true, true
	return s.step()
}

// notMoved is what is said of an order to migrate that came to nothing: none is
// under way, and a look since has seen the guest here.
func (v *vm) notMoved() (order uint64, why string) {
	m := &v.move
	if m.order == 0 || m.out || m.aborting || m.unknown || m.end == 0 || v.obsTick < m.end || v.op != opNone || !v.ran() {
		return 0, ""
	}
	return m.order, m.failure
}

// Holds reports whether a machine that goes down is held up until VMs have been moved
// away. It lasts [Config.EmptyTimeout] at the most.
func (s *Session) Holds() bool { return s.leaving && s.emptying() }

// emptying: a machine that goes down waits for its VMs to be moved away.
func (s *Session) emptying() bool {
	if s.machineStop == lifeboatv1.MachineStop_MACHINE_STOP_UNSPECIFIED || s.assigned == nil || !s.assigned.EmptyFirst || s.now >= s.emptyBy {
		return false
	}
	for _, v := range s.list {
		if v.owned != nil && v.owned.Protected && (v.dom.Active() || v.orders != orders{}) {
			return true
		}
	}
	return false
}
