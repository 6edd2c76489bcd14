package mem

import (
	"bytes"
	"errors"
	"fmt"

	"lifeboat/hypervisor"
	"lifeboat/hypervisor/domxml"
)

// FailStarts makes the next n starts of a domain fail with err; n < 0 means
// all of them, 0 none any more. The zero UUID stands for every domain that has
// no fault of its own. A nil err is some failure of qemu.
func (h *Host) FailStarts(id hypervisor.UUID, n int, err error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if n == 0 {
		delete(h.startFaults, id)
		return
	}
	if err == nil {
		err = errors.New("internal error: process exited while connecting to monitor")
	}
	h.startFaults[id] = &startFault{left: n, err: err}
}

func (h *Host) fault(id hypervisor.UUID) error {
	f := h.startFaults[id]
	if f == nil {
		f = h.startFaults[hypervisor.UUID{}]
	}
	if f == nil || f.left == 0 {
		return nil
	}
	if f.left > 0 {
		f.left--
	}
	return f.err
}

// FailDomains makes Domains fail with err until it is called with nil.
func (h *Host) FailDomains(err error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.broken = err
}

// SetFrozen stops the daemon without ending it: calls get no answer. Those
// that were given up while it was frozen happen when it goes on. Guests run.
func (h *Host) SetFrozen(on bool) {
	h.mu.Lock()
	defer h.mu.Unlock()
	switch {
	case on && h.thaw == nil:
		h.thaw = make(chan struct{})
	case !on && h.thaw != nil:
		close(h.thaw)
		h.thaw = nil
		queued := h.queued
		h.queued = nil
		for _, do := range queued {
			do()
		}
	}
}

// SetDown ends the daemon, or starts it again. Guests run on.
func (h *Host) SetDown(on bool) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.down = on
	if on {
		h.queued = nil
		h.feed.Hangup()
	}
}

// PowerOff takes the power from the host: every domain ends in this instant,
// transient ones without a trace, and nothing answers any more.
func (h *Host) PowerOff() {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.boot++
	h.down = true
	h.queued = nil
	clear(h.gone)
	for _, v := range h.sorted() {
		if v.state.Active() {
			h.end(v, hypervisor.ReasonUnknown)
		}
	}
	clear(h.gone) // the memory of who was there goes as well
	if h.thaw != nil {
		close(h.thaw)
		h.thaw = nil
	}
	h.feed.Hangup()
}

// PowerOn boots the host. Domains with autostart start by themselves, as they
// would with libvirt (S8).
func (h *Host) PowerOn() {
	h.mu.Lock()
	defer h.mu.Unlock()
	if !h.down {
		return
	}
	h.down = false
	for _, v := range h.sorted() {
		if v.autostart && h.missing(v.needs) == nil {
			_ = h.run(v, hypervisor.ReasonBooted)
		}
	}
}

// SetStorage takes a storage from this host, or gives it back. Running guests
// with disks there pause on an I/O error and stay paused.
func (h *Host) SetStorage(s *Storage, online bool) {
	h.mu.Lock()
	defer h.mu.Unlock()
	for _, m := range h.mounts {
		if m.Storage != s {
			continue
		}
		m.offline = !online
		for _, v := range h.sorted() {
			if !online && v.state == hypervisor.StateRunning && v.uses(m) {
				h.set(v, hypervisor.StatePaused, hypervisor.ReasonIOError)
			}
		}
	}
}

// GuestShutdown shuts the guest down from inside.
func (h *Host) GuestShutdown(id hypervisor.UUID) error {
	return h.behind(id, func(v *vm) { h.end(v, hypervisor.ReasonShutdown) })
}

// Crash ends the domain as a guest crash with on_crash=destroy does.
func (h *Host) Crash(id hypervisor.UUID) error {
	return h.behind(id, func(v *vm) { h.end(v, hypervisor.ReasonCrashed) })
}

// Kill ends the domain's process, as kill -9 of qemu does.
func (h *Host) Kill(id hypervisor.UUID) error {
	return h.behind(id, func(v *vm) { h.end(v, hypervisor.ReasonFailed) })
}

// Pause pauses the domain for the given reason, e.g. ReasonUser or ReasonIOError.
func (h *Host) Pause(id hypervisor.UUID, r hypervisor.Reason) error {
	return h.behind(id, func(v *vm) { h.set(v, hypervisor.StatePaused, r) })
}

