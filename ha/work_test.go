package ha_test

import (
	"strings"
	"testing"
	"time"

	"lifeboat/fsm"
	"lifeboat/fsm/logpb"
)

// crash kills a guest.
func (w *world) crash(n int) {
	w.t.Helper()
	_, h := w.vm(n)
	g := w.boxes[h.ID].guests[vmID(n)]
	g.on, g.reason = false, fsm.ReasonCrashed
}

func (w *world) set(key, value string) {
	w.t.Helper()
	w.apply(&logpb.PolicySet{Settings: []*logpb.Setting{{Key: key, Value: value}}})
}

// respec changes what a VM needs.
func (w *world) respec(n int, f func(*logpb.Spec)) {
	w.t.Helper()
	_, h := w.vm(n)
	x := spec(n)
	f(x)
	w.apply(&logpb.VMSpecs{Host: string(h.ID), Epoch: h.Epoch, Specs: []*logpb.Spec{x}})
}

// reinventory changes what a host has.
func (w *world) reinventory(id fsm.HostID, f func(*logpb.Inventory)) {
	w.t.Helper()
	h := w.host(id)
	inv := w.boxes[id].inventory()
	f(inv)
	b := w.boxes[id]
	b.seq++
	w.apply(&logpb.HostReports{Reports: []*logpb.HostReport{{Host: string(id), Epoch: h.Epoch, Seq: b.seq, Inventory: inv}}})
}

func TestCrashIsRestartedInPlace(t *testing.T) {
	w := newWorld(t, newBox("h1", 1), newBox("h2"), newBox("h3"))
	w.crash(1)
	w.must(5*time.Second, "restart", func() bool { v, _ := w.vm(1); return v.Incarnation.Counter() == 2 && w.runsOn(1, "h1")() })
}

func TestCrashElsewhereAfterMaxRestart(t *testing.T) {
	w := newWorld(t, newBox("h1", 1), newBox("h2"), newBox("h3"))
	w.boxes["h1"].failing[vmID(1)] = 2
	w.crash(1)
	w.must(30*time.Second, "restart elsewhere", w.runsOn(1, "h2"))
	if v, _ := w.vm(1); v.Incarnation.Counter() != 4 {
		w.fatal("incarnation %s: two starts in place and one elsewhere were to be granted", v.Incarnation)
	}
}

func TestErrorAfterMaxRelocate(t *testing.T) {
	w := newWorld(t, newBox("h1", 1), newBox("h2"), newBox("h3"))
	for _, b := range w.boxes {
		b.failing[vmID(1)] = 1000
	}
	w.crash(1)
	w.must(time.Minute, "error", func() bool { v, _ := w.vm(1); return v.Error != "" })
	if v, _ := w.vm(1); v.Incarnation.Counter() != 5 {
		w.fatal("%s: two starts on two hosts were to be tried", v.Incarnation)
	}
	w.told = nil
	w.advance(time.Hour)
	if len(w.told) != 0 {
		w.fatal("it is not left alone: %v", w.told[0].cmd)
	}
	for _, b := range w.boxes {
		b.failing[vmID(1)] = 0
	}
	w.apply(&logpb.VMControl{Vm: vmBytes(1), Action: fsm.VMClear})
	w.must(10*time.Second, "start after clear", func() bool { v, _ := w.vm(1); return v.Power == fsm.PowerOn })
}

func TestRetriesBackOff(t *testing.T) {
	w := newWorld(t, newBox("h1", 1))
	w.set("max_restart", "5")
	w.boxes["h1"].failing[vmID(1)] = 1000
	w.crash(1)
	w.must(10*time.Minute, "error", func() bool { v, _ := w.vm(1); return v.Error != "" || w.now > dawn+int64(5*time.Minute) })
	var at []int64
	for _, x := range w.told {
		if x.cmd.GetPlace() != nil {
			at = append(at, x.at)
		}
	}
	if len(at) != 6 {
		w.fatal("%d starts", len(at))
	}
	for i := 2; i < len(at); i++ {
		if a, b := at[i-1]-at[i-2], at[i]-at[i-1]; float64(b) < 1.5*float64(a) {
			w.fatal("pause %d is %s after %s", i, time.Duration(b), time.Duration(a))
		}
	}
}

