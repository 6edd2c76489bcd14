package foresee_test

import (
	"fmt"
	"testing"
	"time"

	"google.golang.org/protobuf/proto"

	"lifeboat/fsm"
	"lifeboat/fsm/logpb"
)

const dawn = int64(1_700_000_000_000_000_000)

// world is a cluster at rest: hosts h1, h2 … that run VMs vm1, vm2 …, of 4 GiB each.
type world struct {
	testing.TB
	m   *fsm.Machine
	now int64
	vms int
	// shape is the size of the n-th VM; nil: 4 GiB and 2 CPUs.
	shape func(n int) (memory uint64, cpus uint32)
}

func newWorld(t testing.TB) *world {
	w := &world{TB: t, m: fsm.NewMachine(), now: dawn}
	w.do(&logpb.Command{Body: &logpb.Command_ClusterInit{ClusterInit: &logpb.ClusterInit{ClusterId: "c1", FeatureLevel: fsm.FeatureLevel}}})
	return w
}

func (w *world) do(c *logpb.Command) {
	w.Helper()
	if no := w.try(c); no != "" {
		w.Fatalf("%v: %s", c, no)
	}
}

// try says why the state machine refuses a command; "" = it does not.
func (w *world) try(c *logpb.Command) string {
	w.Helper()
	w.now += int64(time.Millisecond)
	c.TimeUnixNs = w.now
	data, err := proto.Marshal(c)
	if err != nil {
		w.Fatal(err)
	}
	return w.m.Apply([]fsm.Entry{{Index: w.state().Index + 1, Term: 1, Data: data}})[0].Rejected
}

func (w *world) state() *fsm.State { return w.m.State() }

// host adds a host with n VMs. fence: its levels.
func (w *world) host(id string, memory uint64, n int, fence ...string) {
	w.Helper()
	e, specs := &logpb.VMEntries{}, []*logpb.Spec{}
	for i := range n {
		w.vms++
		vm := vmID(w.vms)
		e.Ids = append(e.Ids, vm[:]...)
		e.Power, e.Reason = append(e.Power, byte(fsm.PowerOn)), append(e.Reason, byte(fsm.ReasonBooted))
		e.Incarnations = append(e.Incarnations, 0)
		e.Details = append(e.Details, &logpb.VMDetail{Pos: uint32(i), Name: vmName(w.vms)})
		memory, cpus := uint64(4<<30), uint32(2)
		if w.shape != nil {
			memory, cpus = w.shape(w.vms)
		}
		specs = append(specs, &logpb.Spec{Id: vm[:], Name: vmName(w.vms), Cpus: cpus, MemoryBytes: memory, Hash: vm[:], Definition: []byte("<domain/>"),
			Disks: []*logpb.Disk{{Path: "/nfs/" + vmName(w.vms), Storage: "nfs"}}, Networks: []string{"bridge:br0"}, Protect: &logpb.Protection{On: true}})
	}
	w.do(&logpb.Command{Body: &logpb.Command_HostRegister{HostRegister: &logpb.HostRegister{Id: id, MachineId: id, BootId: "1", Session: "1", FeatureLevel: fsm.FeatureLevel, Version: "1",
		Watchdog: uint32(fsm.WatchdogHardware), WatchdogBoundNs: int64(5 * time.Second), Labels: []*logpb.Label{{Key: "rack", Value: "r" + id[len(id)-1:]}}, Vms: e,
		Inventory: &logpb.Inventory{Cpus: 256, MemoryBytes: memory, Networks: []string{"bridge:br0"}, MigrateUri: "tcp://" + id, Storages: []*logpb.Storage{{Id: "nfs", Up: true}}}}}})
	var levels []*logpb.FenceLevel
	for _, f := range fence {
		levels = append(levels, &logpb.FenceLevel{Driver: f, Address: "bmc-" + id})
	}
	w.do(&logpb.Command{Body: &logpb.Command_HostFenceLevels{HostFenceLevels: &logpb.HostFenceLevels{Host: id, Levels: levels}}})
	if n > 0 {
		w.do(&logpb.Command{Body: &logpb.Command_VmSpecs{VmSpecs: &logpb.VMSpecs{Host: id, Epoch: 1, Specs: specs}}})
	}
}

func (w *world) rule(kind fsm.RuleKind, vms ...int) {
	w.Helper()
	r := &logpb.Rule{Kind: uint32(kind), Strict: true}
	for _, n := range vms {
		id := vmID(n)
		r.Vms = append(r.Vms, id[:])
	}
	w.do(&logpb.Command{Body: &logpb.Command_RuleAdd{RuleAdd: &logpb.RuleAdd{Rule: r}}})
}

func (w *world) set(vm int, key, value string) {
	w.Helper()
	id := vmID(vm)
	w.do(&logpb.Command{Body: &logpb.Command_VmSet{VmSet: &logpb.VMSet{Vm: id[:], Settings: []*logpb.Setting{{Key: key, Value: value}}}}})
}

func (w *world) policy(key, value string) {
	w.Helper()
	w.do(&logpb.Command{Body: &logpb.Command_PolicySet{PolicySet: &logpb.PolicySet{Settings: []*logpb.Setting{{Key: key, Value: value}}}}})
}

func vmID(n int) fsm.VMID { return fsm.VMID{13: byte(n >> 16), 14: byte(n >> 8), 15: byte(n)} }

func vmName(n int) string { return fmt.Sprintf("vm%d", n) }
