package hypervisor

// Inventory is what a host can offer a domain. It decides where a protected
// domain may be started; what is not listed is not there.
type Inventory struct {
	Hostname    string
	Version     string   // of the hypervisor, for people
	Arch        string   // e.g. "x86_64"
	CPUs        int      // logical CPUs
	MemoryBytes uint64   // total
	DomainTypes []string // e.g. "kvm", "qemu"; sorted
	Machines    []string // machine types including aliases; sorted
	CPUModels   []string // named CPU models usable here; sorted
	Storages    []Storage
	Networks    []Network
	// MigrateURI is where other hypervisors send domains by live migration; empty:
	// nobody knows.
	MigrateURI string
	// Problems are the parts that could not be read. They degrade the host,
	// with an alert, and never keep it from connecting.
	Problems []Problem
}

// Storage is a place on the host where disks of domains lie.
type Storage struct {
	Name string // name of the pool; the path for a declared directory
	Kind string // type of the pool ("dir", "netfs", "rbd", …); "shared-dir" for a declared directory
	Path string // where it is mounted on this host; empty for pools without files
	// Source identifies the storage across hosts, e.g. "nfs1:/export/vms";
	// empty when only the path is known.
	Source string
	// Shared: another host that lists the same name and path or source sees
	// the same bytes.
	Shared         bool
	CapacityBytes  uint64 // 0: unknown
	AvailableBytes uint64
}

// Network is something that a domain's network card can be plugged into.
type Network struct {
	Name string      // as the domain's XML names it
	Kind NetworkKind //
}

// NetworkKind tells the two ways apart in which XML names a network.
type NetworkKind string

const (
	NetworkVirtual NetworkKind = "network" // <source network='…'/>
	NetworkBridge  NetworkKind = "bridge"  // <source bridge='…'/>
)

// Problem is one part of the inventory that could not be read.
type Problem struct {
	Part    string // "storage", "network", "domain", "capabilities", …
	Name    string // which one; empty: the whole part
	Message string // a sentence for the operator
}
