package node

import (
	"slices"
	"sync"
	"time"

	lifeboatv1 "lifeboat/api/lifeboat/v1"
	"lifeboat/exchange"
	"lifeboat/fsm"
	"lifeboat/ha"
)

// contacts is the soft view of one term: what was heard of every host. All
// instants are on the term's monotonic clock.
type contacts struct {
	mu     sync.Mutex
	since  time.Duration // without a gap since
	proven time.Duration // proposal of the newest committed canary; -1 = none
	hosts  map[fsm.HostID]*contact
	order  []fsm.HostID // of hosts and knocked, sorted
	// knocked is when a host last asked to register: decide may see its new
	// epoch before the answer to that has been noted.
	knocked map[fsm.HostID]time.Duration
}

// contact is one host in this term. Fields are guarded by contacts.mu, but for
// turn.
type contact struct {
	turn chan struct{} // held while a report is being absorbed: one at a time

	epoch    uint64
	heard    time.Duration
	absorbed int64  // unix ns of the arrival of the newest absorbed report
	seq      uint64 // newest report absorbed
	marks    []mark // requests that may still bound a lease, oldest first
	arrivals exchange.Arrivals
	memory   exchange.Memory // guarded by turn; its copies by contacts.mu
	check    *ha.Investigation
	fence    *ha.FenceRun
	probes   []*lifeboatv1.Probe // to be handed to this host
	parked   *parked
	have     uint64 // newest assignment that its agent acts on
	greeted  bool   // a report of it has been answered
}

// mark is the arrival of a report.
type mark struct {
	seq uint64
	at  time.Duration
}

// parked is an answer that waits for news.
type parked struct {
	wake chan struct{} // closed once
	have uint64        // assignment the agent acts on
}

// maxMarks bounds the memory of arrivals; a lease is bounded by the newest one
// before the last canary, and there is a canary a second.
const maxMarks = 64

func newContacts() *contacts {
	return &contacts{proven: -1, hosts: map[fsm.HostID]*contact{}, knocked: map[fsm.HostID]time.Duration{}}
}

// of returns the contact of a host, made anew when the epoch is another.
func (c *contacts) of(id fsm.HostID, epoch uint64) *contact {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.ofLocked(id, epoch)
}

func (c *contacts) ofLocked(id fsm.HostID, epoch uint64) *contact {
	x := c.hosts[id]
	if x == nil || x.epoch < epoch {
		if x != nil {
			x.wakeLocked()
		}
		x = &contact{turn: make(chan struct{}, 1), epoch: epoch}
		c.hosts[id] = x
		c.enlist(id)
	}
	return x
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

// touch notes that a request arrived.
func (c *contacts) touch(x *contact, seq uint64, at time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	x.heard = max(x.heard, at)
	x.marks = append(x.marks, mark{seq, at})
	if len(x.marks) > maxMarks {
		// The oldest is the one that a lease may run from by now.
		x.marks = slices.Delete(x.marks, 1, 2)
	}
}

// leaseSeq is the newest request of a host that a lease may run from: received
// before the proposal of a canary that has committed in this term (S14). Zero
// when there is none.
func (c *contacts) leaseSeq(x *contact) uint64 {
	c.mu.Lock()
	defer c.mu.Unlock()
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

// greet reports whether no report of this host has been answered yet, in this epoch
// and term.
func (c *contacts) greet(x *contact) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	first := !x.greeted
	x.greeted = true
	return first
}

// soft is a copy for ha.
func (c *contacts) soft() *ha.Soft {
	c.mu.Lock()
	defer c.mu.Unlock()
	s := &ha.Soft{Since: c.since, Proven: c.proven}
	for _, id := range c.order {
		h := ha.Contact{Knocked: c.knocked[id]}
		if x := c.hosts[id]; x != nil {
			h.Epoch, h.Heard, h.Absorbed, h.Looked, h.Copies, h.Coming = x.epoch, x.heard, x.absorbed, x.arrivals.Looked(), x.memory.Copies(), x.memory.Coming()
			h.Guests = x.memory.Guests()
			if x.check != nil {
				i := *x.check
				h.Check = &i // findings are replaced, never changed
			}
			if x.fence != nil {
				f := *x.fence
				h.Fence = &f
			}
		}
		s.Hosts.Set(id, h)
	}
	return s
}

// park replaces what was parked for a host: an agent waits for one answer.
func (c *contacts) park(x *contact, have uint64) *parked {
	c.mu.Lock()
	defer c.mu.Unlock()
	x.wakeLocked()
	x.have = max(x.have, have)
	x.parked = &parked{wake: make(chan struct{}), have: have}
	return x.parked
}

func (x *contact) wakeLocked() {
	if x.parked != nil {
		close(x.parked.wake)
		x.parked = nil
	}
}

// unpark forgets an answer that has been given.
func (c *contacts) unpark(x *contact, p *parked) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if x.parked == p {
		x.parked = nil
	}
}

