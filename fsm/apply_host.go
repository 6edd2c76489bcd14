package fsm

import (
	"fmt"
	"slices"
	"time"

	"lifeboat/fsm/logpb"
)

// setHost stores a changed copy of a host.
func (t *tx) setHost(h *Host) { t.s.hosts.set(h.ID, h) }

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
	h := &Host{ID: HostID(c.Id), Status: Up, Resource: Enabled, HA: HAAvailable, Since: t.now}
	if old != nil {
		h = edit(old)
		if old.Status == Removed {
			h.Resource, h.Orders, h.VMs, h.Fence = Enabled, nil, nil, nil
		}
	}
	rebooted := old != nil && old.Status != Removed && old.BootID != c.BootId
	h.MachineID, h.BootID, h.Session, h.Version, h.Level = c.MachineId, c.BootId, c.Session, c.Version, c.FeatureLevel
	h.ProbeAddrs = c.ProbeAddrs
	h.Inventory = inventoryFromLog(c.Inventory)
	h.Labels = labelsFromLog(c.Labels)
	h.Watchdog, h.BoundNS, h.Node = Watchdog(c.Watchdog), c.WatchdogBoundNs, NodeID(c.NodeId)
	h.Epoch++
	h.Seq = 0
	h.Lease = nil // armed anew by the agent's next report (S12)
	h.Assigned = t.index

	wasFencing := old != nil && old.HA == HAFencing
	switch {
	case rebooted:
		// A new boot id: whatever ran before this boot is gone (S9).
		h = t.bootProof(h, old)
	case old != nil:
		h.Orders = retarget(h.Orders, h.Epoch, h.BootID)
	}
	if wasFencing && !rebooted && h.Attempt != nil && h.Attempt.Open && t.now < h.Attempt.Until {
		// The power may still be cut behind our back (S10).
		t.hostState(h, Connecting, HARecovering, "back, but a fence attempt may still be in flight")
		t.setHost(h)
		t.event("HOST.CONNECT", Warning, hostSubject(h.ID), "host %s is back in epoch %d; it is held in Connecting until the fence attempt ends", h.ID, h.Epoch)
	} else {
		t.hostUp(h, old)
	}
	rep := &logpb.HostReport{Host: c.Id, Epoch: h.Epoch, Vms: c.Vms}
	if r := t.report(rep); r != "" {
		return r
	}
	t.inventoryAlerts(t.s.Host(h.ID), old)
	return ""
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
	h.Attempt = nil
	t.event("HOST.REBOOT", Warning, hostSubject(h.ID), "host %s reports a new boot id: what ran there before is gone", h.ID)
	h = t.vmsGone(h, CauseHostReboot, ReasonHostReboot)
	h.Orders = retarget(slices.DeleteFunc(slices.Clone(h.Orders), func(o *Order) bool { return o.Kind != OrderDestroy }), h.Epoch, h.BootID)
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
	vms := make([]*VM, len(h.VMs))
	for i, old := range h.VMs {
		v := *old
		if v.Power != PowerOff {
			v.Power, v.Reason, v.Since = PowerOff, reason, t.now
		}
		wasOn := old.Power != PowerOff || old.Work != 0
		v.Gone = v.Protected() || v.Incarnation != 0
		if w := t.s.Work(v.Work); w != nil && w.Type == WorkStop {
			t.endWork(&v, w, Done, fmt.Sprintf("stopped: host %s is proven dead", h.ID))
		}
		if v.Protected() && v.Wanted && (wasOn || v.Work != 0) {
			t.schedule(&v, h.ID, cause, fmt.Sprintf("host %s is proven dead", h.ID))
		}
		vms[i] = &v
	}
	h = edit(t.s.Host(h.ID))
	h.VMs = vms
	h.Orders = slices.DeleteFunc(slices.Clone(h.Orders), func(o *Order) bool { return o.Kind != OrderDestroy })
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
	h.Silent = t.now - c.SilentNs
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
// HostDown on, only a new registration counts (S10).
func (t *tx) hostSeen(c *logpb.HostSeen) string {
	h, no := t.current(c.Host, c.Epoch)
	if no != "" {
		return no
	}
	switch h.Status {
	case Alert:
	case Connecting:
		if h.Attempt != nil && h.Attempt.Open && t.now < h.Attempt.Until {
			return fmt.Sprintf("a fence attempt on host %s may still be in flight until %s", h.ID, time.Unix(0, h.Attempt.Until).UTC().Format(time.TimeOnly))
		}
	default:
		return ""
	}
	t.hostUp(h, t.s.Host(h.ID))
	t.closeNotNeeded(h.ID)
	return ""
}

