package fsm

import (
	"fmt"
	"slices"

	"lifeboat/fsm/logpb"
)

// openWork opens work for a VM that has none; v is being edited.
func (t *tx) openWork(v *VM, typ WorkType, step Step, cause Cause, from HostID, reason string) *Work {
	switch {
	case step == Scheduled && t.s.Waking:
		step, reason = Investigating, reason+restored
	case step == Scheduled && t.s.copied(v):
		step, reason = Investigating, reason+seenElsewhere
	}
	w := &Work{ID: WorkID(t.mint()), VM: v.ID, VMName: v.Name, Type: typ, Step: step, Cause: cause, Reason: reason,
		From: from, Created: t.now, Lost: t.now}
	v.Work = w.ID
	t.s.open.set(v.ID, w.ID)
	t.putWork(w)
	begun := t.linked(0, workCause(w.ID), "WORK.OPEN", Info, vmSubject(v), fmt.Sprintf("%s work %d for %s: %s, %s", typ, w.ID, v.Name, cause, reason))
	if t.s.Level >= LevelPolicy {
		w.Begun = begun // nobody has seen it yet
	}
	if typ == WorkHA && cause != CauseOperator && !cause.Hang() {
		t.lost(v, from, cause)
	}
	t.trimWork()
	return w
}

func (t *tx) lost(v *VM, from HostID, cause Cause) {
	if cause.Hang() {
		t.raiseVM(v, "lost", Critical, "The guest of VM %s on host %s hangs (%s). It is being restarted.", v.Name, from, cause)
		return
	}
	t.raiseVM(v, "lost", Critical, "VM %s on host %s was lost (%s). It is being restarted.", v.Name, from, cause)
}

// workCause is the cause of the events of an item of work.
func workCause(id WorkID) string { return fmt.Sprintf("work %d", id) }

func (t *tx) putWork(w *Work) {
	w.Updated, w.Index = t.now, t.index
	t.s.work.set(w.ID, w)
	if v, _ := t.s.VM(w.VM); v != nil && w.Step != Stopping && w.Step != Migrating {
		t.resolve(stuckAlert(v), "the host has answered, or is proven dead")
	}
}

// stuckAlert is about a host that does not say that it has stopped a VM or
// given it up.
func stuckAlert(v *VM) AlertKey { return VMAlert(v, "stopping") }

// Stuck reports whether an alert says that a host does not let go of a VM.
func (s *State) Stuck(v *VM) bool { return s.OpenAlert(stuckAlert(v)) != nil }

// handedOut reports whether the owner of a VM may act on an order of this work
// already: then the work ends with its word or its death, not before (S4).
func handedOut(h *Host, v *VM, w *Work) bool {
	return w.Step == Restarting || w.Step == Stopping || w.Type == WorkMigration ||
		w.Type == WorkRelocation && h.order(OrderStop, v.ID) != nil ||
		!v.Gone && (h.order(OrderStart, v.ID) != nil || h.order(OrderDestroy, v.ID) != nil)
}

// investigate sends work back to looking for the VM (S18).
func (t *tx) investigate(w *Work, reason string) {
	n := *w
	n.Step, n.Reason = Investigating, reason
	t.putWork(&n)
}

// givingUp notes that a host which is heard again still has to give a VM up.
func (t *tx) givingUp(w *Work, host HostID) {
	n := *w
	n.Step, n.Reason = Stopping, fmt.Sprintf("host %s is told to give it up", host)
	t.putWork(&n)
}

// schedule opens or moves HA work to Scheduled; v is being edited. A VM that
// was unprotected while an order stood is not started again.
func (t *tx) schedule(v *VM, from HostID, cause Cause, reason string) {
	w := t.s.Work(v.Work)
	if w != nil && v.Protected() && t.s.Waking {
		t.investigate(w, reason+restored)
		return
	}
	if w != nil && v.Protected() && t.s.copied(v) {
		t.investigate(w, reason+seenElsewhere)
		return
	}
	t.scheduleNow(v, from, cause, reason)
}

// seenElsewhere is why a VM is looked for before it is started: the copy that
// was seen may be all that is left of it, and is adopted then (S18).
const seenElsewhere = "; but a copy of it was seen, so every host is asked where it is"

// restored is why a VM is looked for before it is started: what the state knows
// of it is older than what has become of it (S22).
const restored = "; but the state was restored, so every host is asked where it is"

