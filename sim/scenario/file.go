package scenario

import (
	"time"

	"lifeboat/fsm"
)

// File is a scenario with every default filled in.
type File struct {
	Path       string
	Name       string
	Settings   []fsm.Setting
	Managers   []string
	ManagersOn map[string]string // manager → host whose machine it shares
	World      Timing
	Hosts      []Host // in natural order
	VMs        []VM   // in natural order
	Rules      []Rule
	Steps      []Step
	Until      time.Duration // after the last step
	Expect     Expect
}

// Timing is how long things take in the world.
type Timing struct {
	Start     time.Duration // of a VM
	Stop      time.Duration // clean, of a VM
	Migration time.Duration
	BMC       time.Duration // one action
	Boot      time.Duration // of a host
}

// DefaultTiming is that of a file without `world:`.
func DefaultTiming() Timing {
	return Timing{Start: 2 * time.Second, Stop: 5 * time.Second, Migration: 10 * time.Second, BMC: time.Second, Boot: time.Minute}
}

// Fence levels and kinds of watchdog, as files name them.
const (
	BMC          = "bmc"
	Lease        = "lease"
	WatchdogHard = "hardware"
	WatchdogSoft = "soft"
	WatchdogNone = "none"
)

// Host is one machine that runs VMs.
type Host struct {
	Name     string
	CPUs     int
	Memory   uint64 // bytes
	Labels   []fsm.Label
	Fence    []string // levels in order
	Watchdog string
	// Heartbeat: its agent shows in the shared storage that it lives.
	Heartbeat bool
}

// DefaultHost is a host nothing is said about.
func DefaultHost(name string) Host {
	return Host{Name: name, CPUs: 64, Memory: 256 << 30, Fence: []string{BMC, Lease}, Watchdog: WatchdogHard}
}

// VM is one virtual machine.
type VM struct {
	Name        string
	Host        string
	Off         bool // state: stopped; wanted off as well
	CPUs        int
	Memory      uint64 // bytes
	Priority    string
	HA          string // restart, always, none
	MaxRestart  int
	MaxRelocate int
	Local       bool // its disk is on its host only
	DependsOn   []string
	Gate        string        // order, running or a time; "" = the default
	GateTimeout time.Duration // 0 = the default
	GuestAgent  time.Duration // its guest's agent answers so long after a start; 0 = it has none
	// How its guest is watched; empty and 0 = the defaults.
	GuestHealth              string
	GuestTimeout, GuestGrace time.Duration
	// GuestWatchdog is what the hypervisor does when the guest's watchdog fires: none,
	// pause or reset; "" = the guest has none.
	GuestWatchdog string

	Stays  bool // failback: false
	NoLive bool // live_migration: false
	Faults Faults
}

// DefaultVM is a VM of which only the host is known.
func DefaultVM(name, host string) VM {
	return VM{Name: name, Host: host, CPUs: 2, Memory: 4 << 30, Priority: "medium", HA: "restart", MaxRestart: 1, MaxRelocate: 1}
}

// Always is a fault that never ends.
const Always = -1

// Faults are what goes wrong with one VM.
type Faults struct {
	Start int // the first so many starts fail
	Stop  int // the first so many stops fail
	// Migrate: the first so many live migrations fail.
	Migrate int
	Host    string // only there; empty: anywhere
}

// Step is what happens at one moment.
type Step struct {
	After    time.Duration // the step before
	Commands []Command
}

// Command is one thing that happens.
type Command struct {
	Form string   // what the table of commands calls it, e.g. "vm kill"
	Args []string // its names and values in order, without the words of Form
	Text string   // as written, one blank between words
	Rule *Rule    // of `rule add`
	Line int
}

// Expect is the expected outcome. What is left out is not checked.
type Expect struct {
	VMs         []VMExpect
	Fenced      *Names
	Alerts      []Count // TYPE/subject
	AlertsExact bool
	AlertsLine  int
	Work        []Count // done, error, cancelled, open
	Order       []Names
	Hosts       []Count // running VMs
	Refused     *Refusals
}

// Refusals are the commands that are refused, in the order in which they are.
type Refusals struct {
	Line int
	All  []Refusal
}

// Refusal is a command, as written, that is refused.
type Refusal struct {
	Line int
	Text string
	Why  string // part of the reason; empty: whatever it is
}

// Names is a list somewhere in the file.
type Names struct {
	Line  int
	Names []string
}

// Count is a number, or one of several, expected of something.
type Count struct {
	Line int
	Of   string
	Any  []int
}

// VMExpect is what is expected of one VM. Empty lists are not checked.
type VMExpect struct {
	Line         int
	Name         string
	Host         []string
	State        []string
	Starts       []int
	Moves        []int
	Incarnations []int
	Within       time.Duration // 0: not checked
}
