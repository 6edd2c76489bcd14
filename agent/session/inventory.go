package session

import (
	"cmp"
	"path"
	"slices"
	"strings"

	lifeboatv1 "lifeboat/api/lifeboat/v1"
	"lifeboat/hypervisor"
)

type inventoryState struct {
	inFlight bool
	tried    bool                  // one ended, well or not, since the last registration began
	at       Instant               // when the last one ended
	last     *lifeboatv1.Inventory // never changed in place
	failure  string

	// told is what the managers know: the registration's, or that of a report
	// that was acknowledged. offered is sent with report number offer and later.
	registered, told, offered *lifeboatv1.Inventory
	offer                     uint64

	// known are the shared storages ever seen by this process: one that is not
	// listed any more is reported as down instead of not at all.
	known map[string]*lifeboatv1.Storage
	now   []hypervisor.Storage
}

func (s *Session) stepInventory() {
	p := &s.inv
	every := s.cfg.InventoryEvery
	if p.failure != "" || len(p.last.GetProblems()) > 0 || s.ioError() {
		// libvirtd is often slower to start than the agent; and VMs wait for
		// their storage.
		every = min(every, retryInventory)
	}
	if p.inFlight || p.tried && !s.due(p.at.Add(every)) {
		return
	}
	p.inFlight = true
	s.do(ReadInventory{Timeout: invTimeout})
}

// ioError reports whether a VM is paused because of its storage (S18).
func (s *Session) ioError() bool {
	for _, v := range s.vms {
		if v.dom.State == hypervisor.StatePaused && v.dom.Reason == hypervisor.ReasonIOError {
			return true
		}
	}
	return false
}

// InventoryRead answers [ReadInventory]. guests: libvirt-guests is enabled on
// this machine (S8).
func (s *Session) InventoryRead(now Instant, inv hypervisor.Inventory, guests bool, err error) Out {
	s.begin(now)
	p := &s.inv
	if !p.inFlight {
		return s.step()
	}
	p.inFlight, p.tried = false, true
	p.at = now
	if err != nil {
		if p.failure == "" {
			s.conn.changed = true
		}
		p.failure = err.Error()
		return s.step()
	}
	p.failure = ""
	p.now = withLost(inv.Storages, p.now)
	next := wireInventory(inv, guests)
	next.Storages = s.storages(inv.Storages)
	if p.last == nil || !sameStorages(p.last.Storages, next.Storages) || len(p.last.Problems) != len(next.Problems) {
		s.conn.changed = true
	}
	p.last = next
	if s.offerInventory() != nil {
		s.conn.changed = true
	}
	return s.step()
}

// offerInventory is what the next report has to say about what this host has;
// nil when the managers know. Storages and problems are in every report.
func (s *Session) offerInventory() *lifeboatv1.Inventory {
	p := &s.inv
	if p.last == nil || sameEquipment(p.last, p.told) {
		return nil
	}
	if p.offered == nil || !sameEquipment(p.offered, p.last) {
		p.offered, p.offer = p.last, s.conn.seq+1
	}
	return p.last
}

// inventoryAcked: everything up to a report of this epoch is committed.
func (s *Session) inventoryAcked(seq uint64) {
	if p := &s.inv; p.offered != nil && seq >= p.offer {
		p.told, p.offered = p.offered, nil
	}
}

func sameEquipment(a, b *lifeboatv1.Inventory) bool {
	return b != nil && a.Cpus == b.Cpus && near(a.MemoryBytes, b.MemoryBytes) && a.LibvirtGuests == b.LibvirtGuests && a.MigrateUri == b.MigrateUri &&
		slices.Equal(a.Networks, b.Networks) && slices.Equal(a.Machines, b.Machines) && slices.Equal(a.CpuModels, b.CpuModels)
}

// near: what the kernel keeps for itself changes a little.
func near(a, b uint64) bool { return max(a, b)-min(a, b) <= max(a, b)/16 }

// withLost adds the shared storages that were there before: a disk on one that
// does not answer is not a local disk.
func withLost(now, before []hypervisor.Storage) []hypervisor.Storage {
	for _, old := range before {
		id := StorageID(old)
		if id != "" && !slices.ContainsFunc(now, func(st hypervisor.Storage) bool { return StorageID(st) == id }) {
			now = append(slices.Clip(now), old)
		}
	}
	return now
}

