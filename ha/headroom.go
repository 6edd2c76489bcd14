package ha

import (
	"cmp"
	"math"

	"lifeboat/fsm"
)

// Needs is what a VM needs of a host that it does not run on, memory and free CPUs
// apart.
type Needs struct {
	shape *fsm.Shape
	disks []fsm.Disk
}

// NeedsOf reads what a VM needs from its spec, which is not nil.
func NeedsOf(s *fsm.Spec) Needs { return Needs{s.Shape, s.Disks()} }

// Lacking says what of it a host does not have; "" = it has all of it.
func (n Needs) Lacking(inv *fsm.Inventory) string { return lacks(inv, n.shape, n.disks) }

// Storages are the shared storages that it needs, as often as there are disks on them.
func (n Needs) Storages() (out []string) {
	for _, d := range n.disks {
		if !d.Network && d.Storage != "" {
			out = append(out, d.Storage)
		}
	}
	return out
}

// TakesNoOther says why a host takes no VM that is not its own, however small; "" = it
// does. It does not ask how fresh the host's word is.
func TakesNoOther(s *fsm.State, h *fsm.Host) string {
	d := &decision{s: s, p: s.Policy, soft: &Soft{}, now: Now{}}
	return cmp.Or(d.takesNothing(h, d.silent(Contact{})), d.takesNoOther(h))
}

// Headroom is what a host, whose inventory is known, may still promise to VMs: bytes of
// memory and virtual CPUs, less than none where more was promised than there is.
// counted: CPUs are counted at all. VMs that are on their way there are not subtracted.
func Headroom(p *fsm.Policy, h *fsm.Host) (memory, cpus int64, counted bool) {
	at := loadOf(h)
	r := &room{h: h}
	r.fill(p, &at)
	return r.free, r.cores, r.cores != math.MaxInt64
}
