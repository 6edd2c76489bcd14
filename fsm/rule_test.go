package fsm

import (
	"bytes"
	"strings"
	"testing"

	"lifeboat/fsm/logpb"
)

// policyFleet is a cluster of the level that has rules: hosts h1 to hN, and VMs on h1.
func policyFleet(t *testing.T, hosts, vms int) *lab {
	l := fleet(t, hosts, vms)
	l.ok(&logpb.FeatureRaise{Level: LevelPolicy, Version: "0.4"})
	return l
}

func ruleOf(kind RuleKind, strict bool, vms ...int) *logpb.RuleAdd {
	r := &logpb.Rule{Kind: uint32(kind), Strict: strict}
	for _, n := range vms {
		r.Vms = append(r.Vms, idBytes(n))
	}
	return &logpb.RuleAdd{Rule: r}
}

// onHosts names the hosts of a rule, the first with the highest priority.
func onHosts(c *logpb.RuleAdd, hosts ...string) *logpb.RuleAdd {
	for i, h := range hosts {
		c.Rule.Hosts = append(c.Rule.Hosts, &logpb.HostChoice{Host: h, Priority: int32(len(hosts) - i)})
	}
	return c
}

func together(vms ...int) *logpb.RuleAdd { return ruleOf(RuleTogether, true, vms...) }
func apart(vms ...int) *logpb.RuleAdd    { return ruleOf(RuleApart, true, vms...) }
func bound(hosts string, vms ...int) *logpb.RuleAdd {
	return onHosts(ruleOf(RuleHosts, true, vms...), strings.Fields(hosts)...)
}