// wakeNews wakes every parked answer that the state has news for.
func (c *contacts) wakeNews(s *fsm.State) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for id, x := range c.hosts {
		if x.parked == nil {
			continue
		}
		if h := s.Host(id); h == nil || h.Epoch != x.epoch || exchange.AssignmentIndex(s, h) > x.parked.have || !exchange.Reporting(h) {
			x.wakeLocked()
		}
	}
}

// deaf are the hosts that are Up and have not said yet that they know whether HA is
// armed.
func (c *contacts) deaf(s *fsm.State) (hosts []string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for id, h := range s.Hosts() {
		if x := c.hosts[id]; h.Status == fsm.Up && (x == nil || x.epoch != h.Epoch || x.have < s.ArmedIndex) {
			hosts = append(hosts, string(id))
		}
	}
	return hosts
}

// wakeAll wakes every parked answer: the term is over.
func (c *contacts) wakeAll() {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, x := range c.hosts {
		x.wakeLocked()
	}
}

// ask hands a probe to a peer; false when that one has not been heard.
func (c *contacts) ask(peer fsm.HostID, p *lifeboatv1.Probe) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	x := c.hosts[peer]
	if x == nil || x.heard == 0 {
		return false
	}
	x.probes = append(x.probes, p)
	x.wakeLocked()
	return true
}

// wake has a host ask anew, if its answer is parked.
func (c *contacts) wake(id fsm.HostID) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if x := c.hosts[id]; x != nil {
		x.wakeLocked()
	}
}

// takeProbes returns the probes that wait for a host, once.
func (c *contacts) takeProbes(x *contact) []*lifeboatv1.Probe {
	c.mu.Lock()
	defer c.mu.Unlock()
	p := x.probes
	x.probes = nil
	return p
}

// lastHeard is how long ago a host was heard, in this term.
func (c *contacts) lastHeard(id fsm.HostID, now time.Duration) (time.Duration, bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	x := c.hosts[id]
	if x == nil || x.heard == 0 {
		return 0, false
	}
	return now - x.heard, true
}

// absorbed notes that a report's changes are committed.
func (c *contacts) absorbed(x *contact, seq uint64, wall int64) {
	c.mu.Lock()
	defer c.mu.Unlock()
	x.seq = max(x.seq, seq)
	x.absorbed = max(x.absorbed, wall)
}

func (c *contacts) seq(x *contact) uint64 {
	c.mu.Lock()
	defer c.mu.Unlock()
	return x.seq
}

// checking begins a round of questions about a host.
func (c *contacts) checking(x *contact, round int, at time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	x.check = &ha.Investigation{Round: round, Started: at}
}

// found adds findings to the round, unless another has begun since.
func (c *contacts) found(x *contact, round int, f ...ha.Finding) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if x.check == nil || x.check.Round != round {
		return
	}
	n := *x.check
	n.Findings = append(append([]ha.Finding(nil), n.Findings...), f...)
	x.check = &n
}

// checked ends the round.
func (c *contacts) checked(x *contact, round int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if x.check != nil && x.check.Round == round {
		n := *x.check
		n.Complete = true
		x.check = &n
	}
}

// fencing notes how far a fence attempt of this term is.
func (c *contacts) fencing(x *contact, r ha.FenceRun) {
	c.mu.Lock()
	defer c.mu.Unlock()
	x.fence = &r
}
