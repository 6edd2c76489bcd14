package fsm

import (
	"bytes"
	"fmt"
	"slices"

	"lifeboat/fsm/logpb"
)

// Entry fields of one VM in a report, unpacked from the log's columns.
type vmEntry struct {
	id      VMID
	power   Power
	reason  Reason
	inc     Incarnation
	name    string
	refused Incarnation
	failed  Incarnation
	failure string
}

func (t *tx) hostReports(c *logpb.HostReports) string {
	var first string
	for _, r := range c.Reports {
		if no := t.report(r); no != "" && first == "" {
			first = no
		}
	}
	return first
}

// report applies what changed on one host. A report that is older than what
// has been applied, or of another epoch, changes nothing (S5); from HostDown
// on every report of the epoch is refused (S10).
func (t *tx) report(r *logpb.HostReport) string {
	h := t.s.Host(HostID(r.Host))
	switch {
	case h == nil || h.Status == Removed:
		return fmt.Sprintf("there is no host %s", r.Host)
	case h.Epoch != r.Epoch:
		return fmt.Sprintf("host %s is in epoch %d, not %d", r.Host, h.Epoch, r.Epoch)
	case h.Status == Down:
		return fmt.Sprintf("host %s was declared Down in epoch %d; it must register again", r.Host, r.Epoch)
	case r.Seq != 0 && r.Seq <= h.Seq:
		return "" // late or repeated
	}
	old := h
	h = edit(h)
	if r.Seq != 0 {
		h.Seq = r.Seq
	}
	if r.Inventory != nil {
		h.Inventory = inventoryFromLog(r.Inventory)
	}
	p := reporting{tx: t, host: h}
	if r.Vms != nil {
		p.entries(r.Vms)
	}
	for ids := r.Missing; len(ids) >= 16; ids = ids[16:] {
		p.missing(VMID(ids[:16]))
	}
	p.flush()
	if r.Inventory != nil {
		t.inventoryAlerts(t.s.Host(h.ID), old)
	}
	return ""
}

// reporting applies one host's report. The host and its VM slice are private
// copies until flush; whatever touches other hosts or the owner index flushes
// first.
type reporting struct {
	*tx
	host   *Host
	cloned bool // host.VMs is private
}

// flush stores the host.
func (p *reporting) flush() { p.setHost(p.host); p.host, p.cloned = edit(p.s.Host(p.host.ID)), false }

// own makes host.VMs private.
func (p *reporting) own() {
	if !p.cloned {
		p.host.VMs = slices.Clone(p.host.VMs)
		p.cloned = true
	}
}

func (p *reporting) entries(c *logpb.VMEntries) {
	n := len(c.Ids) / 16
	if len(c.Power) < n || len(c.Reason) < n || (len(c.Incarnations) != 0 && len(c.Incarnations) < n) {
		return // malformed; the leader never writes this
	}
	det := c.Details
	// block holds the changed VMs of this report in one allocation.
	block := make([]VM, 0, min(n, len(p.host.VMs)))
	next := 0 // entries and host.VMs are both sorted: merge
	for i := range n {
		e := vmEntry{power: Power(c.Power[i]), reason: Reason(c.Reason[i])}
		copy(e.id[:], c.Ids[i*16:])
		if len(c.Incarnations) != 0 {
			e.inc = Incarnation(c.Incarnations[i])
		}
		detailed := len(det) > 0 && det[0].Pos == uint32(i)
		if detailed {
			e.name, e.refused, e.failed, e.failure = det[0].Name, Incarnation(det[0].Refused), Incarnation(det[0].Failed), det[0].Failure
			det = det[1:]
		}
		for next < len(p.host.VMs) && bytes.Compare(p.host.VMs[next].ID[:], e.id[:]) < 0 {
			next++
		}
		if next < len(p.host.VMs) && p.host.VMs[next].ID == e.id {
			v := p.host.VMs[next]
			if !detailed && v.ProtectedBy == Unprotected && v.Incarnation == 0 && v.Work == 0 && cap(block) > len(block) {
				// The common case: an unprotected VM changed its power state.
				if e.power == PowerStarting || v.Power == e.power && v.Reason == e.reason {
					continue
				}
				p.own()
				block = append(block, *v)
				b := &block[len(block)-1]
				b.Power, b.Reason, b.Since = e.power, e.reason, p.now
				p.host.VMs[next] = b
				continue
			}
			p.owned(next, &e)
			next = min(next, len(p.host.VMs))
			continue
		}
		p.foreign(&e)
		next = 0 // the slice may have changed
	}
}

