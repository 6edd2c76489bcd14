package fsm

import (
	"fmt"
	"slices"

	"lifeboat/fsm/logpb"
)

// setVM replaces the i-th VM of a host.
func (t *tx) setVM(id HostID, i int, v *VM) {
	h := edit(t.s.Host(id))
	h.VMs = slices.Clone(h.VMs)
	h.VMs[i] = *v
	t.setHost(h)
}

// storeVM replaces a VM in its owner.
func (t *tx) storeVM(id HostID, v *VM) {
	if i, ok := t.s.Host(id).find(v.ID); ok {
		t.setVM(id, i, v)
	}
}

func (t *tx) removeVM(id HostID, vm VMID) {
	h := edit(t.s.Host(id))
	if i, ok := h.find(vm); ok {
		h.VMs = slices.Delete(slices.Clone(h.VMs), i, i+1)
		h.Assigned = t.index
		t.setHost(h)
	}
	t.s.owner.delete(vm)
}

func (t *tx) insertVM(id HostID, v *VM) {
	h := edit(t.s.Host(id))
	if i, ok := h.find(v.ID); ok {
		h.VMs = slices.Clone(h.VMs)
		h.VMs[i] = *v
	} else {
		h.VMs = slices.Insert(slices.Clone(h.VMs), i, *v)
	}
	h.Assigned = t.index
	t.setHost(h)
	t.s.owner.set(v.ID, h.ID)
}

func (t *tx) assigned(id HostID) {
	if t.s.Host(id).Assigned == t.index {
		return
	}
	h := edit(t.s.Host(id))
	h.Assigned = t.index
	t.setHost(h)
}

// vmSpecs stores what VMs need, and the definitions of protected ones (S23).
func (t *tx) vmSpecs(c *logpb.VMSpecs) string {
	h, no := t.current(c.Host, c.Epoch)
	if no != "" {
		return no
	}
	if h.Status == Down {
		return fmt.Sprintf("host %s was declared Down in epoch %d; it must register again", h.ID, c.Epoch) // S10
	}
	var fresh *Host // the stored host while it and its slice of VMs are ours alone
	for _, x := range c.Specs {
		id, ok := vmID(x.Id)
		if !ok {
			continue
		}
		old := t.s.Host(h.ID).VM(id)
		if old == nil {
			continue // moved since
		}
		v := *old
		v.setSpec(specFromLog(t.s.shapes, x, t.now))
		if v.Spec.Problem != "" {
			t.raiseVM(&v, "definition", Warning, "The definition of VM %s on host %s could not be read: %s. It cannot be started elsewhere until it can.", v.Name, h.ID, v.Spec.Problem)
			if old.Spec != nil && old.Spec.Defines() {
				v.setSpec(old.Spec.broken(t.s.shapes, v.Spec.Problem, v.Spec.Hash))
			}
		} else {
			t.resolveVM(&v, "definition", "it can be read again")
		}
		if v.ProtectedBy == Unprotected || v.ProtectedBy == ByDefault {
			switch {
			case x.Protect != nil && x.Protect.On:
				t.protect(&v, h.ID, ByMetadata, x.Protect)
			case t.s.Policy.ProtectDefault && v.ProtectedBy == Unprotected:
				t.protect(&v, h.ID, ByDefault, nil)
			}
		} else if v.ProtectedBy == ByMetadata && (x.Protect == nil || !x.Protect.On) && x.Problem == "" {
			t.unprotect(&v, h.ID, Unprotected)
		}
		if !v.Protected() && v.Spec.Defines() {
			v.setSpec(v.Spec.undefined())
		}
		if now := t.s.Host(h.ID); now != fresh {
			fresh = edit(now)
			fresh.VMs = slices.Clone(now.VMs)
			t.setHost(fresh)
		}
		if i, ok := fresh.find(id); ok {
			fresh.VMs[i] = v
		}
	}
	return ""
}

