package ha

import (
	"cmp"
	"iter"
	"slices"

	"lifeboat/fsm"
)

// lineup finds hosts for VMs that are under no rule: of those thousands may wait at once
// in a large cluster, and a look at every host for each would take minutes. It has the
// hosts in the order in which the placement policy prefers them, and knows of each shape
// of VM which of them can start one. It is kept from one decision to the next, and never
// changes an answer.
type lineup struct {
	policy *fsm.Policy
	rooms  []room                  // by rank
	places []place                 // of those that are lined up, best first
	odd    []*room                 // that may take one VM and not another of the same shape, by rank
	kinds  map[*fsm.Shape]*fitting // nil: nobody has asked yet, nothing is in order
	// passing are the rooms that hold more than their hosts say: what is on its way
	// there, or about to be.
	passing map[int]bool
}

// place is a host's place in the line.
type place struct {
	vms   int
	share float64 // of its memory that is free
	rank  int
}

// fitting is which rooms can start a VM of one shape.
type fitting struct {
	spec  *fsm.Spec
	lacks []string         // what each room that takes anything lacks, memory apart
	of    []*fsm.Inventory // that lacks is of
	state []canStart
	fit   int // rooms that can
	full  int // that could, if fewer starts were under way there
}

type canStart uint8

const (
	cannot canStart = iota
	can
	canLater
)

// lineUp has every host in the line as it is now. Of those that have not changed since
// the last time it reads nothing.
func (m *Memo) lineUp(d *decision) *lineup {
	if m.line == nil || m.line.policy != d.p {
		m.line = &lineup{policy: d.p, rooms: make([]room, len(m.order)), passing: map[int]bool{}}
		for i := range m.order {
			m.order[i].lined = false
		}
	}
	l := m.line
	passed := l.passing
	l.passing = map[int]bool{}
	for host := range d.moving().to { // in any order: a set
		if rank, ok := m.ranks[host]; ok {
			passed[rank], l.passing[rank] = true, true
		}
	}
	var changed []room
	for i := range m.order {
		at := &m.order[i]
		if at.lined && at.still == at.silent && !passed[at.rank] {
			continue
		}
		r := d.newRoom(at)
		at.lined, at.still, at.starts = true, at.silent, r.starts
		if was := &l.rooms[at.rank]; l.kinds == nil || was.alike(&r) {
			*was = r
		} else {
			changed = append(changed, r)
		}
	}
	if len(changed) > len(l.rooms)/8 {
		l.places, l.odd, l.kinds = nil, nil, nil
	}
	for _, r := range changed {
		l.put(&l.rooms[r.rank], func() { l.rooms[r.rank] = r })
	}
	return l
}

// alike reports whether two rooms of a host take the same.
func (r *room) alike(x *room) bool {
	a, b := *r, *x
	a.h, b.h = nil, nil
	return a == b && r.h.Inventory == x.h.Inventory && r.odd() == x.odd()
}

// ordered lines the hosts up by the policy.
func (l *lineup) ordered() {
	if l.kinds != nil {
		return
	}
	l.kinds = map[*fsm.Shape]*fitting{}
	for i := range l.rooms {
		switch r := &l.rooms[i]; {
		case r.odd():
			l.odd = append(l.odd, r)
		case r.lined():
			l.places = append(l.places, r.place())
		}
	}
	slices.SortFunc(l.places, l.compare)
}

// lined reports whether a host takes VMs of others, all of a shape alike.
func (r *room) lined() bool { return r.no == "" && r.closed == "" && !r.odd() }

// odd reports whether a host may take one VM and not another of the same shape.
func (r *room) odd() bool { return r.no == "" && r.closed == "" && (r.busy || len(r.h.Copies) > 0) }

func (r *room) place() place { return place{r.vms, r.share(), r.rank} }

func (l *lineup) compare(a, b place) int {
	return cmp.Or(prefer(l.policy.Placement, a, b), cmp.Compare(a.rank, b.rank))
}

// prefer compares two hosts by how many VMs they have and by the free share of their
// memory, as all placement policies but "load" do. It is negative when a is preferred.
func prefer(placement string, a, b place) int {
	switch placement {
	case "spread":
		return cmp.Compare(b.share, a.share)
	case "pack":
		return cmp.Compare(a.share, b.share)
	}
	return cmp.Or(cmp.Compare(a.vms, b.vms), cmp.Compare(b.share, a.share))
}

// of knows the rooms for VMs of one shape.
func (l *lineup) of(s *fsm.Spec) *fitting {
	l.ordered()
	f := l.kinds[s.Shape]
	if f == nil {
		n := len(l.rooms)
		f = &fitting{spec: s, lacks: make([]string, n), of: make([]*fsm.Inventory, n), state: make([]canStart, n)}
		for i := range l.rooms {
			f.look(l.policy, &l.rooms[i])
		}
		l.kinds[s.Shape] = f
	}
	return f
}

// look counts a room as it is now.
func (f *fitting) look(p *fsm.Policy, r *room) {
	if inv := r.h.Inventory; r.no == "" && f.of[r.rank] != inv {
		f.of[r.rank], f.lacks[r.rank] = inv, lacks(inv, f.spec.Shape, f.spec.Disks())
	}
	now := cannot
	switch {
	case !r.lined() || f.lacks[r.rank] != "" || int64(f.spec.MemoryBytes) > r.free || int64(f.spec.CPUs) > r.cores:
	case r.starts >= p.StartsPerHost:
		now = canLater
	default:
		now = can
	}
	f.add(f.state[r.rank], -1)
	f.add(now, 1)
	f.state[r.rank] = now
}

