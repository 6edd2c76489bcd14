package sim

import (
	"context"
	"slices"
	"strings"
	"time"

	"lifeboat/sim/scenario"
)

// Shrink makes a scenario that breaks a rule as small as it can in so many
// runs. What is left breaks the same rule.
func Shrink(ctx context.Context, f *scenario.File, seed uint64, runs int) *scenario.File {
	ruleOf := func(f *scenario.File) string {
		r, err := Run(ctx, f, seed)
		if err != nil {
			runs = 0 // as small as it is by now
			return ""
		}
		return broken(r)
	}
	rule := ruleOf(f)
	try := func(c *scenario.File) bool {
		if runs--; runs < 0 {
			return false
		}
		return ruleOf(c) == rule && rule != ""
	}
	f = shrinkList(f, steps(), try)
	f = shrinkList(f, commands(), try)
	f = shrinkList(f, ruleList(), try)
	f = shrinkList(f, guests(), try)
	f = shrinkList(f, machines(), try)
	return shrinkList(f, steps(), try)
}

// broken names the first rule that was broken; "" when none was.
func broken(r *Result) string {
	if len(r.Failures) == 0 {
		return ""
	}
	return r.Failures[0].What
}

// part is a list in a scenario of which some may be left out.
type part struct {
	size func(*scenario.File) int
	drop func(f *scenario.File, from, to int) *scenario.File // a copy; nil: cannot
}

// shrinkList leaves out as much as it can, halves first.
func shrinkList(f *scenario.File, p part, try func(*scenario.File) bool) *scenario.File {
	for size := max(p.size(f)/2, 1); size >= 1; size /= 2 {
		for from := 0; from < p.size(f); {
			c := p.drop(f, from, min(from+size, p.size(f)))
			if c != nil && try(c) {
				f = c
			} else {
				from += size
			}
		}
	}
	return f
}

// steps drops whole steps; the time they took stays.
func steps() part {
	return part{
		size: func(f *scenario.File) int { return len(f.Steps) },
		drop: func(f *scenario.File, from, to int) *scenario.File {
			c := *f
			c.Steps = append([]scenario.Step(nil), f.Steps[:from]...)
			gone := time.Duration(0)
			for _, s := range f.Steps[from:to] {
				gone += s.After
			}
			rest := append([]scenario.Step(nil), f.Steps[to:]...)
			if len(rest) > 0 {
				rest[0].After += gone
			}
			c.Steps = append(c.Steps, rest...)
			return &c
		},
	}
}

// commands drops single commands.
func commands() part {
	return part{
		size: func(f *scenario.File) int {
			n := 0
			for _, s := range f.Steps {
				n += len(s.Commands)
			}
			return n
		},
		drop: func(f *scenario.File, from, to int) *scenario.File {
			c := *f
			c.Steps = nil
			n := 0
			for _, s := range f.Steps {
				x := scenario.Step{After: s.After}
				for _, cmd := range s.Commands {
					if n < from || n >= to {
						x.Commands = append(x.Commands, cmd)
					}
					n++
				}
				c.Steps = append(c.Steps, x)
			}
			return &c
		},
	}
}

// ruleList drops rules.
func ruleList() part {
	return part{
		size: func(f *scenario.File) int { return len(f.Rules) },
		drop: func(f *scenario.File, from, to int) *scenario.File {
			c := *f
			c.Rules = append(append([]scenario.Rule(nil), f.Rules[:from]...), f.Rules[to:]...)
			return &c
		},
	}
}

// guests drops VMs that nothing names.
func guests() part {
	return part{
		size: func(f *scenario.File) int { return len(f.VMs) },
		drop: func(f *scenario.File, from, to int) *scenario.File {
			for _, v := range f.VMs[from:to] {
				if mentions(f, v.Name) {
					return nil
				}
			}
			c := *f
			c.VMs = append(append([]scenario.VM(nil), f.VMs[:from]...), f.VMs[to:]...)
			return &c
		},
	}
}

// machines drops hosts that nothing names or lives on.
func machines() part {
	return part{
		size: func(f *scenario.File) int { return len(f.Hosts) },
		drop: func(f *scenario.File, from, to int) *scenario.File {
			for _, h := range f.Hosts[from:to] {
				if mentions(f, h.Name) || houses(f, h.Name) {
					return nil
				}
			}
			c := *f
			c.Hosts = append(append([]scenario.Host(nil), f.Hosts[:from]...), f.Hosts[to:]...)
			if len(c.Hosts) == 0 {
				return nil
			}
			return &c
		},
	}
}

// mentions reports whether a step, a rule or another VM names a thing.
func mentions(f *scenario.File, name string) bool {
	for _, r := range f.Rules {
		if r.Names(name) {
			return true
		}
	}
	for _, v := range f.VMs {
		if slices.Contains(v.DependsOn, name) {
			return true
		}
	}
	for _, s := range f.Steps {
		for _, c := range s.Commands {
			if c.Rule != nil && c.Rule.Names(name) {
				return true
			}
			for _, w := range strings.Fields(c.Text) {
				if w == name {
					return true
				}
			}
		}
	}
	return false
}

// houses reports whether a VM or manager is on a host.
func houses(f *scenario.File, host string) bool {
	for _, v := range f.VMs {
		if v.Host == host || v.Faults.Host == host {
			return true
		}
	}
	for _, on := range f.ManagersOn {
		if on == host {
			return true
		}
	}
	return false
}
