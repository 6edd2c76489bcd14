package sim

import (
	"errors"
	"strings"
	"time"

	"lifeboat/agent/session"
	"lifeboat/hypervisor"
)

// simURI is how hypervisors name each other here.
const simURI = "sim://"

// move is a live migration that is under way between two libvirt daemons. It needs
// no agent and no manager.
type move struct {
	aborted bool
	ended   bool
	over    func()
}

// incomingTime is how long libvirt shows the process of an incoming migration as one
// that is starting up.
const incomingTime = 600 * time.Millisecond

var (
	errPeer    = errors.New("operation failed: lost connection to destination host")
	errNoPeer  = errors.New("internal error: unable to connect to server")
	errAborted = errors.New("operation aborted: migration out job: canceled by client")
	errTooLong = errors.New("operation aborted: migration out job: it took too long")
	errFaulty  = errors.New("internal error: qemu unexpectedly closed the monitor")
)

// migrate moves a guest from one host to another, and says how that ended.
func (w *World) migrate(from *domain, to *host, done func(error)) {
	g := from.g
	d := to.domains[g.id]
	switch {
	case from.out != nil && !from.out.ended:
		done(errors.New("Timed out during operation: cannot acquire state change lock"))
		return
	case from.state != hypervisor.StateRunning || !from.h.libvirt || !to.running() || !to.libvirt || to.frozen || !w.talk(from.h, to),
		d != nil && d.state.Active():
		done(errNoPeer)
		return
	}
	in := to.define(g, from.definition())
	in.life++
	// As libvirt says it: at first there is a process, and not for what.
	in.state, in.reason, in.inc, in.since = hypervisor.StatePaused, hypervisor.ReasonStarting, 0, from.since
	to.look(g.id)
	m := &move{}
	from.out = m
	life, was := in.life, from.life
	to.here(min(incomingTime, w.file.World.Migration/2), func() {
		if in.life == life && in.newborn() {
			in.reason = hypervisor.ReasonMigrating
			to.look(g.id)
		}
	})
	m.over = func() {
		if m.ended {
			return
		}
		m.ended = true
		var err error
		switch {
		case from.life != was || !from.live() || from.h.frozen || !w.talk(from.h, to) || !to.running() || in.life != life:
			err = errPeer
		case m.aborted:
			err = errAborted
		case w.migrateFails(g, from.h):
			err = errFaulty
		case !to.storage && !g.spec.Local:
			err = errFaulty
		}
		if err == nil {
			from.h.end(from, hypervisor.ReasonMigrated)
			to.run(in, hypervisor.ReasonMigrated)
		} else if in.life == life {
			to.end(in, hypervisor.ReasonFailed)
		}
		done(err)
	}
	w.after(w.file.World.Migration, m.over)
}

// migrateFails is the world's reason why a migration fails.
func (w *World) migrateFails(g *guest, h *host) bool {
	f := &g.faults
	if f.Migrate == 0 || f.Host != "" && f.Host != h.name {
		return false
	}
	if f.Migrate > 0 {
		f.Migrate--
	}
	return true
}

// migrateVM carries out an agent's order.
func (h *host) migrateVM(a session.MigrateVM, done func(error)) {
	d, to := h.domains[a.ID], h.w.byHost[strings.TrimPrefix(a.URI, simURI)]
	switch {
	case !h.libvirt:
		done(errLibvirt)
		return
	case d == nil:
		done(hypervisor.ErrNotFound)
		return
	case to == nil:
		done(errNoPeer)
		return
	}
	answered := false
	answer := func(err error) {
		if !answered {
			answered = true
			h.here(0, func() {
				if err != nil && !h.libvirt {
					err = errLate
				}
				done(err)
			})
		}
	}
	h.w.migrate(d, to, answer)
	if m := d.out; m != nil && !m.ended && a.Within > 0 && a.Within < h.w.file.World.Migration {
		h.here(a.Within, func() {
			if !m.ended {
				answer(errTooLong)
				m.aborted = true
				m.over()
			}
		})
	}
}

// abortMigration ends one that is under way.
func (h *host) abortMigration(id [16]byte, done func(error)) {
	d := h.domains[id]
	if !h.libvirt {
		done(errLibvirt)
		return
	}
	if d == nil || d.out == nil || d.out.ended {
		h.here(adjustTime, func() { done(nil) })
		return
	}
	m := d.out
	h.here(adjustTime, func() {
		if !h.libvirt {
			done(errLate)
			return
		}
		m.aborted = true
		m.over()
		done(nil)
	})
}
