package agent

import (
	"context"
	"errors"
	"time"

	"lifeboat/agent/session"
	"lifeboat/hypervisor"
)

// carryOut does what the session asks for, in order; what takes long is only
// begun. It returns the exit when there is one.
func (a *agent) carryOut(list []session.Action) *session.Exit {
	for _, x := range list {
		switch x := x.(type) {
		case session.Poll:
			a.start(x.Timeout, func(ctx context.Context) input { return a.poll(ctx, x) })
		case session.ReadInventory:
			a.start(x.Timeout, a.readInventory)
		case session.ReadHashes:
			a.start(x.Timeout, func(ctx context.Context) input { return a.readHashes(ctx, x.VMs) })
		case session.Register:
			a.register(x)
		case session.Report:
			a.report(x)
		case session.PutSpecs:
			a.putSpecs(x)
		case session.Leave:
			a.leave(x)
		case session.Probe:
			a.start(probeTimeout, func(ctx context.Context) input { return a.probe(ctx, x.Req) })
		case session.RunFence:
			a.runFence(x)
		case session.StopFence:
			a.stopFence(x)
		case session.StartVM:
			a.operate(x.ID, func(ctx context.Context) error { return a.startVM(ctx, x) })
		case session.StopVM:
			a.operate(x.ID, func(ctx context.Context) error { return a.hv.Stop(ctx, x.ID, x.Mode) })
		case session.RemoveVM:
			a.operate(x.ID, func(ctx context.Context) error { return a.hv.Remove(ctx, x.ID) })
		case session.ResumeVM:
			a.adjust(x.ID, func(ctx context.Context, h hypervisor.Adjuster) error { return h.Resume(ctx, x.ID) })
		case session.ClearAutostart:
			a.adjust(x.ID, func(ctx context.Context, h hypervisor.Adjuster) error { return h.ClearAutostart(ctx, x.ID) })
		case session.MigrateVM:
			a.migrate(x)
		case session.AskGuest:
			a.askGuest(x.ID)
		case session.AbortMigration:
			a.abortMigration(x.ID)
		case session.Persist:
			a.persist(x)
		case session.SaveLease:
			a.saveLease(x.Held)
		case session.ArmWatchdog:
			a.start(0, func(context.Context) input { return watchdogDone(a.cfg.Watchdog.Arm(x.Bound)) })
		case session.DisarmWatchdog:
			a.start(0, func(context.Context) input { return watchdogDone(a.cfg.Watchdog.Disarm()) })
		case session.PetWatchdog:
			a.pet()
		case session.Note:
			a.note(x)
		case session.Exit:
			return &x
		}
	}
	return nil
}

func (a *agent) poll(ctx context.Context, x session.Poll) input {
	domains, err := a.hv.Domains(ctx)
	return func(s *session.Session, now session.Instant) session.Out { return s.Polled(now, x.ID, domains, err) }
}

func (a *agent) readInventory(ctx context.Context) input {
	inv, err := a.hv.Inventory(ctx)
	guests := a.cfg.Guests()
	return func(s *session.Session, now session.Instant) session.Out {
		return s.InventoryRead(now, inv, guests, err)
	}
}

func (a *agent) readHashes(ctx context.Context, vms []hypervisor.UUID) input {
	hashes := make(map[hypervisor.UUID][32]byte, len(vms))
	for _, id := range vms {
		if def, err := a.hv.Definition(ctx, id); err == nil {
			hashes[id] = session.SpecHash(def)
		} else if ctx.Err() != nil {
			break
		}
	}
	return func(s *session.Session, now session.Instant) session.Out { return s.HashesRead(now, vms, hashes) }
}

// operate does something to a VM. The driver bounds how long it takes.
func (a *agent) operate(id hypervisor.UUID, do func(context.Context) error) {
	a.start(0, func(ctx context.Context) input {
		err := do(ctx)
		return func(s *session.Session, now session.Instant) session.Out {
			return s.OpDone(now, session.OpResult{ID: id, Err: err})
		}
	})
}

