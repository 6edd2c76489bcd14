package foresee

import (
	"slices"

	"lifeboat/fsm"
	"lifeboat/ha"
)

// Prover keeps the proof that the cluster stands the failure of any one host, or of any
// one failure domain. The zero value has looked at nothing. A look costs what has changed
// since the one before, and one comparison for each host. It serves one goroutine at a
// time.
//
// The proof holds for every placement policy and every order of starts: a VM finds room
// if all that may be started or moved elsewhere at the same time is not enough to fill
// every host that could take it (class.slack). Where there is less room than that, the
// failure is played through (Rehearse).
type Prover struct {
	looks   uint64
	version uint64 // raised when something has changed that a rehearsal may depend on
	policy  *fsm.Policy
	armed   bool
	rules   []*fsm.Rule
	views   map[fsm.HostID]*view
	order   []*view // in natural order of their names
	kinds   classes
	widest  int64 // the most KiB free on one host
	burden  int64 // KiB that others than the lost VMs may need elsewhere, at the most
	cpus    int64 // the same of CPUs
	played  map[string][]Stay
	at      uint64 // version that played is of

	last   *Outlook // that left nothing open; nil = there is none
	lastAt uint64   // version that it is of
}

// Look brings the proof up to date with a state.
func (p *Prover) Look(s *fsm.State) {
	p.looks++
	if p.policy == nil || *p.policy != *s.Policy {
		p.policy, p.views, p.kinds = s.Policy, map[fsm.HostID]*view{}, newClasses()
		p.order, p.rules, p.played = nil, nil, nil
		p.version++
	}
	reread := p.ruled(s)
	var changed []*view
	var before []view
	for id, h := range s.Hosts() {
		v := p.views[id]
		switch {
		case v == nil:
			v = &view{}
			p.views[id] = v
			p.order = nil
			p.version++
		case v.h == h && !reread[id]:
			v.seen = p.looks
			continue
		}
		old := *v
		v.look(s, h)
		v.seen = p.looks
		for _, c := range p.kinds.keys { // in any order: sums
			c.count(v)
		}
		changed, before = append(changed, v), append(before, old)
	}
	if len(p.views) != s.CountHosts() {
		p.drop()
	}
	for i, v := range changed {
		p.read(s, v)
		if reread[v.h.ID] || !alike(v, &before[i]) {
			p.version++
		}
	}
	if len(changed) > 0 {
		p.kinds.sweep(p.views)
	}
	p.sort()
	p.weigh(s)
}

// drop forgets hosts that the state does not have any more.
func (p *Prover) drop() {
	for id, v := range p.views {
		if v.seen == p.looks {
			continue
		}
		for _, c := range p.kinds.keys { // in any order: sums
			c.forget(v)
		}
		for _, g := range v.groups {
			g.c.used--
		}
		delete(p.views, id)
	}
	p.order = nil
	p.version++
}

// ruled are the hosts of VMs whose rules have changed since the last look.
func (p *Prover) ruled(s *fsm.State) map[fsm.HostID]bool {
	now := make([]*fsm.Rule, 0, s.CountRules())
	for _, r := range s.Rules() {
		now = append(now, r)
	}
	if slices.Equal(now, p.rules) {
		return nil
	}
	out := map[fsm.HostID]bool{}
	mark := func(these, those []*fsm.Rule) {
		known := make(map[*fsm.Rule]bool, len(those))
		for _, r := range those {
			known[r] = true
		}
		for _, r := range these {
			if known[r] {
				continue
			}
			for _, m := range r.Members {
				members := []fsm.VMID{m.VM}
				if b := s.Bundle(m.VM); b != nil {
					members = b.Members
				}
				for _, id := range members {
					if _, h := s.VM(id); h != nil {
						out[h.ID] = true
					}
				}
			}
		}
	}
	mark(now, p.rules)
	mark(p.rules, now)
	p.rules = now
	p.version++
	return out
}

func (p *Prover) sort() {
	if p.order != nil {
		return
	}
	for _, v := range p.views {
		p.order = append(p.order, v)
	}
	slices.SortFunc(p.order, func(a, b *view) int { return ha.Natural(string(a.h.ID), string(b.h.ID)) })
}

// weigh adds up what may need room beside the lost VMs: those that are being started or
// moved already, and those that are to leave their hosts.
func (p *Prover) weigh(s *fsm.State) {
	var burden, cpus int64
	for w := range s.OpenWork() {
		if v, _ := s.VM(w.VM); v != nil && v.Spec != nil && !w.Type.Stops() {
			burden, cpus = burden+kib(v.Spec.MemoryBytes), cpus+int64(v.Spec.CPUs)
		}
	}
	p.widest = 0
	for _, v := range p.order {
		if v.closed == "" {
			p.widest = max(p.widest, v.kib)
		}
		if v.leaves {
			burden, cpus = burden+v.memory, cpus+v.cpus
		}
	}
	if burden != p.burden || cpus != p.cpus || s.Armed != p.armed {
		p.version++
	}
	p.burden, p.cpus, p.armed = burden, cpus, s.Armed
}

