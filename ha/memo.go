package ha

import (
	"time"

	"slices"

	"lifeboat/fsm"
)

// Memo is what Decide has seen before of hosts that have not changed since: how
// they stand, and the room they have. It saves a look at every host and every VM of
// a large cluster, and never changes an answer. The zero value remembers nothing. It serves one call at a time.
type Memo struct {
	hosts map[fsm.HostID]*counted
	holds bool // states of hosts

	policy *fsm.Policy
	order  []standing // of all hosts, in the order of the state

	balance balance       // see rebalance
	repair  time.Duration // see repair; when the rules are looked at again
}

// standing is what a survey needs of a host as of h.
type standing struct {
	h        *fsm.Host
	epoch    uint64
	checkDue int64 // unix ns: before that its fence levels need no check
	up       bool
	copies   bool
	stalled  bool
	emptying bool // VMs are to be moved away
	away     bool // a VM here goes home one day
}

// standing says how hosts stand; it is asked for one after the other, in the
// order of the state.
func (m *Memo) standing(s *fsm.State) func(*fsm.Host) *standing {
	if m == nil {
		m = &Memo{}
	}
	if n := s.CountHosts(); m.policy != s.Policy || len(m.order) != n {
		m.policy, m.order = s.Policy, make([]standing, n)
	}
	i := -1
	return func(h *fsm.Host) *standing {
		i++
		at := &m.order[i]
		if at.h != h {
			*at = standing{h: h, epoch: h.Epoch, up: h.Status == fsm.Up, copies: len(h.Copies) > 0, stalled: h.Stalled, checkDue: checkDue(s.Policy, h),
				emptying: h.Emptying() || h.Resource == fsm.PrepareForMaintenance || h.Resource == fsm.ErrorInMaintenance, away: away(h)}
		}
		return at
	}
}

// counted is what was counted on a host as of h.
type counted struct {
	rank int // among all hosts in natural order of their names
	h    *fsm.Host
	vms  int
	used uint64 // bytes of memory
	cpus int64  // virtual
}

// know ranks the hosts, unless they are those that were ranked before.
func (m *Memo) know(s *fsm.State) {
	same := len(m.hosts) == s.CountHosts()
	if same {
		for id := range s.Hosts() {
			if m.hosts[id] == nil {
				same = false
				break
			}
		}
	}
	if same {
		return
	}
	ids := make([]fsm.HostID, 0, s.CountHosts())
	for id := range s.Hosts() {
		ids = append(ids, id)
	}
	byName := func(a, b fsm.HostID) int { return Natural(string(a), string(b)) }
	if !slices.IsSortedFunc(ids, byName) {
		slices.SortFunc(ids, byName)
	}
	m.hosts = make(map[fsm.HostID]*counted, len(ids))
	for i, id := range ids {
		m.hosts[id] = &counted{rank: i}
	}
}

// forget lets go of the hosts, which would be kept alive by being remembered.
func (m *Memo) forget() {
	if m != nil && m.holds {
		m.holds = false
		for id := range m.hosts { // in any order
			m.hosts[id].h = nil
		}
	}
}

// count counts what runs, starts or may run on a host.
func (c *counted) count(h *fsm.Host) {
	if c.h == h {
		return
	}
	c.h, c.vms, c.used, c.cpus = h, 0, 0, 0
	for i := range h.VMs {
		v := &h.VMs[i]
		if v.Occupies() {
			c.vms++
			if v.Spec != nil {
				c.used += v.Spec.MemoryBytes
				c.cpus += int64(v.Spec.CPUs)
			}
		}
	}
}
