package node

import (
	"crypto/sha256"
	"slices"

	lifeboatv1 "lifeboat/api/lifeboat/v1"
	"lifeboat/fsm"
)

// assignmentIndex grows with every change that a host's agent must be told.
func assignmentIndex(s *fsm.State, h *fsm.Host) uint64 { return max(h.Assigned, s.ArmedIndex) }

// reporting reports whether the state accepts reports of the host's epoch.
func reporting(h *fsm.Host) bool {
	return h.Status == fsm.Up || h.Status == fsm.Alert || h.Status == fsm.Connecting
}

// wantsLease reports whether a host is to run under a self-fence lease (S12):
// HA is armed, lease is among its levels, and its watchdog makes it proof.
func wantsLease(s *fsm.State, h *fsm.Host) bool {
	return s.Armed && h.HasLevel(fsm.DriverLease) && s.Policy.ProvesDeath(h.Watchdog) && h.BoundNS <= int64(s.Policy.WatchdogBound)
}

// assignment is everything the state says about a host's VMs.
func (n *Node) assignment(s *fsm.State, h *fsm.Host) *lifeboatv1.Assignment {
	a := &lifeboatv1.Assignment{Index: assignmentIndex(s, h), Armed: s.Armed, Lease: &lifeboatv1.Lease{}}
	if wantsLease(s, h) {
		a.Lease = &lifeboatv1.Lease{Armed: true, DurationMs: s.Policy.Lease.Milliseconds()}
	}
	for i := range h.VMs {
		v := &h.VMs[i]
		if v.Protected() || v.Incarnation != 0 {
			a.Vms = append(a.Vms, &lifeboatv1.AssignedVM{Id: v.ID[:], Incarnation: uint64(v.Incarnation), Protected: v.Protected(), Wanted: v.Wanted})
		}
	}
	for _, o := range h.Orders {
		if p := n.order(s, h, o); p != nil {
			a.Orders = append(a.Orders, p)
		}
	}
	return a
}

// order writes an order for the agent; nil when its definition cannot be read.
func (n *Node) order(s *fsm.State, h *fsm.Host, o *fsm.Order) *lifeboatv1.Order {
	p := &lifeboatv1.Order{Id: uint64(o.ID), Vm: o.VM[:], Name: o.Name, Incarnation: uint64(o.Incarnation), Epoch: o.Epoch, BootId: o.BootID}
	switch o.Kind {
	case fsm.OrderStart:
		p.Kind = lifeboatv1.OrderKind_ORDER_KIND_START
		v := h.VM(o.VM)
		if v == nil || v.Spec == nil {
			return nil
		}
		xml, err := n.sealer.open(v.Spec.Definition(), v.ID[:])
		if err != nil {
			n.log.Error("the definition of a VM cannot be read: its start order is held back", "vm", v.Name, "error", err)
			return nil
		}
		// Not Spec.Hash: that is of what the host has now, which may be unreadable
		// while the last good definition is kept (S23).
		sum := sha256.Sum256(xml)
		p.Definition, p.DefinitionHash = xml, sum[:]
	case fsm.OrderStop:
		p.Kind = lifeboatv1.OrderKind_ORDER_KIND_STOP
		p.GraceMs = s.Policy.StopGrace.Milliseconds()
	case fsm.OrderDestroy:
		p.Kind = lifeboatv1.OrderKind_ORDER_KIND_DESTROY
	case fsm.OrderResume:
		p.Kind = lifeboatv1.OrderKind_ORDER_KIND_RESUME
	}
	return p
}

// managers lists the nodes that an agent may turn to.
func (n *Node) managers() []*lifeboatv1.Manager {
	f := n.raft.GetConfiguration()
	if f.Error() != nil {
		return nil
	}
	var out []*lifeboatv1.Manager
	for _, srv := range f.Configuration().Servers {
		out = append(out, &lifeboatv1.Manager{Id: string(srv.ID), Addr: string(srv.Address)})
	}
	slices.SortFunc(out, func(a, b *lifeboatv1.Manager) int { return slices.Compare([]byte(a.Id), []byte(b.Id)) })
	return out
}
