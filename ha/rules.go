package ha

import (
	"bytes"
	"cmp"
	"fmt"
	"slices"

	"lifeboat/fsm"
)

// ruling is what the rules ask for in this run, and who has been given a host by it.
type ruling struct {
	d    *decision
	dead map[fsm.HostID]bool // proven dead by an entry of this plan
	put  map[fsm.VMID]fsm.HostID
	// kept is where a VM that waits must go, since others of its bundle are there:
	// its room there is nobody else's.
	kept map[fsm.VMID]fsm.HostID
}

// ruling reads the rules; nil when there are none.
func (p *placer) ruling() *ruling {
	if p.d.s.CountRules() == 0 {
		return nil
	}
	u := &ruling{d: p.d, dead: map[fsm.HostID]bool{}, put: map[fsm.VMID]fsm.HostID{}, kept: map[fsm.VMID]fsm.HostID{}}
	for _, j := range p.d.jobs {
		if j.fenced != nil {
			u.dead[j.owner.ID] = true
		}
	}
	for _, w := range p.d.works {
		if w.Type.Stops() || len(p.d.s.RulesOf(w.VM)) == 0 {
			continue
		}
		v, owner := p.d.s.VM(w.VM)
		if v == nil || v.Spec == nil || len(u.where(w.VM)) > 0 {
			continue
		}
		if b := p.d.s.Bundle(w.VM); b != nil {
			for _, m := range b.Members {
				if at := u.bound(m); len(at) > 0 {
					p.keep(u, v, owner, at[0])
					break
				}
			}
		}
		// One that can be started again where it is keeps its place, but not two that
		// are to be apart.
		restarts, _ := p.d.p.Limits(v)
		if _, ok := u.kept[w.VM]; !ok && w.Step == fsm.Scheduled && !v.Gone && p.rooms[p.at[owner.ID]].no == "" && w.TriedOn(owner.ID) <= restarts && !u.crowded(w.VM, owner.ID) {
			u.kept[w.VM] = owner.ID
		}
	}
	return u
}

// crowded reports whether a VM that a strict rule keeps apart from another one is, or
// must go, where that would be.
func (u *ruling) crowded(id fsm.VMID, h fsm.HostID) bool {
	for _, r := range u.d.s.RulesOf(id) {
		if r.Kind == fsm.RuleApart && r.Strict && slices.ContainsFunc(r.Members, func(m fsm.RuleVM) bool { return m.VM != id && slices.Contains(u.soon(m.VM), h) }) {
			return true
		}
	}
	return false
}

// keep leaves room on a host to a VM that must go there.
func (p *placer) keep(u *ruling, v *fsm.VM, owner *fsm.Host, at fsm.HostID) {
	u.kept[v.ID] = at
	if at != owner.ID || u.dead[owner.ID] || !v.Occupies() {
		r := &p.rooms[p.at[at]]
		p.line.change(r, func() { r.take(v.Spec) })
	}
}

// where are the hosts on which a VM runs, starts, or may run, by what is about to be
// committed.
func (u *ruling) where(id fsm.VMID) []fsm.HostID {
	if h, ok := u.put[id]; ok {
		return []fsm.HostID{h}
	}
	at := u.d.s.Where(id)
	if len(u.dead) > 0 {
		at = slices.DeleteFunc(at, func(h fsm.HostID) bool { return u.dead[h] })
	}
	return at
}

// bound is where a VM will be, by what is about to be committed.
func (u *ruling) bound(id fsm.VMID) []fsm.HostID {
	at := u.where(id)
	return at[max(len(at)-1, 0):]
}

// soon is where, and where it must go.
func (u *ruling) soon(id fsm.VMID) []fsm.HostID {
	at := u.where(id)
	if h, ok := u.kept[id]; ok && len(at) == 0 {
		return []fsm.HostID{h}
	}
	return at
}

// holds reports whether room is kept for a VM on a host.
func (u *ruling) holds(id fsm.VMID, h fsm.HostID) bool { return u != nil && u.kept[id] == h }

