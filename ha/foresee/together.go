package foresee

import (
	"slices"

	"lifeboat/fsm"
)

// maxSets is how many sets of hosts are looked at one by one.
const maxSets = 3000

// together finds the sets of k hosts of which it is not proven that they may fail at once.
//
// The proof for a set adds up what its hosts take away from a class: the room on them, and
// what comes from them (drain). So the worst set is made of the worst hosts, and a set
// is safe when one of its hosts is harmless: safe with whichever others. Only sets of
// harmful hosts, and those with a VM that the proof cannot judge, are looked at.
func (p *Prover) together(s *fsm.State, out *Outlook, k int) {
	var live []*view
	for _, v := range p.order {
		if !v.gone {
			live = append(live, v)
		}
	}
	if len(live) < k {
		return // one host at least is left out of every question
	}
	odd, harmful := p.suspects(live, s.Policy.CPUOvercommit != 0, k)
	suspects := slices.Concat(odd, harmful)
	switch n := choose(len(live), k); {
	case len(suspects) == 0:
		return
	case n <= maxSets:
		suspects = live // so that what is left open is exact
	default:
		out.Unlisted = n - choose(len(live)-len(odd), k) + choose(len(harmful), k)
		for choose(len(suspects), k) > maxSets {
			suspects = suspects[:len(suspects)-1]
		}
		out.Unlisted -= choose(len(suspects), k)
	}
	slices.SortFunc(suspects, func(a, b *view) int { return slices.Index(p.order, a) - slices.Index(p.order, b) })
	set := make([]*view, 0, k)
	var pick func(from int)
	pick = func(from int) {
		if len(set) == k {
			if v := p.verdict(s, "", set); !v.Safe() {
				out.Together = append(out.Together, v)
			}
			return
		}
		for i := from; i <= len(suspects)-(k-len(set)); i++ {
			set = append(set, suspects[i])
			pick(i + 1)
			set = set[:len(set)-1]
		}
	}
	pick(0)
	out.settle()
}

// settle leaves out of the sets what one of their hosts leaves down by itself, as far as
// that is known: it is said of the host. Then the sets go of which nothing is left to say.
func (o *Outlook) settle() {
	if len(o.Together) == 0 {
		return
	}
	alone := map[fsm.HostID]*Verdict{}
	for i := range o.All {
		if v := &o.All[i]; v.Domain == "" {
			alone[v.Hosts[0]] = v
		}
	}
	var kept []Verdict // others may be reading the one before
	for _, v := range o.Together {
		var down []Stay // its own: what was played through is remembered whole
		for _, x := range v.Down {
			if own := alone[x.From]; !slices.ContainsFunc(own.Down, func(y Stay) bool { return y.VM == x.VM }) {
				down = append(down, x)
			}
		}
		if v.Down = down; v.Unproven || len(down) > 0 {
			kept = append(kept, v)
		}
	}
	o.Together = kept
}

// CountTogether counts the sets of hosts whose failure at once leaves more down than that
// of each by itself, and those of which that is not known.
func (o *Outlook) CountTogether() (unsafe, unproven int) {
	if o.Stopped != "" {
		return 0, 0
	}
	for i := range o.Together {
		if len(o.Together[i].Down) > 0 {
			unsafe++
		} else {
			unproven++
		}
	}
	return unsafe, unproven + o.Unlisted
}

// suspects are the hosts that may be in a set of k that is not proven: those with VMs that
// only a rehearsal can judge, and others that are harmful.
func (p *Prover) suspects(live []*view, counted bool, k int) (odd, harmful []*view) {
	guilty := map[*view]bool{}
	for _, c := range p.kinds.keys { // in any order: it adds to a set
		runs, apart := false, 0
		drains := make([]int64, len(live))
		var worst []int64 // the k worst, in descending order
		for i, v := range live {
			d := v.drain(c, counted)
			drains[i] = d
			at, _ := slices.BinarySearchFunc(worst, d, func(a, b int64) int { return int(min(max(b-a, -1), 1)) })
			if worst = slices.Insert(worst, at, d); len(worst) > k {
				worst = worst[:k]
			}
			if g := slices.IndexFunc(v.groups, func(g group) bool { return g.c == c }); g >= 0 {
				runs, apart = true, max(apart, v.groups[g].apart)
			}
		}
		if !runs {
			continue
		}
		room := c.slack - int64(apart)*p.widest - need{p.burden, p.cpus}.of(c, counted)
		for i, v := range live {
			if room <= worstWith(drains[i], worst) {
				guilty[v] = true
			}
		}
	}
	for _, v := range live {
		switch {
		case v.odd > 0:
			odd = append(odd, v)
		case guilty[v]:
			harmful = append(harmful, v)
		}
	}
	return odd, harmful
}

// drain is how much less room there is for a class when a host fails: what it had, and
// what comes from it.
func (v *view) drain(c *class, counted bool) int64 {
	all := v.cost(c) + v.memory
	if counted {
		all += c.weight * v.cpus
	}
	return all
}

// worstWith is the most that k hosts can drain, one of which drains so much. worst are the
// k that drain the most, in descending order.
func worstWith(own int64, worst []int64) int64 {
	last := len(worst) - 1
	sum := min(own, worst[last])
	for _, d := range worst[:last] {
		sum += d
	}
	return sum
}

// choose is the number of sets of k among n, or a number that is larger than any limit here.
func choose(n, k int) int {
	if n < k {
		return 0
	}
	all := 1
	for i := range k {
		if all > 1<<40 {
			return all
		}
		all = all * (n - i) / (i + 1)
	}
	return all
}
