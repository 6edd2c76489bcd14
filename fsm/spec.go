package fsm

import (
	"encoding/binary"
	"strings"

	"github.com/cespare/xxhash/v2"

	"lifeboat/fsm/logpb"
)

// Spec is what a VM needs, read from its definition. A state may hold a million
// of them, so what VMs have in common is shared and the rest is packed.
type Spec struct {
	*Shape           // never nil
	Hash    [32]byte // of the definition
	Defined int64    // unix ns when it was committed

	definition []byte
	paths      []byte // the rest of the path of each of the Shape's disks, after its length
}

// Shape is the part of a spec that many VMs have in common. It is shared and
// never changed.
type Shape struct {
	CPUs        uint32
	MemoryBytes uint64
	Machine     string
	Arch        string
	CPUModel    string
	Networks    []string
	Local       []string // why it cannot start elsewhere; empty = it can
	Problem     string   // the definition could not be read

	disks []Disk // with the part of their paths that they have in common
	sum   uint64 // hash of all this
}

// Disk of a VM.
type Disk struct {
	Path      string
	Storage   string // id of the storage it lies on; "" = not known as shared
	ReadOnly  bool
	Shareable bool
	Network   bool
}

// Definition is the domain's XML, compressed and sealed; nil when it is not
// stored. Only those of protected VMs are (S23).
func (s *Spec) Definition() []byte { return s.definition }

// Disks lists the VM's disks. The paths are copies.
func (s *Spec) Disks() []Disk {
	if len(s.disks) == 0 {
		return nil
	}
	out := make([]Disk, len(s.disks))
	rest := s.paths
	for i, d := range s.disks {
		n, k := binary.Uvarint(rest)
		end := k + int(n>>1)
		own := rest[k:end]
		if n&1 == 1 {
			d.Path += VMID(own[:16]).String()
			own = own[16:]
		}
		d.Path += string(own)
		out[i], rest = d, rest[end:]
	}
	return out
}

// packPaths writes what disks do not share. Most files begin with a UUID, which
// is written as its 16 bytes; the lowest bit of a length says so.
func packPaths(disks []*logpb.Disk) []byte {
	var room [256]byte
	b := room[:0]
	for _, d := range disks {
		own := d.Path[commonPath(d.Path):]
		if id, ok := leadingUUID(own); ok {
			b = binary.AppendUvarint(b, uint64(len(own)-36+16)<<1|1)
			b = append(append(b, id[:]...), own[36:]...)
			continue
		}
		b = append(binary.AppendUvarint(b, uint64(len(own))<<1), own...)
	}
	return append(make([]byte, 0, len(b)), b...)
}

// leadingUUID reads a UUID in the form that VMID.String writes.
func leadingUUID(s string) (id VMID, ok bool) {
	if len(s) < 36 {
		return id, false
	}
	id, err := ParseVMID(s[:36])
	return id, err == nil && id.String() == s[:36]
}

// commonPath is how much of a path other VMs are likely to have too: all before
// the file, or before the first directory that looks like somebody's id.
func commonPath(path string) int {
	end, digits := 0, 0
	for i := range len(path) {
		switch c := path[i]; {
		case c == '/':
			end, digits = i+1, 0
		case c >= '0' && c <= '9':
			if digits++; digits > 4 {
				return end
			}
		}
	}
	return end
}

// undefined is s without a definition.
func (s *Spec) undefined() *Spec {
	n := *s
	n.definition = nil
	return &n
}

// broken is s as it was last read, with the news that it could not be read
// again.
func (s *Spec) broken(x *shapes, problem string, hash [32]byte) *Spec {
	n, p := *s, specToLog(s)
	p.Problem = problem
	n.Shape, n.Hash = x.shape(p), hash
	return &n
}

// shapes finds equal shapes again. What it remembers makes no difference to
// what the state says.
type shapes struct {
	known map[string]*Shape
	key   []byte
}

// manyShapes is when it starts anew: VMs that share nothing are not worth it.
const manyShapes = 1 << 14

func newShapes() *shapes { return &shapes{known: map[string]*Shape{}} }

func (x *shapes) shape(p *logpb.Spec) *Shape {
	k := binary.AppendUvarint(x.key[:0], uint64(p.Cpus))
	k = binary.AppendUvarint(k, p.MemoryBytes)
	add := func(s string) { k = append(binary.AppendUvarint(k, uint64(len(s))), s...) }
	list := func(l []string) {
		k = binary.AppendUvarint(k, uint64(len(l)))
		for _, s := range l {
			add(s)
		}
	}
	add(p.Machine)
	add(p.Arch)
	add(p.CpuModel)
	list(p.Networks)
	list(p.Local)
	add(p.Problem)
	for _, d := range p.Disks {
		add(d.Path[:commonPath(d.Path)])
		add(d.Storage)
		k = append(k, bit(d.Readonly)|bit(d.Shareable)<<1|bit(d.Network)<<2)
	}
	x.key = k
	if s := x.known[string(k)]; s != nil {
		return s
	}
	s := &Shape{CPUs: p.Cpus, MemoryBytes: p.MemoryBytes, Machine: p.Machine, Arch: p.Arch, CPUModel: p.CpuModel,
		Networks: p.Networks, Local: p.Local, Problem: p.Problem, sum: xxhash.Sum64(k)}
	for _, d := range p.Disks {
		s.disks = append(s.disks, Disk{Path: strings.Clone(d.Path[:commonPath(d.Path)]), Storage: d.Storage, ReadOnly: d.Readonly, Shareable: d.Shareable, Network: d.Network})
	}
	if len(x.known) >= manyShapes {
		clear(x.known)
	}
	x.known[string(k)] = s
	return s
}

func bit(b bool) byte {
	if b {
		return 1
	}
	return 0
}

func specFromLog(x *shapes, p *logpb.Spec, now int64) *Spec {
	s := &Spec{Shape: x.shape(p), Defined: now, definition: p.Definition, paths: packPaths(p.Disks)}
	copy(s.Hash[:], p.Hash)
	return s
}

func specToLog(s *Spec) *logpb.Spec {
	if s == nil {
		return nil
	}
	p := &logpb.Spec{Cpus: s.CPUs, MemoryBytes: s.MemoryBytes, Machine: s.Machine, Arch: s.Arch, CpuModel: s.CPUModel,
		Networks: s.Networks, Local: s.Local, Definition: s.Definition(), Problem: s.Problem, Hash: s.Hash[:]}
	for _, d := range s.Disks() {
		p.Disks = append(p.Disks, &logpb.Disk{Path: d.Path, Storage: d.Storage, Readonly: d.ReadOnly, Shareable: d.Shareable, Network: d.Network})
	}
	return p
}
