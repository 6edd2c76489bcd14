package session

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"time"

	lifeboatv1 "lifeboat/api/lifeboat/v1"
	"lifeboat/hypervisor"
)

// Config is what the session knows from the start. All of it is constant.
type Config struct {
	HostID       string
	MachineID    string
	BootID       string
	Session      string // new for every start of the agent
	Version      string
	FeatureLevel uint32
	NodeID       string // the management node that shares this machine, if any
	HardwareID   string // the machine's own system UUID; empty: not known
	ProbeAddrs   []string
	Labels       []*lifeboatv1.Label
	Managers     []Manager // configured; the ledger may know more

	Watchdog lifeboatv1.WatchdogKind
	Bound    time.Duration // the watchdog resets the machine this long after the last pet

	PollEvery      time.Duration // 0: 1 s
	InventoryEvery time.Duration // 0: 60 s
	EmptyTimeout   time.Duration // how long a machine that goes down waits for its VMs to be moved away; 0: [EmptyTimeout]
	StopTimeout    time.Duration // how long a clean stop may take; 0: [StopTimeout]
	Seed           uint64        // of the jitter
}

// What a stop may take where the configuration does not say. A machine that goes down
// waits for both, one after the other: who stops the process must give it longer.
const (
	EmptyTimeout = 10 * time.Minute
	StopTimeout  = 30 * time.Second
)

// Saved is what earlier processes of the agent left behind.
type Saved struct {
	Ledger Ledger
	// LedgerErr: the ledger is there and cannot be read. Nothing is started
	// and nothing is written over it.
	LedgerErr error
	Held      Held // the zero value: there is none
}

// Intervals that are not policy.
const (
	defaultBeat    = time.Second
	minBeat        = 50 * time.Millisecond
	maxBeat        = 10 * time.Second
	pollTimeout    = 5 * time.Second
	invTimeout     = 10 * time.Second
	specTimeout    = 10 * time.Second
	retryOp        = time.Second // after an operation that failed
	retryHash      = 5 * time.Second
	retryInventory = 2 * time.Second  // after an inventory that could not be read, or not wholly
	retryWatch     = 10 * time.Second // after a watchdog that could not be armed
	quiet          = 5 * time.Second  // a call given up may still happen for this long
	hashEvery      = time.Minute
	hashBatch      = 8
	specBatch      = 16
	coalesce       = 20 * time.Millisecond // changes this close together share a report
	defaultEvery   = time.Second
)

// Session is the state machine. Make one with [New], then call [Session.Boot].
type Session struct {
	cfg Config
	rng *rand.Rand

	now  Instant
	tick uint64 // number of the input being handled; orders polls and operations
	out  []Action
	wake Instant

	ledger    Ledger // as it should be on disk
	saved     Ledger // as it is on disk
	dirty     bool   // ledger differs from what was last written or is being written
	saving    *Ledger
	saveNo    uint64
	saveRetry Instant
	ledgerErr error  // damaged: read only
	saveErr   string // last write failed

	vms  map[hypervisor.UUID]*vm
	list []*vm // the same, by id

	poll  pollState
	beats []*lifeboatv1.Storage // never changed in place
	inv   inventoryState
	specs specState
	conn  connState
	lease leaseState

	epoch    uint64 // 0: not registered
	assigned *lifeboatv1.Assignment

	hostStopping bool
	leaving      bool
	leaveBy      Instant
	machineStop  lifeboatv1.MachineStop
	leaveFrom    Instant // not before: a machine that goes down is heard first
	emptyBy      Instant // a machine that is to be empty first waits until then
	left         bool
	exited       bool
}

// vm is what the session knows of one VM in this process.
type vm struct {
	id   hypervisor.UUID
	name string
	// failed is what the last operation failed with; empty = it did not.
	failed string

	// Of the assignment.
	owned  *lifeboatv1.AssignedVM // nil: it is not this host's
	orders orders

	// Of the ledger: as it should be on disk, and as it is.
	entry, disk Entry

	// Of the last poll that says something about it: see observe.
	dom     hypervisor.Domain // StateAbsent when it was not listed
	listed  bool
	seen    bool    // there was such a poll
	obsTick uint64  // input in which it was begun
	obsAt   Instant // when it was begun
	obsSeq  uint64  // newest report that had been answered when it was begun
	bornAt  Instant // when the first poll in a row was begun that has seen it unborn
	held    uint64  // incarnation held on disk when it was begun (S5)
	stamp   uint64  // the same, of the poll that is under way

	wasActive bool   // seen active by this process since the last start was accepted
	came      bool   // by migration, seen by this process, and not known to the managers yet
	cameSeq   uint64 // the first report that says so; 0: none yet

	started bool // by us, and not seen by a poll since

	op     opKind // under way; none: no operation
	opEnd  uint64 // input in which the last one ended
	retry  Instant
	settle Instant // a call that was given up may still happen until then

	start    *lifeboatv1.Order // accepted, waits for the ledger to be on disk
	failure  string            // why the start of the incarnation failed
	existed  bool              // it was active before the start
	stuck    bool              // it exists and cannot be made to run
	late     bool              // a start was given up by this process; it may still happen
	removing uint64            // tombstone that the removal under way is for; 0: leftovers
	stopping stopState
	move     moveState
	guest    guestState

	hash    []byte
	hashDue Instant
}

