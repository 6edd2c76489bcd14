package fsm

import (
	"fmt"
	"slices"
	"time"

	"lifeboat/fsm/logpb"
)

// hostDown commits the intent: from here on nothing the host says in this
// epoch counts, and somebody must prove it dead (design §4, S10).
func (t *tx) hostDown(c *logpb.HostDown) string {
	h, no := t.current(c.Host, c.Epoch)
	if no != "" {
		return no
	}
	if h.Status == Down {
		return "" // the second one is no news
	}
	if !t.s.Armed {
		return "HA is disarmed"
	}
	t.markDown(h, c.Reason)
	return ""
}

func (t *tx) markDown(h *Host, reason string) {
	t.hostState(h, Down, HAFencing, reason)
	h.DownAt, h.DownIndex, h.Settled = t.now, t.index, t.index
	h.Proof, h.FenceFailure = nil, ""
	if !t.inFlight(h) {
		h.Attempt = nil
	}
	if h.Silent == 0 {
		h.Silent = t.now
	}
	t.setHost(h)
	t.event("HOST.DOWN", Critical, hostSubject(h.ID), "host %s is Down: %s", h.ID, reason)
	hit := 0
	vms := make([]VM, len(h.VMs))
	for i := range h.VMs {
		old := &h.VMs[i]
		v := *old
		if v.Power == PowerOn {
			v.Power, v.Reason, v.Since = PowerUnknown, ReasonNone, t.now
		}
		if v.Protected() && v.Wanted && v.Error == "" && (old.Power != PowerOff || v.Work != 0) {
			hit++
			t.fencing(&v, h)
		}
		vms[i] = v
	}
	h.VMs = vms
	t.setHost(h)
	t.raise(AlertKey{AlertHost, string(h.ID), "down"}, Critical, "Host %s is Down: %s. %d protected VMs are affected; they are started elsewhere as soon as the host is proven dead.", h.ID, reason, hit)
}

// fencing opens work for a VM of a host that is Down, or sends its open work
// back to wait for the proof.
func (t *tx) fencing(v *VM, h *Host) {
	w := t.s.Work(v.Work)
	if w == nil {
		w = t.openWork(v, WorkHA, Fencing, CauseHostDown, h.ID, fmt.Sprintf("waits for proof that host %s is dead", h.ID))
		n := *w
		n.Lost = h.Silent
		t.putWork(&n)
		return
	}
	if v.Gone {
		return // not here any more in any case
	}
	if w.Type == WorkMigration {
		t.sourceDown(h, w)
		return
	}
	n := *w
	n.Step, n.Reason, n.From = Fencing, fmt.Sprintf("waits for proof that host %s is dead", h.ID), h.ID
	if n.Cause != CauseHostDown && !v.LostSight() {
		n.Lost, n.Cause = h.Silent, CauseHostDown
	}
	t.putWork(&n)
}

// fenceAttempt is committed before anything is sent to a BMC (S10).
func (t *tx) fenceAttempt(c *logpb.FenceAttempt) string {
	h, no := t.current(c.Host, c.Epoch)
	if no != "" {
		return no
	}
	if h.HA != HAFencing {
		return fmt.Sprintf("host %s is not waiting for a fence (%s)", h.ID, h.HA)
	}
	if int(c.Level) >= len(h.Fence) {
		return fmt.Sprintf("host %s has no fence level %d", h.ID, c.Level)
	}
	if h.Attempt != nil && c.Attempt <= h.Attempt.Number {
		return "" // late or repeated
	}
	// A new leader does not wait for what an old one may have sent: cutting power
	// twice harms nobody. But the host is held back until both have ended.
	h.Attempt = &Attempt{Level: c.Level, Number: c.Attempt, Executor: c.Executor, Until: t.now + t.deadline(c.DeadlineNs), Open: true,
		Earlier: h.Attempt.End(), Via: c.Via}
	t.setHost(h)
	begun := t.linked(0, downCause(h), "HOST.FENCE.ATTEMPT", Warning, hostSubject(h.ID), fmt.Sprintf("attempt %d to fence host %s by %s%s (deadline %s)", c.Attempt, h.ID, h.Fence[c.Level].Driver, h.Attempt.Through(), time.Duration(c.DeadlineNs)))
	if t.s.Level >= LevelPolicy {
		h.AttemptEvent = begun // nobody has seen it yet
	}
	return ""
}