func (f *fitting) add(state canStart, n int) {
	switch state {
	case can:
		f.fit += n
	case canLater:
		f.full += n
	}
}

// change has a room give something away, in this decision only.
func (l *lineup) change(r *room, do func()) {
	l.passing[r.rank] = true
	l.put(r, do)
}

// put does something to a room, which takes its new place in the line.
func (l *lineup) put(r *room, do func()) {
	if l.kinds == nil {
		do()
		return
	}
	if r.lined() {
		i, _ := slices.BinarySearchFunc(l.places, r.place(), l.compare)
		l.places = slices.Delete(l.places, i, i+1)
	}
	l.odd = slices.DeleteFunc(l.odd, func(x *room) bool { return x == r })
	do()
	switch {
	case r.lined():
		i, _ := slices.BinarySearchFunc(l.places, r.place(), l.compare)
		l.places = slices.Insert(l.places, i, r.place())
	case r.odd():
		l.odd = append(l.odd, r)
	}
	for _, f := range l.kinds { // in any order: each for itself
		f.look(l.policy, r)
	}
}

// plain reports whether the lineup can answer for a VM: it may be on no host any more, has
// not been tried anywhere, and is under no rules but such as keep it apart from others.
// One under rules is not asked about when no start may begin: the first room that will do
// is the answer then.
func (p *placer) plain(j job, home *room, asks *asked) bool {
	return !p.d.soft.exhaustive && p.d.p.Placement != fsm.PlaceLoad && j.gone && home.no != "" &&
		len(j.work.Tried) == 0 && j.work.Type != fsm.WorkRelocation && len(j.vm.Spec.Local) == 0 &&
		(len(asks.group) == 0 || p.left > 0 && len(p.line.odd) == 0 && asks.onlyApart())
}

// best is find for a VM that is plain. fit: how many can take it. When nothing comes of it,
// a look at each host says why.
func (l *lineup) best(p *placer, j job, asks *asked) (best *room, fit int, full bool) {
	f := l.of(j.vm.Spec)
	fit, full = f.fit, f.full > 0
	forbidden := asks.forbidden()
	for _, rank := range forbidden {
		switch f.state[rank] {
		case can:
			fit--
		case canLater:
			return nil, 0, false
		}
	}
	if fit > 0 {
		i := slices.IndexFunc(l.places, func(x place) bool { return f.state[x.rank] == can && !asks.shuns(&l.rooms[x.rank]) })
		if i < 0 {
			return nil, 0, false // the rules choose among those that they would rather not have
		}
		best = &l.rooms[l.places[i].rank]
		for _, r := range asks.rules {
			asks.noteShunned(r, func(rank int) bool { return f.state[rank] == can && !slices.Contains(forbidden, rank) })
		}
	}
	for _, r := range l.odd {
		switch {
		case p.refuses(r, j, f.lacks[r.rank]) != "":
		case r.starts >= l.policy.StartsPerHost:
			full = true
		default:
			if fit++; best == nil || l.compare(r.place(), best.place()) < 0 {
				best = r
			}
		}
	}
	return best, fit, full
}

// onlyApart reports whether the rules only keep the VM from others.
func (a *asked) onlyApart() bool {
	return len(a.group) == 1 && len(a.at) == 0 && !slices.ContainsFunc(a.rules, func(r *fsm.Rule) bool { return r.Kind != fsm.RuleApart })
}

// forbidden are the rooms, by rank, that strict rules about VMs apart forbid, each once.
func (a *asked) forbidden() (ranks []int) {
	for _, r := range a.rules {
		if !r.Strict {
			continue
		}
		for rank := range a.taken(r) {
			if !slices.Contains(ranks, rank) {
				ranks = append(ranks, rank)
			}
		}
	}
	return ranks
}

// taken are the rooms, by rank, of those from which a rule keeps the VM apart.
func (a *asked) taken(r *fsm.Rule) iter.Seq[int] {
	return func(yield func(int) bool) {
		for _, m := range r.Members {
			if slices.Contains(a.group, m.VM) {
				continue
			}
			for _, at := range a.soon(m.VM) {
				if rank, ok := a.p.at[at]; ok && !yield(rank) {
					return
				}
			}
		}
	}
}

// shuns reports whether rules about VMs apart would rather not have a room. All that they
// do not shun are alike to them.
func (a *asked) shuns(x *room) bool {
	return slices.ContainsFunc(a.rules, func(r *fsm.Rule) bool { return a.score(r, x) < 0 })
}

// noteShunned notes a room that will do and that a rule about VMs apart would rather not
// have, if there is one.
func (a *asked) noteShunned(r *fsm.Rule, willDo func(rank int) bool) {
	for rank := range a.taken(r) {
		if willDo(rank) {
			a.note(&a.p.rooms[rank])
			return
		}
		near := a.p.rack(&a.p.rooms[rank])
		if i := slices.IndexFunc(near, willDo); i >= 0 {
			a.note(&a.p.rooms[near[i]])
			return
		}
	}
}

// rack are the rooms, by rank, in the failure domain of one; none when it is in none.
func (p *placer) rack(r *room) []int {
	if p.racks == nil {
		p.racks = map[string][]int{}
		for i := range p.rooms {
			if rack := p.rooms[i].h.Label("rack"); rack != "" {
				p.racks[rack] = append(p.racks[rack], i)
			}
		}
	}
	if rack := r.h.Label("rack"); rack != "" {
		return p.racks[rack]
	}
	return nil
}
