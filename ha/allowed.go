package ha

import (
	"fmt"
	"slices"
	"strings"

	"lifeboat/fsm"
)

// MayRun says why a VM may not start on a host as things are: because of what it
// needs, of the room there, or of a strict rule; "" = it may. It does not ask whether
// the VM is proven gone where it was, nor how fresh the word of the host is.
func MayRun(s *fsm.State, id fsm.VMID, to fsm.HostID) string {
	h, no := takes(s, to)
	if no != "" {
		return no
	}
	if no := fits(s, []fsm.VMID{id}, h); no != "" {
		return no
	}
	return s.RuleAgainst(id, h)
}

// MayMove says why a VM may not move to a host as things are; "" = it may. A member
// of a strict bundle moves with all of it that runs elsewhere: those are the VMs that
// move, the one that was asked for first.
func MayMove(s *fsm.State, id fsm.VMID, to fsm.HostID) (moves []fsm.VMID, refused string) {
	moves = companions(s, id, to)
	h, no := takes(s, to)
	if no != "" {
		return moves, no
	}
	if no := fits(s, moves, h); no != "" {
		return moves, no
	}
	for _, m := range moves {
		// Judged by where the others are now and where they go: nothing breaks on the way.
		for _, r := range s.RulesOf(m) {
			if !r.Strict {
				continue
			}
			if no := s.Forbids(r, h, func(x fsm.VMID) bool { return !slices.Contains(moves, x) && slices.Contains(s.Where(x), to) }); no != "" {
				return moves, no
			}
		}
	}
	return moves, ""
}

// companions are the VMs that move to a host when one of them does: itself first, then
// those of its strict bundle that run elsewhere.
func companions(s *fsm.State, id fsm.VMID, to fsm.HostID) []fsm.VMID {
	moves := []fsm.VMID{id}
	if b := s.Bundle(id); b != nil {
		for _, m := range b.Members {
			if at := s.Bound(m); m != id && len(at) > 0 && !slices.Contains(at, to) {
				moves = append(moves, m)
			}
		}
	}
	return moves
}

// takes says why a host takes no VM that is not its own.
func takes(s *fsm.State, id fsm.HostID) (h *fsm.Host, no string) {
	h = s.Host(id)
	if h == nil || h.Status == fsm.Removed {
		return nil, fmt.Sprintf("there is no host %s", id)
	}
	d := &decision{s: s, p: s.Policy}
	switch {
	case h.Status != fsm.Up:
		return h, "it is " + h.Status.String()
	case h.Resource != fsm.Enabled:
		return h, "it is " + h.Resource.String()
	case h.Inventory == nil:
		return h, "what it has is not known"
	}
	return h, d.takesNoOther(h)
}

// fits says what a host lacks for VMs of which none runs there yet.
func fits(s *fsm.State, vms []fsm.VMID, h *fsm.Host) string {
	at := loadOf(h)
	r := &room{h: h}
	r.fill(s.Policy, &at)
	var memory uint64
	var cpus uint32
	for _, id := range vms {
		v, owner := s.VM(id)
		if v == nil {
			return "there is no such VM"
		}
		if owner.ID == h.ID {
			if v.Power == fsm.PowerOn {
				return fmt.Sprintf("%s runs there", v.Name)
			}
			if no := broken(h.Inventory, specDisks(v)); no != "" {
				return no
			}
			if v.Occupies() {
				continue // its room is counted
			}
		}
		switch {
		case v.Spec == nil:
			return "its definition has never been read"
		case owner.ID == h.ID:
		case len(v.Spec.Local) > 0:
			return "the VM is bound to its host: " + strings.Join(v.Spec.Local, ", ")
		default:
			if no := lacks(h.Inventory, v.Spec.Shape, v.Spec.Disks()); no != "" {
				return no
			}
		}
		memory += v.Spec.MemoryBytes
		cpus += v.Spec.CPUs
	}
	return r.fits(memory, cpus)
}

func specDisks(v *fsm.VM) []fsm.Disk {
	if v.Spec == nil {
		return nil
	}
	return v.Spec.Disks()
}

// ruleLines are the rules of a VM, and whether they are kept.
func ruleLines(s *fsm.State, v *fsm.VM) []string {
	var out []string
	for _, r := range s.RulesOf(v.ID) {
		text := strings.ToUpper(s.Describe(r)[:1]) + s.Describe(r)[1:]
		switch why := Broken(s, r); {
		case why == "":
			text += " is kept."
		case r.Strict:
			text += " is broken: " + why + "."
		default:
			text += " is not fulfilled: " + why + "."
		}
		out = append(out, text)
	}
	return out
}

// targets says on which other hosts a VM could start now, and why not on others.
func targets(s *fsm.State, v *fsm.VM) string {
	if !v.Protected() || v.Spec == nil {
		return ""
	}
	_, owner := s.VM(v.ID)
	var can []string
	var no refusals
	for _, id := range hostsByName(s) {
		if id == owner.ID {
			continue
		}
		why := MayRun(s, v.ID, id)
		if v.Power == fsm.PowerOn { // by itself; what moves with it is another question
			_, why = MayMove(s, v.ID, id)
		}
		if why == "" {
			can = append(can, string(id))
		} else {
			no.add(why, id)
		}
	}
	if n := len(can); n > maxTargets {
		can = append(can[:maxTargets], fmt.Sprintf("%d more", n-maxTargets))
	}
	text := "No other host could take it now."
	if len(can) > 0 {
		text = "Other hosts that could take it now: " + strings.Join(can, ", ") + "."
	}
	if len(no) > 0 {
		text += " Not: " + no.String() + "."
	}
	return text
}

// maxTargets hosts are named that could take a VM.
const maxTargets = 10

// hostsByName are the hosts in natural order of their names.
func hostsByName(s *fsm.State) []fsm.HostID {
	var out []fsm.HostID
	for id, h := range s.Hosts() {
		if h.Status != fsm.Removed {
			out = append(out, id)
		}
	}
	slices.SortFunc(out, func(a, b fsm.HostID) int { return Natural(string(a), string(b)) })
	return out
}