// S4: the outcome of a timeout is unknown.
func TestStartTimeoutIsWithdrawnFirst(t *testing.T) {
	w := newWorld(t, newBox("h1", 1), newBox("h2"), newBox("h3"))
	b := w.boxes["h1"]
	b.hangs = true
	w.crash(1)
	w.must(5*time.Second, "order", func() bool { return w.work(1).Step == fsm.Restarting })
	b.deaf = true
	w.must(2*time.Minute+2*time.Second, "withdrawal", func() bool { return w.work(1).Step == fsm.Stopping })
	w.told = nil
	w.never(10*time.Minute, "a start before the tombstone", func() bool { _, h := w.vm(1); return h.ID != "h1" })
	if v, _ := w.vm(1); len(w.told) != 1 || !w.state().Stuck(v) {
		w.fatal("%d entries instead of one alert: %v", len(w.told), w.told)
	}
	b.deaf = false
	w.must(30*time.Second, "start after the tombstone", func() bool {
		v, h := w.vm(1)
		return v.Power == fsm.PowerOn && h.ID != "h1" || h.ID == "h1" && w.work(1).Step == fsm.Restarting
	})
	if v, _ := w.vm(1); w.state().Stuck(v) {
		w.fatal("the alert about the host that did not let go is still open")
	}
}

// The host that was to give a VM up died and came back: its order still
// stands, and nobody is told twice.
func TestWithdrawnOrderOutlivesItsHostsAbsence(t *testing.T) {
	w := newWorld(t, newBox("h1", 1).fenced("ipmi"), newBox("h2"), newBox("h3"))
	b := w.boxes["h1"]
	b.hangs = true
	w.crash(1)
	w.must(5*time.Second, "order", func() bool { return w.work(1).Step == fsm.Restarting })
	b.deaf = true
	w.must(2*time.Minute+2*time.Second, "withdrawal", func() bool { return w.work(1).Step == fsm.Stopping })
	b.bmc = "errors"
	b.cut()
	w.must(10*time.Second, "Down", func() bool { return w.host("h1").Status == fsm.Down })
	g := b.guests[vmID(1)]
	g.begun, g.on, g.reason = 0, false, fsm.ReasonCrashed
	b.unmute()
	w.must(20*time.Second, "Up", func() bool { return w.host("h1").Status == fsm.Up })
	w.advance(time.Minute)
	b.deaf, b.hangs = false, false
	w.must(30*time.Second, "start", func() bool { v, _ := w.vm(1); return v.Power == fsm.PowerOn })
}

// S18: missing is not dead.
func TestS18MissingIsLookedForEverywhere(t *testing.T) {
	w := newWorld(t, newBox("h1", 1), newBox("h2"), newBox("h3").fenced("ipmi"))
	w.boxes["h3"].mute() // seen alive, does not report
	w.must(10*time.Second, "Degraded", w.is("h3", fsm.HADegraded))
	delete(w.boxes["h1"].guests, vmID(1))
	w.must(5*time.Second, "search", func() bool { return w.work(1).Step == fsm.Investigating })
	w.never(10*time.Minute, "a start before every host has reported", w.ordered(1))
	w.boxes["h3"].unmute()
	w.must(15*time.Second, "start", func() bool { v, _ := w.vm(1); return v.Power == fsm.PowerOn })
}

func TestS18MissingAndAHostProvenDead(t *testing.T) {
	w := newWorld(t, newBox("h1", 1), newBox("h2"), newBox("h3", 2))
	delete(w.boxes["h1"].guests, vmID(1))
	w.boxes["h3"].die()
	w.must(5*time.Second, "search", func() bool { return w.work(1).Step == fsm.Investigating })
	w.must(30*time.Second, "start", func() bool { v, _ := w.vm(1); return v.Power == fsm.PowerOn })
	if w.host("h3").HA != fsm.HAFenced {
		w.fatal("h3 is %s", w.host("h3").HA)
	}
}

