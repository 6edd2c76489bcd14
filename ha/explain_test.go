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
