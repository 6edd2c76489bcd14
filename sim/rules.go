package sim

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"lifeboat/fsm"
	"lifeboat/fsm/logpb"
	"lifeboat/ha"
	"lifeboat/sim/scenario"
)

// ruleCommand is what an operator writes.
func (w *World) ruleCommand(r *scenario.Rule) *logpb.Command {
	kinds := map[string]fsm.RuleKind{"together": fsm.RuleTogether, "apart": fsm.RuleApart, "hosts": fsm.RuleHosts}
	p := &logpb.Rule{Kind: uint32(kinds[r.Kind]), Strict: !r.Soft}
	for _, name := range r.VMs {
		p.Vms = append(p.Vms, w.byVM[name].id[:])
	}
	for _, h := range r.Hosts {
		p.Hosts = append(p.Hosts, &logpb.HostChoice{Host: h.Host, Priority: int32(h.Priority)})
	}
	return &logpb.Command{Body: &logpb.Command_RuleAdd{RuleAdd: &logpb.RuleAdd{Rule: p}}}
}

// writeRules writes the rules of the file, one after the other, so that they have
// their numbers; what VMs wait for comes first.
func (w *World) writeRules() {
	w.toWrite = 0
	for _, g := range w.vms {
		if set := orderOf(w, g); len(set) > 0 {
			w.toWrite++
			w.operate("settings of "+g.name, vmSet(g, set...), func(err error) {
				if w.toWrite--; err != nil {
					w.violate("set-up", []string{g.name}, "the settings of VM %s are refused: %v", g.name, err)
				}
			})
		}
	}
	var next func(i int)
	next = func(i int) {
		if i == len(w.file.Rules) {
			return
		}
		r := &w.file.Rules[i]
		w.operate("rule add "+r.String(), w.ruleCommand(r), func(err error) {
			if w.toWrite--; err != nil {
				w.violate("set-up", nil, "line %d: the rule %s is refused: %v", r.Line, r, err)
				return
			}
			next(i + 1)
		})
	}
	w.toWrite += len(w.file.Rules)
	next(0)
}

// orderOf is what a VM's spec says about the order of starts, and about its guest.
func orderOf(w *World, g *guest) (set []*logpb.Setting) {
	add := func(key, value string) { set = append(set, &logpb.Setting{Key: key, Value: value}) }
	if len(g.spec.DependsOn) > 0 {
		add("depends_on", w.uuids(g.spec.DependsOn))
	}
	if g.spec.Gate != "" {
		add("gate", g.spec.Gate)
	}
	if g.spec.GateTimeout != 0 {
		add("gate_timeout", g.spec.GateTimeout.String())
	}
	if g.spec.GuestHealth != "" {
		add("guest_health", g.spec.GuestHealth)
	}
	if g.spec.GuestTimeout != 0 {
		add("guest_timeout", g.spec.GuestTimeout.String())
	}
	if g.spec.GuestGrace != 0 {
		add("guest_grace", g.spec.GuestGrace.String())
	}
	return set
}

func (w *World) uuids(names []string) string {
	var ids []string
	for _, name := range names {
		ids = append(ids, w.byVM[name].id.String())
	}
	return strings.Join(ids, ",")
}

func vmSet(g *guest, set ...*logpb.Setting) *logpb.Command {
	return &logpb.Command{Body: &logpb.Command_VmSet{VmSet: &logpb.VMSet{Vm: g.id[:], Settings: set}}}
}

func (x *step) ruleAdd() { x.operate(x.text, x.ruleCommand(x.rule), nil) }

func (x *step) ruleRemove() {
	x.operate(x.text, &logpb.Command{Body: &logpb.Command_RuleRemove{RuleRemove: &logpb.RuleRemove{Id: uint64(number(x.words[0]))}}}, nil)
}

