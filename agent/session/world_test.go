package session

import (
	"errors"
	"fmt"
	"slices"
	"time"

	"pgregory.net/rapid"

	lifeboatv1 "lifeboat/api/lifeboat/v1"
	"lifeboat/hypervisor"
)

// world is one machine with an agent's session, its disk, a hypervisor, a
// watchdog, and managers that only ever say what real ones could. Everything
// that takes time is pending until it is picked: in any order, or never.
type world struct {
	t    *rapid.T
	now  Instant
	boot int

	// Survives a crash of the agent, and of the machine.
	ledger []byte
	// Survives a crash of the agent only.
	held   []byte
	doms   map[hypervisor.UUID]*dom
	late   []*late
	dog    bool
	dogPet Instant
	resets int

	sess    *Session
	process int
	wake    Instant
	pending []*event
	exit    *Exit
	cut     bool // no manager is reached
	hang    bool // the hypervisor does not answer

	managers

	starts map[key]int
	ran    map[key]bool // its guest ran, and has not ended since
}

type key struct {
	id  hypervisor.UUID
	inc uint64
}

type dom struct {
	state  hypervisor.State
	reason hypervisor.Reason
	inc    uint64
}

// late is a call that was given up and may still happen, until a time.
type late struct {
	until Instant
	boot  int
	do    func()
}

// event is something that will be told to the process that asked.
type event struct {
	process int
	what    string
	do      func()
	fail    func() // nil: it cannot
	old     func() // reports: a deposed leader answers
}

func (e *event) remote() bool {
	return slices.Contains([]string{"register", "report", "answer", "leave"}, e.what)
}

func (e *event) local() bool { return slices.Contains([]string{"poll", "op", "start"}, e.what) }

// managers are what the state says about the host.
type managers struct {
	term, epoch, index uint64
	seq                uint64 // of the last report
	bootOf             string // of the registration
	said               string // the last assignment
	armed              bool
	wantLease          bool
	vms                map[hypervisor.UUID]*owned
	nextOrder          uint64
	renew              bool // orders that a registration made void are given again

	counting bool    // the leader counts on the lease
	until    Instant // and will not start anything elsewhere before this
	refused  map[hypervisor.UUID]uint64
	failed   map[hypervisor.UUID]uint64
}

type owned struct {
	inc     uint64
	order   uint64 // of the start; 0: none
	destroy uint64 // incarnation; 0: none
	gone    bool   // not owned here any more
	stop    bool

	epoch uint64 // that the order to start is for
	boot  string
}

// order makes a new order to start.
func (w *world) order(o *owned) {
	w.nextOrder++
	o.order, o.epoch, o.boot = w.nextOrder+100, w.epoch, w.bootOf
}

const (
	leaseTime = 10 * time.Second
	bound     = 5 * time.Second
	lateness  = quiet - time.Second
)

func newWorld(t *rapid.T) *world {
	w := &world{
		t: t, now: Instant(time.Hour), boot: 1, doms: map[hypervisor.UUID]*dom{},
		starts: map[key]int{}, ran: map[key]bool{},
		managers: managers{
			term: 1, armed: true, vms: map[hypervisor.UUID]*owned{},
			refused: map[hypervisor.UUID]uint64{}, failed: map[hypervisor.UUID]uint64{},
		},
	}
	w.begin()
	return w
}

func (w *world) bootID() string { return fmt.Sprintf("boot-%d", w.boot) }

// begin starts the agent from what is on disk.
func (w *world) begin() {
	var saved Saved
	var err error
	if w.ledger != nil {
		if saved.Ledger, err = DecodeLedger(w.ledger); err != nil {
			w.t.Fatalf("ledger: %v", err)
		}
	}
	if w.held != nil {
		if saved.Held, err = DecodeHeld(w.held); err != nil {
			w.t.Fatalf("lease file: %v", err)
		}
	}
	w.process++
	w.pending, w.exit = nil, nil
	w.sess = New(Config{
		HostID: "h1", MachineID: "m", BootID: w.bootID(), Session: fmt.Sprint(w.process),
		Managers: []Manager{{Addr: "m1"}, {Addr: "m2"}}, Bound: bound, Seed: uint64(w.process),
		Watchdog: lifeboatv1.WatchdogKind_WATCHDOG_KIND_EXTERNAL,
	}, saved)
	w.take(w.sess.Boot(w.now))
}

func (w *world) crash() {
	for _, e := range w.pending {
		if e.what == "start" || e.what == "op" {
			e.fail() // its last call may still happen
		}
	}
	w.begin()
}

