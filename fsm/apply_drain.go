package fsm

import (
	"fmt"

	"lifeboat/fsm/logpb"
)

// drain begins to empty a host; h is being edited.
func (t *tx) drain(h *Host, force bool) {
	if d := h.Drain; d != nil {
		n := *d
		n.Force = n.Force || force
		h.Drain = &n
		return
	}
	h.Drain = &Drain{Since: t.now, Total: h.ToMove(), Force: force, By: t.actor}
}

// resourced tells that a host has another resource state. What carries a maintenance on
// or ends it is linked to its begin. h is being edited.
func (t *tx) resourced(old, h *Host) {
	begun := EventID(0)
	if old.Drain != nil {
		begun = old.Drain.Begun
	}
	id := t.linked(begun, "", "HOST.RESOURCE", Info, hostSubject(h.ID), fmt.Sprintf("host %s: %s → %s", h.ID, old.Resource, h.Resource))
	h.drainBegun(id)
}

// drainBegun notes the event that began the emptying of a host. h is being edited.
func (h *Host) drainBegun(id EventID) {
	if h.Drain != nil && h.Drain.Begun == 0 {
		d := *h.Drain
		d.Begun, h.Drain = id, &d
	}
}

// maintenance puts a host into maintenance: its VMs are moved away first. h is being
// edited.
func (t *tx) maintenance(h *Host, force bool) {
	switch {
	case h.Resource == Maintenance:
		return
	case h.Resource == PrepareForMaintenance || h.Resource == ErrorInMaintenance:
		if h.Resource == ErrorInMaintenance && force && (h.Drain == nil || !h.Drain.Force) {
			// Who waits for the outcome is not to take that of before for it.
			h.Resource = PrepareForMaintenance
			t.resolve(drainAlert(h.ID), "the maintenance is forced by %s", t.actor)
		}
		t.drain(h, force)
		return
	case h.ToMove() == 0:
		h.Resource = Maintenance
		return
	}
	h.Resource = PrepareForMaintenance
	t.drain(h, force)
}

// Drained states of HostDrained.
const (
	DrainDone  = 1
	DrainStuck = 2
	DrainOn    = 3
)

func drainAlert(h HostID) AlertKey { return AlertKey{AlertHost, string(h), "maintenance"} }

// NotEmptied is the open alert that a host cannot be emptied; nil: there is none.
func (s *State) NotEmptied(h HostID) *AlertRecord { return s.OpenAlert(drainAlert(h)) }

// hostDrained is the leader's word about how far a maintenance has come.
func (t *tx) hostDrained(c *logpb.HostDrained) string {
	old := t.s.Host(HostID(c.Host))
	if no := t.later(LevelPolicy); no != "" || old == nil {
		return no
	}
	if old.Resource != PrepareForMaintenance && old.Resource != ErrorInMaintenance {
		return ""
	}
	h := edit(old)
	switch c.State {
	case DrainDone:
		if h.ToMove() > 0 {
			return "" // late
		}
		h.Resource, h.Drain = Maintenance, nil
		t.resolve(drainAlert(h.ID), "nothing runs there any more")
	case DrainStuck:
		if h.Drain != nil && h.Drain.Force && !c.Force {
			return "" // late
		}
		h.Resource = ErrorInMaintenance
		t.raise(drainAlert(h.ID), Warning, "Host %s cannot be emptied: %s. These VMs run on. `lifeboat host maintenance on %s --force` stops them and starts them elsewhere where that is possible.", h.ID, c.Reason, h.ID)
	case DrainOn:
		h.Resource = PrepareForMaintenance
		t.resolve(drainAlert(h.ID), "the VMs can be moved")
	default:
		return "a maintenance is done, stuck, or goes on"
	}
	if h.Resource != old.Resource {
		t.resourced(old, h)
	}
	t.setHost(h)
	return ""
}

// hostStopping: the operating system of a host is going down. What that means for
// its VMs is said by the policy of this moment.
func (t *tx) hostStopping(c *logpb.HostStopping) string {
	if no := t.later(LevelPolicy); no != "" {
		return no
	}
	h, no := t.current(c.Host, c.Epoch)
	if no != "" {
		return no
	}
	going := ShutsDown
	if c.Reboot {
		going = Reboots
	}
	if c.Session != "" && c.Session != h.Session || h.Status == Down || h.Stopping == going {
		return ""
	}
	h.Stopping, h.Held = going, t.s.Policy.holding(going)
	h.Assigned = t.index
	what := map[Holding]string{HeldFreeze: "its VMs wait for it", HeldRecover: "its VMs start elsewhere once they are off", HeldMigrate: "its VMs are migrated away first"}[h.Held]
	if h.Held == HeldMigrate {
		t.drain(h, false)
	}
	h.drainBegun(t.linked(0, "", "HOST.STOPPING", Warning, hostSubject(h.ID), fmt.Sprintf("the operating system of host %s is %s: %s (shutdown_policy %s)", h.ID, h.Stopping, what, t.s.Policy.ShutdownPolicy)))
	t.setHost(h)
	return ""
}

// hostHeeds: the agent of a host has acted on HA being disarmed.
func (t *tx) hostHeeds(c *logpb.HostHeeds) string {
	if no := t.later(LevelPolicy); no != "" {
		return no
	}
	h, no := t.current(c.Host, c.Epoch)
	if no != "" || c.Index > max(h.Assigned, t.s.ArmedIndex) || c.Index <= h.Heeds {
		return no
	}
	h.Heeds = c.Index
	t.setHost(h)
	for w := range t.s.OpenWork() {
		if _, from := t.s.VM(w.VM); from != nil && w.Type == WorkMigration && w.Target == h.ID {
			t.assigned(from.ID) // it may begin
		}
	}
	if !t.s.Armed && len(t.s.Unheeding()) == 0 {
		t.event("HA.DISARM", Info, "cluster", "every host that reports has acted on HA being disarmed")
	}
	return ""
}

// manageAgain ends the time in which VMs were as if unmanaged: what runs now is
// wanted on, what does not is not, and of what nobody knows it is as it was.
func (t *tx) manageAgain() {
	t.s.Ignoring = false
	for id, old := range t.s.Hosts() {
		for i := range old.VMs {
			v := t.s.Host(id).VMs[i]
			on := v.Power != PowerOff && v.Power != PowerReportMissing && !v.Gone
			if !v.Protected() || v.Work != 0 || v.Wanted == on || v.Power == PowerUnknown && !v.Gone {
				continue
			}
			v.Wanted = on
			t.setVM(id, i, &v)
			t.assigned(id)
		}
	}
}

// Permitted reports whether a recovery was permitted before HA was disarmed: it is
// finished.
func (s *State) Permitted(v *VM, w *Work) bool {
	return !s.Armed && !s.Waking && !s.Ignoring && v.Gone && w.Type == WorkHA && w.Created < s.ArmedAt
}
