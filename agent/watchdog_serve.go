package agent

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/hashicorp/go-hclog"
	"golang.org/x/sys/unix"
)

// ServeOptions of [ServeWatchdog].
type ServeOptions struct {
	Socket string
	// Reset is a command that resets the machine. Empty, or when it fails:
	// sysrq.
	Reset  []string
	Logger hclog.Logger // nil: silent
	// Idle is how long it stays when it is disarmed and nobody is connected;
	// 0: one minute.
	Idle time.Duration

	reset func() error // tests
}

// ServeWatchdog is the external watchdog: a process that resets the machine
// when nobody pets it. It blocks until ctx ends, or until it has been idle.
//
// On the socket there is one command per line, and no answer:
//
//	arm SECONDS   start the timer, or set it to another time; decimals are allowed
//	pet           start it again with the same time
//	disarm        stop it, for a clean end
//
// A connection that ends without disarm leaves the timer running, and another
// one may go on petting.
func ServeWatchdog(ctx context.Context, o ServeOptions) error {
	if o.Logger == nil {
		o.Logger = hclog.NewNullLogger()
	}
	if o.Idle <= 0 {
		o.Idle = time.Minute
	}
	if o.reset == nil {
		o.reset = func() error { return resetMachine(o.Reset) }
	}
	// Pages that would have to be read from a disk that hangs are no watchdog.
	if err := unix.Mlockall(unix.MCL_CURRENT | unix.MCL_FUTURE); err != nil {
		o.Logger.Warn("the watchdog's memory cannot be locked", "error", err)
	}
	if c, err := net.DialTimeout("unix", o.Socket, watchdogDial); err == nil {
		c.Close()
		return fmt.Errorf("a watchdog listens on %s already", o.Socket)
	}
	if err := os.Remove(o.Socket); err != nil && !errors.Is(err, os.ErrNotExist) {
		return fmt.Errorf("remove old watchdog socket: %w", err)
	}
	ln, err := net.Listen("unix", o.Socket)
	if err != nil {
		return fmt.Errorf("listen for watchdog commands: %w", err)
	}
	w := newKeeper(o)
	ctx, cancel := context.WithCancel(ctx)
	w.idle = cancel
	w.left() // idle from the start
	defer cancel()
	stop := context.AfterFunc(ctx, func() { ln.Close() })
	defer stop()
	var wg sync.WaitGroup
	for {
		conn, err := ln.Accept()
		if err != nil {
			wg.Wait()
			if ctx.Err() != nil {
				return nil
			}
			return fmt.Errorf("accept watchdog connection: %w", err)
		}
		w.joined()
		wg.Go(func() {
			defer w.left()
			defer conn.Close()
			defer context.AfterFunc(ctx, func() { conn.Close() })()
			for lines := bufio.NewScanner(conn); lines.Scan(); {
				if err := w.command(lines.Text()); err != nil {
					o.Logger.Warn("watchdog command refused", "error", err)
				}
			}
		})
	}
}

// keeper is the timer. A command it does not understand changes nothing.
type keeper struct {
	log   hclog.Logger
	reset func() error
	stay  time.Duration
	idle  func() // nobody needs it any more

	mu    sync.Mutex
	after time.Duration
	timer *time.Timer // nil: disarmed
	conns int
	bye   *time.Timer // runs while nobody needs it
}

func newKeeper(o ServeOptions) *keeper {
	return &keeper{log: o.Logger, reset: o.reset, stay: o.Idle, idle: func() {}, conns: 1}
}

func (w *keeper) joined() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.conns++
	w.settle()
}

func (w *keeper) left() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.conns--
	w.settle()
}

// settle starts or stops the way out.
func (w *keeper) settle() {
	if w.bye != nil {
		w.bye.Stop()
		w.bye = nil
	}
	if w.conns == 0 && w.timer == nil {
		w.bye = time.AfterFunc(w.stay, w.idle)
	}
}

const maxBound = time.Hour

func (w *keeper) command(line string) error {
	words := strings.Fields(line)
	w.mu.Lock()
	defer w.mu.Unlock()
	switch {
	case len(words) == 2 && words[0] == "arm":
		seconds, err := strconv.ParseFloat(words[1], 64)
		if err != nil || !(seconds > 0 && seconds <= maxBound.Seconds()) {
			return fmt.Errorf("%.60q: want arm and 0 < seconds <= %.0f", line, maxBound.Seconds())
		}
		w.wind(time.Duration(seconds * float64(time.Second)))
	case len(words) == 1 && words[0] == "pet":
		if w.timer == nil {
			return errors.New("pet: it is not armed")
		}
		w.wind(w.after)
	case len(words) == 1 && words[0] == "disarm":
		if w.timer != nil {
			w.timer.Stop()
			w.timer = nil
		}
		w.settle()
	default:
		return fmt.Errorf("%.60q: want arm SECONDS, pet or disarm", line)
	}
	return nil
}

// wind starts the timer again. One that has run out stays run out.
func (w *keeper) wind(after time.Duration) {
	if w.timer != nil && !w.timer.Stop() {
		return
	}
	w.after = after
	w.timer = time.AfterFunc(after, w.bite)
	w.settle()
}

// bite resets the machine, and tries again if it is still there.
func (w *keeper) bite() {
	w.log.Error("the watchdog was not petted: the machine is reset")
	err := w.reset()
	if err != nil {
		w.log.Error("the machine could not be reset; trying again", "error", err)
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.timer != nil && err != nil {
		w.timer = time.AfterFunc(time.Second, w.bite)
	}
}

const resetTimeout = 5 * time.Second

// resetMachine does not come back when it works.
func resetMachine(command []string) error {
	var first error
	if len(command) > 0 {
		ctx, cancel := context.WithTimeout(context.Background(), resetTimeout)
		defer cancel()
		out, err := exec.CommandContext(ctx, command[0], command[1:]...).CombinedOutput()
		if err == nil {
			return nil
		}
		first = fmt.Errorf("reset command: %w: %.200s", err, out)
	}
	// Nothing is synced or unmounted: the disks belong to others already.
	if err := os.WriteFile("/proc/sysrq-trigger", []byte("b"), 0); err != nil {
		return errors.Join(first, fmt.Errorf("reset by sysrq: %w", err))
	}
	return first
}
