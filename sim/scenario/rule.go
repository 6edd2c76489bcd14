package scenario

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"
)

// Rule is one rule of placement, as files write it: {apart: [a, b], strict: true}.
type Rule struct {
	Line  int
	Kind  string // together, apart or hosts
	Soft  bool
	VMs   []string
	Hosts []HostChoice // of kind hosts
}

// HostChoice is a host, or a label like rack=a, with its priority.
type HostChoice struct {
	Host     string
	Priority int
}

func (p *parsing) rulesOf(n *node) {
	for _, x := range p.items(n, "rules") {
		if r := p.rule(x); r != nil {
			p.f.Rules = append(p.f.Rules, *r)
		}
	}
}

// rule reads one; nil when it is wrong.
func (p *parsing) rule(n *node) *Rule {
	before := len(p.errs)
	r := &Rule{Line: n.line}
	kind := func(name string, n *node, to *[]string) {
		if r.Kind != "" {
			p.fail(n.line, "a rule is about one of together, apart and hosts")
		}
		r.Kind = name
		if to != nil {
			*to = p.words(n, name)
		}
	}
	if n.kind != mapping {
		p.fail(n.line, "a rule is a map, for example {apart: [v1, v2]}, not %s", n.kind)
		return nil
	}
	p.fields(n, "a rule", []field{
		{"together", func(n *node) { kind("together", n, &r.VMs) }},
		{"apart", func(n *node) { kind("apart", n, &r.VMs) }},
		{"hosts", func(n *node) { kind("hosts", n, nil); r.Hosts = p.choices(n) }},
		{"vms", func(n *node) { r.VMs = p.words(n, "vms") }},
		{"strict", func(n *node) { r.Soft = !p.flag(n, "strict") }},
	})
	if len(p.errs) > before {
		return nil
	}
	switch {
	case r.Kind == "":
		p.fail(n.line, "a rule needs one of together, apart and hosts")
	case len(r.VMs) == 0:
		p.fail(n.line, "a rule needs VMs: {hosts: {n1: 1}, vms: [v1]}")
	}
	for _, v := range r.VMs {
		p.known(n.line, "VM", v, p.vms)
	}
	for _, h := range r.Hosts {
		if !strings.Contains(h.Host, "=") {
			p.known(n.line, "host", h.Host, p.hosts)
		}
	}
	if len(p.errs) > before {
		return nil
	}
	return r
}

// choices reads {n1: 2, rack=a: 1}, or a list of hosts that are all the same.
func (p *parsing) choices(n *node) []HostChoice {
	var out []HostChoice
	if n.kind != mapping {
		for _, h := range p.words(n, "hosts") {
			out = append(out, HostChoice{Host: h})
		}
		return out
	}
	p.each(n, "hosts", func(name string, line int, val *node) {
		text := p.word(val, "hosts")
		priority, err := strconv.Atoi(text)
		if err != nil {
			p.fail(line, "hosts: the priority of %s is a whole number, not %q", name, text)
		}
		out = append(out, HostChoice{name, priority})
	})
	return out
}

// ruleCommand reads what follows `rule add`: a rule as under `rules:`, in braces or not.
func (p *parsing) ruleCommand(line int, text string) (*Rule, bool) {
	if !strings.HasPrefix(text, "{") {
		text = "{" + text + "}"
	}
	n, err := tree(p.path, []byte(text))
	if err != nil {
		p.fail(line, "rule add: %q is no rule; write for example `rule add {apart: [v1, v2]}`", text)
		return nil, false
	}
	n.at(line)
	r := p.rule(n)
	return r, r != nil
}

// at gives a piece of YAML that stands in a command the line of the command.
func (n *node) at(line int) {
	n.line = line
	for i := range n.keys {
		n.keys[i].line = line
		n.keys[i].val.at(line)
	}
	for _, x := range n.items {
		x.at(line)
	}
}

// dependsOn reads names; whether they are VMs is known when all have been read.
func (p *parsing) dependsOn(n *node) []string {
	var out []string
	for _, x := range p.words(n, "depends_on") {
		for _, name := range strings.Split(x, ",") {
			if name = strings.TrimSpace(name); name != "" && name != "none" {
				out = append(out, name)
			}
		}
	}
	p.later = append(p.later, func() {
		for _, name := range out {
			p.known(n.line, "VM", name, p.vms)
		}
	})
	return out
}

func (p *parsing) dependencies() {
	for _, check := range p.later {
		check()
	}
	p.later = nil
}

func (p *parsing) gate(n *node) string {
	text := p.word(n, "gate")
	if _, err := time.ParseDuration(text); text != "" && text != "running" && text != "order" && text != "agent" && err != nil {
		p.fail(n.line, "gate: %q is none; it is order, running, agent, or a time that the VM has run, such as 30s", text)
	}
	return text
}

// Names reports whether the rule names a host or VM.
func (r Rule) Names(name string) bool {
	return slices.Contains(r.VMs, name) || slices.ContainsFunc(r.Hosts, func(c HostChoice) bool { return c.Host == name })
}

// String writes the rule as files do.
func (r Rule) String() string {
	var b strings.Builder
	if r.Kind == "hosts" {
		var hs []string
		for _, h := range r.Hosts {
			hs = append(hs, fmt.Sprintf("%s: %d", h.Host, h.Priority))
		}
		fmt.Fprintf(&b, "{hosts: {%s}, vms: [%s]", strings.Join(hs, ", "), strings.Join(r.VMs, ", "))
	} else {
		fmt.Fprintf(&b, "{%s: [%s]", r.Kind, strings.Join(r.VMs, ", "))
	}
	return b.String() + fmt.Sprintf(", strict: %v}", !r.Soft)
}