type opKind uint8

const (
	opNone opKind = iota
	opStart
	opStop
	opRemove
	opResume
	opAutostart
)

type stopState struct {
	order    uint64
	asked    bool
	deadline Instant
}

// orders are those of the assignment for one VM that are valid in this epoch
// and boot.
type orders struct {
	start, stop, destroy, resume *lifeboatv1.Order
	migrate                      *lifeboatv1.Order
	startSeen                    bool // there is a start order, valid or not
}

// New makes a session; nothing happens before Boot.
func New(cfg Config, saved Saved) *Session {
	if cfg.PollEvery <= 0 {
		cfg.PollEvery = defaultEvery
	}
	if cfg.InventoryEvery <= 0 {
		cfg.InventoryEvery = time.Minute
	}
	if cfg.EmptyTimeout <= 0 {
		cfg.EmptyTimeout = EmptyTimeout
	}
	if cfg.StopTimeout <= 0 {
		cfg.StopTimeout = StopTimeout
	}
	s := &Session{
		cfg:       cfg,
		rng:       rand.New(rand.NewPCG(cfg.Seed, 0x6c69666562_6f6174)),
		ledger:    saved.Ledger.clone(),
		saved:     saved.Ledger.clone(),
		ledgerErr: saved.LedgerErr,
		vms:       map[hypervisor.UUID]*vm{},
	}
	if s.ledger.VMs == nil {
		s.ledger.VMs = map[hypervisor.UUID]Entry{}
	}
	s.lease.held = saved.Held
	return s
}

// Boot begins. It is the first input, once.
func (s *Session) Boot(now Instant) Out {
	s.begin(now)
	if s.ledger.Boot != s.cfg.BootID {
		s.newBoot()
	}
	for id, e := range s.ledger.VMs {
		v := s.vm(id)
		if e.Phase == PhaseStarting {
			// The process that sent it is gone, its last call may not be.
			v.settle = now.Add(quiet)
			v.failure = "the agent ended while the VM was being started"
		}
		if e.Moving != 0 && s.ledger.Boot == s.cfg.BootID {
			v.move = moveState{order: e.Moving, unknown: true, retry: now, failure: "the agent ended while the VM was being migrated"}
		}
	}
	for _, p := range s.ledger.Protected {
		s.vm(p.ID)
	}
	if s.ledgerErr != nil {
		s.note(Error, "the ledger cannot be read: no VM is started here until an operator has looked", "error", s.ledgerErr)
	}
	s.bootLease()
	s.conn.init(s)
	return s.step()
}

// newBoot takes over the ledger of an earlier boot. Orders of that boot are
// void (S4), so a tombstone with nothing behind it has done its work.
func (s *Session) newBoot() {
	s.ledger.Boot = s.cfg.BootID
	s.ledger.Synced = false
	s.ledger.Lease = LeaseMark{}
	for id, e := range s.ledger.VMs {
		if e.Phase != PhaseStarting && e.Refused >= e.Incarnation && e.Refused >= e.Refusing && e.Refused > 0 && !s.ledger.protects(id) {
			delete(s.ledger.VMs, id)
			delete(s.saved.VMs, id) // and nothing is said about it any more
		}
	}
	s.dirty = true
}

// Tick is the passing of time: call it when Out.Wake has come.
func (s *Session) Tick(now Instant) Out {
	s.begin(now)
	return s.step()
}

// Look says that something may have changed. id names the domain, if known;
// the zero UUID means any.
func (s *Session) Look(now Instant, id hypervisor.UUID) Out {
	s.begin(now)
	if v := s.vms[id]; v != nil {
		v.hashDue = min(v.hashDue, now)
	}
	s.poll.look = true
	return s.step()
}

// HostStopping says that the machine is shutting down: guests that end now do
// so because of that (S18).
func (s *Session) HostStopping(now Instant) Out {
	s.begin(now)
	s.hostStopping = true
	return s.step()
}

// Stop begins a clean stop (S16): starts end, the managers withdraw the lease,
// the watchdog is let go. machine: it goes down as a whole. Stop ends in an
// [Exit] action.
func (s *Session) Stop(now Instant, machine bool) Out {
	s.begin(now)
	s.hostStopping = s.hostStopping || machine
	if !s.leaving {
		s.leaving = true
		s.leaveBy = now.Add(s.cfg.StopTimeout)
		s.conn.retryAt = now
	}
	return s.step()
}

