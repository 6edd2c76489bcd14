package hvtest

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"strings"
	"sync"
	"time"

	"lifeboat/hypervisor"
)

func (b *bench) cleanupContext() context.Context {
	return context.WithoutCancel(b.Context())
}

func testInventory(b *bench) {
	inv, err := b.Hypervisor.Inventory(b.Context())
	b.ok("inventory", err)
	if inv.CPUs <= 0 || inv.MemoryBytes < 1<<20 || inv.Hostname == "" || inv.Arch == "" {
		b.Errorf("capacity is missing: %+v", inv)
	}
	if len(inv.DomainTypes) == 0 {
		b.Errorf("no domain types: %+v", inv)
	}
	for _, p := range inv.Problems {
		b.Logf("problem: %+v", p)
	}
}

func testStartAndList(b *bench) {
	req := b.start("list")
	d := b.wantState(req.UUID, hypervisor.StateRunning)
	if !d.Persistent || !strings.HasPrefix(d.Name, "list-") || d.Autostart {
		b.Errorf("got %+v", d)
	}
}

func testConfirmSeesPaused(b *bench) {
	req := b.request("confirm")
	called := 0
	req.Confirm = func(context.Context) error {
		called++
		b.wantState(req.UUID, hypervisor.StatePaused)
		return nil
	}
	b.ok("start", b.Hypervisor.Start(b.Context(), req))
	if called != 1 {
		b.Errorf("Confirm was called %d times", called)
	}
	b.wantState(req.UUID, hypervisor.StateRunning)
}

func testConfirmRefused(b *bench) {
	req := b.request("refused")
	no := errors.New("the lease is gone")
	req.Confirm = func(context.Context) error { return no }
	if err := b.Hypervisor.Start(b.Context(), req); !errors.Is(err, no) {
		b.Fatalf("got %v, want it to wrap %v", err, no)
	}
	b.wantUnlisted(req.UUID)
	req.Transient = true
	if err := b.Hypervisor.Start(b.Context(), req); !errors.Is(err, no) {
		b.Fatalf("transient: got %v, want it to wrap %v", err, no)
	}
	b.wantUnlisted(req.UUID)
	req.Confirm = nil
	b.ok("start after refusals", b.Hypervisor.Start(b.Context(), req))
}

func testConfirmCancelled(b *bench) {
	req := b.request("cancelled")
	ctx, cancel := context.WithCancel(b.Context())
	defer cancel()
	req.Confirm = func(ctx context.Context) error {
		cancel()
		return context.Canceled
	}
	if err := b.Hypervisor.Start(ctx, req); !errors.Is(err, context.Canceled) {
		b.Fatalf("got %v", err)
	}
	b.wantUnlisted(req.UUID) // taken back although the caller's context is over
}

func testSecondStart(b *bench) {
	req := b.start("twice")
	req.Confirm = func(context.Context) error {
		b.Error("Confirm was called for a domain that runs")
		return errors.New("no")
	}
	for range 2 {
		if err := b.Hypervisor.Start(b.Context(), req); !errors.Is(err, hypervisor.ErrActive) {
			b.Fatalf("second start: %v, want ErrActive", err)
		}
		b.wantState(req.UUID, hypervisor.StateRunning)
	}
	req.Transient = true
	if err := b.Hypervisor.Start(b.Context(), req); !errors.Is(err, hypervisor.ErrActive) {
		b.Fatalf("second start, transient: %v, want ErrActive", err)
	}
	if d := b.wantState(req.UUID, hypervisor.StateRunning); !d.Persistent {
		b.Error("a refused transient start changed the domain")
	}
}

func testStartWrongInput(b *bench) {
	good := b.request("wrong")
	for what, req := range map[string]hypervisor.StartRequest{
		"no XML":         {UUID: good.UUID},
		"not XML":        {UUID: good.UUID, XML: []byte("<domain")},
		"not a domain":   {UUID: good.UUID, XML: []byte("<network><name>a</name></network>")},
		"another UUID":   {UUID: hypervisor.UUID{1}, XML: good.XML},
		"no UUID at all": {XML: good.XML},
		"much too long":  {UUID: good.UUID, XML: bytes.Repeat([]byte("<"), 16<<20)},
	} {
		err := b.Hypervisor.Start(b.Context(), req)
		var e *hypervisor.Error
		if !errors.As(err, &e) || len(err.Error()) > 2000 {
			b.Errorf("%s: got %.300v, want a short *hypervisor.Error", what, err)
		}
		if errors.Is(err, hypervisor.ErrUnknownOutcome) || errors.Is(err, hypervisor.ErrUnavailable) {
			b.Errorf("%s: got %v, but it is certain that nothing happened", what, err)
		}
		b.wantUnlisted(good.UUID)
	}
}

