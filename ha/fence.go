package ha

import (
	"fmt"
	"maps"
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
			wait := d.leaseWait(h)
			d.fenced(h, fsm.ProofLease, "lease", fmt.Sprintf("its self-fence lease (%s, %s watchdog) has run out: %s without a renewal",
				time.Duration(h.Lease.DurationNS), h.Lease.Watchdog, seconds(wait)))
			return
		}
		d.wake(at)
	}
	run := c.Fence
	a := h.Attempt
	mine := a != nil && a.Open && a.Executor == d.soft.Executor
	if mine && run != nil && run.Attempt == a.Number {
		switch {
		case run.Proof != nil:
			d.fenced(h, fsm.ProofPower, run.Proof.Source, run.Proof.Detail)
			return
		case run.Ended > 0:
			d.do(&logpb.Command{Body: &logpb.Command_FenceResult{FenceResult: &logpb.FenceResult{
				Host: string(h.ID), Epoch: h.Epoch, Level: a.Level, Attempt: a.Number, Failure: run.Failure}}})
			return
		}
	}
	if mine {
		d.run(Fence{Host: h.ID, Epoch: h.Epoch, Level: a.Level, Attempt: a.Number, Timeout: d.timeout(h, a.Level)})
		return
	}
	d.attempt(h, c)
}

// attempt commits the next active attempt, unless something holds it back.
func (d *decision) attempt(h *fsm.Host, c Contact) {
	level, ok := d.nextLevel(h)
	if !ok || !d.affected(h) || d.braked(h, c) {
		return
	}
	if a := h.Attempt; a != nil && !a.Open && level <= a.Level && c.Fence != nil {
		// All levels have failed once.
		if next := c.Fence.Ended + d.p.FenceRetry; d.now.Mono < next {
			d.wake(next)
			return
		}
	}
	if h.ID == d.soft.Machine {
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
		Level: level, Attempt: number, DeadlineNs: int64(d.timeout(h, level)), Executor: d.soft.Executor}}})
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

// affected reports whether a VM waits for the proof. A host without one is
// left alone: cutting its power would help nobody.
func (d *decision) affected(h *fsm.Host) bool {
	return slices.ContainsFunc(h.VMs, func(v *fsm.VM) bool {
		w := d.s.Work(v.Work)
		return w != nil && w.Step == fsm.Fencing
	})
}

// fenced commits the proof, and in the same entry where the VMs start.
func (d *decision) fenced(h *fsm.Host, kind fsm.ProofKind, by, detail string) {
	if !d.proven() {
		return
	}
	c := &logpb.HostFenced{Host: string(h.ID), Epoch: h.Epoch, Proof: &logpb.Proof{Kind: uint32(kind), By: by, Detail: detail}}
	var waiting []job
	for _, v := range h.VMs {
		if w := d.s.Work(v.Work); w != nil && w.Step == fsm.Fencing {
			waiting = append(waiting, job{vm: v, owner: h, work: w, gone: true})
		}
	}
	for _, j := range byPriority(waiting) {
		if t, why, _ := d.placer().place(j); t != nil {
			c.Placements = append(c.Placements, &logpb.Placement{Vm: j.vm.ID[:], Target: string(t.ID), Why: why})
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
	// What was heard bounds what was renewed. A term that begins counts as a
	// renewal: the old leader may have granted until then. Since does not
	// matter here: a leader that was frozen renewed nothing meanwhile.
	return max(c.Heard, 0) + d.leaseWait(h), true
}

// leaseWait is the longest that a host may run its VMs after a renewal: the
// policy's takeover, or longer when the lease that is held was granted under
// another policy.
func (d *decision) leaseWait(h *fsm.Host) time.Duration {
	held := time.Duration(h.Lease.DurationNS + h.Lease.BoundNS)
	return max(d.p.Takeover, held+held/100+time.Second)
}

// domains are the failure domains of a host.
func domains(h *fsm.Host) []string {
	if rack := h.Label("rack"); rack != "" {
		return []string{"cluster", "rack " + rack}
	}
	return []string{"cluster"}
}

// brakes finds the failure domains in which so many went silent together that
// the observer is suspect (S17).
func (d *decision) brakes() {
	type count struct{ silent, all int }
	counts := map[string]*count{}
	for _, h := range d.s.Hosts() {
		if h.Status == fsm.Removed {
			continue
		}
		quiet := d.lost(h)
		for _, name := range domains(h) {
			if counts[name] == nil {
				counts[name] = &count{}
			}
			counts[name].all++
			if quiet {
				counts[name].silent++
			}
		}
	}
	d.held = map[string]string{}
	for _, name := range slices.Sorted(maps.Keys(counts)) {
		n := counts[name]
		limit := max(d.p.BrakeMin, (n.all*d.p.BrakePercent+99)/100)
		on := n.silent > limit
		was := d.s.Brake(name) != ""
		reason := fmt.Sprintf("%d of %d hosts are silent together, more than %d", n.silent, n.all, limit)
		if on {
			d.held[name] = reason
		} else {
			reason = fmt.Sprintf("%d of %d hosts are silent", n.silent, n.all)
		}
		if on != was {
			d.do(&logpb.Command{Body: &logpb.Command_Brake{Brake: &logpb.Brake{Domain: name, On: on, Reason: reason}}})
		}
	}
	for name := range d.s.Brakes() {
		if counts[name] == nil { // its last host is gone
			d.do(&logpb.Command{Body: &logpb.Command_Brake{Brake: &logpb.Brake{Domain: name, Reason: "no host is left in it"}}})
		}
	}
}

// lost reports whether a host is silent without being proven dead.
func (d *decision) lost(h *fsm.Host) bool {
	switch h.Status {
	case fsm.Up, fsm.Connecting:
		return d.silent(d.contact(h))
	case fsm.Alert:
		c := d.contact(h)
		return c.Heard == 0 || d.silent(c)
	case fsm.Down:
		return h.HA == fsm.HAFencing
	}
	return false
}

// braked reports whether an active fence of the host is held back: nobody has
// seen it dead, and too many are silent with it.
func (d *decision) braked(h *fsm.Host, c Contact) bool {
	for _, e := range h.Evidence {
		if e.Verdict == fsm.Dead {
			return false
		}
	}
	return slices.ContainsFunc(domains(h), func(name string) bool { return d.held[name] != "" })
}