// owned applies an entry about a VM this host owns; i is its position.
func (p *reporting) owned(i int, e *vmEntry) {
	old := p.host.VMs[i]
	v := *old
	if e.name != "" && e.name != v.Name {
		v.Name = e.name
	}
	p.tombstoned(&v, e)
	if e.failed != 0 && e.failed == v.Incarnation && !v.Gone {
		p.dropOrder(OrderStart, v.ID)
		if w := p.s.Work(v.Work); w != nil && w.Step == Restarting {
			p.failedStart(&v, w, p.host.ID, e.failure)
		}
	}
	// An entry of another incarnation says nothing about this one (S5).
	if (e.inc == v.Incarnation || !v.Protected()) && e.power != PowerStarting {
		p.power(&v, e)
	}
	if v == *old {
		return
	}
	p.own()
	p.host.VMs[i] = &v
}

// tombstoned is the agent's persisted word that it refuses incarnations up to
// e.refused and that no domain is left (S4).
func (p *reporting) tombstoned(v *VM, e *vmEntry) {
	if e.refused == 0 {
		return
	}
	o := p.host.order(OrderDestroy, v.ID)
	if o != nil && e.refused >= o.Incarnation {
		p.dropOrder(OrderDestroy, v.ID)
	}
	if e.refused < v.Incarnation || v.Gone {
		return
	}
	v.Gone = true
	if v.Power != PowerOff {
		v.Power, v.Reason, v.Since = PowerOff, ReasonOrdered, p.now
	}
	if w := p.s.Work(v.Work); w != nil && (w.Step == Stopping || w.Step == Restarting) {
		p.dropOrder(OrderStart, v.ID)
		if w.Type == WorkStop {
			p.endWork(v, w, Done, "stopped")
			return
		}
		p.schedule(v, p.host.ID, w.Cause, fmt.Sprintf("host %s has given it up", p.host.ID))
	}
}

func (p *reporting) dropOrder(kind OrderKind, vm VMID) {
	i := slices.IndexFunc(p.host.Orders, func(o *Order) bool { return o.Kind == kind && o.VM == vm })
	if i < 0 {
		return
	}
	p.host.Orders = slices.Delete(slices.Clone(p.host.Orders), i, i+1)
	p.host.Assigned = p.index
}

// power moves a VM by its owner's word about its current incarnation.
func (p *reporting) power(v *VM, e *vmEntry) {
	was := v.Power
	if v.Power != e.power || v.Reason != e.reason {
		if v.Power != e.power {
			v.Since = p.now
		}
		v.Power, v.Reason = e.power, e.reason
	}
	if v.ProtectedBy == Unprotected && v.Incarnation == 0 {
		return
	}
	switch e.power {
	case PowerOn:
		p.poweredOn(v, e, was)
	case PowerOff:
		p.poweredOff(v, e, was)
	}
}

func (p *reporting) poweredOn(v *VM, e *vmEntry, was Power) {
	if v.Gone {
		// Proven gone, and yet it runs, and nobody else was granted it.
		v.Gone = false
		p.event("VM.CONTRADICTION", Critical, vmSubject(v), "VM %s was thought to be gone, but runs on host %s at incarnation %s; it is kept there", v.Name, p.host.ID, v.Incarnation)
	}
	if w := p.s.Work(v.Work); w != nil {
		switch {
		case w.Type == WorkStop:
			return // being stopped; still on
		case w.Step == Restarting:
			p.dropOrder(OrderStart, v.ID)
			p.endWork(v, w, Done, fmt.Sprintf("runs on host %s at incarnation %s", p.host.ID, v.Incarnation))
			p.event("VM.START", Info, vmSubject(v), "VM %s runs on host %s at incarnation %s", v.Name, p.host.ID, v.Incarnation)
		case w.Step == Stopping:
			return // being given up
		case w.Step == Fencing && p.host.Status == Connecting:
			return // the power may still be cut (S10)
		default:
			p.endWork(v, w, Done, fmt.Sprintf("not needed: it runs on host %s", p.host.ID))
		}
	}
	if v.Reason == ReasonIOError {
		p.raise(AlertKey{AlertVM, v.Name, "I/O error"}, Critical, "VM %s on host %s is paused on an I/O error: it cannot reach its storage.", v.Name, p.host.ID)
	} else {
		p.resolve(AlertKey{AlertVM, v.Name, "I/O error"}, "it runs again")
	}
	if v.Protected() && !v.Wanted && p.host.order(OrderStop, v.ID) == nil {
		v.Wanted, v.Error = true, ""
		p.host.Assigned = p.index
		p.event("VM.START", Warning, vmSubject(v), "VM %s was started on host %s behind our back; adopted: it is wanted on now", v.Name, p.host.ID)
		p.resolve(AlertKey{AlertVM, v.Name, "error"}, "it was started by hand")
	}
}

