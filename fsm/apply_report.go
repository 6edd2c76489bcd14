package fsm

import (
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
	answers bool // its guest's agent does

	order        OrderID // an order to migrate that came to nothing
	orderFailure string
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
	case r.Seq <= h.Seq && h.Seq != 0:
		return "" // late or repeated
	}
	old := h
	h = edit(h)
	h.Seq = r.Seq
	if r.Inventory != nil {
		h.Inventory = t.inventory(r.Inventory)
	}
	p := reporting{tx: t, host: h}
	missing := p.copiesEnded(r.Missing)
	if r.Vms != nil {
		p.entries(r.Vms)
	}
	for _, id := range missing {
		p.absent(id)
	}
	p.store()
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

	edited VM // by owned
}

// put replaces the i-th VM of the host by a copy of v.
func (p *reporting) put(i int, v *VM) {
	p.own()
	p.host.VMs[i] = *v
}

// flush stores the host, and goes on with a copy of it.
func (p *reporting) flush() {
	p.store()
	p.host, p.cloned = edit(p.s.Host(p.host.ID)), false
}

func (p *reporting) store() {
	if p.host.Stalled {
		p.host.Stalled = stalled(p.host.VMs)
	}
	p.setHost(p.host)
}

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
	next := 0 // entries and host.VMs are both sorted: merge
	for i := range n {
		e := vmEntry{power: powerFromLog(c.Power[i]), reason: reasonFromLog(c.Reason[i])}
		copy(e.id[:], c.Ids[i*16:])
		if len(c.Incarnations) != 0 {
			e.inc = Incarnation(c.Incarnations[i])
		}
		for len(det) > 0 && det[0].Pos < uint32(i) {
			det = det[1:]
		}
		detailed := len(det) > 0 && det[0].Pos == uint32(i)
		if detailed {
			e.name, e.refused, e.failed, e.failure = det[0].Name, Incarnation(det[0].Refused), Incarnation(det[0].Failed), det[0].Failure
			e.order, e.orderFailure = OrderID(det[0].Order), det[0].OrderFailure
			e.answers = det[0].GuestAnswers && p.s.Level >= LevelPolicy
			det = det[1:]
		}
		for next < len(p.host.VMs) && lessVM(p.host.VMs[next].ID, e.id) {
			next++
		}
		at, ok := next, next < len(p.host.VMs) && p.host.VMs[next].ID == e.id
		if !ok {
			at, ok = p.host.find(e.id) // out of order
		}
		if !ok {
			p.foreign(&e)
			next = 0 // the slice may have changed
			continue
		}
		v := &p.host.VMs[at]
		if !detailed && v.ProtectedBy == Unprotected && v.Incarnation == 0 && v.Work == 0 && e.power != PowerReportMissing {
			// The common case: an unprotected VM changed its power state.
			if e.power == PowerStarting || v.Power == e.power && v.Reason == e.reason {
				continue
			}
			p.own()
			v = &p.host.VMs[at]
			if v.Power != e.power {
				v.Since = p.now
			}
			v.Power, v.Reason, v.Answers = e.power, e.reason, v.Answers && v.Power == PowerOn && e.power == PowerOn
			if v.Stalled() {
				p.host.Stalled = true
			}
			continue
		}
		p.owned(at, &e)
	}
}

// powerFromLog and reasonFromLog read what they do not know as "unknown".
func powerFromLog(b byte) Power {
	if b > byte(PowerStarting) {
		return PowerUnknown
	}
	return Power(b)
}

func reasonFromLog(b byte) Reason {
	if b > byte(ReasonHostDead) {
		return ReasonNone
	}
	return Reason(b)
}

// speaks reports whether an entry says something about v's power: one of
// another incarnation says nothing about this one (S5).
func (e *vmEntry) speaks(v *VM) bool {
	return (e.inc == v.Incarnation || !v.Protected() && v.Work == 0) && e.power != PowerStarting
}

