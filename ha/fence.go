package ha

import (
	"fmt"
	"slices"
	"time"

	"lifeboat/fsm"
	"lifeboat/fsm/logpb"
)

// fence seeks proof for a host that is Down: whatever comes first of a lease
// that has run out and a power reading.
func (d *decision) fence(h *fsm.Host, c Contact) {
	if !d.s.Armed {
		return
	}
	if at, ok := d.leaseEnd(h, c); ok {
		if d.now.Mono >= at {
			d.fenced(h, fsm.ProofLease, "lease", fmt.Sprintf("its self-fence lease (%s, %s watchdog) has run out: %s without a renewal",
				time.Duration(h.Lease.DurationNS), h.Lease.Watchdog, seconds(d.leaseWait(h))))
			return
		}
		d.wake(at)
	}
	if a := h.Attempt; a != nil && a.Open && a.Executor == d.executor(h) {
		d.underway(h, a, c.Fence)
		return
	}
	d.attempt(h, c)
}

// executor is who makes the attempts on a host that is Down in this epoch. An
// attempt of anybody else may be in flight without us, and proves nothing
// about this death (S9).
func (d *decision) executor(h *fsm.Host) string {
	return fmt.Sprintf("%s, epoch %d of the host", d.soft.Executor, h.Epoch)
}

// underway sees our committed attempt through.
func (d *decision) underway(h *fsm.Host, a *fsm.Attempt, run *FenceRun) {
	if run == nil || run.Attempt != a.Number {
		// Committed, but not begun. It must have ended when its deadline has
		// passed: the host may be Up again then (S10).
		left := time.Duration(a.Until-d.now.Wall) - fenceMargin
		switch {
		case left <= 0:
			d.failed(h, a, "it was not begun before its deadline")
		case d.proven(): // S14: we may have been frozen since the commit
			d.run(Fence{Host: h.ID, Epoch: h.Epoch, Level: a.Level, Attempt: a.Number, Timeout: min(d.timeout(h, a.Level), left), Via: a.Via})
		}
		return
	}
	switch {
	case run.Proof != nil:
		d.fenced(h, fsm.ProofPower, run.Proof.Source, run.Proof.Detail)
	case run.Ended > 0:
		d.failed(h, a, run.Failure)
	}
}

// fenceMargin is how long before its deadline an attempt must have ended: the
// clocks of two leaders may differ by as much (S21).
const fenceMargin = 2 * time.Second

func (d *decision) failed(h *fsm.Host, a *fsm.Attempt, why string) {
	d.do(&logpb.Command{Body: &logpb.Command_FenceResult{FenceResult: &logpb.FenceResult{
		Host: string(h.ID), Epoch: h.Epoch, Level: a.Level, Attempt: a.Number, Failure: why}}})
}

// attempt commits the next active attempt, unless something holds it back.
func (d *decision) attempt(h *fsm.Host, c Contact) {
	level, ok := d.nextLevel(h)
	if !ok || !d.affected(h) {
		return
	}
	if d.held[h.ID] && !seenDead(h) {
		// Looking harms nobody: power that reads as off ends the wait (S17).
		d.investigate(h, c)
		if i := d.round(c); i != nil {
			d.evidence(h, i)
		}
		return
	}
	if a := h.Attempt; a != nil && !a.Open && level <= a.Level && c.Fence != nil {
		// All levels have failed, the last of them in this term.
		if next := c.Fence.Ended + d.p.FenceRetry; d.now.Mono < next {
			d.wake(next)
			return
		}
	}
	if h.ID == d.soft.Machine {
		// Not in the first moments of a term: two leaders whose machines must both
		// be fenced would hand over to each other for ever, and renew no lease.
		// Meanwhile each of them fences the other's.
		if at := d.listening(); d.now.Mono < at {
			d.wake(at)
			return
		}
		d.plan.Transfer = fmt.Sprintf("host %s, which shares this machine, must be fenced", h.ID)
		return
	}
	if !d.proven() {
		return
	}
	number := uint32(1)
	if h.Attempt != nil {
		number = h.Attempt.Number + 1
	}
	d.do(&logpb.Command{Body: &logpb.Command_FenceAttempt{FenceAttempt: &logpb.FenceAttempt{Host: string(h.ID), Epoch: h.Epoch,
		Level: level, Attempt: number, DeadlineNs: int64(d.timeout(h, level) + fenceMargin), Executor: d.executor(h),
		Via: d.via(h, h.Fence[level])}}})
}

