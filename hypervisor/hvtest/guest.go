package hvtest

import (
	"errors"
	"time"

	"lifeboat/hypervisor"
)

// testAsk: a guest without an agent does not answer, and nobody waits long for it.
func testAsk(b *bench) {
	h, ok := b.Hypervisor.(hypervisor.Asker)
	if !ok {
		b.Fatalf("%T does not implement hypervisor.Asker", b.Hypervisor)
	}
	req := b.start("ask")
	begun := time.Now()
	if err := h.Ask(b.Context(), req.UUID); err == nil {
		b.Error("the agent of a guest that has none answers")
	} else if errors.Is(err, hypervisor.ErrNotFound) {
		b.Errorf("a domain that runs is not found: %v", err)
	}
	if took := time.Since(begun); took > 10*time.Second {
		b.Errorf("no answer took %s", took)
	}
	if err := h.Ask(b.Context(), b.request("unknown").UUID); !errors.Is(err, hypervisor.ErrNotFound) {
		b.Errorf("of a domain that there is not: %v", err)
	}
}