// placed notes where a VM is going to start, and keeps room there for those that
// start with it.
func (p *placer) placed(a *asked, id fsm.VMID, h fsm.HostID) {
	if len(a.group) == 0 {
		return
	}
	p.rules.put[id] = h
	for _, m := range a.group {
		if v, owner := p.d.s.VM(m); m != id && p.rules.kept[m] != h {
			p.keep(p.rules, v, owner, h)
		}
	}
}

// asked is what the rules ask of one VM's host, and of what starts with it.
type asked struct {
	p      *placer
	no     string // why no host will do
	memory uint64 // of the VM, and of those of its bundle that are to start with it
	cpus   uint32
	group  []fsm.VMID   // who is to start there, by id; empty = it is under no rule
	rules  []*fsm.Rule  // of all of them, by number
	at     []fsm.HostID // where the others of its bundle are already
	others string       // the rule by which it goes there, or nowhere
	job    job
	seats  map[fsm.VMID][]fsm.HostID // see soon
	fit    []*room
}

// asks reads the rules of a VM that waits for a host.
func (p *placer) asks(j job) *asked {
	a := &asked{p: p, memory: j.vm.Spec.MemoryBytes, cpus: j.vm.Spec.CPUs}
	if p.rules == nil || len(p.d.s.RulesOf(j.vm.ID)) == 0 {
		return a
	}
	a.group, a.job, a.seats = []fsm.VMID{j.vm.ID}, j, map[fsm.VMID][]fsm.HostID{}
	b := p.d.s.Bundle(j.vm.ID)
	if b != nil {
		for _, m := range b.Members {
			if m == j.vm.ID {
				continue
			}
			if on := p.rules.bound(m); len(on) > 0 && a.others == "" {
				a.others = fmt.Sprintf("%s keeps it with %s on host %s", ruleOfBundle(b, j.vm.ID), p.name(m), on[0])
			}
			a.at = append(a.at, p.rules.bound(m)...)
		}
		if len(a.at) == 0 { // the bundle as a whole
			a.whole(b, j)
		}
	}
	a.ruled()
	return a
}

// ruled collects the rules of the group.
func (a *asked) ruled() {
	for _, id := range a.group {
		for _, r := range a.p.d.s.RulesOf(id) {
			if !slices.Contains(a.rules, r) {
				a.rules = append(a.rules, r)
			}
		}
	}
	slices.SortFunc(a.rules, func(x, y *fsm.Rule) int { return cmp.Compare(x.ID, y.ID) })
}

// soon is ruling.soon, read once for all hosts that are looked at.
func (a *asked) soon(id fsm.VMID) []fsm.HostID {
	at, ok := a.seats[id]
	if !ok {
		at = a.p.rules.soon(id)
		a.seats[id] = at
	}
	return at
}

// whole adds those of a bundle that are to run and run nowhere: they start where the
// first of them does.
func (a *asked) whole(b *fsm.Bundle, j job) {
	for _, m := range b.Members {
		v, _ := a.p.d.s.VM(m)
		if m == j.vm.ID || v == nil || !v.Protected() || !v.Wanted || v.Error != "" {
			continue
		}
		if v.Spec == nil || !v.Spec.Defines() {
			a.no = fmt.Sprintf("%s keeps it with %s, whose definition has never been read", ruleOfBundle(b, j.vm.ID), v.Name)
			return
		}
		a.group = append(a.group, m)
		a.memory += v.Spec.MemoryBytes
		a.cpus += v.Spec.CPUs
	}
	slices.SortFunc(a.group, func(x, y fsm.VMID) int { return bytes.Compare(x[:], y[:]) })
}

