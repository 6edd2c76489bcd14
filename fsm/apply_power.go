package fsm

import (
	"fmt"
	"slices"
)

// power moves a VM by its owner's word about its current incarnation.
func (p *reporting) power(v *VM, e *vmEntry) {
	if stale(v, p.s.Work(v.Work), e) {
		return
	}
	was, stood := v.Power, v.Stalled()
	if v.Power == PowerOff && e.power == PowerOff && v.Reason == ReasonMigrated {
		e.reason = ReasonMigrated // libvirt forgets the reason, we must not
	}
	v.Power, v.Reason, v.Answers = e.power, e.reason, e.power == PowerOn && (e.answers || v.Answers && was == PowerOn)
	if was != v.Power || stood != v.Stalled() {
		v.Since = p.now
	}
	if v.Stalled() {
		p.host.Stalled = true
	} else {
		p.dropOrder(OrderResume, v.ID)
	}
	if v.ProtectedBy == Unprotected && v.Incarnation == 0 {
		return
	}
	switch e.power {
	case PowerOn:
		p.poweredOn(v)
	case PowerOff:
		p.poweredOff(v, e, was)
	}
}

// stale reports whether an owner's word about the power of a VM is no news: one
// that waits to be started is as off as before, whatever libvirt makes of the
// reason, and "unknown" does not bring back what was lost from sight (S18). Only
// "it was migrated" corrects an earlier reason; none is left when the hosts have
// been asked, or a start was ordered, since.
func stale(v *VM, w *Work, e *vmEntry) bool {
	switch e.power {
	case PowerOff:
		return v.Power == PowerOff && w != nil && w.Step == Scheduled && (e.reason != ReasonMigrated || v.Reason == ReasonNone)
	case PowerUnknown:
		return v.LostSight()
	}
	return false
}

func (p *reporting) poweredOn(v *VM) {
	if v.Gone {
		// Proven gone, and yet it runs, and nobody else was granted it.
		v.Gone = false
		p.event("VM.CONTRADICTION", Critical, vmSubject(v), "VM %s was thought to be gone, but runs on host %s at incarnation %s; it is kept there", v.Name, p.host.ID, v.Incarnation)
	}
	p.dropOrder(OrderStart, v.ID)
	if w := p.s.Work(v.Work); w != nil {
		o := p.host.order(OrderDestroy, v.ID)
		switch {
		case w.Type == WorkMigration && w.Step != Fencing:
			p.runsOn(v, w)
		case w.Type.Stops() || w.Step == Stopping:
			return // being stopped or given up; still on
		case w.Step == Fencing && (p.host.Status == Connecting || p.inFlight(p.host)):
			return // the power may still be cut (S10)
		case w.Type == WorkMigration:
			p.runsOn(v, w)
		case o != nil && o.Incarnation >= v.Incarnation || w.leaving() || p.host.restarts(v, w):
			p.givingUp(w, p.host.ID)
			return
		case w.Step == Restarting:
			p.endWork(v, w, Done, fmt.Sprintf("runs on host %s at incarnation %s", p.host.ID, v.Incarnation))
			if w.Type == WorkRelocation {
				p.moved(v, w, p.host.ID)
			}
			p.linked(w.Begun, workCause(w.ID), "VM.START", Info, vmSubject(v), fmt.Sprintf("VM %s runs on host %s at incarnation %s", v.Name, p.host.ID, v.Incarnation))
		default:
			p.endWork(v, w, Done, fmt.Sprintf("not needed: it runs on host %s", p.host.ID))
		}
	}
	if v.Reason == ReasonIOError && v.Protected() {
		p.raiseVM(v, "I/O error", Critical, "VM %s on host %s is paused on an I/O error: it cannot reach its storage.", v.Name, p.host.ID)
	} else {
		p.resolveVM(v, "I/O error", "it runs again")
	}
	if v.inError {
		v.setError("") // or its next crash would be nobody's business
		p.resolveVM(v, "error", "it runs on host %s", p.host.ID)
	}
	if v.Protected() && !v.Wanted && p.host.order(OrderStop, v.ID) == nil {
		v.Wanted = true
		p.host.Assigned = p.index
		p.event("VM.START", Warning, vmSubject(v), "VM %s was started on host %s behind our back; adopted: it is wanted on now", v.Name, p.host.ID)
	}
}

