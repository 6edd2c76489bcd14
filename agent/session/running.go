package session

import (
	"crypto/sha256"
	"slices"

	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/proto"

	lifeboatv1 "lifeboat/api/lifeboat/v1"
	"lifeboat/hypervisor"
	"lifeboat/hypervisor/domxml"
)

// Only says where a disk of a running VM is only.
const (
	onlyDefined = 1
	onlyOpen    = 2
)

// SpecHash is the hash of what Spec says: that of the definition, or another one
// while the domain runs with other disks.
func SpecHash(def hypervisor.Definition) [32]byte {
	if len(def.Running) == 0 {
		return def.Hash
	}
	needs, err := domxml.Parse(def.XML)
	if err != nil {
		return def.Hash
	}
	var defined []*lifeboatv1.Disk
	for _, d := range needs.Disks {
		if w := wireDisk(d, nil); w != nil {
			defined = append(defined, w)
		}
	}
	added := markOpen(defined, def, nil)
	sum, differs := def.Hash[:], len(added) > 0
	for _, d := range slices.Concat(defined, added) {
		if differs = differs || d.Only != 0; d.Only != 0 {
			b, err := proto.MarshalOptions{Deterministic: true}.Marshal(d)
			if err != nil {
				return def.Hash
			}
			sum = protowire.AppendBytes(slices.Clip(sum), b)
		}
	}
	if !differs {
		return def.Hash
	}
	return sha256.Sum256(sum)
}

// markOpen marks the disks of a definition that the running domain has not open, and
// returns those that only it has. Whether two domains share a disk is a question
// about what runs, what a start needs is one about the definition.
func markOpen(defined []*lifeboatv1.Disk, def hypervisor.Definition, storages []hypervisor.Storage) (added []*lifeboatv1.Disk) {
	if len(def.Running) == 0 {
		return nil
	}
	running, err := domxml.Parse(def.Running)
	if err != nil {
		// A disk that nobody can compare with any.
		return []*lifeboatv1.Disk{{Network: true, Only: onlyOpen}}
	}
	open := make([]bool, len(defined))
	for _, d := range running.Disks {
		if d.Optional && d.ReadOnly {
			continue // as little missed as in a definition
		}
		d.Optional = false // it is there
		w := wireDisk(d, storages)
		if i := slices.IndexFunc(defined, func(x *lifeboatv1.Disk) bool { return proto.Equal(x, w) }); i >= 0 {
			open[i] = true
			continue
		}
		w.Only = onlyOpen
		added = append(added, w)
	}
	for i, d := range defined {
		if !open[i] {
			d.Only = onlyDefined
		}
	}
	return added
}
