package fsm

// Power is a VM's power state as last reported by its owner.
type Power uint8

const (
	PowerUnknown Power = iota
	PowerOn
	PowerOff
	PowerReportMissing // absent from two reports in a row
	// PowerStarting stands only in reports: an order is being executed and
	// nothing can be said yet. It changes nothing.
	PowerStarting
)

func (p Power) String() string {
	return name(int(p), "PowerUnknown", "PowerOn", "PowerOff", "PowerReportMissing", "PowerStarting")
}

// Reason is why a VM is in its power state. The numbers are those of the log.
type Reason uint8

const (
	ReasonNone Reason = iota
	ReasonBooted
	ReasonUserPaused
	ReasonIOError
	ReasonCrashed // crashed, failed, panicked, daemon
	ReasonShutdown
	ReasonDestroyed
	ReasonMigrated
	ReasonSaved
	ReasonSelfFenced
	ReasonHostShutdown
	ReasonHostReboot
	ReasonOrdered
	ReasonMigratingIn
	ReasonHostDead // set by the state machine when its host is proven dead
)

func (r Reason) String() string {
	return name(int(r), "", "booted", "paused by a user", "paused on an I/O error", "crashed",
		"shut down from inside", "destroyed by hand", "migrated away", "saved", "self-fenced",
		"host shut down", "host rebooted", "ordered", "incoming migration", "host dead")
}

// ProtectedBy says who put a VM under protection.
type ProtectedBy uint8

const (
	Unprotected ProtectedBy = iota
	ByOperator
	ByMetadata // lifeboat's element in the domain's <metadata>
	ByDefault  // policy protect_default
	// OptedOut is an operator's "no", which metadata and default do not undo.
	OptedOut
)

func (p ProtectedBy) String() string {
	return name(int(p), "nobody", "operator", "metadata", "default", "nobody (opted out)")
}

// HAMode is when HA starts a VM again.
type HAMode uint8

const (
	HARestart HAMode = iota // after a failure; stays off after a shutdown from inside
	HAAlways                // after that too
	HANone                  // unmanaged
)

func (m HAMode) String() string { return name(int(m), "restart", "always", "none") }

// Priority orders restarts, higher first.
type Priority uint8

const (
	PriorityLowest Priority = iota + 1
	PriorityLow
	PriorityMedium
	PriorityHigh
	PriorityHighest
)

func (p Priority) String() string {
	return name(int(p), "", "lowest", "low", "medium", "high", "highest")
}

// VMPolicy is how one VM is treated. Values that are nil follow the cluster's.
type VMPolicy struct {
	HA          HAMode
	Priority    Priority
	MaxRestart  *uint32
	MaxRelocate *uint32
	Order       *StartOrder  // nil = it waits for nobody
	Guest       *GuestHealth // nil = nobody watches its guest
	// Stays: once moved away from a host that was to be empty, it does not go back.
	Stays bool
	// NoLive: it may not be migrated live.
	NoLive bool
}

// defaultVMPolicy is shared by all VMs without one of their own.
func defaultVMPolicy() VMPolicy { return VMPolicy{HA: HARestart, Priority: PriorityMedium} }

// VM is one libvirt domain. It lies in its owner's Host.VMs: one owner, one
// incarnation.
type VM struct {
	ID VMID
	// What it is changes less often than what it does, and is apart: a report that
	// changes the power of all VMs of a host copies 56 bytes for each.
	*traits
	Incarnation Incarnation
	Since       int64  // unix ns of the last change of Power
	Work        WorkID // open work, 0 = none
	Power       Power
	// Reason explains Power.
	Reason      Reason
	Wanted      bool // wanted on
	ProtectedBy ProtectedBy
	// Gone: the incarnation is proven not to run and never to run again (S2). Only
	// then may another host be granted the next one.
	Gone bool
	// Answers: its guest's agent has answered since it runs, where somebody asked. That
	// it is silent now, or not known to a new agent of the host, does not unsay it.
	Answers bool

	// Of traits, so that a change of power need not look there.
	mode    HAMode
	inError bool
}

// traits are shared by the versions of a VM. They are replaced, by the methods
// below, and never changed in place.
type traits struct {
	Name   string
	Spec   *Spec     // nil = not read yet
	Policy *VMPolicy // nil = the default
	Error  string    // HA gave up; `vm clear` tries again
	home   *HostID   // see Home; most have none, and a pointer takes half the room
	Hangs  *Hangs    // nil = its guest has never hung, or that is forgotten
}

func (v *VM) setName(n string) {
	if v.Name != n {
		t := *v.traits
		t.Name, v.traits = n, &t
	}
}

func (v *VM) setSpec(s *Spec) {
	if v.Spec != s {
		t := *v.traits
		t.Spec, v.traits = s, &t
	}
}

func (v *VM) setPolicy(p *VMPolicy) {
	if v.Policy != p {
		t := *v.traits
		t.Policy, v.traits = p, &t
		v.derive()
	}
}

func (v *VM) setError(e string) {
	if v.Error != e {
		t := *v.traits
		t.Error, v.traits = e, &t
		v.derive()
	}
}

// Home is the host that it was moved away from, and goes back to; "" = it is where it
// belongs.
func (v *VM) Home() HostID {
	if v.home == nil {
		return ""
	}
	return *v.home
}

func (v *VM) setHome(h HostID) {
	if v.Home() != h {
		t := *v.traits
		t.home, v.traits = homeAt(h), &t
	}
}

func homeAt(h HostID) *HostID {
	if h == "" {
		return nil
	}
	return &h
}

func (v *VM) setHangs(g *Hangs) {
	if v.Hangs != g {
		t := *v.traits
		t.Hangs, v.traits = g, &t
	}
}

// derive repeats what a change of power asks of the traits.
func (v *VM) derive() { v.mode, v.inError = v.HAPolicy().HA, v.Error != "" }

// Protected reports whether HA acts for this VM.
func (v *VM) Protected() bool {
	return v.ProtectedBy != Unprotected && v.ProtectedBy != OptedOut && v.mode != HANone
}

// HAPolicy is the VM's policy with defaults filled in.
func (v *VM) HAPolicy() VMPolicy {
	if v.Policy != nil {
		return *v.Policy
	}
	return defaultVMPolicy()
}

// Occupies reports whether the VM runs, starts or may run on its owner.
func (v *VM) Occupies() bool {
	return v.Power != PowerOff || (v.Work != 0 && v.Wanted && !v.Gone)
}

// LostSight reports whether the owner's last word was that the VM is not there:
// it left, or is missing. It may run on any host, and the death of its owner
// proves nothing about it (S18).
func (v *VM) LostSight() bool {
	return v.Power == PowerReportMissing || v.Power == PowerOff && v.Reason == ReasonMigrated
}