// SetDeaf makes the guest ignore the power button.
func (h *Host) SetDeaf(id hypervisor.UUID, deaf bool) error {
	return h.behind(id, func(v *vm) { v.deaf = deaf })
}

// behind does something to an active domain behind the control plane's back.
func (h *Host) behind(id hypervisor.UUID, do func(*vm)) error {
	h.mu.Lock()
	defer h.mu.Unlock()
	v, err := h.find(id)
	if err != nil {
		return fmt.Errorf("%s on %s: %w", id, h.name, err)
	}
	if !v.state.Active() {
		return fmt.Errorf("%s on %s is %s", id, h.name, v.state)
	}
	do(v)
	return nil
}

// Snapshot makes an active domain write to another file from now on, whose backing
// file the one before is, as virsh snapshot-create-as --disk-only does. What it is
// started from next stays as it is.
func (h *Host) Snapshot(id hypervisor.UUID, file, overlay string) error {
	var err error
	if berr := h.behind(id, func(v *vm) {
		live := bytes.Replace(v.xml, []byte("<source file='"+file+"'/>"),
			[]byte("<source file='"+overlay+"'/><backingStore type='file'><source file='"+file+"'/></backingStore>"), 1)
		var n domxml.Needs
		if n, err = domxml.Parse(live); err != nil {
			return
		}
		if v.next == nil {
			v.next = v.xml
		}
		h.closeDisks(v)
		v.needs, v.xml = n, live
		err = h.openDisks(v)
	}); berr != nil {
		return berr
	}
	return err
}

// Define defines a domain by hand, without starting it. One that is active runs on
// as it is; the definition is for its next start.
func (h *Host) Define(xml []byte, autostart bool) error {
	n, err := domxml.Parse(xml)
	if err != nil {
		return err
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	if v := h.domains[n.UUID]; v != nil && v.state.Active() && v.persistent {
		v.next, v.autostart = bytes.Clone(xml), autostart
		h.changed(v)
		return nil
	}
	if err := h.define(n, xml); err != nil {
		return fmt.Errorf("define %s on %s: %w", n.Name, h.name, err)
	}
	h.domains[n.UUID].autostart = autostart
	return nil
}

// SetManagedSave gives an inactive domain a saved image, or takes it away.
func (h *Host) SetManagedSave(id hypervisor.UUID, on bool) error {
	h.mu.Lock()
	defer h.mu.Unlock()
	v, err := h.find(id)
	if err != nil {
		return err
	}
	v.managedSave = on && !v.state.Active()
	return nil
}

// MigrateTo moves a running domain to another host by hand, live. On the
// source a persistent definition stays behind, off with ReasonMigrated.
func (h *Host) MigrateTo(to *Host, id hypervisor.UUID) error {
	h.mu.Lock()
	v, err := h.find(id)
	if err == nil && v.state != hypervisor.StateRunning {
		err = fmt.Errorf("it is %s", v.state)
	}
	if err != nil {
		h.mu.Unlock()
		return fmt.Errorf("migrate %s from %s: %w", id, h.name, err)
	}
	// The CPUs stop here before they run there; the locks are not taken
	// together, so that two hosts may migrate to each other at once.
	needs, xml, persistent := v.needs, bytes.Clone(v.xml), v.persistent
	h.set(v, hypervisor.StatePaused, hypervisor.ReasonMigrating)
	h.closeDisks(v)
	h.mu.Unlock()

	err = to.arrive(needs, xml, persistent)
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.domains[id] != v || v.state != hypervisor.StatePaused {
		return fmt.Errorf("migrate %s from %s: it is %s now", id, h.name, v.state)
	}
	if err != nil {
		if rerr := h.run(v, hypervisor.ReasonUser); rerr != nil {
			err = errors.Join(err, rerr)
		}
		return fmt.Errorf("migrate %s from %s to %s: %w", id, h.name, to.name, err)
	}
	h.end(v, hypervisor.ReasonMigrated)
	return nil
}

func (h *Host) arrive(n domxml.Needs, xml []byte, persistent bool) error {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.down || h.closed {
		return hypervisor.ErrUnavailable
	}
	if err := h.missing(n); err != nil {
		return err
	}
	v := h.domains[n.UUID]
	if v != nil && v.state.Active() {
		return hypervisor.ErrActive
	}
	v = &vm{needs: n, xml: xml, persistent: persistent}
	h.domains[n.UUID] = v
	delete(h.gone, n.UUID)
	return h.run(v, hypervisor.ReasonMigrated)
}
