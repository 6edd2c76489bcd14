package fsm

import (
	"fmt"

	"lifeboat/fsm/logpb"
)

// told notes since when the host is told to destroy its copy.
func (t *tx) told(h *Host, vm VMID) {
	if k := h.Copy(vm); k != nil && k.Told == 0 {
		n := *k
		n.Told = t.now
		h.setCopy(n)
	}
}

// toldAnew lets the time for destroying copies begin: nobody does it while HA is
// disarmed.
func (t *tx) toldAnew() {
	for _, old := range t.s.Hosts() {
		h := edit(old)
		for _, k := range old.Copies {
			if k.Told != 0 {
				k.Told = t.now
				h.setCopy(k)
			}
		}
		if len(old.Copies) > 0 {
			t.setHost(h)
		}
	}
}

// evict declares a host Down that reports: it runs a second copy of a VM on the
// owner's disk and does not destroy it, so its power is what is left (S6). It
// may not register again meanwhile, or it would be Up before its lease has run
// out, and take another one.
func (t *tx) evict(h *Host, v *VM, owner *Host, k *Copy, why string) string {
	if !h.Fenceable(t.s.Policy) {
		return fmt.Sprintf("nothing could prove host %s dead", h.ID)
	}
	reason := fmt.Sprintf("it runs a second copy of VM %s, which host %s owns at incarnation %s, and does not destroy it: %s", v.Name, owner.ID, v.Incarnation, why)
	t.event("VM.DUPLICATE", Critical, vmSubject(v), "host %s is fenced: %s", h.ID, reason)
	t.raise(copyAlert(v, h.ID), Critical, "VM %s runs twice: on host %s, which owns it at incarnation %s, and on host %s, which does not destroy its copy: %s. Host %s is being fenced. Check the VM's file systems.",
		v.Name, owner.ID, v.Incarnation, h.ID, why, h.ID)
	h.Evicted = true
	t.markDown(h, reason)
	return ""
}

// kept says why an evicted host may not register in the boot it is in; "" when
// it may: what it was to destroy has ended.
func (h *Host) kept(vms *logpb.VMEntries) string {
	for i := range h.Copies {
		k := &h.Copies[i]
		if o := h.order(OrderDestroy, k.VM); k.Told != 0 && o != nil && !ended(vms, k.VM, o.Incarnation) {
			return fmt.Sprintf("host %s is being fenced: %s; it may register when it has destroyed the copy, or has been restarted", h.ID, h.Reason)
		}
	}
	return ""
}

// ended reports whether entries say that a VM is off, or that the incarnation is
// refused.
func ended(vms *logpb.VMEntries, vm VMID, inc Incarnation) bool {
	for i := 0; i < len(vms.GetIds())/16 && i < len(vms.Power); i++ {
		if VMID(vms.Ids[i*16:i*16+16]) != vm {
			continue
		}
		if powerFromLog(vms.Power[i]) == PowerOff {
			return true
		}
		for _, d := range vms.Details {
			if d.Pos == uint32(i) && Incarnation(d.Refused) >= inc {
				return true
			}
		}
	}
	return false
}
