package fsm

import "slices"

func (c *checker) hosts() {
	for id, h := range c.s.Hosts() {
		if !(h.ID == id) {
			c.fail("hosts", "host %s stands under the id %s", h.ID, id)
		}
		if !(h.Epoch > 0) {
			c.fail("hosts", "host %s has never registered", id)
		}
		if !(h.Inventory != nil) {
			c.fail("hosts", "host %s has no inventory", id)
		}
		if !(h.Assigned <= c.s.Index && (h.Settled == 0 || h.DownIndex <= h.Settled) && h.Settled <= c.s.Index) {
			c.fail("hosts", "host %s was changed at an index to come", id)
		}
		c.pastHost(h.Since, "since", id)
		c.pastHost(h.Silent, "silent", id)
		c.hostState(h)
		c.lease(h)
		c.orders(h)
		c.copies(h)
		for i := range h.VMs {
			v := &h.VMs[i]
			if !(h.Stalled || !v.Stalled()) {
				c.fail("S18", "VM %s is paused on an I/O error, and host %s does not say so", v.Name, id)
			}
			if !(i == 0 || lessVM(h.VMs[i-1].ID, v.ID)) {
				c.fail("S2", "the VMs of host %s are out of order at %s", id, v.ID)
			}
			c.vm(h, v)
			c.order(v)
		}
	}
}

// hostStates are the combinations of Status and HA that Apply makes.
func hostStates(st Status) []HAState {
	switch st {
	case Connecting:
		return []HAState{HARecovering}
	case Up, Disconnected:
		return []HAState{HAAvailable}
	case Alert:
		return []HAState{HASuspect, HAChecking, HADegraded}
	case Down:
		return []HAState{HAFencing, HAFenced}
	case Removed:
		return []HAState{HADisabled}
	}
	return nil
}

func (c *checker) hostState(h *Host) {
	if !(slices.Contains(hostStates(h.Status), h.HA)) {
		c.fail("hosts", "host %s is %s and %s at once", h.ID, h.Status, h.HA)
	}
	if !(h.Resource >= Enabled && h.Resource <= Degraded) {
		c.fail("hosts", "host %s has resource state %d", h.ID, h.Resource)
	}
	if !(h.Watchdog <= WatchdogSoft || h.Lease == nil) {
		c.fail("S12", "host %s has a lease under watchdog %d", h.ID, h.Watchdog)
	}
	switch h.Status {
	case Up:
		if h.inFlight(c.s.Time) {
			c.fail("S10", "host %s is Up while fence attempt %d may be in flight", h.ID, attemptNumber(h))
		}
	case Down:
		if !(h.DownIndex > 0) {
			c.fail("S10", "host %s is Down since no index", h.ID)
		}
		if !((h.HA == HAFenced) == (h.Proof != nil)) {
			c.fail("S9", "host %s is %s with proof %v", h.ID, h.HA, h.Proof)
		}
	case Removed:
		if len(h.VMs) > 0 || len(h.Orders) > 0 {
			c.fail("hosts", "removed host %s owns %d VMs and has %d orders", h.ID, len(h.VMs), len(h.Orders))
		}
	}
	if !(!h.Evicted || h.Status == Down && h.HA == HAFencing) {
		c.fail("S6", "host %s is evicted and %s (%s)", h.ID, h.Status, h.HA)
	}
	for _, e := range h.Evidence {
		if !(e.Verdict <= Dead) {
			c.fail("S20", "evidence of %s about host %s says %d", e.Source, h.ID, e.Verdict)
		}
	}
}

func attemptNumber(h *Host) uint32 {
	if h.Attempt == nil {
		return 0
	}
	return h.Attempt.Number
}

func (c *checker) lease(h *Host) {
	l := h.Lease
	if l == nil {
		return
	}
	if !(l.Armed && l.DurationNS > 0 && l.BoundNS >= 0 && l.Watchdog <= WatchdogSoft) {
		c.fail("S12", "host %s has a lease that makes no sense: %+v", h.ID, *l)
	}
	if !(l.BootID == h.BootID) {
		c.fail("S12", "host %s has a lease of boot %s in boot %s", h.ID, l.BootID, h.BootID)
	}
	if !(c.s.Armed) {
		c.fail("S12", "host %s has a lease while HA is disarmed", h.ID)
	}
	if !(h.HasLevel(DriverLease)) {
		c.fail("S12", "host %s has a lease that is not among its fence levels", h.ID)
	}
	if !(h.Status != Disconnected && h.Status != Removed && h.HA != HAFenced) {
		c.fail("S16", "host %s is %s (%s) and has a lease", h.ID, h.Status, h.HA)
	}
}

