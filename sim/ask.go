package sim

import (
	"fmt"
	"time"

	"lifeboat/hypervisor"
)

// errNoAgent is what libvirt says of an agent that does not answer.
var errNoAgent = fmt.Errorf("%w: QEMU guest agent is not connected", hypervisor.ErrSilent)

const (
	// hungTime is how long libvirt waits for the agent of a guest that hangs.
	hungTime = 3 * time.Second
	// watchdogTime is after how long a guest's watchdog fires that hears nothing of it.
	watchdogTime = 30 * time.Second
)

// askGuest is a ping of the agent inside a guest, which answers some time after it
// began to run, and not while it hangs.
func (h *host) askGuest(id hypervisor.UUID, done func(error)) {
	took := adjustTime
	if d := h.domains[id]; d != nil && d.g.hung {
		took = hungTime
	}
	h.here(took, func() {
		d := h.domains[id]
		switch {
		case !h.libvirt:
			done(errLibvirt)
		case d == nil || d.state != hypervisor.StateRunning || d.g.hung || d.g.spec.GuestAgent == 0 || h.w.now < d.since+d.g.spec.GuestAgent:
			done(errNoAgent)
		default:
			done(nil)
		}
	})
}

// hang makes a guest do nothing any more while its domain runs, until it boots again.
func (x *step) hang() {
	x.fault()
	x.g.hung = true
	for _, d := range x.copies(x.g) {
		if d.g.spec.GuestWatchdog != "" {
			life := d.life
			d.h.here(watchdogTime, func() {
				if d.life == life && d.state == hypervisor.StateRunning && d.g.hung {
					d.h.fire(d)
				}
			})
		}
	}
}

// fire is what the hypervisor does when a guest's watchdog fires.
func (h *host) fire(d *domain) {
	h.rouse()
	h.news = h.w.now
	h.w.note([]string{d.g.name, h.name}, "the watchdog of %s fires on %s (%s)", d.g.name, h.name, d.g.spec.GuestWatchdog)
	switch d.g.spec.GuestWatchdog {
	case "pause":
		d.state, d.reason = hypervisor.StatePaused, hypervisor.ReasonWatchdog
	case "reset":
		d.g.hung, d.since = false, h.w.now
		d.reboots++
	default:
		d.fired++
	}
	h.look(d.g.id)
}
