package sim

import (
	"cmp"
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
	term     *term
	fresh    bool // ha knows all of it
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
		x = &contact{term: t, fresh: true, id: id, host: t.m.w.byHost[string(id)], epoch: epoch}
		if t.hosts[id] == nil {
			i, _ := slices.BinarySearchFunc(t.order, id, func(o *contact, id fsm.HostID) int { return cmp.Compare(o.id, id) })
			t.order = slices.Insert(t.order, i, x)
		} else {
			t.order[slices.Index(t.order, t.hosts[id])] = x
		}
		t.told = told{}
		t.hosts[id] = x
		x.changed()
	}
	return x
}

// changed: what the leader knows of the host is not what ha was told.
func (x *contact) changed() {
	if x.fresh {
		x.fresh = false
		x.term.news = append(x.term.news, x)
	}
}

// drift is how long the host has slept by now; for one that sleeps, for ever: it
// is heard for as long as it does.
func (x *contact) drift() time.Duration {
	if x.host.asleep && x.host.sleeper == x {
		return forever
	}
	return 0
}

const forever = time.Duration(1) << 61

func (x *contact) touch(seq uint64, at time.Duration) {
	x.changed()
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

// told is which state of the hosts they know of, in the order of t.order: where it
// has not changed since, nothing is news.
type told struct {
	hosts  []*fsm.Host
	armed  uint64
	policy *fsm.Policy
}

// wakeNews answers every host that the state has news for.
func (t *term) wakeNews() {
	s := t.state()
	if n := len(t.order); len(t.told.hosts) != n || t.told.armed != s.ArmedIndex || t.told.policy != s.Policy {
		t.told = told{make([]*fsm.Host, n), s.ArmedIndex, s.Policy}
	}
	var wake []*contact
	i := 0
	for id, h := range s.Hosts() { // both are sorted
		if i < len(t.order) && t.told.hosts[i] == h {
			i++
			continue
		}
		for i < len(t.order) && t.order[i].id < id {
			wake = append(wake, t.order[i])
			i++
		}
		if i == len(t.order) {
			break
		}
		if x := t.order[i]; x.id == id {
			t.told.hosts[i] = h
			i++
			if x.parked == nil {
				continue
			}
			x.roused(s, h)
			if h.Epoch != x.epoch || exchange.AssignmentIndex(s, h) > x.parked.have || !exchange.Reporting(h) {
				wake = append(wake, x)
			}
		}
	}
	for _, x := range append(wake, t.order[i:]...) {
		x.wake()
	}
}
