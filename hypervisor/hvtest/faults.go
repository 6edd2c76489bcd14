package hvtest

import (
	"context"
	"errors"
	"time"

	"lifeboat/hypervisor"
)

func testEvents(b *bench) {
	ch, err := b.Hypervisor.Watch(b.Context())
	b.ok("watch", err)
	req := b.start("events")
	b.sawEvent(ch, req.UUID)
	b.ok("destroy", b.Hypervisor.Stop(b.Context(), req.UUID, hypervisor.StopDestroy))
	b.sawEvent(ch, req.UUID)
}

func (b *bench) sawEvent(ch <-chan hypervisor.Event, id hypervisor.UUID) {
	b.Helper()
	late := time.After(10 * time.Second)
	for {
		select {
		case e, ok := <-ch:
			if !ok {
				b.Fatal("the event channel was closed")
			}
			if e.UUID == id || e.UUID.IsZero() {
				return
			}
		case <-late:
			b.Fatal("no event")
		}
	}
}

func testWatchEnds(b *bench) {
	ctx, cancel := context.WithCancel(b.Context())
	ch, err := b.Hypervisor.Watch(ctx)
	b.ok("watch", err)
	cancel()
	b.closes(ch)
	b.wantUnlisted(hypervisor.UUID{1}) // the connection is none the worse
}

func (b *bench) closes(ch <-chan hypervisor.Event) {
	b.Helper()
	late := time.After(10 * time.Second)
	for {
		select {
		case _, ok := <-ch:
			if !ok {
				return
			}
		case <-late:
			b.Fatal("the event channel stays open")
		}
	}
}

func testKilled(b *bench) {
	b.need("kill a domain's process", b.Kill != nil)
	req := b.start("killed")
	ch, err := b.Hypervisor.Watch(b.Context())
	b.ok("watch", err)
	b.ok("kill", b.Kill(req.UUID))
	b.sawEvent(ch, req.UUID)
	if d := b.eventually(req.UUID, hypervisor.StateOff); !d.Reason.Crash() {
		b.Errorf("reason %v, want one that counts as a crash", d.Reason)
	}
	b.ok("start again", b.Hypervisor.Start(b.Context(), req))
	b.wantState(req.UUID, hypervisor.StateRunning)
}

func testKilledTransient(b *bench) {
	b.need("kill a domain's process", b.Kill != nil)
	req := b.request("killed")
	req.Transient = true
	b.ok("start", b.Hypervisor.Start(b.Context(), req))
	b.wantState(req.UUID, hypervisor.StateRunning)
	b.ok("kill", b.Kill(req.UUID))
	b.eventually(req.UUID, hypervisor.StateAbsent)
	b.until("a reason that counts as a crash", func() bool {
		d, _ := b.look(req.UUID)
		return d.Reason.Crash()
	})
}

func testDaemonKilled(b *bench) {
	b.need("stop the daemon", b.StopDaemon != nil)
	req := b.start("daemon")
	ch, err := b.Hypervisor.Watch(b.Context())
	b.ok("watch", err)
	b.StopDaemon()
	b.closes(ch)
	b.until("calls to fail", func() bool {
		_, err := b.Hypervisor.Domains(b.Context())
		return err != nil
	})
	b.outage(req, time.Second)
	b.StartDaemon()
	b.until("the connection to come back", func() bool {
		_, err := b.Hypervisor.Domains(b.Context())
		return err == nil
	})
	if b.KeepsGuests {
		b.wantState(req.UUID, hypervisor.StateRunning)
	} else {
		b.wantState(req.UUID, hypervisor.StateAbsent) // it did run, and is not there
	}
	b.until("watching again", func() bool {
		_, err := b.Hypervisor.Watch(b.Context())
		return err == nil
	})
}

// outage makes every kind of call while there is no connection: each must fail
// with ErrUnavailable, within the limit.
func (b *bench) outage(req hypervisor.StartRequest, limit time.Duration) {
	b.Helper()
	for what, call := range b.calls(req) {
		begin := time.Now()
		err := call()
		if took := time.Since(begin); took > limit {
			b.Errorf("%s took %v during an outage", what, took)
		}
		if !errors.Is(err, hypervisor.ErrUnavailable) {
			b.Errorf("%s during an outage: %v, want ErrUnavailable", what, err)
		}
	}
}

func (b *bench) calls(req hypervisor.StartRequest) map[string]func() error {
	ctx := b.Context()
	return map[string]func() error{
		"domains":    func() error { _, err := b.Hypervisor.Domains(ctx); return err },
		"inventory":  func() error { _, err := b.Hypervisor.Inventory(ctx); return err },
		"definition": func() error { _, err := b.Hypervisor.Definition(ctx, req.UUID); return err },
		"watch":      func() error { _, err := b.Hypervisor.Watch(ctx); return err },
		"start":      func() error { return b.Hypervisor.Start(ctx, req) },
		"shutdown":   func() error { return b.Hypervisor.Stop(ctx, req.UUID, hypervisor.StopShutdown) },
		"destroy":    func() error { return b.Hypervisor.Stop(ctx, req.UUID, hypervisor.StopDestroy) },
		"remove":     func() error { return b.Hypervisor.Remove(ctx, req.UUID) },
		"resume":     func() error { return b.adj.Resume(ctx, req.UUID) },
	}
}

// testFrozen: no call hangs, and none claims to know what it cannot know.
func testFrozen(b *bench) {
	b.need("freeze the daemon", b.Freeze != nil)
	req := b.start("frozen")
	b.Freeze(true)
	thawed := false
	defer func() {
		if !thawed {
			b.Freeze(false)
		}
	}()
	for what, call := range b.calls(req) {
		if what == "watch" {
			continue // asks nothing of the daemon
		}
		begin := time.Now()
		err := call()
		if took := time.Since(begin); took > b.Limit {
			b.Errorf("%s took %v with a frozen daemon, limit %v", what, took, b.Limit)
		}
		if !errors.Is(err, hypervisor.ErrUnavailable) && !errors.Is(err, hypervisor.ErrUnknownOutcome) {
			b.Errorf("%s with a frozen daemon: %v", what, err)
		}
	}
	ctx, cancel := context.WithTimeout(b.Context(), 100*time.Millisecond)
	defer cancel()
	begin := time.Now()
	if _, err := b.Hypervisor.Domains(ctx); err == nil || time.Since(begin) > 2*time.Second {
		b.Errorf("the caller's own deadline: %v after %v", err, time.Since(begin))
	}
	b.Freeze(false)
	thawed = true
	b.until("answers again", func() bool {
		_, err := b.Hypervisor.Domains(b.Context())
		return err == nil
	})
	// Orders that were given up may happen now; in the end ours decides.
	b.until("removal", func() bool { return b.Hypervisor.Remove(b.Context(), req.UUID) == nil })
	b.wantUnlisted(req.UUID)
}

func testClosed(b *bench) {
	req := b.start("closed")
	ch, err := b.Hypervisor.Watch(b.Context())
	b.ok("watch", err)
	b.ok("remove", b.Hypervisor.Remove(b.Context(), req.UUID))
	b.ok("close", b.Hypervisor.Close())
	b.closes(ch)
	b.outage(req, time.Second)
	b.ok("close again", b.Hypervisor.Close())
}