func (c *checker) copies(h *Host) {
	for i, k := range h.Copies {
		_, owner := c.s.VM(k.VM)
		c.must(owner == nil || owner.ID != h.ID, "S6", "host %s has a copy of VM %s, which it owns", h.ID, k.VM)
		c.must(i == 0 || lessVM(h.Copies[i-1].VM, k.VM), "S6", "the copies on host %s are out of order at %s", h.ID, k.VM)
		c.must(h.Status != Removed && h.HA != HAFenced, "S6", "a copy of VM %s runs on host %s, which is %s (%s)", k.VM, h.ID, h.Status, h.HA)
		c.past(k.Since, "a copy on host "+string(h.ID))
	}
}

func (c *checker) orders(h *Host) {
	type key struct {
		kind OrderKind
		vm   VMID
	}
	c.must(!c.s.Waking || len(h.Orders) == 0, "S22", "host %s has orders after a restore, and HA was not armed since", h.ID)
	seen := map[key]bool{}
	for _, o := range h.Orders {
		c.minted(uint64(o.ID), "order")
		k := key{o.Kind, o.VM}
		c.must(!seen[k], "S4", "host %s has two orders to %s %s", h.ID, o.Kind, o.Name)
		seen[k] = true
		c.must(o.Epoch == h.Epoch && o.BootID == h.BootID, "S4", "the order to %s %s on host %s is of epoch %d (%s), the host in epoch %d (%s)", o.Kind, o.Name, h.ID, o.Epoch, o.BootID, h.Epoch, h.BootID)
		v, owner := c.s.VM(o.VM)
		owned := v != nil && owner.ID == h.ID
		switch o.Kind {
		case OrderStart:
			c.must(owned, "S2", "host %s is told to start %s, which it does not own", h.ID, o.Name)
			if owned {
				c.must(o.Incarnation == v.Incarnation, "S3", "host %s is told to start %s at incarnation %s, it is at %s", h.ID, o.Name, o.Incarnation, v.Incarnation)
				c.must(!v.Gone && v.Power != PowerOn, "S4", "host %s is told to start %s, which is %s (gone: %v)", h.ID, o.Name, v.Power, v.Gone)
				w := c.s.Work(v.Work)
				c.must(w != nil && (w.Step == Restarting || w.Step == Fencing), "S4", "host %s is told to start %s without work that restarts it", h.ID, o.Name)
			}
		case OrderStop:
			c.must(owned && o.Incarnation == v.Incarnation, "S4", "host %s is told to stop %s, which it does not own at incarnation %s", h.ID, o.Name, o.Incarnation)
			if owned {
				w := c.s.Work(v.Work)
				c.must(w != nil && (w.Type.Stops() || w.Type == WorkRelocation || w.Type == WorkHA && (w.Step == Stopping || w.Step == Fencing)), "S4", "host %s is told to stop %s without work that stops it", h.ID, o.Name)
			}
		case OrderDestroy:
			c.must(o.Incarnation != 0, "S6", "host %s is told to destroy %s at no incarnation", h.ID, o.Name)
			if c.s.Level < LevelPolicy {
				break // an order could outlive its VM then; see dropDestroys
			}
			if v != nil && !owned {
				c.must(o.Incarnation < v.Incarnation, "S6", "host %s is told to destroy %s up to incarnation %s, and host %s owns it at %s", h.ID, o.Name, o.Incarnation, owner.ID, v.Incarnation)
			}
			if owned {
				c.must(o.Incarnation <= v.Incarnation, "S6", "host %s is told to destroy %s up to incarnation %s, which was never granted", h.ID, o.Name, o.Incarnation)
			}
		case OrderResume:
			c.must(owned && o.Incarnation == v.Incarnation, "S18", "host %s is told to resume %s, which it does not own at incarnation %s", h.ID, o.Name, o.Incarnation)
		case OrderMigrate:
			c.must(owned && o.Incarnation == v.Incarnation, "S7", "host %s is told to migrate %s, which it does not own at incarnation %s", h.ID, o.Name, o.Incarnation)
			if owned {
				w := c.s.Work(v.Work)
				c.must(w != nil && w.Type == WorkMigration && w.ID == o.Work && w.Target == o.Target && (w.Step == Migrating || w.Step == Fencing), "S7", "host %s is told to migrate %s without work that does", h.ID, o.Name)
			}
		default:
			c.must(false, "S4", "host %s has an order of kind %d", h.ID, o.Kind)
		}
	}
}
