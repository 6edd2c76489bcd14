package libvirt

import (
	"context"
	"errors"
	"fmt"

	golibvirt "github.com/digitalocean/go-libvirt"

	"lifeboat/hypervisor"
	"lifeboat/hypervisor/domxml"
)

// Definition implements hypervisor.Hypervisor.
func (d *Driver) Definition(ctx context.Context, id hypervisor.UUID) (hypervisor.Definition, error) {
	def, err := d.definition(ctx, id)
	return def, failed("read definition", id.String(), err)
}

func (d *Driver) definition(ctx context.Context, id hypervisor.UUID) (hypervisor.Definition, error) {
	l := &lane{d: d}
	defer l.close()
	dom, err := l.lookup(ctx, id)
	if err != nil {
		return hypervisor.Definition{}, err
	}
	persistent, err := l.flag(ctx, func(lv *golibvirt.Libvirt) (int32, error) { return lv.DomainIsPersistent(dom) })
	if err != nil {
		return hypervisor.Definition{}, err
	}
	flags := golibvirt.DomainXMLSecure | golibvirt.DomainXMLMigratable
	if persistent {
		flags = golibvirt.DomainXMLSecure | golibvirt.DomainXMLInactive
	}
	xml, err := read(ctx, l, func(lv *golibvirt.Libvirt) (string, error) { return lv.DomainGetXMLDesc(dom, flags) })
	if err != nil {
		return hypervisor.Definition{}, err
	}
	def := hypervisor.NewDefinition(id, []byte(xml), persistent)
	active, err := l.active(ctx, id)
	if err == nil && active {
		// Of a domain that has stopped since it is the inactive one again, which is no
		// other than what it last ran with, or is to run with next.
		var running string
		running, err = read(ctx, l, func(lv *golibvirt.Libvirt) (string, error) { return lv.DomainGetXMLDesc(dom, 0) })
		def.Running = []byte(running)
	}
	if err != nil {
		return hypervisor.Definition{}, err
	}
	return def, nil
}

// Start implements hypervisor.Hypervisor.
func (d *Driver) Start(ctx context.Context, req hypervisor.StartRequest) error {
	needs, err := domxml.Parse(req.XML)
	if err == nil && (needs.UUID != req.UUID || req.UUID.IsZero()) {
		err = fmt.Errorf("the definition is of %s", needs.UUID)
	}
	if err == nil {
		err = d.start(ctx, needs, req)
	}
	return failed("start", req.UUID.String(), err)
}

func (d *Driver) start(ctx context.Context, needs domxml.Needs, req hypervisor.StartRequest) error {
	l := &lane{d: d}
	defer l.close()
	had, err := l.refuseActive(ctx, req.UUID)
	if err != nil {
		return err
	}
	if err := d.create(ctx, l, req); err != nil {
		if errors.Is(err, hypervisor.ErrUnknownOutcome) || errors.Is(err, hypervisor.ErrUnavailable) {
			return err // nothing to take back that we know of; the caller looks
		}
		if active, lookErr := l.active(ctx, req.UUID); lookErr == nil && active {
			return fmt.Errorf("%w: somebody else started it: %w", hypervisor.ErrActive, err)
		}
		if !had && !req.Transient {
			err = l.forgetDefinition(ctx, req.UUID, err)
		}
		return err
	}
	d.memory.started(req.UUID, needs.Name)
	if req.Confirm != nil {
		if err := req.Confirm(ctx); err != nil {
			return d.takeBack(ctx, req.UUID, fmt.Errorf("not confirmed: %w", err))
		}
	}
	if err := l.resume(ctx, req.UUID); err != nil {
		if errors.Is(err, hypervisor.ErrUnknownOutcome) || errors.Is(err, hypervisor.ErrUnavailable) {
			return err
		}
		// For example a lock manager, which takes its leases only now.
		return d.takeBack(ctx, req.UUID, err)
	}
	return nil
}

