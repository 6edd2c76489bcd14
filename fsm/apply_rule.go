package fsm

import (
	"fmt"
	"slices"
	"strings"

	"lifeboat/fsm/logpb"
)

// ruleAdd writes a rule, unless it or what it makes of the others can never be kept.
func (t *tx) ruleAdd(c *logpb.RuleAdd) string {
	if no := t.later(LevelPolicy); no != "" {
		return no
	}
	for _, b := range c.GetRule().GetVms() {
		if _, ok := vmID(b); !ok {
			return "a rule names VMs by their UUIDs"
		}
	}
	r := ruleFromLog(c.GetRule())
	r.ID, r.Since, r.By, r.Index = RuleID(t.s.lastRule+1), t.now, t.actor, t.index
	for i, m := range r.Members {
		v, _ := t.s.VM(m.VM)
		switch {
		case v == nil:
			return fmt.Sprintf("there is no VM %s; `lifeboat vm list` shows them", m.VM)
		case i > 0 && r.Members[i-1].VM == m.VM:
			return fmt.Sprintf("VM %s stands in the rule twice", v.Name)
		}
		r.Members[i].Name = v.Name
	}
	if no := t.s.wellFormed(r); no != "" {
		return no
	}
	if t.s.rules.len() >= maxRules {
		return fmt.Sprintf("there are %d rules; remove some with `lifeboat rule remove`", maxRules)
	}
	if no := t.s.infeasible(r); no != "" {
		return no
	}
	t.s.lastRule++
	t.s.rules.set(r.ID, r)
	t.s.book = newRuleBook(t.s.rules.all())
	t.event("RULE.ADD", Info, ruleSubject(r.ID), "%s was written by %s", t.s.Describe(r), t.actor)
	return ""
}

func (t *tx) ruleRemove(c *logpb.RuleRemove) string {
	if no := t.later(LevelPolicy); no != "" {
		return no
	}
	r := t.s.Rule(RuleID(c.Id))
	if r == nil {
		return fmt.Sprintf("there is no rule %d; `lifeboat rule list` shows them", c.Id)
	}
	text := t.s.Describe(r)
	t.s.rules.delete(r.ID)
	t.s.book = newRuleBook(t.s.rules.all())
	t.event("RULE.REMOVE", Info, ruleSubject(r.ID), "%s was removed by %s", text, t.actor)
	return ""
}

func ruleSubject(id RuleID) string { return fmt.Sprintf("rule %d", id) }

// wellFormed says what is wrong with a rule by itself.
func (s *State) wellFormed(r *Rule) string {
	least := 2
	if r.Kind == RuleHosts {
		least = 1
	}
	switch {
	case r.Kind < RuleTogether || r.Kind > RuleHosts:
		return "a rule keeps VMs together, apart, or on certain hosts"
	case len(r.Members) < least:
		return fmt.Sprintf("a rule of this kind (%s) takes at least %d VMs", r.Kind, least)
	case len(r.Members) > maxRuleVMs:
		return fmt.Sprintf("a rule has at most %d VMs", maxRuleVMs)
	case r.Kind != RuleHosts && len(r.Hosts) > 0:
		return fmt.Sprintf("a rule of this kind (%s) names no hosts; write a second one about the hosts", r.Kind)
	case r.Kind == RuleHosts && len(r.Hosts) == 0:
		return "a rule about hosts names at least one"
	case len(r.Hosts) > maxRuleHosts:
		return fmt.Sprintf("a rule names at most %d hosts; give them a label and name that", maxRuleHosts)
	}
	for i, c := range r.Hosts {
		switch {
		case slices.ContainsFunc(r.Hosts[:i], func(x HostChoice) bool { return x.Host == c.Host }):
			return fmt.Sprintf("host %s stands in the rule twice", c.Host)
		case c.Priority < -maxRulePriority || c.Priority > maxRulePriority:
			return fmt.Sprintf("the priority of host %s is out of range", c.Host)
		case s.meant(c):
		case strings.Contains(c.Host, "="):
			return fmt.Sprintf("no host has the label %s; `lifeboat host list -o json` shows the labels", c.Host)
		default:
			return fmt.Sprintf("there is no host %s; `lifeboat host list` shows them", c.Host)
		}
	}
	return ""
}

// meant reports whether a host is there that is meant.
func (s *State) meant(c HostChoice) bool {
	for _, h := range s.Hosts() {
		if h.Status != Removed && c.Matches(h) {
			return true
		}
	}
	return false
}
