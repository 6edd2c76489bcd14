package ha_test

import (
	"strings"
	"testing"
	"time"

	"lifeboat/fsm"
	"lifeboat/fsm/logpb"
	"lifeboat/ha"
)

// S6, S18: where another machine with its UUID was seen, the VM may have come in
// its place since: nobody starts it before that host has been asked again.
func TestS18NobodyStartsWhatMayHaveReplacedAnotherMachine(t *testing.T) {
	const seen = dawn + int64(time.Minute)
	for name, lost := range map[string][]*logpb.Command{
		"it has left its owner": {{Body: &logpb.Command_HostReports{HostReports: &logpb.HostReports{Reports: []*logpb.HostReport{{Host: "h1", Epoch: 1, Seq: 1,
			Vms: &logpb.VMEntries{Ids: vmBytes(1), Power: []byte{byte(fsm.PowerOff)}, Reason: []byte{byte(fsm.ReasonMigrated)}, Incarnations: []uint64{uint64(fsm.NewIncarnation(1, 1))}}}}}}}},
		"its owner is dead": {{Body: &logpb.Command_HostDown{HostDown: &logpb.HostDown{Host: "h1", Epoch: 1}}},
			{Body: &logpb.Command_HostFenced{HostFenced: &logpb.HostFenced{Host: "h1", Epoch: 1, Proof: &logpb.Proof{Kind: uint32(fsm.ProofPower)}}}}},
	} {
		t.Run(name, func(t *testing.T) {
			wall := seen
			m, apply := ledger(t, &wall)
			apply(&logpb.Command{Body: &logpb.Command_ClusterInit{ClusterInit: &logpb.ClusterInit{ClusterId: "c"}}})
			for _, id := range []string{"h1", "h2", "h3"} {
				r := &logpb.HostRegister{Id: id, MachineId: id, BootId: id, Inventory: &logpb.Inventory{Cpus: 64, MemoryBytes: 256 << 30,
					Networks: []string{"bridge:br0"}, Storages: []*logpb.Storage{{Id: "nfs", Up: true}}}}
				if id != "h3" {
					r.Vms = &logpb.VMEntries{Ids: vmBytes(1), Power: []byte{byte(fsm.PowerOn)}, Reason: []byte{byte(fsm.ReasonBooted)}, Details: []*logpb.VMDetail{{Name: "vm1"}}}
				}
				apply(&logpb.Command{Body: &logpb.Command_HostRegister{HostRegister: r}})
				apply(&logpb.Command{Body: &logpb.Command_HostFenceLevels{HostFenceLevels: &logpb.HostFenceLevels{Host: id, Levels: []*logpb.FenceLevel{{Driver: "ipmi", Address: "bmc"}}}}})
				if id == "h1" {
					apply(&logpb.Command{Body: &logpb.Command_VmSpecs{VmSpecs: &logpb.VMSpecs{Host: id, Epoch: 1, Specs: []*logpb.Spec{spec(1)}}}})
				}
			}
			domain := ha.Domain{Disks: []fsm.Disk{{Path: "/nfs/other", Storage: "nas:/vms@/nfs"}}, Name: "other", Hash: "its hash"}
			decide := func() ha.Plan {
				x := ha.Contact{Epoch: 1, Heard: time.Minute, Absorbed: wall, Looked: wall}
				other := x
				other.Copies = map[fsm.VMID]ha.Domain{vmID(1): domain}
				soft := &ha.Soft{Executor: "n1", Proven: time.Minute, Hosts: contacts(map[fsm.HostID]ha.Contact{"h1": x, "h2": other, "h3": x})}
				return ha.Decide(m.State(), soft, ha.Now{Wall: wall, Mono: time.Minute})
			}
			// turns lets the leader decide for a while, and says whether the VM may start.
			turns := func() (starts bool) {
				for range 8 {
					wall += int64(5 * time.Second)
					for _, c := range decide().Commands {
						starts = starts || c.GetVmReleased() != nil || c.GetPlace() != nil
						apply(c)
					}
				}
				return starts
			}
			turns()
			if k := m.State().Host("h2").Copy(vmID(1)); k == nil || !k.Apart || k.Name != "other" || k.Hash != "its hash" {
				t.Fatalf("it is not told apart: %+v", k)
			}
			for _, c := range lost {
				apply(c)
			}
			v, _ := m.State().VM(vmID(1))
			w := m.State().Work(v.Work)
			if w == nil {
				t.Fatalf("no work: %+v", v)
			}
			if turns() {
				t.Fatal("it may start although it may run on h2")
			}
			if why := m.State().Work(w.ID).Reason; !strings.Contains(why, "host h2 runs another machine with its UUID") {
				t.Errorf("it waits: %q", why)
			}
			domain.Work = w.ID
			if !turns() {
				t.Error("it does not start although h2 has answered")
			}
		})
	}
}
