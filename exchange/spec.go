package exchange

import (
	lifeboatv1 "lifeboat/api/lifeboat/v1"
	"lifeboat/fsm"
	"lifeboat/fsm/logpb"
)

// Spec writes what a VM needs for the log, without its definition.
func Spec(p *lifeboatv1.VMSpec) *logpb.Spec {
	spec := &logpb.Spec{Id: p.Id, Name: Text(p.Name), Cpus: p.Cpus, MemoryBytes: p.MemoryBytes, Machine: Text(p.Machine), Arch: Text(p.Arch),
		CpuModel: Text(p.CpuModel), Networks: texts(p.Networks), Local: texts(p.Local), Hash: p.Hash, Problem: Text(p.Problem)}
	for _, d := range p.Disks {
		spec.Disks = append(spec.Disks, &logpb.Disk{Path: Text(d.Path), Storage: Text(d.Storage), Readonly: d.Readonly, Shareable: d.Shareable, Network: d.Network,
			Only: d.Only, Backing: d.Backing})
	}
	if a := p.Protect; a != nil {
		spec.Protect = &logpb.Protection{On: a.On, Ha: Text(a.Ha), Priority: Text(a.Priority), MaxRestart: a.MaxRestart, MaxRelocate: a.MaxRelocate,
			Failback: a.Failback, LiveMigration: a.LiveMigration}
	}
	return spec
}

// KeepsDefinition reports whether the definition of a VM of the host is kept:
// that of one that is, or is about to be, protected.
func KeepsDefinition(s *fsm.State, h *fsm.Host, p *lifeboatv1.VMSpec) bool {
	v := h.VM(fsm.VMID(p.Id))
	return v != nil && v.Protected() || p.Protect.GetOn() || s.Policy.ProtectDefault
}
