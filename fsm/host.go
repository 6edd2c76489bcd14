package fsm

import (
	"bytes"
	"slices"
	"sort"
)

// Status is whether a host is reached.
type Status uint8

const (
	Connecting   Status = iota + 1 // registered, held back by a fence that may be in flight (S10)
	Up                             // reports
	Disconnected                   // its agent said goodbye, or nobody looked further (S19)
	Alert                          // silent, or seen alive without its agent
	Down                           // HostDown is committed
	Removed                        // taken out by the operator
)

func (s Status) String() string {
	return name(int(s), "", "Connecting", "Up", "Disconnected", "Alert", "Down", "Removed")
}

// Resource is what the operator wants of a host.
type Resource uint8

const (
	Enabled Resource = iota + 1
	Disabled
	PrepareForMaintenance
	Maintenance
	ErrorInMaintenance
	Degraded
)

func (r Resource) String() string {
	return name(int(r), "", "Enabled", "Disabled", "PrepareForMaintenance", "Maintenance", "ErrorInMaintenance", "Degraded")
}

// HAState is how far the failure of a host has been handled.
type HAState uint8

const (
	HAAvailable  HAState = iota + 1
	HASuspect            // silent
	HAChecking           // evidence is being gathered
	HARecovering         // back, held until a fence in flight has ended
	HAFencing            // HostDown is committed; a proof is being sought
	HAFenced             // proven dead
	HADegraded           // seen alive, or nothing can prove it dead: VMs untouched
	HAIneligible         // no fence level could ever prove it dead (S25)
	HADisabled
)

func (s HAState) String() string {
	return name(int(s), "", "Available", "Suspect", "Checking", "Recovering", "Fencing", "Fenced",
		"Degraded", "Ineligible", "Disabled")
}

// Watchdog is what stops a machine whose agent can no longer (S12).
type Watchdog uint8

const (
	WatchdogNone     Watchdog = iota
	WatchdogHardware          // resets the machine
	WatchdogExternal          // a process that outlives a frozen agent
	WatchdogSoft              // the agent itself
)

func (w Watchdog) String() string { return name(int(w), "none", "hardware", "external", "soft") }

// Fence drivers that need no BMC.
const (
	DriverLease  = "lease"
	DriverManual = "manual"
)

// FenceLevel is one way to prove a host dead; levels are tried in order.
type FenceLevel struct {
	Driver    string // ipmi, redfish, fence-agent, lease, manual
	Address   string
	User      string
	Secret    []byte // sealed password; opaque here
	Identity  string // GUID or serial the BMC must answer with (S9)
	TimeoutNS int64  // of one attempt; 0 = policy fence_timeout
	Options   []Setting
	Executor  string // ExecLeader and so on; "" = ExecLeader
	Pinned    bool   // the identity is an operator's word, not what the controller said
	Check     FenceCheck
}

// Active reports whether the level acts on the host, as opposed to waiting.
func (l FenceLevel) Active() bool { return l.Driver != DriverLease && l.Driver != DriverManual }

// Setting is a key and its value.
type Setting struct{ Key, Value string }

// Label is an operator's mark on a host; "rack" is a failure domain.
type Label struct{ Key, Value string }

// Storage is a directory or pool a host sees; the same ID on two hosts is the
// same storage.
type Storage struct {
	ID   string
	Path string
	Up   bool
}

// Problem is a part of an inventory that could not be read.
type Problem struct{ Part, Message string }

// Inventory is what a host has. It is replaced as a whole.
type Inventory struct {
	CPUs          uint32
	MemoryBytes   uint64
	Storages      []Storage
	Networks      []string
	Machines      []string
	CPUModels     []string
	Problems      []Problem
	LibvirtGuests bool
	Beats         []Storage // into which its agent writes a heartbeat
	MigrateURI    string    // where other hosts' hypervisors send VMs by live migration; "" = nowhere
}

