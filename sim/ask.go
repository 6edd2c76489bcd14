package sim

import (
	"errors"

	"lifeboat/hypervisor"
)

var errNoAgent = errors.New("guest agent is not responding: QEMU guest agent is not connected")

// askGuest is a ping of the agent inside a guest, which answers some time after it
// began to run.
func (h *host) askGuest(id hypervisor.UUID, done func(error)) {
	h.here(adjustTime, func() {
		d := h.domains[id]
		switch {
		case !h.libvirt:
			done(errLibvirt)
		case d == nil || d.state != hypervisor.StateRunning || d.g.spec.GuestAgent == 0 || h.w.now < d.since+d.g.spec.GuestAgent:
			done(errNoAgent)
		default:
			done(nil)
		}
	})
}
