package fsm

import (
	"encoding/binary"
	"slices"
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

	packed string // see parts
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

	disks []diskShape
	sum   uint64 // hash of all this
}

// Disk of a VM.
type Disk struct {
	Path      string
	Storage   string // id of the storage it lies on; "" = not known as shared
	ReadOnly  bool
	Shareable bool
	Network   bool
	Only      uint8 // DiskDefined or DiskOpen; 0 = both, or the VM does not run
	Backing   bool  // what is not overwritten yet is read from it
}

// Where a disk of a running VM is only: somebody has edited its definition, or taken
// a snapshot, since it was started.
const (
	DiskDefined uint8 = 1 // it will be opened by the next start
	DiskOpen    uint8 = 2 // it is open, and the next start does not open it
)

// diskShape is a disk whose path lacks what other VMs' disks do not share.
type diskShape struct {
	Disk
	end string // of the path, after what is lacking
}

// Definition is a copy of the domain's XML, compressed and sealed; nil when it
// is not stored. Only those of protected VMs are (S23).
func (s *Spec) Definition() []byte {
	if !s.Defines() {
		return nil
	}
	definition, _ := s.parts()
	return []byte(definition)
}

// Defines reports whether the definition is stored.
func (s *Spec) Defines() bool {
	definition, _ := s.parts()
	return definition != ""
}

// parts are the definition, and what the paths of the Shape's disks do not share.
func (s *Spec) parts() (definition, paths string) {
	if s.packed == "" {
		return "", ""
	}
	n := binary.LittleEndian.Uint32([]byte(s.packed[:4]))
	return s.packed[4 : 4+n], s.packed[4+n:]
}

// What a disk's path has of its own begins with a number whose lowest two bits
// are one of these, or zero: then its other bits are the length of a text.
const (
	ownUUID  = 1 // a UUID follows, as 16 bytes
	lastUUID = 2 // the one of the disk before; nothing follows
)

// Disks lists the disks of the VM's definition: what a start needs.
func (s *Spec) Disks() []Disk { return s.but(DiskOpen) }

// Open lists the disks that the VM has open while it runs.
func (s *Spec) Open() []Disk { return s.but(DiskDefined) }

func (s *Spec) but(only uint8) []Disk {
	return slices.DeleteFunc(s.allDisks(), func(d Disk) bool { return d.Only == only })
}

func (s *Spec) allDisks() []Disk {
	if len(s.disks) == 0 {
		return nil
	}
	out := make([]Disk, len(s.disks))
	_, rest := s.parts()
	last := ""
	for i, d := range s.disks {
		own := ""
		switch rest[0] & 3 {
		case ownUUID:
			last = VMID([]byte(rest[1:17])).String()
			own, rest = last, rest[17:]
		case lastUUID:
			own, rest = last, rest[1:]
		default:
			n, k := binary.Uvarint([]byte(rest[:min(len(rest), binary.MaxVarintLen64)]))
			end := k + int(n>>2)
			own, rest = rest[k:end], rest[end:]
		}
		out[i] = d.Disk
		out[i].Path += own + d.end
	}
	return out
}

// splitPath cuts a path where others are likely to differ: what comes before
// they have in common, and what follows a UUID too.
func splitPath(path string) (begin, own, end string) {
	n := commonPath(path)
	begin, own = path[:n], path[n:]
	if _, ok := leadingUUID(own); ok {
		return begin, own[:36], own[36:]
	}
	return begin, own, ""
}

// pack writes a definition and what disks do not share.
func pack(definition []byte, disks []*logpb.Disk) string {
	var room [256]byte
	b, last := room[:0], ""
	for _, d := range disks {
		_, own, _ := splitPath(d.Path)
		switch id, ok := leadingUUID(own); {
		case ok && own == last:
			b = append(b, lastUUID)
		case ok:
			b = append(append(b, ownUUID), id[:]...)
			last = own
		default:
			b = append(binary.AppendUvarint(b, uint64(len(own))<<2), own...)
		}
	}
	return joined(definition, b)
}

// joined is what Spec.parts takes apart: the length of the definition in four bytes,
// which is less than a field of their own would take, and both.
func joined[T string | []byte](definition []byte, paths T) string {
	var all strings.Builder
	all.Grow(4 + len(definition) + len(paths))
	all.Write(binary.LittleEndian.AppendUint32(nil, uint32(len(definition))))
	all.Write(definition)
	all.WriteString(string(paths))
	return all.String()
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
	_, paths := s.parts()
	n.packed = joined(nil, paths)
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
		begin, _, end := splitPath(d.Path)
		add(begin)
		add(end)
		add(d.Storage)
		k = append(k, bit(d.Readonly)|bit(d.Shareable)<<1|bit(d.Network)<<2|byte(d.Only&3)<<3|bit(d.Backing)<<5)
	}
	x.key = k
	if s := x.known[string(k)]; s != nil {
		return s
	}
	s := &Shape{CPUs: p.Cpus, MemoryBytes: p.MemoryBytes, Machine: p.Machine, Arch: p.Arch, CPUModel: p.CpuModel,
		Networks: p.Networks, Local: p.Local, Problem: p.Problem, sum: xxhash.Sum64(k)}
	for _, d := range p.Disks {
		begin, _, end := splitPath(d.Path)
		s.disks = append(s.disks, diskShape{Disk{Path: strings.Clone(begin), Storage: d.Storage, ReadOnly: d.Readonly, Shareable: d.Shareable, Network: d.Network,
			Only: uint8(d.Only & 3), Backing: d.Backing}, strings.Clone(end)})
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
	s := &Spec{Shape: x.shape(p), Defined: now}
	s.packed = pack(p.Definition, p.Disks)
	copy(s.Hash[:], p.Hash)
	return s
}

func specToLog(s *Spec) *logpb.Spec {
	if s == nil {
		return nil
	}
	p := &logpb.Spec{Cpus: s.CPUs, MemoryBytes: s.MemoryBytes, Machine: s.Machine, Arch: s.Arch, CpuModel: s.CPUModel,
		Networks: s.Networks, Local: s.Local, Definition: s.Definition(), Problem: s.Problem, Hash: s.Hash[:]}
	for _, d := range s.allDisks() {
		p.Disks = append(p.Disks, &logpb.Disk{Path: d.Path, Storage: d.Storage, Readonly: d.ReadOnly, Shareable: d.Shareable, Network: d.Network,
			Only: uint32(d.Only), Backing: d.Backing})
	}
	return p
}
