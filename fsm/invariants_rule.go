package fsm

import "slices"

// rules: each is well-formed and has a number that was given, and is found by its VMs.
func (c *checker) rules() {
	for id, r := range c.s.Rules() {
		c.must(r.ID == id && id != 0 && uint64(id) <= c.s.lastRule, "rules", "rule %d stands under %d, the last one written is %d", r.ID, id, c.s.lastRule)
		c.must(r.Kind >= RuleTogether && r.Kind <= RuleHosts && len(r.Members) > 0 && (r.Kind == RuleHosts) == (len(r.Hosts) > 0), "rules", "rule %d makes no sense: %+v", id, *r)
		c.past(r.Since, "a rule")
		for i, m := range r.Members {
			c.must(i == 0 || lessVM(r.Members[i-1].VM, m.VM), "rules", "the VMs of rule %d are out of order", id)
			c.must(slices.Contains(c.s.RulesOf(m.VM), r), "rules", "rule %d is not found by its VM %s", id, m.Name)
			b := c.s.Bundle(m.VM)
			c.must(!(r.Kind == RuleTogether && r.Strict) || b != nil && slices.Contains(b.Members, r.Members[0].VM), "rules", "VM %s is in no bundle with the others of rule %d", m.Name, id)
		}
	}
	c.must(c.s.Level >= LevelPolicy || c.s.lastRule == 0, "rules", "there are rules at feature level %d", c.s.Level)
}

// order: nobody waits for himself.
func (c *checker) order(v *VM) {
	if v.Policy == nil || v.Policy.Order == nil {
		return
	}
	if path := c.s.waitsFor(v.ID, v.ID, map[VMID]bool{}); path != nil {
		c.fail("order", "VM %s waits for itself: %v", v.Name, path)
	}
}
