package hypervisor

import (
	"context"
	"crypto/sha256"
	"time"
)

// Hypervisor is one host's hypervisor. See the package comment for what its
// errors mean and how long its methods may block.
type Hypervisor interface {
	// Inventory reads what the host has: capacity, storages, networks, machine
	// types and CPU models. A part that cannot be read is named in
	// Inventory.Problems and never makes the call fail; the call itself fails
	// only when the hypervisor cannot be reached at all. Slow: call it when an
	// agent registers and every few minutes, not every beat.
	Inventory(ctx context.Context) (Inventory, error)

	// Domains returns every domain, active and inactive, sorted by UUID,
	// together with transient domains that vanished recently (StateAbsent).
	// It is cheap and meant to be called every second.
	Domains(ctx context.Context) ([]Domain, error)

	// Definition returns the byte-exact XML from which the domain can be
	// started again: the inactive definition of a persistent domain, the
	// migratable one of a transient domain, both with their secrets (S23). With it
	// comes what an active domain runs with.
	// An unknown domain is ErrNotFound.
	Definition(ctx context.Context, id UUID) (Definition, error)

	// Start makes the domain run: define, create paused, Confirm, resume (S3).
	// When Confirm fails, the domain is destroyed and undefined again, this is
	// verified, and the returned error wraps Confirm's. A domain that is
	// already active is refused with ErrActive and left as it is.
	Start(ctx context.Context, req StartRequest) error

	// Stop asks the guest to shut down (StopShutdown; returns when asked) or
	// pulls its plug (StopDestroy; inactive, and verified so, on return). The
	// definition of a persistent domain stays. Stopping a domain that is off
	// already succeeds; an unknown one is ErrNotFound.
	Stop(ctx context.Context, id UUID, mode StopMode) error

	// Remove leaves nothing of the domain that could start again: it destroys
	// it when it is active, clears autostart, discards a managed save image and
	// undefines it, keeping its NVRAM. On success the domain has been verified
	// inactive and undefined (the tombstone of S4 and S8). A domain that is
	// absent already is a success. Its disks are not touched.
	Remove(ctx context.Context, id UUID) error

	// Watch says when to look again. Events carry no truth of their own, may be
	// coalesced and may be spurious. The channel is closed when the connection
	// is lost or ctx ends; after that look, and Watch again.
	Watch(ctx context.Context) (<-chan Event, error)

	// Close ends all connections and background work and waits for it. Domains
	// keep running.
	Close() error
}

// Adjuster is implemented by hypervisors that can correct a domain that
// exists already. Both drivers of this module implement it.
type Adjuster interface {
	// Resume lets a paused domain run again, for example when the storage came
	// back after an I/O error (S18). A running domain is a success; a domain
	// that is off is an *Error, an unknown one ErrNotFound.
	Resume(ctx context.Context, id UUID) error

	// ClearAutostart keeps the hypervisor from starting the domain by itself
	// when the host boots (S8). A domain that has no autostart, or that is
	// transient, is a success; an unknown one is ErrNotFound.
	ClearAutostart(ctx context.Context, id UUID) error
}

// Migrator is implemented by hypervisors that move a running domain to another
// one. Both drivers of this module implement it.
type Migrator interface {
	// Migrate moves a running domain live, and returns when that has ended: on
	// success it runs there, and is off here with ReasonMigrated. ErrUnknownOutcome:
	// it may be under way still. After every other error it runs here as before, and
	// no migration of it is under way. ErrNotFound: there is no such domain.
	Migrate(ctx context.Context, req MigrateRequest) error

	// AbortMigration ends a migration that is under way, whoever began it. It returns
	// nil when none is, of a domain that is unknown too; where the domain is then,
	// Domains says.
	AbortMigration(ctx context.Context, id UUID) error
}

// Asker is implemented by hypervisors that reach the agent inside a guest. Both drivers
// of this module implement it.
type Asker interface {
	// Ask returns nil when the guest's agent (qemu-guest-agent) answers. ErrSilent says
	// that it does not: it does not run, or the guest hangs. Every other error says
	// nothing about the guest: it may have no agent at all. It blocks for about five seconds at most.
	Ask(ctx context.Context, id UUID) error
}

// MigrateRequest is an order to migrate one domain.
type MigrateRequest struct {
	UUID UUID
	// URI is where the other hypervisor is, as that one's Inventory says.
	URI string
	// Within: it is aborted when it takes longer. Zero: a minute.
	Within time.Duration
}

// Definition is what a domain was or can be started from.
type Definition struct {
	UUID UUID
	XML  []byte // exactly as the hypervisor returned it; may hold secrets
	// Running is what an active domain really runs with, which somebody's edit or a
	// snapshot may have made another than XML; nil: it is not active. It holds no
	// secrets, and is not part of Hash.
	Running    []byte
	Hash       [32]byte // SHA-256 of XML
	Persistent bool     // false: the domain exists only while it runs
}

// NewDefinition fills in the hash.
func NewDefinition(id UUID, xml []byte, persistent bool) Definition {
	return Definition{UUID: id, XML: xml, Hash: sha256.Sum256(xml), Persistent: persistent}
}

// StartRequest is an order to start one domain.
type StartRequest struct {
	// UUID must be the UUID inside XML; anything else is refused.
	UUID UUID
	// XML is handed to the hypervisor byte for byte.
	XML []byte
	// Transient starts the domain without defining it, so that it vanishes
	// when it stops. The zero value defines it first.
	Transient bool
	// Confirm is called when the domain exists but its CPUs have not run a
	// single instruction. It is the last moment to say no: check the lease and
	// the order once more (S3). Nil means yes. It must honour its context.
	Confirm func(ctx context.Context) error
}

// StopMode says how a domain is stopped.
type StopMode uint8

const (
	// StopShutdown presses the ACPI power button; the guest may ignore it.
	StopShutdown StopMode = iota
	// StopDestroy ends the domain at once, as a power cut would.
	StopDestroy
)

func (m StopMode) String() string {
	switch m {
	case StopShutdown:
		return "shutdown"
	case StopDestroy:
		return "destroy"
	}
	return "unknown"
}

// Event says that something about a domain may have changed.
type Event struct {
	UUID UUID // the zero UUID: look at everything
}
