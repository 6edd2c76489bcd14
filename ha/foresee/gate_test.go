package foresee_test

import (
	"fmt"
	"strings"
	"testing"

	"lifeboat/fsm"
	"lifeboat/fsm/logpb"
	"lifeboat/ha/foresee"
)

func start(vm int) *logpb.Command {
	id := vmID(vm)
	return &logpb.Command{Body: &logpb.Command_VmControl{VmControl: &logpb.VMControl{Vm: id[:], Action: fsm.VMStart}}}
}

func maintenance(host string) *logpb.Command {
	return &logpb.Command{Body: &logpb.Command_HostControl{HostControl: &logpb.HostControl{Host: host, Action: fsm.HostMaintenanceOn}}}
}

func apart(vms ...int) *logpb.Command {
	r := &logpb.Rule{Kind: uint32(fsm.RuleApart), Strict: true}
	for _, n := range vms {
		id := vmID(n)
		r.Vms = append(r.Vms, id[:])
	}
	return &logpb.Command{Body: &logpb.Command_RuleAdd{RuleAdd: &logpb.RuleAdd{Rule: r}}}
}

func only(vm int, host string) *logpb.Command {
	id := vmID(vm)
	return &logpb.Command{Body: &logpb.Command_RuleAdd{RuleAdd: &logpb.RuleAdd{Rule: &logpb.Rule{Kind: uint32(fsm.RuleHosts), Strict: true, Vms: [][]byte{id[:]},
		Hosts: []*logpb.HostChoice{{Host: host}}}}}}
}

// off stops a VM, as an operator does.
func (w *world) off(host string, n int) {
	w.Helper()
	id := vmID(n)
	w.do(&logpb.Command{Body: &logpb.Command_VmControl{VmControl: &logpb.VMControl{Vm: id[:], Action: fsm.VMStop}}})
	v, h := w.state().VM(id)
	if v == nil || string(h.ID) != host {
		w.Fatalf("VM %d is not on host %s", n, host)
	}
	w.do(&logpb.Command{Body: &logpb.Command_HostReports{HostReports: &logpb.HostReports{Reports: []*logpb.HostReport{{Host: host, Epoch: h.Epoch,
		Vms: &logpb.VMEntries{Ids: id[:], Power: []byte{byte(fsm.PowerOff)}, Reason: []byte{byte(fsm.ReasonShutdown)}, Incarnations: []uint64{uint64(v.Incarnation)}}}}}}})
}

