package ha_test

import (
	"fmt"
	"math/rand/v2"
	"testing"
	"time"

	"lifeboat/fsm"
	"lifeboat/fsm/logpb"
)

// A third of a rack after rack dies, with VMs of many sizes, rules, placements and budgets,
// starts that fail and hosts that come back meanwhile. The world asks twice each time: what
// is found in the lineup that is kept from one decision to the next is what a look at
// every host for every VM finds.
func TestStormsInTheLineup(t *testing.T) {
	for seed := range uint64(8) {
		r := rand.New(rand.NewPCG(seed, 3))
		var boxes []*box
		n := 0
		for i := range 18 {
			var vms []int
			for range 2 + r.IntN(8) {
				n++
				vms = append(vms, n)
			}
			boxes = append(boxes, newBox(fmt.Sprintf("h%d", i+1), vms...).in([]string{"", "a", "b", "c"}[i%4]))
		}
		w := newWorld(t, boxes...)
		w.apply(&logpb.FeatureRaise{Level: fsm.FeatureLevel, Version: "0.4"})
		for vm := range n {
			w.respec(vm+1, func(x *logpb.Spec) { x.Cpus, x.MemoryBytes = uint32(1+vm%4), uint64(1+vm%5)*8<<30 })
		}
		w.set("placement", []string{"count", "spread", "pack", "load"}[seed%4])
		w.set("cpu_overcommit", []string{"0", "1"}[seed/4])
		w.set("starts_per_host", "2")
		w.set("starts_per_cluster", "6")
		w.set("brake_percent", "100")
		for i := range 25 {
			rule := &logpb.Rule{Kind: uint32(fsm.RuleApart), Strict: r.IntN(2) == 0}
			if i%6 == 5 {
				rule.Kind = uint32(fsm.RuleTogether)
			}
			for _, k := range r.Perm(n)[:2+r.IntN(2)] {
				rule.Vms = append(rule.Vms, vmBytes(k+1))
			}
			if i%6 == 4 {
				rule.Kind, rule.Hosts = uint32(fsm.RuleHosts), []*logpb.HostChoice{{Host: "rack=a"}, {Host: "h2", Priority: 3}, {Host: "rack=c", Priority: 1}}
			}
			w.try(&logpb.RuleAdd{Rule: rule}) // some are infeasible
		}
		for range 3 {
			for _, k := range r.Perm(len(boxes))[:5] {
				if boxes[k].power {
					boxes[k].die()
					w.advance(time.Duration(r.IntN(3)) * time.Second)
				}
			}
			for range 6 {
				boxes[r.IntN(len(boxes))].failing[vmID(1+r.IntN(n))] = 1 + r.IntN(3)
			}
			w.advance(time.Duration(20+r.IntN(60)) * time.Second)
			for _, b := range boxes {
				if !b.power {
					b.back()
				}
			}
			w.advance(time.Duration(5+r.IntN(40)) * time.Second)
		}
		w.must(30*time.Minute, "the end of all work", func() bool { return w.state().CountOpenWork() == 0 })
	}
}
