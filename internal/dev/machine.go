package dev

import (
	"fmt"
	"io"
	"slices"
	"sync"
	"time"

	"lifeboat/fence/redfishsim"
)

// Machine is one machine of the room: a host, perhaps with a management node
// beside it, a power controller and an address at which it is seen to live.
type Machine struct {
	name string // of its host
	node string // of its management node; empty = none
	http string // where the node shows its health
	uuid string
	door *door
	bmc  *redfishsim.Server

	mu      sync.Mutex
	on      bool // as the power controller reads it
	alive   bool // its kernel runs; false while on after a crash of it
	boot    string
	boots   int
	manager *process
	agent   *process
}

// Death is a moment in which everything that ran on a machine ended.
type Death struct {
	Host  string
	Begin time.Time // nothing was wrong before
	End   time.Time // nothing ran any more
}

// SetPower is the power controller's button.
func (r *Room) setPower(m *Machine, on bool) error {
	if on {
		return r.boot(m)
	}
	r.cut(m, true)
	return nil
}

// cut ends everything on a machine at once. With power, its controller reads
// off after that; without, it is as after a panic of the kernel.
func (r *Room) cut(m *Machine, power bool) Death {
	m.mu.Lock()
	defer m.mu.Unlock()
	d := Death{Host: m.name, Begin: time.Now()}
	if power {
		m.on = false
	}
	if !m.alive {
		return d
	}
	m.alive = false
	var both sync.WaitGroup
	for _, p := range []*process{m.manager, m.agent} {
		both.Go(p.kill)
	}
	both.Wait()
	m.manager, m.agent = nil, nil
	d.End = time.Now()
	m.door.shut()
	r.died(d)
	return d
}

// boot switches a machine on. Its VMs are on its disk, and off.
func (r *Room) boot(m *Machine) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.alive {
		return nil
	}
	m.boot = newBootID()
	m.boots++
	domains := slices.DeleteFunc(slices.Clone(r.guests), func(g *guest) bool { return g.host != m.name })
	if err := r.configureAgent(m, domains, m.boots == 1); err != nil {
		return err
	}
	m.on, m.alive = true, true
	m.door.open()
	if m.node != "" {
		if err := r.startManager(m); err != nil {
			return err
		}
	}
	return r.startAgent(m)
}

func (r *Room) startManager(m *Machine) (err error) {
	m.manager, err = r.launch(m.node, "server", "-c", r.config(m.node))
	return err
}

func (r *Room) startAgent(m *Machine) (err error) {
	m.agent, err = r.launch(m.name, "agent", "-c", r.config(m.name))
	return err
}

// resume starts what was stopped on a machine that is on. VMs that ran when the
// agent was stopped run again: they only had to end because they live in its
// memory.
func (r *Room) resume(m *Machine) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.node != "" && !m.manager.running() {
		if err := r.startManager(m); err != nil {
			return err
		}
	}
	if m.agent.running() {
		return nil
	}
	var running []*guest
	seen, err := readJournal(r.journal)
	if err != nil {
		return err
	}
	for _, g := range r.guests {
		if s, ok := seen.where(g.id, r.Deaths()); ok && s.Host == m.name {
			running = append(running, g)
		}
	}
	if err := r.configureAgent(m, running, true); err != nil {
		return err
	}
	return r.startAgent(m)
}

// tell says something to the guests of a machine.
func (m *Machine) tell(verb string, g *guest) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if !m.agent.running() {
		return fmt.Errorf("host %s is not running", m.name)
	}
	if _, err := io.WriteString(m.agent.stdin, verb+" "+g.id.String()+"\n"); err != nil {
		return fmt.Errorf("reach %s on host %s: %w", g.name, m.name, err)
	}
	return nil
}

func (m *Machine) isOn() bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.on
}

// nodeRuns reports whether the machine's management node is there to be asked.
func (m *Machine) nodeRuns() bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.manager.running()
}

// processes are those that run.
func (m *Machine) processes() (manager, agent *process) {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.manager, m.agent
}

func (m *Machine) isAlive() bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.alive
}
