package fsm

import (
	"bytes"
	"fmt"
	"iter"
	"slices"
	"sort"
	"strings"

	"lifeboat/fsm/logpb"
)

// RuleID numbers the rules from 1; a number is never given twice.
type RuleID uint64

// RuleKind is what a rule of placement asks for. The numbers are those of the log.
type RuleKind uint8

const (
	RuleTogether RuleKind = iota + 1 // its VMs run on one host
	RuleApart                        // no two of its VMs run on one host
	RuleHosts                        // its VMs run on certain hosts
)

func (k RuleKind) String() string { return name(int(k), "", "together", "apart", "hosts") }

// RuleVM is a VM of a rule. It is meant by its UUID; one that the state does not
// know counts for nothing until it is there again.
type RuleVM struct {
	VM   VMID
	Name string // as it was called when the rule was written
}

// HostChoice is a host of a rule by its id, or all hosts with a label: "rack=a".
type HostChoice struct {
	Host     string
	Priority int32 // higher first
}

// Matches reports whether a host is meant.
func (c HostChoice) Matches(h *Host) bool {
	if key, value, label := strings.Cut(c.Host, "="); label {
		return slices.Contains(h.Labels, Label{key, value})
	}
	return c.Host == string(h.ID)
}

// Rule says where VMs run in relation to each other or to hosts. A strict one is
// never broken by what lifeboat does; another one is a preference.
type Rule struct {
	ID      RuleID
	Kind    RuleKind
	Strict  bool
	Members []RuleVM // by id
	Hosts   []HostChoice
	Since   int64 // unix ns
	By      string
	Index   uint64
}

// Bounds of what rules may say.
const (
	maxRules        = 5000
	maxRuleVMs      = 256
	maxRuleHosts    = 256
	maxRulePriority = 1 << 20
)

// Has reports whether a VM is a member.
func (r *Rule) Has(id VMID) bool {
	_, ok := sort.Find(len(r.Members), func(i int) int { return bytes.Compare(id[:], r.Members[i].VM[:]) })
	return ok
}

// Choice is the priority that a rule about hosts gives to one; ok is false when the
// host is none of its own.
func (r *Rule) Choice(h *Host) (priority int32, ok bool) {
	for _, c := range r.Hosts {
		if c.Matches(h) && (!ok || c.Priority > priority) {
			priority, ok = c.Priority, true
		}
	}
	return priority, ok
}

// Called is the name of a member: that of today, or of when the rule was written.
func (s *State) Called(m RuleVM) string {
	if v, _ := s.VM(m.VM); v != nil {
		return v.Name
	}
	return m.Name
}

// maxTold members of a rule are named in a sentence.
const maxTold = 6

// Describe is a rule in a few words: "rule 3 (apart, strict: a, b)".
func (s *State) Describe(r *Rule) string {
	var names []string
	for _, m := range r.Members {
		names = append(names, s.Called(m))
	}
	strict := "strict"
	if !r.Strict {
		strict = "soft"
	}
	text := fmt.Sprintf("rule %d (%s, %s: %s", r.ID, r.Kind, strict, strings.Join(shortened(names), ", "))
	if r.Kind == RuleHosts {
		text += " on " + r.HostsText()
	}
	return text + ")"
}

// HostsText writes "n1:2, rack=a"; a priority of 0 is left out.
func (r *Rule) HostsText() string {
	var out []string
	for _, c := range r.Hosts {
		text := c.Host
		if c.Priority != 0 {
			text += fmt.Sprintf(":%d", c.Priority)
		}
		out = append(out, text)
	}
	return strings.Join(shortened(out), ", ")
}

// shortened leaves of many names the first ones, and says how many more there are.
func shortened(names []string) []string {
	n := len(names)
	if n <= maxTold+1 {
		return names
	}
	return append(names[:maxTold:maxTold], fmt.Sprintf("%d more", n-maxTold))
}

// Rules walks the rules by number.
func (s *State) Rules() iter.Seq2[RuleID, *Rule] { return s.rules.all() }

