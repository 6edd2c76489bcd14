package fsm

import (
	"encoding/binary"
	"fmt"
	"slices"
	"time"

	"lifeboat/fsm/logpb"
)

// GuestWatch is how the guest of a VM is watched: a set of bits. The numbers are
// those of the log.
type GuestWatch uint8

const (
	WatchPing     GuestWatch = 1 << iota // its agent, once it has answered, goes on answering
	WatchWatchdog                        // its watchdog does not fire
	watchNothing  GuestWatch = 0
	watchBoth                = WatchPing | WatchWatchdog
)

func (w GuestWatch) String() string { return name(int(w), guestWatches()...) }

// guestWatches are the words operators use, by number.
func guestWatches() []string { return []string{"none", "ping", "watchdog", "both"} }

// GuestHealth is how the guest of a VM is watched. Nobody watches one that says nothing.
type GuestHealth struct {
	Watch GuestWatch
	// Timeout: its agent is silent for so long before the guest counts as hung.
	Timeout time.Duration
	Grace   time.Duration // after a start its agent may be silent for so long
}

// How long is waited where a VM says nothing else.
const (
	DefaultGuestTimeout = time.Minute
	DefaultGuestGrace   = 2 * time.Minute
	minGuestTimeout     = 15 * time.Second // some pings
	maxGuestTime        = 24 * time.Hour
)

// Guest is how the VM's guest is watched, with defaults filled in.
func (v *VM) Guest() GuestHealth {
	g := GuestHealth{}
	if v.Policy != nil && v.Policy.Guest != nil {
		g = *v.Policy.Guest
	}
	if g.Timeout == 0 {
		g.Timeout = DefaultGuestTimeout
	}
	if g.Grace == 0 {
		g.Grace = DefaultGuestGrace
	}
	return g
}

// watched is the guest health to be changed.
func (e *vmEdit) watched() *GuestHealth {
	if e.guest == nil {
		e.guest = &GuestHealth{}
		if p := e.vm.Policy; p != nil && p.Guest != nil {
			*e.guest = *p.Guest
		}
	}
	return e.guest
}

func (e *vmEdit) guestHealth(value string) string {
	i := slices.Index(guestWatches(), value)
	if i < 0 {
		return fmt.Sprintf("guest_health: %q must be none, ping, watchdog or both", value)
	}
	e.watched().Watch = GuestWatch(i)
	return ""
}

func (e *vmEdit) guestTime(key, value string, least time.Duration, to *time.Duration) string {
	d, err := time.ParseDuration(value)
	if err != nil || d < least || d > maxGuestTime {
		return fmt.Sprintf("%s: %q must be a time between %s and %s", key, value, least, maxGuestTime)
	}
	*to = d
	return ""
}

func guestToLog(p *VMPolicy) *logpb.GuestHealth {
	if p == nil || p.Guest == nil {
		return nil
	}
	g := p.Guest
	return &logpb.GuestHealth{Watch: uint32(g.Watch), TimeoutNs: int64(g.Timeout), GraceNs: int64(g.Grace)}
}

// guestFromLog gives a policy the guest health of a snapshot.
func guestFromLog(p *VMPolicy, g *logpb.GuestHealth) *VMPolicy {
	if g == nil {
		return p
	}
	n := defaultVMPolicy()
	if p != nil {
		n = *p
	}
	n.Guest = &GuestHealth{Watch: GuestWatch(g.Watch) & watchBoth, Timeout: time.Duration(g.TimeoutNs), Grace: time.Duration(g.GraceNs)}
	return &n
}

func (g *GuestHealth) append(b []byte) []byte {
	b = append(b, byte(g.Watch))
	b = binary.LittleEndian.AppendUint64(b, uint64(g.Timeout))
	return binary.LittleEndian.AppendUint64(b, uint64(g.Grace))
}

// guestAlert is about a guest that hangs and is left as it is.
func guestAlert(v *VM) AlertKey { return VMAlert(v, GuestHangs) }

// GuestHangs is the cause of an alert about a VM whose guest hangs and that is not
// restarted.
const GuestHangs = "guest"

// GuestAlert is the open alert that a VM's guest hangs and is left as it is; nil: there
// is none.
func (s *State) GuestAlert(v *VM) *AlertRecord { return s.OpenAlert(guestAlert(v)) }

// ActsOnGuest reports whether a VM that runs may be restarted because its guest hangs:
// nobody is at work on it, and nobody wants it or its host otherwise.
func (s *State) ActsOnGuest(v *VM, h *Host) bool {
	switch {
	case !s.Armed || !v.Protected() || !v.Wanted || v.Work != 0 || v.Power != PowerOn:
		return false
	case v.Reason == ReasonUserPaused || v.Reason == ReasonIOError || v.Reason == ReasonMigratingIn:
		return false // S18: paused by a user is untouched, and storage is another matter
	case h.Status != Up || h.Resource != Enabled || h.Stopping != StaysUp:
		return false
	case slices.ContainsFunc(h.Orders, func(o *Order) bool { return o.VM == v.ID }):
		return false
	}
	return !s.copied(v) && !s.GaveUpOnGuest(v)
}