// Nobody knows of a VM on the dead host, so nobody but the search wants its proof;
// a VM that is found soon is no reason to cut anybody's power.
func TestS18ASearchInVainFencesADeadHostWithoutVMs(t *testing.T) {
	w := newWorld(t, newBox("h1", 1), newBox("h2"), newBox("h3").fenced("ipmi"))
	w.boxes["h3"].die()
	w.must(10*time.Second, "Down", func() bool { return w.host("h3").Status == fsm.Down })
	w.never(time.Minute, "a fence that helps nobody", w.is("h3", fsm.HAFenced))
	delete(w.boxes["h1"].guests, vmID(1))
	w.must(5*time.Second, "search", func() bool { return w.work(1).Step == fsm.Investigating })
	w.never(8*time.Second, "a fence while the VM may still be found", w.is("h3", fsm.HAFenced))
	w.must(20*time.Second, "start", func() bool { v, _ := w.vm(1); return v.Power == fsm.PowerOn })
	if w.host("h3").HA != fsm.HAFenced {
		w.fatal("h3 is %s", w.host("h3").HA)
	}
}

func TestS18MigratedAwayIsFoundThere(t *testing.T) {
	w := newWorld(t, newBox("h1", 1), newBox("h2"), newBox("h3"))
	g := w.boxes["h1"].guests[vmID(1)]
	g.on, g.reason = false, fsm.ReasonMigrated
	moved := *g
	w.must(3*time.Second, "search", func() bool { return w.work(1).Step == fsm.Investigating })
	moved.on, moved.reason = true, fsm.ReasonBooted
	w.boxes["h2"].guests[vmID(1)] = &moved
	w.must(3*time.Second, "adoption", w.runsOn(1, "h2"))
	if n := count[*logpb.Command_Place](w); n != 0 {
		w.fatal("it was started")
	}
}

func TestShutdownFromInsideStaysOff(t *testing.T) {
	w := newWorld(t, newBox("h1", 1), newBox("h2"))
	g := w.boxes["h1"].guests[vmID(1)]
	g.on, g.reason = false, fsm.ReasonShutdown
	w.never(time.Minute, "a start", w.ordered(1))
}

func TestRebootedHostIsPreferred(t *testing.T) {
	w := newWorld(t, newBox("h1", 1), newBox("h2"), newBox("h3"))
	b := w.boxes["h1"]
	b.die()
	b.back()
	w.must(5*time.Second, "restart", func() bool { v, _ := w.vm(1); return v.Incarnation.Counter() == 2 && w.runsOn(1, "h1")() })
}

func TestNoTargetIsSaidAndRetriedAtOnce(t *testing.T) {
	w := newWorld(t, newBox("h1", 1), newBox("h2").fenced("ipmi"), newBox("h3"))
	w.apply(&logpb.HostControl{Host: "h3", Action: fsm.HostDisable})
	w.boxes["h2"].mute()
	w.must(10*time.Second, "Degraded", w.is("h2", fsm.HADegraded))
	w.boxes["h1"].die()
	w.must(20*time.Second, "fenced", w.is("h1", fsm.HAFenced))
	w.must(15*time.Second, "a reason", func() bool {
		return strings.HasPrefix(w.work(1).Reason, "no host can take it: ") && strings.Contains(w.work(1).Reason, "it is Alert (h2)")
	})
	w.advance(11 * time.Second)
	w.told = nil
	w.advance(10 * time.Minute)
	if len(w.told) > 0 {
		w.fatal("%d entries without news: %v", len(w.told), w.told[0].cmd)
	}
	w.boxes["h2"].unmute()
	at := w.must(2*time.Second, "Up", func() bool { return w.host("h2").Status == fsm.Up })
	if took, did := w.until(0, w.ordered(1)); !did && w.work(1).Step != fsm.Restarting {
		w.fatal("not ordered in the instant when the host is Up (%s, %s)", at, took)
	}
}

func TestEnabledHostTakesWhatWaitsAtOnce(t *testing.T) {
	w := newWorld(t, newBox("h1", 1), newBox("h2"))
	w.apply(&logpb.HostControl{Host: "h2", Action: fsm.HostDisable})
	w.boxes["h1"].die()
	w.must(20*time.Second, "fenced", w.is("h1", fsm.HAFenced))
	w.advance(3 * time.Second)
	if r := w.work(1).Reason; !strings.Contains(r, "it is Disabled (h2)") {
		w.fatal("reason %q", r)
	}
	order := w.ordered(1)
	w.apply(&logpb.HostControl{Host: "h2", Action: fsm.HostEnable})
	w.must(0, "start order", order)
}

