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
		pick := func(t *rapid.T) hypervisor.UUID {
			id := hypervisor.UUID{15: byte(rapid.IntRange(1, 2).Draw(t, "vm"))}
			w.dom(id)
			return id
		}
		next := func(t *rapid.T) {
			if len(w.pending) == 0 {
				w.advance(min(w.wake, w.now.Add(time.Minute)))
				w.tell(w.process, func() Out { return w.sess.Tick(w.now) })
				return
			}
			i := 0
			if rapid.IntRange(0, 3).Draw(t, "out of order") == 0 {
				i = rapid.IntRange(0, len(w.pending)-1).Draw(t, "which")
			}
			e := w.pending[i]
			w.pending = append(w.pending[:i:i], w.pending[i+1:]...)
			if e.fail != nil && rapid.IntRange(0, 9).Draw(t, "fails") == 0 {
				e.fail()
				return
			}
			e.do()
		}
		many := func(t *rapid.T) {
			for range rapid.IntRange(1, 30).Draw(t, "things") {
				next(t)
			}
		}
		actions := map[string]func(*rapid.T){
			"next": next, "many": many, "more": many, "most": many,
			"time": func(t *rapid.T) {
				w.advance(w.now.Add(time.Duration(rapid.IntRange(1, 8000).Draw(t, "ms")) * time.Millisecond))
				if rapid.Bool().Draw(t, "tick") {
					w.tell(w.process, func() Out { return w.sess.Tick(w.now) })
				}
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
			"crash": func(t *rapid.T) { w.crash() },
			"reset": func(t *rapid.T) {
				if rapid.IntRange(0, 3).Draw(t, "really") == 0 {
					w.reset()
				}
			},
			"start": func(t *rapid.T) {
				id := pick(t)
				o := w.vms[id]
				if o == nil || o.gone {
					w.vms[id] = &owned{inc: w.top(id) + 1}
				} else if !rapid.Bool().Draw(t, "again") {
					o.inc++
				}
				w.nextOrder++
				w.vms[id].order = w.nextOrder + 100
			},
			"adopt": func(t *rapid.T) {
				id := pick(t)
				w.vms[id] = &owned{inc: w.top(id) + 1}
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
				id := pick(t)
				switch d := w.dom(id); {
				case d.state != hypervisor.StateRunning:
				case rapid.Bool().Draw(t, "crashes"):
					w.end(id, hypervisor.ReasonCrashed)
				default:
					w.end(id, hypervisor.ReasonShutdown)
				}
			},
			"lease": func(t *rapid.T) {
				w.wantLease = !w.wantLease
				if !w.wantLease {
					w.counting = false
				}
			},
			"term":   func(t *rapid.T) { w.term++ },
			"epoch":  func(t *rapid.T) { w.epoch++ },
			"disarm": func(t *rapid.T) { w.armed = rapid.IntRange(0, 3).Draw(t, "armed") > 0 },
			"leave": func(t *rapid.T) {
				if rapid.IntRange(0, 3).Draw(t, "really") == 0 {
					w.tell(w.process, func() Out { return w.sess.Stop(w.now, false) })
				}
				if w.exit != nil {
					w.crash()
				}
			},
			"": func(t *rapid.T) {
				if len(w.pending) > 200 {
					w.pending = w.pending[len(w.pending)-200:]
				}
			},
		}
		t.Repeat(actions)
		w.settle()
	})
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
	if w.exit != nil {
		w.crash()
	}
	if w.sess.leaving {
		w.crash()
	}
	w.armed, w.late = true, nil
	end := w.now.Add(2 * time.Minute)
	for steps := 0; w.now < end; steps++ {
		if steps > 20000 {
			w.t.Fatalf("at %v, %v before the end, it is still busy: %d pending", w.now, end.Sub(w.now), len(w.pending))
		}
		if len(w.pending) > 0 {
			e := w.pending[0]
			w.pending = w.pending[1:]
			if e.process == w.process {
				e.do()
			}
			continue
		}
		// A beat passes between an answer and the next report.
		w.advance(max(min(w.wake, w.now.Add(time.Second)), w.now.Add(time.Millisecond)))
		w.tell(w.process, func() Out { return w.sess.Tick(w.now) })
	}
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