// closeNotNeeded ends the Fencing work of VMs that were running all along.
func (t *tx) closeNotNeeded(id HostID) {
	h := t.s.Host(id)
	for i, old := range h.VMs {
		w := t.s.Work(old.Work)
		if w == nil || w.Step != Fencing || old.Power != PowerOn {
			continue
		}
		v := *old
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

// hostLeave is a clean stop of the agent, or a silent host nobody needs to
// investigate (S19). The lease is withdrawn: it proves nothing any more (S16).
func (t *tx) hostLeave(c *logpb.HostLeave) string {
	h, no := t.current(c.Host, c.Epoch)
	if no != "" {
		return no
	}
	if c.Session != "" && h.Session != c.Session {
		return fmt.Sprintf("another agent has registered as host %s since", h.ID)
	}
	if h.Status == Down || h.Status == Disconnected {
		return ""
	}
	h.Lease = nil
	h.Silent = t.now
	t.hostState(h, Disconnected, HAAvailable, c.Reason)
	t.setHost(h)
	t.event("HOST.DISCONNECT", Warning, hostSubject(h.ID), "host %s is Disconnected: %s", h.ID, c.Reason)
	if n := h.RunsProtected(); n > 0 {
		t.raise(AlertKey{AlertHost, string(h.ID), "agent stopped"}, Warning, "The agent of host %s has stopped while %d protected VMs run there: nobody watches them. Start it again; after agent_stop_grace the host is investigated.", h.ID, n)
	}
	return ""
}

func (t *tx) hostLease(c *logpb.HostLease) string {
	h, no := t.current(c.Host, c.Epoch)
	if no != "" {
		return no
	}
	if h.BootID != c.BootId {
		return "the lease is of another boot"
	}
	if !c.Armed {
		if h.Lease == nil {
			return ""
		}
		h.Lease = nil
		t.setHost(h)
		t.event("LEASE.WITHDRAW", Info, hostSubject(h.ID), "the self-fence lease of host %s was withdrawn", h.ID)
		return ""
	}
	l := &Lease{Armed: true, BootID: c.BootId, DurationNS: c.DurationNs, Watchdog: Watchdog(c.Watchdog), BoundNS: c.BoundNs}
	switch {
	case !t.s.Armed:
		return "HA is disarmed: no lease is armed"
	case h.Status == Down:
		return fmt.Sprintf("host %s is Down: it must register again first", h.ID)
	case !h.HasLevel(DriverLease):
		return fmt.Sprintf("lease is not among the fence levels of host %s", h.ID)
	case l.DurationNS > int64(t.s.Policy.Lease) || l.BoundNS > int64(t.s.Policy.WatchdogBound):
		return fmt.Sprintf("the lease of host %s (%s, watchdog within %s) is longer than the policy allows", h.ID,
			time.Duration(l.DurationNS), time.Duration(l.BoundNS))
	}
	if h.Lease != nil && *h.Lease == *l {
		return ""
	}
	h.Lease = l
	t.setHost(h)
	t.event("LEASE.ARM", Info, hostSubject(h.ID), "host %s runs under a self-fence lease of %s (%s watchdog, within %s)", h.ID,
		time.Duration(l.DurationNS), l.Watchdog, time.Duration(l.BoundNS))
	return ""
}

func (t *tx) hostControl(c *logpb.HostControl) string {
	old := t.s.Host(HostID(c.Host))
	if old == nil || old.Status == Removed {
		return fmt.Sprintf("there is no host %s; `lifeboat host list` shows them", c.Host)
	}
	h := edit(old)
	switch c.Action {
	case 1, 4:
		if h.Resource == Enabled {
			return ""
		}
		h.Resource = Enabled
	case 2:
		h.Resource = Disabled
	case 3:
		h.Resource = Maintenance
	case 5:
		return t.hostRemove(h)
	default:
		return "a host can be enabled, disabled, put into maintenance or removed"
	}
	if h.Resource != old.Resource {
		t.setHost(h)
		t.event("HOST.RESOURCE", Info, hostSubject(h.ID), "host %s: %s → %s", h.ID, old.Resource, h.Resource)
	}
	return ""
}

func (t *tx) hostRemove(h *Host) string {
	if h.Status == Up || h.Status == Connecting {
		return fmt.Sprintf("host %s still reports; stop its agent first", h.ID)
	}
	for _, v := range h.VMs {
		if v.Protected() {
			return fmt.Sprintf("host %s still owns the protected VM %s; move it or unprotect it first", h.ID, v.Name)
		}
	}
	for _, v := range h.VMs {
		t.s.owner.delete(v.ID)
	}
	h.VMs, h.Orders, h.Evidence, h.Lease = nil, nil, nil, nil
	t.hostState(h, Removed, HADisabled, "removed by "+t.actor)
	t.setHost(h)
	t.event("HOST.REMOVE", Warning, hostSubject(h.ID), "host %s was removed", h.ID)
	for _, cause := range []string{"down", "silent", "agent stopped"} {
		t.resolve(AlertKey{AlertHost, string(h.ID), cause}, "host %s was removed", h.ID)
	}
	return ""
}

func (t *tx) hostFenceLevels(c *logpb.HostFenceLevels) string {
	old := t.s.Host(HostID(c.Host))
	if old == nil || old.Status == Removed {
		return fmt.Sprintf("there is no host %s; it must register once before it can be given fence levels", c.Host)
	}
	h := edit(old)
	h.Fence = fenceFromLog(c.Levels)
	if h.Lease != nil && !h.HasLevel(DriverLease) {
		h.Lease = nil
	}
	h.Assigned = t.index
	t.setHost(h)
	var names []string
	for _, l := range h.Fence {
		names = append(names, l.Driver)
	}
	t.event("HOST.FENCE.SET", Info, hostSubject(h.ID), "fence levels of host %s: %v", h.ID, names)
	return ""
}

// inventoryAlerts raises an alert for every part of an inventory that could
// not be read and resolves those that can be read again.
func (t *tx) inventoryAlerts(h, old *Host) {
	now := map[string]bool{}
	for _, p := range h.Inventory.Problems {
		now[p.Part] = true
		if old != nil && old.Inventory != nil && slices.Contains(old.Inventory.Problems, p) {
			continue
		}
		t.raise(AlertKey{AlertHost, string(h.ID), p.Part}, Warning, "Host %s is Up, but a part of it could not be read: %s: %s. VMs that need it are not placed there.", h.ID, p.Part, p.Message)
	}
	if old == nil || old.Inventory == nil {
		return
	}
	for _, p := range old.Inventory.Problems {
		if !now[p.Part] {
			t.resolve(AlertKey{AlertHost, string(h.ID), p.Part}, "%s can be read again", p.Part)
		}
	}
}
