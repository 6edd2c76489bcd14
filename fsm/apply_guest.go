package fsm

import (
	"fmt"
	"slices"

	"lifeboat/fsm/logpb"
)

// Actions of VMGuest.
const (
	GuestSilent   = 1
	GuestWatchdog = 2
	GuestLeft     = 3
	GuestWell     = 4
)

// vmGuest is the leader's word about the guest of a VM that runs. One that hangs is
// stopped and started again where it is: what it was granted ends there by its host's
// word, and nobody else may have it before (S2). It counts as a start that failed.
func (t *tx) vmGuest(c *logpb.VMGuest) string {
	id, _ := vmID(c.Vm)
	old, h := t.s.VM(id)
	switch no := t.later(LevelPolicy); {
	case no != "":
		return no
	case old == nil:
		return fmt.Sprintf("there is no VM %s", id)
	case old.Incarnation != Incarnation(c.Incarnation):
		return "" // late
	case c.Action == GuestWell:
		if t.s.GuestAlert(old) != nil {
			v := *old
			t.guestSettled(&v, "its guest is well again")
			t.storeVM(h.ID, &v)
		}
		return ""
	case !t.s.ActsOnGuest(old, h):
		return "" // late
	}
	cause, by := CauseGuestSilent, WatchPing
	switch c.Action {
	case GuestSilent:
	case GuestWatchdog:
		cause, by = CauseWatchdog, WatchWatchdog
	case GuestLeft:
		t.raiseVM(old, GuestHangs, Critical, "The guest of VM %s on host %s hangs, and is left as it is: %s.", old.Name, h.ID, c.Reason)
		return ""
	default:
		return "a guest is silent, its watchdog has fired, it is left as it is, or it is well again"
	}
	if old.Guest().Watch&by == 0 {
		return "" // late
	}
	t.restartGuest(old, h, cause, c.Reason)
	return ""
}

func (t *tx) restartGuest(old *VM, h *Host, cause Cause, reason string) {
	v := *old
	count := t.s.TriedGuest(old, h.ID)
	w := *t.openWork(&v, WorkHA, Stopping, cause, h.ID, reason)
	w.Tried, w.Incarnation = count, v.Incarnation
	t.putWork(&w)
	t.restartsGuest(&v, &w)
	if t.spent(&v, &w) {
		t.endWork(&v, &w, Error, fmt.Sprintf("%s; it was restarted as often as it may be (max_restart, max_relocate), and is left as it is on host %s", reason, h.ID))
		t.storeVM(h.ID, &v)
		return
	}
	t.lost(&v, h.ID, cause)
	n := edit(t.s.Host(h.ID))
	t.order(n, OrderStop, &v, v.Incarnation, w.ID)
	t.setHost(n)
	t.storeVM(h.ID, &v)
	t.linked(w.Begun, workCause(w.ID), "VM.GUEST", Warning, vmSubject(&v), fmt.Sprintf("host %s is told to stop %s, to start it again: %s", h.ID, v.Name, reason))
}

// restarts reports whether a host is told to stop a VM that is to be started again.
func (h *Host) restarts(v *VM, w *Work) bool {
	return w.Type == WorkHA && slices.ContainsFunc(h.Orders, func(o *Order) bool { return o.VM == v.ID && o.Kind == OrderStop })
}