// nextLevel is the active level to try: the one after the last that failed,
// from the first again after the last; an attempt whose leader is gone is
// repeated.
func (d *decision) nextLevel(h *fsm.Host) (uint32, bool) {
	first, found := uint32(0), false
	for i, l := range h.Fence {
		if !l.Active() {
			continue
		}
		level := uint32(i)
		if !found {
			first, found = level, true
		}
		a := h.Attempt
		if a == nil || a.Open && level >= a.Level || level > a.Level {
			return level, true
		}
	}
	return first, found
}

func (d *decision) timeout(h *fsm.Host, level uint32) time.Duration {
	if int(level) < len(h.Fence) && h.Fence[level].TimeoutNS > 0 {
		return time.Duration(h.Fence[level].TimeoutNS)
	}
	return d.p.FenceTimeout
}

// affected reports whether a VM waits for the proof, may run on the host for
// the second time (S6), or is searched for in vain and may have gone there, or was on its way there (S18).
// A host without one is left alone: cutting its power would help nobody.
func (d *decision) affected(h *fsm.Host) bool {
	return slices.ContainsFunc(h.Copies, func(c fsm.Copy) bool { return !c.Apart }) || slices.ContainsFunc(h.VMs, func(v fsm.VM) bool {
		w := d.s.Work(v.Work)
		return w != nil && w.Step == fsm.Fencing
	}) || d.sought() || slices.ContainsFunc(d.contact(h).Coming, func(id fsm.VMID) bool {
		v, _ := d.s.VM(id)
		return v != nil && v.Work != 0
	})
}

// fenced commits the proof, and in the same entry where the VMs start: they
// are chosen later, together with all others that wait.
func (d *decision) fenced(h *fsm.Host, kind fsm.ProofKind, by, detail string) {
	if !d.proven() {
		return
	}
	c := &logpb.HostFenced{Host: string(h.ID), Epoch: h.Epoch, Proof: &logpb.Proof{Kind: uint32(kind), By: by, Detail: detail}}
	for i := range h.VMs {
		v := &h.VMs[i]
		if w := d.s.Work(v.Work); w != nil && w.Step == fsm.Fencing && !v.LostSight() {
			d.jobs = append(d.jobs, job{vm: v, owner: h, work: w, gone: true, fenced: c})
		}
	}
	d.do(&logpb.Command{Body: &logpb.Command_HostFenced{HostFenced: c}})
}

// leaseEnd is when the lease of a host has certainly run out (S12, S13, S15);
// false when the host has none that proves anything.
func (d *decision) leaseEnd(h *fsm.Host, c Contact) (time.Duration, bool) {
	if h.Lease == nil || !h.Lease.Armed || !d.p.ProvesDeath(h.Lease.Watchdog) {
		return 0, false
	}
	if x := d.soft.Hosts.Of(h.ID); x.Epoch != 0 && x.Epoch != h.Epoch {
		return 0, false // what was heard is about another epoch: no bound at all
	}
	// What was heard bounds what was renewed. A term that begins counts as a
	// renewal: the old leader may have granted until then. Since does not
	// matter here: a leader that was frozen renewed nothing meanwhile.
	return max(c.Heard, 0) + d.leaseWait(h), true
}

// leaseWait is how long after a renewal a host can certainly not run its
// protected VMs any more.
func (d *decision) leaseWait(h *fsm.Host) time.Duration {
	return leaseWait(d.p, time.Duration(h.Lease.DurationNS+h.Lease.BoundNS))
}

// leaseWait is the policy's takeover, or longer when the lease that is held was
// granted under another policy (S13).
func leaseWait(p *fsm.Policy, held time.Duration) time.Duration {
	return max(p.Takeover, held+held/100+time.Millisecond)
}
