package fsm

import (
	"fmt"
	"slices"

	"lifeboat/fsm/logpb"
)

// Conversions between the log's messages and the state's records.

func inventoryFromLog(p *logpb.Inventory) *Inventory {
	if p == nil {
		return &Inventory{}
	}
	inv := &Inventory{MigrateURI: p.MigrateUri, CPUs: p.Cpus, MemoryBytes: p.MemoryBytes, Networks: p.Networks, Machines: p.Machines,
		CPUModels: p.CpuModels, LibvirtGuests: p.LibvirtGuests}
	for _, s := range p.Storages {
		inv.Storages = append(inv.Storages, Storage{s.Id, s.Path, s.Up})
	}
	for _, s := range p.Beats {
		inv.Beats = append(inv.Beats, Storage{s.Id, s.Path, s.Up})
	}
	for _, x := range p.Problems {
		inv.Problems = append(inv.Problems, Problem{x.Part, x.Message})
	}
	return inv
}

// InventoryToLog writes an inventory for a command.
func InventoryToLog(inv *Inventory) *logpb.Inventory {
	if inv == nil {
		return nil
	}
	p := &logpb.Inventory{MigrateUri: inv.MigrateURI, Cpus: inv.CPUs, MemoryBytes: inv.MemoryBytes, Networks: inv.Networks, Machines: inv.Machines,
		CpuModels: inv.CPUModels, LibvirtGuests: inv.LibvirtGuests}
	for _, s := range inv.Storages {
		p.Storages = append(p.Storages, &logpb.Storage{Id: s.ID, Path: s.Path, Up: s.Up})
	}
	for _, s := range inv.Beats {
		p.Beats = append(p.Beats, &logpb.Storage{Id: s.ID, Path: s.Path, Up: s.Up})
	}
	for _, x := range inv.Problems {
		p.Problems = append(p.Problems, &logpb.Problem{Part: x.Part, Message: x.Message})
	}
	return p
}

// watchdogFromLog reads a kind it does not know as none, which proves nothing.
func watchdogFromLog(n uint32) Watchdog {
	if n > uint32(WatchdogSoft) {
		return WatchdogNone
	}
	return Watchdog(n)
}

func labelsFromLog(in []*logpb.Label) []Label {
	var out []Label
	for _, l := range in {
		out = append(out, Label{l.Key, l.Value})
	}
	return out
}

func labelsToLog(in []Label) []*logpb.Label {
	var out []*logpb.Label
	for _, l := range in {
		out = append(out, &logpb.Label{Key: l.Key, Value: l.Value})
	}
	return out
}

func settingsFromLog(in []*logpb.Setting) []Setting {
	var out []Setting
	for _, s := range in {
		out = append(out, Setting{s.Key, s.Value})
	}
	return out
}

func settingsToLog(in []Setting) []*logpb.Setting {
	var out []*logpb.Setting
	for _, s := range in {
		out = append(out, &logpb.Setting{Key: s.Key, Value: s.Value})
	}
	return out
}

func fenceFromLog(in []*logpb.FenceLevel) []FenceLevel {
	var out []FenceLevel
	for _, l := range in {
		out = append(out, FenceLevel{Driver: l.Driver, Address: l.Address, User: l.User, Secret: l.Secret,
			Identity: l.Identity, TimeoutNS: l.TimeoutNs, Options: settingsFromLog(l.Options),
			Executor: l.Executor, Pinned: l.Pinned, Check: checkFromLog(l.Check)})
	}
	return out
}

func fenceToLog(in []FenceLevel) []*logpb.FenceLevel {
	var out []*logpb.FenceLevel
	for _, l := range in {
		out = append(out, &logpb.FenceLevel{Driver: l.Driver, Address: l.Address, User: l.User, Secret: l.Secret,
			Identity: l.Identity, TimeoutNs: l.TimeoutNS, Options: settingsToLog(l.Options),
			Executor: l.Executor, Pinned: l.Pinned, Check: checkToLog(l.Check)})
	}
	return out
}

// HAModes and Priorities are the words operators use, by number.
func HAModes() []string { return []string{"restart", "always", "none"} }

// Priorities lists the restart priorities, lowest first.
func Priorities() []string { return []string{"lowest", "low", "medium", "high", "highest"} }

func checkProtection(p *logpb.Protection) string {
	if p.Ha != "" && !slices.Contains(HAModes(), p.Ha) {
		return fmt.Sprintf("ha: %q must be restart, always or none", p.Ha)
	}
	if p.Priority != "" && !slices.Contains(Priorities(), p.Priority) {
		return fmt.Sprintf("priority: %q must be lowest, low, medium, high or highest", p.Priority)
	}
	return ""
}

// policyFromLog changes what p names and keeps the rest. Words it does not
// know (from a domain's metadata) keep the default.
func policyFromLog(old *VMPolicy, p *logpb.Protection) *VMPolicy {
	if p == nil || p.Ha == "" && p.Priority == "" && p.MaxRestart == nil && p.MaxRelocate == nil && p.Failback == nil && p.LiveMigration == nil {
		return old
	}
	n := defaultVMPolicy()
	if old != nil {
		n = *old
	}
	if i := slices.Index(HAModes(), p.Ha); i >= 0 {
		n.HA = HAMode(i)
	}
	if i := slices.Index(Priorities(), p.Priority); i >= 0 {
		n.Priority = PriorityLowest + Priority(i)
	}
	if p.MaxRestart != nil {
		n.MaxRestart = p.MaxRestart
	}
	if p.MaxRelocate != nil {
		n.MaxRelocate = p.MaxRelocate
	}
	if p.Failback != nil {
		n.Stays = !*p.Failback
	}
	if p.LiveMigration != nil {
		n.NoLive = !*p.LiveMigration
	}
	return &n
}

func policyToLog(p *VMPolicy) *logpb.Protection {
	if p == nil {
		return nil
	}
	l := &logpb.Protection{Ha: p.HA.String(), Priority: p.Priority.String(), MaxRestart: p.MaxRestart, MaxRelocate: p.MaxRelocate}
	no := false
	if p.Stays {
		l.Failback = &no
	}
	if p.NoLive {
		l.LiveMigration = &no
	}
	return l
}
