package fsm

import (
	"fmt"
	"slices"
	"strings"
)

// unit is what is placed as one: a VM, or a bundle.
type unit struct {
	members []VMID
	rules   []*Rule // that make it a bundle
	looked  bool    // the rest is known
	hosts   []HostID
	nobody  string // why no host will do; "" = one does
}

// trial is what the strict rules of a state ask for.
type trial struct {
	s       *State
	units   map[VMID]*unit
	members map[*Rule][]*unit // of rules that were asked for
	visits  int               // that are left, see entangled
}

func newTrial(s *State) *trial {
	return &trial{s: s, units: map[VMID]*unit{}, members: map[*Rule][]*unit{}, visits: maxVisits}
}

// unit is what a VM is placed with.
func (t *trial) unit(id VMID) *unit {
	if u := t.units[id]; u != nil {
		return u
	}
	u := &unit{members: []VMID{id}}
	if b := t.s.Bundle(id); b != nil {
		u.members, u.rules = b.Members, b.Rules
	}
	for _, m := range u.members {
		t.units[m] = u
	}
	return u
}

// eligible is a unit of which it is known where it may run.
func (t *trial) eligible(u *unit) *unit {
	if !u.looked {
		u.looked = true
		t.s.eligible(u)
	}
	return u
}

// infeasible says why a strict rule can never be kept beside the other strict ones;
// "" when nothing is known against it. Only what the new one touches is looked at: a
// rule that became impossible by itself keeps nobody from writing others.
func (s *State) infeasible(r *Rule) string {
	if !r.Strict {
		return ""
	}
	next := *s
	next.book = newRuleBook(func(yield func(RuleID, *Rule) bool) {
		for id, x := range s.rules.all() {
			if !yield(id, x) {
				return
			}
		}
		yield(r.ID, r)
	})
	t := newTrial(&next)
	var touched []*unit
	for _, m := range r.Members {
		if u := t.unit(m.VM); !slices.Contains(touched, u) {
			touched = append(touched, t.eligible(u))
		}
	}
	var apart []*Rule
	for _, u := range touched {
		if u.nobody != "" {
			return u.nobody
		}
		for _, id := range u.members {
			for _, x := range next.RulesOf(id) {
				if x.Kind == RuleApart && x.Strict && !slices.Contains(apart, x) {
					apart = append(apart, x)
				}
			}
		}
	}
	for _, x := range apart {
		if no := t.apart(x); no != "" {
			return no
		}
	}
	return t.jointly(r, s)
}

// apart says why a rule about VMs apart cannot be kept, whatever the others are.
func (t *trial) apart(x *Rule) string {
	var all []*unit
	for _, m := range x.Members {
		if v, _ := t.s.VM(m.VM); v == nil {
			continue
		}
		u := t.eligible(t.unit(m.VM))
		if slices.Contains(all, u) {
			return t.s.contradiction(x, u)
		}
		all = append(all, u)
	}
	return t.s.tooMany(x, all)
}

// contradiction: two VMs of a bundle are to be apart.
func (s *State) contradiction(apart *Rule, u *unit) string {
	var both []string
	for _, m := range apart.Members {
		if slices.Contains(u.members, m.VM) {
			both = append(both, s.Called(m))
		}
	}
	var names []string
	for _, r := range u.rules {
		names = append(names, s.numbered(r))
	}
	return fmt.Sprintf("%s would keep %s and %s apart, and %s together", s.numbered(apart), both[0], both[1], enumerated(names))
}

// enumerated is "a, b and c".
func enumerated(names []string) string {
	last := len(names) - 1
	if last < 1 {
		return strings.Join(names, "")
	}
	return strings.Join(names[:last], ", ") + " and " + names[last]
}

// pins reports whether not every host will do for a unit: by a rule about hosts, or by
// what it has on one host only.
func (s *State) pins(u *unit) bool {
	return slices.ContainsFunc(u.members, func(id VMID) bool {
		v, _ := s.VM(id)
		return v != nil && (v.Spec != nil && len(v.Spec.Local) > 0 ||
			slices.ContainsFunc(s.RulesOf(id), func(r *Rule) bool { return r.Kind == RuleHosts && r.Strict }))
	})
}

