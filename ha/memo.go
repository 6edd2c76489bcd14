package ha

import (
	"slices"
	"time"

	"lifeboat/fsm"
)

// Memo is what Decide has seen before of hosts that have not changed since: how
// they stand, and the room they have. It saves a look at every host and every VM of
// a large cluster, and never changes an answer. The zero value remembers nothing. It serves one call at a time.
type Memo struct {
	policy *fsm.Policy
	order  []standing // of all hosts, in the order of the state
	ranks  map[fsm.HostID]int
	line   *lineup // nil when nobody has waited for a host lately

	balance balance       // see rebalance
	repair  time.Duration // see repair; when the rules are looked at again
}

// standing is what a survey, and a placer, need of a host as of h.
type standing struct {
	h        *fsm.Host
	epoch    uint64
	checkDue int64 // unix ns: before that its fence levels need no check
	up       bool
	copies   bool
	stalled  bool
	emptying bool // VMs are to be moved away
	away     bool // a VM here goes home one day

	load   load
	silent bool // as of the last survey

	rank   int  // among all hosts in natural order of their names, while there are ranks
	lined  bool // its room is as of h, and of what follows
	still  bool // it was silent then
	starts int  // start orders that stand
}

// load is what was counted on a host.
type load struct {
	vms  int
	used uint64 // bytes of memory
	cpus int64  // virtual
}

// standing says how hosts stand; it is asked for one after the other, in the
// order of the state.
func (m *Memo) standing(s *fsm.State) func(*fsm.Host) *standing {
	if n := s.CountHosts(); m.policy != s.Policy || len(m.order) != n {
		m.policy, m.order, m.ranks = s.Policy, make([]standing, n), nil
	}
	i := -1
	return func(h *fsm.Host) *standing {
		i++
		at := &m.order[i]
		if at.h == h {
			return at
		}
		if at.h != nil && at.h.ID != h.ID {
			m.ranks = nil
		}
		*at = standing{h: h, epoch: h.Epoch, up: h.Status == fsm.Up, copies: len(h.Copies) > 0, stalled: h.Stalled, checkDue: checkDue(s.Policy, h),
			emptying: h.Emptying() || h.Resource == fsm.PrepareForMaintenance || h.Resource == fsm.ErrorInMaintenance, away: away(h), load: loadOf(h), rank: at.rank}
		return at
	}
}

// rank ranks the hosts, unless they are those that were ranked before. It follows a
// survey.
func (m *Memo) rank() {
	if m.ranks != nil {
		return
	}
	order := make([]*standing, len(m.order))
	for i := range m.order {
		order[i] = &m.order[i]
	}
	byName := func(a, b *standing) int { return Natural(string(a.h.ID), string(b.h.ID)) }
	if !slices.IsSortedFunc(order, byName) {
		slices.SortFunc(order, byName)
	}
	m.ranks, m.line = make(map[fsm.HostID]int, len(order)), nil
	for i, at := range order {
		at.rank, m.ranks[at.h.ID] = i, i
	}
}

// loadOf counts what runs, starts or may run on a host.
func loadOf(h *fsm.Host) (l load) {
	for i := range h.VMs {
		v := &h.VMs[i]
		if v.Occupies() {
			l.vms++
			if v.Spec != nil {
				l.used += v.Spec.MemoryBytes
				l.cpus += int64(v.Spec.CPUs)
			}
		}
	}
	return l
}
