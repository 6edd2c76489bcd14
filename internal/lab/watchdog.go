package lab

import (
	"bufio"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"
)

// The watchdog of a host is a process outside it, so that a frozen host starves
// it. Inside the host it is the unix socket [WatchdogSocket], with one command
// per line and no answers:
//
//	arm SECONDS   start the timer; decimals are allowed
//	pet           start it again with the same time
//	disarm        stop it, for a clean end
//
// A connection that ends without disarm leaves the timer running, and another
// connection may go on petting. A timer that runs out resets the host. Without
// power there is no watchdog: it is disarmed on every power on.
type watchdogConfig struct {
	Host    int
	Socket  string
	Control string
}

func (l *Lab) watchdogSocket(h *host) string {
	return filepath.Join(l.run, "watchdog-"+h.name+".sock")
}

// startWatchdog starts a fresh, disarmed watchdog. It lives in the BMC's
// network namespace, where [sweep] finds it after a crash of the lab.
func (l *Lab) startWatchdog(h *host) (*child, error) {
	socket := l.watchdogSocket(h)
	if err := os.Remove(socket); err != nil && !os.IsNotExist(err) {
		return nil, fmt.Errorf("remove old watchdog socket: %w", err)
	}
	env, err := helperEnv(modeWatchdog, watchdogConfig{Host: h.n, Socket: socket, Control: controlSocket(l.run)})
	if err != nil {
		return nil, err
	}
	cmd := exec.Command("/proc/self/exe")
	cmd.Args[0] = "lifeboat-lab-watchdog-" + h.name
	cmd.Env = env
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	return startReady(netnsRef(h.bmc.port.netns), cmd, filepath.Join(h.dir, "watchdog.log"))
}

func watchdogMain() error {
	var c watchdogConfig
	if err := helperConfig(&c); err != nil {
		return err
	}
	ln, err := net.Listen("unix", c.Socket)
	if err != nil {
		return fmt.Errorf("listen for watchdog commands: %w", err)
	}
	w := &watchdog{starved: func() {
		// The lab ends this process while it resets the host; only a failure comes back.
		if _, err := ask(c.Control, fmt.Sprintf("watchdog %d", c.Host)); err != nil {
			fmt.Fprintln(os.Stderr, err)
		}
	}}
	sayReady()
	for {
		conn, err := ln.Accept()
		if err != nil {
			return fmt.Errorf("accept watchdog connection: %w", err)
		}
		go func() {
			defer conn.Close()
			for lines := bufio.NewScanner(conn); lines.Scan(); {
				if err := w.command(lines.Text()); err != nil {
					fmt.Fprintln(os.Stderr, err)
				}
			}
		}()
	}
}

// watchdog is the timer. A command it does not understand changes nothing.
type watchdog struct {
	starved func() // called on its own goroutine

	mu    sync.Mutex
	after time.Duration
	timer *time.Timer // nil: disarmed
}

func (w *watchdog) command(line string) error {
	words := strings.Fields(line)
	w.mu.Lock()
	defer w.mu.Unlock()
	switch {
	case len(words) == 2 && words[0] == "arm":
		seconds, err := strconv.ParseFloat(words[1], 64)
		if err != nil || !(seconds > 0 && seconds <= 3600) {
			return fmt.Errorf("watchdog command %q: want 0 < seconds <= 3600", line)
		}
		w.restart(time.Duration(seconds * float64(time.Second)))
	case len(words) == 1 && words[0] == "pet":
		if w.timer == nil {
			return fmt.Errorf("watchdog command %q: not armed", line)
		}
		w.restart(w.after)
	case len(words) == 1 && words[0] == "disarm":
		if w.timer != nil {
			w.timer.Stop()
			w.timer = nil
		}
	default:
		return fmt.Errorf("watchdog command %q: want arm SECONDS, pet or disarm", line)
	}
	return nil
}

// restart winds the timer. A timer that has run out already stays run out.
func (w *watchdog) restart(after time.Duration) {
	if w.timer != nil && !w.timer.Stop() {
		return
	}
	w.after = after
	w.timer = time.AfterFunc(after, w.starved)
}