// A definition that is accepted and cannot run.
func testStartFailure(b *bench) {
	req := b.request("failure")
	broken := bytes.Replace(req.XML, []byte("<devices>"),
		[]byte("<devices><disk type='file' device='disk'><source file='/nonexistent/lifeboat.img'/><target dev='vda' bus='virtio'/></disk>"), 1)
	sick := req
	sick.XML = broken
	if err := b.Hypervisor.Start(b.Context(), sick); err == nil {
		b.Skip("this hypervisor starts a domain without its disk")
	}
	b.wantUnlisted(req.UUID)
	b.ok("start with the right definition", b.Hypervisor.Start(b.Context(), req))
	b.wantState(req.UUID, hypervisor.StateRunning)
}

func testShutdown(b *bench) {
	req := b.start("shutdown")
	b.ok("shutdown", b.Hypervisor.Stop(b.Context(), req.UUID, hypervisor.StopShutdown))
	if !b.ObeysShutdown {
		b.wantState(req.UUID, hypervisor.StateRunning)
		return
	}
	if d := b.eventually(req.UUID, hypervisor.StateOff); d.Reason != hypervisor.ReasonShutdown {
		b.Errorf("reason %v, want shutdown", d.Reason)
	}
	b.ok("shutdown again", b.Hypervisor.Stop(b.Context(), req.UUID, hypervisor.StopShutdown))
}

func testDestroy(b *bench) {
	req := b.start("destroy")
	for range 2 { // the second time it is off already
		b.ok("destroy", b.Hypervisor.Stop(b.Context(), req.UUID, hypervisor.StopDestroy))
		if d := b.wantState(req.UUID, hypervisor.StateOff); !d.Persistent || d.Reason != hypervisor.ReasonDestroyed {
			b.Errorf("got %+v", d)
		}
	}
	b.ok("start again", b.Hypervisor.Start(b.Context(), req))
	b.wantState(req.UUID, hypervisor.StateRunning)
}

func testRemove(b *bench) {
	req := b.start("remove")
	for range 2 { // absent is a success
		b.ok("remove", b.Hypervisor.Remove(b.Context(), req.UUID))
		b.wantUnlisted(req.UUID)
		if _, err := b.Hypervisor.Definition(b.Context(), req.UUID); !errors.Is(err, hypervisor.ErrNotFound) {
			b.Errorf("its definition: %v, want ErrNotFound", err)
		}
	}
	time.Sleep(300 * time.Millisecond) // late events must not bring it back
	b.wantUnlisted(req.UUID)
	b.ok("start again", b.Hypervisor.Start(b.Context(), req))
	b.wantState(req.UUID, hypervisor.StateRunning)
}

func testRemoveAutostart(b *bench) {
	b.need("define by hand", b.Define != nil)
	req := b.request("autostart")
	b.ok("define", b.Define(req.XML))
	if d := b.wantState(req.UUID, hypervisor.StateOff); !d.Autostart || !d.Persistent {
		b.Fatalf("got %+v, want autostart", d)
	}
	for range 2 {
		b.ok("clear autostart", b.adj.ClearAutostart(b.Context(), req.UUID))
		if d := b.wantState(req.UUID, hypervisor.StateOff); d.Autostart {
			b.Fatalf("got %+v, want no autostart", d)
		}
	}
	b.ok("define again", b.Define(req.XML))
	b.ok("remove", b.Hypervisor.Remove(b.Context(), req.UUID))
	b.wantUnlisted(req.UUID)
	b.ok("start", b.Hypervisor.Start(b.Context(), req))
	if d := b.wantState(req.UUID, hypervisor.StateRunning); d.Autostart {
		b.Errorf("autostart survived Remove")
	}
}

func testDefinition(b *bench) {
	req := b.start("definition")
	first, err := b.Hypervisor.Definition(b.Context(), req.UUID)
	b.ok("definition", err)
	if first.UUID != req.UUID || !first.Persistent || first.Hash != sha256.Sum256(first.XML) {
		b.Errorf("got %s, persistent %v, hash %x", first.UUID, first.Persistent, first.Hash)
	}
	// What was read is what starts elsewhere, and what is read there again.
	b.ok("remove", b.Hypervisor.Remove(b.Context(), req.UUID))
	req.XML = first.XML
	b.ok("start from it", b.Hypervisor.Start(b.Context(), req))
	running, err := b.Hypervisor.Definition(b.Context(), req.UUID)
	b.ok("definition", err)
	if !bytes.Equal(first.XML, running.XML) {
		b.Errorf("not byte for byte:\n%s\n%s", first.XML, running.XML)
	}
	b.ok("destroy", b.Hypervisor.Stop(b.Context(), req.UUID, hypervisor.StopDestroy))
	off, err := b.Hypervisor.Definition(b.Context(), req.UUID)
	b.ok("definition", err)
	if off.Hash != first.Hash {
		b.Errorf("the definition depends on whether the domain runs:\n%s\n%s", first.XML, off.XML)
	}
}