// A rule that can never be kept is refused when it is written, with the reason.
func TestRulesThatCannotBeKept(t *testing.T) {
	for name, c := range map[string]struct {
		before []*logpb.RuleAdd
		rule   *logpb.RuleAdd
		want   string // "" = it is accepted
	}{
		"one VM with itself":                  {nil, together(1), "takes at least 2"},
		"a VM twice":                          {nil, apart(1, 1), "stands in the rule twice"},
		"no such VM":                          {nil, apart(1, 99), "there is no VM"},
		"no such host":                        {nil, bound("h9", 1), "there is no host h9"},
		"no such label":                       {nil, bound("rack=z", 1), "no host has the label rack=z"},
		"a host twice":                        {nil, bound("h1 h1", 1), "stands in the rule twice"},
		"hosts in a rule about VMs":           {nil, onHosts(apart(1, 2), "h1"), "names no hosts"},
		"no hosts in a rule about hosts":      {nil, ruleOf(RuleHosts, true, 1), "names at least one"},
		"no kind":                             {nil, ruleOf(9, true, 1, 2), "a rule keeps VMs together"},
		"apart what is together":              {[]*logpb.RuleAdd{together(1, 2)}, apart(1, 2), "the new rule would keep vm1 and vm2 apart, and rule 1 together"},
		"together what is apart":              {[]*logpb.RuleAdd{apart(1, 2)}, together(1, 2), "rule 1 would keep vm1 and vm2 apart, and the new rule together"},
		"apart what two rules keep together":  {[]*logpb.RuleAdd{together(1, 2), together(2, 3)}, apart(3, 1), "rule 1 and rule 2 together"},
		"a merge of what is apart":            {[]*logpb.RuleAdd{together(1, 2), together(3, 4), apart(1, 4)}, together(2, 3), "rule 3 would keep vm1 and vm4 apart"},
		"the same, softly":                    {[]*logpb.RuleAdd{together(1, 2)}, ruleOf(RuleApart, false, 1, 2), ""},
		"hosts without a common one":          {[]*logpb.RuleAdd{bound("h1", 1)}, bound("h2 h3", 1), "rule 1 and the new rule about its hosts have none in common"},
		"the same through a bundle":           {[]*logpb.RuleAdd{bound("h1", 1), bound("h2", 2)}, together(1, 2), "the bundle of vm1, vm2"},
		"a common one is left":                {[]*logpb.RuleAdd{bound("h1 h2", 1), bound("h2 h3", 2)}, together(1, 2), ""},
		"more apart than hosts":               {nil, apart(1, 2, 3, 4), "4 VMs apart, and there are 3 hosts"},
		"as many as hosts":                    {nil, apart(1, 2, 3), ""},
		"more apart than hosts of theirs":     {[]*logpb.RuleAdd{bound("h1 h2", 1, 2, 3)}, apart(1, 2, 3), "more than their hosts"},
		"their hosts, after the fact":         {[]*logpb.RuleAdd{apart(1, 2, 3)}, bound("h1 h2", 1, 2, 3), "more than their hosts"},
		"one makes room for another":          {[]*logpb.RuleAdd{bound("h1 h2", 1), bound("h1", 2)}, apart(1, 2), ""},
		"bundles count once":                  {[]*logpb.RuleAdd{together(1, 2)}, apart(1, 3, 4), ""},
		"a bundle that is too large":          {nil, together(5, 6), "no host that it may run on is that large"},
		"a VM bound to its host goes with it": {nil, together(7, 1), ""},
		"a VM bound to its host goes nowhere": {nil, bound("h2", 7), "it is bound by what it has there only"},
		"four in pairs on three hosts":        {[]*logpb.RuleAdd{apart(1, 2, 3), apart(1, 4), apart(2, 4)}, apart(3, 4), "rule 1, rule 2, rule 3 and the new rule cannot be kept at once: VM vm1, VM vm2, VM vm3 and VM vm4 have 3 hosts between them"},
		"all but one of those pairs":          {[]*logpb.RuleAdd{apart(1, 2, 3), apart(1, 4)}, apart(2, 4), ""},
		"three in pairs on two hosts":         {[]*logpb.RuleAdd{bound("h1 h2", 1, 2, 3), apart(1, 2), apart(2, 3), apart(3, 4)}, apart(1, 3), "rule 2, rule 3 and the new rule cannot be kept at once: VM vm1, VM vm2 and VM vm3 have 2 hosts between them"},
		"the same, their hosts last":          {[]*logpb.RuleAdd{apart(1, 2), apart(2, 3), apart(1, 3)}, bound("h1 h2", 1, 2, 3), "rule 1, rule 2, rule 3 and the new rule cannot be kept at once"},
		"the same, a bundle last":             {[]*logpb.RuleAdd{bound("h1 h2", 1, 2, 3, 4), apart(1, 2), apart(2, 3), apart(1, 4)}, together(3, 4), "the bundle of vm3, vm4"},
		"a ring of five on two hosts":         {[]*logpb.RuleAdd{bound("h1 h2", 1, 2, 3, 4, 7), apart(1, 2), apart(2, 3), apart(3, 4), apart(4, 7)}, apart(7, 1), "have 2 hosts between them"},
		"two rules of the same":               {[]*logpb.RuleAdd{apart(1, 2)}, apart(1, 2), ""},
		"what is wrong already wrongs nobody": {[]*logpb.RuleAdd{apart(1, 2)}, together(3, 4), ""},
		"a soft rule that nothing can fulfil": {nil, ruleOf(RuleApart, false, 1, 2, 3, 4), ""},
		"a rule about hosts by a label":       {nil, bound("rack=a", 1), ""},
		"a priority beyond all bounds":        {nil, &logpb.RuleAdd{Rule: &logpb.Rule{Kind: 3, Vms: [][]byte{idBytes(1)}, Hosts: []*logpb.HostChoice{{Host: "h1", Priority: 1 << 30}}}}, "out of range"},
		"what is no UUID":                     {nil, &logpb.RuleAdd{Rule: &logpb.Rule{Kind: 2, Vms: [][]byte{{1}, idBytes(2)}}}, "by their UUIDs"},
		"nothing":                             {nil, &logpb.RuleAdd{}, "a rule keeps VMs together"},
	} {
		t.Run(name, func(t *testing.T) {
			l := policyFleet(t, 3, 7)
			r := registration("h3", "b1")
			r.Labels = []*logpb.Label{{Key: "rack", Value: "a"}}
			l.ok(r)
			specs := &logpb.VMSpecs{Host: "h1", Epoch: l.host("h1").Epoch}
			for n := 1; n <= 7; n++ {
				x := spec(n)
				x.MemoryBytes, x.Local = 1<<30, nil
				if n == 5 || n == 6 {
					x.MemoryBytes = 200 << 30
				}
				if n == 7 {
					x.Local = []string{"its disk"}
				}
				specs.Specs = append(specs.Specs, x)
			}
			l.ok(specs)
			for _, b := range c.before {
				l.ok(b)
			}
			n := l.state().CountRules()
			if c.want == "" {
				l.ok(c.rule)
				if l.state().CountRules() != n+1 {
					t.Error("it was not written")
				}
				return
			}
			if no := l.rejected(c.rule); !strings.Contains(no, c.want) {
				t.Errorf("refused with %q, want %q", no, c.want)
			}
			if l.state().CountRules() != n {
				t.Error("it was written")
			}
		})
	}
}

