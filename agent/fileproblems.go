package agent

import (
	"fmt"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"time"
)

// Problem is a wrong value in a configuration file.
type Problem struct {
	Key  string // of the file, such as watchdog.kind or managers[1]
	Text string // what is wrong and what to do; it begins with a verb
}

// Problems are all wrong values, in the order of the file's description; it looks
// at nothing but the values.
func (f *File) Problems() (list []Problem) {
	add := func(key, format string, args ...any) { list = append(list, Problem{key, fmt.Sprintf(format, args...)}) }
	idRule := regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9._-]{0,62}$`)
	switch {
	case f.HostID == "":
		add("host_id", "is missing: give this host the name that its certificate was made for")
	case !idRule.MatchString(f.HostID):
		add("host_id", "is %.60q: use letters, digits, dots and hyphens, at most 63", f.HostID)
	}
	if len(f.Managers) == 0 {
		add("managers", "is missing: name at least one management node as host:port")
	}
	for i, m := range f.Managers {
		if !hostPort(m) {
			add(fmt.Sprintf("managers[%d]", i), "is %.60q: write it as host:port", m)
		}
	}
	for i, p := range f.ProbeAddrs {
		if !hostPort(p) {
			add(fmt.Sprintf("probe_addrs[%d]", i), "is %.60q: write it as host:port", p)
		}
	}
	for i, d := range f.HeartbeatDirs {
		switch {
		case !filepath.IsAbs(d):
			add(fmt.Sprintf("heartbeat_dirs[%d]", i), "is %.60q: write the whole path, the same on every host", d)
		case slices.Contains(f.HeartbeatDirs[:i], d):
			add(fmt.Sprintf("heartbeat_dirs[%d]", i), "is %.60q, which is there already: remove one", d)
		}
	}
	for _, k := range []struct{ key, value string }{{"cert", f.Cert}, {"key", f.Key}, {"ca", f.CA}} {
		if k.value == "" {
			add(k.key, "is missing: name the PEM file; lifeboat ca issue makes it")
		}
	}
	if !strings.Contains(f.Hypervisor, ":") {
		add("hypervisor", "is %.60q: write a libvirt URI such as qemu:///system", f.Hypervisor)
	}
	f.checkSections(add)
	return list
}

func (f *File) checkSections(add func(key, format string, args ...any)) {
	w := f.Watchdog
	switch w.Kind {
	case WatchdogNone, WatchdogHardware, WatchdogExternal, WatchdogSoft:
	default:
		add("watchdog.kind", "is %.60q: use hardware, external, soft or none", w.Kind)
	}
	switch {
	case w.Bound < Duration(time.Second) || w.Bound > Duration(5*time.Minute):
		add("watchdog.bound", "is %s: use a time from 1s to 5m, such as 10s", w.Bound)
	case w.Bound%Duration(time.Second) != 0 && w.Kind == WatchdogHardware:
		add("watchdog.bound", "is %s: a hardware watchdog counts whole seconds", w.Bound)
	}
	switch {
	case len(w.Command) > 0 && w.Kind != WatchdogExternal:
		add("watchdog.command", "is only for kind external: remove it")
	case len(w.Command) > 0 && w.Device != "":
		add("watchdog.command", "does nothing when device names the socket of another program: remove one of them")
	}
	if !slices.Contains([]string{"trace", "debug", "info", "warn", "error"}, f.Log.Level) {
		add("log.level", "is %.60q: use trace, debug, info, warn or error", f.Log.Level)
	}
	if f.Log.Format != "text" && f.Log.Format != "json" {
		add("log.format", "is %.60q: use text or json", f.Log.Format)
	}
}
