package sim

import (
	"bytes"
	"slices"
	"time"

	lifeboatv1 "lifeboat/api/lifeboat/v1"
	"lifeboat/fsm"
	"lifeboat/ha"
)

// What follows is node/copies.go, and must stay like it.

// arrival is when a report came, by this manager's clock.
type arrival struct {
	seq  uint64
	wall int64
}

const maxArrivals = 16

func (x *contact) arrive(seq uint64, wall int64) {
	if len(x.arrivals) >= maxArrivals {
		x.arrivals = x.arrivals[:copy(x.arrivals, x.arrivals[1:])]
	}
	x.arrivals = append(x.arrivals, arrival{seq, wall})
}

func (x *contact) lookedAt(after uint64) {
	for _, a := range x.arrivals {
		if a.seq <= after {
			x.looked = max(x.looked, a.wall)
		}
	}
}

// wantCopy asks for the definition of a copy that is to be judged.
func (x *contact) wantCopy(h *fsm.Host, id fsm.VMID, r *lifeboatv1.VMReport, d *difference, now time.Duration) {
	c := h.Copy(id)
	if c == nil || c.Apart || len(r.SpecHash) != 32 || len(d.wanted) >= maxWanted || bytes.Equal(x.read[id], r.SpecHash) {
		return
	}
	if last, asked := x.asked[id]; asked && now-last.at < askAgain {
		return
	}
	x.asked[id] = request{at: now}
	d.wanted = append(d.wanted, r.Id)
}

// copiesGone are the copies that a report does not list any more.
func copiesGone(h *fsm.Host, vms []*lifeboatv1.VMReport) (ids []byte) {
	for i := range h.Copies {
		id := &h.Copies[i].VM
		if !slices.ContainsFunc(vms, func(v *lifeboatv1.VMReport) bool { return bytes.Equal(v.Id, id[:]) }) {
			ids = append(ids, id[:]...)
		}
	}
	return ids
}

// readCopy takes the definition of a copy. It reports whether it is one.
func (x *contact) readCopy(h *fsm.Host, p *lifeboatv1.VMSpec) bool {
	id := fsm.VMID(p.Id)
	if h.VM(id) != nil || h.Copy(id) == nil {
		return false
	}
	if p.Problem != "" {
		return true
	}
	n := ha.Domain{Bound: len(p.Local) > 0}
	for _, d := range p.Disks {
		n.Disks = append(n.Disks, fsm.Disk{Path: d.Path, Storage: d.Storage, ReadOnly: d.Readonly, Shareable: d.Shareable, Network: d.Network})
	}
	if x.read == nil {
		x.read, x.copies = map[fsm.VMID][]byte{}, map[fsm.VMID]ha.Domain{}
	}
	x.read[id], x.copies[id] = p.Hash, n
	return true
}
