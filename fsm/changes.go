package fsm

// Changes reports whether an entry about VM id on host h would change the
// state, or is evidence: only then does the leader propose it. It may say yes
// too often, never no too often: it mirrors what report does and is tested
// against it.
func (s *State) Changes(h *Host, id VMID, p Power, r Reason, inc, refused, failed Incarnation) bool {
	if v := h.VM(id); v != nil {
		return s.changesOwned(h, v, &vmEntry{id: id, power: p, reason: r, inc: inc, refused: refused, failed: failed})
	}
	v, owner := s.VM(id)
	if v == nil {
		return known(p, inc)
	}
	if o := h.order(OrderDestroy, id); o != nil {
		return refused >= o.Incarnation || h.undead(v, &vmEntry{id: id, power: p, reason: r, inc: inc})
	}
	told := s.OpenAlert(copyAlert(v, h.ID)) != nil
	switch s.claim(v, owner, h, p, r, inc) {
	case claimAdopt:
		return true
	case claimCopy:
		return !told || differs(h.Copy(id), inc) || v.Protected() && inc != 0 && inc < v.Incarnation
	}
	return (told || h.Copy(id) != nil) && madeRoom(p, r)
}

// AnswersOrder reports whether a report's word that a migration came to nothing would
// change the state.
func (s *State) AnswersOrder(h *Host, v *VM, p Power, inc Incarnation, order OrderID) bool {
	return answersOrder(h, v, &vmEntry{power: p, inc: inc, order: order})
}

// GuestChanges reports whether a report's word on the agent of a guest would change the
// state.
func (s *State) GuestChanges(v *VM, p Power, inc Incarnation, answers bool) bool {
	e := &vmEntry{power: p, inc: inc}
	return s.Level >= LevelPolicy && p == PowerOn && v.Power == PowerOn && e.speaks(v) && answers && !v.Answers
}

// untold reports whether a VM stands still and no alert says so, as after an operator's
// word that did not end it, and one would be kept.
func (s *State) untold(v *VM) bool {
	return v.Stalled() && v.Protected() && s.raised.len() < s.Policy.AlertsOpenMax && s.OpenAlert(VMAlert(v, "I/O error")) == nil
}

// differs reports whether a copy is not known, or another.
func differs(c *Copy, inc Incarnation) bool { return c == nil || c.Incarnation != inc }

// changesOwned is Changes for the owner's word.
func (s *State) changesOwned(h *Host, v *VM, e *vmEntry) bool {
	if s.ahead(v, e) {
		return true
	}
	w := s.Work(v.Work)
	if o := h.order(OrderDestroy, v.ID); o != nil && e.refused != 0 && e.refused >= o.Incarnation {
		return true
	}
	if v.Incarnation != 0 && e.refused >= v.Incarnation && !v.Gone && !(w != nil && w.Type == WorkMigration && w.Step == Investigating) || failedStartOf(v, w, e.failed) {
		return true
	}
	if !e.speaks(v) {
		return false
	}
	if e.power == PowerReportMissing {
		switch {
		case v.ProtectedBy == Unprotected && v.Incarnation == 0:
			return true
		case w == nil:
			return v.Power != PowerReportMissing && v.Power != PowerOff && !v.Gone
		}
		return w.Type.Stops() || w.Type == WorkMigration && w.Step != Investigating ||
			(w.leaving() || w.Type == WorkHA) && h.order(OrderStop, v.ID) != nil || w.Step == Fencing && !v.Gone || w.Step == Investigating && v.Power != PowerReportMissing && v.Power != PowerOff
	}
	if stale(v, w, e) {
		return false
	}
	if v.Power != e.power || v.Reason != e.reason && (v.Power != PowerOff || v.Reason != ReasonMigrated) {
		return true
	}
	switch e.power {
	case PowerOn:
		return v.Gone || v.Error != "" || w == nil && s.untold(v) || v.Protected() && !v.Wanted && h.order(OrderStop, v.ID) == nil ||
			h.order(OrderStart, v.ID) != nil ||
			w != nil && !w.Type.Stops() && w.Step != Stopping && w.Step != Migrating && !(w.Step == Fencing && (h.Status == Connecting || h.inFlight(s.Time)))
	case PowerOff:
		return h.order(OrderStop, v.ID) != nil || h.order(OrderStart, v.ID) != nil ||
			w != nil && (w.Type.Stops() || !v.Gone && (w.Type == WorkMigration && w.Step != Investigating || w.Step == Fencing || w.Step == Restarting || w.Step == Investigating && v.Reason != ReasonMigrated && !s.copied(v)))
	}
	return false
}
