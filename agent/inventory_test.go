package agent

import (
	"context"
	"errors"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"lifeboat/hypervisor"
)

// slowToStart is a hypervisor that cannot say what the host has for a while, as
// libvirtd cannot right after the boot.
type slowToStart struct {
	hypervisor.Hypervisor
	until atomic.Int64
}

func (h *slowToStart) Inventory(ctx context.Context) (hypervisor.Inventory, error) {
	if time.Now().UnixNano() < h.until.Load() {
		return hypervisor.Inventory{}, errors.New("libvirtd does not answer")
	}
	return h.Hypervisor.Inventory(ctx)
}

// What a host has is told as soon as it is known, without another registration:
// until then nothing is started there.
func TestInventoryAfterRegistration(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t)
		hv := &slowToStart{Hypervisor: r.cfg.Hypervisor}
		hv.until.Store(time.Now().Add(10 * time.Second).UnixNano())
		r.cfg.Hypervisor = hv
		r.run()
		r.eventually(9*time.Second, "registered", r.registered)
		if n := locked(r.m, func() uint32 { return r.m.reg.GetInventory().GetCpus() }); n != 0 {
			t.Fatalf("registered with %d CPUs; the test wants a registration that does not know", n)
		}
		r.eventually(17*time.Second, "a report says what the host has", func() bool {
			return locked(r.m, func() bool { return r.m.last.GetInventory().GetCpus() > 0 })
		})
		time.Sleep(3 * time.Second)
		if locked(r.m, func() bool { return r.m.last.Inventory != nil }) {
			t.Error("it is said again and again")
		}
		if n := locked(r.m, func() uint64 { return r.m.epoch }); n != 1 {
			t.Errorf("registered %d times", n)
		}
		if err := r.halt(); err != nil {
			t.Error(err)
		}
	})
}
