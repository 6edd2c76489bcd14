package ha

import (
	"testing"

	"lifeboat/fsm"
)

// S6: a copy is destroyed only when its disk is certainly the owner's, and called
// another machine only when none certainly is.
func TestS6SharedDisks(t *testing.T) {
	net := func(path string) Domain { return Domain{Disks: []fsm.Disk{{Path: path, Network: true}}} }
	own := func(path string) Domain { return Domain{Disks: []fsm.Disk{{Path: path}}, Bound: true} }
	nfs := func(path string) Domain {
		return Domain{Disks: []fsm.Disk{{Path: "/nfs/" + path, Storage: "nas:/vms@/nfs"}}}
	}
	for _, c := range []struct {
		name          string
		a, b          Domain
		shared, apart bool
	}{
		{"one image", net("rbd://a,b/pool/x"), net("rbd://a,b/pool/x"), true, false},
		{"two images", net("rbd://a,b/pool/x"), net("rbd://a,b/pool/y"), false, true},
		{"one name in two clusters, perhaps", net("rbd://a,b/pool/x"), net("rbd://b,c/pool/x"), false, false},
		{"one name in the clusters of two hosts", net("rbd:///pool/x"), net("rbd:///pool/x"), false, false},
		{"one name in a cluster of the host", net("rbd:///pool/x"), net("rbd://a/pool/x"), false, false},
		{"an image that was noted without its cluster", net("rbd:pool/x"), net("rbd://a/pool/x"), false, false},
		{"two names in the clusters of two hosts", net("rbd:///pool/x"), net("rbd:///pool/y"), false, true},
		{"an image, by its pool too", net("rbd://a/pool/x"), Domain{Disks: []fsm.Disk{{Path: "ceph/x", Storage: "a:pool#ceph"}}}, false, false},
		{"one unit of a target", net("iscsi://s/iqn.2026-01.org:a/1"), net("iscsi://s/iqn.2026-01.org:a/1"), true, false},
		{"one unit of a target of two portals", net("iscsi://s/iqn.2026-01.org:a/1"), net("iscsi://t/iqn.2026-01.org:a/1"), false, false},
		{"servers without names for their disks", net("nbd:///"), net("nbd:///"), false, false},
		{"a server with one disk", net("nbd://s:10809/"), net("nbd://s:10809/"), true, false},
		{"one name at two servers", net("nbd://s/root"), net("nbd://t/root"), false, false},
		{"two names at one server", net("nbd://s/root"), net("nbd://s/x"), false, false},
		{"two servers on the hosts themselves", net("nbd:///root"), net("nbd:///root"), false, false},
		{"a file of a gluster volume", net("gluster://g1,g2/vol/x"), net("gluster://g1,g2/vol/x"), true, false},
		{"a disk of each host", own("/var/a"), own("/var/b"), false, true},
		{"one path on both hosts", own("/mnt/vms/a"), own("/mnt/vms/a"), false, false},
		{"a file that may be the owner's", nfs("a"), own("/mnt/a"), false, false},
		{"the same, the other way round", own("/mnt/a"), nfs("a"), false, false},
		{"a file of another name", nfs("a"), own("/mnt/b"), false, true},
		{"a snapshot of the owner's", Domain{Disks: []fsm.Disk{{Path: "/nfs/a.snap", Storage: "nas:/vms@/nfs"}, {Path: "/nfs/a", Storage: "nas:/vms@/nfs", ReadOnly: true, Backing: true}}}, nfs("a"), false, false},
		{"a snapshot of the copy's", nfs("a"), Domain{Disks: []fsm.Disk{{Path: "/mnt/a.snap", Storage: "nas:/vms@/mnt"}, {Path: "/mnt/a", Storage: "nas:/vms@/mnt", ReadOnly: true, Backing: true}}}, false, false},
		{"one image below both", Domain{Disks: []fsm.Disk{{Path: "/nfs/a", Storage: "nas:/vms@/nfs"}, {Path: "/nfs/base", Storage: "nas:/vms@/nfs", ReadOnly: true, Backing: true}}},
			Domain{Disks: []fsm.Disk{{Path: "/nfs/b", Storage: "nas:/vms@/nfs"}, {Path: "/nfs/base", Storage: "nas:/vms@/nfs", ReadOnly: true, Backing: true}}}, false, true},
		{"no known storage", nfs("a"), Domain{Disks: []fsm.Disk{{Path: "/mnt/b"}}}, false, false},
	} {
		disk, apart := shared(c.a, c.b)
		if (disk != "") != c.shared || apart != c.apart {
			t.Errorf("%s: shared %q, apart %v", c.name, disk, apart)
		}
	}
}