// Lease is a self-fence lease that the agent runs under, as committed (S12).
type Lease struct {
	Armed      bool
	BootID     string
	DurationNS int64
	Watchdog   Watchdog
	BoundNS    int64 // after the lease ran out, the machine is stopped within this
}

// Verdict of evidence. No evidence is Unknown, never Dead (S20).
type Verdict uint8

const (
	Unknown Verdict = iota
	Alive
	Dead
)

func (v Verdict) String() string { return name(int(v), "unknown", "alive", "dead") }

// Evidence is what one source said about a silent host.
type Evidence struct {
	Source  string
	Verdict Verdict
	Detail  string
	Time    int64
	Index   uint64
}

// ProofKind is why a host's VMs are certainly gone (S9).
type ProofKind uint8

const (
	ProofPower    ProofKind = iota + 1 // power read as off, twice, from its own BMC
	ProofLease                         // the self-fence lease ran out
	ProofBoot                          // the machine reported a new boot id
	ProofOperator                      // an operator's audited word
)

func (p ProofKind) String() string { return name(int(p), "", "power", "lease", "boot", "operator") }

// Proof is a fence certificate.
type Proof struct {
	Kind   ProofKind
	By     string
	Detail string
	Time   int64
	Index  uint64
}

// Attempt is a fence that may be in flight (S10).
type Attempt struct {
	Level    uint32
	Number   uint32
	Executor string
	Until    int64 // unix ns; after this it has ended, whatever it did
	Open     bool
	// Earlier is when the last of the attempts that this one took over has ended,
	// unix ns: another leader made them, and nobody hears how they end.
	Earlier int64
	Via     []string // who may carry it out, in turn (ViaLeader and so on); none = the leader
}

// OrderKind is what an order tells the agent to do.
type OrderKind uint8

const (
	OrderStart OrderKind = iota + 1
	OrderStop
	OrderDestroy // tombstone: incarnations <= Incarnation are gone and refused for ever (S4)
	OrderResume
	OrderMigrate // live, to Target
)

func (k OrderKind) String() string {
	return name(int(k), "", "start", "stop", "destroy", "resume", "migrate")
}

// Order stands until the agent's report fulfils it or its host is proven
// dead. It is void outside its epoch and boot id (S4).
type Order struct {
	ID          OrderID
	Kind        OrderKind
	VM          VMID
	Name        string
	Incarnation Incarnation
	Epoch       uint64
	BootID      string
	Work        WorkID
	Target      HostID // migrate
	Abort       bool   // migrate: call it off
	Index       uint64 // migrate: of the entry that made it; it is handed out once the target has heeded that
}

// Host is a libvirt host and the VMs it owns, sorted by id.
type Host struct {
	ID         HostID
	MachineID  string
	BootID     string
	Session    string // run of the agent
	Version    string
	Level      uint32
	ProbeAddrs []string
	Inventory  *Inventory
	Labels     []Label
	Watchdog   Watchdog
	BoundNS    int64
	Node       NodeID // management node on this machine, if any
	HardwareID string // the machine's own system UUID; "" = its agent does not say

	Epoch    uint64 // raised by every registration
	Seq      uint64 // last report applied in this epoch
	Status   Status
	Resource Resource
	HA       HAState
	Reason   string
	Since    int64 // unix ns of the last change of Status or HA
	Silent   int64 // unix ns of the last contact before the suspicion

	Lease        *Lease // nil = never armed, or withdrawn
	Fence        []FenceLevel
	Evidence     []Evidence
	Attempt      *Attempt
	FenceFailure string
	Proof        *Proof // of the last death
	DownAt       int64
	DownIndex    uint64
	// Settled is the index of its last registration, death or removal. A registration
	// that was asked for before is late, and changes nothing (S5).
	Settled uint64
	// Admitted lets a removed host register again.
	Admitted bool
	// Barred: a restore brought it back although it had been removed. Its VMs count,
	// and it may not register before it is admitted.
	Barred bool

	Orders   []*Order
	Assigned uint64 // index of the last change an agent must be told
	Copies   []Copy // of VMs that other hosts own, by VM
	// Risen is the newest id that was minted when the host came back, in the same
	// boot, from a death that had been proven; 0: it did not. What it had been told
	// to destroy by then may have run twice (S6).
	Risen uint64
	// Evicted: it is Down although it reports, because it does not destroy a second
	// copy. It may register again when that has ended (S6).
	Evicted bool
	VMs     []VM
	// Stalled: a VM here may be paused on an I/O error (S18). It follows from
	// VMs and spares the leader to look at all of them.
	Stalled bool

	Drain    *Drain    // it is to be empty; nil = it is not
	Stopping GoingDown // its operating system goes down
	Held     Holding   // what that means for its VMs
	Heeds    uint64    // the newest change that its agent has acted on; see State.NewlyHeeds
	Expects  uint64    // index of the newest order to migrate a VM to it
}

