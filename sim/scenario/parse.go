package scenario

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"lifeboat/fsm"

	"lifeboat/ha"
)

// maxThings bounds how many hosts, VMs and managers a file may name.
const maxThings = 2_000_000

// Parse reads a scenario. The error names every line that is wrong.
func Parse(path string, data []byte) (*File, error) {
	root, err := tree(path, data)
	if err != nil {
		return nil, err
	}
	p := &parsing{reader: reader{path: path}, f: &File{Path: path, World: DefaultTiming(), Until: 5 * time.Minute}}
	p.file(root)
	if err := p.err(); err != nil {
		return nil, err
	}
	return p.f, nil
}

// parsing is the reading of one file. Names are known once the keys that
// declare them have been read.
type parsing struct {
	reader
	f        *File
	hosts    map[string]bool
	vms      map[string]bool
	managers map[string]bool
	later    []func() // checks of names that may come later
}

const ()

func (p *parsing) file(root *node) {
	parts := map[string]*node{}
	keep := func(key string) field { return field{key, func(n *node) { parts[key] = n }} }
	p.fields(root, "a scenario", []field{
		{"name", func(n *node) { p.f.Name = p.word(n, "name") }},
		keep("settings"), keep("managers"), keep("managers_on"), keep("world"), keep("hosts"), keep("vms"),
		keep("rules"), keep("steps"),
		{"until", func(n *node) { p.f.Until = p.duration(n, "until") }},
		keep("expect"),
	})
	with := func(key string, read func(*node)) {
		if n := parts[key]; n != nil {
			read(n)
		}
	}
	with("settings", p.settings)
	p.managersOf(parts["managers"])
	with("world", p.world)
	if parts["hosts"] == nil {
		p.fail(1, "a scenario needs hosts")
	} else {
		p.hostsOf(parts["hosts"])
	}
	with("managers_on", p.managersOn)
	p.vms = map[string]bool{}
	with("vms", p.vmsOf)
	with("rules", p.rulesOf)
	p.dependencies()
	with("steps", p.steps)
	with("expect", p.expect)
}

func (p *parsing) settings(n *node) {
	policy := fsm.DefaultPolicy()
	p.each(n, "settings", func(key string, line int, val *node) {
		p.setting(line, key, p.word(val, key))
	})
	if _, err := policy.With(p.f.Settings); err != nil && len(p.errs) == 0 {
		p.fail(n.line, "settings: %v", err)
	}
}

// setting checks one key of the policy by itself and keeps it.
func (p *parsing) setting(line int, key, value string) {
	var known []string
	for _, k := range fsm.PolicySettings() {
		known = append(known, k.Key)
	}
	if !slices.Contains(known, key) {
		p.fail(line, "this version of lifeboat has no setting %q; %s", key, hint(key, known))
		return
	}
	p.f.Settings = append(p.f.Settings, fsm.Setting{Key: key, Value: value})
}

func (p *parsing) managersOf(n *node) {
	count := 3
	if n != nil {
		count = p.number(n, "managers", 1)
		if count > 9 {
			p.fail(n.line, "managers: %d are too many; at most 9 can agree on anything in time", count)
			count = 9
		}
	}
	p.managers = map[string]bool{}
	for i := range count {
		name := fmt.Sprintf("m%d", i+1)
		p.f.Managers = append(p.f.Managers, name)
		p.managers[name] = true
	}
}

func (p *parsing) managersOn(n *node) {
	p.f.ManagersOn = map[string]string{}
	p.each(n, "managers_on", func(name string, line int, val *node) {
		host := p.word(val, "managers_on")
		p.known(line, "manager", name, p.managers)
		p.known(val.line, "host", host, p.hosts)
		p.f.ManagersOn[name] = host
	})
}

// known refuses a name that nothing has.
func (p *parsing) known(line int, what, name string, all map[string]bool) bool {
	if all[name] {
		return true
	}
	var names []string
	for n := range all {
		names = append(names, n)
	}
	slices.SortFunc(names, ha.Natural)
	if len(names) > 12 {
		names = append(names[:12], "...")
	}
	p.fail(line, "there is no %s %q; %s", what, name, hint(name, names))
	return false
}

