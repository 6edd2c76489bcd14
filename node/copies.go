package node

import (
	"bytes"
	"maps"
	"slices"
	"time"

	lifeboatv1 "lifeboat/api/lifeboat/v1"
	"lifeboat/fsm"
	"lifeboat/ha"
)

// What a term knows of VMs that run where nobody granted them (S6).

// copied is the definition of a copy, as far as it matters.
type copied struct {
	hash []byte
	ha.Domain
}

// arrival is when a report came, by this node's clock.
type arrival struct {
	seq  uint64
	wall int64
}

// maxArrivals is how far back a look may lie that a report tells of.
const maxArrivals = 16

// arrive notes the arrival of a report.
func (c *contacts) arrive(x *contact, seq uint64, wall int64) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if len(x.arrivals) >= maxArrivals {
		x.arrivals = x.arrivals[:copy(x.arrivals, x.arrivals[1:])]
	}
	x.arrivals = append(x.arrivals, arrival{seq, wall})
}

// lookedAt notes that everything an absorbed report tells of was looked at after
// the answer to an earlier one, which was given after that had arrived. That
// counts however long the report was under way.
func (c *contacts) lookedAt(x *contact, after uint64) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, a := range x.arrivals {
		if a.seq <= after {
			x.looked = max(x.looked, a.wall)
		}
	}
}

// wantCopy asks for the definition of a copy that is to be judged.
func (x *contact) wantCopy(h *fsm.Host, id fsm.VMID, r *lifeboatv1.VMReport, d *difference, now time.Duration) {
	c := h.Copy(id)
	if c == nil || c.Apart || len(r.SpecHash) != 32 || len(d.wanted) >= maxWanted || bytes.Equal(x.read()[id].hash, r.SpecHash) {
		return
	}
	if last, asked := x.asked[id]; asked && now-last.at < askAgain {
		return
	}
	if x.asked == nil {
		x.asked = map[fsm.VMID]request{}
	}
	x.asked[id] = request{at: now}
	d.wanted = append(d.wanted, r.Id)
}

// copiesGone are the copies that a report does not list any more.
func copiesGone(h *fsm.Host, vms []*lifeboatv1.VMReport) (ids []byte) {
	for i := range h.Copies {
		id := &h.Copies[i].VM
		if _, listed := slices.BinarySearchFunc(vms, id[:], func(v *lifeboatv1.VMReport, id []byte) int { return bytes.Compare(v.GetId(), id) }); !listed {
			ids = append(ids, id[:]...)
		}
	}
	return ids
}

// readCopy takes the definition of a copy. It reports whether it is one.
func (c *contacts) readCopy(x *contact, h *fsm.Host, p *lifeboatv1.VMSpec) bool {
	if len(p.GetId()) != 16 || h.VM(fsm.VMID(p.Id)) != nil || h.Copy(fsm.VMID(p.Id)) == nil {
		return false
	}
	if p.Problem != "" {
		return true // asked for again
	}
	n := copied{hash: p.Hash, Domain: ha.Domain{Bound: len(p.Local) > 0}}
	for _, d := range p.Disks {
		n.Disks = append(n.Disks, fsm.Disk{Path: valid(d.Path), Storage: valid(d.Storage), ReadOnly: d.Readonly, Shareable: d.Shareable, Network: d.Network})
	}
	c.mu.Lock() // one writer at a time
	defer c.mu.Unlock()
	all := maps.Clone(x.read())
	if all == nil {
		all = map[fsm.VMID]copied{}
	}
	all[fsm.VMID(p.Id)] = n
	x.copies.Store(&all)
	return true
}

// read are the definitions of the copies there.
func (x *contact) read() map[fsm.VMID]copied {
	if p := x.copies.Load(); p != nil {
		return *p
	}
	return nil
}

// domains are the definitions of the copies for ha.
func (x *contact) domains() map[fsm.VMID]ha.Domain {
	all := x.read()
	if len(all) == 0 {
		return nil
	}
	out := make(map[fsm.VMID]ha.Domain, len(all))
	for id, c := range all {
		out[id] = c.Domain
	}
	return out
}
