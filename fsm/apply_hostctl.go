package fsm

import (
	"fmt"
	"slices"

	"lifeboat/fsm/logpb"
)

// The actions of a HostControl.
const (
	HostEnable         = 1
	HostDisable        = 2
	HostMaintenanceOn  = 3
	HostMaintenanceOff = 4
	HostRemove         = 5
	HostAdmit          = 6
)

func (t *tx) hostControl(c *logpb.HostControl) string {
	old := t.s.Host(HostID(c.Host))
	switch {
	case c.Action == HostAdmit:
		return t.hostAdmit(c.Host, old)
	case c.Action == HostRemove && c.Force && old == nil && c.Host != "":
		return t.hostBar(HostID(c.Host))
	}
	if old == nil || old.Status == Removed {
		return fmt.Sprintf("there is no host %s; `lifeboat host list` shows them", c.Host)
	}
	h := edit(old)
	switch c.Action {
	case HostEnable, HostMaintenanceOff:
		if h.Resource == Enabled {
			return ""
		}
		h.Resource, h.Drain = Enabled, nil
		t.resolve(drainAlert(h.ID), "host %s is enabled again", h.ID)
	case HostDisable:
		h.Resource, h.Drain = Disabled, nil
		t.resolve(drainAlert(h.ID), "host %s is disabled: it is not emptied any more", h.ID)
	case HostMaintenanceOn:
		switch no := t.later(LevelPolicy); {
		case no == "":
			t.maintenance(h, c.Force)
		case c.Force:
			return no
		default:
			h.Resource = Maintenance
		}
	case HostRemove:
		return t.hostRemove(h, c.Force)
	default:
		return "a host can be enabled, disabled, put into maintenance or removed"
	}
	if h.Resource != old.Resource {
		t.resourced(old, h)
	}
	if h.Resource != old.Resource || h.Drain != old.Drain {
		t.setHost(h)
	}
	return ""
}

// hostAdmit lets a removed host come back, or another machine in its place.
func (t *tx) hostAdmit(id string, old *Host) string {
	switch no := t.later(LevelJoin); {
	case no != "":
		return no
	case old == nil || old.Status != Removed && !old.Barred:
		return fmt.Sprintf("host %s was not removed; `lifeboat host list` shows the hosts", id)
	case old.Unwanted() != "":
		t.readmit(old)
		t.event("HOST.ADMIT", Info, hostSubject(old.ID), "host %s, which was removed, may register again", old.ID)
	}
	return ""
}

// Unwanted says why a host may not register whatever certificate it has; "" = it may.
func (h *Host) Unwanted() string {
	if h == nil || h.Admitted || h.Status != Removed && !h.Barred {
		return ""
	}
	return fmt.Sprintf("host %s was removed from the cluster; an operator lets it come back with `lifeboat host admit %s`", h.ID, h.ID)
}

// hostBar refuses a host that has never come: whoever joined by that name stays out.
func (t *tx) hostBar(id HostID) string {
	if no := t.later(LevelJoin); no != "" {
		return no
	}
	t.dropTokens(MemberHost, string(id))
	t.setHost(&Host{ID: id, Epoch: 1, Inventory: &Inventory{}, Status: Removed, Resource: Enabled, HA: HADisabled, Reason: "removed by " + t.actor, Since: t.now, Settled: t.index})
	t.event("HOST.REMOVE", Warning, hostSubject(id), "host %s, which has never registered, may not come", id)
	return ""
}

func (t *tx) hostRemove(h *Host, force bool) string {
	if (h.Status == Up || h.Status == Connecting) && !force {
		return fmt.Sprintf("host %s still reports; stop its agent first", h.ID)
	}
	for i := range h.VMs {
		v := &h.VMs[i]
		if v.Protected() {
			return fmt.Sprintf("host %s still owns the protected VM %s; move it or unprotect it first", h.ID, v.Name)
		}
	}
	for i := range h.VMs {
		old := &h.VMs[i]
		v := *old
		if w := t.s.Work(v.Work); w != nil {
			t.endWork(&v, w, Cancelled, fmt.Sprintf("host %s was removed", h.ID))
		}
		t.resolveAll(AlertVM, v.ID.String(), fmt.Sprintf("host %s was removed", h.ID))
		t.s.owner.delete(v.ID)
	}
	if t.s.Level >= LevelPolicy && len(h.VMs) > 0 {
		t.dropDestroys()
	}
	h.VMs, h.Orders, h.Copies, h.Evidence, h.Lease, h.FenceFailure, h.Risen, h.Evicted = nil, nil, nil, nil, nil, "", 0, false
	h.Admitted, h.Barred = false, false
	h.Drain, h.Stopping, h.Held, h.Heeds, h.Expects = nil, 0, 0, 0, 0
	t.hostState(h, Removed, HADisabled, "removed by "+t.actor)
	h.Settled = t.index
	t.setHost(h)
	t.dropTokens(MemberHost, string(h.ID))
	t.event("HOST.REMOVE", Warning, hostSubject(h.ID), "host %s was removed", h.ID)
	t.resolveAll(AlertHost, string(h.ID), fmt.Sprintf("host %s was removed", h.ID))
	t.resolveAll(AlertFence, string(h.ID), fmt.Sprintf("host %s was removed", h.ID))
	t.resolveCopies(h.ID, fmt.Sprintf("host %s was removed", h.ID))
	return ""
}

// dropDestroys drops what hosts are told to destroy of VMs that are forgotten. One that
// appears again is a new one, and begins below the incarnations of those orders (S6).
func (t *tx) dropDestroys() {
	for id, h := range t.s.Hosts() {
		forgotten := func(o *Order) bool {
			v, owner := t.s.VM(o.VM)
			return o.Kind == OrderDestroy && (v == nil || v.Incarnation < o.Incarnation || v.Incarnation == o.Incarnation && owner.ID != id)
		}
		if slices.ContainsFunc(h.Orders, forgotten) {
			n := edit(t.s.Host(id))
			n.Orders = slices.DeleteFunc(slices.Clone(n.Orders), forgotten)
			n.Assigned = t.index
			t.setHost(n)
		}
	}
}

func (t *tx) hostFenceLevels(c *logpb.HostFenceLevels) string {
	old := t.s.Host(HostID(c.Host))
	if old == nil || old.Status == Removed {
		return fmt.Sprintf("there is no host %s; it must register once before it can be given fence levels", c.Host)
	}
	h := edit(old)
	h.Fence = keepChecks(old.Fence, fenceFromLog(c.Levels))
	for i, l := range h.Fence {
		if no := l.checkExecutor(h.ID); no != "" {
			return fmt.Sprintf("fence level %d (%s): %s", i+1, l.Driver, no)
		}
	}
	t.judge(h, c.Checks, true)
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
	t.fencePath(h)
	return ""
}
