package node

import (
	"maps"
	"slices"
	"sync"
	"time"

	lifeboatv1 "lifeboat/api/lifeboat/v1"
	"lifeboat/fsm"
	"lifeboat/ha"
)

// contacts is the soft view of one term: what was heard of every host. All
// instants are on the term's monotonic clock. Each report notes a dozen things about one
// host: these are guarded host by host, so that ten thousand reports do not wait for each
// other; for a look at all hosts only those do that are the first of their host.
type contacts struct {
	mu     sync.RWMutex  // taken before a contact's
	since  time.Duration // without a gap since
	proven time.Duration // proposal of the newest committed canary; -1 = none
	hosts  map[fsm.HostID]*contact
	order  []fsm.HostID // of hosts and knocked, sorted
	// knocked is when a host last asked to register: decide may see its new
	// epoch before the answer to that has been noted.
	knocked map[fsm.HostID]time.Duration
}

func newContacts() *contacts {
	return &contacts{proven: -1, hosts: map[fsm.HostID]*contact{}, knocked: map[fsm.HostID]time.Duration{}}
}

// of returns the contact of a host, made anew when the epoch is another.
func (c *contacts) of(id fsm.HostID, epoch uint64) *contact {
	if x := c.known(id); x != nil && x.epoch >= epoch {
		return x
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	x := c.hosts[id]
	if x == nil || x.epoch < epoch {
		if x != nil {
			x.wake()
		}
		x = &contact{turn: make(chan struct{}, 1), epoch: epoch}
		c.hosts[id] = x
		c.enlist(id)
	}
	return x
}

// known is the contact of a host, in its newest epoch; nil: there is none.
func (c *contacts) known(id fsm.HostID) *contact {
	c.mu.RLock()
	defer c.mu.RUnlock()
	return c.hosts[id]
}

func (c *contacts) enlist(id fsm.HostID) {
	if i, ok := slices.BinarySearch(c.order, id); !ok {
		c.order = slices.Insert(c.order, i, id)
	}
}

// knock notes that a host asks to register.
func (c *contacts) knock(id fsm.HostID, at time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.knocked[id] = max(at, 1)
	c.enlist(id)
}

// leaseSeq is the newest request of a host that a lease may run from: received
// before the proposal of a canary that has committed in this term (S14). Zero
// when there is none.
func (c *contacts) leaseSeq(x *contact) uint64 {
	c.mu.RLock()
	defer c.mu.RUnlock()
	x.mu.Lock()
	defer x.mu.Unlock()
	var seq uint64
	drop := 0
	for i, m := range x.marks {
		if m.at >= c.proven {
			break
		}
		seq, drop = max(seq, m.seq), i
	}
	x.marks = x.marks[drop:]
	return seq
}

// committed notes a canary that has committed.
func (c *contacts) committed(proposed time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.proven = max(c.proven, proposed)
}

// gap notes that nobody listened until now: silence before does not count.
func (c *contacts) gap(now time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.since = now
}

// soft is a copy for ha.
func (c *contacts) soft() *ha.Soft {
	c.mu.RLock()
	defer c.mu.RUnlock()
	s := &ha.Soft{Since: c.since, Proven: c.proven}
	for _, id := range c.order {
		h := ha.Contact{}
		if x := c.hosts[id]; x != nil {
			h = x.copy()
		}
		h.Knocked = c.knocked[id]
		s.Hosts.Set(id, h)
	}
	return s
}

// wakeNews wakes every parked answer that the state has news for.
func (c *contacts) wakeNews(s *fsm.State) {
	for id, x := range c.all() {
		x.wakeFor(s, s.Host(id))
	}
}

// all is a copy of the contacts of now: a look at each of them takes long, and who waits
// to add a host meanwhile would hold up everybody who reads.
func (c *contacts) all() map[fsm.HostID]*contact {
	c.mu.RLock()
	defer c.mu.RUnlock()
	return maps.Clone(c.hosts)
}

// deaf are the hosts that are Up and have not said yet that they know whether HA is
// armed.
func (c *contacts) deaf(s *fsm.State) (hosts []string) {
	for id, h := range s.Hosts() {
		if x := c.known(id); h.Status == fsm.Up && (x == nil || x.epoch != h.Epoch || x.acts() < s.ArmedIndex) {
			hosts = append(hosts, string(id))
		}
	}
	return hosts
}

// wakeAll wakes every parked answer: the term is over.
func (c *contacts) wakeAll() {
	for _, x := range c.all() {
		x.wake()
	}
}

// ask hands a probe to a peer; false when that one has not been heard.
func (c *contacts) ask(peer fsm.HostID, p *lifeboatv1.Probe) bool {
	x := c.known(peer)
	if x == nil {
		return false
	}
	x.mu.Lock()
	defer x.mu.Unlock()
	if x.heard == 0 {
		return false
	}
	x.probes = append(x.probes, p)
	x.wakeLocked()
	return true
}

// wake has a host ask anew, if its answer is parked.
func (c *contacts) wake(id fsm.HostID) {
	if x := c.known(id); x != nil {
		x.wake()
	}
}

// lastHeard is how long ago a host was heard, in this term.
func (c *contacts) lastHeard(id fsm.HostID, now time.Duration) (time.Duration, bool) {
	x := c.known(id)
	if x == nil {
		return 0, false
	}
	x.mu.Lock()
	defer x.mu.Unlock()
	if x.heard == 0 {
		return 0, false
	}
	return now - x.heard, true
}
