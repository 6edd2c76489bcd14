package fsm

import (
	"fmt"
	"math/bits"
	"slices"
)

// Strict rules about VMs apart that share VMs make a graph: units are neighbours that are
// to have different hosts. Whether there are hosts for all of them is the colouring of a
// graph, which is hard. But a unit with fewer neighbours than hosts always finds one when
// all the others have theirs: such units are left out, and mostly nobody remains.

const (
	maxVisits = 1 << 20 // looks at a member of a rule, or at a host, to find a core
	maxCore   = 64      // units that are looked at together; of more, nothing is known
	maxWork   = 1 << 23 // looks of the search at a host for a unit; after that nothing is known
)

// core are units of which each may find no host because of the others: by number, with
// sets of them as bits.
type core struct {
	units   []*unit
	near    []uint64    // the neighbours of each
	choices []int       // hosts on which each may run
	classes []hostClass // of hosts, in the order of their first one
	work    int         // that is left
}

// hostClass are hosts that make no difference to a core.
type hostClass struct {
	may uint64 // units that may run there
	n   int    // hosts
}

// jointly says why strict rules about VMs apart cannot all be kept with r, although each
// of them could be; "" when nothing is known against them, or when they could not be
// without it either: what became impossible by itself keeps nobody from writing rules.
func (t *trial) jointly(r *Rule, before *State) string {
	units, ok := t.entangled(r)
	if !ok || len(units) == 0 {
		return ""
	}
	c := t.core(units)
	all := c.peeled(1<<len(c.units) - 1)
	if all == 0 || c.placed(all) {
		return ""
	}
	c.work = maxWork
	for i := len(c.units) - 1; i >= 0; i-- { // who is not needed for it is not named; those of r come first
		if less := all &^ (1 << i); less != all && !c.placed(less) {
			all = less
		}
	}
	units = c.of(all)
	if !before.couldPlace(units) {
		return ""
	}
	return t.tooFew(r, units, c.hosts(all))
}

// couldPlace reports whether there were hosts for the VMs of units by the rules that
// stand, or that is not known.
func (s *State) couldPlace(units []*unit) bool {
	t := newTrial(s)
	var own []*unit
	for _, u := range units {
		for _, id := range u.members {
			if v, _ := s.VM(id); v == nil {
				continue
			}
			if x := t.unit(id); !slices.Contains(own, x) {
				own = append(own, x)
			}
		}
	}
	if len(own) > maxCore {
		return true
	}
	c := t.core(own)
	return c.placed(1<<len(own) - 1)
}

// entangled finds the units that may find no host because of others, and hang together
// with those of r, which come first. ok: they could be found.
func (t *trial) entangled(r *Rule) (units []*unit, ok bool) {
	all := 0
	for _, h := range t.s.Hosts() {
		if h.Status != Removed {
			all++
		}
	}
	var queue []*unit
	for _, m := range r.Members {
		queue = append(queue, t.unit(m.VM))
	}
	seen := map[*unit]bool{}
	for ; len(queue) > 0; queue = queue[1:] {
		u := queue[0]
		if seen[u] {
			continue
		}
		seen[u] = true
		near := t.near(u)
		choices := all
		if t.s.pins(u) {
			if !u.looked {
				t.visits -= all
			}
			choices = len(t.eligible(u).hosts)
		}
		switch {
		case t.visits < 0:
			return nil, false
		case len(near) < choices || choices == 0: // without any host it is wrong by itself
			continue
		case len(units) == maxCore:
			return nil, false
		}
		units = append(units, u)
		queue = append(queue, near...)
	}
	return units, true
}

// core is what rules and hosts make of units, at most maxCore.
func (t *trial) core(units []*unit) *core {
	c := &core{units: units, work: maxWork}
	for _, u := range units {
		set := uint64(0)
		for _, x := range t.near(u) {
			if i := slices.Index(units, x); i >= 0 {
				set |= 1 << i
			}
		}
		c.near = append(c.near, set)
	}
	t.classify(c)
	return c
}

// of are the units of a set.
func (c *core) of(set uint64) (units []*unit) {
	for i, u := range c.units {
		if set&(1<<i) != 0 {
			units = append(units, u)
		}
	}
	return units
}

// near are the units that strict rules keep apart from u. VMs that are gone count for
// nothing.
func (t *trial) near(u *unit) (near []*unit) {
	seen := map[*unit]bool{u: true}
	for _, id := range u.members {
		if v, _ := t.s.VM(id); v == nil {
			continue
		}
		for _, x := range t.s.RulesOf(id) {
			if t.visits < 0 {
				return near
			}
			if x.Kind != RuleApart || !x.Strict {
				continue
			}
			for _, n := range t.about(x) {
				if !seen[n] {
					seen[n] = true
					near = append(near, n)
				}
			}
		}
	}
	return near
}

// about are the units of the members of a rule.
func (t *trial) about(x *Rule) []*unit {
	all, ok := t.members[x]
	if !ok {
		for _, m := range x.Members {
			if v, _ := t.s.VM(m.VM); v != nil {
				all = append(all, t.unit(m.VM))
			}
		}
		t.members[x] = all
	}
	t.visits -= len(x.Members)
	return all
}

