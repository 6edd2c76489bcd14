package fsm

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"lifeboat/fsm/logpb"
)

// A strict rule is refused exactly when no way to place the VMs keeps it and all that were
// taken before: all ways are tried.
func TestRulesAreRefusedWhenNothingKeepsThem(t *testing.T) {
	const vms = 6
	rapid.Check(t, func(r *rapid.T) {
		hosts := rapid.IntRange(1, 4).Draw(r, "hosts")
		l := policyFleet(t, hosts, vms)
		var taken []*logpb.Rule
		for range 10 {
			c := anyRule(r, hosts, vms)
			all := append(slices.Clone(taken), c.Rule)
			no := l.do(c)
			if can := keepable(all, hosts, vms); can != (no == "") {
				r.Fatalf("after %v, %v on %d hosts: refused with %q, can be kept: %t", taken, c.Rule, hosts, no, can)
			}
			if no == "" {
				taken = all
			}
		}
	})
}

func anyRule(r *rapid.T, hosts, vms int) *logpb.RuleAdd {
	some := func(what string, of, least int) []int {
		all := rapid.Permutation(numbers(of)).Draw(r, what)
		return all[:rapid.IntRange(min(least, of), min(of, 3)).Draw(r, "of them")]
	}
	switch rapid.IntRange(0, 5).Draw(r, "kind") {
	case 0:
		return together(some("together", vms, 2)...)
	case 1:
		var on []string
		for _, h := range some("hosts", hosts, 1) {
			on = append(on, fmt.Sprintf("h%d", h))
		}
		return bound(strings.Join(on, " "), some("bound", vms, 1)...)
	}
	return apart(some("apart", vms, 2)...)
}

func numbers(n int) (all []int) {
	for i := range n {
		all = append(all, i+1)
	}
	return all
}

// keepable tries every way to place the VMs.
func keepable(rules []*logpb.Rule, hosts, vms int) bool {
	at := make([]int, vms+1)
	var from func(vm int) bool
	from = func(vm int) bool {
		if vm > vms {
			return !slices.ContainsFunc(rules, func(r *logpb.Rule) bool { return !kept(r, at) })
		}
		for at[vm] = 1; at[vm] <= hosts; at[vm]++ {
			if from(vm + 1) {
				return true
			}
		}
		return false
	}
	return from(1)
}

func kept(r *logpb.Rule, at []int) bool {
	var hosts []int
	for _, b := range r.Vms {
		for n := 1; n < len(at); n++ {
			if slices.Equal(b, idBytes(n)) {
				hosts = append(hosts, at[n])
			}
		}
	}
	distinct := slices.Clone(hosts)
	slices.Sort(distinct)
	distinct = slices.Compact(distinct)
	switch RuleKind(r.Kind) {
	case RuleTogether:
		return len(distinct) == 1
	case RuleApart:
		return len(distinct) == len(hosts)
	}
	for _, h := range hosts {
		if !slices.ContainsFunc(r.Hosts, func(c *logpb.HostChoice) bool { return c.Host == fmt.Sprintf("h%d", h) }) {
			return false
		}
	}
	return true
}

// Grötzsch's graph: no three of its eleven are apart from one another, and three hosts are
// too few all the same.
var grotzsch = [][2]int{{1, 2}, {2, 3}, {3, 4}, {4, 5}, {5, 1}, {6, 2}, {6, 5}, {7, 1}, {7, 3}, {8, 2}, {8, 4}, {9, 3}, {9, 5}, {10, 4}, {10, 1},
	{11, 6}, {11, 7}, {11, 8}, {11, 9}, {11, 10}}

func TestRulesWithoutAClique(t *testing.T) {
	for hosts, want := range map[int]string{3: "cannot be kept at once", 4: ""} {
		l := policyFleet(t, hosts, 11)
		for i, e := range grotzsch {
			if i < len(grotzsch)-1 {
				l.ok(apart(e[0], e[1]))
			} else if no := l.do(apart(e[0], e[1])); (no == "") != (want == "") || !strings.Contains(no, want) {
				t.Errorf("%d hosts: %q, want %q", hosts, no, want)
			}
		}
	}
}

// The search ends: five such graphs, each of which needs four hosts of its own, on nineteen.
// Nothing is known against them then, and the rule is taken.
func TestTheSearchForHostsEnds(t *testing.T) {
	c := &core{work: maxWork, classes: []hostClass{{may: 1<<55 - 1, n: 19}}}
	for i := range 55 {
		c.units = append(c.units, &unit{members: []VMID{testVM(i + 1)}})
		set := uint64(1<<55-1) &^ (uint64(1<<11-1) << (i / 11 * 11))
		for _, e := range grotzsch {
			for _, x := range [][2]int{e, {e[1], e[0]}} {
				if x[0]-1 == i%11 {
					set |= 1 << (i/11*11 + x[1] - 1)
				}
			}
		}
		c.near, c.choices = append(c.near, set), append(c.choices, 19)
	}
	if !c.placed(1<<55-1) || c.work >= 0 {
		t.Errorf("it was found out, with %d looks left", c.work)
	}
}

// What became impossible by itself, when a host was removed, keeps nobody from writing a
// rule, not even one that hangs together with it. What the rule itself makes impossible is
// found beside it.
func TestRulesBesideWhatIsImpossible(t *testing.T) {
	l := policyFleet(t, 4, 7)
	for _, e := range [][2]int{{1, 2}, {1, 3}, {1, 4}, {2, 3}, {2, 4}, {3, 4}} {
		l.ok(apart(e[0], e[1]))
	}
	l.ok(&logpb.HostControl{Host: "h4", Action: HostRemove, Force: true})
	l.ok(apart(1, 2))
	l.ok(bound("h1 h2", 1))
	l.ok(bound("h1 h2", 5, 6, 7))
	l.ok(apart(5, 6))
	l.ok(apart(6, 7))
	l.ok(apart(7, 1))
	no := l.rejected(apart(5, 7))
	if !strings.Contains(no, "VM vm5, VM vm6 and VM vm7 have 2 hosts between them") {
		t.Errorf("refused with %q", no)
	}
}

// A VM that is gone keeps nobody apart, also not as one of a bundle.
func TestRulesOfVMsThatAreGone(t *testing.T) {
	l := policyFleet(t, 2, 3)
	l.register("h9", "b1", said{vm: 9, power: PowerOn, reason: ReasonBooted})
	for _, c := range []*logpb.RuleAdd{together(1, 9), apart(9, 2), apart(2, 3)} {
		l.ok(c)
	}
	l.ok(&logpb.HostControl{Host: "h9", Action: HostRemove, Force: true})
	l.ok(apart(1, 3))
	l.rejected(apart(1, 2))
}

// What may be looked at is bounded: as many rules as there may be, of as many VMs each.
func TestTheLookForACoreEnds(t *testing.T) {
	const vms = 64
	l := policyFleet(t, 70, vms)
	s := *l.state()
	r := ruleFromLog(apart(numbers(vms)...).Rule)
	r.ID = 1
	s.book = newRuleBook(func(yield func(RuleID, *Rule) bool) {
		for id := range RuleID(maxRules) {
			x := *r
			x.ID = id + 1
			if !yield(x.ID, &x) {
				return
			}
		}
	})
	tr := newTrial(&s)
	if units, ok := tr.entangled(r); ok || tr.visits > 0 || tr.visits < -vms {
		t.Errorf("%d units, %t, %d visits are left", len(units), ok, tr.visits)
	}
}
