package libvirt

import (
	"context"
	"errors"
	"fmt"
	"time"

	golibvirt "github.com/digitalocean/go-libvirt"

	"lifeboat/hypervisor"
)

const (
	// abortWithin is how long libvirt may take to end a migration once it has been
	// told to.
	abortWithin = 30 * time.Second
	lookPause   = 100 * time.Millisecond
	// migrateGrace is how much longer than it may take an answer is waited for.
	migrateGrace = abortWithin + 10*time.Second
)

// Migrate implements hypervisor.Migrator: peer to peer, so that the two libvirt
// daemons finish it between themselves whatever becomes of us. Never post-copy: a
// guest that is half here and half there has no owner (S7).
func (d *Driver) Migrate(ctx context.Context, req hypervisor.MigrateRequest) error {
	return failed("migrate", req.UUID.String(), d.migrate(ctx, req))
}

func (d *Driver) migrate(ctx context.Context, req hypervisor.MigrateRequest) error {
	l := &lane{d: d}
	defer l.close()
	dom, err := l.lookup(ctx, req.UUID)
	if err != nil {
		return err
	}
	within := req.Within
	if within <= 0 {
		within = time.Minute
	}
	tooLong := make(chan struct{})
	timer := time.AfterFunc(within, func() {
		close(tooLong)
		_ = d.abortMigration(context.WithoutCancel(ctx), req.UUID)
	})
	defer timer.Stop()
	flags := golibvirt.MigrateLive | golibvirt.MigratePeer2peer | golibvirt.MigratePersistDest | golibvirt.MigrateAbortOnError
	if d.opts.MigrateUnsafe {
		flags |= golibvirt.MigrateUnsafe
	}
	err = order(ctx, l, within+migrateGrace, func(lv *golibvirt.Libvirt) error {
		_, err := lv.DomainMigratePerform3Params(dom, golibvirt.OptString{req.URI}, nil, nil, flags)
		return err
	})
	select {
	case <-tooLong:
		if err != nil {
			err = fmt.Errorf("it took longer than %s: %w", within, err)
		}
	default:
	}
	if err == nil || errors.Is(err, hypervisor.ErrUnknownOutcome) || errors.Is(err, hypervisor.ErrUnavailable) || errors.Is(err, hypervisor.ErrNotFound) {
		return err
	}
	// libvirt says that it failed. That it runs here, and that nothing is under way,
	// is seen and not concluded.
	state, _, lookErr := l.state(ctx, req.UUID)
	switch under, jobErr := l.migrating(ctx, dom); {
	case lookErr != nil || jobErr != nil:
		return fmt.Errorf("%w: %w; and looking again failed: %w", hypervisor.ErrUnknownOutcome, err, errors.Join(lookErr, jobErr))
	case under || !state.Active():
		return fmt.Errorf("%w: %w; it is %s", hypervisor.ErrUnknownOutcome, err, state)
	}
	return err
}

// migrating reports whether libvirt has a job with the domain under way. A domain
// that is not active has none.
func (l *lane) migrating(ctx context.Context, dom golibvirt.Domain) (bool, error) {
	kind, err := read(ctx, l, func(lv *golibvirt.Libvirt) (int32, error) {
		kind, _, _, _, _, _, _, _, _, _, _, _, err := lv.DomainGetJobInfo(dom)
		return kind, err
	})
	switch {
	case saidAny(err, golibvirt.ErrOperationInvalid) || errors.Is(err, hypervisor.ErrNotFound):
		return false, nil
	case err != nil:
		return false, err
	}
	switch golibvirt.DomainJobType(kind) {
	case golibvirt.DomainJobBounded, golibvirt.DomainJobUnbounded:
		return true, nil
	}
	return false, nil
}

// AbortMigration implements hypervisor.Migrator.
func (d *Driver) AbortMigration(ctx context.Context, id hypervisor.UUID) error {
	return failed("abort the migration of", id.String(), d.abortMigration(ctx, id))
}

func (d *Driver) abortMigration(ctx context.Context, id hypervisor.UUID) error {
	l := &lane{d: d}
	defer l.close()
	dom, err := l.lookup(ctx, id)
	if errors.Is(err, hypervisor.ErrNotFound) {
		return nil
	}
	if err != nil {
		return err
	}
	for end := time.Now().Add(abortWithin); ; {
		under, err := l.migrating(ctx, dom)
		if err != nil || !under {
			return err
		}
		// Its error says little: the job may have ended meanwhile, or not be abortable
		// at this point. What counts is the look afterwards.
		said := order(ctx, l, d.opts.CallTimeout, func(lv *golibvirt.Libvirt) error { return lv.DomainAbortJob(dom) })
		if errors.Is(said, hypervisor.ErrUnknownOutcome) || errors.Is(said, hypervisor.ErrUnavailable) {
			return said
		}
		if time.Now().After(end) {
			return fmt.Errorf("%w: libvirt has not ended it within %s", hypervisor.ErrUnknownOutcome, abortWithin)
		}
		select {
		case <-time.After(lookPause):
		case <-ctx.Done():
			return fmt.Errorf("%w: %w", hypervisor.ErrUnknownOutcome, context.Cause(ctx))
		}
	}
}
