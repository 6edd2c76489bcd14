package session

import (
	"fmt"
	"slices"

	lifeboatv1 "lifeboat/api/lifeboat/v1"
	"lifeboat/hypervisor"
	"lifeboat/hypervisor/domxml"
)

type specState struct {
	hashing bool

	wanted  []hypervisor.UUID // by the leader, in its order
	putting []hypervisor.UUID // under way
	retry   Instant
}

// stepSpecs reads the hashes that are due and sends the definitions that the
// leader asked for.
func (s *Session) stepSpecs() {
	p := &s.specs
	if !p.hashing {
		var batch []hypervisor.UUID
		for _, v := range s.list {
			if v.listed && v.op == opNone && len(batch) < hashBatch && s.due(v.hashDue) {
				batch = append(batch, v.id)
			}
		}
		if len(batch) > 0 {
			p.hashing = true
			s.do(ReadHashes{VMs: batch, Timeout: specTimeout})
		}
	}
	if len(p.putting) > 0 || len(p.wanted) == 0 || s.epoch == 0 || s.leaving || s.conn.target == nil || !s.due(p.retry) {
		return
	}
	n := min(len(p.wanted), specBatch)
	p.putting, p.wanted = p.wanted[:n:n], p.wanted[n:]
	s.do(PutSpecs{To: s.conn.target.Manager, Epoch: s.epoch, VMs: p.putting, Timeout: specTimeout})
}

// HashesRead answers [ReadHashes]. What is missing in hashes could not be read.
func (s *Session) HashesRead(now Instant, asked []hypervisor.UUID, hashes map[hypervisor.UUID][32]byte) Out {
	s.begin(now)
	s.specs.hashing = false
	for _, id := range asked {
		v := s.vms[id]
		if v == nil {
			continue
		}
		h, ok := hashes[id]
		if !ok {
			v.hashDue = now.Add(retryOp + s.jitter(retryHash))
			continue
		}
		v.hashDue = now.Add(hashEvery - s.jitter(hashEvery/4))
		if string(v.hash) != string(h[:]) {
			v.hash = h[:]
			s.conn.changed = true
		}
	}
	return s.step()
}

// wantSpecs takes over what the leader wants; it asks again until it has it.
func (s *Session) wantSpecs(list [][]byte) {
	p := &s.specs
	for _, b := range list {
		id, ok := uuidOf(b)
		if ok && !slices.Contains(p.wanted, id) && !slices.Contains(p.putting, id) {
			p.wanted = append(p.wanted, id)
		}
	}
}

// SpecsPut answers [PutSpecs].
func (s *Session) SpecsPut(now Instant, err error) Out {
	s.begin(now)
	p := &s.specs
	if err != nil {
		s.note(Warn, "definitions could not be sent", "error", err)
		p.retry = now.Add(retryOp)
	}
	p.putting = nil // the leader asks again for what it still lacks
	return s.step()
}

// Storages are the storages of the last inventory and the shared ones that it
// had before, for [Spec]. Do not change it.
func (s *Session) Storages() []hypervisor.Storage { return s.inv.now }

// Spec reads out of a definition what the managers must know. A definition
// that cannot be read becomes a spec that says so.
func Spec(def hypervisor.Definition, storages []hypervisor.Storage) *lifeboatv1.VMSpec {
	hash := SpecHash(def)
	spec := &lifeboatv1.VMSpec{Id: def.UUID[:], Hash: hash[:], Definition: def.XML}
	needs, err := domxml.Parse(def.XML)
	if err != nil {
		return &lifeboatv1.VMSpec{
			Id: def.UUID[:], Hash: hash[:], Name: needs.Name,
			Problem: fmt.Sprintf("its definition cannot be read: %v", err),
		}
	}
	spec.Name = needs.Name
	spec.Cpus = uint32(max(needs.VCPUs, 0))
	spec.MemoryBytes = needs.MemoryBytes
	spec.Machine, spec.Arch, spec.CpuModel = needs.Machine, needs.Arch, needs.CPUModel
	spec.Local = slices.Clone(needs.LocalReasons)
	shares := slices.ContainsFunc(storages, func(st hypervisor.Storage) bool { return StorageID(st) != "" })
	for _, d := range needs.Disks {
		w := wireDisk(d, storages)
		if w == nil {
			continue
		}
		spec.Disks = append(spec.Disks, w)
		switch { // S23
		case w.Network || w.Storage != "":
		case d.Device == "nvram":
			spec.Local = append(spec.Local, "its UEFI variables ("+d.Path+") are kept on this host")
		case bootFile(d):
			// Comes with the host's own system; a host without it fails the start
			// and another is tried.
		case shares && d.Kind == domxml.SourceFile:
			// A host that shares nothing may do so without our knowledge.
			spec.Local = append(spec.Local, "its disk "+d.Path+" is on no storage that this host is known to share")
		}
	}
	spec.Disks = append(spec.Disks, markOpen(spec.Disks, def, storages)...)
	for _, n := range needs.Networks {
		spec.Networks = append(spec.Networks, networkID(n.Kind, n.Name))
	}
	if p := needs.Protect; p != nil {
		spec.Protect = wireProtection(p)
	}
	return spec
}

// MissingSpec says that the definition of a VM could not be read at all. Its
// hash is that of none.
func MissingSpec(id hypervisor.UUID, err error) *lifeboatv1.VMSpec {
	return &lifeboatv1.VMSpec{Id: id[:], Hash: make([]byte, 32), Problem: fmt.Sprintf("its definition cannot be read: %v", err)}
}

func wireDisk(d domxml.Disk, storages []hypervisor.Storage) *lifeboatv1.Disk {
	if d.Optional {
		return nil // it starts without
	}
	w := &lifeboatv1.Disk{Path: d.Path, Readonly: d.ReadOnly, Shareable: d.Shareable, Backing: d.Device == "backing"}
	switch d.Kind {
	case domxml.SourceNetwork:
		w.Network, w.Path = true, d.URL()
	case domxml.SourceVolume:
		w.Path, w.Storage = d.Pool+"/"+d.Path, storageOfPool(storages, d.Pool)
	default:
		w.Storage = storageOf(storages, d.Path)
	}
	return w
}

func wireProtection(p *domxml.Protect) *lifeboatv1.Protection {
	w := &lifeboatv1.Protection{On: p.HA != "none", Ha: p.HA, Priority: p.Priority}
	if p.MaxRestart != nil {
		n := uint32(*p.MaxRestart)
		w.MaxRestart = &n
	}
	if p.MaxRelocate != nil {
		n := uint32(*p.MaxRelocate)
		w.MaxRelocate = &n
	}
	return w
}

// bootFile reports whether the domain only reads it to boot: no data is in it.
func bootFile(d domxml.Disk) bool {
	return d.ReadOnly && (d.Device == "kernel" || d.Device == "initrd" || d.Device == "dtb")
}