func (p *reporting) poweredOff(v *VM, e *vmEntry, was Power) {
	if o := p.host.order(OrderStop, v.ID); o != nil {
		p.dropOrder(OrderStop, v.ID)
	}
	w := p.s.Work(v.Work)
	if w != nil {
		switch {
		case w.Type == WorkStop:
			p.endWork(v, w, Done, fmt.Sprintf("stopped on host %s", p.host.ID))
		case w.Step == Fencing:
			// Its host came back: it is off there after all.
			p.schedule(v, p.host.ID, w.Cause, fmt.Sprintf("host %s is back and it is off there", p.host.ID))
		case w.Step == Restarting:
			// The start went through and it died again before we saw it run.
			p.dropOrder(OrderStart, v.ID)
			p.failedStart(v, w, p.host.ID, "it stopped right after the start ("+e.reason.String()+")")
			v.Gone = false // only its owner's word
		case w.Step == Investigating && e.reason != ReasonMigrated:
			p.schedule(v, p.host.ID, w.Cause, "host "+string(p.host.ID)+" says it is off")
		}
		return
	}
	if was == PowerOff || !v.Protected() || !v.Wanted || v.Error != "" {
		return
	}
	switch e.reason {
	case ReasonShutdown, ReasonDestroyed, ReasonSaved:
		if v.HAPolicy().HA == HAAlways {
			p.openWork(v, WorkHA, Scheduled, CauseShutdown, p.host.ID, "its policy is always")
			return
		}
		v.Wanted = false
		p.host.Assigned = p.index
		p.event("VM.STOP", Info, vmSubject(v), "VM %s on host %s is off (%s): it stays off", v.Name, p.host.ID, e.reason)
	case ReasonMigrated:
		p.openWork(v, WorkHA, Investigating, CauseMigrated, p.host.ID, "it left host "+string(p.host.ID)+"; every host is asked where it is")
	case ReasonHostShutdown:
		p.openWork(v, WorkHA, Scheduled, CauseHostShutdown, p.host.ID, "host "+string(p.host.ID)+" is shutting down")
	case ReasonSelfFenced:
		p.openWork(v, WorkHA, Scheduled, CauseSelfFenced, p.host.ID, "host "+string(p.host.ID)+" stopped it when its lease ran out")
	case ReasonHostReboot:
		p.openWork(v, WorkHA, Scheduled, CauseHostReboot, p.host.ID, "host "+string(p.host.ID)+" rebooted")
	default:
		p.openWork(v, WorkHA, Scheduled, CauseCrash, p.host.ID, "it crashed on host "+string(p.host.ID))
	}
}

// missing: the VM was absent from two reports in a row. Absence is not proof
// of anything: it is looked for first (S18).
func (p *reporting) missing(id VMID) {
	i, ok := p.host.find(id)
	if !ok || p.host.VMs[i].Power == PowerReportMissing {
		return
	}
	v := *p.host.VMs[i]
	if v.ProtectedBy == Unprotected && v.Incarnation == 0 {
		// Never ours: its domain is gone, and so is it.
		p.own()
		p.host.VMs = slices.Delete(p.host.VMs, i, i+1)
		p.s.owner.delete(id)
		return
	}
	was := v.Power
	v.Power, v.Reason, v.Since = PowerReportMissing, ReasonNone, p.now
	p.event("VM.MISSING", Warning, vmSubject(&v), "VM %s is missing from the reports of host %s", v.Name, p.host.ID)
	if v.Protected() && v.Wanted && v.Work == 0 && was != PowerOff {
		p.openWork(&v, WorkHA, Investigating, CauseMissing, p.host.ID, "it is missing on host "+string(p.host.ID)+"; every host is asked where it is")
	}
	p.own()
	p.host.VMs[i] = &v
}

// foreign applies an entry about a VM that this host does not own.
func (p *reporting) foreign(e *vmEntry) {
	v, owner := p.s.VM(e.id)
	if v == nil {
		if e.power == PowerStarting || e.name == "" || e.power == PowerUnknown && e.inc == 0 {
			return
		}
		n := &VM{ID: e.id, Name: e.name, Power: e.power, Reason: e.reason, Since: p.now, Incarnation: e.inc}
		p.own()
		i, _ := p.host.find(e.id)
		p.host.VMs = slices.Insert(p.host.VMs, i, n)
		p.s.owner.set(e.id, p.host.ID)
		return
	}
	if o := p.host.order(OrderDestroy, e.id); o != nil {
		if e.refused >= o.Incarnation {
			p.dropOrder(OrderDestroy, e.id)
			p.event("VM.REMOVED", Info, vmSubject(v), "host %s has removed its old copy of %s (incarnation %s)", p.host.ID, v.Name, o.Incarnation)
		}
		return
	}
	if e.power != PowerOn {
		return
	}
	if e.reason == ReasonMigratingIn {
		return // an incoming migration is not a second copy (S6)
	}
	w := p.s.Work(v.Work)
	switch {
	case v.ProtectedBy == Unprotected && v.Incarnation == 0:
		if owner.Status == Up && v.Power == PowerOn {
			return // two domains with one UUID, neither ours: look on (S6)
		}
		p.move(v, owner, "")
	case w != nil && w.Step == Investigating, v.Power == PowerOff && v.Reason == ReasonMigrated && owner.Status == Up:
		p.move(v, owner, fmt.Sprintf("VM %s moved from host %s to host %s behind our back; adopted there", v.Name, owner.ID, p.host.ID))
	default:
		p.duplicate(v, owner, e)
	}
}

