package sim

import (
	"slices"
	"testing"
	"time"

	"lifeboat/fsm"
	"lifeboat/fsm/logpb"
	"lifeboat/ha/foresee"
)

// What n1_admission would have refused comes true where it is off: the failure leaves
// down those VMs that it names before the command, and that a plan names after it.
func TestWhatTheGateSaysComesTrue(t *testing.T) {
	for name, ask := range map[string]func(*World) *logpb.Command{
		"taken-then-the-host-fails": func(*World) *logpb.Command {
			return &logpb.Command{Body: &logpb.Command_HostControl{HostControl: &logpb.HostControl{Host: "n3", Action: fsm.HostMaintenanceOn}}}
		},
		"start-taken": func(w *World) *logpb.Command {
			return &logpb.Command{Body: &logpb.Command_VmControl{VmControl: &logpb.VMControl{Vm: w.byVM["e"].id[:], Action: fsm.VMStart}}}
		},
	} {
		t.Run(name, func(t *testing.T) { compareGate(t, name, ask) })
	}
}

func compareGate(t *testing.T, name string, ask func(*World) *logpb.Command) {
	f := readScenario(t, "../testdata/scenarios/admission/"+name+".yaml")
	w := newWorld(f, 1)
	if !w.settle() {
		t.Fatal("the world does not settle")
	}
	w.run(w.now + f.Steps[0].After)
	var foretold []string
	for _, b := range foresee.Gate(w.truth.State(), ask(w), foresee.Scope{}, func() bool { return false }) {
		if b.Name == "host n1" {
			foretold = named(b.Down)
		}
	}
	w.do(f.Steps[0].Commands[0])
	w.run(w.now + f.Steps[1].After)
	planned := named(foresee.Fail(w.truth.State(), []fsm.HostID{"n1"}, foresee.Assumed{Start: f.World.Start + time.Second}).Stays)
	w.do(f.Steps[1].Commands[0])
	w.run(w.now + f.Until)
	var down []string
	for _, h := range w.truth.State().Hosts() {
		for i := range h.VMs {
			if v := &h.VMs[i]; v.Protected() && v.Wanted && v.Power != fsm.PowerOn {
				down = append(down, v.Name)
			}
		}
	}
	slices.Sort(down)
	if len(down) == 0 || !slices.Equal(foretold, down) || !slices.Equal(planned, down) {
		t.Errorf("foretold before the command: %v; planned before the failure: %v; down: %v", foretold, planned, down)
	}
}

func named(stays []foresee.Stay) (names []string) {
	for _, x := range stays {
		names = append(names, x.Name)
	}
	slices.Sort(names)
	return names
}

// What waits for the judgement of another command when its leader stops is asked of the
// next one, and not lost.
func TestWhoWaitsToBeJudgedIsToldWhenTheTermEnds(t *testing.T) {
	f := readScenario(t, "../testdata/scenarios/admission/leader-killed.yaml")
	w := newWorld(f, 1)
	if !w.settle() {
		t.Fatal("the world does not settle")
	}
	line := &w.managers[0].term.admission[foresee.RoomLine]
	for _, c := range f.Steps[0].Commands[:2] {
		w.do(c)
	}
	if !line.busy || len(line.waiting) != 1 {
		t.Fatalf("%+v: want one on its way and one that waits", *line)
	}
	w.managers[0].kill()
	if len(line.waiting) > 0 || len(w.refused) > 0 {
		t.Errorf("%d wait for a leader that is gone, %d were refused by it", len(line.waiting), len(w.refused))
	}
	w.run(w.now + time.Minute)
	if len(w.refused) != 1 || w.refused[0].text != "host n3 disable" {
		t.Errorf("refused: %v", w.refused)
	}
}
