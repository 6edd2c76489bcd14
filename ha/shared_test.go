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
		{"one image", net("rbd:pool/x"), net("rbd:pool/x"), true, false},
		{"two images", net("rbd:pool/x"), net("rbd:pool/y"), false, true},
		{"one unit of a target", net("iscsi:iqn.2026-01.org:a/1"), net("iscsi:iqn.2026-01.org:a/1"), true, false},
		{"servers without names for their disks", net("nbd:"), net("nbd:"), false, false},
		{"one name at two servers, perhaps", net("nbd:root"), net("nbd:root"), false, false},
		{"a disk of each host", own("/var/a"), own("/var/b"), false, true},
		{"one path on both hosts", own("/mnt/vms/a"), own("/mnt/vms/a"), false, false},
		{"a file that may be the owner's", nfs("a"), own("/mnt/a"), false, false},
		{"the same, the other way round", own("/mnt/a"), nfs("a"), false, false},
		{"a file of another name", nfs("a"), own("/mnt/b"), false, true},
		{"no known storage", nfs("a"), Domain{Disks: []fsm.Disk{{Path: "/mnt/b"}}}, false, false},
	} {
		disk, apart := shared(c.a, c.b)
		if (disk != "") != c.shared || apart != c.apart {
			t.Errorf("%s: shared %q, apart %v", c.name, disk, apart)
		}
	}
}
