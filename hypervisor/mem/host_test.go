package mem_test

import (
	"bytes"
	"context"
	"errors"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"lifeboat/hypervisor"
	"lifeboat/hypervisor/domxml"
	"lifeboat/hypervisor/mem"
)

type world struct {
	*testing.T
	storage *mem.Storage
	h1, h2  *mem.Host
	journal []mem.JournalEntry
}

func newWorld(t *testing.T, locks bool) *world {
	w := &world{T: t, storage: mem.NewStorage(mem.StorageOptions{Name: "san", Dir: "/srv/vms", Shared: true, Locks: locks})}
	host := func(name string) *mem.Host {
		h := mem.NewHost(mem.Options{
			Name: name, Storages: []*mem.Storage{w.storage}, StartDelay: 2 * time.Second,
			OnEvent: func(e mem.JournalEntry) { w.journal = append(w.journal, e) },
		})
		t.Cleanup(func() { h.Close() })
		return h
	}
	w.h1, w.h2 = host("h1"), host("h2")
	return w
}

func (w *world) request() hypervisor.StartRequest {
	id := hypervisor.UUID{7}
	return hypervisor.StartRequest{UUID: id, XML: render(w.T, domxml.Template{Name: "db", UUID: id, Disk: "/srv/vms/db.img"})}
}

func (w *world) start(h *mem.Host, req hypervisor.StartRequest) {
	w.Helper()
	if err := h.Start(w.Context(), req); err != nil {
		w.Fatal(err)
	}
}

func (w *world) domain(h *mem.Host, id hypervisor.UUID) (hypervisor.Domain, bool) {
	w.Helper()
	ds, err := h.Domains(w.Context())
	if err != nil {
		w.Fatal(err)
	}
	i := slices.IndexFunc(ds, func(d hypervisor.Domain) bool { return d.UUID == id })
	if i < 0 {
		return hypervisor.Domain{}, false
	}
	return ds[i], true
}

func (w *world) kinds() (out []string) {
	for _, e := range w.journal {
		out = append(out, e.Host+" "+string(e.Kind)+" "+e.Reason.String())
	}
	return out
}

func TestSplitBrainIsSeen(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, false)
		req := w.request()
		w.start(w.h1, req)
		w.start(w.h2, req)
		if c := w.storage.Conflicts(); len(c) != 1 || c[0].First != "h1" || c[0].Second != "h2" {
			t.Errorf("conflicts %+v", c)
		}
	})
}

func TestLocksRefuseTheSecondWriter(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, true)
		req := w.request()
		w.start(w.h1, req)
		if err := w.h2.Start(t.Context(), req); err == nil {
			t.Fatal("started twice")
		}
		if d, ok := w.domain(w.h2, req.UUID); ok && d.Active() {
			t.Errorf("left behind: %+v", d)
		}
		w.h1.PowerOff()
		w.start(w.h2, req)
		if c := w.storage.Conflicts(); len(c) != 0 {
			t.Errorf("conflicts %+v", c)
		}
	})
}

func TestPowerOff(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, false)
		req := w.request()
		w.start(w.h1, req)
		passing := hypervisor.StartRequest{UUID: hypervisor.UUID{8}, Transient: true}
		passing.XML = render(t, domxml.Template{Name: "passing", UUID: passing.UUID})
		w.start(w.h1, passing)
		ch, err := w.h1.Watch(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		w.h1.PowerOff()
		for range ch {
		}
		if _, err := w.h1.Domains(t.Context()); !errors.Is(err, hypervisor.ErrUnavailable) {
			t.Errorf("a host without power says %v", err)
		}
		w.h1.PowerOn()
		if d, ok := w.domain(w.h1, req.UUID); !ok || d.State != hypervisor.StateOff {
			t.Errorf("persistent: %+v %v", d, ok)
		}
		if d, ok := w.domain(w.h1, passing.UUID); ok {
			t.Errorf("transient: %+v", d)
		}
	})
}

// S8: what autostart does to a control plane that is not looking.
func TestAutostartStartsAtBoot(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, false)
		req := w.request()
		if err := w.h1.Define(req.XML, true); err != nil {
			t.Fatal(err)
		}
		w.h1.PowerOff()
		w.start(w.h2, req)
		w.h1.PowerOn()
		if len(w.storage.Conflicts()) != 1 {
			t.Error("autostart did not start the domain")
		}
	})
}

func TestStartLostByPowerIsUnknownAndDoesNotRun(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, false)
		req := w.request()
		done := make(chan error)
		go func() { done <- w.h1.Start(t.Context(), req) }()
		time.Sleep(time.Second)
		w.h1.PowerOff()
		w.h1.PowerOn()
		if err := <-done; !errors.Is(err, hypervisor.ErrUnknownOutcome) {
			t.Errorf("got %v", err)
		}
		time.Sleep(time.Minute)
		if d, _ := w.domain(w.h1, req.UUID); d.Active() {
			t.Errorf("it runs after the power was gone: %+v", d)
		}
	})
}