// setOrder is `vm V set` of what the order of starts follows.
func (x *step) setOrder(key, value string) {
	if key == "depends_on" {
		names := strings.FieldsFunc(value, func(r rune) bool { return r == ',' })
		if value == "none" {
			names = nil
		}
		x.g.spec.DependsOn = names
		value = x.uuids(names)
	}
	x.operate(x.text, vmSet(x.g, &logpb.Setting{Key: key, Value: value}), nil)
}

// Rule 4: no strict rule is broken by a start or a move. What people do behind lifeboat's
// back breaks rules without its fault, and a layout that breaks one from the beginning is
// none of its orders'.

// startKeepsRules is rule 4 when a start is ordered: the VMs together are judged by where
// the others are, those apart by where they live or may.
func (w *World) startKeepsRules(vm string) {
	g := w.byVM[vm]
	s := w.truth.State()
	if g == nil {
		return
	}
	v, owner := s.VM(fsm.VMID(g.id))
	if v == nil || owner == nil {
		return
	}
	w.allowed(s, v, owner, "start")
	b := s.Bundle(v.ID)
	if b == nil {
		return
	}
	there, elsewhere := false, ""
	for _, m := range b.Members {
		if m == v.ID {
			continue
		}
		for _, at := range s.Where(m) {
			if at == owner.ID {
				there = true
			} else {
				elsewhere = fmt.Sprintf("%s is on %s", m, at)
			}
		}
	}
	if !there && elsewhere != "" {
		w.violate("4 (strict rules)", []string{vm, string(owner.ID)}, "a start of %s is ordered on %s although it belongs with others: %s", vm, owner.ID, elsewhere)
	}
}

// partyGrace is how long the entries of a party that moves may be apart.
const partyGrace = time.Second

// moveKeepsRules is rule 4 when a move is ordered: its target is judged as that of a
// start, but for the VMs together: they are judged when all of them may have been ordered.
func (w *World) moveKeepsRules(vm string) {
	g := w.byVM[vm]
	s := w.truth.State()
	if g == nil {
		return
	}
	v, _ := s.VM(fsm.VMID(g.id))
	if v == nil {
		return
	}
	x := s.Work(v.Work)
	if x == nil || !x.Type.Moves() {
		return
	}
	w.allowed(s, v, s.Host(x.Target), "move")
	if s.Bundle(v.ID) != nil {
		term := w.term()
		w.after(partyGrace, func() {
			if w.term() == term { // the entries of a leader that is gone may be lost
				w.movesTogether(v.ID, x)
			}
		})
	}
}

// movesTogether is rule 4 for a VM that began to move: those that a strict rule keeps
// with it are where it goes, or go there, unless they cannot be moved any more, or the
// rule came in between.
func (w *World) movesTogether(id fsm.VMID, ordered *fsm.Work) {
	s := w.truth.State()
	v, _ := s.VM(id)
	b := s.Bundle(id)
	if v == nil || v.Work != ordered.ID || b == nil {
		return
	}
	if slices.ContainsFunc(b.Rules, func(r *fsm.Rule) bool { return r.Since > ordered.Created-int64(partyGrace) }) {
		return
	}
	for _, m := range b.Members {
		other, at := s.VM(m)
		if other == nil || w.book.byHand[other.Name] || slices.Contains(s.Bound(m), ordered.Target) {
			continue
		}
		if s.CannotMove(other, at, ordered.Type == fsm.WorkMigration) == "" {
			w.violate("4 (strict rules)", []string{v.Name, other.Name, string(ordered.Target)}, "%s moves to %s, and %s, which belongs with it, stays on %s", v.Name, ordered.Target, other.Name, at.ID)
		}
	}
}

// term is the number of the newest term of a leader.
func (w *World) term() (n uint64) {
	for _, m := range w.managers {
		if m.term != nil {
			n = max(n, m.term.number)
		}
	}
	return n
}

