package mem

import (
	"context"
	"fmt"

	"lifeboat/hypervisor"
)

// errNoAgent is what qemu says of a guest whose agent does not run.
var errNoAgent = fmt.Errorf("%w: QEMU guest agent is not connected", hypervisor.ErrSilent)

// SetAgent gives the guest of a domain an agent that answers whenever it runs, or takes
// it away.
func (h *Host) SetAgent(id hypervisor.UUID, answers bool) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if answers {
		h.agents[id] = true
	} else {
		delete(h.agents, id)
	}
}

// Ask implements hypervisor.Asker.
func (h *Host) Ask(ctx context.Context, id hypervisor.UUID) error {
	return opError("ask the agent of", id.String(), h.call(ctx, h.orderLimit, 0, func() error {
		switch v, err := h.find(id); {
		case err != nil:
			return err
		case v.state != hypervisor.StateRunning || !h.agents[id]:
			return errNoAgent
		}
		return nil
	}))
}

// WatchdogAction is what the hypervisor does when a guest's watchdog fires.
type WatchdogAction uint8

const (
	WatchdogNone  WatchdogAction = iota // nothing: somebody else is to look
	WatchdogPause                       // it pauses the guest
	WatchdogReset                       // it lets the guest boot again
)

// FireWatchdog is a guest that has not been heard by its watchdog for too long.
func (h *Host) FireWatchdog(id hypervisor.UUID, a WatchdogAction) error {
	if a == WatchdogReset {
		return h.Reboot(id)
	}
	return h.behind(id, func(v *vm) {
		if a == WatchdogPause {
			h.set(v, hypervisor.StatePaused, hypervisor.ReasonWatchdog)
			return
		}
		v.fired++
		h.changed(v)
	})
}

// Reboot boots the guest again from inside: the domain does not end.
func (h *Host) Reboot(id hypervisor.UUID) error {
	return h.behind(id, func(v *vm) {
		v.reboots++
		h.changed(v)
	})
}