// offByHand reports whether a VM is off because somebody wanted it to be.
func offByHand(v *VM, r Reason) bool {
	return (r == ReasonShutdown || r == ReasonDestroyed || r == ReasonSaved) && v.mode != HAAlways
}

func (p *reporting) poweredOff(v *VM, e *vmEntry, was Power) {
	p.dropOrder(OrderStop, v.ID)
	p.resolveVM(v, "I/O error", "it is off")
	p.guestSettled(v, "it is off")
	if w := p.s.Work(v.Work); w != nil {
		p.dropOrder(OrderStart, v.ID)
		p.offDuringWork(v, w, e)
		return
	}
	if was == PowerOff || !v.Protected() || !v.Wanted || v.inError || p.s.Ignoring {
		return
	}
	if offByHand(v, e.reason) {
		p.staysOff(v)
		return
	}
	on := "on host " + string(p.host.ID)
	switch e.reason {
	case ReasonShutdown, ReasonDestroyed, ReasonSaved:
		p.openWork(v, WorkHA, Scheduled, CauseShutdown, p.host.ID, "its policy is always")
	case ReasonMigrated:
		p.openWork(v, WorkHA, Investigating, CauseMigrated, p.host.ID, "it left host "+string(p.host.ID)+"; every host is asked where it is")
	case ReasonHostShutdown:
		p.openWork(v, WorkHA, Scheduled, CauseHostShutdown, p.host.ID, "host "+string(p.host.ID)+" is shutting down")
	case ReasonSelfFenced:
		p.openWork(v, WorkHA, Scheduled, CauseSelfFenced, p.host.ID, "host "+string(p.host.ID)+" stopped it when its lease ran out")
	case ReasonHostReboot:
		p.openWork(v, WorkHA, Scheduled, CauseHostReboot, p.host.ID, "host "+string(p.host.ID)+" rebooted")
	default:
		p.openWork(v, WorkHA, Scheduled, CauseCrash, p.host.ID, "it crashed "+on)
	}
}

func (p *reporting) staysOff(v *VM) {
	v.Wanted = false
	p.host.Assigned = p.index
	p.event("VM.STOP", Info, vmSubject(v), "VM %s on host %s is off (%s): it stays off", v.Name, p.host.ID, v.Reason)
}

// offDuringWork: the owner says that the VM is off while work is open.
func (p *reporting) offDuringWork(v *VM, w *Work, e *vmEntry) {
	switch {
	case w.Type == WorkMigration:
		p.offOnTheWay(v, w, fmt.Sprintf("it is off on host %s (%s)", p.host.ID, e.reason))
	case w.leaving():
		p.relocating(v, w, e.reason)
	case w.Type.Stops():
		p.endWork(v, w, Done, fmt.Sprintf("stopped on host %s", p.host.ID))
	case v.Gone || w.Step == Stopping && p.host.order(OrderDestroy, v.ID) != nil:
		// Off is not given up: the tombstone is awaited, or has come already.
	case e.reason == ReasonMigrated:
		if w.Step == Investigating {
			return
		}
		// Whatever was wanted, it runs or ran elsewhere (S18).
		p.endWork(v, w, Done, fmt.Sprintf("not needed: it has left host %s", p.host.ID))
		if !v.Protected() || !v.Wanted {
			return
		}
		p.openWork(v, WorkHA, Investigating, CauseMigrated, p.host.ID, "it left host "+string(p.host.ID)+"; every host is asked where it is")
	case w.Step == Stopping:
		p.schedule(v, p.host.ID, w.Cause, fmt.Sprintf("it is off on host %s, and is started again", p.host.ID))
	case w.Step == Restarting:
		// The start went through and it died again before we saw it run.
		p.failedStart(v, w, p.host.ID, "it stopped right after the start ("+e.reason.String()+")")
		v.Gone = false // only its owner's word
	case w.Step == Investigating && p.s.copied(v):
		// It is looked for where a copy was seen.
	case w.Step == Fencing || w.Step == Investigating:
		if offByHand(v, e.reason) {
			p.endWork(v, w, Done, fmt.Sprintf("not needed: it is off on host %s (%s)", p.host.ID, e.reason))
			p.staysOff(v)
			return
		}
		p.schedule(v, p.host.ID, w.Cause, fmt.Sprintf("host %s is heard again and it is off there", p.host.ID))
	}
}

