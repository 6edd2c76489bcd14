package ha

import (
	"slices"

	"lifeboat/fsm"
)

// Memo is what Decide has counted before: the room on hosts that have not changed
// since. It saves a look at every VM of a large cluster, and never changes an
// answer. The zero value remembers nothing. It serves one call at a time.
type Memo struct {
	hosts map[fsm.HostID]*counted
	holds bool // states of hosts
}

// counted is what was counted on a host as of h.
type counted struct {
	rank int // among all hosts in natural order of their names
	h    *fsm.Host
	vms  int
	used uint64 // bytes of memory
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
	c.h, c.vms, c.used = h, 0, 0
	for i := range h.VMs {
		v := &h.VMs[i]
		if v.Occupies() {
			c.vms++
			if v.Spec != nil {
				c.used += v.Spec.MemoryBytes
			}
		}
	}
}
