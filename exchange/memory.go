package exchange

import (
	"bytes"
	"maps"
	"slices"
	"sync/atomic"
	"time"

	lifeboatv1 "lifeboat/api/lifeboat/v1"
	"lifeboat/fsm"
	"lifeboat/ha"
)

// Memory is what a leader remembers of the reports of one host in one epoch. The
// zero value remembers nothing. One report of a host is compared at a time.
type Memory struct {
	absent map[fsm.VMID]int
	asked  map[fsm.VMID]request
	copies atomic.Pointer[map[fsm.VMID]copied] // the map is replaced, never changed
	coming atomic.Pointer[[]fsm.VMID]          // as is the list
	guests atomic.Pointer[[]ha.Guest]          // and this one
}

// Guests are the watched guests of the host of which its newest report has something to
// say.
func (x *Memory) Guests() []ha.Guest {
	if p := x.guests.Load(); p != nil {
		return *p
	}
	return nil
}

// Coming are the VMs of other hosts that were on their way to this one, by live
// migration, when it was last heard.
func (x *Memory) Coming() []fsm.VMID {
	if p := x.coming.Load(); p != nil {
		return *p
	}
	return nil
}

// request is a question for a VM's definition.
type request struct {
	at    time.Duration
	whole bool // the VM was protected: its definition is kept
	// Of another machine with a VM's UUID: for which work of the VM, and how often it
	// had been read before.
	work  fsm.WorkID
	reads int
}

// copied is the definition of a VM that runs where nobody granted it (S6), as
// far as it matters.
type copied struct {
	hash  []byte
	reads int
	ha.Domain
}

const (
	// askAgain is the pause before a definition is asked for again.
	askAgain = 10 * time.Second
	// MaxWanted definitions are asked for at a time.
	MaxWanted = 16
)

// Shift makes what is remembered younger.
func (x *Memory) Shift(d time.Duration) {
	for id, r := range x.asked {
		r.at += d
		x.asked[id] = r
	}
}

// want asks for a definition that the state has not, or has an older one of.
func (x *Memory) want(v *fsm.VM, r *lifeboatv1.VMReport, d *Difference, now time.Duration) {
	if len(r.SpecHash) != 32 || len(d.Wanted) >= MaxWanted {
		return
	}
	known := v.Spec != nil && bytes.Equal(v.Spec.Hash[:], r.SpecHash)
	if known && (!v.Protected() || v.Spec.Defines()) {
		return
	}
	// A VM that is protected by now needs more than what was asked for before.
	last, asked := x.asked[v.ID]
	if asked && now-last.at < askAgain && (last.whole || !v.Protected()) {
		return
	}
	if x.asked == nil {
		x.asked = map[fsm.VMID]request{}
	}
	x.asked[v.ID] = request{at: now, whole: v.Protected()}
	d.Wanted = append(d.Wanted, r.Id)
}

// wantCopy asks for the definition of a copy that is to be judged, and of one that
// was told apart when the VM is to be started: it may have come in its place.
func (x *Memory) wantCopy(s *fsm.State, h *fsm.Host, id fsm.VMID, r *lifeboatv1.VMReport, d *Difference, now time.Duration) {
	c := h.Copy(id)
	if c == nil || len(r.SpecHash) != 32 {
		return
	}
	known := x.read()[id]
	last, asked := x.asked[id]
	var work fsm.WorkID
	if c.Apart {
		if v, _ := s.VM(id); v != nil {
			work = v.Work
		}
		switch {
		case known.Work == work:
			return
		case last.work == work && known.reads > last.reads:
			x.change(func(all map[fsm.VMID]copied) {
				if c := all[id]; c.reads == known.reads {
					c.Work = work
					all[id] = c
				}
			})
			return
		}
	} else if bytes.Equal(known.hash, r.SpecHash) {
		return
	}
	if asked && now-last.at < askAgain && last.work == work || len(d.Wanted) >= MaxWanted {
		return
	}
	if x.asked == nil {
		x.asked = map[fsm.VMID]request{}
	}
	x.asked[id] = request{at: now, work: work, reads: known.reads}
	d.Wanted = append(d.Wanted, r.Id)
}

