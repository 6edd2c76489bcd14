package sim

import (
	"fmt"
	"time"

	"lifeboat/agent/session"
	"lifeboat/hypervisor"
	"lifeboat/sim/scenario"
)

// machineState is that of a host's machine.
type machineState uint8

const (
	machineOff machineState = iota
	machineBooting
	machineRunning
)

// bmcState is how a power controller behaves.
type bmcState uint8

const (
	bmcOn bmcState = iota
	bmcOff
	bmcLies
	bmcErrors
	bmcSlow
)

// host is one machine: power, network, storage, libvirtd, watchdog, agent,
// guests.
type host struct {
	w    *World
	spec scenario.Host
	name string

	state    machineState
	boot     int // raised by every boot
	frozen   bool
	network  bool
	storage  bool
	libvirt  bool
	stopping bool // its operating system is going down
	bmc      bmcState
	bmcDelay time.Duration

	// See sleep.go.
	queue   queue         // what is planned for it, on its clock
	place   int           // in the agenda
	asleep  bool          // its clock stands still
	since   time.Duration // when it fell asleep, on the world's clock
	slept   time.Duration // how long it has slept in all, until it last woke
	news    time.Duration // when something last happened to it, on the world's clock
	sleeper *contact      // what the leader remembers of it while it sleeps

	agent   agent
	dog     watchdog
	domains map[hypervisor.UUID]*domain
	ids     []hypervisor.UUID // sorted keys of domains
	backlog []func()          // of a frozen machine
}

// watchdog resets the machine when nobody feeds it.
type watchdog struct {
	armed bool
	bound time.Duration
	fed   time.Duration
	timed bool // a timer runs
	gen   int
}

// watchdogBound is how soon after the last pet the machine is reset.
const watchdogBound = 5 * time.Second

func (w *World) addHost(s scenario.Host) *host {
	h := &host{w: w, spec: s, name: s.Name, network: true, storage: true, place: idle, domains: map[hypervisor.UUID]*domain{}}
	w.hosts = append(w.hosts, h)
	w.byHost[h.name] = h
	return h
}

func (h *host) id() string    { return h.name }
func (h *host) box() string   { return h.name }
func (h *host) running() bool { return h.state == machineRunning }
func (h *host) wire() bool    { return h.running() && h.network }

func (h *host) note(format string, args ...any) {
	h.w.note([]string{h.name}, "%s", fmt.Sprintf(format, args...))
}

// here does something on this boot of the machine: not any more after a reset,
// later when it is frozen.
func (h *host) here(d time.Duration, do func()) { h.onBoot(d, false, do) }

func (h *host) onBoot(d time.Duration, routine bool, do func()) {
	boot := h.boot
	h.plan(d, routine, func() {
		switch {
		case h.boot != boot || !h.running():
		case h.frozen:
			h.backlog = append(h.backlog, do)
		default:
			do()
		}
	})
}

// powerOn boots the machine. at once: the world begins.
func (h *host) powerOn(atOnce bool) {
	if h.state != machineOff {
		return
	}
	h.begin(atOnce)
}

func (h *host) begin(atOnce bool) {
	h.boot++
	h.state = machineBooting
	h.frozen, h.stopping = false, false
	boot := h.boot
	up := func() {
		if h.boot != boot || h.state != machineBooting {
			return
		}
		h.state, h.libvirt = machineRunning, true
		h.note("%s has booted", h.name)
		h.agent.start(h)
		for _, m := range h.w.managers {
			if m.on == h {
				m.start()
			}
		}
	}
	if atOnce {
		up()
		return
	}
	h.w.after(h.w.file.World.Boot, up)
}

// powerOff takes everything on the machine with it.
func (h *host) powerOff(why string) {
	if h.state == machineOff {
		return
	}
	h.note("%s is off: %s", h.name, why)
	h.die()
	h.state = machineOff
}

// reset is what a watchdog does: the machine comes back by itself.
func (h *host) reset(why string) {
	h.note("%s is reset: %s", h.name, why)
	h.die()
	h.begin(false)
}

// die ends all processes.
func (h *host) die() {
	h.touch()
	h.boot++
	h.frozen, h.stopping, h.backlog = false, false, nil
	h.dog = watchdog{gen: h.dog.gen + 1}
	h.agent.gone()
	h.agent.held = session.Held{}
	for _, id := range h.ids {
		if d := h.domains[id]; d.state.Active() {
			h.end(d, hypervisor.ReasonUnknown)
		}
	}
	for _, m := range h.w.managers {
		if m.on == h {
			m.stop(false)
		}
	}
}

func (h *host) freeze() {
	if h.running() && !h.frozen {
		h.touch()
		h.frozen = true
	}
}

func (h *host) thaw() {
	if !h.frozen {
		return
	}
	h.touch()
	h.frozen = false
	backlog := h.backlog
	h.backlog = nil
	boot := h.boot
	for _, m := range h.w.managers {
		if m.on == h {
			m.resume()
		}
	}
	for i, do := range backlog {
		if h.boot != boot {
			return
		}
		if h.frozen {
			h.backlog = append(h.backlog, backlog[i:]...)
			return
		}
		do()
	}
}

// arm begins, or goes on, to watch.
func (d *watchdog) arm(h *host, bound time.Duration) {
	d.armed, d.bound = true, bound
	d.pet(h)
}

func (d *watchdog) disarm() { d.armed = false }

// pet puts off the reset. There is one timer at a time; it looks when it
// goes off.
func (d *watchdog) pet(h *host) {
	d.fed = h.clock()
	if !d.armed || h.spec.Watchdog != scenario.WatchdogHard {
		return // a soft one is in the agent, and stops with it
	}
	if !d.timed {
		d.timed = true
		d.watch(h, d.gen)
	}
}

func (d *watchdog) watch(h *host, gen int) {
	h.plan(d.fed+d.bound-h.clock(), true, func() {
		switch {
		case h.dog.gen != gen:
		case !h.dog.armed || !h.running():
			h.dog.timed = false
		case h.clock()-h.dog.fed >= h.dog.bound:
			h.reset("its watchdog was not fed")
		default:
			h.dog.watch(h, gen)
		}
	})
}