// numbered is what people know a rule by.
func (s *State) numbered(r *Rule) string {
	if uint64(r.ID) > s.lastRule {
		return "the new rule"
	}
	return fmt.Sprintf("rule %d", r.ID)
}

// eligible finds the hosts on which a unit may run: by its rules about hosts, by what
// it has on one host only, and by the size of the hosts.
func (s *State) eligible(u *unit) {
	var memory uint64
	var cpus uint32
	home := HostID("")
	var need []*Rule
	for _, id := range u.members {
		v, owner := s.VM(id)
		if v == nil {
			continue
		}
		if v.Spec != nil {
			memory += v.Spec.MemoryBytes
			cpus += v.Spec.CPUs
			if len(v.Spec.Local) > 0 {
				switch home {
				case "", owner.ID:
					home = owner.ID
				default:
					u.nobody = fmt.Sprintf("%s would keep VMs together that are bound to hosts %s and %s by what they have there only", s.unitName(u), home, owner.ID)
					return
				}
			}
		}
		for _, r := range s.RulesOf(id) {
			if r.Kind == RuleHosts && r.Strict && !slices.Contains(need, r) {
				need = append(need, r)
			}
		}
	}
	room, any := false, false
	for id, h := range s.Hosts() {
		if h.Status == Removed {
			continue
		}
		any = true
		if home != "" && id != home || slices.ContainsFunc(need, func(r *Rule) bool { _, ok := r.Choice(h); return !ok }) {
			continue
		}
		u.hosts = append(u.hosts, id)
		if h.Inventory == nil {
			room = true
			continue
		}
		hasCPUs, hasMemory := s.Policy.Capacity(h.Inventory)
		room = room || memory <= hasMemory && (hasCPUs == 0 || cpus <= hasCPUs)
	}
	switch {
	case !any:
	case len(u.hosts) == 0 && home != "" && len(need) > 0:
		u.nobody = fmt.Sprintf("%s would be kept away from host %s, to which it is bound by what it has there only", s.unitName(u), home)
	case len(u.hosts) == 0 && len(need) > 1:
		u.nobody = fmt.Sprintf("no host is left for %s: %s and %s about its hosts have none in common", s.unitName(u), s.numbered(need[0]), s.numbered(need[1]))
	case len(u.hosts) == 0:
		u.nobody = fmt.Sprintf("no host is left for %s", s.unitName(u))
	case !room:
		u.nobody = fmt.Sprintf("%s needs %d MiB of memory and %d CPUs in all, and no host that it may run on is that large", s.unitName(u), memory>>20, cpus)
	}
}

// unitName is "VM a" or "the bundle of a, b".
func (s *State) unitName(u *unit) string {
	if len(u.members) == 1 {
		return "VM " + s.nameOf(u.members[0])
	}
	text := ""
	for i, id := range u.members {
		if i == maxTold {
			text += fmt.Sprintf(" and %d more", len(u.members)-i)
			break
		}
		if i > 0 {
			text += ", "
		}
		text += s.nameOf(id)
	}
	return "the bundle of " + text
}

// tooMany says that a rule about VMs apart has more of them than hosts. Each needs a
// host of its own: those that may run anywhere are counted, the others are given one
// each (a matching in a bipartite graph).
func (s *State) tooMany(r *Rule, all []*unit) string {
	hosts := 0
	for _, h := range s.Hosts() {
		if h.Status != Removed {
			hosts++
		}
	}
	given := map[HostID]*unit{}
	for _, u := range all {
		if !s.pins(u) {
			continue
		}
		if !give(u, given, map[HostID]bool{}) {
			return fmt.Sprintf("%s would keep %d VMs apart, and those that rules bind to certain hosts are more than their hosts: there is none for %s", s.numbered(r), len(all), s.unitName(u))
		}
	}
	if len(all) > hosts {
		return fmt.Sprintf("%s would keep %d VMs apart, and there are %d hosts", s.numbered(r), len(all), hosts)
	}
	return ""
}

// give finds a host for u, and another one for who has it if need be.
func give(u *unit, given map[HostID]*unit, seen map[HostID]bool) bool {
	for _, h := range u.hosts {
		if seen[h] {
			continue
		}
		seen[h] = true
		if x := given[h]; x == nil || give(x, given, seen) {
			given[h] = u
			return true
		}
	}
	return false
}