// scheduleNow is schedule when every host has been asked.
func (t *tx) scheduleNow(v *VM, from HostID, cause Cause, reason string) {
	w := t.s.Work(v.Work)
	if !v.Protected() {
		if w != nil {
			t.endWork(v, w, Cancelled, "the VM is no longer protected")
		}
		return
	}
	if w == nil {
		t.openWork(v, WorkHA, Scheduled, cause, from, reason)
		return
	}
	n := *w
	if !n.Type.Starts() {
		n.Type = WorkHA
	}
	n.Step, n.Reason, n.NotBefore = Scheduled, reason, t.now
	t.putWork(&n)
}

// endWork closes work in a verified outcome; v is being edited.
func (t *tx) endWork(v *VM, w *Work, step Step, outcome string) {
	n := *w
	n.Step, n.Outcome, n.Ended = step, outcome, t.now
	t.putWork(&n)
	t.s.open.delete(v.ID)
	v.Work = 0
	t.restartEnded(v, w, step)
	switch {
	case step == Error && w.Type == WorkMigration:
		t.event("WORK.ERROR", Warning, vmSubject(v), "work %d for %s failed: %s", n.ID, v.Name, outcome)
	case step == Error && w.Cause.Hang() && v.Power == PowerOn:
		// Its host's death is still acted on: it runs, whatever its guest does.
		t.linked(n.Begun, workCause(n.ID), "WORK.ERROR", Critical, vmSubject(v), fmt.Sprintf("work %d for %s failed: %s", n.ID, v.Name, outcome))
		t.givesUpGuest(v)
		t.raiseVM(v, GuestHangs, Critical, "The guest of VM %s hangs: %s. Look at its console, restart it or mend the cause, then run `lifeboat vm clear %s`.", v.Name, outcome, v.Name)
	case step == Error:
		v.setError(outcome)
		t.linked(n.Begun, workCause(n.ID), "WORK.ERROR", Critical, vmSubject(v), fmt.Sprintf("work %d for %s failed: %s", n.ID, v.Name, outcome))
		t.raiseVM(v, "error", Critical, "VM %s could not be started: %s. Mend the cause, then run `lifeboat vm clear %s`.", v.Name, outcome, v.Name)
	case step == Cancelled:
		t.linked(n.Begun, workCause(n.ID), "WORK.CANCEL", Warning, vmSubject(v), fmt.Sprintf("work %d for %s was cancelled: %s", n.ID, v.Name, outcome))
	default:
		t.linked(n.Begun, workCause(n.ID), "WORK.DONE", Info, vmSubject(v), fmt.Sprintf("work %d for %s is done: %s", n.ID, v.Name, outcome))
	}
	t.resolveVM(v, "lost", "%s", outcome)
	if step == Done {
		t.resolveVM(v, "error", "%s", outcome)
	}
}

func (t *tx) trimWork() {
	excess := t.s.work.len() - t.s.open.len() - t.s.Policy.WorkKeep
	if excess <= 0 {
		return
	}
	var drop []WorkID
	for id, w := range t.s.work.all() {
		if w.Step.Ended() {
			drop = append(drop, id)
			if len(drop) == excess {
				break
			}
		}
	}
	for _, id := range drop {
		t.s.work.delete(id)
	}
}

// failedStart is an agent's committed word that an incarnation never ran and
// never will (S4). It returns the work to Scheduled, or gives up.
func (t *tx) failedStart(v *VM, w *Work, host HostID, why string) {
	v.Gone = true
	if !v.Protected() {
		t.endWork(v, w, Cancelled, "the VM is no longer protected; its start on host "+string(host)+" failed: "+why)
		return
	}
	n := *w
	n.Tried = tried(w, host, 1)
	n.Step = Scheduled
	n.Reason = fmt.Sprintf("start on host %s failed: %s", host, why)
	n.NotBefore = t.now + int64(t.s.Policy.Backoff(n.Attempt))
	t.putWork(&n)
	t.linked(n.Begun, workCause(n.ID), "VM.START.FAIL", Warning, vmSubject(v), fmt.Sprintf("start of %s on host %s at incarnation %s failed: %s", v.Name, host, v.Incarnation, why))
	if t.spent(v, &n) {
		t.endWork(v, &n, Error, fmt.Sprintf("%d starts failed on %d hosts; the last one on host %s: %s", n.Attempt, len(n.Tried), host, why))
	}
}

// tried is w.Tried with more failed starts on a host.
func tried(w *Work, host HostID, more uint32) []Tried {
	out := slices.Clone(w.Tried)
	i := slices.IndexFunc(out, func(x Tried) bool { return x.Host == host })
	if i < 0 {
		return append(out, Tried{host, more})
	}
	out[i].Count += more
	return out
}

