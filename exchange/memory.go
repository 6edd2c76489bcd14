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
}

// request is a question for a VM's definition.
type request struct {
	at    time.Duration
	whole bool // the VM was protected: its definition is kept
}

// copied is the definition of a VM that runs where nobody granted it (S6), as
// far as it matters.
type copied struct {
	hash []byte
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

// wantCopy asks for the definition of a copy that is to be judged.
func (x *Memory) wantCopy(h *fsm.Host, id fsm.VMID, r *lifeboatv1.VMReport, d *Difference, now time.Duration) {
	c := h.Copy(id)
	if c == nil || c.Apart || len(r.SpecHash) != 32 || len(d.Wanted) >= MaxWanted || bytes.Equal(x.read()[id].hash, r.SpecHash) {
		return
	}
	if last, asked := x.asked[id]; asked && now-last.at < askAgain {
		return
	}
	if x.asked == nil {
		x.asked = map[fsm.VMID]request{}
	}
	x.asked[id] = request{at: now}
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
			return h.Copy(id) == nil || !listed || !bytes.Equal(vms[at].GetSpecHash(), c.hash)
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

// ReadCopy takes the definition of a copy. It reports whether it is one. It may be
// called while a report is compared.
func (x *Memory) ReadCopy(h *fsm.Host, p *lifeboatv1.VMSpec) bool {
	if len(p.GetId()) != 16 || h.VM(fsm.VMID(p.Id)) != nil || h.Copy(fsm.VMID(p.Id)) == nil {
		return false
	}
	if p.Problem != "" {
		return true // asked for again
	}
	n := copied{hash: p.Hash, Domain: ha.Domain{Bound: len(p.Local) > 0}}
	for _, d := range p.Disks {
		n.Disks = append(n.Disks, fsm.Disk{Path: Text(d.Path), Storage: Text(d.Storage), ReadOnly: d.Readonly, Shareable: d.Shareable, Network: d.Network})
	}
	x.change(func(all map[fsm.VMID]copied) { all[fsm.VMID(p.Id)] = n })
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
