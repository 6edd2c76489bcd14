package fsm

import (
	"fmt"
	"slices"
	"time"

	"lifeboat/fsm/logpb"
)

// setHost stores a changed copy of a host.
func (t *tx) setHost(h *Host) {
	t.touch(h.ID)
	t.s.hosts.set(h.ID, h)
}

// edit returns a copy of a host whose fields may be changed; its slices are
// shared until replaced.
func edit(h *Host) *Host {
	n := *h
	return &n
}

func (t *tx) hostState(h *Host, st Status, ha HAState, reason string) {
	if h.Status != st || h.HA != ha {
		h.Since = t.now
	}
	h.Status, h.HA, h.Reason = st, ha, reason
}

// current finds a host at an epoch; a late command for an older epoch changes
// nothing.
func (t *tx) current(id string, epoch uint64) (*Host, string) {
	h := t.s.Host(HostID(id))
	if h == nil || h.Status == Removed {
		return nil, fmt.Sprintf("there is no host %s", id)
	}
	if h.Epoch != epoch {
		return nil, fmt.Sprintf("host %s is in epoch %d, not %d: it has registered again since", id, h.Epoch, epoch)
	}
	return edit(h), ""
}

func (t *tx) hostRegister(c *logpb.HostRegister) string {
	if c.Id == "" || c.BootId == "" || c.MachineId == "" {
		return "a host must register with its id, machine id and boot id"
	}
	old := t.s.Host(HostID(c.Id))
	if old != nil && old.Status != Removed && old.MachineID != c.MachineId {
		return fmt.Sprintf("host %s is another machine (machine id %s); give this one an id of its own, or remove the old host first with `lifeboat host remove %s`", c.Id, old.MachineID, c.Id)
	}
	if no := old.Unwanted(); no != "" && t.s.Level >= LevelJoin {
		return no
	}
	if old.Late(c.Ticket) {
		return fmt.Sprintf("this registration of host %s is late: it was asked for at index %d, and the host has registered, died or was removed at %d; it must ask again", c.Id, c.Ticket, old.Settled)
	}
	h := &Host{ID: HostID(c.Id), Status: Up, Resource: Enabled, HA: HAAvailable, Since: t.now}
	if old != nil {
		h = edit(old)
		if old.Status == Removed {
			h.Resource, h.Orders, h.VMs, h.Fence = Enabled, nil, nil, nil
		}
	}
	h.Admitted, h.Barred = false, false
	if h.Stopping, h.Held = 0, 0; h.Resource == Enabled {
		h.Drain = nil
	}
	h.Heeds = 0 // its agent may have forgotten
	rebooted := old != nil && old.Status != Removed && old.BootID != "" && old.BootID != c.BootId
	if h.Evicted && !rebooted {
		if no := old.kept(c.Vms); no != "" {
			return no
		}
	}
	h.Evicted = false
	h.MachineID, h.BootID, h.Session, h.Version, h.Level = c.MachineId, c.BootId, c.Session, c.Version, c.FeatureLevel
	h.ProbeAddrs = c.ProbeAddrs
	h.Inventory = t.inventory(c.Inventory)
	h.Labels = labelsFromLog(c.Labels)
	h.Watchdog, h.BoundNS, h.Node = watchdogFromLog(c.Watchdog), c.WatchdogBoundNs, NodeID(c.NodeId)
	h.HardwareID = c.HardwareId
	h.Epoch++
	h.Settled = t.index
	h.Seq = 0
	h.Lease = nil // armed anew by the agent's next report (S12)
	h.Assigned = t.index

	switch {
	case rebooted:
		// A new boot id: whatever ran before this boot is gone (S9).
		h.Risen = 0
		h = t.bootProof(h, old)
	case old != nil:
		if old.HA == HAFenced {
			h.Risen = t.s.seq
		}
		h.Orders = retarget(h.Orders, h.Epoch, h.BootID)
	}
	if t.inFlight(h) {
		t.hold(h)
		t.event("HOST.CONNECT", Warning, hostSubject(h.ID), "host %s is back in epoch %d; it is held in Connecting until the fence attempt ends", h.ID, h.Epoch)
	} else {
		t.hostUp(h, old)
	}
	rep := &logpb.HostReport{Host: c.Id, Epoch: h.Epoch, Vms: c.Vms}
	if r := t.report(rep); r != "" {
		return r
	}
	if h.Status == Up {
		t.closeNotNeeded(h.ID)
	}
	t.inventoryAlerts(t.s.Host(h.ID), old)
	return ""
}

func (t *tx) inFlight(h *Host) bool { return h.inFlight(t.now) }

// hold keeps a host that is back in Connecting while a fence may be in flight.
func (t *tx) hold(h *Host) {
	t.hostState(h, Connecting, HARecovering, "back, but a fence attempt may still be in flight")
	t.setHost(h)
}

