package main

import (
	"bytes"
	"context"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"lifeboat/internal/cli"
)

// screen collects output and calls onWrite with all of it after each write.
type screen struct {
	mu      sync.Mutex
	buf     bytes.Buffer
	onWrite func(all string)
}

func (s *screen) Write(p []byte) (int, error) {
	s.mu.Lock()
	n, err := s.buf.Write(p)
	all, then := s.buf.String(), s.onWrite
	s.mu.Unlock()
	then(all)
	return n, err
}

// watch runs a command until stop says that what it printed is enough.
func (w *world) watch(terminal bool, stop func(stdout, stderr string) bool, args ...string) result {
	w.t.Helper()
	ctx, cancel := context.WithCancelCause(w.t.Context())
	defer cancel(nil)
	var stdout, stderr screen
	look := func(string) {
		stdout.mu.Lock()
		out := stdout.buf.String()
		stdout.mu.Unlock()
		stderr.mu.Lock()
		errs := stderr.buf.String()
		stderr.mu.Unlock()
		if stop(out, errs) {
			cancel(&cli.Interrupted{Signal: "interrupt"})
		}
	}
	stdout.onWrite, stderr.onWrite = look, look
	env := w.env(&stdout, &stderr)
	env.Terminal = terminal
	return result{run(ctx, args, env), stdout.buf.String(), stderr.buf.String()}
}

func TestWatchShowsChanges(t *testing.T) {
	w := newWorld(t, busyState())
	changed := false
	r := w.watch(false, func(out, _ string) bool {
		if !changed && strings.Contains(out, "h1") {
			changed = true
			w.admin.mu.Lock()
			w.admin.state.hosts[0].Resource = "Maintenance"
			w.admin.mu.Unlock()
		}
		return strings.Contains(out, "Maintenance")
	}, "host", "list", "--watch")
	r.want(t, cli.ExitOK, "2026-03-04T05:06:07Z\nHOST")
	if strings.Contains(r.stdout, "\x1b") {
		t.Error("control sequences in a file")
	}
}

func TestWatchRedrawsATerminal(t *testing.T) {
	w := newWorld(t, busyState())
	r := w.watch(true, func(out, _ string) bool { return strings.Count(out, "HOST") > 1 }, "host", "list", "-w")
	r.want(t, cli.ExitOK, "\x1b[H2026-03-04T05:06:07Z  (Ctrl-C ends)\x1b[K\nHOST", "\x1b[J")
}

// Someone watches because things fail: the watch must not fail with them.
func TestWatchOutlivesTheCluster(t *testing.T) {
	w := newWorld(t, busyState())
	admin, addr := w.admin, w.node.addr
	down := false
	r := w.watch(false, func(out, errs string) bool {
		admin.mu.Lock()
		defer admin.mu.Unlock()
		if !down && strings.Contains(out, "HOST") {
			down = true
			admin.before = noLeader
		}
		if down && strings.Contains(errs, "trying again") {
			admin.before = nil
			return strings.Count(out, "HOST") > 1
		}
		return false
	}, "host", "list", "-w")
	if r.code != cli.ExitOK || !strings.Contains(r.stderr, addr+": no leader is known") {
		t.Errorf("exit %d, stderr %s", r.code, r.stderr)
	}
}

func TestWatchOfNothingFailsAtOnce(t *testing.T) {
	w := newWorld(t, busyState())
	never := func(string, string) bool { return false }
	w.watch(false, never, "host", "show", "h9", "--watch").want(t, cli.ExitRefused, `no host "h9"`)
	w.use(closedPort(t))
	w.watch(false, never, "host", "list", "--watch").want(t, cli.ExitUnreachable, "connection refused")
}

func TestWatchInJSONIsOneLineEach(t *testing.T) {
	w := newWorld(t, busyState())
	r := w.watch(true, func(out, _ string) bool { return strings.Count(out, "\n") >= 2 }, "host", "list", "-w", "-o", "json")
	for line := range strings.Lines(r.stdout) {
		if !strings.HasPrefix(line, `{"hosts":[`) {
			t.Errorf("line %q", line)
		}
	}
}

func TestEventWatchFollows(t *testing.T) {
	w := newWorld(t, busyState())
	added := false
	r := w.watch(false, func(out, _ string) bool {
		if !added && strings.Contains(out, "VM.ORDERED") {
			added = true
			w.admin.mu.Lock()
			w.admin.index++
			w.admin.index += 1000
			w.admin.addEvent("VM.RUNNING", "web-1", "runs on h1")
			w.admin.mu.Unlock()
		}
		return strings.Contains(out, "VM.RUNNING")
	}, "event", "watch", "-n", "2")
	r.want(t, cli.ExitOK, "2026-03-04T05:05:59.000Z  info  VM.ORDERED           web-1        start on h1, incarnation 1.8")
	if n := strings.Count(r.stdout, "\n"); n != 3 {
		t.Errorf("%d lines, want the last two events and the new one:\n%s", n, r.stdout)
	}
}

// Who begins after an event that is not kept any more is told that some are missing.
func TestEventWatchSaysWhatIsLost(t *testing.T) {
	w := newWorld(t, busyState())
	w.admin.state.events = w.admin.state.events[1:]
	oldest := w.admin.state.events[0].Id
	shown := func(out, _ string) bool { return strings.Contains(out, "\n") }
	r := w.watch(false, shown, "event", "watch", "--after", "1")
	if want := fmt.Sprintf("Event 1 is not kept any more, the oldest one that is has number %d", oldest); !strings.Contains(r.stderr, want) {
		t.Errorf("stderr %q, want %q", r.stderr, want)
	}
	if r := w.watch(false, shown, "event", "watch", "--after", fmt.Sprint(oldest)); r.stderr != "" {
		t.Errorf("nothing is lost, and it says %q", r.stderr)
	}
}

// With -n 0 a watch begins with what is new.
func TestEventWatchWithoutOldOnes(t *testing.T) {
	w := newWorld(t, busyState())
	w.admin.index += 1000 // the number of an event follows from it
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	go func() {
		for ctx.Err() == nil {
			w.admin.mu.Lock()
			w.admin.index++
			w.admin.addEvent("VM.RUNNING", "web-1", "runs on h1")
			w.admin.mu.Unlock()
			time.Sleep(10 * time.Millisecond)
		}
	}()
	r := w.watch(false, func(out, _ string) bool { return strings.Contains(out, "\n") }, "event", "watch", "-n", "0")
	if !strings.Contains(r.stdout, "VM.RUNNING") || strings.Contains(r.stdout, "VM.ORDERED") {
		t.Errorf("it begins with what is old:\n%s", r.stdout)
	}
}