func (p *parsing) world(n *node) {
	w := &p.f.World
	var fs []field
	for key, d := range map[string]*time.Duration{"start": &w.Start, "stop": &w.Stop, "migration": &w.Migration, "bmc": &w.BMC, "boot": &w.Boot} {
		fs = append(fs, field{key, func(n *node) { *d = p.duration(n, key) }})
	}
	slices.SortFunc(fs, func(a, b field) int { return strings.Compare(a.key, b.key) })
	p.fields(n, "world", fs)
}

// many is a list of things that are numbered: {count: 40, prefix: v}.
type many struct {
	count  int
	prefix string
}

func (m *many) fields(p *parsing) []field {
	return []field{
		{"count", func(n *node) {
			if m.count = p.number(n, "count", 1); m.count > maxThings {
				p.fail(n.line, "count: %d are too many; at most %d are simulated", m.count, maxThings)
				m.count = 0
			}
		}},
		{"prefix", func(n *node) { m.prefix = p.word(n, "prefix") }},
	}
}

// counted reports whether a mapping is {count: N, prefix: x, ...}.
func counted(n *node) bool {
	return n.kind == mapping && slices.ContainsFunc(n.keys, func(k pair) bool { return k.key == "count" && k.val.kind == scalar })
}

// things reads a map of names, a counted form, or a list of counted forms.
func (p *parsing) things(n *node, what, prefix string, one func(n *node, more []field), made func(line int, name string)) {
	group := func(n *node) {
		if !counted(n) {
			p.fail(n.line, "%s: an element of the list says how many, for example {count: 3, prefix: %s}", what, prefix)
			return
		}
		m := many{prefix: prefix}
		one(n, m.fields(p))
		for i := range m.count {
			made(n.line, fmt.Sprintf("%s%d", m.prefix, i+1))
		}
	}
	switch {
	case counted(n):
		group(n)
	case n.kind == list:
		for _, x := range n.items {
			group(x)
		}
	default:
		p.each(n, what, func(name string, line int, val *node) {
			one(val, nil)
			made(line, name)
		})
	}
}

func (p *parsing) hostsOf(n *node) {
	p.hosts = map[string]bool{}
	var h Host
	p.things(n, "hosts", "h", func(n *node, more []field) {
		h = DefaultHost("")
		p.fields(n, "a host", append(more,
			field{"cpus", func(n *node) { h.CPUs = p.number(n, "cpus", 1) }},
			field{"memory", func(n *node) { h.Memory = p.memory(n, "memory") }},
			field{"labels", func(n *node) {
				p.each(n, "labels", func(key string, line int, val *node) {
					h.Labels = append(h.Labels, fsm.Label{Key: key, Value: p.word(val, key)})
				})
			}},
			field{"fence", func(n *node) {
				h.Fence = []string{}
				for _, x := range p.items(n, "fence") {
					h.Fence = append(h.Fence, p.oneOf(x, "fence", BMC, Lease))
				}
			}},
			field{"heartbeat", func(n *node) { h.Heartbeat = p.flag(n, "heartbeat") }},
			field{"watchdog", func(n *node) { h.Watchdog = p.oneOf(n, "watchdog", WatchdogHard, WatchdogSoft, WatchdogNone) }},
		))
	}, func(line int, name string) {
		if p.name(line, name) {
			h.Name = name
			p.hosts[name] = true
			p.f.Hosts = append(p.f.Hosts, h)
		}
	})
	sorted(p.f.Hosts, func(a, b Host) int { return ha.Natural(a.Name, b.Name) })
	if len(p.f.Hosts) == 0 && len(p.errs) == 0 {
		p.fail(n.line, "a scenario needs at least one host")
	}
}

// sorted brings a list into order; a numbered one is.
func sorted[T any](list []T, by func(a, b T) int) {
	if !slices.IsSortedFunc(list, by) {
		slices.SortStableFunc(list, by)
	}
}

// name refuses a name that is taken, or that commands could not tell apart.
func (p *parsing) name(line int, name string) bool {
	switch {
	case name == "" || strings.ContainsAny(name, " \t\n*,[]{}"):
		p.fail(line, "%q is no name; a name is one word", name)
	case p.hosts[name] || p.vms[name] || p.managers[name]:
		p.fail(line, "the name %q is taken", name)
	case len(p.f.Hosts)+len(p.f.VMs) > maxThings:
		p.fail(line, "more than %d hosts and VMs are not simulated", maxThings)
	default:
		return true
	}
	return false
}