// hostUp makes a registered or re-heard host Up and closes what was open
// about it.
func (t *tx) hostUp(h, old *Host) {
	back := old == nil || old.Status != Up
	t.hostState(h, Up, HAAvailable, "")
	h.Evidence, h.Attempt, h.FenceFailure = nil, nil, ""
	h.Silent = 0
	t.setHost(h)
	if back {
		t.event("HOST.UP", Info, hostSubject(h.ID), "host %s is Up (epoch %d)", h.ID, h.Epoch)
	}
	for _, cause := range []string{"down", "silent", "agent stopped"} {
		t.resolve(AlertKey{AlertHost, string(h.ID), cause}, "host %s is Up again", h.ID)
	}
	t.resolve(AlertKey{AlertFence, string(h.ID), "failed"}, "host %s is Up again", h.ID)
}

// bootProof records that a machine has rebooted: its VMs of before are gone.
func (t *tx) bootProof(h, old *Host) *Host {
	h.Proof = &Proof{Kind: ProofBoot, By: "agent", Detail: fmt.Sprintf("boot id %s → %s", old.BootID, h.BootID), Time: t.now, Index: t.index}
	// An attempt in flight stays: it may cut the power of the new boot as well.
	t.event("HOST.REBOOT", Warning, hostSubject(h.ID), "host %s reports a new boot id: what ran there before is gone", h.ID)
	h = t.vmsGone(h, CauseHostReboot, ReasonHostReboot)
	h.Orders = retarget(h.Orders, h.Epoch, h.BootID)
	return h
}

// retarget gives standing orders a new epoch and boot id.
func retarget(orders []*Order, epoch uint64, boot string) []*Order {
	out := make([]*Order, len(orders))
	for i, o := range orders {
		n := *o
		n.Epoch, n.BootID = epoch, boot
		out[i] = &n
	}
	return out
}

// vmsGone marks every VM of a host as proven gone and sets the work of the
// protected ones to Scheduled. The host is returned, not stored.
func (t *tx) vmsGone(h *Host, cause Cause, reason Reason) *Host {
	t.setHost(h)
	vms := make([]VM, len(h.VMs))
	for i := range h.VMs {
		old := &h.VMs[i]
		v := *old
		if v.Power != PowerOff {
			v.Power, v.Reason, v.Since = PowerOff, reason, t.now
		}
		if t.s.Ignoring && v.Work == 0 {
			v.Wanted = false
		}
		wasOn := old.Power != PowerOff || old.Work != 0
		if w := t.s.Work(v.Work); w != nil && (w.Step == Investigating || w.Step == Fencing && old.LostSight()) {
			// It had left this host, or was missing on it, before the host died:
			// that death proves nothing about it (S18).
			t.investigate(w, fmt.Sprintf("host %s is proven dead, but the VM was not seen there: every other host is asked where it is", h.ID))
			v.Power, v.Reason, v.Since = old.Power, old.Reason, old.Since
			vms[i] = v
			continue
		}
		if w := t.s.Work(v.Work); w != nil && w.Type == WorkMigration && v.Protected() {
			t.investigate(w, fmt.Sprintf("host %s is proven dead; host %s, to which it was being migrated, is asked", h.ID, w.Target)) // S7
			vms[i] = v
			continue
		}
		v.Gone = v.Protected() || v.Incarnation != 0
		if w := t.s.Work(v.Work); w != nil && w.Type == WorkRelocation {
			n := *w
			n.Type = WorkHA // it is a recovery now
			t.putWork(&n)
		}
		if w := t.s.Work(v.Work); w != nil && w.Type.Stops() {
			t.endWork(&v, w, Done, fmt.Sprintf("stopped: host %s is proven dead", h.ID))
		}
		if v.Protected() && v.Wanted && v.Error == "" && (wasOn || v.Work != 0) {
			t.schedule(&v, h.ID, cause, fmt.Sprintf("host %s is proven dead", h.ID))
		} else if w := t.s.Work(v.Work); w != nil {
			t.endWork(&v, w, Cancelled, fmt.Sprintf("host %s is proven dead and the VM is not to run", h.ID))
		}
		vms[i] = v
	}
	h = edit(t.s.Host(h.ID))
	h.VMs = vms
	h.Orders = slices.DeleteFunc(slices.Clone(h.Orders), func(o *Order) bool { return o.Kind != OrderDestroy })
	h.Copies = nil
	t.resolveCopies(h.ID, fmt.Sprintf("host %s is proven dead", h.ID))
	return h
}

func (t *tx) hostSuspect(c *logpb.HostSuspect) string {
	h, no := t.current(c.Host, c.Epoch)
	if no != "" {
		return no
	}
	if h.Status != Up && h.Status != Disconnected {
		return ""
	}
	t.hostState(h, Alert, HASuspect, c.Reason)
	h.Silent = t.now - min(max(c.SilentNs, 0), t.now)
	h.Evidence = nil
	t.setHost(h)
	t.event("HOST.SUSPECT", Warning, hostSubject(h.ID), "host %s is suspect: %s", h.ID, c.Reason)
	return ""
}

// maxEvidence is how many findings are kept per suspicion.
const maxEvidence = 32