// S4: a call that was given up still happens, but its CPUs do not run without
// the confirmation that never came.
func TestAbandonedStartHappensLater(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, false)
		req := w.request()
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		if err := w.h1.Start(ctx, req); !errors.Is(err, hypervisor.ErrUnknownOutcome) {
			t.Fatalf("got %v", err)
		}
		time.Sleep(5 * time.Second)
		if d, _ := w.domain(w.h1, req.UUID); d.State != hypervisor.StatePaused {
			t.Errorf("got %+v, want it paused", d)
		}
		if len(w.journal) != 0 {
			t.Errorf("journal %v", w.kinds())
		}
	})
}

func TestStartFaults(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, false)
		req := w.request()
		boom := errors.New("boom")
		w.h1.FailStarts(hypervisor.UUID{}, 2, boom)
		for range 2 {
			if err := w.h1.Start(t.Context(), req); !errors.Is(err, boom) {
				t.Fatalf("got %v", err)
			}
		}
		w.start(w.h1, req)
		if err := w.h1.GuestShutdown(req.UUID); err != nil {
			t.Fatal(err)
		}
		if d, _ := w.domain(w.h1, req.UUID); d.State != hypervisor.StateOff || d.Reason != hypervisor.ReasonShutdown {
			t.Errorf("got %+v", d)
		}
		want := []string{"h1 refused failed", "h1 refused failed", "h1 started booted", "h1 stopped shutdown"}
		if got := w.kinds(); !slices.Equal(got, want) {
			t.Errorf("journal %q, want %q", got, want)
		}
	})
}

func TestStorageLoss(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, false)
		req := w.request()
		w.start(w.h1, req)
		w.h1.SetStorage(w.storage, false)
		if d, _ := w.domain(w.h1, req.UUID); d.State != hypervisor.StatePaused || d.Reason != hypervisor.ReasonIOError {
			t.Errorf("got %+v", d)
		}
		inv, err := w.h1.Inventory(t.Context())
		if err != nil || len(inv.Problems) != 1 || len(inv.Storages) != 0 {
			t.Errorf("inventory %+v, %v", inv, err)
		}
		if err := w.h1.Resume(t.Context(), req.UUID); err != nil {
			t.Error(err)
		}
		if d, _ := w.domain(w.h1, req.UUID); d.Reason != hypervisor.ReasonIOError {
			t.Errorf("resumed without its disk: %+v", d)
		}
		w.h1.SetStorage(w.storage, true)
		if err := w.h1.Resume(t.Context(), req.UUID); err != nil {
			t.Error(err)
		}
		if d, _ := w.domain(w.h1, req.UUID); d.State != hypervisor.StateRunning {
			t.Errorf("got %+v", d)
		}
	})
}

func TestMigration(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, false)
		req := w.request()
		w.start(w.h1, req)
		if err := w.h1.MigrateTo(w.h2, req.UUID); err != nil {
			t.Fatal(err)
		}
		if d, _ := w.domain(w.h1, req.UUID); d.State != hypervisor.StateOff || d.Reason != hypervisor.ReasonMigrated {
			t.Errorf("source: %+v", d)
		}
		if d, _ := w.domain(w.h2, req.UUID); d.State != hypervisor.StateRunning || d.Reason != hypervisor.ReasonMigrated {
			t.Errorf("target: %+v", d)
		}
		if err := w.h2.MigrateTo(w.h1, req.UUID); err != nil {
			t.Fatal(err)
		}
		w.h2.PowerOff()
		if err := w.h1.MigrateTo(w.h2, req.UUID); !errors.Is(err, hypervisor.ErrUnavailable) {
			t.Errorf("migrated to a host without power: %v", err)
		}
		if d, _ := w.domain(w.h1, req.UUID); d.State != hypervisor.StateRunning {
			t.Errorf("after a failed migration: %+v", d)
		}
		if c := w.storage.Conflicts(); len(c) != 0 {
			t.Errorf("conflicts %+v", c)
		}
	})
}

// A snapshot changes what a domain writes to, not what it is started from next.
func TestSnapshot(t *testing.T) {
	shared := mem.NewStorage(mem.StorageOptions{Name: "vms", Dir: "/srv/vms", Shared: true})
	h, other := mem.NewHost(mem.Options{Name: "h1", Storages: []*mem.Storage{shared}}), mem.NewHost(mem.Options{Name: "h2", Storages: []*mem.Storage{shared}})
	id := hypervisor.UUID{15: 1}
	xml := []byte("<domain type='kvm'><name>a</name><uuid>" + id.String() + "</uuid><memory>1024</memory><devices><disk type='file' device='disk'><source file='/srv/vms/a'/><target dev='vda'/></disk></devices></domain>")
	for _, h := range []*mem.Host{h, other} {
		t.Cleanup(func() { _ = h.Close() })
		if err := h.Start(t.Context(), hypervisor.StartRequest{UUID: id, XML: xml}); err != nil {
			t.Fatal(err)
		}
		if h == other {
			break
		}
		if err := h.Snapshot(id, "/srv/vms/a", "/srv/vms/a.snap"); err != nil {
			t.Fatal(err)
		}
	}
	if c := shared.Conflicts(); len(c) != 0 {
		t.Errorf("the snapshot writes to the file below: %v", c)
	}
	def, err := h.Definition(t.Context(), id)
	if err != nil || string(def.XML) != string(xml) || !bytes.Contains(def.Running, []byte("/srv/vms/a.snap")) {
		t.Errorf("it is started from\n%s\nand runs with\n%s\n%v", def.XML, def.Running, err)
	}
}