// missing: the VM was absent from two reports in a row, or its owner says that
// there is no such domain. Absence is not proof of anything: it is looked for
// first (S18). It reports whether the VM is to be forgotten.
func (p *reporting) missing(v *VM) (forget bool) {
	if v.ProtectedBy == Unprotected && v.Incarnation == 0 {
		// Never ours: its domain is gone, and so is it.
		p.resolveAll(AlertVM, v.ID.String(), "the domain is gone")
		p.s.owner.delete(v.ID)
		return true
	}
	w := p.s.Work(v.Work)
	if v.Power == PowerReportMissing && (w == nil || w.Step == Investigating) {
		return false
	}
	was := v.Power
	missing := func() {
		v.Power, v.Reason, v.Since = PowerReportMissing, ReasonNone, p.now
		p.dropOrder(OrderResume, v.ID)
		p.event("VM.MISSING", Warning, vmSubject(v), "VM %s is missing from the reports of host %s", v.Name, p.host.ID)
	}
	search := "it is missing on host " + string(p.host.ID) + "; every host is asked where it is"
	switch {
	case w == nil:
		if was == PowerOff || v.Gone {
			return false // an off VM whose definition went away is as off as before
		}
		missing()
		if v.Protected() && v.Wanted && v.Error == "" && !p.s.Ignoring {
			p.openWork(v, WorkHA, Investigating, CauseMissing, p.host.ID, search)
		}
	case w.Type == WorkMigration && w.Step != Investigating:
		missing()
		p.offOnTheWay(v, w, "it is missing on host "+string(p.host.ID))
	case (w.leaving() || w.Type == WorkHA) && p.host.order(OrderStop, v.ID) != nil:
		missing()
		p.dropOrder(OrderStop, v.ID)
		p.endWork(v, w, Cancelled, "it is missing on host "+string(p.host.ID))
		p.openWork(v, WorkHA, Investigating, CauseMissing, p.host.ID, search)
	case w.Type.Stops():
		v.Power, v.Reason, v.Since = PowerOff, ReasonOrdered, p.now
		p.dropOrder(OrderStop, v.ID)
		p.endWork(v, w, Done, fmt.Sprintf("stopped on host %s; its domain is gone", p.host.ID))
	case w.Step == Fencing && !v.Gone:
		// Its host is heard again and does not have it.
		p.dropOrder(OrderStart, v.ID)
		p.endWork(v, w, Done, fmt.Sprintf("not needed: host %s is heard again, without the VM", p.host.ID))
		missing()
		if v.Protected() && v.Wanted {
			p.openWork(v, WorkHA, Investigating, CauseMissing, p.host.ID, search)
		}
	case w.Step == Investigating && was != PowerOff:
		missing()
	}
	// Scheduled: as off as before. Restarting: the order may not have arrived.
	// Stopping: the tombstone is awaited.
	return false
}

// absent applies "absent from two reports in a row".
func (p *reporting) absent(id VMID) {
	i, ok := p.host.find(id)
	if !ok {
		return
	}
	old := &p.host.VMs[i]
	v := *old
	forget := p.missing(&v)
	if v == *old && !forget {
		return
	}
	p.own()
	if forget {
		p.host.VMs = slices.Delete(p.host.VMs, i, i+1)
		return
	}
	p.host.VMs[i] = v
}