func (w *world) reset() {
	w.resets++
	w.boot++
	w.held, w.late, w.dog = nil, nil, false
	for id, d := range w.doms {
		if d.state.Active() {
			delete(w.ran, key{id, d.inc})
			d.state, d.reason = hypervisor.StateOff, hypervisor.ReasonUnknown
		}
	}
	w.pending = nil
	w.begin()
}

func (w *world) dom(id hypervisor.UUID) *dom {
	d := w.doms[id]
	if d == nil {
		d = &dom{state: hypervisor.StateAbsent}
		w.doms[id] = d
	}
	return d
}

// advance lets time pass; the watchdog bites on the way.
func (w *world) advance(to Instant) {
	if w.dog && to >= w.dogPet.Add(bound) {
		w.now = max(w.now, w.dogPet.Add(bound))
		w.check()
		w.reset()
	}
	w.now = max(w.now, to)
	w.late = slices.DeleteFunc(w.late, func(l *late) bool { return l.until < w.now })
	w.check()
}

// tell gives the session an input, unless it is gone.
func (w *world) tell(process int, in func() Out) {
	if process == w.process && w.exit == nil {
		w.take(in())
	}
}

func (w *world) ask(what string, do, fail func()) *event {
	e := &event{process: w.process, what: what, do: do, fail: fail}
	w.pending = append(w.pending, e)
	return e
}

var errWorld = errors.New("it failed")

// take carries out actions.
func (w *world) take(out Out) {
	w.wake = out.Wake
	p := w.process
	for _, a := range out.Actions {
		switch a := a.(type) {
		case Poll:
			w.ask("poll", func() {
				ds := w.list()
				w.ask("polled", func() { w.tell(p, func() Out { return w.sess.Polled(w.now, a.ID, ds, nil) }) }, nil)
			}, func() { w.tell(p, func() Out { return w.sess.Polled(w.now, a.ID, nil, errWorld) }) })
		case ReadInventory:
			w.ask("inventory", func() {
				w.tell(p, func() Out { return w.sess.InventoryRead(w.now, hypervisor.Inventory{}, false, nil) })
			}, nil)
		case ReadHashes:
			w.ask("hashes", func() { w.tell(p, func() Out { return w.sess.HashesRead(w.now, a.VMs, nil) }) }, nil)
		case PutSpecs:
			w.ask("specs", func() { w.tell(p, func() Out { return w.sess.SpecsPut(w.now, nil) }) }, nil)
		case Register:
			w.ask("register", func() {
				r := w.registered(a.Req)
				w.ask("registered", func() { w.tell(p, func() Out { return w.sess.Registered(w.now, a.Seq, r) }) }, nil)
			}, func() { w.tell(p, func() Out { return w.sess.SendFailed(w.now, a.Seq, Failure{Err: errWorld}) }) })
		case Report:
			w.checkReport(a.Req)
			w.report(p, a)
		case Leave:
			w.ask("leave", func() {
				if a.Req.Epoch == w.epoch {
					w.counting = false
				}
				w.ask("left", func() { w.tell(p, func() Out { return w.sess.Left(w.now, a.Req.Epoch != w.epoch, nil) }) }, nil)
			}, func() { w.tell(p, func() Out { return w.sess.Left(w.now, false, errWorld) }) })
		case StartVM:
			w.start(p, a)
		case StopVM:
			if a.Mode == hypervisor.StopDestroy {
				w.checkMayDestroy(a.ID)
			}
			w.op(p, a.ID, func() {
				if d := w.dom(a.ID); a.Mode == hypervisor.StopDestroy {
					w.end(a.ID, hypervisor.ReasonDestroyed)
				} else if d.state == hypervisor.StateRunning {
					w.end(a.ID, hypervisor.ReasonShutdown)
				}
			})
		case RemoveVM:
			w.checkMayDestroy(a.ID)
			w.op(p, a.ID, func() {
				w.end(a.ID, hypervisor.ReasonDestroyed)
				w.dom(a.ID).state = hypervisor.StateAbsent
			})
		case ResumeVM:
			w.checkMayRun(a.ID, "a resume")
			w.op(p, a.ID, func() { w.run(a.ID) })
		case ClearAutostart:
			w.op(p, a.ID, func() {})
		case Persist:
			b, err := EncodeLedger(a.Ledger)
			if err != nil {
				w.t.Fatalf("encode ledger: %v", err)
			}
			w.ask("persist", func() {
				w.ledger = b
				w.ask("persisted", func() { w.tell(p, func() Out { return w.sess.Persisted(w.now, a.Version, nil) }) }, nil)
			}, func() { w.tell(p, func() Out { return w.sess.Persisted(w.now, a.Version, errWorld) }) })
		case SaveLease:
			b, err := EncodeHeld(a.Held)
			if err != nil {
				w.t.Fatalf("encode lease: %v", err)
			}
			w.held = b
		case ArmWatchdog:
			w.dog, w.dogPet = true, w.now
			w.ask("armed", func() { w.tell(p, func() Out { return w.sess.WatchdogDone(w.now, nil) }) }, nil)
		case DisarmWatchdog:
			w.dog = false
			w.ask("disarmed", func() { w.tell(p, func() Out { return w.sess.WatchdogDone(w.now, nil) }) }, nil)
		case PetWatchdog:
			w.checkPet()
			w.dogPet = w.now
		case Exit:
			w.exit = &a
		}
	}
}

