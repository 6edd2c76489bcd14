package scenario

import (
	"fmt"
	"slices"
	"strings"
	"time"
)

// Write returns a file that means the same. Expectations are left out: it is
// for scenarios that were made up, where what must always hold is the point.
func (f *File) Write() []byte {
	var b strings.Builder
	if f.Name != "" {
		fmt.Fprintf(&b, "name: %s\n", quoted(f.Name))
	}
	if len(f.Settings) > 0 {
		b.WriteString("settings:\n")
		for _, s := range f.Settings {
			fmt.Fprintf(&b, "  %s: %s\n", s.Key, quoted(s.Value))
		}
	}
	if len(f.Managers) != 3 {
		fmt.Fprintf(&b, "managers: %d\n", len(f.Managers))
	}
	if len(f.ManagersOn) > 0 {
		var on []string
		for _, m := range f.Managers {
			if h := f.ManagersOn[m]; h != "" {
				on = append(on, m+": "+h)
			}
		}
		fmt.Fprintf(&b, "managers_on: {%s}\n", strings.Join(on, ", "))
	}
	f.writeWorld(&b)
	b.WriteString("hosts:\n")
	for _, h := range f.Hosts {
		fmt.Fprintf(&b, "  %s: {%s}\n", h.Name, h.fields())
	}
	if len(f.VMs) > 0 {
		b.WriteString("vms:\n")
	}
	for _, v := range f.VMs {
		fmt.Fprintf(&b, "  %s: {%s}\n", v.Name, v.fields())
	}
	if len(f.Rules) > 0 {
		b.WriteString("rules:\n")
	}
	for _, r := range f.Rules {
		fmt.Fprintf(&b, "  - %s\n", r)
	}
	if len(f.Steps) > 0 {
		b.WriteString("steps:\n")
	}
	for _, s := range f.Steps {
		var cs []string
		for _, c := range s.Commands {
			if c.Rule != nil {
				cs = append(cs, quoted(c.Text))
				continue
			}
			cs = append(cs, c.Text)
		}
		fmt.Fprintf(&b, "  - %s: [%s]\n", s.After, strings.Join(cs, ", "))
	}
	fmt.Fprintf(&b, "until: %s\n", f.Until)
	return []byte(b.String())
}

func (f *File) writeWorld(b *strings.Builder) {
	w, d := f.World, DefaultTiming()
	var out []string
	for _, t := range []struct {
		key    string
		is, by time.Duration
	}{{"start", w.Start, d.Start}, {"stop", w.Stop, d.Stop}, {"migration", w.Migration, d.Migration}, {"bmc", w.BMC, d.BMC}, {"boot", w.Boot, d.Boot}} {
		if t.is != t.by {
			out = append(out, fmt.Sprintf("%s: %s", t.key, t.is))
		}
	}
	if len(out) > 0 {
		fmt.Fprintf(b, "world: {%s}\n", strings.Join(out, ", "))
	}
}

func (h Host) fields() string {
	d := DefaultHost(h.Name)
	var out []string
	if h.CPUs != d.CPUs {
		out = append(out, fmt.Sprintf("cpus: %d", h.CPUs))
	}
	if h.Memory != d.Memory {
		out = append(out, "memory: "+memory(h.Memory))
	}
	if len(h.Labels) > 0 {
		var ls []string
		for _, l := range h.Labels {
			ls = append(ls, l.Key+": "+quoted(l.Value))
		}
		out = append(out, "labels: {"+strings.Join(ls, ", ")+"}")
	}
	if !slices.Equal(h.Fence, d.Fence) {
		out = append(out, "fence: ["+strings.Join(h.Fence, ", ")+"]")
	}
	if h.Heartbeat {
		out = append(out, "heartbeat: true")
	}
	if h.Watchdog != d.Watchdog {
		out = append(out, "watchdog: "+h.Watchdog)
	}
	return strings.Join(out, ", ")
}

func (v VM) fields() string {
	d := DefaultVM(v.Name, v.Host)
	out := []string{"host: " + v.Host}
	add := func(is bool, format string, args ...any) {
		if is {
			out = append(out, fmt.Sprintf(format, args...))
		}
	}
	add(v.Off, "state: stopped")
	add(v.CPUs != d.CPUs, "cpus: %d", v.CPUs)
	add(v.Memory != d.Memory, "memory: %s", memory(v.Memory))
	add(v.Priority != d.Priority, "priority: %s", v.Priority)
	add(v.HA != d.HA, "ha: %s", v.HA)
	add(v.MaxRestart != d.MaxRestart, "max_restart: %d", v.MaxRestart)
	add(v.MaxRelocate != d.MaxRelocate, "max_relocate: %d", v.MaxRelocate)
	add(v.Local, "disk: local")
	add(len(v.DependsOn) > 0, "depends_on: [%s]", strings.Join(v.DependsOn, ", "))
	add(v.Gate != "", "gate: %s", v.Gate)
	add(v.GateTimeout != 0, "gate_timeout: %s", v.GateTimeout)
	add(v.GuestAgent != 0, "guest_agent: %s", v.GuestAgent)
	add(v.GuestHealth != "", "guest_health: %s", v.GuestHealth)
	add(v.GuestTimeout != 0, "guest_timeout: %s", v.GuestTimeout)
	add(v.GuestGrace != 0, "guest_grace: %s", v.GuestGrace)
	add(v.GuestWatchdog != "", "guest_watchdog: %s", v.GuestWatchdog)
	add(v.Stays, "failback: false")
	add(v.NoLive, "live_migration: false")
	var fs []string
	times := func(what string, n int) {
		switch {
		case n == Always:
			fs = append(fs, what+": always")
		case n > 0:
			fs = append(fs, fmt.Sprintf("%s: %d", what, n))
		}
	}
	times("start", v.Faults.Start)
	times("stop", v.Faults.Stop)
	times("migrate", v.Faults.Migrate)
	if v.Faults.Host != "" {
		fs = append(fs, "host: "+v.Faults.Host)
	}
	add(len(fs) > 0, "faults: {%s}", strings.Join(fs, ", "))
	return strings.Join(out, ", ")
}

func memory(n uint64) string {
	switch {
	case n%(1<<30) == 0:
		return fmt.Sprintf("%dGiB", n>>30)
	case n%(1<<20) == 0:
		return fmt.Sprintf("%dMiB", n>>20)
	}
	return fmt.Sprintf("%dKiB", n>>10)
}

func quoted(s string) string { return "'" + strings.ReplaceAll(s, "'", "''") + "'" }

// NewCommand reads a command about things that a file has.
func (f *File) NewCommand(text string) (Command, error) {
	p := &parsing{reader: reader{path: f.Path}, f: f, hosts: map[string]bool{}, vms: map[string]bool{}, managers: map[string]bool{}}
	for _, h := range f.Hosts {
		p.hosts[h.Name] = true
	}
	for _, v := range f.VMs {
		p.vms[v.Name] = true
	}
	for _, m := range f.Managers {
		p.managers[m] = true
	}
	c, _ := p.command(0, text)
	return c, p.err()
}