// owned applies an entry about a VM this host owns; i is its position.
func (p *reporting) owned(i int, e *vmEntry) {
	old := &p.host.VMs[i]
	p.edited = *old
	v := &p.edited
	if e.name != "" && e.name != v.Name {
		p.renameAlerts(v, e.name)
		v.setName(e.name)
		p.put(i, v)
		p.flush() // what ends with this entry speaks of it by its new name
	}
	if p.s.ahead(v, e) {
		v.Incarnation = e.inc
		p.host.Assigned = p.index
	}
	p.tombstoned(v, e)
	p.failed(v, e)
	p.notMoved(v, e)
	if e.speaks(v) {
		if e.power == PowerReportMissing {
			if p.missing(v) {
				p.own()
				p.host.VMs = slices.Delete(p.host.VMs, i, i+1)
				return
			}
		} else {
			p.power(v, e)
		}
	}
	if *v == *old {
		return
	}
	p.put(i, v)
}

// tombstoned is the agent's persisted word that it refuses incarnations up to
// e.refused and that no domain is left (S4).
func (p *reporting) tombstoned(v *VM, e *vmEntry) {
	if e.refused == 0 {
		return
	}
	if o := p.host.order(OrderDestroy, v.ID); o != nil && e.refused >= o.Incarnation {
		p.dropOrder(OrderDestroy, v.ID)
	}
	if e.refused < v.Incarnation || v.Gone || v.Incarnation == 0 { // never granted: nothing to give up
		return
	}
	if w := p.s.Work(v.Work); w != nil && w.Type == WorkMigration {
		if w.Step != Investigating { // it may run on the target (S7)
			v.Power, v.Reason, v.Since = PowerOff, ReasonOrdered, p.now
			p.offOnTheWay(v, w, fmt.Sprintf("host %s has given it up", p.host.ID))
		}
		return
	}
	v.Gone = true
	if v.Power != PowerOff && !v.LostSight() {
		v.Power, v.Reason, v.Since = PowerOff, ReasonOrdered, p.now
	}
	p.dropOrder(OrderStart, v.ID)
	p.dropOrder(OrderStop, v.ID)
	p.dropOrder(OrderResume, v.ID)
	w := p.s.Work(v.Work)
	switch given := fmt.Sprintf("host %s has given it up", p.host.ID); {
	case w == nil:
		if v.Protected() && v.Wanted && v.Error == "" && !p.s.Ignoring {
			p.openWork(v, WorkHA, Scheduled, CauseMissing, p.host.ID, given)
		}
	case w.Type.Stops():
		p.endWork(v, w, Done, "stopped")
	case w.Step == Stopping || w.Step == Restarting || w.Step == Fencing:
		p.schedule(v, p.host.ID, w.Cause, given)
		p.giveUpSpent(v)
	}
}

// failed is the agent's word that it could not start the current incarnation
// and never will: as good as a tombstone for that incarnation (S4).
func (p *reporting) failed(v *VM, e *vmEntry) {
	if !failedStartOf(v, p.s.Work(v.Work), e.failed) {
		return
	}
	p.dropOrder(OrderStart, v.ID)
	switch w := p.s.Work(v.Work); w.Step {
	case Restarting, Fencing:
		p.failedStart(v, w, p.host.ID, e.failure)
	case Stopping:
		v.Gone = true
		p.schedule(v, p.host.ID, w.Cause, fmt.Sprintf("host %s could not start it: %s", p.host.ID, e.failure))
		p.giveUpSpent(v)
	}
}

func failedStartOf(v *VM, w *Work, failed Incarnation) bool {
	return failed != 0 && failed == v.Incarnation && !v.Gone && v.Power != PowerOn && w != nil && w.Type.Starts() &&
		(w.Step == Restarting || w.Step == Fencing || w.Step == Stopping)
}

func (p *reporting) dropOrder(kind OrderKind, vm VMID) {
	i := slices.IndexFunc(p.host.Orders, func(o *Order) bool { return o.Kind == kind && o.VM == vm })
	if i < 0 {
		return
	}
	p.host.Orders = slices.Delete(slices.Clone(p.host.Orders), i, i+1)
	p.host.Assigned = p.index
}
