package main

import (
	"context"
	"errors"
	"net"
	"strings"
	"testing"
	"time"

	"connectrpc.com/connect"

	"lifeboat/internal/cli"
)

// closedPort is an address on which nobody listens.
func closedPort(t *testing.T) string {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	return ln.Addr().String()
}

// silentPort accepts connections and says nothing, like a frozen machine.
func silentPort(t *testing.T) string {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { ln.Close() })
	return ln.Addr().String()
}

func noLeader(context.Context, string) error {
	return connect.NewError(connect.CodeUnavailable, errors.New("no leader is known"))
}

func lostLeader(context.Context, string) error {
	return connect.NewError(connect.CodeUnknown, errors.New("the leader went away while it was asked"))
}

// writes is how many writes a node has executed.
func (f *fakeAdmin) writes() int {
	f.mu.Lock()
	defer f.mu.Unlock()
	return len(f.calls)
}

func (r result) want(t *testing.T, code int, texts ...string) {
	t.Helper()
	if r.code != code {
		t.Errorf("exit code %d, want %d", r.code, code)
	}
	for _, text := range texts {
		if !strings.Contains(r.stdout+r.stderr, text) {
			t.Errorf("%q is not said", text)
		}
	}
	if strings.Count(r.stderr, "\n") > 1 {
		t.Errorf("the error has several lines")
	}
	if t.Failed() {
		t.Logf("stdout: %s\nstderr: %s", r.stdout, r.stderr)
	}
}

func TestTheNextNodeIsAskedWhenOneIsGone(t *testing.T) {
	for name, down := range map[string]func(*testing.T, *world) string{
		"refuses":          func(t *testing.T, _ *world) string { return closedPort(t) },
		"has no leader":    func(_ *testing.T, w *world) string { return w.start("n2", &fakeAdmin{before: noLeader}).addr },
		"other cluster CA": func(t *testing.T, _ *world) string { return newWorld(t, emptyState()).node.addr },
	} {
		for _, line := range []string{"host list", "host disable h1"} {
			t.Run(name+" "+line, func(t *testing.T) {
				w := newWorld(t, busyState())
				w.use(down(t, w), w.node.addr)
				w.run(strings.Fields(line)...).want(t, cli.ExitOK, "h1")
			})
		}
	}
	t.Run("is frozen", func(t *testing.T) {
		w := newWorld(t, busyState())
		w.use(silentPort(t), w.node.addr)
		w.run("host", "list", "--timeout=200ms").want(t, cli.ExitOK, "h1")
	})
}

func TestNothingAnswers(t *testing.T) {
	w := newWorld(t, busyState())
	a, b := closedPort(t), w.start("n2", &fakeAdmin{before: noLeader}).addr
	w.use(a, b)
	for _, line := range []string{"status", "host disable h1 --timeout=3s"} {
		w.run(strings.Fields(line)...).want(t, cli.ExitUnreachable,
			a+": connection refused", b+": no leader is known", "majority", "context.yaml")
	}
}

// The node executed the write, and its answer was lost. Sending it to the next
// one would execute it twice.
func TestAWriteThatMayHaveArrivedIsNotRepeated(t *testing.T) {
	w := newWorld(t, busyState())
	other := newFakeAdmin(busyState())
	second := w.start("n2", other)
	w.use(w.node.addr, second.addr)

	t.Run("no answer in time", func(t *testing.T) {
		w.admin.behave(func(ctx context.Context, _ string) error { <-ctx.Done(); return ctx.Err() })
		w.run("host", "disable", "h1", "--timeout=200ms").want(t, cli.ExitUnknown, "outcome unknown", w.node.addr, "event list")
	})
	t.Run("the node failed in the middle", func(t *testing.T) {
		w.admin.behave(func(context.Context, string) error {
			return connect.NewError(connect.CodeInternal, errors.New("leadership lost while committing"))
		})
		w.run("host", "disable", "h1").want(t, cli.ExitUnknown, "leadership lost while committing")
	})
	t.Run("the leader died behind the node", func(t *testing.T) {
		w.admin.behave(lostLeader)
		w.run("host", "disable", "h1").want(t, cli.ExitUnknown, "the leader went away")
	})
	t.Run("the node died in the middle", func(t *testing.T) {
		w.admin.behave(func(ctx context.Context, _ string) error {
			go w.node.server.Close()
			<-ctx.Done()
			return ctx.Err()
		})
		w.run("host", "disable", "h1", "--timeout=5s").want(t, cli.ExitUnknown, "outcome unknown")
	})
	if n := other.writes(); n != 0 {
		t.Errorf("the second node was sent %d writes", n)
	}
}

// A read has no effect, so any other node may be asked.
func TestAReadIsRepeated(t *testing.T) {
	w := newWorld(t, busyState())
	second := w.start("n2", newFakeAdmin(busyState()))
	w.use(w.node.addr, second.addr)
	w.admin.behave(func(ctx context.Context, _ string) error { <-ctx.Done(); return ctx.Err() })
	w.run("host", "list", "--timeout=400ms").want(t, cli.ExitOK, "h2")
	w.admin.behave(lostLeader)
	w.run("host", "list").want(t, cli.ExitOK, "h2")
}

func TestWhoMayAsk(t *testing.T) {
	w := newWorld(t, busyState())
	files, err := w.certs.issue("node", "n7")
	if err != nil {
		t.Fatal(err)
	}
	w.run("status", "--cert", files.Cert, "--key", files.Key).want(t, cli.ExitRefused, "use the certificate of an operator")
	w.run("status", "--cert", "/nowhere.crt").want(t, cli.ExitUsage, "/nowhere.crt")
}

func TestVerboseNamesTheCluster(t *testing.T) {
	w := newWorld(t, busyState())
	r := w.run("policy", "get", "beat", "-v")
	r.want(t, cli.ExitOK, "asking "+w.node.addr, "context.yaml")
	if r.stdout != "1s\n" {
		t.Errorf("stdout is %q", r.stdout)
	}
}

func TestInterruptedWriteIsUnknown(t *testing.T) {
	w := newWorld(t, busyState())
	ctx, cancel := context.WithCancelCause(t.Context())
	w.admin.behave(func(ctx context.Context, _ string) error {
		cancel(&cli.Interrupted{Signal: "interrupt"})
		<-ctx.Done()
		return ctx.Err()
	})
	w.runCtx(ctx, "host", "disable", "h1").want(t, cli.ExitUnknown, "interrupted by interrupt")
}

func TestInterruptedReadIsInterrupted(t *testing.T) {
	w := newWorld(t, busyState())
	ctx, cancel := context.WithCancelCause(t.Context())
	w.admin.behave(func(ctx context.Context, _ string) error {
		cancel(&cli.Interrupted{Signal: "interrupt"})
		<-ctx.Done()
		return ctx.Err()
	})
	w.runCtx(ctx, "host", "list").want(t, cli.ExitInterrupted, "interrupted by interrupt")
}

func TestFrozenNodeIsLeftAfterThreeSeconds(t *testing.T) {
	if testing.Short() {
		t.Skip("takes three seconds")
	}
	w := newWorld(t, busyState())
	w.use(silentPort(t), w.node.addr)
	begin := time.Now()
	w.run("host", "disable", "h1", "--timeout=30s").want(t, cli.ExitOK, "disabled")
	if d := time.Since(begin); d > 5*time.Second {
		t.Errorf("took %v", d)
	}
}
