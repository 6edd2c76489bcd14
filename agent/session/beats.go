package session

import (
	"slices"

	lifeboatv1 "lifeboat/api/lifeboat/v1"
)

// Beat is a shared directory into which this host writes a heartbeat. Its path is
// its identity among hosts.
type Beat struct {
	Path string
	Up   bool // it was written lately
}

// Beats tells which heartbeats are written, when that has changed.
func (s *Session) Beats(now Instant, list []Beat) Out {
	s.begin(now)
	var next []*lifeboatv1.Storage
	for _, b := range list {
		next = append(next, &lifeboatv1.Storage{Id: b.Path, Path: b.Path, Up: b.Up})
	}
	if !slices.EqualFunc(next, s.beats, func(x, y *lifeboatv1.Storage) bool { return x.Id == y.Id && x.Up == y.Up }) {
		s.beats = next
		s.conn.changed = true
	}
	return s.step()
}

// withBeats is an inventory together with the heartbeats.
func (s *Session) withBeats(inv *lifeboatv1.Inventory) *lifeboatv1.Inventory {
	if len(s.beats) == 0 {
		return inv
	}
	return &lifeboatv1.Inventory{Cpus: inv.Cpus, MemoryBytes: inv.MemoryBytes, Storages: inv.Storages, Networks: inv.Networks, Machines: inv.Machines,
		CpuModels: inv.CpuModels, Problems: inv.Problems, LibvirtGuests: inv.LibvirtGuests, Beats: s.beats}
}
