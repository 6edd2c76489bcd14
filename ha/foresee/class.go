package foresee

import (
	"fmt"
	"slices"
	"strings"

	"lifeboat/fsm"
	"lifeboat/ha"
)

// class is what all VMs have in common that need the same of a host: the same sizes,
// storages, networks, machine and CPU, and the same strict rules about hosts. There are
// few of them, however many VMs there are.
type class struct {
	key    string
	number int    // of those that are known at a time
	memory uint64 // bytes
	cpus   uint32
	needs  ha.Needs
	rules  []*fsm.Rule // strict ones about hosts

	kib    int64 // of memory, rounded up
	weight int64 // KiB that one CPU counts for, so that both can be added up
	// slack is how much must be put on all hosts together before none of them has room
	// for one more of this class, in KiB.
	slack int64
	fit   int // hosts that have room for one
	used  int // hosts that run some
}

func newClass(key string, s *fsm.Spec, rules []*fsm.Rule) *class {
	c := &class{key: key, memory: s.MemoryBytes, cpus: s.CPUs, needs: ha.NeedsOf(s), rules: rules, kib: kib(s.MemoryBytes)}
	c.weight = max(c.kib/int64(max(c.cpus, 1)), 1)
	return c
}

// kib rounds up.
func kib(bytes uint64) int64 { return int64((bytes + 1023) >> 10) }

// blocks is how much must be put on a host before it has no room for one more, in KiB;
// 0: it has none. Each KiB counts as one, and each CPU as much as memory that comes with
// it in this class: whoever fills the host's memory or its CPUs pays at least that.
func (c *class) blocks(v *view) int64 {
	if v.closed != "" || v.kib < c.kib || v.counted && v.cores < int64(c.cpus) {
		return 0
	}
	if c.lacking(v.h) != "" {
		return 0
	}
	cost := v.kib - c.kib + 1
	if v.counted {
		cost = min(cost, c.weight*(v.cores-int64(c.cpus)+1))
	}
	return cost
}

// lacking says what a host does not have, or which rule forbids it.
func (c *class) lacking(h *fsm.Host) string {
	if no := c.needs.Lacking(h.Inventory); no != "" {
		return no
	}
	for _, r := range c.rules {
		if _, ok := r.Choice(h); !ok {
			return fmt.Sprintf("rule %d keeps it on %s", r.ID, r.HostsText())
		}
	}
	return ""
}

// refuses says why a host has no room for one more; "" = it has.
func (c *class) refuses(v *view) string {
	switch {
	case v.closed != "":
		return v.closed
	case c.lacking(v.h) != "":
		return c.lacking(v.h)
	case v.free < int64(c.memory):
		return fmt.Sprintf("less than %d MiB of memory free", c.memory>>20)
	case v.counted && v.cores < int64(c.cpus):
		return fmt.Sprintf("fewer than %d CPUs free", c.cpus)
	}
	return ""
}

// count has the class know a host as it is now.
func (c *class) count(v *view) {
	c.forget(v)
	cost := c.blocks(v)
	if cost == 0 {
		return
	}
	if n := c.number + 1 - len(v.costs); n > 0 {
		v.costs = append(v.costs, make([]int64, n)...)
	}
	v.costs[c.number] = cost
	c.slack, c.fit = c.slack+cost, c.fit+1
}

func (c *class) forget(v *view) {
	if cost := v.cost(c); cost > 0 {
		v.costs[c.number] = 0
		c.slack, c.fit = c.slack-cost, c.fit-1
	}
}

// classes finds the class of a VM.
type classes struct {
	shapes map[*fsm.Shape]*class // of VMs without strict rules about hosts
	keys   map[string]*class
	free   []int // numbers that are nobody's any more
}

func newClasses() classes { return classes{map[*fsm.Shape]*class{}, map[string]*class{}, nil} }

// hostRules are the strict rules of a VM about hosts.
func hostRules(rules []*fsm.Rule) (out []*fsm.Rule) {
	for _, r := range rules {
		if r.Strict && r.Kind == fsm.RuleHosts {
			out = append(out, r)
		}
	}
	return out
}

// of is the class of VMs with this spec and these strict rules about hosts. One that is
// new knows nothing of the hosts yet.
func (k *classes) of(s *fsm.Spec, rules []*fsm.Rule) (c *class, isNew bool) {
	if len(rules) == 0 {
		if c = k.shapes[s.Shape]; c != nil {
			return c, false
		}
	}
	var b strings.Builder
	storages := slices.Compact(slices.Sorted(slices.Values(ha.NeedsOf(s).Storages())))
	fmt.Fprintf(&b, "%d %d %q %q %q %q", s.MemoryBytes, s.CPUs, s.Machine, s.CPUModel, s.Networks, storages)
	for _, r := range rules {
		fmt.Fprintf(&b, " %d", r.ID)
	}
	key := b.String()
	if c = k.keys[key]; c == nil {
		c, isNew = newClass(key, s, rules), true
		if c.number = len(k.keys); len(k.free) > 0 {
			c.number, k.free = k.free[len(k.free)-1], k.free[:len(k.free)-1]
		}
		k.keys[key] = c
	}
	if len(rules) == 0 {
		k.shapes[s.Shape] = c
	}
	return c, isNew
}

// sweep lets go of classes that no host runs any more, and of shapes that nobody asks
// for any more.
func (k *classes) sweep(views map[fsm.HostID]*view) {
	gone := false
	for key, c := range k.keys { // in any order: what goes is the same
		if c.used > 0 {
			continue
		}
		for _, v := range views {
			c.forget(v)
		}
		delete(k.keys, key)
		k.free = append(k.free, c.number)
		gone = true
	}
	if !gone {
		return
	}
	for s, c := range k.shapes {
		if c.used == 0 {
			delete(k.shapes, s)
		}
	}
}