func (p *parsing) vmsOf(n *node) {
	var v VM
	var at int
	dealt := 0
	p.things(n, "vms", "v", func(n *node, more []field) {
		v, at = DefaultVM("", ""), n.line
		p.fields(n, "a VM", append(more, p.vmFields(&v)...))
	}, func(line int, name string) {
		if !p.name(line, name) {
			return
		}
		w := v
		w.Name = name
		switch {
		case v.Host == "":
			p.fail(max(line, at), "VM %s needs a host", name)
		case v.Host == "*" && len(p.f.Hosts) > 0:
			w.Host = p.f.Hosts[dealt%len(p.f.Hosts)].Name
			dealt++
		}
		p.vms[name] = true
		p.f.VMs = append(p.f.VMs, w)
	})
	sorted(p.f.VMs, func(a, b VM) int { return ha.Natural(a.Name, b.Name) })
}

func (p *parsing) vmFields(v *VM) []field {
	return []field{
		{"host", func(n *node) {
			if v.Host = p.word(n, "host"); v.Host != "*" {
				p.known(n.line, "host", v.Host, p.hosts)
			}
		}},
		{"state", func(n *node) { v.Off = p.oneOf(n, "state", "running", "stopped") == "stopped" }},
		{"cpus", func(n *node) { v.CPUs = p.number(n, "cpus", 1) }},
		{"memory", func(n *node) { v.Memory = p.memory(n, "memory") }},
		{"priority", func(n *node) { v.Priority = p.oneOf(n, "priority", "lowest", "low", "medium", "high", "highest") }},
		{"ha", func(n *node) { v.HA = p.oneOf(n, "ha", "restart", "always", "none") }},
		{"max_restart", func(n *node) { v.MaxRestart = p.number(n, "max_restart", 0) }},
		{"max_relocate", func(n *node) { v.MaxRelocate = p.number(n, "max_relocate", 0) }},
		{"disk", func(n *node) { v.Local = p.oneOf(n, "disk", "shared", "local") == "local" }},
		{"failback", func(n *node) {
			v.Stays = !p.flag(n, "failback")
		}},
		{"live_migration", func(n *node) {
			v.NoLive = !p.flag(n, "live_migration")
		}},
		{"depends_on", func(n *node) { v.DependsOn = p.dependsOn(n) }},
		{"gate", func(n *node) { v.Gate = p.gate(n) }},
		{"gate_timeout", func(n *node) { v.GateTimeout = p.duration(n, "gate_timeout") }},
		{"guest_agent", func(n *node) { v.GuestAgent = p.duration(n, "guest_agent") }},
		{"guest_health", func(n *node) { v.GuestHealth = p.oneOf(n, "guest_health", "none", "ping", "watchdog", "both") }},
		{"guest_timeout", func(n *node) { v.GuestTimeout = p.duration(n, "guest_timeout") }},
		{"guest_grace", func(n *node) { v.GuestGrace = p.duration(n, "guest_grace") }},
		{"guest_watchdog", func(n *node) { v.GuestWatchdog = p.oneOf(n, "guest_watchdog", "none", "pause", "reset") }},
		{"faults", func(n *node) { p.faults(n, &v.Faults) }},
	}
}

func (p *parsing) faults(n *node, f *Faults) {
	times := func(what string, to *int) field {
		return field{what, func(n *node) {
			if n.text == "always" {
				*to = Always
				return
			}
			*to = p.number(n, what, 0)
		}}
	}
	p.fields(n, "faults", []field{
		times("start", &f.Start), times("stop", &f.Stop), times("migrate", &f.Migrate),
		{"host", func(n *node) {
			f.Host = p.word(n, "host")
			p.known(n.line, "host", f.Host, p.hosts)
		}},
	})
}

func (p *parsing) steps(n *node) {
	if n.null {
		return
	}
	if n.kind != list {
		p.fail(n.line, "steps is a list, not %s", n.kind)
		return
	}
	for _, x := range n.items {
		if x.kind != mapping || len(x.keys) != 1 {
			p.fail(x.line, "a step is written as `- 10s: [command, command]`")
			continue
		}
		k := x.keys[0]
		d, err := parseDuration(k.key)
		if err != nil {
			p.fail(k.line, "a step begins with the time since the one before: %v", err)
			continue
		}
		s := Step{After: d}
		for _, c := range p.items(k.val, "a step") {
			if cmd, ok := p.command(c.line, p.word(c, "a command")); ok {
				s.Commands = append(s.Commands, cmd)
			}
		}
		p.f.Steps = append(p.f.Steps, s)
	}
}