// move adopts a VM on the reporting host, with a new incarnation if it is ours.
func (p *reporting) move(old *VM, from *Host, text string) {
	v := *old
	v.Power, v.Reason, v.Since, v.Gone = PowerOn, ReasonBooted, p.now, false
	last := v.Incarnation
	if last != 0 {
		v.Incarnation = last.Next(p.s.Generation)
	}
	if w := p.s.Work(v.Work); w != nil {
		p.endWork(&v, w, Done, fmt.Sprintf("not needed: it runs on host %s", p.host.ID))
	}
	p.flush()
	p.removeVM(from.ID, v.ID)
	p.insertVM(p.host.ID, &v)
	if last != 0 {
		f := edit(p.s.Host(from.ID))
		p.order(f, OrderDestroy, &v, last, 0)
		p.setHost(f)
	}
	p.host, p.cloned = edit(p.s.Host(p.host.ID)), false
	if text != "" {
		p.event("VM.MIGRATE", Warning, vmSubject(&v), "%s (incarnation %s)", text, v.Incarnation)
	}
}

// duplicate: one VM runs in two places. The newer incarnation wins; a copy
// that we started is destroyed, a copy that we never granted is only told of
// (S6).
func (p *reporting) duplicate(v *VM, owner *Host, e *vmEntry) {
	key := AlertKey{AlertVM, v.Name, "duplicate"}
	p.raise(key, Critical, "VM %s is owned by host %s (incarnation %s), but a copy of it also runs on host %s (incarnation %s). Stop the wrong one now: two copies on one disk destroy it.",
		v.Name, owner.ID, v.Incarnation, p.host.ID, e.inc)
	if e.inc != 0 && e.inc < v.Incarnation {
		p.order(p.host, OrderDestroy, v, e.inc, 0)
		p.event("VM.DUPLICATE", Critical, vmSubject(v), "host %s is told to destroy its copy of %s: incarnation %s is older than %s", p.host.ID, v.Name, e.inc, v.Incarnation)
	}
}

// Changes reports whether an entry about VM id on host h would change the
// state, or is evidence: only then does the leader propose it. It mirrors what
// report does and is tested against it.
func (s *State) Changes(h *Host, id VMID, p Power, r Reason, inc, refused, failed Incarnation) bool {
	if v := h.VM(id); v != nil {
		if o := h.order(OrderDestroy, id); o != nil && refused >= o.Incarnation {
			return true
		}
		if refused != 0 && refused >= v.Incarnation && !v.Gone {
			return true
		}
		if failed != 0 && failed == v.Incarnation && !v.Gone {
			return true
		}
		if inc != v.Incarnation && v.Protected() || p == PowerStarting {
			return false
		}
		if v.Power != p || v.Reason != r {
			return true
		}
		w := s.Work(v.Work)
		return p == PowerOn && (v.Gone || v.Protected() && !v.Wanted && h.order(OrderStop, id) == nil ||
			w != nil && w.Type != WorkStop && w.Step != Stopping) ||
			p == PowerOff && w != nil && (w.Type == WorkStop || w.Step == Fencing || w.Step == Restarting)
	}
	v, owner := s.VM(id)
	if v == nil {
		return p != PowerStarting && !(p == PowerUnknown && inc == 0)
	}
	if o := h.order(OrderDestroy, id); o != nil {
		return refused >= o.Incarnation
	}
	if p != PowerOn || r == ReasonMigratingIn {
		return false
	}
	if v.ProtectedBy == Unprotected && v.Incarnation == 0 {
		return !(owner.Status == Up && v.Power == PowerOn)
	}
	if w := s.Work(v.Work); w != nil && w.Step == Investigating || v.Power == PowerOff && v.Reason == ReasonMigrated {
		return true
	}
	return s.OpenAlert(AlertKey{AlertVM, v.Name, "duplicate"}) == nil || inc != 0 && inc < v.Incarnation
}