func (w *world) list() []hypervisor.Domain {
	var ds []hypervisor.Domain
	for _, id := range w.ids() {
		if d := w.doms[id]; d.state != hypervisor.StateAbsent {
			ds = append(ds, hypervisor.Domain{UUID: id, Name: id.String()[:4], State: d.state, Reason: d.reason, Persistent: true})
		}
	}
	return ds
}

func (w *world) ids() []hypervisor.UUID {
	var ids []hypervisor.UUID
	for id := range w.doms {
		ids = append(ids, id)
	}
	slices.SortFunc(ids, hypervisor.UUID.Compare)
	return ids
}

// op is a single call to the hypervisor.
func (w *world) op(p int, id hypervisor.UUID, do func()) {
	w.ask("op", func() {
		do()
		w.tell(p, func() Out { return w.sess.OpDone(w.now, OpResult{ID: id}) })
	}, func() {
		w.later(do)
		w.tell(p, func() Out { return w.sess.OpDone(w.now, OpResult{ID: id, Err: hypervisor.ErrUnknownOutcome}) })
	})
}

func (w *world) later(do func()) {
	w.late = append(w.late, &late{until: w.now.Add(lateness), boot: w.boot, do: do})
}

// start is a series of calls: create paused, confirm, run.
func (w *world) start(p int, a StartVM) {
	k := key{a.ID, a.Incarnation}
	w.starts[k]++
	if w.starts[k] > 1 {
		w.t.Fatalf("incarnation %d of %s was handed to the hypervisor twice", k.inc, k.id)
	}
	if a.Incarnation <= max(w.refused[a.ID], w.failed[a.ID]) {
		w.t.Fatalf("incarnation %d of %s is started after it was reported as refused (%d) or failed (%d)", k.inc, k.id, w.refused[a.ID], w.failed[a.ID])
	}
	for id, o := range w.vms {
		if id == a.ID && o.order == a.Order && (o.boot != w.bootID() || o.epoch != w.sess.epoch) {
			w.t.Fatalf("an order of epoch %d, %s is carried out in epoch %d, %s", o.epoch, o.boot, w.sess.epoch, w.bootID())
		}
	}
	done := func(err error) {
		w.tell(p, func() Out { return w.sess.OpDone(w.now, OpResult{ID: a.ID, Err: err}) })
	}
	create := func() {
		if d := w.dom(a.ID); !d.state.Active() {
			*d = dom{hypervisor.StatePaused, hypervisor.ReasonUser, a.Incarnation}
		}
	}
	run := func() {
		if d := w.dom(a.ID); d.state == hypervisor.StatePaused && d.inc == a.Incarnation {
			w.run(a.ID)
		}
	}
	unknown := func(do func()) func() {
		return func() { w.later(do); done(hypervisor.ErrUnknownOutcome) }
	}
	w.ask("start", func() {
		if w.dom(a.ID).state.Active() {
			done(hypervisor.ErrActive)
			return
		}
		create()
		w.ask("start", func() { // confirm
			if p != w.process || w.exit != nil {
				return
			}
			if err := w.sess.Confirm(w.now, a.ID, a.Incarnation, a.Order); err != nil {
				w.end(a.ID, hypervisor.ReasonDestroyed)
				w.dom(a.ID).state = hypervisor.StateAbsent
				done(err)
				return
			}
			w.checkMayRun(a.ID, "a confirmed start")
			w.ask("start", func() { run(); done(nil) }, unknown(run))
		}, func() { done(errWorld) })
	}, unknown(create))
}

func (w *world) run(id hypervisor.UUID) {
	if d := w.dom(id); d.state == hypervisor.StatePaused {
		d.state, d.reason = hypervisor.StateRunning, hypervisor.ReasonBooted
		w.ran[key{id, d.inc}] = true
	}
}

func (w *world) end(id hypervisor.UUID, r hypervisor.Reason) {
	d := w.dom(id)
	if !d.state.Active() {
		return
	}
	delete(w.ran, key{id, d.inc})
	d.state, d.reason = hypervisor.StateOff, r
}