// Late reports whether a registration that was asked for at an index is older than
// what is known of the host (nil: it is not known).
func (h *Host) Late(ticket uint64) bool { return h != nil && ticket != 0 && ticket < h.Settled }

// Label returns the value of a label, "" when it is not set.
func (h *Host) Label(key string) string {
	for _, l := range h.Labels {
		if l.Key == key {
			return l.Value
		}
	}
	return ""
}

// VM finds an owned VM.
func (h *Host) VM(id VMID) *VM {
	if i, ok := h.find(id); ok {
		return &h.VMs[i]
	}
	return nil
}

func (h *Host) find(id VMID) (int, bool) {
	return sort.Find(len(h.VMs), func(i int) int { return bytes.Compare(id[:], h.VMs[i].ID[:]) })
}

// RunsProtected counts the protected VMs that are not known to be off.
func (h *Host) RunsProtected() int {
	n := 0
	for i := range h.VMs {
		v := &h.VMs[i]
		if v.Protected() && v.Power != PowerOff {
			n++
		}
	}
	return n
}

// Running counts the VMs that run, start or may run here.
func (h *Host) Running() int {
	n := 0
	for i := range h.VMs {
		if h.VMs[i].Occupies() {
			n++
		}
	}
	return n
}

// MemoryUsed is the memory of VMs that run, start or may run here, in bytes.
func (h *Host) MemoryUsed() uint64 {
	var n uint64
	for i := range h.VMs {
		v := &h.VMs[i]
		if v.Occupies() && v.Spec != nil {
			n += v.Spec.MemoryBytes
		}
	}
	return n
}

// inFlight reports whether the power of a host may still be cut behind our
// back, whatever became of the host since (S10).
func (h *Host) inFlight(now int64) bool {
	return now < h.Attempt.End()
}

// End is when nothing can be in flight any more, unix ns; 0 when nothing is.
func (a *Attempt) End() int64 {
	switch {
	case a == nil:
		return 0
	case a.Open:
		return max(a.Until, a.Earlier)
	}
	return a.Earlier
}

// owesStart reports whether an order to start stands: the VM may run here
// without having been seen.
func (h *Host) owesStart() bool {
	return slices.ContainsFunc(h.Orders, func(o *Order) bool { return o.Kind == OrderStart })
}

// HasLevel reports whether a fence level of this driver is configured.
func (h *Host) HasLevel(driver string) bool {
	return slices.ContainsFunc(h.Fence, func(l FenceLevel) bool { return l.Driver == driver })
}

// Fenceable reports whether some configured level could prove the host dead
// without an operator (S25).
func (h *Host) Fenceable(p *Policy) bool {
	for _, l := range h.Fence {
		switch {
		case l.Active():
			return true
		case l.Driver == DriverLease && p.ProvesDeath(h.Watchdog):
			return true
		}
	}
	return false
}

// order returns the standing order of a kind for a VM.
func (h *Host) order(kind OrderKind, vm VMID) *Order {
	for _, o := range h.Orders {
		if o.Kind == kind && o.VM == vm {
			return o
		}
	}
	return nil
}
