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

// testSilent: an agent that does not answer is told from a hypervisor that does not.
func testSilent(b *bench) {
	b.need("stop the daemon", b.StopDaemon != nil)
	h := b.Hypervisor.(hypervisor.Asker)
	req := b.equip("silent")
	if err := h.Ask(b.Context(), req.UUID); !errors.Is(err, hypervisor.ErrSilent) {
		b.Errorf("it is silent, and the error is %v", err)
	}
	b.StopDaemon()
	b.until("calls to fail", func() bool {
		_, err := b.Hypervisor.Domains(b.Context())
		return err != nil
	})
	if err := h.Ask(b.Context(), req.UUID); err == nil || errors.Is(err, hypervisor.ErrSilent) {
		b.Errorf("without a daemon nobody knows of the guest, and the error is %v", err)
	}
	b.StartDaemon()
	b.until("calls to succeed", func() bool {
		_, err := b.Hypervisor.Domains(b.Context())
		return err == nil
	})
}

// testReboot: a guest that boots again from inside is seen to, and is the same domain.
func testReboot(b *bench) {
	b.need("reboot a guest", b.Reboot != nil)
	req := b.start("reboot")
	other := b.start("other")
	ch, err := b.Hypervisor.Watch(b.Context())
	b.ok("watch", err)
	before, _ := b.look(req.UUID)
	var d hypervisor.Domain
	defer func() {
		if b.Failed() {
			b.Logf("seen at last: %+v, before the reboots: %+v", d, before)
		}
	}()
	for n := range uint32(2) {
		b.ok("reboot", b.Reboot(req.UUID))
		b.sawEvent(ch, req.UUID)
		b.until("the reboot to be counted", func() bool {
			d, _ = b.look(req.UUID)
			return d.Reboots == before.Reboots+n+1 && d.State == hypervisor.StateRunning
		})
	}
	if d := b.wantState(other.UUID, hypervisor.StateRunning); d.Reboots != 0 {
		b.Errorf("another domain has rebooted: %+v", d)
	}
}

// testWatchdog: a guest whose watchdog fires is seen, whether the hypervisor does
// nothing about it, pauses it or lets it boot again, which is no matter of ours.
func testWatchdog(b *bench) {
	b.need("let a watchdog fire", b.FireWatchdog != nil)
	req := b.equip("watchdog")
	ch, err := b.Hypervisor.Watch(b.Context())
	b.ok("watch", err)
	b.ok("fire", b.FireWatchdog(req.UUID, "none"))
	b.sawEvent(ch, req.UUID)
	b.until("it to be counted", func() bool {
		d, _ := b.look(req.UUID)
		return d.Fired == 1 && d.Reboots == 0 && d.State == hypervisor.StateRunning
	})
	b.ok("fire", b.FireWatchdog(req.UUID, "reset"))
	b.until("it to boot again", func() bool {
		d, _ := b.look(req.UUID)
		return d.Fired == 1 && d.Reboots == 1
	})
	// Another guest: QEMU holds the second news of a watchdog within a second back, and
	// then the pause is heard of before its reason.
	req = b.equip("watchdog2")
	b.ok("fire", b.FireWatchdog(req.UUID, "pause"))
	if d := b.eventually(req.UUID, hypervisor.StatePaused); d.Reason != hypervisor.ReasonWatchdog || d.Fired != 0 {
		b.Errorf("paused, but %+v", d)
	}
}