// refuseActive makes sure that the domain is off before its definition is
// touched, and reports whether there is one already.
func (l *lane) refuseActive(ctx context.Context, id hypervisor.UUID) (had bool, err error) {
	active, err := l.active(ctx, id)
	switch {
	case errors.Is(err, hypervisor.ErrNotFound):
		return false, nil
	case err == nil && active:
		return true, hypervisor.ErrActive
	}
	return true, err
}

// create makes the domain exist, with its CPUs stopped.
func (d *Driver) create(ctx context.Context, l *lane, req hypervisor.StartRequest) error {
	flags := golibvirt.DomainStartPaused
	// The test driver has no flags and nothing in it ever runs: pausing
	// afterwards is the same there.
	pauseAfter := d.at.driver == "test"
	if pauseAfter {
		flags = 0
	}
	var dom golibvirt.Domain
	if req.Transient {
		err := order(ctx, l, d.opts.StartTimeout, func(lv *golibvirt.Libvirt) (err error) {
			dom, err = lv.DomainCreateXML(string(req.XML), flags)
			return err
		})
		if err != nil {
			return err
		}
	} else {
		err := order(ctx, l, d.opts.ProbeTimeout, func(lv *golibvirt.Libvirt) (err error) {
			dom, err = lv.DomainDefineXMLFlags(string(req.XML), 0)
			return err
		})
		if err != nil {
			return err
		}
		// A saved memory image would resume into disks that have changed since.
		if err := l.discardSave(ctx, dom); err != nil {
			return err
		}
		err = order(ctx, l, d.opts.StartTimeout, func(lv *golibvirt.Libvirt) error {
			_, err := lv.DomainCreateWithFlags(dom, uint32(flags))
			return err
		})
		if err != nil {
			return err
		}
	}
	if pauseAfter {
		return order(ctx, l, d.opts.CallTimeout, func(lv *golibvirt.Libvirt) error { return lv.DomainSuspend(dom) })
	}
	return nil
}

// takeBack removes what a failed start has made. The context may be why it
// failed, so only our own limits count here.
func (d *Driver) takeBack(ctx context.Context, id hypervisor.UUID, why error) error {
	if err := d.remove(context.WithoutCancel(ctx), id); err != nil {
		return fmt.Errorf("%w; taking it back failed: %w", why, err)
	}
	return why
}

// forgetDefinition undoes the define of a domain that could not be created. It
// does not destroy: what runs under this UUID now was started by somebody else.
func (l *lane) forgetDefinition(ctx context.Context, id hypervisor.UUID, why error) error {
	dom, err := l.lookup(ctx, id)
	if err == nil {
		err = l.undefine(ctx, dom)
	}
	if err != nil && !errors.Is(err, hypervisor.ErrNotFound) {
		return fmt.Errorf("%w; undefining it again failed: %w", why, err)
	}
	return why
}

// Stop implements hypervisor.Hypervisor.
func (d *Driver) Stop(ctx context.Context, id hypervisor.UUID, mode hypervisor.StopMode) error {
	l := &lane{d: d}
	defer l.close()
	dom, err := l.lookup(ctx, id)
	if err == nil {
		switch mode {
		case hypervisor.StopDestroy:
			err = l.destroy(ctx, id, dom)
		default:
			err = l.shutdown(ctx, id, dom)
		}
	}
	return failed("stop", id.String(), err)
}

func (l *lane) shutdown(ctx context.Context, id hypervisor.UUID, dom golibvirt.Domain) error {
	ask := func(flags golibvirt.DomainShutdownFlagValues) error {
		return order(ctx, l, l.d.opts.CallTimeout, func(lv *golibvirt.Libvirt) error { return lv.DomainShutdownFlags(dom, flags) })
	}
	err := ask(golibvirt.DomainShutdownAcpiPowerBtn)
	if unsupported(err) {
		err = ask(golibvirt.DomainShutdownDefault)
	}
	if err == nil || errors.Is(err, hypervisor.ErrUnknownOutcome) || errors.Is(err, hypervisor.ErrUnavailable) {
		return err
	}
	// Drivers have different codes for a domain that is off already, so look.
	active, lookErr := l.active(ctx, id)
	if lookErr == nil && !active || errors.Is(lookErr, hypervisor.ErrNotFound) {
		return nil
	}
	return err
}