// Rule returns a rule, nil when there is none of that number.
func (s *State) Rule(id RuleID) *Rule { r, _ := s.rules.get(id); return r }

// CountRules is the number of rules.
func (s *State) CountRules() int { return s.rules.len() }

// RulesOf are the rules that a VM is a member of, by number.
func (s *State) RulesOf(id VMID) []*Rule {
	if s.book == nil {
		return nil
	}
	return s.book.of[id]
}

// Bundle are the VMs that strict rules keep on one host, and the rules that do.
// Rules that share a VM are one bundle.
type Bundle struct {
	Members []VMID // by id; some may be unknown
	Rules   []*Rule
}

// Bundle is the one that a VM belongs to, nil when it may be on its own.
func (s *State) Bundle(id VMID) *Bundle {
	if s.book == nil {
		return nil
	}
	return s.book.bundles[id]
}

// ruleBook finds rules by VM. It follows from the rules and is replaced, never
// changed.
type ruleBook struct {
	of      map[VMID][]*Rule
	bundles map[VMID]*Bundle
}

// newRuleBook reads the rules; nil when there are none.
func newRuleBook(rules iter.Seq2[RuleID, *Rule]) *ruleBook {
	b := &ruleBook{of: map[VMID][]*Rule{}, bundles: map[VMID]*Bundle{}}
	for _, r := range rules {
		for _, m := range r.Members {
			b.of[m.VM] = append(b.of[m.VM], r)
		}
		if r.Kind == RuleTogether && r.Strict {
			b.join(r)
		}
	}
	if len(b.of) == 0 {
		return nil
	}
	return b
}

// join adds a strict rule about VMs that are together: it merges their bundles.
func (b *ruleBook) join(r *Rule) {
	all := &Bundle{}
	var old []*Bundle
	for _, m := range r.Members {
		switch x := b.bundles[m.VM]; {
		case x == nil:
			all.Members = append(all.Members, m.VM)
		case !slices.Contains(old, x):
			old = append(old, x)
			all.Members = append(all.Members, x.Members...)
			all.Rules = append(all.Rules, x.Rules...)
		}
	}
	all.Rules = append(all.Rules, r)
	slices.SortFunc(all.Rules, func(a, b *Rule) int { return int(a.ID) - int(b.ID) })
	slices.SortFunc(all.Members, func(a, b VMID) int { return bytes.Compare(a[:], b[:]) })
	for _, id := range all.Members {
		b.bundles[id] = all
	}
}

// Where are the hosts on which a VM runs, starts, or may run, more than one while it
// moves. One that is off and waits for a host is nowhere.
func (s *State) Where(id VMID) []HostID {
	v, owner := s.VM(id)
	if v == nil || !v.Occupies() {
		return nil
	}
	if w := s.Work(v.Work); v.Power == PowerOff && w != nil && w.Step == Scheduled {
		return nil
	}
	if to := s.movesTo(v, owner); to != "" {
		return []HostID{owner.ID, to}
	}
	return []HostID{owner.ID}
}

// movesTo is where a VM that runs is being moved to; "" = it stays.
func (s *State) movesTo(v *VM, owner *Host) HostID {
	w := s.Work(v.Work)
	if w == nil || !w.Type.Moves() || w.Step == Scheduled || w.Target == owner.ID {
		return ""
	}
	return w.Target
}

// Bound are the hosts on which a VM will be: where it is, or is being moved to. What is
// to be together is judged by it, and what is to be apart by Where.
func (s *State) Bound(id VMID) []HostID {
	at := s.Where(id)
	return at[max(len(at)-1, 0):]
}

