package sim

import (
	"fmt"
	"slices"

	"lifeboat/sim/scenario"
)

// someVMs are up to n different ones.
func (g *maker) someVMs(n int) []string {
	var out []string
	for range n {
		if v := g.anyVM(); v != "" && !slices.Contains(out, v) {
			out = append(out, v)
		}
	}
	return out
}

// aRule makes one up that can be kept by itself. Strict ones about VMs together are of
// VMs that are on one host from the beginning: nobody has to move them there.
func (g *maker) aRule() (scenario.Rule, bool) {
	r := scenario.Rule{Kind: g.pick("together", "apart", "apart", "hosts"), Soft: g.IntN(3) == 0}
	switch r.Kind {
	case "hosts":
		r.VMs = g.someVMs(1 + g.IntN(2))
		for range 3 + g.IntN(3) {
			h := g.anyHost()
			if !slices.ContainsFunc(r.Hosts, func(c scenario.HostChoice) bool { return c.Host == h }) {
				r.Hosts = append(r.Hosts, scenario.HostChoice{Host: h, Priority: g.IntN(3)})
			}
		}
		return r, len(r.VMs) > 0
	case "together":
		h := g.anyHost()
		for _, v := range g.f.VMs {
			if (v.Host == h || r.Soft && g.IntN(len(g.f.VMs)) < 2) && len(r.VMs) < 3 {
				r.VMs = append(r.VMs, v.Name)
			}
		}
	default:
		r.VMs = g.someVMs(min(2+g.IntN(3), len(g.f.Hosts)))
	}
	return r, len(r.VMs) > 1
}

// rules gives the world rules, none of which contradicts another: a VM is in one.
func (g *maker) rules() {
	taken := map[string]bool{}
	for range 1 + g.IntN(6) {
		r, ok := g.aRule()
		if !ok || slices.ContainsFunc(r.VMs, func(v string) bool { return taken[v] }) {
			continue
		}
		for _, v := range r.VMs {
			taken[v] = true
		}
		g.f.Rules = append(g.f.Rules, r)
	}
}

// orders lets VMs depend on others that come before them, so that there is no circle.
func (g *maker) orders() {
	for i := range g.f.VMs {
		v := &g.f.VMs[i]
		if v.HA != "none" && g.IntN(3) == 0 {
			v.GuestAgent, v.GuestHealth, v.GuestWatchdog = 20e9, g.pick("ping", "both"), g.pick("none", "pause", "reset")
		}
		if i == 0 || v.HA == "none" || g.IntN(5) > 0 {
			continue
		}
		if on := g.f.VMs[g.IntN(i)]; on.HA != "none" {
			v.DependsOn = []string{on.Name}
			v.GateTimeout = 60e9
		}
		v.Gate = g.pick("", "", "order", "10s")
	}
}

// writes has an operator write or remove a rule, which may be refused.
func (g *maker) writes(v string) []string {
	switch g.IntN(3) {
	case 0:
		return []string{fmt.Sprintf("rule remove %d", 1+g.IntN(8))}
	case 1:
		if v != "" {
			return []string{"vm " + v + " set priority " + g.pick("low", "highest")}
		}
	}
	r, ok := g.aRule()
	if !ok {
		return nil
	}
	return []string{"rule add " + r.String()}
}
