package ha

import (
	"path"
	"strings"

	"lifeboat/fsm"
)

// netDisk is a disk that a server has, as its path names it:
// rbd://mon1,mon2/pool/image. Without servers, as in rbd:///pool/image, it is
// what a host's own configuration says, which may be another on each.
type netDisk struct{ protocol, servers, name string }

func netDiskOf(x fsm.Disk) netDisk {
	protocol, rest, _ := strings.Cut(x.Path, ":")
	if at, ok := strings.CutPrefix(rest, "//"); ok {
		servers, name, _ := strings.Cut(at, "/")
		return netDisk{protocol, servers, name}
	}
	return netDisk{protocol, "", rest} // of an earlier version
}

// named reports whether another name means another disk. What other protocols
// call a disk is one of perhaps several names of it.
func (n netDisk) named() bool { return n.protocol == "rbd" || n.protocol == "iscsi" }

// mayBe reports whether y may be the same disk although the two are not called the
// same: two clusters may have a pool of one name, and one cluster be named by
// different monitors.
func (n netDisk) mayBe(y fsm.Disk) bool {
	if !y.Network {
		// A volume of a pool, which may be of the same server.
		return !strings.HasPrefix(y.Path, "/") && path.Base(y.Path) == path.Base(n.name)
	}
	m := netDiskOf(y)
	return m.protocol == n.protocol && m.name == n.name && (m.servers != n.servers || n.servers == "")
}
