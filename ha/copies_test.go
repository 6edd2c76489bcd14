package ha_test

import (
	"testing"
	"time"

	"lifeboat/fsm"
	"lifeboat/fsm/logpb"
	"lifeboat/ha"
)

// S6: a copy that nobody granted is judged when both hosts have looked since.
func TestS6CopiesAreJudged(t *testing.T) {
	const seen = dawn + int64(time.Minute)
	nfs := func(path string) fsm.Disk { return fsm.Disk{Path: path, Storage: "nas:/vms@/nfs"} }
	mine := []*logpb.Disk{{Path: "/nfs/root", Storage: "nas:/vms@/nfs"}, {Path: "/nfs/cd", Storage: "nas:/vms@/nfs", Readonly: true}, {Path: "/nfs/quorum", Storage: "nas:/vms@/nfs", Shareable: true}, {Path: "rbd://mon/pool/root", Network: true},
		{Path: "/nfs/next", Storage: "nas:/vms@/nfs", Only: uint32(fsm.DiskDefined)}, {Path: "/nfs/live", Storage: "nas:/vms@/nfs", Only: uint32(fsm.DiskOpen)}}
	late := seen + int64(3*time.Second)
	same := &ha.Domain{Disks: []fsm.Disk{nfs("/nfs/root")}}
	for name, tc := range map[string]struct {
		owner, other int64 // looked after
		copied       *ha.Domain
		disarm       bool
		want         uint32 // 0 = nothing
	}{
		"on one disk":                 {late, late, same, false, fsm.CopyDestroy},
		"mounted elsewhere":           {late, late, &ha.Domain{Disks: []fsm.Disk{{Path: "/mnt/x/root", Storage: "nas:/vms@/mnt/x"}}}, false, fsm.CopyDestroy},
		"as a volume of a pool":       {late, late, &ha.Domain{Disks: []fsm.Disk{{Path: "pool/root", Storage: "nas:/vms@/nfs"}}}, false, fsm.CopyDestroy},
		"the owner has not looked":    {late - 1, late, same, false, 0},
		"the copy's host has not":     {late, late - 1, same, false, 0},
		"nobody has read it":          {late, late, nil, false, 0},
		"HA is disarmed":              {late, late, same, true, 0},
		"on disks of its own":         {late, late, &ha.Domain{Disks: []fsm.Disk{nfs("/nfs/other"), nfs("/nfs/cd")}}, false, fsm.CopyApart},
		"a disk for several":          {late, late, &ha.Domain{Disks: []fsm.Disk{{Path: "/nfs/quorum", Storage: "nas:/vms@/nfs", Shareable: true}}}, false, fsm.CopyApart},
		"a disk that one takes to be": {late, late, &ha.Domain{Disks: []fsm.Disk{nfs("/nfs/quorum")}}, false, fsm.CopyDestroy},
		"read only there":             {late, late, &ha.Domain{Disks: []fsm.Disk{{Path: "/nfs/root", Storage: "nas:/vms@/nfs", ReadOnly: true}}}, false, fsm.CopyApart},
		"on a storage nobody knows":   {late, late, &ha.Domain{Disks: []fsm.Disk{{Path: "/nfs/root"}}}, false, 0},
		"on a disk of its host":       {late, late, &ha.Domain{Disks: []fsm.Disk{{Path: "/var/images/disk"}}, Bound: true}, false, fsm.CopyApart},
		"perhaps of its host":         {late, late, &ha.Domain{Disks: []fsm.Disk{{Path: "/mnt/vms/root"}}, Bound: true}, false, 0},
		"one of several is the same":  {late, late, &ha.Domain{Disks: []fsm.Disk{{Path: "/var/swap"}, nfs("/nfs/root")}}, false, fsm.CopyDestroy},
		"another server's same path":  {late, late, &ha.Domain{Disks: []fsm.Disk{{Path: "/nfs/root", Storage: "nas2:/vms@/nfs"}}}, false, fsm.CopyApart},
		"a disk of some server":       {late, late, &ha.Domain{Disks: []fsm.Disk{{Path: "nbd://s/root", Network: true}}}, false, 0},
		"the same network disk":       {late, late, &ha.Domain{Disks: []fsm.Disk{{Path: "rbd://mon/pool/root", Network: true}}}, false, fsm.CopyDestroy},
		"one of another cluster":      {late, late, &ha.Domain{Disks: []fsm.Disk{{Path: "rbd://other/pool/root", Network: true}}}, false, 0},
		"only in what runs next":      {late, late, &ha.Domain{Disks: []fsm.Disk{nfs("/nfs/next")}}, false, fsm.CopyApart},
		"only in what runs":           {late, late, &ha.Domain{Disks: []fsm.Disk{nfs("/nfs/live")}}, false, fsm.CopyDestroy},
		"a network disk":              {late, late, &ha.Domain{Disks: []fsm.Disk{{Path: "rbd://mon/pool/x", Network: true}}}, false, fsm.CopyApart},
	} {
		t.Run(name, func(t *testing.T) {
			wall := seen
			m, apply := ledger(t, &wall)
			apply(&logpb.Command{Body: &logpb.Command_ClusterInit{ClusterInit: &logpb.ClusterInit{ClusterId: "c"}}})
			on := func() *logpb.VMEntries {
				return &logpb.VMEntries{Ids: vmBytes(1), Power: []byte{byte(fsm.PowerOn)}, Reason: []byte{byte(fsm.ReasonBooted)}, Details: []*logpb.VMDetail{{Name: "vm1"}}}
			}
			apply(&logpb.Command{Body: &logpb.Command_HostRegister{HostRegister: &logpb.HostRegister{Id: "h1", MachineId: "a", BootId: "a", Vms: on()}}})
			s := spec(1)
			s.Disks = mine
			apply(&logpb.Command{Body: &logpb.Command_VmSpecs{VmSpecs: &logpb.VMSpecs{Host: "h1", Epoch: 1, Specs: []*logpb.Spec{s}}}})
			apply(&logpb.Command{Body: &logpb.Command_HostRegister{HostRegister: &logpb.HostRegister{Id: "h2", MachineId: "b", BootId: "b", Vms: on()}}})
			if tc.disarm {
				apply(&logpb.Command{Body: &logpb.Command_Arm{Arm: &logpb.Arm{}}})
			}
			now := ha.Now{Wall: late + int64(time.Second), Mono: time.Minute}
			soft := &ha.Soft{Hosts: contacts(map[fsm.HostID]ha.Contact{
				"h1": {Epoch: 1, Heard: now.Mono, Absorbed: now.Wall, Looked: tc.owner},
				"h2": {Epoch: 1, Heard: now.Mono, Absorbed: now.Wall, Looked: tc.other},
			})}
			if tc.copied != nil {
				c := soft.Hosts.Of("h2")
				c.Copies = map[fsm.VMID]ha.Domain{vmID(1): *tc.copied}
				soft.Hosts.Set("h2", c)
			}
			var got uint32
			for _, c := range ha.Decide(m.State(), soft, now).Commands {
				if k := c.GetVmCopy(); k != nil {
					got = k.Action
					apply(c)
				}
			}
			if got != tc.want {
				t.Fatalf("judged %d, want %d", got, tc.want)
			}
			for _, c := range ha.Decide(m.State(), soft, now).Commands {
				if c.GetVmCopy() != nil && got != 0 {
					t.Fatal("judged again")
				}
			}
		})
	}
}
