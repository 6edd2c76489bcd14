package mem

import (
	"context"
	"errors"
	"fmt"
	"time"

	"lifeboat/hypervisor"
)

var (
	errAborted = errors.New("operation aborted: migration out: canceled by client")
	errTooLong = errors.New("operation aborted: migration out: it took too long")
)

// Migrate implements hypervisor.Migrator. The target lists the domain paused while
// it comes in, and says first, as libvirt does, that it is starting.
func (h *Host) Migrate(ctx context.Context, req hypervisor.MigrateRequest) error {
	return opError("migrate", req.UUID.String(), h.migrate(ctx, req))
}

func (h *Host) migrate(ctx context.Context, req hypervisor.MigrateRequest) error {
	var to *Host
	if h.opts.Peer != nil {
		to = h.opts.Peer(req.URI)
	}
	ctx, abort := context.WithCancelCause(ctx)
	defer abort(nil)
	err := h.call(ctx, h.orderLimit, 0, func() error {
		v, err := h.find(req.UUID)
		switch {
		case err != nil:
			return err
		case v.state != hypervisor.StateRunning:
			return fmt.Errorf("it is %s, only a running domain can be migrated", v.state)
		case v.leaving != nil:
			return errors.New("it is being migrated already")
		case to == nil || to == h:
			return fmt.Errorf("unable to connect to server at '%s'", req.URI)
		}
		v.leaving = abort
		return nil
	})
	if err != nil {
		return err
	}
	defer h.stays(req.UUID)
	if err := to.await(h, req.UUID); err != nil {
		return err
	}
	within := req.Within
	if within <= 0 {
		within = time.Minute
	}
	listed := time.AfterFunc(h.opts.MigrateTime/4, func() { to.comesIn(req.UUID) })
	over, done := time.NewTimer(h.opts.MigrateTime), time.NewTimer(within)
	defer listed.Stop()
	defer over.Stop()
	defer done.Stop()
	select {
	case <-over.C:
	case <-done.C:
		err = errTooLong
	case <-ctx.Done():
		err = context.Cause(ctx)
	}
	if there := to.dismiss(req.UUID); !there && err == nil {
		err = errors.New("operation failed: the target has ended the domain that was coming in")
	}
	if err != nil {
		return err
	}
	return h.MigrateTo(to, req.UUID)
}

// stays: no migration of the domain is under way any more.
func (h *Host) stays(id hypervisor.UUID) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if v := h.domains[id]; v != nil {
		v.leaving = nil
	}
}

// await makes room for a domain that comes in from another host.
func (h *Host) await(from *Host, id hypervisor.UUID) error {
	from.mu.Lock()
	v, err := from.find(id)
	if err != nil {
		from.mu.Unlock()
		return err
	}
	needs, xml, persistent := v.needs, v.xml, v.persistent
	from.mu.Unlock()

	h.mu.Lock()
	defer h.mu.Unlock()
	if h.down || h.closed {
		return fmt.Errorf("unable to connect to server at 'mem://%s'", h.name)
	}
	if err := h.missing(needs); err != nil {
		return err
	}
	if x := h.domains[id]; x != nil && x.state.Active() {
		return fmt.Errorf("domain '%s' is already active", needs.Name)
	}
	x := &vm{needs: needs, xml: xml, persistent: persistent, state: hypervisor.StatePaused, reason: hypervisor.ReasonStarting, coming: true}
	h.domains[id] = x
	delete(h.gone, id)
	h.changed(x)
	return nil
}

// comesIn: the domain's process is up, and waits for its memory.
func (h *Host) comesIn(id hypervisor.UUID) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if x := h.domains[id]; x != nil && x.coming && !h.down && !h.closed {
		x.reason = hypervisor.ReasonMigrating
		h.changed(x)
	}
}

// dismiss forgets a domain that was coming in: it arrives now, or does not. False:
// somebody has ended it.
func (h *Host) dismiss(id hypervisor.UUID) bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	if x := h.domains[id]; x != nil && x.coming {
		delete(h.domains, id)
		h.changed(x)
		return true
	}
	return false
}

// AbortMigration implements hypervisor.Migrator.
func (h *Host) AbortMigration(ctx context.Context, id hypervisor.UUID) error {
	under := func() (bool, error) {
		on := false
		err := h.call(ctx, h.orderLimit, 0, func() error {
			if v := h.domains[id]; v != nil && v.leaving != nil {
				on = true
				v.leaving(errAborted)
			}
			return nil
		})
		return on, err
	}
	for {
		switch on, err := under(); {
		case err != nil || !on:
			return opError("abort the migration of", id.String(), err)
		}
		select {
		case <-time.After(10 * time.Millisecond):
		case <-ctx.Done():
			return opError("abort the migration of", id.String(), fmt.Errorf("%w: %w", hypervisor.ErrUnknownOutcome, ctx.Err()))
		}
	}
}