func TestGate(t *testing.T) {
	never := func() bool { return false }
	for _, c := range []struct {
		name  string
		build func(*world)
		ask   *logpb.Command
		want  []string // of each breach
	}{
		{"a start for which there is room", func(w *world) {
			w.host("h1", 16*gib, 2, "ipmi")
			w.host("h2", 16*gib, 1, "ipmi")
			w.off("h1", 1)
		}, start(1), nil},
		{"a start that takes room and leaves enough", func(w *world) {
			w.host("h1", 12*gib, 2, "ipmi")
			w.host("h2", 12*gib, 1, "ipmi")
			w.off("h1", 1)
			w.host("h3", 5*gib, 1, "ipmi")
		}, start(1), nil},
		{"a start after which one has no room elsewhere", func(w *world) {
			w.host("h1", 12*gib, 2, "ipmi")
			w.host("h2", 9*gib, 1, "ipmi")
			w.off("h1", 1)
		}, start(1), []string{"host h1's failure would leave 1 VM down that it would not today: vm"}},
		{"maintenance of the only other host", func(w *world) {
			w.host("h1", 16*gib, 1, "ipmi")
			w.host("h2", 16*gib, 1, "ipmi")
		}, maintenance("h2"), []string{"host h1's failure would leave 2 VMs down that it would not today: vm1, vm2"}},
		{"maintenance of one of three", func(w *world) {
			w.host("h1", 16*gib, 1, "ipmi")
			w.host("h2", 16*gib, 1, "ipmi")
			w.host("h3", 16*gib, 1, "ipmi")
		}, maintenance("h2"), nil},
		{"a rule that needs as many hosts as there are", func(w *world) {
			w.host("h1", 16*gib, 1, "ipmi")
			w.host("h2", 16*gib, 1, "ipmi")
		}, apart(1, 2), []string{"host h1's failure would leave 1 VM down", "host h2's failure would leave 1 VM down"}},
		{"a rule that moves a VM to the only host that it may run on", func(w *world) {
			w.host("h1", 16*gib, 1, "ipmi")
			w.host("h2", 16*gib, 0, "ipmi")
		}, only(1, "h2"), []string{"host h2's failure would leave 1 VM down that it would not today: vm1"}},
		{"what a recovery under way leaves is not the command's doing", func(w *world) {
			w.host("h1", 16*gib, 1, "ipmi")
			w.host("h2", 16*gib, 1, "ipmi")
			w.host("h3", 2*gib, 0, "ipmi")
			w.do(&logpb.Command{Body: &logpb.Command_HostFenced{HostFenced: &logpb.HostFenced{Host: "h1", Epoch: 1, Force: true,
				Proof: &logpb.Proof{Kind: uint32(fsm.ProofOperator), By: "operator", Detail: "dead"}}}})
			if w.state().CountOpenWork() == 0 {
				w.Fatal("nothing is under way")
			}
		}, maintenance("h3"), nil},
		{"a rule for which there are more hosts", func(w *world) {
			w.host("h1", 16*gib, 1, "ipmi")
			w.host("h2", 16*gib, 1, "ipmi")
			w.host("h3", 16*gib, 0, "ipmi")
		}, apart(1, 2), nil},
		{"what is not stood today is no reason", func(w *world) {
			w.host("h1", 16*gib, 1, "ipmi")
			w.host("h2", 4*gib, 1, "ipmi")
			w.host("h3", 2*gib, 0, "ipmi")
		}, maintenance("h3"), nil},
		{"a command that is refused anyway", func(w *world) {
			w.host("h1", 16*gib, 1, "ipmi")
			w.host("h2", 16*gib, 1, "ipmi")
		}, maintenance("h7"), nil},
		{"disarmed, no failure is stood", func(w *world) {
			w.host("h1", 16*gib, 1, "ipmi")
			w.host("h2", 16*gib, 1, "ipmi")
			w.do(&logpb.Command{Body: &logpb.Command_Arm{Arm: &logpb.Arm{}}})
		}, maintenance("h2"), nil},
	} {
		t.Run(c.name, func(t *testing.T) {
			w := newWorld(t)
			c.build(w)
			got := foresee.Gate(w.state(), c.ask, foresee.Scope{}, never)
			if len(got) != len(c.want) {
				t.Fatalf("%d breaches %v, want %d", len(got), got, len(c.want))
			}
			for i, b := range got {
				if !strings.Contains(b.String(), c.want[i]) {
					t.Errorf("%q, want %q in it", b, c.want[i])
				}
			}
			if again := foresee.Gate(w.state(), c.ask, foresee.Scope{}, never); fmt.Sprint(again) != fmt.Sprint(got) || c.ask.TimeUnixNs != 0 {
				t.Errorf("asked again it says %v: the state or the command is another one now", again)
			}
		})
	}
}

// What was proven and cannot be proven again in time is not let pass.
func TestGateWithoutTime(t *testing.T) {
	w := newWorld(t)
	w.host("h1", 12*gib, 2, "ipmi")
	w.host("h2", 9*gib, 1, "ipmi")
	w.off("h1", 1)
	seen := map[string]bool{}
	for most := range 100 { // how often it may look at the clock
		looks := most
		got := foresee.Gate(w.state(), start(1), foresee.Scope{}, func() bool { looks--; return looks < 0 })
		if len(got) != 1 || got[0].Unproven != (len(got[0].Down) == 0) || got[0].Unproven && !strings.Contains(got[0].String(), "there was no time to play it through") {
			t.Fatalf("after %d looks: %v", most, got)
		}
		seen[fmt.Sprint(got[0].Name, " ", got[0].Unproven)] = true
	}
	for _, want := range []string{"some host true", "host h1 true", "host h1 false"} {
		if !seen[want] {
			t.Errorf("%q was never said: %v", want, seen)
		}
	}
}
