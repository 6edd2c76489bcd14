package ha

import (
	"fmt"
	"math"

	"lifeboat/fsm"
)

// fill says what a host has left beside what was counted on it.
func (r *room) fill(p *fsm.Policy, at *load) {
	cpus, memory := p.Capacity(r.h.Inventory)
	r.vms, r.total, r.free = at.vms, memory, int64(memory)-int64(at.used)
	r.cpus, r.used, r.cores = r.h.Inventory.CPUs, at.cpus, math.MaxInt64
	if cpus != 0 {
		r.cores = int64(cpus) - at.cpus
	}
}

// fits says what is missing for a VM or a bundle of this size; "" = nothing.
func (r *room) fits(memory uint64, cpus uint32) string {
	switch {
	case int64(memory) > r.free:
		return fmt.Sprintf("less than %d MiB of memory free", memory>>20)
	case int64(cpus) > r.cores:
		return fmt.Sprintf("fewer than %d CPUs free", cpus)
	}
	return ""
}

// reserve keeps room for VMs that are on their way.
func (r *room) reserve(in incoming) {
	r.vms += in.vms
	r.free -= int64(in.memory)
	r.used += int64(in.cpus)
	if r.cores != math.MaxInt64 {
		r.cores -= int64(in.cpus)
	}
}

// take gives room to a VM.
func (r *room) take(s *fsm.Spec) {
	r.vms++
	r.free -= int64(s.MemoryBytes)
	r.used += int64(s.CPUs)
	if r.cores != math.MaxInt64 {
		r.cores -= int64(s.CPUs)
	}
}

// memoryShare and cpuShare are how much of a host is used, with more on it.
func (r *room) memoryShare(more uint64) float64 {
	return float64(int64(r.total)-r.free+int64(more)) / float64(max(r.total, 1))
}

func (r *room) cpuShare(more uint32) float64 {
	return float64(r.used+int64(more)) / float64(max(r.cpus, 1))
}

// loads sum up how much is used of all hosts that take VMs: the placement "load"
// asks what they are with a VM on this host or on that.
type loads struct {
	hosts       int
	memory, cpu evenness
}

// evenness is one kind of load over the hosts.
type evenness struct {
	highest, second float64
	at              *room // that has the highest
	squares         float64
}

func (p *placer) load() *loads {
	if p.loads != nil {
		return p.loads
	}
	p.loads = &loads{}
	for i := range p.rooms {
		if r := &p.rooms[i]; r.no == "" {
			p.loads.hosts++
			p.loads.memory.add(r, r.memoryShare(0))
			p.loads.cpu.add(r, r.cpuShare(0))
		}
	}
	return p.loads
}

func (s *evenness) add(r *room, share float64) {
	s.squares += share * share
	if s.at == nil || share > s.highest {
		s.highest, s.second, s.at = share, s.highest, r
	} else {
		s.second = max(s.second, share)
	}
}

// What the criteria weigh: the most used host counts more than how evenly all are
// used, and memory more than CPU, which can be shared.
const (
	weighHighest = 2
	weighMemory  = 2
)

// with is how good it is to have a VM, and what starts with it, on a host: the less
// the better.
func (l *loads) with(r *room, asks *asked) float64 {
	return weighMemory*l.memory.with(r, r.memoryShare(0), r.memoryShare(asks.memory), l.hosts) +
		l.cpu.with(r, r.cpuShare(0), r.cpuShare(asks.cpus), l.hosts)
}

func (s *evenness) with(r *room, before, after float64, hosts int) float64 {
	highest := s.highest
	if r == s.at {
		highest = s.second
	}
	mean := math.Sqrt(max(s.squares-before*before+after*after, 0) / float64(max(hosts, 1)))
	return weighHighest*max(highest, after) + mean
}
