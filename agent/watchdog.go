package agent

import (
	"sync"
	"time"

	lifeboatv1 "lifeboat/api/lifeboat/v1"
)

// Watchdog is what ends the protected VMs of a machine whose agent does not
// (S12). Its methods are called one at a time, except that Pet may run beside
// Arm. No method blocks for long: Pet is called from the agent's only loop.
type Watchdog interface {
	// Kind says what the managers may take it for.
	Kind() lifeboatv1.WatchdogKind
	// Arm starts it, or takes over one that an earlier process left armed: it
	// bites not later than bound after the last Arm or Pet.
	Arm(bound time.Duration) error
	Pet() error
	// Disarm stops it. On an error it must be taken to be armed.
	Disarm() error
	// Close lets go of it as a crash would: armed, it stays armed.
	Close() error
}

// noWatchdog bites nobody. A host with it has no lease unless policy says so.
type noWatchdog struct{}

func (noWatchdog) Kind() lifeboatv1.WatchdogKind {
	return lifeboatv1.WatchdogKind_WATCHDOG_KIND_UNSPECIFIED
}
func (noWatchdog) Arm(time.Duration) error { return nil }
func (noWatchdog) Pet() error              { return nil }
func (noWatchdog) Disarm() error           { return nil }
func (noWatchdog) Close() error            { return nil }

// SoftWatchdog returns a timer in the agent's own process that stops the
// protected VMs when the agent's loop hangs. It does not survive the process,
// so it proves nothing.
func SoftWatchdog() Watchdog { return &softWatchdog{kill: func() {}} }

type softWatchdog struct {
	mu    sync.Mutex
	kill  func() // runs on a goroutine of its own
	bound time.Duration
	timer *time.Timer // nil: disarmed
}

func (w *softWatchdog) setKill(kill func()) { w.kill = kill }

func (w *softWatchdog) Kind() lifeboatv1.WatchdogKind {
	return lifeboatv1.WatchdogKind_WATCHDOG_KIND_SOFT
}

func (w *softWatchdog) Arm(bound time.Duration) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.timer != nil {
		w.timer.Stop()
	}
	w.bound, w.timer = bound, time.AfterFunc(bound, w.kill)
	return nil
}

func (w *softWatchdog) Pet() error {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.timer != nil {
		w.timer.Reset(w.bound)
	}
	return nil
}

func (w *softWatchdog) Disarm() error { return w.Close() }

func (w *softWatchdog) Close() error {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.timer != nil {
		w.timer.Stop()
		w.timer = nil
	}
	return nil
}
