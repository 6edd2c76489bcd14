package agent

import (
	"testing"
	"testing/synctest"
	"time"

	lifeboatv1 "lifeboat/api/lifeboat/v1"
	"lifeboat/hypervisor"
	"lifeboat/hypervisor/mem"
)

// What a real agent reports of a watched guest on a working hypervisor: that it answers,
// how long it is silent, that its watchdog fired, and nothing while libvirtd is gone.
func TestWatchedGuestIsReported(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t)
		r.run()
		r.eventually(3*time.Second, "registered", r.registered)
		r.host.SetAgent(vmID(1), true)
		r.m.start(vmID(1), "vm1", vmXML(t, 1), 8)
		r.eventually(3*time.Second, "vm1 is on", r.power(vmID(1), on))
		said := func() *lifeboatv1.VMReport { return r.m.report(vmID(1)) }
		r.m.change(func() {
			r.m.vms[vmID(1)] = &lifeboatv1.AssignedVM{Id: r.m.vms[vmID(1)].Id, Incarnation: 8, Protected: true, Wanted: true, WatchGuest: true}
			r.m.orders = nil
		})
		r.eventually(10*time.Second, "its agent answers", func() bool { return said().GetGuestAnswers() && said().GetGuestSilentMs() == 0 })

		r.host.SetDown(true) // libvirtd is gone, and comes back
		time.Sleep(2 * time.Minute)
		if ms := said().GetGuestSilentMs(); ms != 0 {
			t.Errorf("without libvirtd nobody knows, and it is silent for %d ms", ms)
		}
		r.host.SetDown(false)
		r.eventually(20*time.Second, "vm1 is seen again", r.power(vmID(1), on))

		r.host.SetAgent(vmID(1), false)
		took := r.eventually(2*time.Minute, "it is silent for a minute", func() bool { return said().GetGuestSilentMs() >= 60000 })
		if took < 55*time.Second {
			t.Errorf("a minute of silence took %s", took)
		}
		if err := r.host.FireWatchdog(vmID(1), mem.WatchdogNone); err != nil {
			t.Fatal(err)
		}
		r.eventually(2*time.Second, "its watchdog is reported", func() bool { return said().GetWatchdogMs() > 0 })
		r.host.SetAgent(vmID(1), true)
		r.eventually(10*time.Second, "it is well again", func() bool { return said().GetGuestSilentMs() == 0 && said().GetWatchdogMs() == 0 })
		if err := r.host.Reboot(vmID(1)); err != nil {
			t.Fatal(err)
		}
		r.host.SetAgent(vmID(1), false)
		time.Sleep(5 * time.Minute)
		if v := said(); v.GetGuestSilentMs() != 0 || v.GetGuestAnswers() || r.state(vmID(1)) != hypervisor.StateRunning {
			t.Errorf("it boots, and is silent for %d ms", v.GetGuestSilentMs())
		}
		if err := r.halt(); err != nil {
			t.Error(err)
		}
	})
}
