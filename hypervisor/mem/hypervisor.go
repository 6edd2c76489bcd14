package mem

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"lifeboat/hypervisor"
	"lifeboat/hypervisor/domxml"
)

var (
	_ hypervisor.Hypervisor = (*Host)(nil)
	_ hypervisor.Adjuster   = (*Host)(nil)
	_ hypervisor.Migrator   = (*Host)(nil)
	_ hypervisor.Asker      = (*Host)(nil)
)

// Inventory implements hypervisor.Hypervisor.
func (h *Host) Inventory(ctx context.Context) (hypervisor.Inventory, error) {
	inv := hypervisor.Inventory{
		Hostname: h.name, Version: "mem", Arch: "x86_64", CPUs: h.opts.CPUs, MemoryBytes: h.opts.MemoryBytes,
		DomainTypes: []string{"kvm", "qemu", "test"}, Machines: slices.Sorted(slices.Values(h.machines)),
		CPUModels: slices.Sorted(slices.Values(h.cpuModels)), Networks: slices.Clone(h.networks),
	}
	if h.opts.Peer != nil { // hosts of other processes are out of reach
		inv.MigrateURI = "mem://" + h.name
	}
	if inv.CPUs == 0 {
		inv.CPUs = 64
	}
	if inv.MemoryBytes == 0 {
		inv.MemoryBytes = 256 << 30
	}
	err := h.ask(ctx, func() error {
		for _, m := range h.mounts {
			if m.offline {
				inv.Problems = append(inv.Problems, hypervisor.Problem{Part: "storage", Name: m.name, Message: "the storage does not answer"})
				continue
			}
			inv.Storages = append(inv.Storages, hypervisor.Storage{Name: m.name, Kind: "dir", Path: m.dir, Source: m.name, Shared: m.shared})
		}
		return nil
	})
	return inv, opError("read inventory", "", err)
}

// Domains implements hypervisor.Hypervisor.
func (h *Host) Domains(ctx context.Context) ([]hypervisor.Domain, error) {
	var ds []hypervisor.Domain
	err := h.ask(ctx, func() error {
		if h.broken != nil {
			return h.broken
		}
		ds = make([]hypervisor.Domain, 0, len(h.domains)+len(h.gone))
		for _, v := range h.domains {
			ds = append(ds, v.domain())
		}
		for id, g := range h.gone {
			switch {
			case time.Now().After(g.until):
				delete(h.gone, id)
			case h.domains[id] == nil:
				ds = append(ds, g.domain)
			}
		}
		slices.SortFunc(ds, func(a, b hypervisor.Domain) int { return a.UUID.Compare(b.UUID) })
		return nil
	})
	return ds, opError("list domains", "", err)
}

// Definition implements hypervisor.Hypervisor.
func (h *Host) Definition(ctx context.Context, id hypervisor.UUID) (hypervisor.Definition, error) {
	var d hypervisor.Definition
	err := h.ask(ctx, func() error {
		v, err := h.find(id)
		if err == nil {
			d = hypervisor.NewDefinition(id, bytes.Clone(v.xml), v.persistent)
			if v.next != nil {
				d = hypervisor.NewDefinition(id, bytes.Clone(v.next), v.persistent)
			}
			if v.state.Active() {
				d.Running = bytes.Clone(v.xml)
			}
		}
		return err
	})
	return d, opError("read definition", id.String(), err)
}

// Start implements hypervisor.Hypervisor.
func (h *Host) Start(ctx context.Context, req hypervisor.StartRequest) error {
	return opError("start", req.UUID.String(), h.start(ctx, req))
}

func (h *Host) start(ctx context.Context, req hypervisor.StartRequest) error {
	needs, err := domxml.Parse(req.XML)
	if err != nil {
		return err
	}
	if needs.UUID != req.UUID || req.UUID.IsZero() {
		return fmt.Errorf("the definition is of %s", needs.UUID)
	}
	had := false
	if !req.Transient {
		err = h.call(ctx, h.orderLimit, 0, func() error {
			had = h.domains[req.UUID] != nil
			return h.define(needs, req.XML)
		})
		if err != nil {
			return err
		}
	}
	err = h.call(ctx, h.orderLimit, h.opts.StartDelay, func() error { return h.create(needs, req) })
	if err != nil {
		if !had && !req.Transient && !errors.Is(err, hypervisor.ErrUnknownOutcome) && !errors.Is(err, hypervisor.ErrActive) {
			err = h.takeBack(ctx, req.UUID, err)
		}
		return err
	}
	if req.Confirm != nil {
		if err := req.Confirm(ctx); err != nil {
			return h.takeBack(ctx, req.UUID, fmt.Errorf("not confirmed: %w", err))
		}
	}
	return h.call(ctx, h.orderLimit, 0, func() error {
		v, err := h.find(req.UUID)
		if err != nil {
			return err
		}
		if v.state == hypervisor.StateRunning {
			return nil
		}
		if err := h.run(v, hypervisor.ReasonBooted); err != nil {
			h.journal(v, Refused, hypervisor.ReasonFailed, err.Error())
			h.end(v, hypervisor.ReasonFailed)
			return err
		}
		return nil
	})
}

