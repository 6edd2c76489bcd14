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
	maxSeen  = 1024   // units whose neighbours are counted; of more, nothing is known
	maxCore  = 64     // units that are looked at together; of more, nothing is known
	maxTries = 20_000 // of a unit on a host; when they are used up nothing is known
)

// core are units of which each may find no host because of the others: by number, with
// sets of them as bits.
type core struct {
	units   []*unit
	near    []uint64    // the neighbours of each
	classes []hostClass // of hosts, in the order of their first one
	tries   int         // that are left
}

// hostClass are hosts that make no difference to a core.
type hostClass struct {
	may uint64 // units that may run there
	n   int    // hosts
}

// jointly says why strict rules about VMs apart cannot all be kept with r, although each
// of them could be; "" when nothing is known against them.
func (t *trial) jointly(r *Rule) string {
	c := t.core(r)
	if c == nil {
		return ""
	}
	all := c.peeled(1<<len(c.units) - 1)
	if all == 0 || c.placed(all) {
		return ""
	}
	for i := range c.units { // who is not needed for it is not named
		if less := all &^ (1 << i); less != all && !c.placed(less) {
			all = less
		}
	}
	return t.tooFew(r, c, all)
}

// core finds the units that matter and hang together with those of r; nil when there are
// none, or too many.
func (t *trial) core(r *Rule) *core {
	all := 0
	for _, h := range t.s.Hosts() {
		if h.Status != Removed {
			all++
		}
	}
	c := &core{tries: maxTries}
	var queue []*unit
	for _, m := range r.Members {
		queue = append(queue, t.unit(m.VM))
	}
	near := map[*unit][]*unit{}
	for len(queue) > 0 {
		u := queue[0]
		queue = queue[1:]
		if _, seen := near[u]; seen {
			continue
		}
		if len(near) == maxSeen {
			return nil
		}
		near[u] = t.near(u)
		choices := all
		if t.s.pins(u) {
			choices = len(t.eligible(u).hosts)
		}
		if len(near[u]) < choices || choices == 0 { // without any host it is wrong by itself
			continue
		}
		if len(c.units) == maxCore {
			return nil
		}
		c.units = append(c.units, u)
		queue = append(queue, near[u]...)
	}
	if len(c.units) == 0 {
		return nil
	}
	for _, u := range c.units {
		set := uint64(0)
		for i, x := range c.units {
			if slices.Contains(near[u], x) {
				set |= 1 << i
			}
		}
		c.near = append(c.near, set)
	}
	t.classify(c)
	return c
}

// near are the units that strict rules keep apart from u.
func (t *trial) near(u *unit) (near []*unit) {
	seen := map[*unit]bool{u: true}
	for _, id := range u.members {
		for _, x := range t.s.RulesOf(id) {
			if x.Kind != RuleApart || !x.Strict {
				continue
			}
			for _, m := range x.Members {
				if v, _ := t.s.VM(m.VM); v == nil {
					continue
				}
				if n := t.unit(m.VM); !seen[n] {
					seen[n] = true
					near = append(near, n)
				}
			}
		}
	}
	return near
}

// classify sorts the hosts by which units may run there.
func (t *trial) classify(c *core) {
	anywhere, pinned := uint64(0), map[HostID]uint64{}
	for i, u := range c.units {
		if !t.s.pins(u) {
			anywhere |= 1 << i
			continue
		}
		for _, h := range u.hosts {
			pinned[h] |= 1 << i
		}
	}
	at := map[uint64]int{}
	for id, h := range t.s.Hosts() {
		if h.Status == Removed {
			continue
		}
		may := anywhere | pinned[id]
		i, ok := at[may]
		if !ok {
			i = len(c.classes)
			at[may] = i
			c.classes = append(c.classes, hostClass{may: may})
		}
		c.classes[i].n++
	}
}

// peeled leaves those of a set that have as many neighbours in it as hosts, or more.
func (c *core) peeled(set uint64) uint64 {
	for {
		was := set
		for i := range c.units {
			if set&(1<<i) != 0 && bits.OnesCount64(c.near[i]&set) < c.hosts(1<<i) {
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
	s := search{core: c}
	for _, x := range c.classes {
		s.free = append(s.free, x.n)
	}
	return s.place(c.peeled(set))
}

// search gives hosts to the units of a core.
type search struct {
	*core
	used []usedHost
	free []int // hosts of each class that nobody has
}

type usedHost struct {
	class int
	units uint64 // that it is given to
}

// place finds hosts for those that are left, for who has the fewest to choose from first.
// Of a class, whose hosts nobody has, one is as good as another.
func (s *search) place(left uint64) bool {
	if left == 0 {
		return true
	}
	next, fewest := -1, 0
	for i := range s.units {
		if left&(1<<i) == 0 {
			continue
		}
		if n := s.choices(i); next < 0 || n < fewest {
			next, fewest = i, n
		}
	}
	bit := uint64(1) << next
	for j := range s.used {
		if s.suits(next, j) {
			if s.tries--; s.tries < 0 {
				return true
			}
			s.used[j].units |= bit
			if s.place(left &^ bit) {
				return true
			}
			s.used[j].units &^= bit
		}
	}
	for class, n := range s.free {
		if n == 0 || s.classes[class].may&bit == 0 {
			continue
		}
		if s.tries--; s.tries < 0 {
			return true
		}
		s.free[class]--
		s.used = append(s.used, usedHost{class, bit})
		if s.place(left &^ bit) {
			return true
		}
		s.used = s.used[:len(s.used)-1]
		s.free[class]++
	}
	return false
}

// choices counts the hosts that a unit may be given.
func (s *search) choices(unit int) (n int) {
	for j := range s.used {
		if s.suits(unit, j) {
			n++
		}
	}
	for class, free := range s.free {
		if s.classes[class].may&(1<<unit) != 0 {
			n += free
		}
	}
	return n
}

// suits reports whether a unit may run on a host that others have already.
func (s *search) suits(unit, used int) bool {
	x := s.used[used]
	return s.classes[x.class].may&(1<<unit) != 0 && x.units&s.near[unit] == 0
}

// tooFew says that the units of a set have too few hosts; "" when r has no part in that:
// what became impossible by itself keeps nobody from writing other rules.
func (t *trial) tooFew(r *Rule, c *core, set uint64) string {
	var units []*unit
	for i, u := range c.units {
		if set&(1<<i) != 0 {
			units = append(units, u)
		}
	}
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
	if least := map[bool]int{true: 2, false: 1}[r.Kind == RuleApart]; t.joins(r, units) < least {
		return ""
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
	if n := len(names); n > maxTold+1 {
		names = append(names[:maxTold], fmt.Sprintf("%d more", n-maxTold))
	}
	return fmt.Sprintf("%s cannot be kept at once: %s have %d hosts between them, and there is no way to keep apart what is to be", enumerated(numbers), enumerated(names), c.hosts(set))
}

// joins counts the units of which a rule has a VM.
func (t *trial) joins(r *Rule, units []*unit) (n int) {
	for _, u := range units {
		if slices.ContainsFunc(r.Members, func(m RuleVM) bool { return slices.Contains(u.members, m.VM) }) {
			n++
		}
	}
	return n
}