// What a host lacks is said.
func TestConstraints(t *testing.T) {
	for _, tc := range []struct {
		name, reason string
		change       func(*world)
	}{
		{"storage", "no storage san (h2)", func(w *world) { w.respec(1, func(x *logpb.Spec) { x.Disks[0].Storage = "san" }) }},
		{"storage down", "storage nfs is not reached (h2)", func(w *world) { w.boxes["h2"].storages["nfs"] = false }},
		{"network", "no bridge:br1 (h2)", func(w *world) { w.respec(1, func(x *logpb.Spec) { x.Networks = []string{"bridge:br1"} }) }},
		{"machine", "no machine type pc-q35-9.2 (h2)", func(w *world) {
			w.respec(1, func(x *logpb.Spec) { x.Machine = "pc-q35-9.2" })
			w.reinventory("h2", func(i *logpb.Inventory) { i.Machines = []string{"pc-q35-7.2"} })
		}},
		{"CPU model", "no CPU model EPYC-Genoa (h2)", func(w *world) {
			w.respec(1, func(x *logpb.Spec) { x.CpuModel = "EPYC-Genoa" })
			w.reinventory("h2", func(i *logpb.Inventory) { i.CpuModels = []string{"EPYC"} })
		}},
		{"CPUs", "fewer than 65 CPUs (h2)", func(w *world) { w.respec(1, func(x *logpb.Spec) { x.Cpus = 65 }) }},
		{"memory", "less than 307200 MiB of memory free (h2)", func(w *world) { w.respec(1, func(x *logpb.Spec) { x.MemoryBytes = 300 << 30 }) }},
		{"local disk", "the VM is bound to its host: disk on lvm (h2)", func(w *world) { w.respec(1, func(x *logpb.Spec) { x.Local = []string{"disk on lvm"} }) }},
		{"libvirt-guests", "libvirt-guests is enabled there", func(w *world) { w.reinventory("h2", func(i *logpb.Inventory) { i.LibvirtGuests = true }) }},
		{"S25", "nothing could prove it dead", func(w *world) { w.apply(&logpb.HostFenceLevels{Host: "h2"}) }},
		{"maintenance", "it is Maintenance (h2)", func(w *world) { w.apply(&logpb.HostControl{Host: "h2", Action: fsm.HostMaintenanceOn}) }},
	} {
		t.Run(tc.name, func(t *testing.T) {
			w := newWorld(t, newBox("h1", 1), newBox("h2"))
			tc.change(w)
			w.advance(2 * time.Second)
			w.boxes["h1"].die()
			w.must(20*time.Second, "fenced", w.is("h1", fsm.HAFenced))
			w.never(20*time.Second, "a start", w.ordered(1))
			if r := w.work(1).Reason; !strings.Contains(r, tc.reason) {
				w.fatal("reason %q", r)
			}
		})
	}
}

func TestS25PolicyMayAllowUnfencedTargets(t *testing.T) {
	w := newWorld(t, newBox("h1", 1), newBox("h2").fenced())
	w.set("place_unfenced", "true")
	w.boxes["h1"].die()
	w.must(20*time.Second, "start", w.runsOn(1, "h2"))
}

// S25 keeps others away; what was there already is started again there.
func TestS25CrashOnAnUnfencedHost(t *testing.T) {
	w := newWorld(t, newBox("h1", 1).fenced(), newBox("h2").fenced())
	w.crash(1)
	w.must(10*time.Second, "restart in place", func() bool { v, _ := w.vm(1); return v.Incarnation.Counter() == 2 && w.runsOn(1, "h1")() })
}

// start_timeout: not there again.
func TestTimedOutHostIsNotAskedAgain(t *testing.T) {
	w := newWorld(t, newBox("h1", 1), newBox("h2"), newBox("h3"))
	w.boxes["h1"].hangs = true
	w.crash(1)
	w.must(3*time.Minute, "start elsewhere", w.runsOn(1, "h2"))
}
