package systemd

import (
	"fmt"
	"os"
	"strings"
	"sync"
	"time"

	"github.com/coreos/go-systemd/v22/daemon"
	"github.com/hashicorp/go-hclog"
)

// statusEvery is how often the process is asked how it fares where no watchdog
// wants to know it more often.
const statusEvery = 10 * time.Second

// Notifier tells the service manager. It is safe for concurrent use; no method
// blocks for longer than a write to a local socket.
type Notifier struct {
	log      hclog.Logger
	watchdog time.Duration // 0: no watchdog

	mu     sync.Mutex
	failed bool
	status string
}

// New is nil where no service manager asked to be told ($NOTIFY_SOCKET).
func New(log hclog.Logger) (*Notifier, error) {
	if os.Getenv("NOTIFY_SOCKET") == "" {
		return nil, nil
	}
	watchdog, err := daemon.SdWatchdogEnabled(false)
	if err != nil {
		return nil, fmt.Errorf("read the watchdog's time that systemd asks for: %w", err)
	}
	return &Notifier{log: log, watchdog: watchdog}, nil
}

// Every is how often Alive wants to be called: four times in the time after which
// the service manager gives the process up.
func (n *Notifier) Every() time.Duration {
	if n.watchdog > 0 {
		return min(n.watchdog/4, statusEvery)
	}
	return statusEvery
}

// Ready says that the process answers.
func (n *Notifier) Ready() { n.send(daemon.SdNotifyReady) }

// Stopping says that it has begun to stop.
func (n *Notifier) Stopping() { n.send(daemon.SdNotifyStopping, "STATUS=stopping") }

// Extend asks for so much more time from now on, for a start or a stop that takes longer
// than the unit allows for.
func (n *Notifier) Extend(by time.Duration) {
	n.send(fmt.Sprintf("EXTEND_TIMEOUT_USEC=%d", by.Microseconds()))
}

// Alive says that it is well, and what it does, in a few words.
func (n *Notifier) Alive(status string) {
	var states []string
	if n.watchdog > 0 {
		states = append(states, daemon.SdNotifyWatchdog)
	}
	n.mu.Lock()
	changed := n.status != status
	n.status = status
	n.mu.Unlock()
	if changed {
		states = append(states, "STATUS="+strings.ReplaceAll(status, "\n", " "))
	}
	if len(states) > 0 {
		n.send(states...)
	}
}

// send logs the first of several failures: one is news, a hundred are noise.
func (n *Notifier) send(states ...string) {
	_, err := daemon.SdNotify(false, strings.Join(states, "\n"))
	n.mu.Lock()
	again := n.failed
	n.failed = err != nil
	n.mu.Unlock()
	if err != nil && !again {
		n.log.Warn("the service manager cannot be told how this process fares", "error", err)
	}
}
