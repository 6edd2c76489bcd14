package fsm

// WorkType is the kind of HA work. Names are CloudStack's.
type WorkType uint8

const (
	WorkHA WorkType = iota + 1 // the VM is to run again
	WorkMigration
	WorkStop      // its guest is asked to shut down, and switched off when it does not
	WorkCheckStop // its host cannot be told: it is off once the host has said so, or is proven dead
	WorkForceStop // it is switched off at once
	WorkDestroy
	// WorkRelocation stops a VM and starts it on another host.
	WorkRelocation
)

func (t WorkType) String() string {
	return name(int(t), "", "HA", "Migration", "Stop", "CheckStop", "ForceStop", "Destroy", "Relocation")
}

// Stops reports whether the work is to switch a VM off.
func (t WorkType) Stops() bool { return t == WorkStop || t == WorkCheckStop || t == WorkForceStop }

// Starts reports whether the work may come to a start.
func (t WorkType) Starts() bool { return t == WorkHA || t == WorkRelocation }

// Moves reports whether the work is to bring a VM to another host.
func (t WorkType) Moves() bool { return t == WorkMigration || t == WorkRelocation }

// Step is how far an item of work has come.
//
//	Investigating → Scheduled ⇄ Restarting → Done
//	Fencing ────────↗   ↕ Stopping        ↘ Error
//
// Who moves it: reports of agents (Apply), HostDown and HostFenced, and the
// leader's Place, VMReleased and WorkUpdate.
type Step uint8

const (
	Scheduled     Step = iota + 1 // the VM is off or gone and waits for a host
	Investigating                 // nobody knows where it is (S18)
	Fencing                       // its host is not yet proven dead
	Stopping                      // an order to stop or to refuse stands
	Restarting                    // an order to start stands
	Migrating                     // an order to migrate stands
	Done
	Cancelled
	Error
)

func (s Step) String() string {
	return name(int(s), "", "Scheduled", "Investigating", "Fencing", "Stopping", "Restarting",
		"Migrating", "Done", "Cancelled", "Error")
}

// Ended reports whether the work is closed.
func (s Step) Ended() bool { return s >= Done }

// Cause is why work was opened.
type Cause uint8

const (
	CauseHostDown Cause = iota + 1
	CauseHostReboot
	CauseCrash
	CauseMissing
	CauseMigrated
	CauseSelfFenced
	CauseShutdown // of an "always" VM
	CauseOperator
	CauseHostShutdown
	CauseStorage // paused on an I/O error, and its host does not get the storage back
	// The causes of moves by the leader.
	CauseMaintenance // its host is to be empty
	CauseHostStops   // the operating system of its host goes down
	CauseFailback    // the host that it came from is back
	CauseRebalance   // its host carries more than others
	CauseRule        // it stood where a strict rule does not want it
	// The causes of restarts because a guest hangs.
	CauseGuestSilent // its agent has fallen silent
	CauseWatchdog    // its watchdog has fired
)

// Hang reports whether work is there because a guest hangs.
func (c Cause) Hang() bool { return c == CauseGuestSilent || c == CauseWatchdog }

func (c Cause) String() string {
	return name(int(c), "", "host down", "host rebooted", "crashed", "missing", "migrated away",
		"self-fenced", "shut down", "operator", "host shut down", "storage lost", "maintenance", "host is going down", "failback", "rebalancing", "strict rule",
		"guest agent silent", "guest watchdog fired")
}

// Tried counts the failed starts on one host.
type Tried struct {
	Host  HostID
	Count uint32
}

// Work is one item of HA work; at most one is open per VM. It ends only in a
// verified outcome.
type Work struct {
	ID          WorkID
	VM          VMID
	VMName      string
	Type        WorkType
	Step        Step
	Cause       Cause
	Attempt     uint32 // starts ordered
	Reason      string // what it waits for, or why the last attempt failed
	From        HostID // where the VM was
	Target      HostID
	Why         string // why Target
	Incarnation Incarnation
	Lost        int64 // unix ns when the VM was lost, as far as known
	Created     int64
	Updated     int64
	NotBefore   int64 // retry timer
	Ended       int64
	Outcome     string
	Tried       []Tried
	Gated       int64   // unix ns since when it waits for the VMs that it depends on; 0 = it does not
	Index       uint64  // of the last change
	Begun       EventID // the event that opened it; from level 4 on
}

// leaving reports whether a VM that is to be relocated is still being stopped, or
// given up, on its source.
func (w *Work) leaving() bool {
	return w.Type == WorkRelocation && w.Attempt == 0 && (w.Step == Stopping || w.Step == Fencing)
}

// TriedOn returns the failed starts on a host.
func (w *Work) TriedOn(h HostID) uint32 {
	for _, t := range w.Tried {
		if t.Host == h {
			return t.Count
		}
	}
	return 0
}
