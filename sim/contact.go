package sim

import (
	"cmp"
	"maps"
	"slices"
	"time"

	lifeboatv1 "lifeboat/api/lifeboat/v1"
	"lifeboat/exchange"
	"lifeboat/fsm"
	"lifeboat/ha"
)

// contact is one host in one term. It mirrors node's.
type contact struct {
	id       fsm.HostID
	host     *host
	epoch    uint64
	heard    time.Duration
	absorbed int64
	seq      uint64 // newest report absorbed
	marks    []mark // arrivals that may still bound a lease
	arrivals exchange.Arrivals
	memory   exchange.Memory
	check    *ha.Investigation
	fence    *ha.FenceRun
	probes   []*lifeboatv1.Probe
	parked   *parked

	// What the state said when the host fell asleep.
	seen   *fsm.Host
	policy *fsm.Policy

	busy  bool // a report is being absorbed
	queue []func()
}

// mark is the arrival of a report.
type mark struct {
	seq uint64
	at  time.Duration
}

// parked is an answer that waits for news.
type parked struct {
	have  uint64
	reply func()
}

// maxMarks bounds the memory of arrivals.
const maxMarks = 64

func (t *term) contact(id fsm.HostID, epoch uint64) *contact {
	x := t.hosts[id]
	if x == nil || x.epoch < epoch {
		if x != nil {
			x.wake()
		}
		x = &contact{id: id, host: t.m.w.byHost[string(id)], epoch: epoch}
		t.hosts[id] = x
	}
	return x
}

func (t *term) sorted() []*contact {
	return slices.SortedFunc(maps.Values(t.hosts), func(a, b *contact) int { return cmp.Compare(a.id, b.id) })
}

func (x *contact) touch(seq uint64, at time.Duration) {
	x.heard = max(x.heard, at)
	x.marks = append(x.marks, mark{seq, at})
	if len(x.marks) > maxMarks {
		x.marks = x.marks[1:]
	}
}

// leaseSeq is the newest request that a lease may run from (S14).
func (x *contact) leaseSeq(proven time.Duration) uint64 {
	var seq uint64
	drop := 0
	for i, m := range x.marks {
		if m.at >= proven {
			break
		}
		seq, drop = max(seq, m.seq), i
	}
	x.marks = x.marks[drop:]
	return seq
}

func (x *contact) wake() {
	if p := x.parked; p != nil {
		x.host.rouse()
		x.parked = nil
		p.reply()
	}
}

// turn does one absorption at a time.
func (x *contact) turn(do func()) {
	if x.busy {
		x.queue = append(x.queue, do)
		return
	}
	x.busy = true
	do()
}

func (x *contact) turnOver() {
	x.busy = false
	if len(x.queue) > 0 {
		do := x.queue[0]
		x.queue = x.queue[1:]
		x.turn(do)
	}
}

// wakeNews answers every host that the state has news for.
func (t *term) wakeNews() {
	s := t.state()
	for _, x := range t.sorted() {
		if x.parked == nil {
			continue
		}
		h := s.Host(x.id)
		x.roused(s, h)
		if h == nil || h.Epoch != x.epoch || exchange.AssignmentIndex(s, h) > x.parked.have || !exchange.Reporting(h) {
			x.wake()
		}
	}
}