// What a domain runs with is told apart from what it would be started from next.
func testEdited(b *bench) {
	b.need("define by hand", b.Define != nil)
	req := b.start("edited")
	first, err := b.Hypervisor.Definition(b.Context(), req.UUID)
	b.ok("definition", err)
	b.ok("edit", b.Define(bytes.Replace(first.XML, []byte("</name>"), []byte("</name><title>edited</title>"), 1)))
	title := []byte("<title>edited</title>")
	def, err := b.Hypervisor.Definition(b.Context(), req.UUID)
	b.ok("definition", err)
	if !bytes.Contains(def.XML, title) || def.Hash == first.Hash || len(def.Running) == 0 || bytes.Contains(def.Running, title) {
		b.Errorf("after an edit it would be started from\n%s\nand runs with\n%s", def.XML, def.Running)
	}
	b.ok("destroy", b.Hypervisor.Stop(b.Context(), req.UUID, hypervisor.StopDestroy))
	off, err := b.Hypervisor.Definition(b.Context(), req.UUID)
	b.ok("definition", err)
	if off.Hash != def.Hash || off.Running != nil {
		b.Errorf("off, it would be started from\n%s\nand runs with\n%s", off.XML, off.Running)
	}
}

func testTransient(b *bench) {
	req := b.request("transient")
	req.Transient = true
	b.ok("start", b.Hypervisor.Start(b.Context(), req))
	if d := b.wantState(req.UUID, hypervisor.StateRunning); d.Persistent {
		b.Error("it is persistent")
	}
	def, err := b.Hypervisor.Definition(b.Context(), req.UUID)
	b.ok("definition", err)
	if def.Persistent {
		b.Error("its definition is persistent")
	}
	b.ok("destroy", b.Hypervisor.Stop(b.Context(), req.UUID, hypervisor.StopDestroy))
	d := b.eventually(req.UUID, hypervisor.StateAbsent)
	b.until("the reason of the event", func() bool {
		d, _ = b.look(req.UUID)
		return d.Reason == hypervisor.ReasonDestroyed
	})
	if d.Active() || !strings.HasPrefix(d.Name, "transient-") {
		b.Errorf("got %+v", d)
	}
	req.XML = def.XML
	b.ok("start from its definition", b.Hypervisor.Start(b.Context(), req))
	b.wantState(req.UUID, hypervisor.StateRunning)
}

func testTransientRemoved(b *bench) {
	req := b.request("transient")
	req.Transient = true
	b.ok("start", b.Hypervisor.Start(b.Context(), req))
	b.wantState(req.UUID, hypervisor.StateRunning)
	b.ok("remove", b.Hypervisor.Remove(b.Context(), req.UUID))
	b.wantUnlisted(req.UUID)
}

func testPaused(b *bench) {
	b.need("pause", b.Pause != nil)
	req := b.start("paused")
	b.ok("pause", b.Pause(req.UUID))
	if d := b.eventually(req.UUID, hypervisor.StatePaused); d.Reason != hypervisor.ReasonUser || !d.Active() {
		b.Errorf("got %+v", d)
	}
	if err := b.Hypervisor.Start(b.Context(), req); !errors.Is(err, hypervisor.ErrActive) {
		b.Errorf("start of a paused domain: %v, want ErrActive", err)
	}
	for range 2 { // running already is a success
		b.ok("resume", b.adj.Resume(b.Context(), req.UUID))
		b.wantState(req.UUID, hypervisor.StateRunning)
	}
	b.ok("destroy", b.Hypervisor.Stop(b.Context(), req.UUID, hypervisor.StopDestroy))
	if err := b.adj.Resume(b.Context(), req.UUID); err == nil {
		b.Error("resumed a domain that is off")
	}
	b.wantState(req.UUID, hypervisor.StateOff)
}

func testUnknown(b *bench) {
	id := hypervisor.UUID{1, 2, 3}
	_, err := b.Hypervisor.Definition(b.Context(), id)
	for what, err := range map[string]error{
		"definition":      err,
		"shutdown":        b.Hypervisor.Stop(b.Context(), id, hypervisor.StopShutdown),
		"destroy":         b.Hypervisor.Stop(b.Context(), id, hypervisor.StopDestroy),
		"resume":          b.adj.Resume(b.Context(), id),
		"clear autostart": b.adj.ClearAutostart(b.Context(), id),
	} {
		if !errors.Is(err, hypervisor.ErrNotFound) {
			b.Errorf("%s: %v, want ErrNotFound", what, err)
		}
	}
	b.ok("remove", b.Hypervisor.Remove(b.Context(), id))
}

func testConcurrentStarts(b *bench) {
	req := b.request("race")
	var wg sync.WaitGroup
	errs := make([]error, 4)
	for i := range errs {
		wg.Go(func() { errs[i] = b.Hypervisor.Start(b.Context(), req) })
	}
	wg.Wait()
	won := 0
	for _, err := range errs {
		switch {
		case err == nil:
			won++
		case !errors.Is(err, hypervisor.ErrActive):
			b.Logf("a loser: %v", err)
		}
	}
	b.wantState(req.UUID, hypervisor.StateRunning)
	if won != 1 {
		b.Errorf("%d of %d starts at once succeeded, want 1", won, len(errs))
	}
}
