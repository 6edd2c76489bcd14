package ha_test

import (
	"fmt"
	"testing"
	"time"

	"google.golang.org/protobuf/proto"

	"lifeboat/fsm"
	"lifeboat/fsm/logpb"
	"lifeboat/ha"
)

// large is a state of hosts × vms, all healthy, with what a leader heard.
func large(b *testing.B, hosts, vms int) (*fsm.Machine, *ha.Soft) {
	b.Helper()
	m := fsm.NewMachine()
	soft := &ha.Soft{Executor: "n1 in term 1", Memo: &ha.Memo{}}
	var entries []fsm.Entry
	put := func(c *logpb.Command) {
		c.TimeUnixNs = dawn
		data, err := proto.Marshal(c)
		if err != nil {
			b.Fatal(err)
		}
		entries = append(entries, fsm.Entry{Index: uint64(len(entries) + 1), Term: 1, Data: data})
	}
	put(&logpb.Command{Body: &logpb.Command_ClusterInit{ClusterInit: &logpb.ClusterInit{ClusterId: "c1", FeatureLevel: 1}}})
	n := 0
	for i := range hosts {
		id := fmt.Sprintf("host-%05d", i)
		x := newBox(id)
		x.rack = fmt.Sprintf("r%03d", i/40)
		var specs []*logpb.Spec
		for range vms {
			n++
			vm := fsm.VMID{12: byte(n >> 24), 13: byte(n >> 16), 14: byte(n >> 8), 15: byte(n)}
			x.guests[vm] = &guest{on: true, reason: fsm.ReasonBooted}
			specs = append(specs, &logpb.Spec{Id: vm[:], Cpus: 1, MemoryBytes: 1 << 30, Definition: []byte("<domain/>"),
				Disks: []*logpb.Disk{{Storage: "nfs"}}, Networks: []string{"bridge:br0"}, Protect: &logpb.Protection{On: true}})
		}
		put(&logpb.Command{Body: &logpb.Command_HostRegister{HostRegister: &logpb.HostRegister{Id: id, MachineId: id, BootId: "1", Session: "1",
			Inventory: x.inventory(), Labels: []*logpb.Label{{Key: "rack", Value: x.rack}}, Watchdog: 1, Vms: x.entries(nil)}}})
		put(&logpb.Command{Body: &logpb.Command_HostFenceLevels{HostFenceLevels: x.fenceLevels()}})
		put(&logpb.Command{Body: &logpb.Command_VmSpecs{VmSpecs: &logpb.VMSpecs{Host: id, Epoch: 1, Specs: specs}}})
		soft.Hosts.Set(fsm.HostID(id), ha.Contact{Epoch: 1, Heard: time.Hour, Absorbed: dawn})
	}
	for _, r := range m.Apply(entries) {
		if r.Rejected != "" {
			b.Fatal(r.Rejected)
		}
	}
	return m, soft
}

// Nothing is wrong: this is what every change of the state costs a leader.
func BenchmarkDecideNothing(b *testing.B) {
	m, soft := large(b, 10_000, 100)
	now := ha.Now{Wall: dawn + int64(time.Second), Mono: time.Hour + time.Second}
	soft.Proven = now.Mono
	b.ReportAllocs()
	for b.Loop() {
		if p := ha.Decide(m.State(), soft, now); len(p.Commands) != 0 {
			b.Fatal(p.Commands[0])
		}
	}
}

// A host with 100 VMs has just been proven dead by its power reading.
func BenchmarkDecidePlacements(b *testing.B) {
	m, soft := large(b, 10_000, 100)
	now := ha.Now{Wall: dawn + int64(time.Second), Mono: time.Hour + time.Second}
	soft.Proven = now.Mono
	id := fsm.HostID("host-05000")
	put := func(i uint64, c *logpb.Command) {
		c.TimeUnixNs = dawn
		data, _ := proto.Marshal(c)
		if no := m.Apply([]fsm.Entry{{Index: 1_000_000 + i, Term: 1, Data: data}})[0].Rejected; no != "" {
			b.Fatal(no)
		}
	}
	put(1, &logpb.Command{Body: &logpb.Command_HostDown{HostDown: &logpb.HostDown{Host: string(id), Epoch: 1, Reason: "silent"}}})
	soft.Hosts.Set(id, ha.Contact{Epoch: 1, Heard: time.Minute})
	put(2, ha.Decide(m.State(), soft, now).Commands[0]) // the attempt
	soft.Hosts.Set(id, ha.Contact{Epoch: 1, Heard: time.Minute, Fence: &ha.FenceRun{Attempt: 1, Ended: now.Mono, Proof: &ha.Finding{Source: "ipmi"}}})
	b.ReportAllocs()
	for b.Loop() {
		p := ha.Decide(m.State(), soft, now)
		if n := len(p.Commands[0].GetHostFenced().GetPlacements()); n != 100 {
			b.Fatalf("%d placements, %v", n, p.Commands[0])
		}
	}
}
