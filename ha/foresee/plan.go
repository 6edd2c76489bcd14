package foresee

import (
	"time"

	"lifeboat/fsm"
	"lifeboat/ha"
)

// Assumed are the times that nobody knows beforehand. The zero value takes the
// defaults.
type Assumed struct {
	Start time.Duration // from a start order until the VM is seen running; 0 = DefaultStart
	Stop  time.Duration // of a VM that is to be started elsewhere; 0 = DefaultStop
	Move  time.Duration // live; 0 = as long as the last ones took

	decide func(*fsm.State, *ha.Soft, ha.Now) ha.Plan // nil = ha.Decide
}

const (
	// DefaultStart is how long a start is taken to last.
	DefaultStart = 5 * time.Second
	// DefaultStop is how long a guest is taken to need to shut down.
	DefaultStop = 10 * time.Second
)

func (a Assumed) filled(s *fsm.State) Assumed {
	if a.decide == nil {
		a.decide = ha.Decide
	}
	if a.Start <= 0 {
		a.Start = DefaultStart
	}
	if a.Stop <= 0 {
		a.Stop = DefaultStop
	}
	if a.Move <= 0 {
		a.Move = ha.MoveTime(s)
	}
	return a
}

// How a VM gets to its host.
const (
	Starts    = "start"    // it is started again
	Migrates  = "migrate"  // live
	Relocates = "relocate" // it is stopped, and started there
)

// Step is one VM that gets a host.
type Step struct {
	VM   fsm.VMID
	Name string
	Tier fsm.Priority
	From fsm.HostID
	To   fsm.HostID
	How  string
	At   time.Duration // when it is ordered, since the beginning
	Done time.Duration // when it runs there; 0 = not within the plan
	Why  string        // that host
}

// Stay is a VM that gets none.
type Stay struct {
	VM   fsm.VMID
	Name string
	Tier fsm.Priority
	From fsm.HostID
	Why  string // the rule, the resource or whatever else stops it
}

// Plan is what would happen.
type Plan struct {
	Hosts []fsm.HostID // that fail or are to be empty
	// Steps are in the order in which they are ordered.
	Steps   []Step
	Stays   []Stay   // in the order of hosts and VMs
	Notes   []string // sentences
	Assumed Assumed  // with defaults filled in
	Took    time.Duration
	// Unprotected VMs run on the hosts that fail, and nobody starts them again.
	Unprotected int
}
