package session

import (
	"time"

	lifeboatv1 "lifeboat/api/lifeboat/v1"
	"lifeboat/hypervisor"
)

// Action is something that the session wants done. Each says which input
// answers it; an action without an answer is done at once, in order.
type Action interface{ action() }

// Out is what an input led to.
type Out struct {
	Actions []Action
	Wake    Instant // call Tick then, at the latest; Never: only inputs matter
}

type (
	// Poll asks for [Session.Polled]. There is one at a time.
	Poll struct {
		ID      uint64
		Timeout time.Duration
	}
	// ReadInventory asks for [Session.InventoryRead]. One at a time.
	ReadInventory struct{ Timeout time.Duration }
	// ReadHashes asks for [Session.HashesRead]. One at a time.
	ReadHashes struct {
		VMs     []hypervisor.UUID
		Timeout time.Duration
	}

	// Register asks for [Session.Registered] or [Session.SendFailed].
	Register struct {
		To      Manager
		Seq     uint64
		Req     *lifeboatv1.RegisterRequest
		Timeout time.Duration
	}
	// Report asks for [Session.Answered] or [Session.SendFailed]. A report that
	// is still out stays out: the manager answers it when it gets the newer one,
	// and that is a sign of life.
	Report struct {
		To      Manager
		Req     *lifeboatv1.ReportRequest
		Timeout time.Duration
	}
	// PutSpecs asks for [Session.SpecsPut]: read the definitions, read out of
	// them what they need, send. One at a time.
	PutSpecs struct {
		To      Manager
		Epoch   uint64
		VMs     []hypervisor.UUID
		Timeout time.Duration
	}
	// Leave asks for [Session.Left].
	Leave struct {
		To      Manager
		Req     *lifeboatv1.LeaveRequest
		Timeout time.Duration
	}
	// AskGuest asks for [Session.GuestAsked]: does the agent inside the guest answer?
	AskGuest struct{ ID hypervisor.UUID }
	// Probe asks for [Session.Probed].
	Probe struct{ Req *lifeboatv1.Probe }
	// RunFence asks for [Session.Fenced], after Timeout at the latest: use
	// another host's power controller. The job holds a password.
	RunFence struct {
		Term    uint64
		Job     *lifeboatv1.FenceJob
		Timeout time.Duration
	}
	// StopFence calls a RunFence off, which is answered all the same.
	StopFence struct{ Term, Nonce uint64 }

	// StartVM asks for [Session.OpDone]. The hypervisor's Confirm callback must
	// end in [Session.Confirm].
	StartVM struct {
		ID          hypervisor.UUID
		Name        string
		Incarnation uint64
		Order       uint64
		Definition  []byte
	}
	// StopVM asks for OpDone.
	StopVM struct {
		ID   hypervisor.UUID
		Mode hypervisor.StopMode
	}
	// RemoveVM asks for OpDone.
	RemoveVM struct{ ID hypervisor.UUID }
	// ResumeVM asks for OpDone.
	ResumeVM struct{ ID hypervisor.UUID }
	// ClearAutostart asks for OpDone.
	ClearAutostart struct{ ID hypervisor.UUID }

	// MigrateVM asks for [Session.MigrateDone], whatever else happens to the VM
	// meanwhile.
	MigrateVM struct {
		ID     hypervisor.UUID
		Order  uint64
		URI    string
		Within time.Duration
	}
	// AbortMigration asks for [Session.AbortDone].
	AbortMigration struct{ ID hypervisor.UUID }

	// Persist asks for [Session.Persisted]: replace the ledger file atomically
	// and make it durable. One at a time. Neither side changes the ledger in it.
	Persist struct {
		Version uint64
		Ledger  Ledger
	}
	// SaveLease replaces the lease file. No answer, no fsync.
	SaveLease struct{ Held Held }

	// ArmWatchdog and DisarmWatchdog ask for [Session.WatchdogDone]. After
	// arming the machine is reset Bound after the last pet.
	ArmWatchdog    struct{ Bound time.Duration }
	DisarmWatchdog struct{}
	// PetWatchdog has no answer.
	PetWatchdog struct{}

	// Note is a line for the log.
	Note struct {
		Level   NoteLevel
		Message string
		Args    []any // key, value, …
	}
	// Exit ends the agent. Err says what the operator must know.
	Exit struct{ Err error }
)

// NoteLevel says for whom a note is.
type NoteLevel uint8

const (
	Debug NoteLevel = iota
	Info            // an event on a human scale
	Warn            // degraded
	Error           // an operator must act
)

func (Poll) action()           {}
func (ReadInventory) action()  {}
func (ReadHashes) action()     {}
func (Register) action()       {}
func (Report) action()         {}
func (PutSpecs) action()       {}
func (Leave) action()          {}
func (Probe) action()          {}
func (AskGuest) action()       {}
func (RunFence) action()       {}
func (StopFence) action()      {}
func (StartVM) action()        {}
func (StopVM) action()         {}
func (RemoveVM) action()       {}
func (ResumeVM) action()       {}
func (ClearAutostart) action() {}
func (MigrateVM) action()      {}
func (AbortMigration) action() {}
func (Persist) action()        {}
func (SaveLease) action()      {}
func (ArmWatchdog) action()    {}
func (DisarmWatchdog) action() {}
func (PetWatchdog) action()    {}
func (Note) action()           {}
func (Exit) action()           {}
