package ha

import (
	"cmp"
	"fmt"
	"slices"
	"strings"

	"lifeboat/fsm"
)

// Repair is a move that would mend a strict rule which is broken as things are.
type Repair struct {
	VM   fsm.VMID
	From fsm.HostID
	To   fsm.HostID // "" = no host will do, for the reason in Why
	Rule fsm.RuleID
	Why  string
}

// Broken says how a rule is not kept by the VMs that run; "" = it is.
func Broken(s *fsm.State, r *fsm.Rule) string {
	var out []string
	for _, x := range breakers(s, r) {
		out = append(out, fmt.Sprintf("%s is on host %s", s.Called(x.member), x.at))
	}
	switch n := len(out); {
	case n == 0:
		return ""
	case r.Kind == fsm.RuleApart:
		return strings.Join(out, ", ") + ", beside another of its VMs"
	case r.Kind == fsm.RuleTogether:
		return strings.Join(out, ", ") + ", and the others are elsewhere"
	}
	return strings.Join(out, ", ")
}

// breaker is a VM that stands where a rule does not want it.
type breaker struct {
	member fsm.RuleVM
	at     fsm.HostID
}

// breakers are the VMs of a rule that would have to move: what cannot be moved stays,
// and then of those that are to be apart the first by name, and of those that are to be
// together the largest part.
func breakers(s *fsm.State, r *fsm.Rule) []breaker {
	members := slices.Clone(r.Members)
	slices.SortFunc(members, func(a, b fsm.RuleVM) int {
		return cmp.Or(-cmp.Compare(rooted(s, a), rooted(s, b)), Natural(s.Called(a), s.Called(b)))
	})
	count := map[fsm.HostID]int{}
	var all []breaker
	for _, m := range members {
		at := s.Where(m.VM)
		if r.Kind == fsm.RuleTogether {
			at = s.Bound(m.VM)
		}
		for _, at := range at {
			all = append(all, breaker{m, at})
			count[at] += 1 + rooted(s, m)*len(members)
		}
	}
	var home fsm.HostID
	for _, x := range all {
		if n := count[x.at]; n > count[home] || n == count[home] && Natural(string(x.at), string(home)) < 0 {
			home = x.at
		}
	}
	seen := map[fsm.HostID]bool{}
	return slices.DeleteFunc(all, func(x breaker) bool {
		switch r.Kind {
		case fsm.RuleTogether:
			return x.at == home
		case fsm.RuleApart:
			first := !seen[x.at]
			seen[x.at] = true
			return first
		}
		_, ok := r.Choice(s.Host(x.at))
		return ok
	})
}

// rooted is 1 for a VM that lifeboat may not move from where it is, else 0.
func rooted(s *fsm.State, m fsm.RuleVM) int {
	if v, owner := s.VM(m.VM); v != nil && s.CannotMove(v, owner, true) != "" {
		return 1
	}
	return 0
}

// Repairs lists the moves that would mend the strict rules which are broken, at most
// one for a VM, in the order of the rules. VMs that have work are left alone.
func Repairs(s *fsm.State) []Repair {
	var out []Repair
	done := map[fsm.VMID]bool{}
	for _, r := range s.Rules() {
		if !r.Strict {
			continue
		}
		for _, x := range breakers(s, r) {
			v, owner := s.VM(x.member.VM)
			if done[v.ID] || v.Work != 0 || v.Power != fsm.PowerOn || !v.Protected() || owner.ID != x.at {
				continue
			}
			p := Repair{VM: v.ID, From: x.at, Rule: r.ID}
			var moves []fsm.VMID
			p.To, moves, p.Why = mend(s, r, v.ID)
			for _, m := range moves {
				done[m] = true
			}
			out = append(out, p)
		}
	}
	return out
}

// mend finds the host to which a VM moves, with its bundle, so that a rule is kept:
// the one that the rule prefers, then the one with the fewest VMs.
func mend(s *fsm.State, r *fsm.Rule, id fsm.VMID) (to fsm.HostID, moves []fsm.VMID, why string) {
	moves = []fsm.VMID{id}
	var no refusals
	best, rank, vms := fsm.HostID(""), int64(0), 0
	for _, h := range hostsByName(s) {
		if slices.Contains(s.Where(id), h) {
			continue
		}
		all, refused := MayMove(s, id, h)
		if refused != "" {
			no.add(refused, h)
			continue
		}
		x, n := value(s, r, s.Host(h)), s.Host(h).Running()
		if best == "" || x > rank || x == rank && n < vms {
			best, rank, vms, moves = h, x, n, all
		}
	}
	if best == "" {
		return "", moves, "no host can take it: " + no.String()
	}
	return best, moves, fmt.Sprintf("%s is broken: %s", s.Describe(r), Broken(s, r))
}

// value is how much a rule likes a host.
func value(s *fsm.State, r *fsm.Rule, h *fsm.Host) int64 {
	switch r.Kind {
	case fsm.RuleHosts:
		p, _ := r.Choice(h)
		return int64(p)
	case fsm.RuleTogether:
		n := int64(0)
		for _, m := range r.Members {
			if slices.Contains(s.Where(m.VM), h.ID) {
				n++
			}
		}
		return n
	}
	n := int64(0)
	for _, m := range r.Members {
		for _, at := range s.Where(m.VM) {
			if near(s.Host(at), h) {
				n--
			}
		}
	}
	return n
}