// RuleAgainst says which strict rule a VM would break on a host as things are, and
// how; "" when none. It knows nothing of VMs that are about to be placed.
func (s *State) RuleAgainst(id VMID, h *Host) string {
	for _, r := range s.RulesOf(id) {
		if r.Strict {
			if no := s.breaks(r, id, h); no != "" {
				return no
			}
		}
	}
	b := s.Bundle(id)
	if b == nil {
		return ""
	}
	elsewhere, there := "", false
	for _, m := range b.Members {
		if m == id {
			continue
		}
		for _, at := range s.Bound(m) {
			if at == h.ID {
				there = true
			} else if elsewhere == "" {
				elsewhere = fmt.Sprintf("%s keeps it with %s on host %s", s.because(b, id), s.nameOf(m), at)
			}
		}
	}
	if there {
		return ""
	}
	return elsewhere
}

// breaks is RuleAgainst for a rule that is not about VMs together.
func (s *State) breaks(r *Rule, id VMID, h *Host) string {
	return s.Forbids(r, h, func(m VMID) bool { return m != id && slices.Contains(s.Where(m), h.ID) })
}

// Forbids says why a rule that is not about VMs together will not have its VMs on a
// host; "" = it will. there reports whether a VM stands in the way on that host: where
// it is now, or where it will be, and whether it goes along is the caller's business.
func (s *State) Forbids(r *Rule, h *Host, there func(VMID) bool) string {
	switch r.Kind {
	case RuleHosts:
		if _, ok := r.Choice(h); !ok {
			return fmt.Sprintf("rule %d keeps it on %s", r.ID, r.HostsText())
		}
	case RuleApart:
		for _, m := range r.Members {
			if there(m.VM) {
				return fmt.Sprintf("rule %d keeps it apart from %s", r.ID, s.Called(m))
			}
		}
	}
	return ""
}

// because names the rules of a bundle, a VM's own first.
func (s *State) because(b *Bundle, id VMID) string {
	for _, r := range b.Rules {
		if r.Has(id) {
			return fmt.Sprintf("rule %d", r.ID)
		}
	}
	return "a rule"
}

func (s *State) nameOf(id VMID) string {
	if v, _ := s.VM(id); v != nil {
		return v.Name
	}
	return id.String()
}

func ruleRecord(r *Rule) *logpb.Record {
	p := &logpb.Rule{Id: uint64(r.ID), Kind: uint32(r.Kind), Strict: r.Strict, SinceUnixNs: r.Since, By: r.By, Index: r.Index}
	for _, m := range r.Members {
		p.Vms = append(p.Vms, m.VM[:])
		p.Names = append(p.Names, m.Name)
	}
	for _, c := range r.Hosts {
		p.Hosts = append(p.Hosts, &logpb.HostChoice{Host: c.Host, Priority: c.Priority})
	}
	return &logpb.Record{Body: &logpb.Record_Rule{Rule: &logpb.RuleRecord{Rule: p}}}
}

func ruleFromLog(p *logpb.Rule) *Rule {
	r := &Rule{ID: RuleID(p.GetId()), Kind: RuleKind(p.GetKind()), Strict: p.GetStrict(), Since: p.GetSinceUnixNs(), By: p.GetBy(), Index: p.GetIndex()}
	for i, b := range p.GetVms() {
		id, _ := vmID(b)
		m := RuleVM{VM: id}
		if i < len(p.Names) {
			m.Name = p.Names[i]
		}
		r.Members = append(r.Members, m)
	}
	slices.SortFunc(r.Members, func(a, b RuleVM) int { return bytes.Compare(a.VM[:], b.VM[:]) })
	for _, c := range p.GetHosts() {
		r.Hosts = append(r.Hosts, HostChoice{c.Host, c.Priority})
	}
	return r
}

// loadRule adds a rule of a snapshot.
func (s *State) loadRule(p *logpb.RuleRecord) error {
	r := ruleFromLog(p.GetRule())
	switch {
	case r.ID == 0 || uint64(r.ID) > s.lastRule:
		return fmt.Errorf("rule %d was never written", r.ID)
	case s.Rule(r.ID) != nil:
		return fmt.Errorf("rule %d is there twice", r.ID)
	}
	s.rules.set(r.ID, r)
	return nil
}
