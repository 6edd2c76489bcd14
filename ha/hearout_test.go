package ha_test

import (
	"testing"
	"time"

	"lifeboat/fsm"
	"lifeboat/fsm/logpb"
	"lifeboat/ha"
)

// S2, S18: that a host has rebooted, or that its agent has stopped what it had, proves
// that a VM does not run there. A leader that has just begun starts it nowhere before
// the other hosts have told what runs with them: somebody may have migrated it while
// nobody led.
func TestS2ALeaderThatBeginsHearsTheHostsOut(t *testing.T) {
	const second = int64(time.Second)
	heard := ha.Contact{Epoch: 1, Heard: 2 * time.Second, Absorbed: dawn + 30*second}
	coming := heard
	coming.Coming = []fsm.VMID{vmID(1)}
	suspect := func(at int64) *logpb.Command {
		return &logpb.Command{TimeUnixNs: at, Body: &logpb.Command_HostSuspect{HostSuspect: &logpb.HostSuspect{Host: "h2", Epoch: 1, Reason: "test"}}}
	}
	for name, tc := range map[string]struct {
		h2     ha.Contact
		since  time.Duration
		mono   time.Duration
		before *logpb.Command
		starts bool
	}{
		"all have reported":               {h2: heard, mono: 3 * time.Second, starts: true},
		"one has not":                     {mono: 3 * time.Second},
		"one has only asked to register":  {h2: ha.Contact{Knocked: time.Second}, mono: 3 * time.Second},
		"its report is not committed yet": {h2: ha.Contact{Epoch: 1, Heard: time.Second}, mono: 3 * time.Second},
		"it was heard before a gap":       {h2: heard, since: 3 * time.Second, mono: 4 * time.Second},
		"one fell silent in this term":    {mono: 9 * time.Second, before: suspect(dawn + 30*second)},
		"one was silent before":           {mono: 3 * time.Second, before: suspect(dawn + 10*second), starts: true},
		"one does not come":               {mono: 10 * time.Second, starts: true},
		"the VM was on its way to one":    {h2: coming, mono: 20 * time.Second},
		"and that one fell silent":        {h2: coming, mono: 20 * time.Second, before: suspect(dawn + 29*second)},
	} {
		lost := func(t *testing.T, reboots bool) {
			var now int64
			m, put := ledger(t, &now)
			apply := func(at int64, c *logpb.Command) { now = at; put(c) }
			register := func(at int64, id, boot string, vms *logpb.VMEntries) {
				apply(at, &logpb.Command{Body: &logpb.Command_HostRegister{HostRegister: &logpb.HostRegister{Id: id, MachineId: id, BootId: boot, Session: boot,
					Inventory: &logpb.Inventory{Cpus: 64, MemoryBytes: 1 << 40, Networks: []string{"bridge:br0"}, Storages: []*logpb.Storage{{Id: "nas:/vms@/nfs", Path: "/nfs", Up: true}}}, Vms: vms}}})
			}
			apply(dawn, &logpb.Command{Body: &logpb.Command_ClusterInit{ClusterInit: &logpb.ClusterInit{ClusterId: "c"}}})
			apply(dawn, &logpb.Command{Body: &logpb.Command_PolicySet{PolicySet: &logpb.PolicySet{Settings: []*logpb.Setting{{Key: "place_unfenced", Value: "true"}}}}})
			register(dawn, "h1", "first", &logpb.VMEntries{Ids: vmBytes(1), Power: []byte{byte(fsm.PowerOn)}, Reason: []byte{byte(fsm.ReasonBooted)}, Details: []*logpb.VMDetail{{Name: "vm1"}}})
			s := spec(1)
			s.Disks = nil
			apply(dawn, &logpb.Command{Body: &logpb.Command_VmSpecs{VmSpecs: &logpb.VMSpecs{Host: "h1", Epoch: 1, Specs: []*logpb.Spec{s}}}})
			apply(dawn, &logpb.Command{Body: &logpb.Command_VmProtect{VmProtect: &logpb.VMProtect{Vm: vmBytes(1), Protect: &logpb.Protection{On: true}}}})
			register(dawn, "h2", "first", nil)
			register(dawn, "h3", "first", nil)
			began := dawn + 30*second - int64(tc.mono) // of the term
			if tc.before != nil {
				apply(tc.before.TimeUnixNs, tc.before)
			}
			if reboots {
				register(dawn+30*second, "h1", "second", nil)
			} else {
				apply(dawn+30*second, &logpb.Command{Body: &logpb.Command_HostReports{HostReports: &logpb.HostReports{Reports: []*logpb.HostReport{{Host: "h1", Epoch: 1,
					Vms: &logpb.VMEntries{Ids: vmBytes(1), Power: []byte{byte(fsm.PowerOff)}, Reason: []byte{byte(fsm.ReasonSelfFenced)}, Incarnations: []uint64{uint64(fsm.NewIncarnation(1, 1))}}}}}}})
			}
			if v, h := m.State().VM(vmID(1)); v.Work == 0 || v.Gone != reboots {
				t.Fatalf("the VM has work %d, and is gone: %v; %v", v.Work, v.Gone, h)
			}
			soft := &ha.Soft{Executor: "n1", Proven: tc.mono, Since: tc.since, Hosts: contacts(map[fsm.HostID]ha.Contact{
				"h1": {Epoch: m.State().Host("h1").Epoch, Heard: tc.mono, Absorbed: dawn + 30*second},
				"h2": tc.h2,
				"h3": {Epoch: 1, Heard: max(tc.since, tc.mono-time.Second), Absorbed: dawn + 30*second},
			})}
			plan := ha.Decide(m.State(), soft, ha.Now{Wall: began + int64(tc.mono), Mono: tc.mono})
			placed := false
			for _, c := range plan.Commands {
				placed = placed || c.GetPlace() != nil
			}
			if placed != tc.starts {
				t.Errorf("a start is ordered: %v, want %v; %v", placed, tc.starts, plan.Commands)
			}
			if !placed && plan.Wake > tc.mono+m.State().Policy.Beat {
				t.Errorf("nobody looks again before %s", plan.Wake)
			}
		}
		t.Run(name, func(t *testing.T) { lost(t, true) })
		t.Run(name+", self-fenced", func(t *testing.T) { lost(t, false) })
	}
}
