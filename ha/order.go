package ha

import (
	"cmp"
	"fmt"
	"slices"
	"strings"

	"lifeboat/fsm"
)

// inOrder orders jobs: higher tiers first, then who has waited longer.
func (d *decision) inOrder(jobs []job) []job {
	for i, tier := range tiers(len(jobs), func(i int) *fsm.VM { return jobs[i].vm }) {
		jobs[i].tier = tier
	}
	slices.SortStableFunc(jobs, func(a, b job) int {
		return cmp.Or(cmp.Compare(b.tier, a.tier), cmp.Compare(a.work.ID, b.work.ID))
	})
	return jobs
}

// tiers are those of VMs that wait to be started. One for which a more important one
// waits is as important as that one.
func tiers(n int, vm func(i int) *fsm.VM) []fsm.Priority {
	out := make([]fsm.Priority, n)
	var at map[fsm.VMID]int // if anybody waits for anybody
	for i := range n {
		out[i] = vm(i).HAPolicy().Priority
		if at == nil && len(vm(i).Order().DependsOn) > 0 {
			at = make(map[fsm.VMID]int, n)
			for k := range n {
				at[vm(k).ID] = k
			}
		}
	}
	var raise func(i int)
	raise = func(i int) {
		for _, id := range vm(i).Order().DependsOn {
			if k, ok := at[id]; ok && out[k] < out[i] {
				out[k] = out[i]
				raise(k)
			}
		}
	}
	if at != nil {
		for i := range n {
			raise(i)
		}
	}
	return out
}

// gate says which VMs a VM still waits for that it depends on; "" when for none. One
// is waited for until it is ready, or for as long as it says itself.
func (d *decision) gate(j job) string {
	var names []string
	for _, id := range j.vm.Order().DependsOn {
		v, owner := d.s.VM(id)
		if v == nil {
			continue // it is gone for good
		}
		o := v.Order()
		ready, at := isReady(d.s, v, owner, o)
		if ready && at <= d.now.Wall {
			continue
		}
		if ready {
			d.wakeAt(at)
		}
		if j.work.Gated != 0 {
			due := j.work.Gated + int64(o.Timeout)
			if d.now.Wall >= due {
				continue
			}
			d.wakeAt(due)
		}
		names = append(names, v.Name)
	}
	if len(names) == 0 {
		return ""
	}
	return "it depends on " + strings.Join(names, ", ") + ", and waits until that is ready"
}

// isReady reports whether a VM is, or from when on it will be (unix ns), as ready as
// those that depend on it want it. What is not known to run does not.
func isReady(s *fsm.State, v *fsm.VM, owner *fsm.Host, o fsm.StartOrder) (ready bool, at int64) {
	known := owner.Status == fsm.Up || owner.Status == fsm.Disconnected || owner.HA == fsm.HADegraded
	w := s.Work(v.Work)
	switch {
	case o.Gate == fsm.GateOrder && w != nil && w.Step == fsm.Restarting:
		return true, 0
	case v.Power != fsm.PowerOn || v.Gone || !known:
		return false, 0
	case o.Gate == fsm.GateAgent:
		return v.Answers, 0
	case o.Gate == fsm.GateAfter:
		return true, v.Since + int64(o.After)
	}
	return true, 0
}

// waitForOthers commits whom a VM waits for, when that is news.
func (d *decision) waitForOthers(j job, why string) {
	if j.work.Reason != why || j.work.Gated == 0 {
		d.update(j.work, fsm.WorkGated, why, 0)
	}
}

// Dependencies are what a VM waits for before it starts, a sentence for each.
func Dependencies(s *fsm.State, v *fsm.VM) []string {
	var out []string
	for _, id := range v.Order().DependsOn {
		dep, owner := s.VM(id)
		if dep == nil {
			out = append(out, fmt.Sprintf("It depends on a VM that is not there any more (%s), and does not wait for it.", id))
			continue
		}
		o := dep.Order()
		state := "not ready"
		switch ready, at := isReady(s, dep, owner, o); {
		case ready && at <= s.Time:
			state = "ready"
		case ready:
			state = "almost ready"
		}
		out = append(out, fmt.Sprintf("It starts after %s, which is %s (%s on host %s; its gate is %s, and it is waited for %s at most).", dep.Name, state, dep.Power, owner.ID, o.GateText(), o.Timeout))
	}
	return out
}
