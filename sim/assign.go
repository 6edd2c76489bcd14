package sim

import (
	"crypto/sha256"
	"time"

	lifeboatv1 "lifeboat/api/lifeboat/v1"
	"lifeboat/fsm"
	"lifeboat/fsm/logpb"
)

// What follows says what the state means for a host. It is node/assign.go and
// parts of node/agents.go, and must stay like them; definitions are not sealed.

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
func assignment(s *fsm.State, h *fsm.Host) *lifeboatv1.Assignment {
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
		if p := order(s, h, o); p != nil {
			a.Orders = append(a.Orders, p)
		}
	}
	return a
}

// order writes an order for the agent; nil when there is nothing to start from.
func order(s *fsm.State, h *fsm.Host, o *fsm.Order) *lifeboatv1.Order {
	p := &lifeboatv1.Order{Id: uint64(o.ID), Vm: o.VM[:], Name: o.Name, Incarnation: uint64(o.Incarnation), Epoch: o.Epoch, BootId: o.BootID}
	switch o.Kind {
	case fsm.OrderStart:
		p.Kind = lifeboatv1.OrderKind_ORDER_KIND_START
		v := h.VM(o.VM)
		if v == nil || v.Spec == nil {
			return nil
		}
		xml := v.Spec.Definition()
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

// leaseChange is what must be committed about the lease that an agent says it
// runs under (S12); nil when nothing.
func leaseChange(s *fsm.State, h *fsm.Host, req *lifeboatv1.ReportRequest) *logpb.HostLease {
	l := req.GetLease()
	if !l.GetArmed() {
		if h.Lease == nil {
			return nil
		}
		return &logpb.HostLease{Host: string(h.ID), Epoch: h.Epoch, BootId: h.BootID}
	}
	// The watchdog is the one the agent has now: it may have lost the one it
	// registered with, and then the lease is no proof any more.
	kind := watchdogOf(req.Watchdog)
	c := &logpb.HostLease{Host: string(h.ID), Epoch: h.Epoch, Armed: true, BootId: h.BootID, DurationNs: l.DurationMs * int64(time.Millisecond),
		Watchdog: uint32(kind), BoundNs: req.WatchdogBoundMs * int64(time.Millisecond), Assignment: req.HaveAssignment}
	switch held := h.Lease; {
	case held != nil && held.DurationNS == c.DurationNs && held.Watchdog == kind && held.BoundNS == c.BoundNs:
		return nil
	case held == nil && req.HaveAssignment < assignmentIndex(s, h):
		return nil // it may have been told to give up the lease since
	case wantsLease(s, h) && c.DurationNs > 0 && c.DurationNs <= int64(s.Policy.Lease) && c.BoundNs >= 0 && c.BoundNs <= int64(s.Policy.WatchdogBound):
		return c
	case held != nil && held.Watchdog != kind:
		c.DurationNs, c.BoundNs = held.DurationNS, held.BoundNS
		return c
	}
	return nil // it will be told to change
}

func watchdogOf(k lifeboatv1.WatchdogKind) fsm.Watchdog {
	if k < 0 || k > lifeboatv1.WatchdogKind_WATCHDOG_KIND_SOFT {
		return fsm.WatchdogNone
	}
	return fsm.Watchdog(k)
}

func inventoryToLog(p *lifeboatv1.Inventory) *logpb.Inventory {
	out := &logpb.Inventory{Cpus: p.GetCpus(), MemoryBytes: p.GetMemoryBytes(), Networks: p.GetNetworks(), Machines: p.GetMachines(),
		CpuModels: p.GetCpuModels(), LibvirtGuests: p.GetLibvirtGuests()}
	for _, s := range p.GetStorages() {
		out.Storages = append(out.Storages, &logpb.Storage{Id: s.Id, Path: s.Path, Up: s.Up})
	}
	for _, s := range p.GetBeats() {
		out.Beats = append(out.Beats, &logpb.Storage{Id: s.Id, Path: s.Path, Up: s.Up})
	}
	for _, x := range p.GetProblems() {
		out.Problems = append(out.Problems, &logpb.Problem{Part: x.Part, Message: x.Message})
	}
	return out
}

// specToLog writes one spec for the log; definitions are kept of protected VMs.
func specToLog(s *fsm.State, h *fsm.Host, p *lifeboatv1.VMSpec) *logpb.Spec {
	spec := &logpb.Spec{Id: p.Id, Name: p.Name, Cpus: p.Cpus, MemoryBytes: p.MemoryBytes, Machine: p.Machine, Arch: p.Arch,
		CpuModel: p.CpuModel, Networks: p.Networks, Local: p.Local, Hash: p.Hash, Problem: p.Problem}
	for _, d := range p.Disks {
		spec.Disks = append(spec.Disks, &logpb.Disk{Path: d.Path, Storage: d.Storage, Readonly: d.Readonly, Shareable: d.Shareable, Network: d.Network})
	}
	if a := p.Protect; a != nil {
		spec.Protect = &logpb.Protection{On: a.On, Ha: a.Ha, Priority: a.Priority, MaxRestart: a.MaxRestart, MaxRelocate: a.MaxRelocate}
	}
	v := h.VM(fsm.VMID(p.Id))
	if v != nil && v.Protected() || p.Protect.GetOn() || s.Policy.ProtectDefault {
		spec.Definition = p.Definition
	}
	return spec
}