func (t *tx) fenceResult(c *logpb.FenceResult) string {
	if h := t.s.Host(HostID(c.Host)); h != nil && h.HA == HARecovering && h.Epoch == c.Epoch+1 {
		return t.attemptEnded(edit(h), c.Attempt)
	}
	h, no := t.current(c.Host, c.Epoch)
	if no != "" {
		return no
	}
	if h.HA != HAFencing {
		return t.attemptEnded(h, c.Attempt)
	}
	if h.Attempt == nil || h.Attempt.Number != c.Attempt || !h.Attempt.Open {
		return "" // late or repeated
	}
	a := *h.Attempt
	a.Open = false
	h.Attempt = &a
	driver := "unknown"
	if int(c.Level) < len(h.Fence) {
		driver = h.Fence[c.Level].Driver
	}
	h.FenceFailure = driver + ": " + c.Failure
	t.setHost(h)
	t.linked(h.AttemptEvent, downCause(h), "HOST.FENCE.FAIL", Critical, hostSubject(h.ID), fmt.Sprintf("attempt %d to fence host %s by %s failed: %s", c.Attempt, h.ID, driver, c.Failure))
	t.raise(AlertKey{AlertFence, string(h.ID), "failed"}, Critical, "Host %s could not be fenced by %s: %s. The next level is tried; its VMs wait until one of them proves the host dead, or you do with `lifeboat host confirm-dead %s`.", h.ID, driver, c.Failure, h.ID)
	return ""
}

// downCause is the cause of what is done about a host that is down.
func downCause(h *Host) string {
	return fmt.Sprintf("host %s epoch %d is down: %s", h.ID, h.Epoch, h.Reason)
}

// attemptEnded notes the end of an attempt on a host that came back meanwhile:
// nothing holds it in Connecting any more (S10).
func (t *tx) attemptEnded(h *Host, number uint32) string {
	if h.Attempt == nil || h.Attempt.Number != number || !h.Attempt.Open {
		return ""
	}
	a := *h.Attempt
	a.Open = false
	h.Attempt = &a
	t.setHost(h)
	t.linked(h.AttemptEvent, downCause(h), "HOST.FENCE.END", Info, hostSubject(h.ID), fmt.Sprintf("attempt %d to fence host %s has ended; the host is back", number, h.ID))
	return ""
}

// hostFenced commits the permission: the host is proven dead, its VMs are
// gone, and the placements are granted in the same entry.
func (t *tx) hostFenced(c *logpb.HostFenced) string {
	h, no := t.current(c.Host, c.Epoch)
	if no != "" {
		return no
	}
	if c.Proof == nil || c.Proof.Kind < uint32(ProofPower) || c.Proof.Kind > uint32(ProofOperator) {
		return "a host is fenced only by proof"
	}
	kind := ProofKind(c.Proof.Kind)
	if kind == ProofOperator && h.Status != Down {
		if (h.Status == Up || h.Status == Connecting) && !c.Force {
			return fmt.Sprintf("host %s reports; it is not dead (use --force if you know better)", h.ID)
		}
		t.markDown(h, "declared dead by "+t.actor)
		h = edit(t.s.Host(h.ID))
	}
	if h.HA != HAFencing {
		return fmt.Sprintf("host %s is not waiting for proof (%s)", h.ID, h.HA)
	}
	if kind == ProofLease && (h.Lease == nil || !h.Lease.Armed || !t.s.Policy.ProvesDeath(h.Lease.Watchdog)) {
		return fmt.Sprintf("host %s has no lease that could prove it dead", h.ID)
	}
	h.Proof = &Proof{Kind: kind, By: c.Proof.By, Detail: c.Proof.Detail, Time: t.now, Index: t.index}
	h.Lease = nil
	if kind == ProofPower && h.Attempt != nil {
		a := *h.Attempt
		a.Open = false // its end; another proof does not call back what was sent (S10)
		h.Attempt = &a
	}
	if !t.inFlight(h) {
		h.Attempt = nil
	}
	h.Evicted = false
	t.hostState(h, Down, HAFenced, h.Reason)
	t.linked(h.AttemptEvent, downCause(h), "HOST.FENCED", Critical, hostSubject(h.ID), fmt.Sprintf("host %s is proven dead by %s (%s): %s", h.ID, kind, c.Proof.By, c.Proof.Detail))
	t.resolve(AlertKey{AlertFence, string(h.ID), "failed"}, "host %s is proven dead by %s", h.ID, kind)
	t.resolve(AlertKey{AlertHost, string(h.ID), "silent"}, "host %s is proven dead by %s", h.ID, kind)
	h = t.vmsGone(h, CauseHostDown, ReasonHostDead)
	t.setHost(h)
	for _, p := range c.Placements {
		id, ok := vmID(p.Vm)
		if !ok {
			continue
		}
		if v, owner := t.s.VM(id); v != nil && owner.ID == h.ID {
			t.tryPlace(v, HostID(p.Target), p.Why)
		}
	}
	return ""
}