// destroy returns nil only when the domain has been seen to be inactive.
func (l *lane) destroy(ctx context.Context, id hypervisor.UUID, dom golibvirt.Domain) error {
	active, err := l.active(ctx, id)
	if err == nil && active {
		// Its error says little: code 55 means "not running" as well as "not
		// now". What counts is the look afterwards.
		said := order(ctx, l, l.d.opts.DestroyTimeout, func(lv *golibvirt.Libvirt) error { return lv.DomainDestroyFlags(dom, 0) })
		if errors.Is(said, hypervisor.ErrUnknownOutcome) || errors.Is(said, hypervisor.ErrUnavailable) {
			return said
		}
		if active, err = l.active(ctx, id); err == nil && active {
			if said != nil {
				return said
			}
			return errors.New("it is still active after it was destroyed; look for a program that starts it again")
		}
	}
	if errors.Is(err, hypervisor.ErrNotFound) {
		return nil // transient, and gone
	}
	return err
}

// Remove implements hypervisor.Hypervisor.
func (d *Driver) Remove(ctx context.Context, id hypervisor.UUID) error {
	return failed("remove", id.String(), d.remove(ctx, id))
}

func (d *Driver) remove(ctx context.Context, id hypervisor.UUID) error {
	l := &lane{d: d}
	defer l.close()
	// More than one round only when somebody else works on the same domain.
	var last error
	for range 3 {
		dom, err := l.lookup(ctx, id)
		if errors.Is(err, hypervisor.ErrNotFound) {
			d.memory.forget(id)
			return nil
		}
		if err != nil {
			return err
		}
		if last = l.removeOnce(ctx, id, dom); errors.Is(last, hypervisor.ErrUnknownOutcome) || errors.Is(last, hypervisor.ErrUnavailable) {
			return last
		}
	}
	if last == nil {
		last = errors.New("it is there again after it was removed; look for a program that defines it")
	}
	return last
}

// removeOnce does its steps in the order that is safest when it is cut short:
// first nothing may start the domain again, then it ends.
func (l *lane) removeOnce(ctx context.Context, id hypervisor.UUID, dom golibvirt.Domain) error {
	persistent, err := l.flag(ctx, func(lv *golibvirt.Libvirt) (int32, error) { return lv.DomainIsPersistent(dom) })
	if err != nil {
		return err
	}
	if persistent {
		if err := l.clearAutostart(ctx, dom); err != nil {
			return err
		}
	}
	if err := l.destroy(ctx, id, dom); err != nil {
		return err
	}
	if !persistent {
		return nil
	}
	if err := l.discardSave(ctx, dom); err != nil {
		return err
	}
	return l.undefine(ctx, dom)
}

// undefine keeps the NVRAM and the TPM's state: they are data of the guest.
// Drivers and versions differ in the flags they know; a driver that has NVRAM
// and does not get the flag refuses rather than deletes it.
func (l *lane) undefine(ctx context.Context, dom golibvirt.Domain) error {
	const base = golibvirt.DomainUndefineManagedSave | golibvirt.DomainUndefineSnapshotsMetadata
	var err error
	for _, flags := range []golibvirt.DomainUndefineFlagsValues{
		base | golibvirt.DomainUndefineCheckpointsMetadata | golibvirt.DomainUndefineKeepNvram | golibvirt.DomainUndefineKeepTpm,
		base | golibvirt.DomainUndefineKeepNvram,
		base,
		0,
	} {
		err = order(ctx, l, l.d.opts.CallTimeout, func(lv *golibvirt.Libvirt) error { return lv.DomainUndefineFlags(dom, flags) })
		if !unsupported(err) {
			break
		}
	}
	if errors.Is(err, hypervisor.ErrNotFound) {
		return nil
	}
	return err
}

