package mem

import (
	"context"
	"errors"

	"lifeboat/hypervisor"
)

// errNoAgent is what qemu says of a guest whose agent does not run.
var errNoAgent = errors.New("guest agent is not responding: QEMU guest agent is not connected")

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