// tryPlace grants a VM to a host; a placement that is invalid by now leaves
// the VM Scheduled, never lost (S23).
func (t *tx) tryPlace(v *VM, target HostID, why string) {
	w := t.s.Work(v.Work)
	if w == nil || w.Step != Scheduled {
		return
	}
	if no := t.grant(v.ID, target, why); no != "" {
		n := *w
		n.Reason = "placement on " + string(target) + " refused: " + no
		t.putWork(&n)
	}
}

// grant gives the next incarnation of a VM to a host and orders the start.
// Ownership moves here, not when the VM starts (S2).
func (t *tx) grant(id VMID, target HostID, why string) (refused string) {
	old, from := t.s.VM(id)
	to := t.s.Host(target)
	w := t.s.Work(old.Work)
	switch {
	case w == nil || w.Step != Scheduled:
		return "there is no work that waits for a host"
	case !t.s.Armed && (w.Cause != CauseOperator || t.s.Waking) && !t.s.Permitted(old, w):
		return "HA is disarmed"
	case to == nil || to.Status != Up:
		return fmt.Sprintf("host %s is not Up", target)
	case !old.Protected():
		return "the VM is not protected"
	case to.Resource != Enabled:
		return fmt.Sprintf("host %s is %s", target, to.Resource)
	case to.Stopping != StaysUp:
		return fmt.Sprintf("host %s is %s", target, to.Stopping)
	case old.Spec == nil || !old.Spec.Defines():
		return "its definition has never been read"
	case target != from.ID && len(old.Spec.Local) > 0:
		return "what it needs is only on host " + string(from.ID) + ": " + old.Spec.Local[0]
	case !old.Gone && (target != from.ID || old.Power != PowerOff):
		return "its last incarnation is not proven gone" // S2
	case to.Copy(id) != nil:
		return fmt.Sprintf("another domain with its UUID runs on host %s", target)
	case to.order(OrderDestroy, id) != nil:
		return fmt.Sprintf("host %s still has to remove an older copy", target)
	}
	if no := t.s.RuleAgainst(id, to); no != "" { // what has changed since it was decided
		return no
	}
	v := *old
	last := v.Incarnation
	v.Incarnation = last.Next(t.s.Generation)
	if v.Incarnation <= last {
		return "there is no incarnation after " + last.String()
	}
	if v.Power != PowerOff {
		v.Since = t.now
	}
	v.Gone, v.Power, v.Reason = false, PowerOff, ReasonNone
	v.setError("") // what was said of the last incarnation is history
	t.guestSettled(&v, "it is started anew")
	t.removeVM(from.ID, id)
	if from.ID != target {
		f := edit(t.s.Host(from.ID))
		f.Orders = slices.DeleteFunc(slices.Clone(f.Orders), func(o *Order) bool { return o.VM == id })
		if last != 0 {
			t.order(f, OrderDestroy, &v, last, 0)
		}
		t.setHost(f)
	}
	t.insertVM(target, &v)
	n := *w
	n.Step, n.Target, n.Why, n.Incarnation = Restarting, target, why, v.Incarnation
	n.Gated = 0
	n.Attempt++
	n.Reason = ""
	t.putWork(&n)
	h := edit(t.s.Host(target))
	h.Orders = slices.DeleteFunc(slices.Clone(h.Orders), func(o *Order) bool { return o.VM == id && o.Kind != OrderDestroy })
	t.order(h, OrderStart, &v, v.Incarnation, w.ID)
	t.setHost(h)
	t.linked(n.Begun, workCause(n.ID), "VM.START.ORDER", Info, vmSubject(&v), fmt.Sprintf("start of %s ordered on host %s at incarnation %s (attempt %d): %s", v.Name, target, v.Incarnation, n.Attempt, why))
	return ""
}

// maxDeadline bounds what a command may ask for.
const maxDeadline = int64(24 * time.Hour)

// deadline is the length of a fence attempt: one without or with an absurd one
// must still hold the host back (S10).
func (t *tx) deadline(ns int64) int64 {
	if ns <= 0 {
		ns = int64(t.s.Policy.FenceTimeout)
	}
	return min(ns, maxDeadline)
}

// order adds a standing order to a host that is being edited. After a restore
// there is none before HA is armed (S22).
func (t *tx) order(h *Host, kind OrderKind, v *VM, inc Incarnation, work WorkID) {
	if t.s.Waking {
		return
	}
	h.Orders = append(slices.Clone(h.Orders), &Order{ID: OrderID(t.mint()), Kind: kind, VM: v.ID, Name: v.Name,
		Incarnation: inc, Epoch: h.Epoch, BootID: h.BootID, Work: work})
	h.Assigned = t.index
}
