package sim

import (
	"bytes"
	"errors"
	"fmt"
	"slices"
	"time"

	"lifeboat/agent/session"
	"lifeboat/ha"
	"lifeboat/hypervisor"
	"lifeboat/sim/scenario"
)

// domain is one VM on one host as its hypervisor knows it.
type domain struct {
	g      *guest
	h      *host
	state  hypervisor.State
	reason hypervisor.Reason
	kind   *kind
	xml    []byte        // nil: as all of its kind
	life   int           // raised whenever a process begins
	since  time.Duration // when its guest began to run
	inc    uint64        // that it was started at by order; 0: by somebody else
	byHand bool          // `vm V copy`
	out    *move         // of the migration that takes it away; nil: none

	reboots, fired uint32 // of its guest from inside, and its guest's watchdog
}

// How long the hypervisor takes; the rest is in scenario.Timing.
const (
	listTime    = 5 * time.Millisecond
	destroyTime = 200 * time.Millisecond
	adjustTime  = 50 * time.Millisecond
	crashAfter  = time.Second // of a guest that cannot stay up
)

// live: its guest runs, or may go on at any moment, on a machine that has power.
func (d *domain) live() bool {
	return d.h.running() && d.state.Active() && !d.newborn()
}

// newborn: its process exists, its guest has not run.
func (d *domain) newborn() bool {
	return d.state == hypervisor.StatePaused && (d.reason == hypervisor.ReasonUser || d.reason == hypervisor.ReasonMigrating || d.reason == hypervisor.ReasonStarting)
}

// runs: its guest does its work.
func (d *domain) runs() bool {
	return d.h.running() && d.state == hypervisor.StateRunning && !d.h.frozen
}

// define keeps a definition; nil: the guest's own.
func (h *host) define(g *guest, xml []byte) *domain {
	h.rouse()
	h.news = h.w.now
	d := h.domains[g.id]
	if d == nil {
		d = &domain{g: g, h: h, state: hypervisor.StateOff}
		h.domains[g.id] = d
		i, _ := slices.BinarySearchFunc(h.ids, g.id, hypervisor.UUID.Compare)
		h.ids = slices.Insert(h.ids, i, g.id)
		i, _ = slices.BinarySearchFunc(g.on, h, byNature)
		g.on = slices.Insert(g.on, i, h)
	}
	d.kind, d.xml = h.w.kindOf(g), nil
	if xml != nil && !bytes.Equal(xml, d.definition()) {
		d.xml = xml
	}
	return d
}

// definition is the text that its hypervisor keeps.
func (d *domain) definition() []byte {
	if d.xml != nil {
		return d.xml
	}
	return d.kind.fill(d.g)
}

func byNature(a, b *host) int { return ha.Natural(a.name, b.name) }

func (h *host) undefine(d *domain) {
	delete(h.domains, d.g.id)
	d.g.on = slices.DeleteFunc(d.g.on, func(x *host) bool { return x == h })
	if i, ok := slices.BinarySearchFunc(h.ids, d.g.id, hypervisor.UUID.Compare); ok {
		h.ids = slices.Delete(h.ids, i, i+1)
	}
}

// run lets the guest run from here on.
func (h *host) run(d *domain, r hypervisor.Reason) {
	h.rouse()
	h.news = h.w.now
	d.state, d.reason = hypervisor.StateRunning, r
	if r != hypervisor.ReasonMigrated {
		d.since = h.w.now
	}
	if !h.storage && !d.g.spec.Local {
		d.state, d.reason = hypervisor.StatePaused, hypervisor.ReasonIOError
	}
	h.w.livesOn(d)
	if d.g.crashLoop {
		life := d.life
		h.here(crashAfter, func() {
			if d.life == life && d.state.Active() && d.g.crashLoop {
				h.end(d, hypervisor.ReasonCrashed)
			}
		})
	}
	h.look(d.g.id)
}

// end is the end of the guest's process.
func (h *host) end(d *domain, r hypervisor.Reason) {
	if !d.state.Active() {
		return
	}
	h.rouse()
	h.news = h.w.now
	d.life++
	d.state, d.reason = hypervisor.StateOff, r
	d.byHand = false
	h.look(d.g.id)
}

// look is an event of the hypervisor.
func (h *host) look(id hypervisor.UUID) {
	if h.libvirt && h.agent.runs {
		h.agent.tell(h, func(s *session.Session, now session.Instant) session.Out { return s.Look(now, id) })
	}
}

// setStorage is the shared storage as this host sees it. A guest that was
// paused by its loss stays so: somebody must resume it.
func (h *host) setStorage(on bool) {
	h.touch()
	h.storage = on
	h.here(writeBeats, func() {
		if h.agent.runs {
			h.agent.beats(h)
		}
	})
	for _, id := range h.ids {
		if d := h.domains[id]; !on && d.state == hypervisor.StateRunning && !d.g.spec.Local {
			d.state, d.reason = hypervisor.StatePaused, hypervisor.ReasonIOError
			h.look(id)
		}
	}
}

var (
	errLibvirt = fmt.Errorf("libvirtd does not run: %w", hypervisor.ErrUnavailable)
	errLate    = fmt.Errorf("libvirtd went away: %w", hypervisor.ErrUnknownOutcome)
	errFault   = errors.New("internal error: process exited while connecting to monitor")
	errBusy    = errors.New("failed to terminate the process: device or resource busy")
)

func (h *host) list() []hypervisor.Domain {
	out := make([]hypervisor.Domain, 0, len(h.ids))
	for _, id := range h.ids {
		d := h.domains[id]
		out = append(out, hypervisor.Domain{UUID: id, Name: d.g.name, State: d.state, Reason: d.reason, Persistent: true, Reboots: d.reboots, Fired: d.fired})
	}
	return out
}

