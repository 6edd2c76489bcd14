package session

import (
	"testing"
	"time"

	"pgregory.net/rapid"

	"lifeboat/hypervisor"
)

// TestSession is the world with random faults: crashes of the agent between
// any two things that happen, resets, lost and late messages, calls that happen
// after they were given up, a disk that refuses, managers that change their
// mind. S3, S4, S5, S12, S13 and S16 are checked at every step.
func TestSession(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		w := newWorld(t)
		w.wantLease = rapid.Bool().Draw(t, "lease")
		pick := func(t *rapid.T) hypervisor.UUID {
			id := hypervisor.UUID{15: byte(rapid.IntRange(1, 2).Draw(t, "vm"))}
			w.dom(id)
			return id
		}
		start := func(t *rapid.T) {
			id := pick(t)
			o := w.vms[id]
			if o == nil || o.gone {
				w.vms[id] = &owned{inc: w.top(id) + 1}
			} else if !rapid.Bool().Draw(t, "again") {
				o.inc++
			}
			w.order(w.vms[id])
		}
		calm := func(t *rapid.T) {
			w.calm(time.Duration(rapid.IntRange(10, 4000).Draw(t, "ms")) * time.Millisecond)
		}
		chaos := func(t *rapid.T) {
			for range rapid.IntRange(1, 10).Draw(t, "things") {
				w.chaos(t)
			}
		}
		few := func(t *rapid.T) {
			for range rapid.IntRange(1, 20).Draw(t, "things") {
				w.one()
			}
		}
		// interrupted is a start, and something else before it is complete.
		interrupted := func(what func(*rapid.T)) func(*rapid.T) {
			return func(t *rapid.T) {
				calm(t)
				start(t)
				few(t)
				what(t)
			}
		}
		rarely := func(do func()) func(*rapid.T) {
			return func(t *rapid.T) {
				if rapid.IntRange(0, 3).Draw(t, "really") == 0 {
					do()
				}
			}
		}
		t.Repeat(map[string]func(*rapid.T){
			"calm": calm, "calmer": calm, "calmest": calm, "chaos": chaos, "mess": chaos,
			"start": start, "few": few,
			"start, crash":  interrupted(func(*rapid.T) { w.crash() }),
			"start, chaos":  interrupted(chaos),
			"start, hang":   interrupted(func(*rapid.T) { w.hang = true }),
			"start, outage": interrupted(func(*rapid.T) { w.cut = true }),
			"start, destroy": interrupted(func(t *rapid.T) {
				o := w.vms[pick(t)]
				if o != nil {
					o.destroy, o.order, o.gone = o.inc, 0, true
				}
			}),
			"work": func(t *rapid.T) { // all is well for a while
				w.cut, w.hang = false, false
				w.calm(6 * time.Second)
			},
			"sleep": func(t *rapid.T) { // the agent does not run
				w.advance(w.now.Add(time.Duration(rapid.IntRange(1, 8000).Draw(t, "ms")) * time.Millisecond))
			},
			"late": func(t *rapid.T) {
				if len(w.late) > 0 {
					l := w.late[0]
					w.late = w.late[1:]
					if l.boot == w.boot && l.until >= w.now {
						l.do()
					}
				}
			},
			"partition": func(t *rapid.T) { w.cut = !w.cut },
			"outage": func(t *rapid.T) { // longer than a lease
				w.cut = true
				w.calm(12 * time.Second)
			},
			"hang":  rarely(func() { w.hang = !w.hang }),
			"crash": func(t *rapid.T) { w.crash() },
			"reset": rarely(w.reset),
			"epoch": rarely(func() { w.epoch++ }),
			"leave": rarely(func() { w.tell(w.process, func() Out { return w.sess.Stop(w.now, false) }) }),
			"adopt": func(t *rapid.T) {
				if id := pick(t); rapid.Bool().Draw(t, "really") {
					w.vms[id] = &owned{inc: w.top(id) + 1}
				}
			},
			"withdraw": func(t *rapid.T) {
				if o := w.vms[pick(t)]; o != nil {
					o.order = 0
				}
			},
			"destroy": func(t *rapid.T) {
				if o := w.vms[pick(t)]; o != nil {
					o.destroy, o.order, o.gone = o.inc, 0, true
				}
			},
			"stop": func(t *rapid.T) {
				if o := w.vms[pick(t)]; o != nil {
					o.stop = !o.stop
				}
			},
			"guest": func(t *rapid.T) {
				id, reason := pick(t), rapid.SampledFrom([]hypervisor.Reason{hypervisor.ReasonCrashed, hypervisor.ReasonShutdown}).Draw(t, "reason")
				if w.dom(id).state == hypervisor.StateRunning {
					w.end(id, reason)
				}
			},
			"lease": rarely(func() {
				w.wantLease = !w.wantLease
				w.counting = w.counting && w.wantLease
			}),
			"lease, crash": rarely(func() { // before it is complete
				w.wantLease = true
				few(t)
				w.crash()
			}),
			"term": func(t *rapid.T) { w.term++ },
			"disarm": func(t *rapid.T) {
				w.armed = rapid.IntRange(0, 3).Draw(t, "armed") > 0
				w.counting = w.counting && w.armed
			},
			"": func(t *rapid.T) {
				if w.exit != nil {
					w.crash()
				}
			},
		})
		w.settle()
	})
}

