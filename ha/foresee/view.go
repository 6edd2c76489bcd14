package foresee

import (
	"cmp"
	"fmt"
	"slices"
	"strings"

	"lifeboat/fsm"
	"lifeboat/ha"
)

// view is what a proof needs of a host as of h.
type view struct {
	h       *fsm.Host
	seen    uint64 // the look that saw it last
	closed  string // why it takes no VM of another host
	free    int64  // bytes
	kib     int64  // of it, rounded down
	cores   int64
	counted bool // cores are

	gone     bool   // nothing can be lost here: it is removed, or proven dead
	unproven string // why it is never proven dead
	groups   []group
	certain  []lostVM // that stay down wherever there is room, with the reason
	odd      int      // lost VMs that only a rehearsal can judge
	lost     int      // VMs that are lost with it
	memory   int64    // KiB of those that would be started elsewhere
	cpus     int64
	leaves   bool // what runs here is to be moved away

	costs []int64 // class.blocks, by the number of the class
}

// cost is what class.blocks was when it was counted.
func (v *view) cost(c *class) int64 {
	if c.number < len(v.costs) {
		return v.costs[c.number]
	}
	return 0
}

// group are VMs of one class that are lost together.
type group struct {
	c     *class
	n     int
	apart int // the most hosts from which others may keep one of them, by strict rules
}

// look reads a host's room.
func (v *view) look(s *fsm.State, h *fsm.Host) {
	v.h, v.closed = h, ha.TakesNoOther(s, h)
	if v.closed == "" && len(h.Copies) > 0 {
		v.closed = "a second copy of a VM runs there"
	}
	if v.closed == "" && slices.ContainsFunc(h.Orders, func(o *fsm.Order) bool { return o.Kind == fsm.OrderDestroy }) {
		v.closed = "an older copy of a VM is still being removed there"
	}
	v.free, v.kib, v.cores, v.counted = 0, 0, 0, false
	if h.Inventory != nil {
		v.free, v.cores, v.counted = ha.Headroom(s.Policy, h)
		v.kib = v.free >> 10
	}
}

// isLost reports whether a VM is lost with its host and would be started again.
func isLost(v *fsm.VM) bool {
	return v.Protected() && v.Wanted && v.Error == "" && (v.Power != fsm.PowerOff || v.Work != 0)
}

// read reads what is lost with the host.
func (p *Prover) read(s *fsm.State, v *view) {
	h := v.h
	for _, g := range v.groups {
		g.c.used--
	}
	*v = view{h: h, seen: v.seen, closed: v.closed, free: v.free, kib: v.kib, cores: v.cores, counted: v.counted, costs: v.costs}
	if v.gone = h.Status == fsm.Removed || h.Status == fsm.Down && h.HA == fsm.HAFenced; v.gone {
		return
	}
	_, v.unproven = proof(s.Policy, h)
	v.leaves = h.Emptying() || h.Resource == fsm.PrepareForMaintenance || h.Resource == fsm.ErrorInMaintenance || h.Stopping != fsm.StaysUp
	for i := range h.VMs {
		m := &h.VMs[i]
		if !isLost(m) {
			continue
		}
		v.lost++
		if m.Spec != nil {
			v.memory += kib(m.Spec.MemoryBytes)
			v.cpus += int64(m.Spec.CPUs)
		}
		switch {
		case v.unproven != "":
			v.certain = append(v.certain, lostVM{m, h.ID, v.unproven})
		case m.Work != 0 || m.Power != fsm.PowerOn || m.LostSight() || s.Bundle(m.ID) != nil:
			v.odd++
		case m.Spec == nil || !m.Spec.Defines():
			v.certain = append(v.certain, lostVM{m, h.ID, "its definition has never been read"})
		case len(m.Spec.Local) > 0:
			v.certain = append(v.certain, lostVM{m, h.ID, "the VM is bound to its host: " + strings.Join(m.Spec.Local, ", ")})
		default:
			c, apart := p.classOf(s, m)
			v.groups = grouped(v.groups, c, apart)
		}
	}
	slices.SortFunc(v.groups, func(a, b group) int { return cmp.Compare(a.c.key, b.c.key) })
	for _, g := range v.groups {
		g.c.used++
	}
}

func grouped(groups []group, c *class, apart int) []group {
	for i := range groups {
		if g := &groups[i]; g.c == c {
			g.n++
			g.apart = max(g.apart, apart)
			return groups
		}
	}
	return append(groups, group{c, 1, apart})
}

// classOf is a VM's class, and how many hosts strict rules may keep it from because of
// others.
func (p *Prover) classOf(s *fsm.State, m *fsm.VM) (c *class, apart int) {
	rules := s.RulesOf(m.ID)
	c, isNew := p.kinds.of(m.Spec, hostRules(rules))
	if isNew {
		for _, v := range p.views { // in any order: a sum
			c.count(v)
		}
	}
	for _, r := range rules {
		if r.Strict && r.Kind == fsm.RuleApart {
			apart += 2 * (len(r.Members) - 1) // each is on two hosts while it moves
		}
	}
	return c, apart
}

// alike reports whether what a rehearsal would see of a host is the same.
func alike(a, b *view) bool {
	return b.h != nil && a.closed == b.closed && a.free == b.free && a.cores == b.cores && a.counted == b.counted && a.gone == b.gone &&
		a.unproven == b.unproven && a.leaves == b.leaves && a.h.Inventory == b.h.Inventory && slices.Equal(a.h.Labels, b.h.Labels) &&
		slices.Equal(a.h.VMs, b.h.VMs) && slices.Equal(a.h.Orders, b.h.Orders)
}

func (x lostVM) stay() Stay {
	return Stay{x.vm.ID, x.vm.Name, x.vm.HAPolicy().Priority, x.from, x.unproven}
}

// reasons writes why hosts do not take a VM: each reason with the first hosts it holds for.
type reasons struct {
	why   []string
	hosts [][]string
}

func (r *reasons) add(why string, h fsm.HostID) {
	i := slices.Index(r.why, why)
	if i < 0 {
		i = len(r.why)
		r.why, r.hosts = append(r.why, why), append(r.hosts, nil)
	}
	r.hosts[i] = append(r.hosts[i], string(h))
}

const maxWhyHosts = 3 // that are named for a reason

func (r *reasons) String() string {
	if len(r.why) == 0 {
		return "there is no other host"
	}
	var out []string
	for i, why := range r.why {
		names := strings.Join(r.hosts[i][:min(len(r.hosts[i]), maxWhyHosts)], ", ")
		if more := len(r.hosts[i]) - maxWhyHosts; more > 0 {
			names += fmt.Sprintf(" and %d more", more)
		}
		out = append(out, fmt.Sprintf("%s (%s)", why, names))
	}
	return strings.Join(out, "; ")
}
