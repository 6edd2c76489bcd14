package agent

import (
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"strconv"
	"sync"
	"syscall"
	"time"

	lifeboatv1 "lifeboat/api/lifeboat/v1"
)

// ExternalOptions describe a watchdog that is another process, which outlives
// a frozen agent.
type ExternalOptions struct {
	// Socket is the unix socket it listens on; see [ServeWatchdog] for what is
	// spoken there.
	Socket string
	// Command starts it when nobody listens. Empty: somebody else does.
	Command []string
}

// ExternalWatchdog returns the client of a watchdog in another process.
func ExternalWatchdog(o ExternalOptions) Watchdog { return &externalWatchdog{o: o} }

type externalWatchdog struct {
	o ExternalOptions

	mu    sync.Mutex
	conn  net.Conn      // nil: not connected
	armed time.Duration // 0: not by us
}

const (
	watchdogDial  = 500 * time.Millisecond
	watchdogWrite = 200 * time.Millisecond // the agent's loop waits for it
	watchdogStart = 3 * time.Second
)

func (w *externalWatchdog) Kind() lifeboatv1.WatchdogKind {
	return lifeboatv1.WatchdogKind_WATCHDOG_KIND_EXTERNAL
}

func (w *externalWatchdog) Arm(bound time.Duration) error {
	if err := w.connect(len(w.o.Command) > 0); err != nil {
		return fmt.Errorf("arm watchdog: %w", err)
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	if err := w.say("arm " + strconv.FormatFloat(bound.Seconds(), 'f', 3, 64)); err != nil {
		return fmt.Errorf("arm watchdog: %w", err)
	}
	w.armed = bound
	return nil
}

// Pet takes up a lost connection again: the process may have been restarted.
func (w *externalWatchdog) Pet() error {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.armed == 0 {
		return nil
	}
	if w.conn == nil {
		conn, err := net.DialTimeout("unix", w.o.Socket, watchdogWrite)
		if err != nil {
			return fmt.Errorf("reach watchdog: %w", err)
		}
		w.conn = conn
		if err := w.say("arm " + strconv.FormatFloat(w.armed.Seconds(), 'f', 3, 64)); err != nil {
			return err
		}
	}
	return w.say("pet")
}

func (w *externalWatchdog) Disarm() error {
	err := w.connect(false)
	if errors.Is(err, os.ErrNotExist) || errors.Is(err, syscall.ECONNREFUSED) {
		w.mu.Lock()
		defer w.mu.Unlock()
		w.armed = 0
		return nil // nobody is there who could bite
	}
	if err != nil {
		return fmt.Errorf("disarm watchdog: %w", err)
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	if err := w.say("disarm"); err != nil {
		return fmt.Errorf("disarm watchdog: %w", err)
	}
	w.armed = 0
	return nil
}

func (w *externalWatchdog) Close() error {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.conn == nil {
		return nil
	}
	err := w.conn.Close()
	w.conn = nil
	return err
}

// say sends one line. A connection that failed is not used again.
func (w *externalWatchdog) say(line string) error {
	if w.conn == nil {
		return errors.New("not connected")
	}
	err := w.conn.SetWriteDeadline(time.Now().Add(watchdogWrite))
	if err == nil {
		_, err = w.conn.Write([]byte(line + "\n"))
	}
	if err != nil {
		w.conn.Close()
		w.conn = nil
		return fmt.Errorf("tell watchdog to %s: %w", line, err)
	}
	return nil
}

// connect makes sure there is a connection, and starts the process if it may.
func (w *externalWatchdog) connect(start bool) error {
	w.mu.Lock()
	has := w.conn != nil
	w.mu.Unlock()
	if has {
		return nil
	}
	conn, err := net.DialTimeout("unix", w.o.Socket, watchdogDial)
	if err != nil && start {
		conn, err = w.spawn()
	}
	if err != nil {
		return fmt.Errorf("nobody listens on %s: %w", w.o.Socket, err)
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	w.conn = conn
	return nil
}

// spawn starts the process in a session of its own and waits until it listens.
func (w *externalWatchdog) spawn() (net.Conn, error) {
	cmd := exec.Command(w.o.Command[0], w.o.Command[1:]...)
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	cmd.Stderr = os.Stderr
	if err := cmd.Start(); err != nil {
		return nil, fmt.Errorf("start watchdog process: %w", err)
	}
	ended := make(chan error, 1)
	go func() { ended <- cmd.Wait() }() // ends with the process, which outlives us
	for deadline := time.Now().Add(watchdogStart); ; {
		conn, err := net.DialTimeout("unix", w.o.Socket, watchdogDial)
		if err == nil {
			return conn, nil
		}
		select {
		case werr := <-ended:
			return nil, fmt.Errorf("the watchdog process ended at once (%v): %w", werr, err)
		case <-time.After(20 * time.Millisecond):
		}
		if time.Now().After(deadline) {
			return nil, err
		}
	}
}