func (a *agent) adjust(id hypervisor.UUID, do func(context.Context, hypervisor.Adjuster) error) {
	a.operate(id, func(ctx context.Context) error {
		h, ok := a.hv.(hypervisor.Adjuster)
		if !ok {
			return errors.New("adjust a domain: this hypervisor cannot")
		}
		return do(ctx, h)
	})
}

// errNoMigrator: the hypervisor of this host does not migrate.
var errNoMigrator = errors.New("this hypervisor does not migrate domains")

func (a *agent) migrate(x session.MigrateVM) {
	a.start(0, func(ctx context.Context) input {
		err := errNoMigrator
		if h, ok := a.hv.(hypervisor.Migrator); ok {
			err = h.Migrate(ctx, hypervisor.MigrateRequest{UUID: x.ID, URI: x.URI, Within: x.Within})
		}
		return func(s *session.Session, now session.Instant) session.Out {
			return s.MigrateDone(now, x.ID, x.Order, err)
		}
	})
}

func (a *agent) abortMigration(id hypervisor.UUID) {
	a.start(0, func(ctx context.Context) input {
		var err error
		if h, ok := a.hv.(hypervisor.Migrator); ok {
			err = h.AbortMigration(ctx, id)
		}
		return func(s *session.Session, now session.Instant) session.Out { return s.AbortDone(now, id, err) }
	})
}

// askTimeout is how long a question to a guest may take: the driver's own limit, and time
// to reach the hypervisor.
const askTimeout = 8 * time.Second

// errNoAsker: the hypervisor of this host does not reach into guests.
var errNoAsker = errors.New("this hypervisor does not ask guests")

func (a *agent) askGuest(id hypervisor.UUID) {
	a.start(askTimeout, func(ctx context.Context) input {
		err := errNoAsker
		if h, ok := a.hv.(hypervisor.Asker); ok {
			err = h.Ask(ctx, id)
		}
		return func(s *session.Session, now session.Instant) session.Out { return s.GuestAsked(now, id, err) }
	})
}

func (a *agent) startVM(ctx context.Context, x session.StartVM) error {
	return a.hv.Start(ctx, hypervisor.StartRequest{UUID: x.ID, XML: x.Definition, Confirm: func(ctx context.Context) error {
		return a.confirm(ctx, x)
	}})
}

// confirm is the last check of a start (S3), asked from the hypervisor's
// goroutine. When the session cannot be asked, the answer is no.
func (a *agent) confirm(ctx context.Context, x session.StartVM) error {
	answer := make(chan error, 1)
	ask := func(s *session.Session, now session.Instant) session.Out {
		answer <- s.Confirm(now, x.ID, x.Incarnation, x.Order)
		return s.Tick(now)
	}
	select {
	case a.in <- ask:
	case <-a.ctx.Done():
		return session.ErrStopping
	case <-ctx.Done():
		return ctx.Err()
	}
	return <-answer
}

func (a *agent) persist(x session.Persist) {
	a.protected.Store(&x.Ledger.Protected)
	a.start(0, func(context.Context) input {
		err := a.files.saveLedger(x.Ledger)
		return func(s *session.Session, now session.Instant) session.Out { return s.Persisted(now, x.Version, err) }
	})
}

func (a *agent) saveLease(h session.Held) {
	err := a.files.saveLease(h)
	if err != nil && !a.leaseFailed {
		a.log.Error("the lease file cannot be written: after a restart of the agent the lease counts as over", "error", err)
	}
	a.leaseFailed = err != nil
}

func watchdogDone(err error) input {
	return func(s *session.Session, now session.Instant) session.Out { return s.WatchdogDone(now, err) }
}

func (a *agent) pet() {
	if err := a.cfg.Watchdog.Pet(); err != nil {
		a.start(0, func(context.Context) input {
			return func(s *session.Session, now session.Instant) session.Out { return s.WatchdogLost(now, err) }
		})
	}
}

func (a *agent) note(n session.Note) {
	switch n.Level {
	case session.Debug:
		a.log.Debug(n.Message, n.Args...)
	case session.Info:
		a.log.Info(n.Message, n.Args...)
	case session.Warn:
		a.log.Warn(n.Message, n.Args...)
	default:
		a.log.Error(n.Message, n.Args...)
	}
}