func (l *lane) discardSave(ctx context.Context, dom golibvirt.Domain) error {
	has, err := l.flag(ctx, func(lv *golibvirt.Libvirt) (int32, error) { return lv.DomainHasManagedSaveImage(dom, 0) })
	if unsupported(err) || errors.Is(err, hypervisor.ErrNotFound) {
		return nil
	}
	if err != nil || !has {
		return err
	}
	return order(ctx, l, l.d.opts.CallTimeout, func(lv *golibvirt.Libvirt) error { return lv.DomainManagedSaveRemove(dom, 0) })
}

func (l *lane) clearAutostart(ctx context.Context, dom golibvirt.Domain) error {
	on, err := l.flag(ctx, func(lv *golibvirt.Libvirt) (int32, error) { return lv.DomainGetAutostart(dom) })
	if err != nil || !on {
		return err
	}
	return order(ctx, l, l.d.opts.CallTimeout, func(lv *golibvirt.Libvirt) error { return lv.DomainSetAutostart(dom, 0) })
}

// Resume implements hypervisor.Adjuster.
func (d *Driver) Resume(ctx context.Context, id hypervisor.UUID) error {
	l := &lane{d: d}
	defer l.close()
	return failed("resume", id.String(), l.resume(ctx, id))
}

func (l *lane) resume(ctx context.Context, id hypervisor.UUID) error {
	dom, err := l.lookup(ctx, id)
	if err != nil {
		return err
	}
	err = order(ctx, l, l.d.opts.DestroyTimeout, func(lv *golibvirt.Libvirt) error { return lv.DomainResume(dom) })
	if err == nil || errors.Is(err, hypervisor.ErrUnknownOutcome) {
		return err
	}
	// Code 55 is "not running" and "already running" alike.
	if s, _, lookErr := l.state(ctx, id); lookErr == nil && s == hypervisor.StateRunning {
		return nil
	}
	return err
}

// ClearAutostart implements hypervisor.Adjuster.
func (d *Driver) ClearAutostart(ctx context.Context, id hypervisor.UUID) error {
	l := &lane{d: d}
	defer l.close()
	dom, err := l.lookup(ctx, id)
	if err == nil {
		var persistent bool
		persistent, err = l.flag(ctx, func(lv *golibvirt.Libvirt) (int32, error) { return lv.DomainIsPersistent(dom) })
		if err == nil && persistent {
			err = l.clearAutostart(ctx, dom)
		}
	}
	return failed("clear autostart of", id.String(), err)
}

func (l *lane) lookup(ctx context.Context, id hypervisor.UUID) (golibvirt.Domain, error) {
	return read(ctx, l, func(lv *golibvirt.Libvirt) (golibvirt.Domain, error) {
		return lv.DomainLookupByUUID(golibvirt.UUID(id))
	})
}

func (l *lane) state(ctx context.Context, id hypervisor.UUID) (hypervisor.State, hypervisor.Reason, error) {
	dom, err := l.lookup(ctx, id)
	if err != nil {
		return hypervisor.StateUnknown, hypervisor.ReasonUnknown, err
	}
	var reason int32
	state, err := read(ctx, l, func(lv *golibvirt.Libvirt) (s int32, err error) {
		s, reason, err = lv.DomainGetState(dom, 0)
		return s, err
	})
	s, r := stateOf(state, reason)
	return s, r, err
}

func (l *lane) active(ctx context.Context, id hypervisor.UUID) (bool, error) {
	s, _, err := l.state(ctx, id)
	return s.Active(), err
}

// flag asks one of libvirt's questions that are answered with 0 or 1.
func (l *lane) flag(ctx context.Context, call func(*golibvirt.Libvirt) (int32, error)) (bool, error) {
	v, err := read(ctx, l, call)
	return v != 0, err
}
