package session

import (
	"slices"

	lifeboatv1 "lifeboat/api/lifeboat/v1"
	"lifeboat/hypervisor"
)

// assign takes over what the state says about this host. Assignments of one
// epoch are ordered by their index; an older one says nothing.
func (s *Session) assign(a *lifeboatv1.Assignment) {
	if a == nil || s.assigned != nil && a.Index <= s.assigned.Index {
		return
	}
	s.assigned = a
	s.conn.changed = true // have_assignment
	s.clearAssigned()
	var protected []Protected
	for _, x := range a.Vms {
		id, ok := uuidOf(x.Id)
		if !ok {
			s.note(Warn, "an assignment names a VM that is none", "id", x.Id)
			continue
		}
		s.look(id).owned = x
		if x.Protected {
			protected = append(protected, Protected{ID: id, Incarnation: x.Incarnation, Wanted: x.Wanted})
		}
	}
	for _, x := range a.Coming {
		// It runs here before anybody can say so: it ends with the lease (S7).
		if id, ok := uuidOf(x.Id); ok && x.Protected && s.look(id).owned == nil {
			protected = append(protected, Protected{ID: id, Incarnation: x.Incarnation, Wanted: x.Wanted})
		}
	}
	s.sortOrders(a.Orders)
	for _, v := range s.list {
		// A VM about to be started here fences with the others (S16).
		if o := v.orders; o.start != nil && a.Armed && v.owned == nil {
			protected = append(protected, Protected{ID: v.id, Incarnation: o.start.Incarnation, Wanted: true})
		}
	}
	slices.SortFunc(protected, func(a, b Protected) int { return a.ID.Compare(b.ID) })
	if !slices.Equal(protected, s.ledger.Protected) || !s.ledger.Synced || s.ledger.HAArmed != a.Armed {
		s.ledger.Protected, s.ledger.Synced, s.ledger.HAArmed = protected, true, a.Armed
		s.dirty = true
	}
}

// sortOrders keeps what is valid in this epoch and boot (S4).
func (s *Session) sortOrders(list []*lifeboatv1.Order) {
	for _, o := range list {
		id, ok := uuidOf(o.Vm)
		if !ok {
			s.note(Warn, "an order names a VM that is none", "order", o.Id)
			continue
		}
		x := &s.look(id).orders
		valid := o.Epoch == s.epoch && s.epoch != 0 && o.BootId == s.cfg.BootID
		if !valid {
			s.note(Debug, "an order is not for this epoch and boot", "order", o.Id, "vm", o.Name, "epoch", o.Epoch, "boot", o.BootId)
		}
		switch {
		case o.Kind == lifeboatv1.OrderKind_ORDER_KIND_START:
			x.startSeen = true
			if valid {
				x.start = newest(x.start, o)
			}
		case !valid:
		case o.Kind == lifeboatv1.OrderKind_ORDER_KIND_STOP:
			x.stop = newest(x.stop, o)
		case o.Kind == lifeboatv1.OrderKind_ORDER_KIND_DESTROY:
			x.destroy = newest(x.destroy, o)
		case o.Kind == lifeboatv1.OrderKind_ORDER_KIND_RESUME:
			x.resume = newest(x.resume, o)
		case o.Kind == lifeboatv1.OrderKind_ORDER_KIND_MIGRATE:
			x.migrate = newest(x.migrate, o)
		}
	}
}

func (s *Session) clearAssigned() {
	for _, v := range s.list {
		v.owned, v.orders = nil, orders{}
	}
}

// look begins to know a VM that a manager has named; nothing happens to it
// before a poll has looked for it.
func (s *Session) look(id hypervisor.UUID) *vm {
	v := s.vm(id)
	if !v.seen {
		s.poll.want = true
	}
	return v
}

// newest of two orders of one kind for one VM: the higher incarnation.
func newest(a, b *lifeboatv1.Order) *lifeboatv1.Order {
	if a == nil || b.Incarnation > a.Incarnation || b.Incarnation == a.Incarnation && b.Id > a.Id {
		return b
	}
	return a
}

// unassign forgets the assignment: it was for another epoch. The protected set
// in the ledger stays, it is what the lease is about.
func (s *Session) unassign() {
	s.epoch = 0
	s.assigned = nil
	s.clearAssigned()
}

func uuidOf(b []byte) (hypervisor.UUID, bool) {
	var id hypervisor.UUID
	if len(b) != len(id) {
		return id, false
	}
	copy(id[:], b)
	return id, !id.IsZero()
}