// protect puts a VM under HA; v is being edited.
func (t *tx) protect(v *VM, host HostID, by ProtectedBy, p *logpb.Protection) {
	was, acted := v.ProtectedBy, v.Protected()
	v.ProtectedBy = by
	v.setPolicy(policyFromLog(v.Policy, p))
	switch now := v.Protected(); {
	case acted && !now: // its policy says none now
		t.unprotect(v, host, by)
		return
	case acted || !now:
		return
	}
	if v.Incarnation == 0 {
		v.Incarnation = NewIncarnation(t.s.Generation, 1) // adopted where it is
	}
	before := by == ByOperator && was != Unprotected && v.Wanted && !(v.Power == PowerOff && offByHand(v, v.Reason)) // S18
	v.Wanted = v.Power == PowerOn || before
	if w := t.s.Work(v.Work); t.s.Level >= LevelPolicy && w != nil && w.Type.Stops() {
		v.Wanted = false // the stop goes on
	}
	t.assigned(host)
	t.event("VM.PROTECT", Info, vmSubject(v), "VM %s on host %s is protected (by %s)", v.Name, host, by)
	if before {
		t.bringBack(v, t.s.Host(host), "protected again by "+t.actor+", and wanted on as before")
	}
}

func (t *tx) unprotect(v *VM, host HostID, to ProtectedBy) {
	v.ProtectedBy = to
	v.setError("")
	// An order that may have been handed out is not taken back by forgetting it
	// (S4): its work ends with the host's word.
	if w := t.s.Work(v.Work); w != nil && !handedOut(t.s.Host(host), v, w) {
		t.endWork(v, w, Cancelled, "the VM is no longer protected")
	}
	t.assigned(host)
	t.event("VM.UNPROTECT", Info, vmSubject(v), "VM %s on host %s is no longer protected", v.Name, host)
	t.resolveVM(v, "error", "no longer protected")
	t.guestSettled(v, "no longer protected")
}

func (t *tx) vmProtect(c *logpb.VMProtect) string {
	id, _ := vmID(c.Vm)
	old, h := t.s.VM(id)
	if old == nil {
		return fmt.Sprintf("there is no VM %s; `lifeboat vm list` shows them", id)
	}
	v := *old
	if p := c.Protect; p != nil && (p.Failback != nil || p.LiveMigration != nil) {
		if no := t.later(LevelPolicy); no != "" {
			return no
		}
	}
	if c.Protect != nil && c.Protect.On {
		if no := checkProtection(c.Protect); no != "" {
			return no
		}
		if w := t.s.Work(v.Work); w != nil && c.Protect.Ha == HANone.String() && handedOut(h, &v, w) {
			return fmt.Sprintf("VM %s is being started or stopped (work %d); wait until that has ended", v.Name, w.ID)
		}
		t.protect(&v, h.ID, ByOperator, c.Protect)
	} else {
		if v.ProtectedBy == Unprotected || v.ProtectedBy == OptedOut {
			return ""
		}
		if w := t.s.Work(v.Work); w != nil && handedOut(h, &v, w) {
			return fmt.Sprintf("VM %s is being started or stopped (work %d); wait until that has ended", v.Name, w.ID)
		}
		t.unprotect(&v, h.ID, OptedOut)
	}
	t.storeVM(h.ID, &v)
	return ""
}

// Actions of VMControl.
const (
	VMStart = 1
	VMStop  = 2
	VMClear = 3
	// VMForceStop does not ask the guest.
	VMForceStop = 4
)