// takeBack removes what a failed start has made; ctx may be the reason why it
// failed and is not relied on.
func (h *Host) takeBack(ctx context.Context, id hypervisor.UUID, why error) error {
	if err := h.remove(context.WithoutCancel(ctx), id); err != nil {
		return fmt.Errorf("%w; and taking it back failed: %w", why, err)
	}
	return why
}

func (h *Host) define(n domxml.Needs, xml []byte) error {
	v := h.domains[n.UUID]
	if v == nil {
		for _, other := range h.domains {
			if other.needs.Name == n.Name {
				return fmt.Errorf("domain '%s' already exists with uuid %s", n.Name, other.needs.UUID)
			}
		}
		v = &vm{state: hypervisor.StateOff}
		h.domains[n.UUID] = v
	}
	if v.state.Active() {
		return hypervisor.ErrActive
	}
	v.needs, v.xml, v.persistent = n, bytes.Clone(xml), true
	delete(h.gone, n.UUID)
	h.changed(v)
	return nil
}

// create makes a paused domain.
func (h *Host) create(n domxml.Needs, req hypervisor.StartRequest) error {
	v := h.domains[req.UUID]
	if v == nil && !req.Transient {
		return hypervisor.ErrNotFound // removed by somebody meanwhile
	}
	if v == nil {
		v = &vm{needs: n, xml: bytes.Clone(req.XML), state: hypervisor.StateOff}
	}
	if v.state.Active() {
		h.journal(v, Refused, hypervisor.ReasonUnknown, "a second start while it is active")
		return hypervisor.ErrActive
	}
	err := h.fault(req.UUID)
	if err == nil {
		err = h.missing(n)
	}
	if err != nil {
		h.journal(v, Refused, hypervisor.ReasonFailed, err.Error())
		v.reason = hypervisor.ReasonFailed
		return err
	}
	h.domains[req.UUID] = v
	delete(h.gone, req.UUID)
	v.ran, v.managedSave = false, false
	h.set(v, hypervisor.StatePaused, hypervisor.ReasonUser) // as qemu reports it
	return nil
}

// Stop implements hypervisor.Hypervisor.
func (h *Host) Stop(ctx context.Context, id hypervisor.UUID, mode hypervisor.StopMode) error {
	err := h.call(ctx, h.orderLimit, 0, func() error {
		v, err := h.find(id)
		switch {
		case err != nil:
			return err
		case !v.state.Active():
			return nil
		case mode == hypervisor.StopDestroy:
			h.end(v, hypervisor.ReasonDestroyed)
		case v.state != hypervisor.StateRunning:
			return fmt.Errorf("it is %s and cannot hear the power button", v.state)
		case !v.deaf && h.shutdownIn >= 0:
			h.after(h.shutdownIn, func() {
				if h.domains[id] == v && v.state == hypervisor.StateRunning {
					h.end(v, hypervisor.ReasonShutdown)
				}
			})
		}
		return nil
	})
	return opError("stop", id.String(), err)
}

// Remove implements hypervisor.Hypervisor.
func (h *Host) Remove(ctx context.Context, id hypervisor.UUID) error {
	return opError("remove", id.String(), h.remove(ctx, id))
}

func (h *Host) remove(ctx context.Context, id hypervisor.UUID) error {
	return h.call(ctx, h.orderLimit, 0, func() error {
		v := h.domains[id]
		if v != nil && v.state.Active() {
			h.end(v, hypervisor.ReasonDestroyed)
		}
		delete(h.domains, id)
		delete(h.gone, id)
		if v != nil {
			h.changed(v)
		}
		return nil
	})
}

// Resume implements hypervisor.Adjuster.
func (h *Host) Resume(ctx context.Context, id hypervisor.UUID) error {
	err := h.call(ctx, h.orderLimit, 0, func() error {
		v, err := h.find(id)
		switch {
		case err != nil:
			return err
		case v.state == hypervisor.StateRunning:
			return nil
		case v.state != hypervisor.StatePaused:
			return fmt.Errorf("it is %s, only a paused domain can be resumed", v.state)
		}
		if i := slices.IndexFunc(h.mounts, func(m *mount) bool { return m.offline && v.uses(m) }); i >= 0 {
			h.set(v, hypervisor.StatePaused, hypervisor.ReasonIOError) // runs into the same error at once
			return nil
		}
		return h.run(v, hypervisor.ReasonUser)
	})
	return opError("resume", id.String(), err)
}

// ClearAutostart implements hypervisor.Adjuster.
func (h *Host) ClearAutostart(ctx context.Context, id hypervisor.UUID) error {
	err := h.call(ctx, h.orderLimit, 0, func() error {
		v, err := h.find(id)
		if err == nil {
			v.autostart = false
		}
		return err
	})
	return opError("clear autostart of", id.String(), err)
}

// Watch implements hypervisor.Hypervisor.
func (h *Host) Watch(ctx context.Context) (<-chan hypervisor.Event, error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.down || h.closed {
		return nil, opError("watch", "", hypervisor.ErrUnavailable)
	}
	return h.feed.Subscribe(ctx), nil
}

// Close implements hypervisor.Hypervisor. The host is gone after it; to lose
// only the connection use SetDown.
func (h *Host) Close() error {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.closed = true
	for _, t := range h.timers {
		t.Stop()
	}
	h.feed.Hangup()
	return nil
}

func opError(op, subject string, err error) error {
	if err == nil {
		return nil
	}
	return &hypervisor.Error{Op: op, Subject: subject, Err: err}
}
