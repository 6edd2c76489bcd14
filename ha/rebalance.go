package ha

import (
	"cmp"
	"fmt"
	"math"
	"slices"
	"time"

	"lifeboat/fsm"
)

// balance is what the leader remembers of how the load lies.
type balance struct {
	next  time.Duration // when to look again
	since time.Duration // since when the imbalance is above the threshold; 0: it is not
}

const (
	// balanceEvery is how often the load of all hosts is looked at.
	balanceEvery = 10 * time.Second
	// balanceWidth hosts with the most, and with the least load, are considered.
	balanceWidth = 8
)

// Imbalance is the population standard deviation of loads by their mean; 0 of none.
func Imbalance(loads []float64) float64 {
	if len(loads) == 0 {
		return 0
	}
	sum, squares := 0.0, 0.0
	for _, l := range loads {
		sum += l
	}
	mean := sum / float64(len(loads))
	if mean <= 0 {
		return 0
	}
	for _, l := range loads {
		squares += (l - mean) * (l - mean)
	}
	return math.Sqrt(squares/float64(len(loads))) / mean
}

// HostLoad is the mean of the shares of CPUs and memory that are configured.
func HostLoad(cpus, ofCPUs, memory, ofMemory uint64) float64 {
	return (float64(cpus)/float64(max(ofCPUs, 1)) + float64(memory)/float64(max(ofMemory, 1))) / 2
}

// carrier is a host in the balance.
type carrier struct {
	r    *room
	load float64
}

// rebalance moves one VM when the load has lain unevenly for a while, and the move
// makes it better by enough. Never while a recovery or another move is under way.
func (d *decision) rebalance() {
	if !d.p.Rebalance {
		return
	}
	b := &d.memo.balance
	if u := d.moving(); u.recovery || u.all > 0 || len(d.emptying) > 0 {
		b.next = 0
		return
	}
	if d.now.Mono < b.next {
		d.wake(b.next)
		return
	}
	b.next = d.now.Mono + balanceEvery
	d.wake(b.next)
	p := d.placer()
	var all []carrier
	var loads []float64
	for i := range p.rooms {
		r := &p.rooms[i]
		if r.no != "" || r.closed != "" {
			continue
		}
		inv := r.h.Inventory
		l := HostLoad(uint64(max(r.used, 0)), uint64(inv.CPUs), uint64(int64(r.total)-r.free), inv.MemoryBytes)
		all = append(all, carrier{r, l})
		loads = append(loads, l)
	}
	now := Imbalance(loads)
	if now*100 <= float64(d.p.RebalanceThreshold) {
		b.since = 0
		return
	}
	if b.since == 0 {
		b.since = d.now.Mono
	}
	if due := b.since + d.p.RebalanceHold; d.now.Mono < due {
		b.next = min(b.next, due)
		d.wake(b.next)
		return
	}
	if d.evenOut(all, loads, now) {
		b.since = 0
	}
}

// evenOut finds the move, of one VM or of one bundle, that makes the load most even, and
// orders it if that is worth it. loads are those of the hosts in all.
func (d *decision) evenOut(all []carrier, loads []float64, now float64) bool {
	order := make([]int, len(all))
	for i := range order {
		order[i] = i
	}
	slices.SortStableFunc(order, func(a, b int) int { return cmp.Compare(loads[b], loads[a]) }) // ties stay in natural order
	n := min(balanceWidth, len(order))
	var vm *fsm.VM
	var from, to *room
	best := now
	for _, a := range order[:n] {
		src := all[a].r
		for i := range src.h.VMs {
			v := &src.h.VMs[i]
			if v.Spec == nil || d.s.CannotMove(v, src.h, true) != "" {
				continue
			}
			for _, z := range order[len(order)-n:] {
				dst := all[z].r
				if a == z || loads[z] >= loads[a] {
					continue
				}
				party := d.party(v, dst.h.ID)
				cpus, memory, ok := d.movable(party, src)
				if !ok {
					continue
				}
				la, lz := loads[a], loads[z]
				x, y := src.h.Inventory, dst.h.Inventory
				loads[a] -= HostLoad(cpus, uint64(x.CPUs), memory, x.MemoryBytes)
				loads[z] += HostLoad(cpus, uint64(y.CPUs), memory, y.MemoryBytes)
				then := Imbalance(loads)
				loads[a], loads[z] = la, lz
				if then < best-1e-9 && d.cannotTake(dst, v, true) == "" && !d.worse(party, src, dst) {
					best, vm, from, to = then, v, src, dst
				}
			}
		}
	}
	if vm == nil || (now-best)*100 < float64(d.p.RebalanceGain)*now {
		return false
	}
	d.move(vm, from.h, to, fsm.MoveLive, fsm.CauseRebalance, fmt.Sprintf("the imbalance of the hosts goes from %.0f %% to %.0f %%", now*100, best*100))
	return true
}

// movable adds up a party that rebalancing may move: all of it is on one host, and none
// of it waits after a move that failed.
func (d *decision) movable(party []job, from *room) (cpus, memory uint64, ok bool) {
	for _, j := range party {
		if again, _ := d.backsOff(j.vm); again > 0 || j.owner.ID != from.h.ID || j.vm.Spec == nil {
			return 0, 0, false
		}
		cpus, memory = cpus+uint64(j.vm.Spec.CPUs), memory+j.vm.Spec.MemoryBytes
	}
	return cpus, memory, true
}