// judge says what is known about hosts that fail together, without playing it through:
// what certainly stays down, and whether all the rest certainly does not.
func (p *Prover) judge(s *fsm.State, dead []*view) Verdict {
	out := Verdict{}
	budget := need{p.burden, p.cpus}
	var all []group
	odd := 0
	for _, v := range dead {
		out.Hosts = append(out.Hosts, v.h.ID)
		out.Lost += v.lost
		for _, x := range v.certain {
			out.Down = append(out.Down, x.stay())
		}
		budget.kib, budget.cpus = budget.kib+v.memory, budget.cpus+v.cpus
		odd += v.odd
		for _, g := range v.groups {
			if i := slices.IndexFunc(all, func(x group) bool { return x.c == g.c }); i >= 0 {
				all[i].n, all[i].apart = all[i].n+g.n, max(all[i].apart, g.apart)
			} else {
				all = append(all, g)
			}
		}
	}
	if out.Unproven = odd > 0; out.Unproven {
		out.Short = "what is moved, started or kept together there is judged only by playing it through"
	}
	for _, g := range all {
		left, fit := g.c.slack, g.c.fit
		for _, v := range dead {
			if cost := v.cost(g.c); cost > 0 {
				left, fit = left-cost, fit-1
			}
		}
		enough := budget.of(g.c, s.Policy.CPUOvercommit != 0)
		switch {
		case left-int64(g.apart)*p.widest > enough:
		case g.apart > 0 && fit > 0 && p.apart(s, dead, g.c, left, enough):
		case fit == 0 && p.burden == 0 && p.cpus == 0:
			out.Down = append(out.Down, p.nowhere(s, dead, g.c)...)
		default:
			out.Unproven = true
			out.Short = g.c.short(left, enough)
		}
	}
	return out
}

// need is an amount of memory and CPUs.
type need struct{ kib, cpus int64 }

// of is how much of the hosts' room others than one VM of a class can take, at the most.
func (n need) of(c *class, counted bool) int64 {
	all := n.kib - c.kib
	if counted {
		all += c.weight * (n.cpus - int64(c.cpus))
	}
	return all
}

// apart proves one by one that VMs of a class find room though rules keep them apart from
// others: where those are, or may be started, there is none for them.
func (p *Prover) apart(s *fsm.State, dead []*view, c *class, left, enough int64) bool {
	lost := func(h fsm.HostID) bool {
		return slices.ContainsFunc(dead, func(v *view) bool { return v.h.ID == h })
	}
	for _, v := range dead {
		for i := range v.h.VMs {
			m := &v.h.VMs[i]
			if !p.grouped(s, m, c) {
				continue
			}
			rest := left
			for _, r := range s.RulesOf(m.ID) {
				if !r.Strict || r.Kind != fsm.RuleApart {
					continue
				}
				for _, x := range r.Members {
					if x.VM == m.ID {
						continue
					}
					o, owner := s.VM(x.VM)
					switch {
					case o == nil:
					case o.Work != 0 || lost(owner.ID) || p.views[owner.ID].leaves:
						rest -= 2 * p.widest // it may be started anywhere, or is on its way between two hosts
					case o.Occupies():
						rest -= p.views[owner.ID].cost(c)
					}
				}
			}
			if rest <= enough {
				return false
			}
		}
	}
	return true
}

// grouped reports whether a VM is counted in a class: it is lost, and nothing about it
// is out of the ordinary.
func (p *Prover) grouped(s *fsm.State, m *fsm.VM, c *class) bool {
	if !isLost(m) || m.Work != 0 || m.Power != fsm.PowerOn || m.LostSight() || s.Bundle(m.ID) != nil || m.Spec == nil || !m.Spec.Defines() || len(m.Spec.Local) > 0 {
		return false
	}
	own, _ := p.classOf(s, m)
	return own == c
}

// nowhere lists the VMs of a class for which no host has room even now.
func (p *Prover) nowhere(s *fsm.State, dead []*view, c *class) (out []Stay) {
	var no reasons
	for _, v := range p.order {
		if slices.Contains(dead, v) {
			continue
		}
		why := c.refuses(v)
		if why == "" {
			return nil // by less than a KiB
		}
		no.add(why, v.h.ID)
	}
	text := no.String()
	for _, v := range dead {
		for i := range v.h.VMs {
			if m := &v.h.VMs[i]; v.unproven == "" && p.grouped(s, m, c) {
				out = append(out, lostVM{m, v.h.ID, text}.stay())
			}
		}
	}
	return out
}