func (t *tx) hostEvidence(c *logpb.HostEvidence) string {
	h, no := t.current(c.Host, c.Epoch)
	if no != "" {
		return no
	}
	if h.Status == Up {
		return ""
	}
	ev := slices.Clone(h.Evidence)
	for _, e := range c.Evidence {
		n := Evidence{Source: e.Source, Verdict: Verdict(min(e.Verdict, uint32(Dead))), Detail: e.Detail, Time: t.now, Index: t.index}
		i := slices.IndexFunc(ev, func(o Evidence) bool { return o.Source == n.Source })
		if i >= 0 && ev[i].Verdict == n.Verdict && ev[i].Detail == n.Detail {
			continue
		}
		if i >= 0 {
			ev = slices.Delete(ev, i, i+1)
		}
		ev = append(ev, n)
		t.event("HOST.EVIDENCE", Info, hostSubject(h.ID), "%s says %s: %s", n.Source, n.Verdict, n.Detail)
	}
	if len(ev) > maxEvidence {
		ev = ev[len(ev)-maxEvidence:]
	}
	h.Evidence = ev
	if h.HA == HASuspect {
		t.hostState(h, h.Status, HAChecking, h.Reason)
	}
	t.setHost(h)
	return ""
}

// hostSeen ends a suspicion of a host that reports in its current epoch. From
// HostDown on, and after a goodbye, only a new registration counts (S10, S16).
func (t *tx) hostSeen(c *logpb.HostSeen) string {
	h, no := t.current(c.Host, c.Epoch)
	if no != "" {
		return no
	}
	switch h.Status {
	case Alert:
		if t.inFlight(h) {
			t.hold(h)
			return ""
		}
	case Connecting:
		if t.inFlight(h) {
			return fmt.Sprintf("a fence attempt on host %s may still be in flight until %s", h.ID, time.Unix(0, h.Attempt.End()).UTC().Format(time.TimeOnly))
		}
	default:
		return ""
	}
	t.hostUp(h, t.s.Host(h.ID))
	t.closeNotNeeded(h.ID)
	return ""
}

// closeNotNeeded ends the Fencing work of VMs that were running all along, when
// their host is back.
func (t *tx) closeNotNeeded(id HostID) {
	h := t.s.Host(id)
	for i := range h.VMs {
		old := &h.VMs[i]
		w := t.s.Work(old.Work)
		if w != nil && w.Step == Fencing && old.LostSight() {
			t.investigate(w, fmt.Sprintf("host %s is back without it; every host is asked where it is", id))
			continue
		}
		if w == nil || w.Step != Fencing || old.Power != PowerOn {
			continue
		}
		v := *old
		if w.Type == WorkMigration {
			t.sourceBack(h, &v, w)
			t.setVM(id, i, &v)
			continue
		}
		if h.order(OrderDestroy, v.ID) != nil || w.leaving() || h.restarts(&v, w) {
			t.givingUp(w, id)
			continue
		}
		t.endWork(&v, w, Done, fmt.Sprintf("not needed: host %s is back and the VM never stopped", id))
		t.setVM(id, i, &v)
	}
}

func (t *tx) hostUnproven(c *logpb.HostUnproven) string {
	h, no := t.current(c.Host, c.Epoch)
	if no != "" {
		return no
	}
	if h.Status == Up || h.Status == Down || h.HA == HADegraded && h.Reason == c.Reason {
		return ""
	}
	t.hostState(h, Alert, HADegraded, c.Reason)
	t.setHost(h)
	t.event("HOST.DEGRADED", Warning, hostSubject(h.ID), "host %s: %s; its VMs are not touched", h.ID, c.Reason)
	t.raise(AlertKey{AlertHost, string(h.ID), "silent"}, Critical, "The agent of host %s is silent, but the host is not proven dead: %s. Its VMs are not touched. Look at the agent there; if the host really is dead, run `lifeboat host confirm-dead %s`.", h.ID, c.Reason, h.ID)
	return ""
}

// unreadable begins the cause of an alert about a part of an inventory, so that
// no name of a part is taken for another cause.
const unreadable = "unreadable: "

// inventoryAlerts raises an alert for every part of an inventory that could
// not be read and resolves those that can be read again.
func (t *tx) inventoryAlerts(h, old *Host) {
	now := map[string]bool{}
	for _, p := range h.Inventory.Problems {
		now[p.Part] = true
		if old != nil && old.Inventory != nil && slices.Contains(old.Inventory.Problems, p) {
			continue
		}
		t.raise(AlertKey{AlertHost, string(h.ID), unreadable + p.Part}, Warning, "Host %s is Up, but a part of it could not be read: %s: %s. VMs that need it are not placed there.", h.ID, p.Part, p.Message)
	}
	if old == nil || old.Inventory == nil {
		return
	}
	for _, p := range old.Inventory.Problems {
		if !now[p.Part] {
			t.resolve(AlertKey{AlertHost, string(h.ID), unreadable + p.Part}, "%s can be read again", p.Part)
		}
	}
}