// spent reports whether a VM has used up its starts: on more hosts than it may
// be relocated to, every retry failed.
func (t *tx) spent(v *VM, w *Work) bool {
	restarts, relocates := t.s.Policy.Limits(v)
	var spent uint32
	for _, x := range w.Tried {
		if x.Count > restarts {
			spent++
		}
	}
	return spent > relocates
}

// giveUpSpent ends scheduled work whose last start was withdrawn.
func (t *tx) giveUpSpent(v *VM) {
	if w := t.s.Work(v.Work); w != nil && w.Step == Scheduled && len(w.Tried) > 0 && t.spent(v, w) {
		t.endWork(v, w, Error, fmt.Sprintf("%d starts failed or took too long on %d hosts", w.Attempt, len(w.Tried)))
	}
}

// Limits are a VM's max_restart and max_relocate.
func (p *Policy) Limits(v *VM) (restarts, relocates uint32) {
	restarts, relocates = uint32(p.MaxRestart), uint32(p.MaxRelocate)
	hp := v.HAPolicy()
	if hp.MaxRestart != nil {
		restarts = *hp.MaxRestart
	}
	if hp.MaxRelocate != nil {
		relocates = *hp.MaxRelocate
	}
	return restarts, relocates
}

func (t *tx) place(c *logpb.Place) string {
	for _, p := range c.Placements {
		id, ok := vmID(p.Vm)
		if !ok {
			continue
		}
		v, _ := t.s.VM(id)
		if v == nil || v.Work != WorkID(p.Work) {
			continue
		}
		t.tryPlace(v, HostID(p.Target), p.Why)
	}
	return ""
}

// Actions of WorkUpdate.
const (
	WorkCancel   = 1
	WorkRetry    = 2
	WorkNoTarget = 3
	WorkWithdraw = 4
	WorkStuck    = 5
	WorkGated    = 90 // it waits for the VMs that it depends on
)

func (t *tx) workUpdate(c *logpb.WorkUpdate) string {
	w := t.s.Work(WorkID(c.Work))
	if w == nil {
		return fmt.Sprintf("there is no work %d; `lifeboat work list --all` shows what is kept", c.Work)
	}
	old, h := t.s.VM(w.VM)
	if old == nil {
		return fmt.Sprintf("the VM of work %d is gone", c.Work)
	}
	v := *old
	switch c.Action {
	case WorkCancel:
		if w.Step.Ended() {
			return fmt.Sprintf("work %d has already ended (%s)", w.ID, w.Step)
		}
		if w.Type == WorkMigration {
			return t.callOff(h, &v, w)
		}
		if handedOut(h, &v, w) {
			return fmt.Sprintf("work %d cannot be cancelled: host %s may have the order already; wait until it has answered or is proven dead", w.ID, h.ID)
		}
		t.endWork(&v, w, Cancelled, "cancelled by "+t.actor)
		t.unwanted(&v, h)
		t.assigned(h.ID)
	case WorkRetry:
		if w.Step == Scheduled {
			n := *w
			n.NotBefore, n.Tried = t.now, nil
			t.putWork(&n)
			t.event("WORK.RETRY", Info, vmSubject(&v), "work %d for %s is tried again now", w.ID, v.Name)
			return ""
		}
		if !w.Step.Ended() {
			return fmt.Sprintf("work %d is under way (%s)", w.ID, w.Step)
		}
		return t.clear(&v, h)
	case WorkNoTarget:
		if w.Step != Scheduled && w.Step != Investigating {
			return ""
		}
		n := *w
		if n.Reason != c.Reason {
			t.event("WORK.WAIT", Warning, vmSubject(&v), "%s waits: %s", v.Name, c.Reason)
		}
		n.Reason = c.Reason
		if w.Step == Investigating {
			t.putWork(&n)
			n.Updated = w.Updated // a search counts from the loss
			return ""
		}
		n.NotBefore = t.now + min(max(c.DelayNs, 0), maxDeadline)
		t.putWork(&n)
		return ""
	case WorkGated:
		return t.gated(w, &v, c.Reason)
	case WorkWithdraw:
		return t.withdraw(w, &v, h, c.Reason)
	case WorkStuck:
		if w.Step == Migrating {
			t.raise(stuckAlert(&v), Warning, "VM %s is being migrated from host %s to host %s and the end is not heard of: %s. It is not touched meanwhile: look at libvirt on host %s (`virsh domjobinfo`).", v.Name, h.ID, w.Target, c.Reason, h.ID)
		}
		if w.Step == Stopping {
			t.raise(stuckAlert(&v), Critical, "VM %s hangs: %s. Nobody else may start it before host %s has let go of it or is proven dead: look at libvirt there, or fence the host with `lifeboat host confirm-dead %s` once it is switched off.", v.Name, c.Reason, h.ID, h.ID)
		}
		return ""
	default:
		return "work can be cancelled or retried"
	}
	t.storeVM(h.ID, &v)
	return ""
}