func TestRulesTakeTheirLevel(t *testing.T) {
	l := fleet(t, 2, 2)
	for _, c := range []string{l.rejected(apart(1, 2)), l.rejected(&logpb.RuleRemove{Id: 1}), l.rejected(&logpb.VMSet{Vm: idBytes(1)}),
		l.rejected(&logpb.PolicySet{Settings: []*logpb.Setting{{Key: "placement", Value: "load"}}}), l.rejected(&logpb.PolicySet{Settings: []*logpb.Setting{{Key: "cpu_overcommit", Value: "2"}}})} {
		if !strings.Contains(c, "feature level 4") {
			t.Errorf("refused with %q", c)
		}
	}
}

// A number is given once, whatever became of its rule; bundles follow the rules.
func TestRulesComeAndGo(t *testing.T) {
	l := policyFleet(t, 3, 4)
	l.ok(together(1, 2))
	l.ok(together(2, 3))
	if b := l.state().Bundle(testVM(1)); b == nil || len(b.Members) != 3 || len(b.Rules) != 2 {
		t.Fatalf("bundle %+v", b)
	}
	old := l.state()
	l.ok(&logpb.RuleRemove{Id: 2})
	if b := l.state().Bundle(testVM(1)); len(b.Members) != 2 || l.state().Bundle(testVM(3)) != nil {
		t.Errorf("bundle %+v", b)
	}
	if b := old.Bundle(testVM(3)); b == nil || len(b.Members) != 3 {
		t.Error("a state that was published has changed")
	}
	l.rejected(&logpb.RuleRemove{Id: 2})
	l.ok(apart(1, 4))
	if l.state().Rule(3) == nil {
		t.Error("the next rule is not number 3")
	}
	s, err := ReadState(bytes.NewReader(snapshotOf(t, l.state())))
	if err != nil {
		t.Fatal(err)
	}
	if diff := sameState(l.state(), s); diff != "" || len(s.RulesOf(testVM(1))) != 2 || s.Bundle(testVM(2)) == nil {
		t.Errorf("after a snapshot: %s", diff)
	}
}

// A start that breaks a strict rule by now is not granted; a soft one may be broken.
func TestRulesAtTheGrant(t *testing.T) {
	for name, c := range map[string]struct {
		rule   *logpb.RuleAdd
		target HostID
		want   string
	}{
		"apart from one that runs there": {apart(1, 3), "h1", "rule 1 keeps it apart from vm3"},
		"apart, elsewhere":               {apart(1, 3), "h2", ""},
		"together, elsewhere":            {together(1, 3), "h2", "rule 1 keeps it with vm3 on host h1"},
		"together, there":                {together(1, 3), "h1", ""},
		"another host than its own":      {bound("h1 h3", 1), "h2", "rule 1 keeps it on h1:2, h3:1"},
		"one of its own":                 {bound("h1 h3", 1), "h3", ""},
		"softly":                         {ruleOf(RuleApart, false, 1, 3), "h1", ""},
	} {
		t.Run(name, func(t *testing.T) {
			l := policyFleet(t, 3, 3)
			l.ok(c.rule)
			l.report("h1", said{vm: 1, power: PowerOff, reason: ReasonCrashed, inc: inc(1), refused: inc(1)})
			l.ok(l.place(1, c.target))
			w := l.work(1)
			if c.want == "" && (w.Step != Restarting || w.Target != c.target) {
				t.Errorf("work is %s on %s: %s", w.Step, w.Target, w.Reason)
			}
			if c.want != "" && (w.Step != Scheduled || !strings.Contains(w.Reason, c.want)) {
				t.Errorf("work is %s: %q, want %q", w.Step, w.Reason, c.want)
			}
		})
	}
}