func (t *tx) vmControl(c *logpb.VMControl) string {
	id, _ := vmID(c.Vm)
	old, h := t.s.VM(id)
	if old == nil {
		return fmt.Sprintf("there is no VM %s; `lifeboat vm list` shows them", id)
	}
	if t.s.Waking && c.Action != VMClear {
		return "the state was restored, and HA has not been armed since: nothing is started or stopped; look at `lifeboat host list`, then run `lifeboat ha arm`"
	}
	v := *old
	if !v.Protected() {
		return fmt.Sprintf("VM %s is not protected: lifeboat does not touch it; protect it with `lifeboat vm protect %s`", v.Name, v.Name)
	}
	switch c.Action {
	case VMClear:
		return t.clear(&v, h)
	case VMStart:
		if v.Power == PowerOn {
			return fmt.Sprintf("VM %s already runs on host %s", v.Name, h.ID)
		}
		if v.Work != 0 {
			return fmt.Sprintf("VM %s has open work %d already", v.Name, v.Work)
		}
		v.Wanted = true
		v.setError("")
		switch {
		case v.Gone || v.Power == PowerOff && v.Reason != ReasonMigrated:
			t.openWork(&v, WorkHA, Scheduled, CauseOperator, h.ID, "start asked for by "+t.actor)
		case v.LostSight():
			t.openWork(&v, WorkHA, Investigating, CauseOperator, h.ID, "start asked for by "+t.actor+"; it left host "+string(h.ID)+", every host is asked where it is")
		default:
			return fmt.Sprintf("the power state of VM %s is not known (%s)", v.Name, v.Power)
		}
		t.resolveVM(&v, "error", "started by %s", t.actor)
	case VMStop, VMForceStop:
		if no := t.stop(&v, h, c.Action == VMForceStop); no != "" {
			return no
		}
	default:
		return "a VM can be started, stopped or cleared"
	}
	t.assigned(h.ID)
	t.storeVM(h.ID, &v)
	return ""
}

// unwanted wants a VM off that has no work any more; v is being edited. One that was
// looked for although its owner had it off is gone when that owner is proven dead (S2).
func (t *tx) unwanted(v *VM, h *Host) {
	v.Wanted = false
	if t.s.Level >= LevelPolicy && h.HA == HAFenced && v.Power == PowerOff && !v.LostSight() {
		v.Gone = true
	}
}

// stop wants a VM off; v is being edited. One whose state is not known may run:
// its host is told as well, at once or when it is heard again.
func (t *tx) stop(v *VM, h *Host, force bool) (refused string) {
	w := t.s.Work(v.Work)
	harder := force && w != nil && (w.Type == WorkStop || w.Type == WorkCheckStop)
	tell := v.Power != PowerOff && !v.Gone
	switch {
	case w != nil && handedOut(h, v, w) && !harder:
		return fmt.Sprintf("VM %s is being started or stopped (work %d); wait until that has ended", v.Name, w.ID)
	case !tell && w == nil && !v.Wanted:
		return fmt.Sprintf("VM %s is not running", v.Name)
	}
	if w != nil {
		t.endWork(v, w, Cancelled, "stopped by "+t.actor)
	}
	t.unwanted(v, h)
	v.setError("")
	t.resolveVM(v, "error", "stopped by %s", t.actor)
	begun, cause := EventID(0), ""
	if tell {
		typ, why := WorkStop, "stop asked for by "+t.actor
		switch {
		case force:
			typ, why = WorkForceStop, "stop without asking the guest, by "+t.actor
		case h.Status != Up:
			typ, why = WorkCheckStop, fmt.Sprintf("%s; host %s is %s and is told when it is heard again", why, h.ID, h.Status)
		}
		w := t.openWork(v, typ, Stopping, CauseOperator, h.ID, why)
		n := edit(t.s.Host(h.ID))
		n.Orders = slices.DeleteFunc(slices.Clone(n.Orders), func(o *Order) bool { return o.Kind == OrderStop && o.VM == v.ID })
		t.order(n, OrderStop, v, v.Incarnation, w.ID)
		t.setHost(n)
		begun, cause = w.Begun, workCause(w.ID)
	}
	t.linked(begun, cause, "VM.STOP", Info, vmSubject(v), fmt.Sprintf("VM %s is wanted off by %s", v.Name, t.actor))
	return ""
}
