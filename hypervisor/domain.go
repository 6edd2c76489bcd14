package hypervisor

// Domain is the power state of one virtual machine as the hypervisor sees it.
type Domain struct {
	UUID   UUID
	Name   string
	State  State
	Reason Reason // why it is in State, as far as the hypervisor knows
	// Persistent: the definition survives a stop. A transient domain vanishes
	// and is then reported for a while as StateAbsent.
	Persistent bool
	// Autostart: the hypervisor would start it by itself at boot.
	Autostart bool
	// ManagedSave: a saved memory image exists, from which the next start
	// would resume.
	ManagedSave bool
	// Reboots and Fired only grow, while the driver knows the domain: how often its
	// guest has booted again without a new start, and how often its guest's watchdog
	// has fired and left the guest as it was. What happened while there was no
	// connection to the hypervisor is not in them.
	Reboots, Fired uint32
}

// Active reports whether the domain exists as a running process or may: its
// disks must be taken to be in use.
func (d Domain) Active() bool { return d.State.Active() }

// State is the power state of a domain.
type State uint8

const (
	StateUnknown      State = iota // the hypervisor did not say; take it to be active
	StateRunning                   // its CPUs run
	StatePaused                    // it exists, its CPUs do not run; Reason says why
	StateShuttingDown              // the guest is on its way down
	StateOff                       // defined, not active
	StateCrashed                   // the guest panicked and the remains are kept
	StatePMSuspended               // the guest suspended itself to memory
	StateAbsent                    // was active, is not known to the hypervisor any more
)

var stateNames = [...]string{"unknown", "running", "paused", "shutting-down", "off", "crashed", "pm-suspended", "absent"}

func (s State) String() string { return nameOf(stateNames[:], int(s)) }

// Active reports whether a domain in this state must be taken to use its disks.
func (s State) Active() bool { return s != StateOff && s != StateAbsent }

// Reason says why a domain is in its state, in words that belong to no
// particular hypervisor. Which ones count as a crash is policy: see S18 and
// [Reason.Crash].
type Reason uint8

const (
	ReasonUnknown      Reason = iota
	ReasonBooted              // running: started from its definition
	ReasonMigrated            // running: arrived by migration; off or absent: left by migration
	ReasonRestored            // running: from a saved image
	ReasonSnapshot            // put into this state by reverting to or taking a snapshot
	ReasonUser                // paused by a user; or running because a user resumed it
	ReasonWakeup              // running: woken from its own suspend
	ReasonMigrating           // paused: incoming or outgoing migration
	ReasonSaving              // paused: its memory is being saved or dumped
	ReasonIOError             // paused: a disk failed
	ReasonWatchdog            // paused: the guest's watchdog has fired
	ReasonStarting            // paused: has not run yet
	ReasonShuttingDown        // paused: on its way down
	ReasonCrashed             // paused, off or absent: the guest or its process died
	ReasonPanicked            // crashed: the guest kernel panicked
	ReasonFailed              // off or absent: the hypervisor could not start or keep it
	ReasonDaemon              // off: the hypervisor daemon decided so
	ReasonShutdown            // off or absent: the guest shut itself down
	ReasonDestroyed           // off or absent: ended by an order
	ReasonSaved               // off or absent: saved to a file
)

var reasonNames = [...]string{
	"unknown", "booted", "migrated", "restored", "snapshot", "user", "wakeup", "migrating", "saving", "io-error",
	"watchdog", "starting", "shutting-down", "crashed", "panicked", "failed", "daemon", "shutdown", "destroyed", "saved",
}

func (r Reason) String() string { return nameOf(reasonNames[:], int(r)) }

// Crash reports whether the reason says that the domain ended against
// everybody's will (S18).
func (r Reason) Crash() bool {
	switch r {
	case ReasonCrashed, ReasonPanicked, ReasonFailed, ReasonDaemon:
		return true
	}
	return false
}

func nameOf(names []string, i int) string {
	if i < len(names) {
		return names[i]
	}
	return names[0]
}
