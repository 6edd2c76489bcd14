package incident

import (
	"time"

	"lifeboat/fsm"
)

// Incident is one failure and what was done about it. Times are unix ns of the log.
type Incident struct {
	ID    fsm.EventID // of the event that began it
	Index uint64      // of the log, of that event
	Host  fsm.HostID  // that failed; "" = VMs were lost and their host lives
	About string      // "host h1", "vm web", "3 VMs of host h1"
	What  string      // in a few words: what became of it

	Begun   int64 // the last sign of life as far as it is known, else when it was noticed
	Noticed int64
	Ended   int64 // of the last thing that was done about it; 0 = it goes on
	Proof   string

	Steps  []Took // the longest of each kind, in the order in which they follow each other
	VMs    []VM   // that had to be started again, in the order in which their work was opened
	Events []*fsm.Event
	Alerts []*fsm.AlertRecord

	hosted   bool  // what follows is about a host
	suspect  int64 // when it became suspect, was taken to be down, and was proven dead
	down     int64
	downAt   uint64 // index
	proven   int64
	over     int64 // when it was back, or not looked at any more
	degraded bool
	rebooted bool
}

// Phase is what a VM waited for.
type Phase uint8

// The phases in the order in which they follow each other.
const (
	Detection Phase = iota // nobody had noticed yet
	Evidence               // others were asked whether the host lives
	Proof                  // the host had to be proven dead
	Search                 // every host was asked where the VM is
	Placement              // a host was looked for: budgets, gates, room, the pause after a failed start
	Release                // a host was told to give the VM up
	Start                  // a start was ordered and ran
	phases
)

func (p Phase) String() string {
	return [...]string{"detection", "evidence", "proof of death", "search", "placement", "giving up", "start"}[p]
}

// Took is how long a phase took.
type Took struct {
	Phase Phase
	For   time.Duration
	VM    string // whose it was; "" = the host's, and the same for all its VMs
	Open  bool   // it goes on
}

// Slowest is the longest step; false when none took any time.
func (i *Incident) Slowest() (t Took, ok bool) {
	for _, x := range i.Steps {
		if x.For > t.For {
			t, ok = x, true
		}
	}
	return t, ok
}

// Down is how long the VM that was down longest was; false when none was.
func (i *Incident) Down() (v *VM, ok bool) {
	for k := range i.VMs {
		if x := &i.VMs[k]; x.Down > 0 && (v == nil || x.Down > v.Down) {
			v, ok = x, true
		}
	}
	return v, ok
}

// VM is what a failure meant for one VM.
type VM struct {
	ID      fsm.VMID
	Name    string
	Work    fsm.WorkID
	Cause   fsm.Cause
	Step    fsm.Step // of the work
	From    fsm.HostID
	Target  fsm.HostID
	Starts  uint32 // that were ordered
	Lost    int64
	Back    int64 // runs again; 0 = not yet, or it was never started again
	Down    time.Duration
	Open    bool // it is down still: Down grows
	Spans   []Span
	Waits   []string // what it waited for, as it was said at the time
	Outcome string
}

// Span is a time in which a VM waited for one thing.
type Span struct {
	Phase    Phase
	From, To int64 // unix ns
	Open     bool  // To is the time of the state
}

// Slowest is the phase that took longest in all; false when none took any time.
func (v *VM) Slowest() (t Took, ok bool) {
	for p, d := range total(v.Spans) {
		if d > t.For {
			t, ok = Took{Phase: Phase(p), For: d, VM: v.Name}, true
		}
	}
	return t, ok
}

func total(spans []Span) (sum [phases]time.Duration) {
	for _, x := range spans {
		sum[x.Phase] += time.Duration(x.To - x.From)
	}
	return sum
}

// ErrUnknown says why there is no incident of a number, and what to do.
type ErrUnknown struct{ Text string }

func (e *ErrUnknown) Error() string { return e.Text }
