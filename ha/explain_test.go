package ha_test

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"lifeboat/fsm"
	"lifeboat/fsm/logpb"
	"lifeboat/ha"
)

// What was moved away from a host goes back, and is said to, unless failback was switched
// off for it meanwhile.
func TestExplainGoesBack(t *testing.T) {
	w := newWorld(t, newBox("h1", 1), newBox("h2"))
	w.apply(&logpb.FeatureRaise{Level: fsm.LevelPolicy, Version: "0.4"})
	w.apply(&logpb.VMMove{Vm: vmBytes(1), Kind: fsm.MoveRelocate, Target: "h2", Cause: uint32(fsm.CauseMaintenance)})
	w.must(time.Minute, "VM 1 runs on h2", w.runsOn(1, "h2"))
	const goesBack = "goes back when"
	if text := fmt.Sprint(ha.ExplainVM(w.state(), vmID(1))); !strings.Contains(text, goesBack) {
		t.Errorf("where it goes back to is not said: %s", text)
	}
	no := false
	w.apply(&logpb.VMProtect{Vm: vmBytes(1), Protect: &logpb.Protection{On: true, Failback: &no}})
	if text := fmt.Sprint(ha.ExplainVM(w.state(), vmID(1))); strings.Contains(text, goesBack) {
		t.Errorf("it stays, and is said to go back: %s", text)
	}
}

// VMs that nobody moves away are named as long as they run on a host in maintenance.
func TestStayingInMaintenance(t *testing.T) {
	w := newWorld(t, newBox("h1", 1, 2, 3), newBox("h2"))
	w.apply(&logpb.FeatureRaise{Level: fsm.LevelPolicy, Version: "0.4"})
	protect := func(n int, on bool) {
		w.apply(&logpb.VMProtect{Vm: vmBytes(n), Protect: &logpb.Protection{On: on}})
	}
	protect(1, false)
	protect(2, false)
	if text := ha.Staying(w.host("h1")); text != "" {
		t.Errorf("a host that is at work: %s", text)
	}
	name := func(n int) string { v, _ := w.vm(n); return v.Name }
	w.apply(&logpb.HostControl{Host: "h1", Action: fsm.HostMaintenanceOn})
	want := fmt.Sprintf("2 VMs that are not protected still run on host h1, which is PrepareForMaintenance: %s, %s. They are not moved; stop them before the host goes down", name(1), name(2))
	if text := ha.Staying(w.host("h1")); text != want {
		t.Errorf("%q, want %q", text, want)
	}
	protect(2, true)
	if text := ha.Staying(w.host("h1")); !strings.HasPrefix(text, "1 VM that is not protected still runs on host h1") || strings.Contains(text, name(2)) {
		t.Errorf("one is protected: %s", text)
	}
	protect(1, true)
	if text := ha.Staying(w.host("h1")); text != "" {
		t.Errorf("all are protected: %s", text)
	}
}
