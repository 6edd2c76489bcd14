package mem

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"lifeboat/hypervisor"
	"lifeboat/hypervisor/domxml"
)

// Options describe a host. The zero value is a usable host without a name.
type Options struct {
	Name        string
	CPUs        int    // 0: 64
	MemoryBytes uint64 // 0: 256 GiB
	// Storages are mounted at their directories. A host with none does not
	// check disks; a host with some refuses to start what lies elsewhere.
	Storages []*Storage
	// Networks the host has; nil: it does not check.
	Networks  []hypervisor.Network
	Machines  []string // nil: pc, q35
	CPUModels []string // nil: qemu64
	// Peer finds the host that a MigrateURI names; nil: there is none.
	Peer        func(uri string) *Host
	MigrateTime time.Duration // how long a migration takes
	StartDelay  time.Duration // how long creating a domain takes
	ShutdownIn  time.Duration // how long guests take to obey the power button; 0: 1 s, negative: they ignore it
	CallTimeout time.Duration // limit of one call; 0: 5 s for questions, 30 s for orders
	AbsentFor   time.Duration // how long a vanished transient domain is reported; 0: 10 min
	// OnEvent is the journal: it is called for every start and stop, in order,
	// while the host is locked. It must not call the host.
	OnEvent func(JournalEntry)
}

// JournalEntry is one thing that really happened to a domain on a host.
type JournalEntry struct {
	Time   time.Time         `json:"time"`
	Host   string            `json:"host"`
	UUID   hypervisor.UUID   `json:"uuid"`
	Name   string            `json:"name"`
	Kind   JournalKind       `json:"kind"`
	Reason hypervisor.Reason `json:"-"` // Text says it
	Text   string            `json:"text"`
}

// JournalKind says what happened.
type JournalKind string

const (
	Started JournalKind = "started" // its CPUs ran for the first time, or it arrived by migration
	Stopped JournalKind = "stopped" // it is not active any more
	Refused JournalKind = "refused" // a start was refused or failed
)

// Host is one hypervisor. It implements hypervisor.Hypervisor and
// hypervisor.Adjuster; its other methods are the world around it: faults,
// guests and people with their own tools.
type Host struct {
	name        string
	opts        Options
	networks    []hypervisor.Network
	machines    []string
	cpuModels   []string
	readLimit   time.Duration
	orderLimit  time.Duration
	absentFor   time.Duration
	shutdownIn  time.Duration
	feed        hypervisor.Feed
	mu          sync.Mutex
	mounts      []*mount
	domains     map[hypervisor.UUID]*vm
	gone        map[hypervisor.UUID]gone
	startFaults map[hypervisor.UUID]*startFault
	agents      map[hypervisor.UUID]bool // guests whose agent answers
	down        bool                     // no daemon to talk to, or no power
	closed      bool                     // by Close
	boot        int                      // counts power losses; a call does not survive one
	thaw        chan struct{}            // not nil: the daemon is frozen until it is closed
	queued      []func()                 // calls that were given up but will still happen
	broken      error                    // what Domains answers instead
	timers      []*time.Timer
}

type vm struct {
	needs       domxml.Needs
	xml         []byte // what it runs from, or would
	next        []byte // what it would be started from next, edited while it runs; nil: xml
	persistent  bool
	autostart   bool
	managedSave bool
	leaving     context.CancelCauseFunc // of the migration that takes it away; nil: none
	coming      bool                    // it is what a migration to this host goes into
	deaf        bool                    // ignores the power button
	ran         bool                    // its CPUs have run since it was created
	state       hypervisor.State
	reason      hypervisor.Reason
	reboots     uint32 // of its guest, from inside
	fired       uint32 // its guest's watchdog
}

type gone struct {
	domain hypervisor.Domain
	until  time.Time
}

type startFault struct {
	left int
	err  error
}

// NewHost switches a host on.
func NewHost(o Options) *Host {
	h := &Host{
		name: o.Name, opts: o, networks: o.Networks, machines: o.Machines, cpuModels: o.CPUModels,
		readLimit: o.CallTimeout, orderLimit: o.CallTimeout, absentFor: o.AbsentFor, shutdownIn: o.ShutdownIn,
		domains: make(map[hypervisor.UUID]*vm), gone: make(map[hypervisor.UUID]gone), startFaults: make(map[hypervisor.UUID]*startFault), agents: make(map[hypervisor.UUID]bool),
	}
	for _, s := range o.Storages {
		h.mounts = append(h.mounts, &mount{Storage: s})
	}
	if h.machines == nil {
		h.machines = []string{"pc", "q35"}
	}
	if h.cpuModels == nil {
		h.cpuModels = []string{"qemu64"}
	}
	if o.CallTimeout == 0 {
		h.readLimit, h.orderLimit = 5*time.Second, 30*time.Second
	}
	if o.AbsentFor == 0 {
		h.absentFor = 10 * time.Minute
	}
	if o.ShutdownIn == 0 {
		h.shutdownIn = time.Second
	}
	return h
}

// Name returns the name given in Options.
func (h *Host) Name() string { return h.name }

// errBusy is why a call ended that libvirt would not have answered in time.
var errNoAnswer = errors.New("no answer in time")

