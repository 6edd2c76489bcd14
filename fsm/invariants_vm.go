package fsm

// vm checks a VM in its owner's slice.
func (c *checker) vm(h *Host, v *VM) {
	if !(v.Power <= PowerReportMissing && v.Reason <= ReasonHostDead && v.ProtectedBy <= OptedOut) {
		c.fail("vms", "VM %s has power %d, reason %d, protection %d", v.Name, v.Power, v.Reason, v.ProtectedBy)
	}
	if v.Name == "" {
		c.fail("vms", "VM %s has no name", v.ID)
	}
	if !(v.mode == v.HAPolicy().HA && v.inError == (v.Error != "")) {
		c.fail("vms", "VM %s is of mode %s and in error (%v), which is not what its policy and error say", v.Name, v.mode, v.inError)
	}
	if v.Since > c.s.Time {
		c.past(v.Since, "since of VM "+v.Name)
	}
	if !(!v.Protected() || v.Incarnation != 0) {
		c.fail("S1", "VM %s is protected and has no incarnation", v.Name)
	}
	if !(!v.Gone || v.Power != PowerOn) {
		c.fail("S2", "VM %s is proven gone and on", v.Name)
	}
	if !(!v.Gone || v.Incarnation != 0) {
		c.fail("S2", "VM %s is proven gone and was never granted", v.Name)
	}
	if !(v.Error == "" || v.Work == 0) {
		c.fail("work", "VM %s is in error and has open work %d", v.Name, v.Work)
	}
	if v.Protected() && v.Wanted && v.Error == "" && !c.s.Ignoring {
		if !(v.Work != 0 || v.Power != PowerOff && !v.Gone) {
			c.fail("work", "VM %s is wanted on and %s (gone: %v), and nobody does anything", v.Name, v.Power, v.Gone)
		}
		if h.Status == Down {
			if !(v.Work != 0) {
				c.fail("work", "VM %s is on host %s, which is Down, and nobody does anything", v.Name, h.ID)
			}
		}
	}
	if h.HA == HAFenced && v.Protected() {
		w := c.s.Work(v.Work)
		left := c.s.Level < LevelPolicy && v.Work == 0 && v.Power == PowerOff // see unwanted
		if !(v.Gone || w != nil && w.Step == Investigating || v.LostSight() || left) {
			c.fail("S2", "VM %s is on host %s, which is proven dead, and is not gone", v.Name, h.ID)
		}
	}
	if v.Hangs != nil {
		c.hangs(v)
	}
	if v.Work == 0 {
		return
	}
	w := c.s.Work(v.Work)
	if !(w != nil && !w.Step.Ended() && w.VM == v.ID) {
		c.fail("work", "VM %s points to work %d, which is not open for it", v.Name, v.Work)
	}
	if w == nil {
		return
	}
	if !(w.Type != WorkMigration || w.Step == Migrating || w.Step == Fencing || w.Step == Investigating) {
		c.fail("S7", "work %d, a live migration, is %s", w.ID, w.Step)
	}
	switch w.Step {
	case Restarting:
		o := h.order(OrderStart, v.ID)
		if !(w.Target == h.ID && w.Incarnation == v.Incarnation && !v.Gone) {
			c.fail("S2", "work %d restarts %s on host %s at incarnation %s; host %s owns it at %s (gone: %v)", w.ID, v.Name, w.Target, w.Incarnation, h.ID, v.Incarnation, v.Gone)
		}
		if !(o != nil) {
			c.fail("S4", "work %d restarts %s, but host %s has no order", w.ID, v.Name, h.ID)
		}
	case Fencing:
		if !(h.HA != HAFenced && !v.Gone) {
			c.fail("work", "work %d waits for proof that host %s is dead, and it has it", w.ID, h.ID)
		}
	case Migrating:
		if !(w.Type == WorkMigration && w.Incarnation == v.Incarnation && w.Target != "" && w.Target != h.ID && !v.Gone) {
			c.fail("S7", "work %d migrates %s to host %q at incarnation %s; host %s owns it at %s (gone: %v)", w.ID, v.Name, w.Target, w.Incarnation, h.ID, v.Incarnation, v.Gone)
		}
		if !(h.order(OrderMigrate, v.ID) != nil) {
			c.fail("S4", "work %d migrates %s, but host %s has no order", w.ID, v.Name, h.ID)
		}
	case Stopping:
		kind := OrderDestroy
		if w.Type.Stops() || (w.Type == WorkRelocation || w.Type == WorkHA) && h.order(OrderStop, v.ID) != nil {
			kind = OrderStop
		}
		if !(h.order(kind, v.ID) != nil) {
			c.fail("S4", "work %d waits for host %s to give up %s, but it has no order", w.ID, h.ID, v.Name)
		}
	}
}

// index checks that the VMs on the hosts and those that have an owner are the same.
func (c *checker) index() {
	if c.indexed() {
		return
	}
	for id, h := range c.s.Hosts() {
		for i := range h.VMs {
			owner, ok := c.s.owner.get(h.VMs[i].ID)
			c.must(ok && owner == id, "S2", "VM %s lies on host %s, its owner is %q", h.VMs[i].ID, id, owner)
		}
	}
	for id, hid := range c.s.owner.all() {
		h := c.s.Host(hid)
		c.must(h != nil && h.VM(id) != nil, "S2", "VM %s is owned by host %s, which does not have it", id, hid)
	}
}

// indexed is index for when all is well. Both are sorted: the next VM that a host
// owns is the next one on it, and nothing needs to be looked up.
func (c *checker) indexed() bool {
	left := make(map[HostID]*[]VM, c.s.CountHosts())
	for id, h := range c.s.Hosts() {
		vms := h.VMs
		left[id] = &vms
	}
	for id, host := range c.s.owner.all() {
		vms := left[host]
		if vms == nil || len(*vms) == 0 || (*vms)[0].ID != id {
			return false
		}
		*vms = (*vms)[1:]
	}
	for _, vms := range left { // in any order
		if len(*vms) > 0 {
			return false
		}
	}
	return true
}