func (h *host) inventory() hypervisor.Inventory {
	inv := hypervisor.Inventory{MigrateURI: simURI + h.name, Hostname: h.name, Version: "sim", Arch: "x86_64", CPUs: h.spec.CPUs, MemoryBytes: h.spec.Memory,
		DomainTypes: []string{"kvm"}, Machines: []string{"pc"}, Networks: []hypervisor.Network{{Name: "default", Kind: hypervisor.NetworkVirtual}}}
	if h.storage {
		inv.Storages = []hypervisor.Storage{{Name: "shared", Kind: "shared-dir", Path: sharedDir, Source: "nas:/vms", Shared: true}}
	}
	return inv
}

// startVM carries out an order: create paused, confirm, run.
func (h *host) startVM(a session.StartVM, done func(error)) {
	g := h.w.byID[a.ID]
	d := h.domains[a.ID]
	switch {
	case !h.libvirt:
		done(errLibvirt)
		return
	case d != nil && d.state.Active():
		done(&hypervisor.Error{Op: "start", Subject: g.name, Err: hypervisor.ErrActive})
		return
	}
	d = h.define(g, a.Definition)
	d.life++
	d.state, d.reason, d.inc, d.byHand = hypervisor.StatePaused, hypervisor.ReasonUser, a.Incarnation, false
	life, proc := d.life, h.agent.proc
	h.here(h.w.file.World.Start, func() {
		if d.life != life || !d.state.Active() {
			done(errors.New("it was destroyed while it started"))
			return
		}
		if h.agent.proc != proc || !h.agent.runs {
			return // nobody lets it run
		}
		err := h.cannotStart(g)
		if err == nil && !h.libvirt {
			done(errLate)
			return
		}
		if err == nil {
			err = h.agent.sess.Confirm(h.now(), a.ID, a.Incarnation, a.Order)
		}
		if err != nil {
			h.end(d, hypervisor.ReasonFailed)
			h.undefine(d)
			done(&hypervisor.Error{Op: "start", Subject: g.name, Err: err})
			return
		}
		h.w.started(d)
		h.run(d, hypervisor.ReasonBooted)
		done(nil)
	})
}

// cannotStart is the world's reason why a start fails.
func (h *host) cannotStart(g *guest) error {
	f := &g.faults
	switch {
	case f.Start != 0 && (f.Host == "" || f.Host == h.name):
		if f.Start > 0 {
			f.Start--
		}
		return errFault
	case g.spec.Local && g.diskOn != h.name:
		return fmt.Errorf("cannot access storage file '%s': no such file or directory", g.disk())
	case !g.spec.Local && !h.storage:
		return fmt.Errorf("cannot access storage file '%s': input/output error", g.disk())
	}
	return nil
}

// stopFails is the world's reason why the hypervisor cannot end a guest.
func (h *host) stopFails(g *guest) bool {
	f := &g.faults
	if f.Stop == 0 || f.Host != "" && f.Host != h.name {
		return false
	}
	if f.Stop > 0 {
		f.Stop--
	}
	return true
}

func (h *host) stopVM(id hypervisor.UUID, mode hypervisor.StopMode, done func(error)) {
	d := h.domains[id]
	switch {
	case !h.libvirt:
		done(errLibvirt)
		return
	case d == nil:
		done(hypervisor.ErrNotFound)
		return
	case d.state.Active() && h.stopFails(d.g):
		h.here(destroyTime, func() { done(errBusy) })
		return
	}
	life := d.life
	if mode == hypervisor.StopShutdown {
		h.shutdownGuest(d)
		h.here(adjustTime, func() { done(nil) })
		return
	}
	h.here(destroyTime, func() {
		if !h.libvirt {
			done(errLate)
			return
		}
		if d.life == life {
			h.end(d, hypervisor.ReasonDestroyed)
		}
		done(nil)
	})
}

// shutdownGuest asks the guest to shut down.
func (h *host) shutdownGuest(d *domain) {
	life := d.life
	h.here(h.w.file.World.Stop, func() {
		if d.life == life && d.state == hypervisor.StateRunning && !d.g.hung {
			h.end(d, hypervisor.ReasonShutdown)
		}
	})
}

func (h *host) removeVM(id hypervisor.UUID, done func(error)) {
	d := h.domains[id]
	switch {
	case !h.libvirt:
		done(errLibvirt)
		return
	case d != nil && d.state.Active() && h.stopFails(d.g):
		h.here(destroyTime, func() { done(errBusy) })
		return
	}
	h.here(destroyTime, func() {
		if !h.libvirt {
			done(errLate)
			return
		}
		if d != nil && h.domains[id] == d {
			h.end(d, hypervisor.ReasonDestroyed)
			h.undefine(d)
		}
		done(nil)
	})
}

func (h *host) resumeVM(id hypervisor.UUID, done func(error)) {
	d := h.domains[id]
	switch {
	case !h.libvirt:
		done(errLibvirt)
		return
	case d == nil:
		done(hypervisor.ErrNotFound)
		return
	}
	h.here(adjustTime, func() {
		if d.state == hypervisor.StatePaused {
			if d.newborn() {
				h.w.started(d)
			}
			h.run(d, hypervisor.ReasonBooted)
		}
		done(nil)
	})
}

// setBMC changes how the power controller behaves.
func (h *host) setBMC(s bmcState, delay time.Duration) { h.bmc, h.bmcDelay = s, delay }

// levels are the host's fence levels as an operator sets them.
func (h *host) levels() []string {
	var out []string
	for _, l := range h.spec.Fence {
		if l == scenario.BMC {
			l = bmcDriver
		}
		out = append(out, l)
	}
	return out
}

// bmcDriver is what the state calls the power controllers of this world.
const bmcDriver = "redfish"
