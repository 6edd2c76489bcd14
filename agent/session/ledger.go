package session

import (
	"maps"
	"slices"
	"time"

	lifeboatv1 "lifeboat/api/lifeboat/v1"
	"lifeboat/hypervisor"
)

// Instant is a point in time of one boot of the machine: CLOCK_BOOTTIME. It
// means nothing after a reboot.
type Instant time.Duration

// Add returns the instant d later.
func (t Instant) Add(d time.Duration) Instant { return t + Instant(d) }

// Sub returns the time from u to t.
func (t Instant) Sub(u Instant) time.Duration { return time.Duration(t - u) }

// Never is later than every instant that occurs.
const Never = Instant(1<<63 - 1)

// Phase is what became of the incarnation in an [Entry].
type Phase string

const (
	PhaseOwned    Phase = "owned"    // held, no start of it was tried and it has not been seen active
	PhaseStarting Phase = "starting" // handed to the hypervisor, or about to be; outcome not known
	PhaseRunning  Phase = "running"  // was active when last seen
	PhaseEnded    Phase = "ended"    // was active, or could not be started; is not any more
)

// Entry is what the agent holds about one VM. Entries are values and
// comparable: an entry is on disk when the saved one is equal.
type Entry struct {
	Incarnation uint64 `json:"incarnation,omitempty"` // highest ever held (S3)
	Phase       Phase  `json:"phase,omitempty"`       // of Incarnation
	Boot        string `json:"boot,omitempty"`        // boot id in which Phase became what it is

	// Refusing: incarnations up to this are not started any more. Refused: and
	// the domain was verified inactive and undefined (the tombstone of S4).
	Refusing uint64 `json:"refusing,omitempty"`
	Refused  uint64 `json:"refused,omitempty"`

	// Failed could not be started, was verified inactive and is never tried
	// again here.
	Failed  uint64 `json:"failed,omitempty"`
	Failure string `json:"failure,omitempty"`

	// Ended says why it is off, while Phase is ended or owned.
	Ended lifeboatv1.PowerReason `json:"ended,omitempty"`
	// Fenced and Stopping: we pull its plug, so its end is ours to explain.
	Fenced   bool `json:"fenced,omitempty"`
	Stopping bool `json:"stopping,omitempty"`
	// Moving is the order to migrate that was, or is about to be, handed to the
	// hypervisor.
	Moving uint64 `json:"moving,omitempty"`
}

// barred is the highest incarnation that must never be started here any more.
func (e Entry) barred() uint64 { return max(e.Refusing, e.Refused, e.Failed) }

// Protected is a protected VM that this host owned by the last assignment.
type Protected struct {
	ID          hypervisor.UUID `json:"id"`
	Incarnation uint64          `json:"incarnation"`
	Wanted      bool            `json:"wanted,omitempty"`
}

// Manager is a management node that answered once, or was configured (then ID
// is empty).
type Manager struct {
	ID   string `json:"id,omitempty"`
	Addr string `json:"addr"`
}

// LeaseMark says that a lease was armed, or was being armed, in a boot. It is
// on disk before the watchdog is touched.
type LeaseMark struct {
	Armed    bool          `json:"armed,omitempty"`
	Boot     string        `json:"boot,omitempty"`
	Duration time.Duration `json:"duration_ns,omitempty"`
}

// Ledger is all that the agent must remember across its own crash and a crash
// of the machine. It is small and written whole.
type Ledger struct {
	Boot    string    `json:"boot,omitempty"`     // boot id of the writer
	Synced  bool      `json:"synced,omitempty"`   // an assignment was received in Boot
	Term    uint64    `json:"term,omitempty"`     // highest leader term seen (S14)
	HAArmed bool      `json:"ha_armed,omitempty"` // of the last assignment
	Lease   LeaseMark `json:"lease,omitzero"`

	Managers  []Manager                 `json:"managers,omitempty"` // last good list
	Protected []Protected               `json:"protected,omitempty"`
	VMs       map[hypervisor.UUID]Entry `json:"vms,omitempty"`
}

// clone shares nothing with l that is ever changed in place.
func (l Ledger) clone() Ledger {
	l.VMs = maps.Clone(l.VMs)
	return l // the slices are replaced, never changed
}

// protects reports whether the last assignment protects the VM here.
func (l Ledger) protects(id hypervisor.UUID) bool {
	return slices.ContainsFunc(l.Protected, func(p Protected) bool { return p.ID == id })
}

// Held is the lease as the previous process of the agent left it. It is written
// at each renewal to a place that a reboot wipes, and needs no fsync: after a
// crash of the machine it has no meaning.
type Held struct {
	Boot  string  `json:"boot"`
	Armed bool    `json:"armed"`
	Until Instant `json:"until_ns"` // CLOCK_BOOTTIME; protected VMs do not run after it
}

// Valid reports whether a protected VM may be started at now in this boot, as
// far as the lease is concerned.
func (h Held) Valid(boot string, now Instant) bool {
	return h.Boot == boot && (!h.Armed || now < h.Until)
}
