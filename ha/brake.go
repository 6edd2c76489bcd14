package ha

import (
	"fmt"
	"maps"
	"slices"
	"time"

	"lifeboat/fsm"
	"lifeboat/fsm/logpb"
)

// together is how close in time hosts must fall silent to be suspected of
// having one common cause, which may be the observer.
const together = time.Minute

// release is how long the brake stays on after a host of the domain has come
// back: the others come back in these seconds too, and the last few must not
// be fenced because there are only a few left.
const release = 15 * time.Second

// Domains are the failure domains of a host, as the brake counts them (S17).
func Domains(h *fsm.Host) []string {
	if rack := h.Label("rack"); rack != "" {
		return []string{"cluster", "rack " + rack}
	}
	return []string{"cluster"}
}

// fallen is a host that went silent, dead or not.
type fallen struct {
	h     *fsm.Host
	since int64 // unix ns
	dead  bool  // proven
}

// brakes finds the hosts that went silent together with so many others of
// their failure domain that the observer is suspect (S17). Those proven dead
// since are counted too, or the brake would let go of the fourth host when the
// first three have been fenced.
func (d *decision) brakes(closer []look) {
	why := map[string]string{} // domain → why a host in it is held
	down := d.fallen(closer)
	byDomain := map[string][]fallen{}
	for _, f := range down {
		for _, name := range Domains(f.h) {
			byDomain[name] = append(byDomain[name], f)
		}
	}
	if len(down) > d.p.BrakeMin {
		all := d.sizes(byDomain)
		for _, name := range slices.Sorted(maps.Keys(byDomain)) {
			if reason := d.hold(byDomain[name], func() int { return all()[name] }); reason != "" {
				why[name] = reason
			}
		}
	}
	for name, was := range d.s.Brakes() {
		if why[name] == "" && d.comingBack(name) && d.holdAll(byDomain[name]) {
			why[name] = was.Reason
		}
		if why[name] == "" {
			d.do(&logpb.Command{Body: &logpb.Command_Brake{Brake: &logpb.Brake{Domain: name, Reason: "no host waits there any more that went silent together with too many"}}})
		}
	}
	d.letGo(byDomain, why)
	for _, name := range slices.Sorted(maps.Keys(why)) {
		if d.s.Brake(name) == "" {
			d.do(&logpb.Command{Body: &logpb.Command_Brake{Brake: &logpb.Brake{Domain: name, On: true, Reason: why[name]}}})
		}
	}
}

// comingBack reports whether a host of the domain has come back just now.
func (d *decision) comingBack(domain string) bool {
	var newest int64
	for _, h := range d.s.Hosts() {
		if (h.Status == fsm.Up || h.Status == fsm.Connecting) && slices.Contains(Domains(h), domain) {
			newest = max(newest, h.Since)
		}
	}
	if until := newest + int64(release); d.now.Wall < until {
		d.wakeAt(until)
		return true
	}
	return false
}

// holdAll holds the hosts that are not proven dead; false when there are none.
func (d *decision) holdAll(down []fallen) (any bool) {
	for _, f := range down {
		if !f.dead {
			d.holdHost(f.h)
			any = true
		}
	}
	return any
}

func (d *decision) holdHost(h *fsm.Host) {
	if d.held == nil {
		d.held = map[fsm.HostID]bool{}
	}
	d.held[h.ID] = true
}

// hold marks the hosts of one domain that the brake holds, and says why. size
// counts its hosts.
func (d *decision) hold(down []fallen, size func() int) (reason string) {
	slices.SortStableFunc(down, func(a, b fallen) int { return int(min(1, max(-1, a.since-b.since))) })
	first, last := 0, 0 // the window around host i
	for _, f := range down {
		for f.since-down[first].since > int64(together) {
			first++
		}
		for last < len(down) && down[last].since-f.since <= int64(together) {
			last++
		}
		n := last - first
		if f.dead || n <= d.p.BrakeMin {
			continue
		}
		all := size()
		if n*100 <= all*d.p.BrakePercent {
			continue
		}
		d.holdHost(f.h)
		reason = fmt.Sprintf("%d of %d hosts went silent together; with more than %d and more than %d %% of them the observer may be at fault", n, all, d.p.BrakeMin, d.p.BrakePercent)
	}
	return reason
}

// fallen are the hosts that are silent or Down.
func (d *decision) fallen(closer []look) []fallen {
	var out []fallen
	for _, l := range closer {
		f := fallen{h: l.h, since: l.h.Silent}
		switch l.h.Status {
		case fsm.Up, fsm.Connecting:
			if !d.silent(l.c) {
				continue
			}
			f.since = d.now.Wall - int64(d.quiet(l.c))
		case fsm.Alert:
			if d.reports(l.c) {
				continue
			}
		case fsm.Down:
			f.dead = l.h.HA == fsm.HAFenced
		default:
			continue
		}
		out = append(out, f)
	}
	return out
}

// sizes counts the hosts of the domains when it is asked for the first time: what
// fell silent long ago asks for none.
func (d *decision) sizes(of map[string][]fallen) func() map[string]int {
	var all map[string]int
	return func() map[string]int {
		if all != nil {
			return all
		}
		all = map[string]int{}
		for _, h := range d.s.Hosts() {
			if h.Status == fsm.Removed {
				continue
			}
			for _, name := range Domains(h) {
				if of[name] != nil {
					all[name]++
				}
			}
		}
		return all
	}
}

// seenDead reports whether somebody has seen the host dead: then the silence of
// the others says nothing about it.
func seenDead(h *fsm.Host) bool {
	return slices.ContainsFunc(h.Evidence, func(e fsm.Evidence) bool { return e.Verdict == fsm.Dead })
}
