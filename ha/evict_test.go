package ha_test

import (
	"strings"
	"testing"
	"time"

	"lifeboat/fsm"
	"lifeboat/fsm/logpb"
	"lifeboat/ha"
)

// S6: a host that reports, is told to destroy its copy of a VM and does not is
// fenced when nothing else is left, and only if both were seen to run after that,
// on one disk. S14, S17: like any other, it takes a fresh commit and no brake.
func TestS6HostThatDoesNotDestroyItsCopyIsFenced(t *testing.T) {
	const seen = dawn + int64(time.Minute)
	bound := fsm.DefaultPolicy().StopGrace + fsm.DefaultPolicy().StartTimeout
	root := fsm.Disk{Path: "/nfs/root", Storage: "nas:/vms@/nfs"}
	type situation struct {
		wall, mine, other int64 // now, and the newest looks of both
		level             string
		disk              fsm.Disk
		proven            time.Duration
		extra             []*logpb.Command
	}
	late := seen + int64(3*time.Second) + int64(bound)
	for name, tc := range map[string]struct {
		but  func(x *situation)
		want bool
	}{
		"it has had its time":          {func(*situation) {}, true},
		"it has time left":             {func(x *situation) { x.wall-- }, false},
		"the owner has not looked":     {func(x *situation) { x.mine-- }, false},
		"it has not looked":            {func(x *situation) { x.other-- }, false},
		"another disk by now":          {func(x *situation) { x.disk.Path = "/nfs/other" }, false},
		"a disk that nobody can place": {func(x *situation) { x.disk.Storage = "" }, false},
		"nothing proves it dead":       {func(x *situation) { x.level = fsm.DriverManual }, false},
		"its lease is not armed":       {func(x *situation) { x.level = fsm.DriverLease }, false},
		"no commit proves the term":    {func(x *situation) { x.proven = -1 }, false},
		"the brake is on": {func(x *situation) {
			x.extra = []*logpb.Command{{Body: &logpb.Command_Brake{Brake: &logpb.Brake{Domain: "cluster", On: true, Reason: "test"}}}}
		}, false},
	} {
		t.Run(name, func(t *testing.T) {
			x := situation{late, late, late, "ipmi", root, time.Minute, nil}
			tc.but(&x)
			wall := seen
			m, apply := ledger(t, &wall)
			apply(&logpb.Command{Body: &logpb.Command_ClusterInit{ClusterInit: &logpb.ClusterInit{ClusterId: "c"}}})
			for _, id := range []string{"h1", "h2"} {
				apply(&logpb.Command{Body: &logpb.Command_HostRegister{HostRegister: &logpb.HostRegister{Id: id, MachineId: id, BootId: id,
					Vms: &logpb.VMEntries{Ids: vmBytes(1), Power: []byte{byte(fsm.PowerOn)}, Reason: []byte{byte(fsm.ReasonBooted)}, Details: []*logpb.VMDetail{{Name: "vm1"}}}}}})
				if id == "h1" {
					s := spec(1)
					s.Disks = []*logpb.Disk{{Path: "/nfs/root", Storage: "nas:/vms@/nfs"}}
					apply(&logpb.Command{Body: &logpb.Command_VmSpecs{VmSpecs: &logpb.VMSpecs{Host: "h1", Epoch: 1, Specs: []*logpb.Spec{s}}}})
				}
			}
			apply(&logpb.Command{Body: &logpb.Command_HostFenceLevels{HostFenceLevels: &logpb.HostFenceLevels{Host: "h2",
				Levels: []*logpb.FenceLevel{{Driver: x.level, Address: "bmc-h2"}}}}})
			soft := func(mine, other int64, disk fsm.Disk) *ha.Soft {
				at := time.Minute
				return &ha.Soft{Executor: "n1", Proven: x.proven, Hosts: contacts(map[fsm.HostID]ha.Contact{
					"h1": {Epoch: 1, Heard: at, Absorbed: wall, Looked: mine},
					"h2": {Epoch: 1, Heard: at, Absorbed: wall, Looked: other, Copies: map[fsm.VMID]ha.Domain{vmID(1): {Disks: []fsm.Disk{disk}}}},
				})}
			}
			now := func() ha.Now { return ha.Now{Wall: wall, Mono: time.Minute} }
			judged := func(soft *ha.Soft, action uint32) (found bool) {
				for _, c := range ha.Decide(m.State(), soft, now()).Commands {
					if k := c.GetVmCopy(); k != nil && k.Action == action {
						apply(c)
						found = true
					}
				}
				return found
			}
			wall += int64(3 * time.Second)
			if !judged(soft(wall, wall, root), fsm.CopyDestroy) {
				t.Fatal("it is not told to destroy it")
			}
			for _, c := range x.extra {
				apply(c)
			}
			wall = x.wall
			s := soft(x.mine, x.other, x.disk)
			if got := judged(s, fsm.CopyFence); got != tc.want {
				t.Fatalf("fenced: %v", got)
			}
			if !tc.want {
				return
			}
			attempted := false
			for _, c := range ha.Decide(m.State(), s, now()).Commands {
				attempted = attempted || c.GetFenceAttempt().GetHost() == "h2"
			}
			if !attempted {
				t.Error("no attempt to fence it")
			}
			for what, lines := range map[string][]ha.Line{"host": ha.ExplainHost(m.State(), "h2"), "VM": ha.ExplainVM(m.State(), vmID(1))} {
				told := false
				for _, l := range lines {
					told = told || strings.Contains(l.Text, "does not destroy it") && strings.Contains(l.Text, "/nfs/root")
				}
				if !told {
					t.Errorf("explain %s does not say why: %v", what, lines)
				}
			}
		})
	}
}
