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

// contact is one host in this term, in one epoch.
type contact struct {
	epoch  uint64
	turn   chan struct{}   // held while a report is being absorbed: one at a time
	memory exchange.Memory // guarded by turn, but for its copies, which mu guards

	mu         sync.Mutex // guards what follows
	heard      time.Duration
	absorbedAt int64  // unix ns of the arrival of the newest absorbed report
	newest     uint64 // report absorbed
	marks      []mark // requests that may still bound a lease, oldest first
	arrivals   exchange.Arrivals
	check      *ha.Investigation
	fence      *ha.FenceRun
	probes     []*lifeboatv1.Probe // to be handed to this host
	parked     *parked
	have       uint64 // newest assignment that its agent acts on
	greeted    bool   // a report of it has been answered
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

// touch notes that a request arrived.
func (x *contact) touch(seq uint64, at time.Duration) {
	x.mu.Lock()
	defer x.mu.Unlock()
	x.heard = max(x.heard, at)
	x.marks = append(x.marks, mark{seq, at})
	if len(x.marks) > maxMarks {
		// The oldest is the one that a lease may run from by now.
		x.marks = slices.Delete(x.marks, 1, 2)
	}
}

// greet reports whether no report of this host has been answered yet, in this epoch
// and term.
func (x *contact) greet() bool {
	x.mu.Lock()
	defer x.mu.Unlock()
	first := !x.greeted
	x.greeted = true
	return first
}

// copy is the contact as ha sees it.
func (x *contact) copy() ha.Contact {
	x.mu.Lock()
	defer x.mu.Unlock()
	h := ha.Contact{Epoch: x.epoch, Heard: x.heard, Absorbed: x.absorbedAt, Looked: x.arrivals.Looked(),
		Copies: x.memory.Copies(), Coming: x.memory.Coming(), Guests: x.memory.Guests()}
	if x.check != nil {
		i := *x.check
		h.Check = &i // findings are replaced, never changed
	}
	if x.fence != nil {
		f := *x.fence
		h.Fence = &f
	}
	return h
}

// park replaces what was parked for a host: an agent waits for one answer.
func (x *contact) park(have uint64) *parked {
	x.mu.Lock()
	defer x.mu.Unlock()
	x.wakeLocked()
	x.have = max(x.have, have)
	x.parked = &parked{wake: make(chan struct{}), have: have}
	return x.parked
}

// wake has the host ask anew, if its answer is parked.
func (x *contact) wake() {
	x.mu.Lock()
	defer x.mu.Unlock()
	x.wakeLocked()
}

func (x *contact) wakeLocked() {
	if x.parked != nil {
		close(x.parked.wake)
		x.parked = nil
	}
}

// unpark forgets an answer that has been given.
func (x *contact) unpark(p *parked) {
	x.mu.Lock()
	defer x.mu.Unlock()
	if x.parked == p {
		x.parked = nil
	}
}

// wakeFor wakes a parked answer that the state has news for. h is the host; nil: there is
// none any more.
func (x *contact) wakeFor(s *fsm.State, h *fsm.Host) {
	x.mu.Lock()
	defer x.mu.Unlock()
	if x.parked != nil && (h == nil || h.Epoch != x.epoch || exchange.AssignmentIndex(s, h) > x.parked.have || !exchange.Reporting(h)) {
		x.wakeLocked()
	}
}

// acts is the newest assignment that the host's agent acts on.
func (x *contact) acts() uint64 {
	x.mu.Lock()
	defer x.mu.Unlock()
	return x.have
}

// takeProbes returns the probes that wait for a host, once.
func (x *contact) takeProbes() []*lifeboatv1.Probe {
	x.mu.Lock()
	defer x.mu.Unlock()
	p := x.probes
	x.probes = nil
	return p
}

// absorbed notes that a report's changes are committed.
func (x *contact) absorbed(seq uint64, wall int64) {
	x.mu.Lock()
	defer x.mu.Unlock()
	x.newest = max(x.newest, seq)
	x.absorbedAt = max(x.absorbedAt, wall)
}

func (x *contact) seq() uint64 {
	x.mu.Lock()
	defer x.mu.Unlock()
	return x.newest
}

// checking begins a round of questions about a host.
func (x *contact) checking(round int, at time.Duration) {
	x.mu.Lock()
	defer x.mu.Unlock()
	x.check = &ha.Investigation{Round: round, Started: at}
}

// found adds findings to the round, unless another has begun since.
func (x *contact) found(round int, f ...ha.Finding) {
	x.mu.Lock()
	defer x.mu.Unlock()
	if x.check == nil || x.check.Round != round {
		return
	}
	n := *x.check
	n.Findings = append(append([]ha.Finding(nil), n.Findings...), f...)
	x.check = &n
}

// checked ends the round.
func (x *contact) checked(round int) {
	x.mu.Lock()
	defer x.mu.Unlock()
	if x.check != nil && x.check.Round == round {
		n := *x.check
		n.Complete = true
		x.check = &n
	}
}

// fencing notes how far a fence attempt of this term is.
func (x *contact) fencing(r ha.FenceRun) {
	x.mu.Lock()
	defer x.mu.Unlock()
	x.fence = &r
}
