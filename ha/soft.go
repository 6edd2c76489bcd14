package ha

import (
	"time"

	"lifeboat/fsm"
)

// Now is a leader's two clocks. Log time is never used for leases or silence
// (S13).
type Now struct {
	Wall int64         // unix ns: timers that stand in the log
	Mono time.Duration // since the term began, on a monotonic clock
}

// Soft is what the leader of a term knows and the log does not. All durations
// are instants on Now.Mono.
type Soft struct {
	// Executor names this leadership, e.g. "n1 in term 7": a fence attempt of
	// another one may be in flight without us.
	Executor string
	// Machine is the host that shares this node's machine, if any: a leader
	// hands over before it fences that one (S10).
	Machine fsm.HostID
	// Since is when the leader began to listen without a gap: the term's start,
	// or later when its process was frozen in between. Silence before it is the
	// observer's, not the host's.
	Since time.Duration
	// Proven is when the newest canary of this term that has committed was
	// proposed; negative when none has (S14).
	Proven time.Duration
	Hosts  Contacts
	// Memo is for Decide to remember what it has counted; nil: it counts anew.
	Memo *Memo
	// Node is the one that leads.
	Node fsm.NodeID
	// Checks are those of fence levels in this term.
	Checks map[fsm.HostID]CheckRun

	exhaustive bool // tests compare with a look at every host for every VM
}

// Contact is what was heard of one host in this term.
type Contact struct {
	Epoch uint64 // the epoch that all below is about
	// Heard is when the last request of this epoch arrived; 0 = not in this term.
	Heard time.Duration
	// Knocked is when the host last asked to register, in whatever epoch; 0 =
	// not in this term. It bridges the moment between the commit of a new epoch
	// and the first request of it.
	Knocked time.Duration
	// Absorbed is when (unix ns, leader's clock) the newest report arrived whose
	// changes are all committed.
	Absorbed int64
	// Looked: every VM of the newest absorbed report was looked at after this
	// instant (unix ns, leader's clock). A report may be older than its arrival.
	Looked int64
	// Copies are the disks of the domains that run there and that another host
	// owns, as far as they have been read.
	Copies map[fsm.VMID]Domain
	// Coming are the VMs that were on their way there by live migration.
	Coming []fsm.VMID
	// Guests are the watched guests there of which there is something to say.
	Guests []Guest
	Check  *Investigation
	Fence  *FenceRun
}

// Domain is what is known of the disks of a running VM.
type Domain struct {
	Disks []fsm.Disk
	// Bound: some of what it needs is only on its host, so that a file on no
	// storage that is known as shared is of that host.
	Bound bool
	// Name and Hash, of its definition, tell it from another one.
	Name, Hash string
	// Work is the newest work of the VM since the opening of which the definition was
	// read again and found the same.
	Work fsm.WorkID
}

// Investigation is one round of asking around about a silent host.
type Investigation struct {
	Round    int
	Started  time.Duration
	Complete bool // everybody who was asked has answered, or given up
	Findings []Finding
}

// Finding is what one source said.
type Finding struct {
	Source  string
	Verdict fsm.Verdict
	Detail  string
}

// Verdict sums up the findings: seen alive beats read as dead, because a power
// reading can be of the wrong machine; nothing seen is unknown (S20).
func (i *Investigation) Verdict() fsm.Verdict {
	v := fsm.Unknown
	for _, f := range i.Findings {
		v = stronger(v, f.Verdict)
	}
	return v
}

func stronger(a, b fsm.Verdict) fsm.Verdict {
	switch {
	case a == fsm.Alive || b == fsm.Alive:
		return fsm.Alive
	case a == fsm.Dead || b == fsm.Dead:
		return fsm.Dead
	}
	return fsm.Unknown
}

// FenceRun is what became of a fence effect of this term.
type FenceRun struct {
	Attempt uint32
	Ended   time.Duration // 0 = still runs
	Proof   *Finding      // the power was read as off, twice (S9)
	Failure string
}
