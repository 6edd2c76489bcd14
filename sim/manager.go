package sim

import (
	"fmt"
	"time"

	"lifeboat/fsm"
)

// diskState is how the disk of a manager behaves.
type diskState uint8

const (
	diskOK diskState = iota
	diskStalls
	diskFull
)

// manager is one management node: its process, its copy of the log, its state
// machine, and its term while it leads.
type manager struct {
	w    *World
	name string
	on   *host // whose machine it shares; nil: one of its own

	up     bool
	runs   int   // of the process
	began  int64 // the latest of them, by its clock then, unix ns
	wired  bool  // its network works
	frozen bool
	left   bool // stopped for good
	disk   diskState
	offset time.Duration // of its clock
	inbox  []func()      // of a frozen process
	open   map[*call]bool

	raft      raftNode
	machine   *fsm.Machine
	seen      *fsm.State // in a large world: as of the entry applied last
	term      *term
	listening *term // that has not begun: it takes the time of the others first
}

func (m *manager) id() string { return m.name }

func (m *manager) box() string {
	if m.on != nil {
		return m.on.name
	}
	return m.name
}

func (m *manager) wire() bool { return m.wired && (m.on == nil || m.on.wire()) }

// works: its process runs and does something.
func (m *manager) works() bool { return m.up && !m.frozen && (m.on == nil || !m.on.frozen) }

// clock is the time by this machine's clock, unix ns.
func (m *manager) clock() int64 { return dawn + int64(m.w.now+m.offset) }

func (m *manager) runID() string { return fmt.Sprintf("%s-run-%d", m.name, m.runs) }

// do does something in this run of the process: later while it is frozen,
// never when it is gone.
func (m *manager) do(what func()) {
	switch {
	case !m.up || m.w.done:
	case !m.works():
		run := m.runs
		m.inbox = append(m.inbox, func() {
			if m.up && m.runs == run {
				what()
			}
		})
	default:
		what()
	}
}

// later is do after a while.
func (m *manager) later(d time.Duration, what func()) {
	run := m.runs
	m.w.after(d, func() {
		if m.up && m.runs == run {
			m.do(what)
		}
	})
}

// start begins a run of the process. The log is on disk, the state is what it
// says.
func (m *manager) start() {
	if m.up || m.disk != diskOK || m.on != nil && !m.on.running() {
		return
	}
	m.up, m.frozen, m.left = true, false, false
	m.runs++
	m.began = m.clock()
	m.inbox, m.open = nil, map[*call]bool{}
	m.machine = fsm.NewMachine()
	m.seen = m.machine.State()
	m.raft.begin(m)
	if m.w.now > 0 {
		m.w.note([]string{m.name}, "%s starts", m.name)
	}
	m.keepAlive(helloRetry)
}

// stop ends the process. clean: others are told by the network that it is gone.
func (m *manager) stop(clean bool) {
	if !m.up {
		return
	}
	m.endTerm("the process ended")
	m.up, m.raft.leads = false, false
	if clean {
		m.hangUp()
	}
	m.open = map[*call]bool{}
}

// kill is a crash of the process; the machine goes on.
func (m *manager) kill() {
	if m.up {
		m.w.note([]string{m.name}, "%s is killed", m.name)
		m.stop(true)
	}
}

func (m *manager) thaw() {
	if !m.up || !m.frozen {
		return
	}
	m.frozen = false
	m.resume()
}

// resume does what has come in while the process or its machine was frozen.
func (m *manager) resume() {
	if !m.works() {
		return
	}
	inbox := m.inbox
	m.inbox = nil
	for _, do := range inbox {
		do()
	}
	if m.term != nil {
		m.term.again()
	}
}

const (
	helloEvery = time.Second
	helloRetry = 100 * time.Millisecond
	helloLimit = 2 * time.Second
)

// hello is a manager's sign of life to the leader.
type hello struct {
	from    *manager
	run     string
	leaving bool
	clock   int64
	began   int64 // this run, by the same clock
}

// keepAlive says hello every second.
func (m *manager) keepAlive(wait time.Duration) {
	m.later(wait, func() {
		if m.left {
			return
		}
		m.sayHello(false, func(ok bool) {
			if ok {
				m.keepAlive(helloEvery)
			} else {
				m.keepAlive(helloRetry)
			}
		})
	})
}

func (m *manager) sayHello(leaving bool, told func(ok bool)) {
	h := hello{m, m.runID(), leaving, m.clock(), m.began}
	if m.term != nil {
		m.term.hello(h, func(err error) { told(err == nil) })
		return
	}
	l := m.raft.leader
	if l == nil || l == m {
		told(false)
		return
	}
	m.w.ask(m, l.name, helloLimit, h, func(r response) { m.do(func() { told(r.err == nil) }) })
}

// leave is a clean stop: leadership goes first, then the leader is told.
func (m *manager) leave() {
	if !m.up || m.left {
		return
	}
	m.left = true
	m.w.note([]string{m.name}, "%s leaves", m.name)
	if m.raft.leads {
		m.giveAway()
	}
	m.farewell(60)
}

func (m *manager) farewell(tries int) {
	m.later(50*time.Millisecond, func() {
		m.sayHello(true, func(ok bool) {
			if ok || tries == 0 {
				m.stop(true)
				return
			}
			m.farewell(tries - 1)
		})
	})
}