// call is one question or step of an order, as it goes over the wire: it takes
// delay, does not happen while the daemon is frozen, and happens nevertheless
// when the caller has lost patience. do runs with the host locked.
func (h *Host) call(ctx context.Context, limit, delay time.Duration, do func() error) error {
	ctx, cancel := context.WithTimeoutCause(ctx, limit, errNoAnswer)
	defer cancel()
	if err := ctx.Err(); err != nil {
		return fmt.Errorf("%w: %w", hypervisor.ErrUnavailable, err)
	}
	h.mu.Lock()
	if h.down || h.closed {
		h.mu.Unlock()
		return hypervisor.ErrUnavailable
	}
	boot, thaw := h.boot, h.thaw
	h.mu.Unlock()

	late := func() { // with the host locked
		if h.boot == boot && !h.closed {
			_ = do()
		}
	}
	if thaw != nil {
		select {
		case <-thaw:
		case <-ctx.Done():
			h.mu.Lock()
			defer h.mu.Unlock()
			if h.thaw == thaw {
				h.queued = append(h.queued, late)
			}
			return fmt.Errorf("%w: %w", hypervisor.ErrUnknownOutcome, context.Cause(ctx))
		}
	}
	if delay > 0 {
		begin := time.Now()
		t := time.NewTimer(delay)
		defer t.Stop()
		select {
		case <-t.C:
		case <-ctx.Done():
			h.mu.Lock()
			defer h.mu.Unlock()
			h.after(delay-time.Since(begin), late)
			return fmt.Errorf("%w: %w", hypervisor.ErrUnknownOutcome, context.Cause(ctx))
		}
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.boot != boot || h.down || h.closed {
		return fmt.Errorf("%w: the connection was lost", hypervisor.ErrUnknownOutcome)
	}
	return do()
}

// ask is a call that changes nothing, so that its outcome is never unknown.
func (h *Host) ask(ctx context.Context, do func() error) error {
	err := h.call(ctx, h.readLimit, 0, do)
	if errors.Is(err, hypervisor.ErrUnknownOutcome) {
		return fmt.Errorf("%w: %w", hypervisor.ErrUnavailable, context.Cause(ctx))
	}
	return err
}

// after runs do with the host locked in d, unless the power goes or the host
// is closed before.
func (h *Host) after(d time.Duration, do func()) {
	boot := h.boot
	h.timers = append(h.timers, time.AfterFunc(d, func() {
		h.mu.Lock()
		defer h.mu.Unlock()
		if h.boot == boot && !h.closed {
			do()
		}
	}))
}

func (h *Host) journal(v *vm, kind JournalKind, reason hypervisor.Reason, text string) {
	if h.opts.OnEvent != nil {
		h.opts.OnEvent(JournalEntry{
			Time: time.Now(), Host: h.name, UUID: v.needs.UUID, Name: v.needs.Name, Kind: kind, Reason: reason, Text: text,
		})
	}
}

func (h *Host) changed(v *vm) { h.feed.Publish(hypervisor.Event{UUID: v.needs.UUID}) }

func (h *Host) set(v *vm, s hypervisor.State, r hypervisor.Reason) {
	v.state, v.reason = s, r
	h.changed(v)
}

// end makes an active domain inactive.
func (h *Host) end(v *vm, r hypervisor.Reason) {
	h.closeDisks(v)
	h.journal(v, Stopped, r, r.String())
	v.ran, v.coming = false, false
	if v.next != nil {
		if n, err := domxml.Parse(v.next); err == nil {
			defer func() { v.needs, v.xml, v.next = n, v.next, nil }()
		}
	}
	if !v.persistent {
		delete(h.domains, v.needs.UUID)
		d := v.domain()
		d.State, d.Reason = hypervisor.StateAbsent, r
		h.gone[v.needs.UUID] = gone{d, time.Now().Add(h.absentFor)}
	}
	h.set(v, hypervisor.StateOff, r)
}

// run lets the CPUs of a paused domain run.
func (h *Host) run(v *vm, r hypervisor.Reason) error {
	if err := h.openDisks(v); err != nil {
		return err
	}
	if !v.ran {
		v.ran = true
		h.journal(v, Started, r, r.String())
	}
	h.set(v, hypervisor.StateRunning, r)
	return nil
}

func (v *vm) domain() hypervisor.Domain {
	return hypervisor.Domain{
		UUID: v.needs.UUID, Name: v.needs.Name, State: v.state, Reason: v.reason,
		Persistent: v.persistent, Autostart: v.autostart, ManagedSave: v.managedSave,
		Reboots: v.reboots, Fired: v.fired,
	}
}

// find returns a domain; the host is locked.
func (h *Host) find(id hypervisor.UUID) (*vm, error) {
	if v, ok := h.domains[id]; ok {
		return v, nil
	}
	return nil, hypervisor.ErrNotFound
}

func (h *Host) sorted() []*vm {
	vs := make([]*vm, 0, len(h.domains))
	for _, v := range h.domains {
		vs = append(vs, v)
	}
	slices.SortFunc(vs, func(a, b *vm) int { return a.needs.UUID.Compare(b.needs.UUID) })
	return vs
}
