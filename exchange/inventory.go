package exchange

import (
	"slices"
	"strings"

	"google.golang.org/protobuf/proto"

	lifeboatv1 "lifeboat/api/lifeboat/v1"
	"lifeboat/fsm"
	"lifeboat/fsm/logpb"
)

// inventoryChange is the host's inventory with what the report says about
// storages and problems, and about the rest if it does, if that is news.
func inventoryChange(s *fsm.State, h *fsm.Host, req *lifeboatv1.ReportRequest) *logpb.Inventory {
	old := h.Inventory
	if req.Inventory != nil {
		inv := inventoryToLog(&lifeboatv1.Inventory{
			Cpus: req.Inventory.Cpus, MemoryBytes: req.Inventory.MemoryBytes, Networks: req.Inventory.Networks, Machines: req.Inventory.Machines,
			MigrateUri: req.Inventory.MigrateUri, CpuModels: req.Inventory.CpuModels, LibvirtGuests: req.Inventory.LibvirtGuests, Storages: req.Storages, Problems: req.Problems, Beats: req.Beats})
		if s.Level < fsm.LevelPolicy {
			inv.MigrateUri = ""
		}
		if proto.Equal(inv, fsm.InventoryToLog(old)) {
			return nil
		}
		return inv
	}
	if old == nil || len(req.Storages) == 0 && len(req.Problems) == 0 && len(old.Problems) == 0 && len(req.Beats) == 0 && len(old.Beats) == 0 {
		return nil
	}
	storages, problems, beats := old.Storages, []fsm.Problem(nil), []fsm.Storage(nil)
	if len(req.Storages) > 0 {
		storages = nil
		for _, p := range req.Storages {
			storages = append(storages, fsm.Storage{ID: p.Id, Path: p.Path, Up: p.Up})
		}
	}
	for _, p := range req.Problems {
		problems = append(problems, fsm.Problem{Part: p.Part, Message: p.Message})
	}
	for _, b := range req.Beats {
		beats = append(beats, fsm.Storage{ID: b.Id, Path: b.Path, Up: b.Up})
	}
	if slices.Equal(storages, old.Storages) && slices.Equal(problems, old.Problems) && slices.Equal(beats, old.Beats) {
		return nil
	}
	inv := *old
	inv.Storages, inv.Problems, inv.Beats = storages, problems, beats
	return fsm.InventoryToLog(&inv)
}

func inventoryToLog(p *lifeboatv1.Inventory) *logpb.Inventory {
	out := &logpb.Inventory{MigrateUri: Text(p.GetMigrateUri()), Cpus: p.GetCpus(), MemoryBytes: p.GetMemoryBytes(), Networks: texts(p.GetNetworks()), Machines: texts(p.GetMachines()),
		CpuModels: texts(p.GetCpuModels()), LibvirtGuests: p.GetLibvirtGuests()}
	for _, s := range p.GetStorages() {
		out.Storages = append(out.Storages, &logpb.Storage{Id: Text(s.Id), Path: Text(s.Path), Up: s.Up})
	}
	for _, s := range p.GetBeats() {
		out.Beats = append(out.Beats, &logpb.Storage{Id: Text(s.Id), Path: Text(s.Path), Up: s.Up})
	}
	for _, x := range p.GetProblems() {
		out.Problems = append(out.Problems, &logpb.Problem{Part: Text(x.Part), Message: Text(x.Message)})
	}
	return out
}

func texts(in []string) []string {
	out := make([]string, len(in))
	for i, s := range in {
		out[i] = Text(s)
	}
	return out
}

// Text makes text fit for the log.
func Text(s string) string { return strings.ToValidUTF8(s, "?") }