// GoesDown is Stop of a machine whose operating system goes down: for good, or for a
// reboot. When the state wants the host to be empty first, the end waits for that.
func (s *Session) GoesDown(now Instant, stop lifeboatv1.MachineStop) Out {
	if !s.leaving {
		s.machineStop = stop
		s.leaveFrom, s.emptyBy = max(s.now, now).Add(tellStop), max(s.now, now).Add(s.cfg.EmptyTimeout)
		s.conn.changed = true
	}
	return s.Stop(now, true)
}

// tellStop is how long a machine that goes down waits for an answer to that.
const tellStop = 2 * time.Second

// Persisted answers [Persist].
func (s *Session) Persisted(now Instant, version uint64, err error) Out {
	s.begin(now)
	if s.saving == nil || version != s.saveNo {
		return s.step()
	}
	if err != nil {
		if s.saveErr == "" {
			s.note(Error, "the ledger cannot be written: nothing is started here", "error", err)
		}
		s.saveErr = err.Error()
		s.dirty = true
		s.saveRetry = now.Add(retryOp)
	} else {
		s.saveErr = ""
		s.saved = *s.saving
		for _, v := range s.list {
			v.disk = s.saved.VMs[v.id]
		}
		s.conn.changed = true
	}
	s.saving = nil
	return s.step()
}

// begin starts the handling of an input. Time never goes back.
func (s *Session) begin(now Instant) {
	s.now = max(s.now, now)
	s.tick++
	s.out = nil
}

// step looks at everything.
func (s *Session) step() Out {
	s.wake = Never
	if !s.exited {
		s.stepLease()
		s.stepVMs()
		s.stepGuests()
		s.stepSave()
		s.stepPoll()
		s.stepInventory()
		s.stepSpecs()
		s.stepConnect()
		s.stepLeave()
		s.stepPet()
	}
	out := Out{Actions: s.out, Wake: s.wake}
	s.out = nil
	return out
}

func (s *Session) do(a Action) { s.out = append(s.out, a) }

func (s *Session) note(l NoteLevel, msg string, args ...any) {
	s.do(Note{Level: l, Message: msg, Args: args})
}

// due reports whether t has come, and asks to be woken then if not.
func (s *Session) due(t Instant) bool {
	if s.now >= t {
		return true
	}
	s.wake = min(s.wake, t)
	return false
}

// vm returns the VM, which it begins to know now if it must.
func (s *Session) vm(id hypervisor.UUID) *vm {
	v := s.vms[id]
	if v == nil {
		v = &vm{id: id, entry: s.ledger.VMs[id], disk: s.saved.VMs[id], hashDue: s.now, dom: hypervisor.Domain{UUID: id, State: hypervisor.StateAbsent}}
		s.vms[id] = v
		i, _ := s.find(id)
		s.list = slices.Insert(s.list, i, v)
	}
	return v
}

func (s *Session) forget(id hypervisor.UUID) {
	delete(s.vms, id)
	if i, ok := s.find(id); ok {
		s.list = slices.Delete(s.list, i, i+1)
	}
}

func (s *Session) find(id hypervisor.UUID) (i int, ok bool) {
	return slices.BinarySearchFunc(s.list, id, func(v *vm, id hypervisor.UUID) int { return v.id.Compare(id) })
}

// set changes the ledger's entry for a VM.
func (s *Session) set(v *vm, e Entry) {
	if v.entry != e {
		v.entry = e
		s.ledger.VMs[v.id] = e
		s.dirty = true
	}
}

// onDisk reports whether the VM's entry is as safe as it can be.
func (s *Session) onDisk(v *vm) bool { return s.ledgerErr == nil && v.disk == v.entry }

func (s *Session) stepSave() {
	if !s.dirty || s.saving != nil || s.ledgerErr != nil || !s.due(s.saveRetry) {
		return
	}
	s.dirty = false
	s.saveNo++
	l := s.ledger.clone()
	s.saving = &l
	s.do(Persist{Version: s.saveNo, Ledger: l})
}

// problems are what the managers should know of this host's own troubles.
func (s *Session) problems() []*lifeboatv1.Problem {
	var ps []*lifeboatv1.Problem
	add := func(part, format string, args ...any) {
		ps = append(ps, &lifeboatv1.Problem{Part: part, Message: fmt.Sprintf(format, args...)})
	}
	if s.ledgerErr != nil {
		add("ledger", "%v. No VM is started on this host. Look at the file, then move it away and restart the agent", s.ledgerErr)
	}
	if s.saveErr != "" {
		add("ledger", "cannot be written: %s. No VM is started on this host until it can", s.saveErr)
	}
	if s.poll.failures > 0 {
		add("hypervisor", "domains cannot be read: %s", s.poll.failure)
	}
	if s.inv.failure != "" {
		add("inventory", "cannot be read: %s", s.inv.failure)
	}
	if s.lease.failure != "" {
		add("watchdog", "%s", s.lease.failure)
	}
	if s.inv.last != nil {
		ps = append(ps, s.inv.last.Problems...)
	}
	return ps
}
