package domxml

import (
	"strings"

	"lifeboat/hypervisor"
)

// MaxSize is the longest definition that is read, in bytes.
const MaxSize = 256 << 10

// Needs is what a host must offer for the domain to start there.
type Needs struct {
	Name        string
	UUID        hypervisor.UUID // zero when the definition names none
	DomainType  string          // "kvm", "qemu", "test", …
	VCPUs       int             // CPUs the guest starts with
	MemoryBytes uint64
	Arch        string // may be empty
	Machine     string // machine type as written; may be empty
	CPUModel    string // named model; empty for host-model, host-passthrough and the default
	Emulator    string // path on the host; may be empty
	Disks       []Disk
	Networks    []Network
	// LocalReasons are sentences, each naming something that exists only on
	// the host where the domain is. Not empty: never try it elsewhere.
	LocalReasons []string
	// Protect is lifeboat's own element in <metadata>; nil when there is none.
	Protect *Protect
}

// SourceKind says how a disk names what it is backed by.
type SourceKind string

const (
	SourceFile    SourceKind = "file"    // Path
	SourceBlock   SourceKind = "block"   // Path of the device
	SourceDir     SourceKind = "dir"     // Path
	SourceNetwork SourceKind = "network" // Protocol and Path, the name at the server
	SourceVolume  SourceKind = "volume"  // Pool and Path, the volume's name
)

// Disk is anything with bytes of its own that the domain opens when it starts:
// disks, CD-ROMs with a medium, backing files, direct-boot kernels, NVRAM.
type Disk struct {
	Kind     SourceKind
	Device   string // "disk", "cdrom", "floppy", "lun", "backing", "kernel", "initrd", "nvram", "filesystem", …
	Target   string // name inside the domain, e.g. "vda"; may be empty
	Path     string
	Pool     string // SourceVolume only
	Protocol string // SourceNetwork only, e.g. "rbd"
	// Servers are the hosts that serve it, with their ports as far as they are
	// given, sorted. Only of SourceNetwork; empty when the definition names none
	// that mean the same on every host.
	Servers  []string
	ReadOnly bool
	// Shareable: the definition says that several domains may write it.
	Shareable bool
	// Optional: the domain starts without it when it is missing.
	Optional bool
}

// URL names the disk of SourceNetwork and who serves it: rbd://mon1,mon2/pool/image.
// Without servers it begins with rbd:///.
func (d Disk) URL() string {
	return d.Protocol + "://" + strings.Join(d.Servers, ",") + "/" + strings.TrimPrefix(d.Path, "/")
}

// Network is one connection of a network card that the host must have.
type Network struct {
	Kind hypervisor.NetworkKind // network or bridge, or "direct" for a device of the host
	Name string
}

// NetworkDirect is a macvtap connection to a network device of the host.
const NetworkDirect hypervisor.NetworkKind = "direct"
