package sim

import (
	"fmt"
	"math/rand/v2"
	"time"

	"lifeboat/fsm"
	"lifeboat/hypervisor"
	"lifeboat/sim/scenario"
)

// World is one scenario on its way.
type World struct {
	file   *scenario.File
	rng    *rand.Rand
	now    time.Duration // since the world began; the scenario's zero is later
	zero   time.Duration // when the scenario's clock starts
	queue  queue
	agenda agenda
	seq    uint64 // of the event planned last
	done   bool   // a violation, or the end of the caller's patience, ends the run
	ended  <-chan struct{}
	cut    bool // by ended
	count  uint

	instant int // events at this moment

	hosts    []*host // in natural order
	byHost   map[string]*host
	managers []*manager
	byName   map[string]*manager
	vms      []*guest // in natural order
	byVM     map[string]*guest
	byID     map[hypervisor.UUID]*guest
	kinds    map[kindKey]*kind
	shared   bool          // the managers share one state machine
	thinks   time.Duration // how long a look of ha takes

	policySet  bool
	toWrite    int // settings and rules of the file that are on their way
	ready      int // VMs that the settling world need not be asked for again
	settled    bool
	inspection chan error         // what the check of a state finds that is under way
	cuts       map[[2]string]bool // packets of the first do not reach the second

	raft    raftLog
	truth   *fsm.Machine // of whoever has applied the most
	saved   *fsm.State   // by `snapshot save`; nil: none
	book    book
	story   story
	broken  []Violation
	refused []refusal
}

// refusal is a command of an operator that was not carried out, and why.
type refusal struct{ text, why string }

// Violation is something that must never happen, or an operator's error.
type Violation struct {
	At    time.Duration // on the scenario's clock
	Rule  string
	Text  string
	About []string // names whose story explains it
}

func (v Violation) String() string { return fmt.Sprintf("%s: %s", v.Rule, v.Text) }

// dawn is the wall clock of the world's first moment, unix ns: the beginning of
// 2026.
const dawn = int64(1_767_225_600) * int64(time.Second)

func newWorld(f *scenario.File, seed uint64) *World {
	w := &World{
		file: f, rng: rand.New(rand.NewPCG(seed, 0x73696d)),
		byHost: map[string]*host{}, byName: map[string]*manager{}, byVM: map[string]*guest{}, byID: map[hypervisor.UUID]*guest{}, kinds: map[kindKey]*kind{},
		cuts: map[[2]string]bool{}, truth: fsm.NewMachine(),
	}
	w.book = newBook()
	for _, h := range f.Hosts {
		w.addHost(h)
	}
	for _, name := range f.Managers {
		m := &manager{w: w, name: name, on: w.byHost[f.ManagersOn[name]], machine: fsm.NewMachine(), wired: true}
		w.managers = append(w.managers, m)
		w.byName[name] = m
	}
	for _, v := range f.VMs {
		w.addGuest(v)
	}
	if !w.small() {
		w.shared, w.thinks = true, time.Duration(len(w.hosts))*25*time.Microsecond
	}
	return w
}

func (w *World) after(d time.Duration, do func()) {
	w.seq++
	w.queue.add(event{at: w.now + max(d, 0), seq: w.seq, do: do})
}

// jitter is between d/2 and d.
func (w *World) jitter(d time.Duration) time.Duration {
	return d/2 + time.Duration(w.rng.Int64N(int64(d/2)+1))
}

// latency is how long a message is on its way.
func (w *World) latency() time.Duration { return w.jitter(time.Millisecond) }

// clock is the time since the scenario began.
func (w *World) clock() time.Duration { return w.now - w.zero }

// mostAtOnce things may happen at one moment in the largest world.
const mostAtOnce = 200_000

// run lets time pass.
func (w *World) run(until time.Duration) {
	for !w.done {
		at, do, ok := w.next(until)
		if !ok {
			break
		}
		if at > w.now {
			w.instant = 0
		}
		if w.instant++; w.instant > mostAtOnce {
			w.violate("8 (time goes on)", nil, "%d things happened at one moment and there is no end of them", w.instant)
			break
		}
		w.now = at
		do()
		if w.count++; w.count%4096 == 0 {
			w.impatient()
		}
	}
	if !w.done {
		w.now = until
	}
}

// impatient ends the run when nobody waits for its result any more.
func (w *World) impatient() {
	select {
	case <-w.ended:
		w.done, w.cut = true, true
	default:
	}
}

// violate notes what must never happen, and ends the run.
func (w *World) violate(rule string, about []string, format string, args ...any) {
	v := Violation{At: w.clock(), Rule: rule, Text: fmt.Sprintf(format, args...), About: about}
	w.broken = append(w.broken, v)
	w.note(about, "VIOLATION %s", v)
	w.done = true
}

// endpoint is a host or manager as the network sees it.
type endpoint interface {
	id() string  // its own name
	box() string // the name of its machine, which a manager may share with a host
	wire() bool  // its machine is powered and its network works
}

// reaches reports whether a's packets get to b.
func (w *World) reaches(a, b endpoint) bool {
	if !a.wire() || !b.wire() {
		return same(a, b) && machineUp(a)
	}
	if same(a, b) {
		return !w.cuts[[2]string{a.id(), b.id()}]
	}
	if len(w.cuts) == 0 {
		return true
	}
	for _, x := range [2]string{a.id(), a.box()} {
		for _, y := range [2]string{b.id(), b.box()} {
			if w.cuts[[2]string{x, y}] {
				return false
			}
		}
	}
	return true
}

// same: both are on one machine; what they say to each other needs no network.
func same(a, b endpoint) bool { return a.box() == b.box() }

func machineUp(e endpoint) bool {
	switch e := e.(type) {
	case *host:
		return e.running()
	case *manager:
		return e.on == nil || e.on.running()
	}
	return false
}

// talk reports whether both hear each other.
func (w *World) talk(a, b endpoint) bool { return w.reaches(a, b) && w.reaches(b, a) }