// forbids says why the rules, or those who start with it, will not have a host.
func (a *asked) forbids(r *room, j job) string {
	if r.no != "" {
		return ""
	}
	s, u := a.p.d.s, a.p.rules
	there := func(id fsm.VMID) bool { return !slices.Contains(a.group, id) && slices.Contains(a.soon(id), r.h.ID) }
	for _, x := range a.rules {
		if x.Strict {
			if no := s.Forbids(x, r.h, there); no != "" {
				return no
			}
		}
	}
	if len(a.group) == 1 {
		return ""
	}
	for _, id := range a.group {
		if id == j.vm.ID {
			continue
		}
		v, owner := s.VM(id)
		// One that is off can be given up where it is.
		other := job{vm: v, owner: owner, work: &fsm.Work{}, gone: v.Gone || v.Power == fsm.PowerOff || u.dead[owner.ID]}
		if w := s.Work(v.Work); w != nil {
			other.work = w
		}
		if no := a.p.refuses(r, other, a.p.line.of(v.Spec).lacks[r.rank]); no != "" {
			return fmt.Sprintf("%s keeps it with %s: %s", ruleOfBundle(s.Bundle(id), id), v.Name, no)
		}
	}
	memory, cpus := a.memory, a.cpus
	for _, id := range a.group {
		if v, owner := s.VM(id); owner.ID == r.h.ID && !u.dead[owner.ID] && v.Occupies() { // it is counted there
			memory -= v.Spec.MemoryBytes
			cpus -= v.Spec.CPUs
		}
	}
	if no := r.fits(memory, cpus); no != "" {
		return fmt.Sprintf("%s, which it and what %s keeps with it need", no, ruleOfBundle(s.Bundle(j.vm.ID), j.vm.ID))
	}
	return ""
}

// refuses is why a room will not do by the rules.
func (a *asked) refuses(r *room) string {
	switch {
	case len(a.group) == 0:
		return ""
	case len(a.at) > 0 && !slices.Contains(a.at, r.h.ID):
		return a.others
	}
	return a.forbids(r, a.job)
}

// note remembers a host that will do.
func (a *asked) note(r *room) {
	if len(a.rules) > 0 {
		a.fit = append(a.fit, r)
	}
}

// compare holds two hosts against each other by the rules, the first rule first: what
// one prefers no later one changes. It is positive when x is to be preferred.
func (a *asked) compare(x, y *room) int {
	for _, r := range a.rules {
		if c := cmp.Compare(a.score(r, x), a.score(r, y)); c != 0 {
			return c
		}
	}
	return 0
}

// notMeant is the score of a host that a rule about hosts does not name.
const notMeant = -1 << 40

// score is how well a host fulfils a rule.
func (a *asked) score(r *fsm.Rule, x *room) int64 {
	if r.Kind == fsm.RuleHosts {
		if priority, ok := r.Choice(x.h); ok {
			return int64(priority)
		}
		return notMeant
	}
	there, rack := int64(0), int64(0)
	for _, m := range r.Members {
		if slices.Contains(a.group, m.VM) {
			continue
		}
		for _, at := range a.soon(m.VM) {
			if at == x.h.ID {
				there++
			}
			if r.Kind == fsm.RuleApart && near(a.p.d.s.Host(at), x.h) {
				rack++
			}
		}
	}
	if r.Kind == fsm.RuleTogether {
		return there
	}
	const host = 1 << 20 // one on the same host counts more than all in the same rack
	return -there*host - rack
}

// near: two hosts are in one failure domain.
func near(a, b *fsm.Host) bool {
	return a != nil && b != nil && a.Label("rack") != "" && a.Label("rack") == b.Label("rack")
}

// decided names the rule for which a host was taken rather than another one that can
// take the VM; "" when no rule decided.
func (a *asked) decided(best *room) string {
	for _, r := range a.rules {
		for _, x := range a.fit {
			if a.score(r, x) < a.score(r, best) {
				return fmt.Sprintf("%s prefers it; ", a.p.d.s.Describe(r))
			}
		}
	}
	return ""
}

func (p *placer) name(id fsm.VMID) string {
	if v, _ := p.d.s.VM(id); v != nil {
		return v.Name
	}
	return id.String()
}

// ruleOfBundle names the rule by which a VM is in its bundle.
func ruleOfBundle(b *fsm.Bundle, id fsm.VMID) string {
	for _, r := range b.Rules {
		if r.Has(id) {
			return fmt.Sprintf("rule %d", r.ID)
		}
	}
	return "a rule"
}
