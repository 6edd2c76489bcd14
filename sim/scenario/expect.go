package scenario

import (
	"slices"
	"strings"
)

func (p *parsing) expect(n *node) {
	e := &p.f.Expect
	p.fields(n, "expect", []field{
		{"vms", func(n *node) {
			p.each(n, "expect: vms", func(name string, line int, val *node) {
				if p.known(line, "VM", name, p.vms) {
					e.VMs = append(e.VMs, p.vmExpect(name, line, val))
				}
			})
		}},
		{"fenced", func(n *node) {
			e.Fenced = &Names{Line: n.line, Names: p.words(n, "fenced")}
			for _, x := range e.Fenced.Names {
				p.known(n.line, "host", x, p.hosts)
			}
		}},
		{"alerts", func(n *node) {
			e.AlertsLine = n.line
			e.Alerts = p.counts(n, "alerts", func(line int, of string) {
				kind, subject, ok := strings.Cut(of, "/")
				if types := []string{"HOST", "FENCE", "VM", "NODE", "BRAKE"}; !ok || subject == "" || !slices.Contains(types, kind) {
					p.fail(line, "alerts: %q is no TYPE/subject, such as HOST/n1; TYPE is one of %s", of, strings.Join(types, ", "))
				}
			})
		}},
		{"alerts_exact", func(n *node) { e.AlertsExact = p.flag(n, "alerts_exact") }},
		{"work", func(n *node) {
			e.Work = p.counts(n, "work", func(line int, of string) {
				if ends := []string{"done", "error", "cancelled", "open"}; !slices.Contains(ends, of) {
					p.fail(line, "work: %q is no end of work; %s", of, hint(of, ends))
				}
			})
		}},
		{"order", func(n *node) {
			for _, x := range p.items(n, "order") {
				o := Names{Line: x.line, Names: p.words(x, "order")}
				for _, v := range o.Names {
					p.known(x.line, "VM", v, p.vms)
				}
				if len(o.Names) < 2 {
					p.fail(x.line, "order: it takes two VMs to have an order, such as [[db, app]]")
				}
				e.Order = append(e.Order, o)
			}
		}},
		{"hosts", func(n *node) {
			p.each(n, "expect: hosts", func(name string, line int, val *node) {
				p.known(line, "host", name, p.hosts)
				p.fields(val, "an expected host", []field{
					{"running", func(n *node) { e.Hosts = append(e.Hosts, Count{line, name, p.numbers(n, "running")}) }},
				})
			})
		}},
		{"refused", func(n *node) {
			e.Refused = &Refusals{Line: n.line}
			for _, x := range p.items(n, "refused") {
				e.Refused.All = append(e.Refused.All, p.refusal(x))
			}
		}},
	})
}

// refusal is a command, or `COMMAND: part of the reason`. What is to be refused must be
// in the steps.
func (p *parsing) refusal(n *node) Refusal {
	r := Refusal{Line: n.line}
	switch {
	case n.kind == mapping && len(n.keys) == 1:
		r.Text, r.Why = n.keys[0].key, p.word(n.keys[0].val, "the reason of a refusal")
	case n.kind == mapping:
		p.fail(n.line, "refused: an item is one command, or COMMAND: part of the reason")
		return r
	default:
		r.Text = p.word(n, "refused")
	}
	r.Text = strings.Join(strings.Fields(r.Text), " ")
	found := slices.ContainsFunc(p.f.Steps, func(s Step) bool {
		return slices.ContainsFunc(s.Commands, func(c Command) bool { return c.Text == r.Text })
	})
	if !found {
		p.fail(n.line, "refused: no step has the command %q", r.Text)
	}
	return r
}

func (p *parsing) counts(n *node, what string, check func(line int, of string)) []Count {
	var out []Count
	p.each(n, what, func(of string, line int, val *node) {
		check(line, of)
		out = append(out, Count{line, of, p.numbers(val, of)})
	})
	return out
}

func (p *parsing) vmExpect(name string, line int, n *node) VMExpect {
	v := VMExpect{Line: line, Name: name}
	p.fields(n, "an expected VM", []field{
		{"host", func(n *node) {
			v.Host = p.words(n, "host")
			for _, h := range v.Host {
				p.known(n.line, "host", h, p.hosts)
			}
		}},
		{"state", func(n *node) {
			for _, x := range p.items(n, "state") {
				v.State = append(v.State, p.oneOf(x, "state", "running", "paused", "stopped"))
			}
		}},
		{"starts", func(n *node) { v.Starts = p.numbers(n, "starts") }},
		{"moves", func(n *node) { v.Moves = p.numbers(n, "moves") }},
		{"incarnations", func(n *node) { v.Incarnations = p.numbers(n, "incarnations") }},
		{"within", func(n *node) {
			for _, x := range p.items(n, "within") {
				v.Within = max(v.Within, p.duration(x, "within"))
			}
		}},
	})
	return v
}
