package exchange

import (
	"crypto/sha256"
	"time"

	lifeboatv1 "lifeboat/api/lifeboat/v1"
	"lifeboat/fsm"
)

// AssignmentIndex grows with every change that a host's agent must be told.
func AssignmentIndex(s *fsm.State, h *fsm.Host) uint64 { return max(h.Assigned, s.ArmedIndex) }

// Reporting reports whether the state accepts reports of the host's epoch.
func Reporting(h *fsm.Host) bool {
	return h.Status == fsm.Up || h.Status == fsm.Alert || h.Status == fsm.Connecting
}

// WantsLease reports whether a host is to run under a self-fence lease (S12):
// HA is armed, lease is among its levels, and its watchdog makes it proof.
func WantsLease(s *fsm.State, h *fsm.Host) bool {
	return s.Armed && h.HasLevel(fsm.DriverLease) && s.Policy.ProvesDeath(h.Watchdog) && h.BoundNS <= int64(s.Policy.WatchdogBound)
}

// Definition reads the definition of a VM that is to be started; false when it
// cannot be read, and the order is held back.
type Definition func(v *fsm.VM) (xml []byte, ok bool)

// Assignment is everything the state says about a host's VMs.
func Assignment(s *fsm.State, h *fsm.Host, read Definition) *lifeboatv1.Assignment {
	a := &lifeboatv1.Assignment{Index: AssignmentIndex(s, h), Armed: s.Armed, Lease: &lifeboatv1.Lease{}, EmptyFirst: h.Held == fsm.HeldMigrate}
	if WantsLease(s, h) {
		a.Lease = &lifeboatv1.Lease{Armed: true, DurationMs: s.Policy.Lease.Milliseconds()}
	}
	for i := range h.VMs {
		v := &h.VMs[i]
		if v.Protected() || v.Incarnation != 0 {
			a.Vms = append(a.Vms, &lifeboatv1.AssignedVM{Id: v.ID[:], Incarnation: uint64(v.Incarnation), Protected: v.Protected(), Wanted: v.Wanted,
				AskGuest: v.Order().Gate == fsm.GateAgent, WatchGuest: v.Protected() && v.Guest().Watch&fsm.WatchPing != 0})
		}
	}
	for _, v := range s.Coming(h.ID) {
		a.Coming = append(a.Coming, &lifeboatv1.AssignedVM{Id: v.ID[:], Incarnation: uint64(v.Incarnation), Protected: v.Protected(), Wanted: v.Wanted})
	}
	for _, o := range h.Orders {
		if p := order(s, h, o, read); p != nil {
			a.Orders = append(a.Orders, p)
		}
	}
	return a
}

// hungGrace is how long a guest whose agent is silent may take to shut down: it may be the
// agent alone that is not well, and most do not hear of it.
const hungGrace = 15 * time.Second

// grace is how long a guest that is to be stopped may take to shut down by itself.
func grace(s *fsm.State, w *fsm.Work) time.Duration {
	switch {
	case w == nil:
	case w.Type == fsm.WorkForceStop, w.Cause == fsm.CauseWatchdog:
		return 0
	case w.Cause == fsm.CauseGuestSilent:
		return min(hungGrace, s.Policy.StopGrace)
	}
	return s.Policy.StopGrace
}

// order writes an order for the agent; nil when its definition cannot be read.
func order(s *fsm.State, h *fsm.Host, o *fsm.Order, read Definition) *lifeboatv1.Order {
	p := &lifeboatv1.Order{Id: uint64(o.ID), Vm: o.VM[:], Name: o.Name, Incarnation: uint64(o.Incarnation), Epoch: o.Epoch, BootId: o.BootID}
	switch o.Kind {
	case fsm.OrderStart:
		p.Kind = lifeboatv1.OrderKind_ORDER_KIND_START
		v := h.VM(o.VM)
		if v == nil || v.Spec == nil {
			return nil
		}
		xml, ok := read(v)
		if !ok {
			return nil
		}
		// Not Spec.Hash: that is of what the host has now, which may be unreadable
		// while the last good definition is kept (S23).
		sum := sha256.Sum256(xml)
		p.Definition, p.DefinitionHash = xml, sum[:]
	case fsm.OrderStop:
		p.Kind = lifeboatv1.OrderKind_ORDER_KIND_STOP
		p.GraceMs = grace(s, s.Work(o.Work)).Milliseconds()
	case fsm.OrderDestroy:
		p.Kind = lifeboatv1.OrderKind_ORDER_KIND_DESTROY
	case fsm.OrderResume:
		p.Kind = lifeboatv1.OrderKind_ORDER_KIND_RESUME
	case fsm.OrderMigrate:
		if !o.Abort && !s.Expected(o) {
			return nil
		}
		p.Kind = lifeboatv1.OrderKind_ORDER_KIND_MIGRATE
		p.Target, p.Abort, p.WithinMs = string(o.Target), o.Abort, s.Policy.MigrateTimeout.Milliseconds()
		if to := s.Host(o.Target); to != nil && to.Inventory != nil {
			p.TargetUri = to.Inventory.MigrateURI
		}
	}
	return p
}