// classify sorts the hosts by which units may run there.
func (t *trial) classify(c *core) {
	anywhere, pinned := uint64(0), map[HostID]uint64{}
	for i, u := range c.units {
		if !t.s.pins(u) {
			anywhere |= 1 << i
			continue
		}
		for _, h := range t.eligible(u).hosts {
			pinned[h] |= 1 << i
		}
	}
	for id, h := range t.s.Hosts() {
		if h.Status != Removed {
			c.classes = append(c.classes, hostClass{anywhere | pinned[id], 1})
		}
	}
	c.classes = c.among(1<<len(c.units) - 1)
	for i := range c.units {
		c.choices = append(c.choices, c.hosts(1<<i))
	}
}

// among are the classes of hosts that make a difference to a set.
func (c *core) among(set uint64) (classes []hostClass) {
	at := map[uint64]int{}
	for _, x := range c.classes {
		may := x.may & set
		i, ok := at[may]
		if !ok {
			i = len(classes)
			at[may] = i
			classes = append(classes, hostClass{may: may})
		}
		classes[i].n += x.n
	}
	return classes
}

// peeled leaves those of a set that have as many neighbours in it as hosts, or more.
func (c *core) peeled(set uint64) uint64 {
	for {
		was := set
		for i := range c.units {
			if set&(1<<i) != 0 && bits.OnesCount64(c.near[i]&set) < c.choices[i] {
				set &^= 1 << i
			}
		}
		if set == was {
			return set
		}
	}
}

// hosts counts those on which one of a set may run.
func (c *core) hosts(set uint64) (n int) {
	for _, x := range c.classes {
		if x.may&set != 0 {
			n += x.n
		}
	}
	return n
}

// placed reports whether there are hosts for a set, or that is not known.
func (c *core) placed(set uint64) bool {
	set = c.peeled(set)
	s := search{near: c.near, free: c.among(set), work: &c.work}
	return s.place(set)
}

// search gives hosts to the units of a core.
type search struct {
	near []uint64
	free []hostClass // hosts that nobody has
	used []usedHost
	work *int
}

type usedHost struct {
	class int
	units uint64 // that it is given to
}

// place finds hosts for those that are left, for who has the fewest to choose from first.
// Of a class, whose hosts nobody has, one is as good as another.
func (s *search) place(left uint64) bool {
	if left == 0 || *s.work < 0 {
		return true
	}
	next, fewest := -1, 0
	for rest := left; rest != 0; rest &= rest - 1 {
		i := bits.TrailingZeros64(rest)
		if n := s.choices(i); next < 0 || n < fewest {
			next, fewest = i, n
		}
	}
	bit := uint64(1) << next
	for j := range s.used {
		if s.suits(next, j) {
			s.used[j].units |= bit
			if s.place(left &^ bit) {
				return true
			}
			s.used[j].units &^= bit
		}
	}
	for class, x := range s.free {
		if x.n == 0 || x.may&bit == 0 {
			continue
		}
		s.free[class].n--
		s.used = append(s.used, usedHost{class, bit})
		if s.place(left &^ bit) {
			return true
		}
		s.used = s.used[:len(s.used)-1]
		s.free[class].n++
	}
	return false
}

// choices counts the hosts that a unit may be given.
func (s *search) choices(unit int) (n int) {
	*s.work -= len(s.used) + len(s.free)
	for j := range s.used {
		if s.suits(unit, j) {
			n++
		}
	}
	for _, x := range s.free {
		if x.may&(1<<unit) != 0 {
			n += x.n
		}
	}
	return n
}

// suits reports whether a unit may run on a host that others have already.
func (s *search) suits(unit, used int) bool {
	x := s.used[used]
	return s.free[x.class].may&(1<<unit) != 0 && x.units&s.near[unit] == 0
}

// tooFew says that units have too few hosts.
func (t *trial) tooFew(r *Rule, units []*unit, hosts int) string {
	rules := []*Rule{r}
	for _, u := range units {
		for _, id := range u.members {
			for _, x := range t.s.RulesOf(id) {
				if x.Kind == RuleApart && x.Strict && !slices.Contains(rules, x) && t.joins(x, units) > 1 {
					rules = append(rules, x)
				}
			}
		}
	}
	slices.SortFunc(rules, func(a, b *Rule) int { return int(a.ID) - int(b.ID) })
	var numbers, names []string
	for _, x := range rules {
		numbers = append(numbers, t.s.numbered(x))
	}
	for _, u := range units {
		names = append(names, t.s.unitName(u))
	}
	slices.Sort(names)
	return fmt.Sprintf("%s cannot be kept at once: %s have %d hosts between them, and there is no way to keep apart what is to be", enumerated(shortened(numbers)), enumerated(shortened(names)), hosts)
}

// joins counts the units that a rule is about.
func (t *trial) joins(r *Rule, units []*unit) (n int) {
	for _, u := range units {
		if slices.Contains(t.about(r), u) {
			n++
		}
	}
	return n
}
