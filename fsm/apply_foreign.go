package fsm

import (
	"fmt"
	"slices"
)

// claim is what a running copy on a host that does not own the VM amounts to.
type claim uint8

const (
	claimNone  claim = iota
	claimAdopt       // ownership moves to where it runs
	claimCopy        // a second copy
)

// claim judges a report of host h about VM v, which another host owns.
func (s *State) claim(v *VM, owner, h *Host, p Power, r Reason, inc Incarnation) claim {
	if p != PowerOn || r == ReasonMigratingIn || h.apart(v.ID) {
		return claimNone // an incoming migration is not a second copy, nor is another machine (S6)
	}
	w := s.Work(v.Work)
	if w != nil && w.Type == WorkMigration && w.Target == h.ID && w.Step != Investigating {
		return claimNone // both list it until its source has spoken (S7)
	}
	if !v.Protected() && w == nil {
		if owner.Status == Up && v.Power == PowerOn {
			return claimNone // two domains with one UUID, neither ours: look on (S6)
		}
		return claimAdopt
	}
	if last := max(v.Incarnation, inc); last != 0 && last.Next(s.Generation) == last {
		return claimCopy // no incarnation is left that would beat the owner's
	}
	if s.Waking && inc > v.Incarnation && idle(w) {
		return claimAdopt // it was granted after the snapshot (S22)
	}
	// An agent holds an older incarnation only of what was once granted to it:
	// such a copy is a leftover, unless its owner saw it leave for there.
	leftover := inc != 0 && inc < v.Incarnation
	left := v.Power == PowerOff && v.Reason == ReasonMigrated
	idle := idle(w)
	switch {
	case left && (idle || w.Step == Fencing):
		return claimAdopt
	case leftover:
		return claimCopy
	case v.LostSight() && (idle || w.Step == Fencing):
		return claimAdopt
	case idle && w != nil && w.Step == Investigating:
		return claimAdopt
	case idle && (v.Gone || v.Power == PowerOff && owner.Status == Up):
		return claimAdopt // started by hand where we had not started it
	}
	return claimCopy
}

// idle reports whether nobody was told to do anything about a VM.
func idle(w *Work) bool { return w == nil || w.Step == Scheduled || w.Step == Investigating }

// foreign applies an entry about a VM that this host does not own.
func (p *reporting) foreign(e *vmEntry) {
	v, owner := p.s.VM(e.id)
	if v == nil {
		p.host.dropCopy(e.id)
		p.discovered(e)
		return
	}
	if o := p.host.order(OrderDestroy, e.id); o != nil {
		if e.refused >= o.Incarnation {
			p.dropOrder(OrderDestroy, e.id)
			p.event("VM.REMOVED", Info, vmSubject(v), "host %s has removed its old copy of %s (incarnation %s)", p.host.ID, v.Name, o.Incarnation)
			p.copyGone(v, "host %s has removed it", p.host.ID)
		} else {
			p.undead(v, owner, e)
		}
		return
	}
	switch p.s.claim(v, owner, p.host, e.power, e.reason, e.inc) {
	case claimAdopt:
		p.adopt(v, owner, e)
	case claimCopy:
		p.duplicate(v, owner, e)
	default:
		if madeRoom(e.power, e.reason) {
			p.copyGone(v, "it does not run on host %s any more", p.host.ID)
		}
	}
}

// madeRoom reports whether what ran on a host under a VM's UUID does not run there
// any more: it is off, or the VM itself is just coming in, which may not be taken
// for the other machine that was there before (S18).
func madeRoom(p Power, r Reason) bool {
	return p == PowerOff || p == PowerReportMissing || p == PowerOn && r == ReasonMigratingIn
}

// known reports whether an entry is about a domain and not only about what an
// agent remembers.
func known(p Power, inc Incarnation) bool {
	return p == PowerOn || p == PowerOff || p == PowerUnknown && inc != 0
}