// forgetCopies drops the definitions of copies that are gone, or that have another
// one by now: a copy is not judged by the disks of an earlier one (S6).
func (x *Memory) forgetCopies(h *fsm.Host, vms []*lifeboatv1.VMReport) {
	if len(x.read()) == 0 {
		return
	}
	x.change(func(all map[fsm.VMID]copied) {
		maps.DeleteFunc(all, func(id fsm.VMID, c copied) bool {
			at, listed := find(vms, id)
			k := h.Copy(id)
			return k == nil || !listed || !k.Apart && !bytes.Equal(vms[at].GetSpecHash(), c.hash)
		})
	})
}

func find(vms []*lifeboatv1.VMReport, id fsm.VMID) (int, bool) {
	return slices.BinarySearchFunc(vms, id[:], func(v *lifeboatv1.VMReport, id []byte) int { return bytes.Compare(v.GetId(), id) })
}

// copiesGone are the copies that a report does not list any more, or lists as
// absent: an agent goes on listing what it has ever held.
func copiesGone(h *fsm.Host, vms []*lifeboatv1.VMReport) (ids []byte) {
	for i := range h.Copies {
		id := &h.Copies[i].VM
		if at, listed := find(vms, *id); !listed || vms[at].GetPower() == lifeboatv1.PowerState_POWER_STATE_ABSENT {
			ids = append(ids, id[:]...)
		}
	}
	return ids
}

// replaced reports whether a domain is another one than the one that was told apart
// from the VM: by its name, by its definition as reported, or as read since. It may
// be the VM itself, and is judged anew (S6).
func (x *Memory) replaced(c *fsm.Copy, r *lifeboatv1.VMReport) bool {
	if c == nil || !c.Apart || r.GetPower() != lifeboatv1.PowerState_POWER_STATE_ON {
		return false
	}
	name, hash, read := Text(r.GetName()), r.GetSpecHash(), x.read()[c.VM].hash
	return name != "" && c.Name != "" && name != c.Name || len(hash) == 32 && string(hash) != c.Hash || len(read) == 32 && string(read) != c.Hash
}

// ReadCopy takes the definition of a copy. It reports whether it is one. It may be
// called while a report is compared.
func (x *Memory) ReadCopy(h *fsm.Host, p *lifeboatv1.VMSpec) bool {
	if len(p.GetId()) != 16 || h.VM(fsm.VMID(p.Id)) != nil || h.Copy(fsm.VMID(p.Id)) == nil {
		return false
	}
	if p.Problem != "" {
		return true // asked for again
	}
	n := copied{hash: p.Hash, Domain: ha.Domain{Bound: len(p.Local) > 0, Name: Text(p.Name), Hash: string(p.Hash)}}
	for _, d := range p.Disks {
		if only := uint8(d.Only & 3); only != fsm.DiskDefined {
			n.Disks = append(n.Disks, fsm.Disk{Path: Text(d.Path), Storage: Text(d.Storage), ReadOnly: d.Readonly, Shareable: d.Shareable, Network: d.Network, Only: only, Backing: d.Backing})
		}
	}
	x.change(func(all map[fsm.VMID]copied) {
		old := all[fsm.VMID(p.Id)]
		n.reads, n.Work = old.reads+1, old.Work
		all[fsm.VMID(p.Id)] = n
	})
	return true
}

// change replaces the definitions of the copies by changed ones.
func (x *Memory) change(edit func(map[fsm.VMID]copied)) {
	for {
		old, all := x.copies.Load(), map[fsm.VMID]copied{}
		maps.Copy(all, x.read())
		edit(all)
		if x.copies.CompareAndSwap(old, &all) {
			return
		}
	}
}

// read are the definitions of the copies there.
func (x *Memory) read() map[fsm.VMID]copied {
	if p := x.copies.Load(); p != nil {
		return *p
	}
	return nil
}

// Copies are the definitions of the copies for ha.
func (x *Memory) Copies() map[fsm.VMID]ha.Domain {
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