// storages are those that another host may see as well, the lost ones too.
func (s *Session) storages(list []hypervisor.Storage) []*lifeboatv1.Storage {
	p := &s.inv
	if p.known == nil {
		p.known = map[string]*lifeboatv1.Storage{}
	}
	for id, k := range p.known {
		p.known[id] = &lifeboatv1.Storage{Id: id, Path: k.Path}
	}
	for _, st := range list {
		if id := StorageID(st); id != "" {
			p.known[id] = &lifeboatv1.Storage{Id: id, Path: st.Path, Up: true}
		}
	}
	out := make([]*lifeboatv1.Storage, 0, len(p.known))
	for _, k := range p.known {
		out = append(out, k)
	}
	slices.SortFunc(out, func(a, b *lifeboatv1.Storage) int { return cmp.Compare(a.Id, b.Id) })
	return out
}

func sameStorages(a, b []*lifeboatv1.Storage) bool {
	return slices.EqualFunc(a, b, func(x, y *lifeboatv1.Storage) bool { return x.Id == y.Id && x.Up == y.Up })
}

// inventory is what a registration says; nothing that could not be read.
func (s *Session) inventory() *lifeboatv1.Inventory {
	if s.inv.last != nil {
		return s.inv.last
	}
	inv := &lifeboatv1.Inventory{}
	if s.inv.failure != "" {
		inv.Problems = []*lifeboatv1.Problem{{Part: "inventory", Message: s.inv.failure}}
	}
	return inv
}

func wireInventory(inv hypervisor.Inventory, guests bool) *lifeboatv1.Inventory {
	w := &lifeboatv1.Inventory{
		Cpus: uint32(max(inv.CPUs, 0)), MemoryBytes: inv.MemoryBytes,
		Machines: inv.Machines, CpuModels: inv.CPUModels, LibvirtGuests: guests, MigrateUri: inv.MigrateURI,
	}
	for _, n := range inv.Networks {
		w.Networks = append(w.Networks, networkID(n.Kind, n.Name))
	}
	slices.Sort(w.Networks)
	for _, p := range inv.Problems {
		w.Problems = append(w.Problems, &lifeboatv1.Problem{Part: strings.TrimSpace(p.Part + " " + p.Name), Message: p.Message})
	}
	return w
}

func networkID(kind hypervisor.NetworkKind, name string) string { return string(kind) + ":" + name }

// StorageID names a storage so that two hosts that give the same id open the
// same bytes under the same reference: what is mounted, and where. It is empty
// for a storage that is not shared.
func StorageID(st hypervisor.Storage) string {
	switch {
	case !st.Shared:
		return ""
	case st.Path == "":
		return cmp.Or(st.Source, st.Name) + "#" + st.Name // used as pool/volume only
	case st.Source == "":
		return path.Clean(st.Path)
	}
	return st.Source + "@" + path.Clean(st.Path)
}

// storageOf finds the shared storage that a file lies on: a directory declared
// by the operator before a pool, a deeper one before the one around it.
func storageOf(list []hypervisor.Storage, file string) string {
	best, id := hypervisor.Storage{}, ""
	file = path.Clean(file)
	for _, st := range list {
		if !st.Shared || st.Path == "" || !strings.HasPrefix(file, strings.TrimSuffix(path.Clean(st.Path), "/")+"/") {
			continue
		}
		declared, had := st.Kind == declaredKind, best.Kind == declaredKind
		if id == "" || declared && !had || declared == had && len(path.Clean(st.Path)) > len(path.Clean(best.Path)) {
			best, id = st, StorageID(st)
		}
	}
	return id
}

// declaredKind is the kind of a storage that the operator named as a directory.
const declaredKind = "shared-dir"

// storageOfPool finds the shared storage that a pool is.
func storageOfPool(list []hypervisor.Storage, pool string) string {
	for _, st := range list {
		if st.Name == pool && st.Kind != declaredKind {
			return StorageID(st)
		}
	}
	return ""
}