// discovered takes in a VM that nobody owns.
func (p *reporting) discovered(e *vmEntry) {
	if e.name == "" || !known(e.power, e.inc) {
		return
	}
	n := &VM{ID: e.id, traits: &traits{Name: e.name}, Power: e.power, Reason: e.reason, Since: p.now, Incarnation: e.inc}
	p.own()
	i, _ := p.host.find(e.id)
	p.host.VMs = slices.Insert(p.host.VMs, i, *n)
	p.host.Stalled = p.host.Stalled || n.Stalled()
	p.s.owner.set(e.id, p.host.ID)
}

// adopt moves ownership to the reporting host, where the VM runs, with a new
// incarnation if it is ours. The host that owned it must give up the old one.
func (p *reporting) adopt(old *VM, from *Host, e *vmEntry) {
	v := *old
	v.Power, v.Reason, v.Since, v.Gone, v.Answers = PowerOn, e.reason, p.now, false, e.answers
	if p.s.Level >= LevelPolicy && !v.Stalled() {
		p.resolveVM(&v, "I/O error", "it runs on host %s", p.host.ID)
	}
	last := v.Incarnation
	switch {
	case last == 0:
	case p.s.Waking && e.inc >= last:
		v.Incarnation = e.inc // so that the newest of two copies is known
	default:
		v.Incarnation = max(last, e.inc).Next(p.s.Generation)
	}
	ordered := false
	if w := p.s.Work(v.Work); w != nil {
		if ordered = w.Type == WorkMigration && w.Target == p.host.ID; ordered {
			p.endWork(&v, w, Done, fmt.Sprintf("migrated live from host %s to host %s", from.ID, p.host.ID))
			p.moved(&v, w, p.host.ID)
		} else {
			p.endWork(&v, w, Done, fmt.Sprintf("not needed: it runs on host %s", p.host.ID))
		}
	}
	wanted := ""
	if v.Protected() {
		if !v.Wanted {
			v.Wanted, wanted = true, "; it is wanted on now"
		}
		if v.Error != "" {
			v.setError("")
			p.resolveVM(&v, "error", "it runs on host %s", p.host.ID)
		}
	}
	p.copyGone(&v, "it is adopted there")
	p.flush()
	p.removeVM(from.ID, v.ID)
	f := edit(p.s.Host(from.ID))
	f.Orders = slices.DeleteFunc(slices.Clone(f.Orders), func(o *Order) bool { return o.VM == v.ID && o.Kind != OrderDestroy })
	if v.Protected() {
		f.Orders = slices.DeleteFunc(f.Orders, func(o *Order) bool { return o.VM == v.ID })
		p.order(f, OrderDestroy, &v, last, 0)
	}
	p.setHost(f)
	p.insertVM(p.host.ID, &v)
	p.host, p.cloned = edit(p.s.Host(p.host.ID)), false
	p.host.Stalled = p.host.Stalled || v.Stalled()
	if v.Incarnation != 0 && !ordered {
		p.event("VM.MIGRATE", Warning, vmSubject(&v), "VM %s moved from host %s to host %s behind our back; adopted there%s (incarnation %s)", v.Name, from.ID, p.host.ID, wanted, v.Incarnation)
	}
}

// duplicate: one VM runs in two places. The newer incarnation wins: a leftover
// of what was granted before is destroyed at once. A copy that nobody granted may
// be the only one, at the end of somebody's migration: the leader looks first
// (S6, vmCopy).
func (p *reporting) duplicate(v *VM, owner *Host, e *vmEntry) {
	if differs(p.host.Copy(v.ID), e.inc) {
		p.host.setCopy(Copy{VM: v.ID, Since: p.now, Incarnation: e.inc})
	}
	p.raise(copyAlert(v, p.host.ID), Critical, "VM %s is owned by host %s (incarnation %s), but a copy of it also runs on host %s (incarnation %s). Stop the wrong one now: two copies on one disk destroy it.",
		v.Name, owner.ID, v.Incarnation, p.host.ID, e.inc)
	if v.Protected() && e.inc != 0 && e.inc < v.Incarnation && !p.s.Waking {
		p.order(p.host, OrderDestroy, v, e.inc, 0)
		p.told(p.host, v.ID)
		p.event("VM.DUPLICATE", Critical, vmSubject(v), "host %s is told to destroy its copy of %s: incarnation %s is older than %s", p.host.ID, v.Name, e.inc, v.Incarnation)
	}
}
