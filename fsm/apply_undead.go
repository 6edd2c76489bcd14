package fsm

// undead: a host that was proven dead registers in the boot it was in. The proof
// was wrong, or was somebody's word; of what it is told to remove, whatever still
// runs there runs twice, and people must know (S6). The order to destroy it was
// given when the VM was granted elsewhere.
//
// Its agent may see a guest only after it has registered.
func (p *reporting) undead(v *VM, owner *Host, e *vmEntry) {
	if !p.host.undead(v, e) {
		return
	}
	p.host.setCopy(Copy{VM: v.ID, Since: p.now, Incarnation: e.inc, Told: p.now})
	p.event("VM.DUPLICATE", Critical, vmSubject(v), "host %s is told to destroy its copy of %s: incarnation %s is older than %s, and the host had not died", p.host.ID, v.Name, e.inc, v.Incarnation)
	p.raise(copyAlert(v, p.host.ID), Critical, "VM %s ran twice: host %s was taken to be dead and was not, so host %s started it at incarnation %s. The older copy on host %s (incarnation %s) is being destroyed. Check the VM's file systems, and find out why the proof was wrong (`lifeboat explain host %s`).",
		v.Name, p.host.ID, owner.ID, v.Incarnation, p.host.ID, e.inc, p.host.ID)
}

// undead reports whether an entry shows that a VM ran on h while h was taken to
// be dead, and nobody has been told yet. What h was told to destroy after its
// return ran there for another reason.
func (h *Host) undead(v *VM, e *vmEntry) bool {
	o := h.order(OrderDestroy, v.ID)
	return o != nil && uint64(o.ID) <= h.Risen && e.power == PowerOn && e.inc != 0 && e.inc < v.Incarnation && v.Protected() && h.Copy(v.ID) == nil
}