// chaos lets one thing happen: any of those pending, well or not.
func (w *world) chaos(t *rapid.T) {
	if len(w.pending) == 0 {
		w.calm(time.Millisecond)
		return
	}
	e := w.pop(rapid.IntRange(0, len(w.pending)-1).Draw(t, "which"))
	switch {
	case e.fail != nil && rapid.IntRange(0, 3).Draw(t, "fails") == 0:
		e.fail()
	case e.what == "report" && rapid.IntRange(0, 7).Draw(t, "old leader") == 0:
		e.old()
	default:
		e.do()
	}
}

func (w *world) pop(i int) *event {
	e := w.pending[i]
	w.pending = append(w.pending[:i:i], w.pending[i+1:]...)
	return e
}

// calm lets things happen in their order, as fast as they can, unless the
// network is cut or the hypervisor hangs.
func (w *world) calm(d time.Duration) {
	end := w.now.Add(d)
	for steps := 0; w.now < end; steps++ {
		if steps > 200_000 {
			w.t.Fatalf("at %v, %v before the end, it is still busy: %d pending", w.now, end.Sub(w.now), len(w.pending))
		}
		if len(w.pending) == 0 {
			w.sleep(end)
		} else {
			w.one()
		}
	}
}

// sleep lets the time pass until the session wants to be woken.
func (w *world) sleep(most Instant) {
	w.advance(max(min(w.wake, most), w.now.Add(time.Millisecond)))
	w.tell(w.process, func() Out { return w.sess.Tick(w.now) })
}

// one lets the next thing happen.
func (w *world) one() {
	if len(w.pending) == 0 {
		w.sleep(w.now.Add(time.Minute))
		return
	}
	e := w.pop(0)
	if e.fail != nil && (w.cut && e.remote() || w.hang && e.local()) {
		e.fail()
	} else {
		e.do()
	}
}

// top is the highest incarnation that the managers have ever given.
func (w *world) top(id hypervisor.UUID) uint64 {
	n := max(w.refused[id], w.failed[id])
	if o := w.vms[id]; o != nil {
		n = max(n, o.inc)
	}
	for k := range w.starts {
		if k.id == id {
			n = max(n, k.inc)
		}
	}
	return n
}

// settle lets everything work, and then all that the managers ordered must
// have come true or be known to have failed.
func (w *world) settle() {
	if w.exit != nil || w.sess.leaving {
		w.crash()
	}
	w.armed, w.late, w.cut, w.hang, w.renew = true, nil, false, false, true
	w.calm(time.Minute)
	for id, o := range w.vms {
		e := w.sess.ledger.VMs[id]
		over := e.Incarnation == o.inc && (e.Phase == PhaseRunning || e.Phase == PhaseEnded)
		if o.order != 0 && !over || o.destroy != 0 {
			l := &w.sess.lease
			w.t.Fatalf("%s: still ordered: %+v; ledger %+v, domain %+v, lease armed %v granted %v expired %v watchdog %v, problems %v",
				id, *o, e, *w.dom(id), l.armed, l.granted, l.expired, l.watchdog, w.sess.problems())
		}
	}
}