// withdraw takes back an order that may have been handed out, or gets a live
// owner to give a VM up: the agent must persist that it refuses the
// incarnation from now on (S4).
func (t *tx) withdraw(w *Work, v *VM, h *Host, reason string) string {
	if w.Step != Restarting && w.Step != Scheduled || v.Gone {
		return ""
	}
	if h.order(OrderDestroy, v.ID) != nil {
		return ""
	}
	n := edit(h)
	n.Orders = slices.DeleteFunc(slices.Clone(n.Orders), func(o *Order) bool { return o.VM == v.ID })
	t.order(n, OrderDestroy, v, v.Incarnation, w.ID)
	t.setHost(n)
	x := *w
	if w.Step == Restarting {
		// A host that does not get it started in time is not asked again.
		restarts, _ := t.s.Policy.Limits(v)
		x.Tried = tried(w, h.ID, restarts+1)
	}
	x.Step, x.Reason = Stopping, reason
	t.putWork(&x)
	t.linked(w.Begun, workCause(w.ID), "VM.WITHDRAW", Warning, vmSubject(v), fmt.Sprintf("host %s is told to give up %s at incarnation %s: %s", h.ID, v.Name, v.Incarnation, reason))
	return ""
}

func (t *tx) vmReleased(c *logpb.VMReleased) string {
	w := t.s.Work(WorkID(c.Work))
	if w == nil || w.Step != Investigating {
		return ""
	}
	if t.s.Waking {
		return "the state was restored: nothing is started before HA is armed"
	}
	old, h := t.s.VM(w.VM)
	if old == nil {
		return ""
	}
	v := *old
	// Every host has reported, so the owner has too, or is proven dead: only
	// then may it start elsewhere without the owner's word (S2).
	if w.Type == WorkMigration {
		if w = t.foundNowhere(&v, h, w, c.Reason); w == nil {
			t.storeVM(h.ID, &v)
			return ""
		}
	}
	v.Power, v.Reason, v.Since, v.Gone = PowerOff, ReasonNone, t.now, v.Gone || h.HA == HAFenced
	t.scheduleNow(&v, h.ID, w.Cause, c.Reason)
	t.storeVM(h.ID, &v)
	t.linked(w.Begun, workCause(w.ID), "VM.RELEASE", Info, vmSubject(&v), fmt.Sprintf("%s runs nowhere: %s", v.Name, c.Reason))
	return ""
}

// clear takes a VM out of error and tries again.
func (t *tx) clear(v *VM, h *Host) string {
	if v.Error == "" && t.s.GuestAlert(v) == nil {
		return fmt.Sprintf("VM %s is not in error", v.Name)
	}
	if t.s.Level >= LevelPolicy {
		t.event("VM.CLEAR", Info, vmSubject(v), "the error of VM %s was cleared by %s: %s", v.Name, t.actor, v.Error)
	}
	v.setError("")
	t.guestSettled(v, "cleared by %s", t.actor)
	if v.Hangs != nil {
		v.setHangs(&Hangs{Settled: v.Hangs.Settled}) // it begins anew
	}
	t.resolveVM(v, "error", "cleared by %s", t.actor)
	t.bringBack(v, h, "cleared by "+t.actor)
	t.storeVM(h.ID, v)
	return ""
}

// bringBack opens work for a VM that is wanted on, does not run and is cared for
// again; v is being edited.
func (t *tx) bringBack(v *VM, h *Host, why string) {
	if !v.Protected() || !v.Wanted || v.Work != 0 {
		return
	}
	switch {
	case v.LostSight() && !v.Gone:
		t.openWork(v, WorkHA, Investigating, CauseOperator, h.ID, why+"; every host is asked where it is")
	case v.Power == PowerOff || v.Gone:
		t.openWork(v, WorkHA, Scheduled, CauseOperator, h.ID, why)
	case h.Status == Down && h.HA == HAFencing:
		t.fencing(v, h)
	}
}
