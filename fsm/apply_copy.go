package fsm

import (
	"bytes"
	"fmt"
	"slices"

	"lifeboat/fsm/logpb"
)

// Copy is a VM that runs on a host which does not own it.
type Copy struct {
	VM    VMID
	Since int64 // unix ns: the first report of it
	// Incarnation is what the host's agent holds of it; 0 = nobody granted it.
	Incarnation Incarnation
	// Apart: it shares no writable disk with the owner's. It is another machine
	// with the same UUID, and none of our business (S6).
	Apart bool
	// Told is since when its host is told to destroy it, unix ns; 0: it is not.
	Told int64
	// Name and Hash, of its definition, are those of the domain that was told apart.
	// Another one on the same host is judged anew.
	Name, Hash string
}

// Copy returns the copy of a VM that runs on the host; nil when none is known.
func (h *Host) Copy(vm VMID) *Copy {
	if i, ok := h.findCopy(vm); ok {
		return &h.Copies[i]
	}
	return nil
}

func (h *Host) findCopy(vm VMID) (int, bool) {
	return slices.BinarySearchFunc(h.Copies, vm, func(c Copy, id VMID) int { return bytes.Compare(c.VM[:], id[:]) })
}

// apart reports whether the host runs another machine with the VM's UUID.
func (h *Host) apart(vm VMID) bool {
	c := h.Copy(vm)
	return c != nil && c.Apart
}

// setCopy and dropCopy change a host that is being edited.
func (h *Host) setCopy(c Copy) {
	i, ok := h.findCopy(c.VM)
	if h.Copies = slices.Clone(h.Copies); ok {
		h.Copies[i] = c
	} else {
		h.Copies = slices.Insert(h.Copies, i, c)
	}
}

func (h *Host) dropCopy(vm VMID) {
	if i, ok := h.findCopy(vm); ok {
		h.Copies = slices.Delete(slices.Clone(h.Copies), i, i+1)
	}
}

// sameUUIDAlert is the key of "another machine with v's UUID runs on host h".
func sameUUIDAlert(v *VM, h HostID) AlertKey {
	return VMAlert(v, sameUUIDOn+string(h))
}

const sameUUIDOn = "same UUID on "

// copyGone forgets the copy of a VM on the host whose report is applied.
func (p *reporting) copyGone(v *VM, format string, args ...any) {
	p.host.dropCopy(v.ID)
	p.resolve(copyAlert(v, p.host.ID), format, args...)
	p.resolve(sameUUIDAlert(v, p.host.ID), format, args...)
}

// copiesEnded ends the copies that the host reported and that are not there any
// more. What runs there now under the UUID of one is an entry of the same report.
// The others that are missing are VMs of the host.
func (p *reporting) copiesEnded(ids []byte) (others []VMID) {
	for ; len(ids) >= 16; ids = ids[16:] {
		if id := VMID(ids[:16]); p.host.VM(id) != nil {
			others = append(others, id)
		} else {
			p.absentCopy(id)
		}
	}
	return others
}

// absentCopy: a copy that the host reported is not there any more.
func (p *reporting) absentCopy(id VMID) {
	if v, _ := p.s.VM(id); v != nil && p.host.Copy(id) != nil && p.host.order(OrderDestroy, id) == nil {
		p.copyGone(v, "it is not on host %s any more", p.host.ID)
	}
	p.host.dropCopy(id)
}

// runsHere reports whether the owner's word is that the guest itself runs, or is
// held by a user or its storage. One that is paused for another reason may be
// on its way out (S6).
func (v *VM) runsHere() bool {
	return v.Power == PowerOn && (v.Reason == ReasonBooted || v.Reason == ReasonUserPaused || v.Reason == ReasonIOError)
}

// Rival reports whether a running copy on h competes with the owner's VM, and
// nobody does anything about it yet. The leader then finds out whether both run
// on one disk.
func (s *State) Rival(h *Host, c *Copy) bool {
	v, owner := s.VM(c.VM)
	return v != nil && owner.ID != h.ID && owner.Status == Up && h.Status == Up && !c.Apart && c.Incarnation < v.Incarnation &&
		v.Protected() && v.runsHere() && v.Work == 0 && h.order(OrderDestroy, c.VM) == nil
}

// Stubborn reports whether a host goes on running a copy that it is told to
// destroy, while the owner's VM runs. The leader has it fenced when that has
// lasted for too long, and both write to one disk (S6).
func (s *State) Stubborn(h *Host, c *Copy) bool {
	v, owner := s.VM(c.VM)
	return v != nil && owner.ID != h.ID && owner.Status == Up && h.Status == Up && !c.Apart && c.Told != 0 && c.Incarnation < v.Incarnation &&
		v.Protected() && v.runsHere() && v.Work == 0 && h.order(OrderDestroy, c.VM) != nil
}

// Actions of VMCopy.
const (
	CopyDestroy = 1
	CopyApart   = 2
	// CopyFence: its host does not destroy it.
	CopyFence = 3
)

// vmCopy is the leader's word about a copy that nobody was granted (S6): owner
// and copy were both seen to run, at one time, and on one disk or not. The newer
// incarnation wins, and the owner's always is.
func (t *tx) vmCopy(c *logpb.VMCopy) string {
	id, _ := vmID(c.Vm)
	h, no := t.current(c.Host, c.Epoch)
	v, owner := t.s.VM(id)
	switch {
	case no != "":
		return no
	case v == nil:
		return fmt.Sprintf("there is no VM %s", id)
	case !t.s.Armed:
		return "HA is disarmed" // S22
	}
	k := h.Copy(id)
	judged := t.s.Rival
	if c.Action == CopyFence {
		judged = t.s.Stubborn
	}
	if k == nil || v.Incarnation != Incarnation(c.Incarnation) || !judged(h, k) {
		return "" // late
	}
	switch c.Action {
	case CopyFence:
		return t.evict(h, v, owner, k, c.Reason)
	case CopyDestroy:
		t.told(h, id)
		t.order(h, OrderDestroy, v, v.Incarnation-1, 0)
		t.setHost(h)
		t.event("VM.DUPLICATE", Critical, vmSubject(v), "host %s is told to destroy its copy of %s: host %s owns it at incarnation %s; %s", h.ID, v.Name, owner.ID, v.Incarnation, c.Reason)
		t.raise(copyAlert(v, h.ID), Critical, "VM %s ran twice: on host %s, which owns it at incarnation %s, and on host %s, where nobody was told to start it; %s. The copy on host %s is being destroyed. Check the VM's file systems, and find out who started the copy.",
			v.Name, owner.ID, v.Incarnation, h.ID, c.Reason, h.ID)
	case CopyApart:
		n := *k
		n.Apart, n.Name, n.Hash = true, c.Name, string(c.Hash)
		h.setCopy(n)
		t.setHost(h)
		t.event("VM.DUPLICATE", Warning, vmSubject(v), "the domain on host %s with the UUID of %s is left alone: %s", h.ID, v.Name, c.Reason)
		t.resolve(copyAlert(v, h.ID), "%s: it is another machine with the same UUID", c.Reason)
		t.raise(sameUUIDAlert(v, h.ID), Warning, "A domain on host %s has the UUID of VM %s, which host %s owns; %s. It is left alone, and %s cannot start on host %s meanwhile. Give it a UUID of its own.",
			h.ID, v.Name, owner.ID, c.Reason, v.Name, h.ID)
	default:
		return "a copy can be destroyed, told apart, or fenced with its host"
	}
	return ""
}
