package fsm

import (
	"fmt"
	"slices"

	"lifeboat/fsm/logpb"
)

// Stalled reports whether the VM is on, but paused on an I/O error.
func (v *VM) Stalled() bool { return v.Power == PowerOn && v.Reason == ReasonIOError }

func stalled(vms []VM) bool { return slices.ContainsFunc(vms, func(v VM) bool { return v.Stalled() }) }

// Actions of VMStorage.
const (
	StorageBack = 1
	StorageLost = 2
)

// vmStorage is the leader's word about a VM that is paused on an I/O error
// (S18): its storage is back and it goes on where it is; or it is not, and the
// host gives the VM up, so that it starts where the storage is seen.
func (t *tx) vmStorage(c *logpb.VMStorage) string {
	id, _ := vmID(c.Vm)
	old, h := t.s.VM(id)
	switch {
	case old == nil:
		return fmt.Sprintf("there is no VM %s", id)
	case !t.s.Armed:
		return "HA is disarmed"
	case !old.Stalled() || old.Incarnation != Incarnation(c.Incarnation) || !old.Protected() || !old.Wanted || old.Work != 0 ||
		h.Status != Up || h.order(OrderDestroy, id) != nil:
		return "" // late
	}
	switch c.Action {
	case StorageBack:
		if h.order(OrderResume, id) != nil {
			return ""
		}
		n := edit(h)
		t.order(n, OrderResume, old, old.Incarnation, 0)
		t.setHost(n)
		t.event("VM.RESUME", Info, vmSubject(old), "host %s is told to resume %s: %s", h.ID, old.Name, c.Reason)
	case StorageLost:
		v := *old
		w := t.openWork(&v, WorkHA, Stopping, CauseStorage, h.ID, c.Reason)
		n := edit(h)
		n.Orders = slices.DeleteFunc(slices.Clone(n.Orders), func(o *Order) bool { return o.VM == id })
		t.order(n, OrderDestroy, &v, v.Incarnation, w.ID)
		t.setHost(n)
		t.storeVM(h.ID, &v)
		t.event("VM.WITHDRAW", Warning, vmSubject(&v), "host %s is told to give up %s at incarnation %s: %s", h.ID, v.Name, v.Incarnation, c.Reason)
	default:
		return "a VM that lost its storage can be resumed or given up"
	}
	return ""
}