// allowed is rule 4 for a VM that is to be on a host, but for the VMs together.
func (w *World) allowed(s *fsm.State, v *fsm.VM, to *fsm.Host, what string) {
	for _, r := range s.RulesOf(v.ID) {
		if !r.Strict {
			continue
		}
		switch r.Kind {
		case fsm.RuleHosts:
			if _, ok := r.Choice(to); !ok {
				w.violate("4 (strict rules)", []string{v.Name, string(to.ID)}, "a %s of %s is ordered on %s against %s", what, v.Name, to.ID, s.Describe(r))
			}
		case fsm.RuleApart:
			for _, m := range r.Members {
				if m.VM != v.ID && slices.Contains(w.whereabout(s, m.VM), string(to.ID)) {
					w.violate("4 (strict rules)", []string{v.Name, s.Called(m), string(to.ID)}, "a %s of %s is ordered on %s, where %s is, against %s", what, v.Name, to.ID, s.Called(m), s.Describe(r))
				}
			}
		}
	}
}

// whereabout are the hosts on which a VM is, for lifeboat or in truth.
func (w *World) whereabout(s *fsm.State, id fsm.VMID) []string {
	var out []string
	for _, h := range s.Where(id) {
		out = append(out, string(h))
	}
	for _, g := range w.vms {
		if fsm.VMID(g.id) != id {
			continue
		}
		for _, d := range w.copies(g) {
			if !d.byHand {
				out = append(out, d.h.name)
			}
		}
	}
	return out
}

// rulesHold is rule 4 at the end: what is strict and was kept is kept still, unless
// somebody moved or started a VM of it behind lifeboat's back, or nothing can be moved
// that would mend it: a VM lifeboat may not touch stays where it is.
func (w *World) rulesHold(s *fsm.State) {
	for id, r := range s.Rules() {
		if !r.Strict || !w.book.kept[id] || slices.ContainsFunc(r.Members, func(m fsm.RuleVM) bool { return w.book.byHand[s.Called(m)] }) {
			continue
		}
		if why := ha.Broken(s, r); why != "" && mendable(s, id) {
			w.violate("4 (strict rules)", nil, "%s was kept and is broken: %s", s.Describe(r), why)
		}
	}
}

// mendable: a move would mend a rule that is broken, and lifeboat may make it as things
// are: a VM that may not be migrated live is relocated by its operator only.
func mendable(s *fsm.State, id fsm.RuleID) bool {
	return slices.ContainsFunc(ha.Repairs(s), func(x ha.Repair) bool {
		v, owner := s.VM(x.VM)
		return x.Rule == id && x.To != "" && s.CannotMove(v, owner, true) == ""
	})
}

// noteRules remembers which rules have been kept.
func (w *World) noteRules(s *fsm.State) {
	for id, r := range s.Rules() {
		if r.Strict && !w.book.kept[id] && ha.Broken(s, r) == "" {
			w.book.kept[id] = true
		}
	}
}

// startsWith are the VM, and those of its bundle that are to start where it does.
func (w *World) startsWith(s *fsm.State, v *fsm.VM) []*fsm.VM {
	out := []*fsm.VM{v}
	b := s.Bundle(v.ID)
	if b == nil {
		return out
	}
	for _, m := range b.Members {
		x, _ := s.VM(m)
		switch {
		case m == v.ID || x == nil:
		case len(s.Where(m)) > 0:
			return []*fsm.VM{v} // it goes to where that is
		case x.Protected() && x.Wanted && x.Error == "":
			out = append(out, x)
		}
	}
	return out
}

// gated: it waits for a VM that it depends on, and the time for that is not over.
func (w *World) gated(s *fsm.State, v *fsm.VM) string {
	x := s.Work(v.Work)
	if x == nil || x.Gated == 0 {
		return ""
	}
	for _, id := range v.Order().DependsOn {
		if dep, _ := s.VM(id); dep != nil && s.Time < x.Gated+int64(dep.Order().Timeout) && (dep.Power != fsm.PowerOn || dep.Order().Gate == fsm.GateAfter || dep.Order().Gate == fsm.GateAgent) {
			return "it waits for " + dep.Name
		}
	}
	return ""
}
