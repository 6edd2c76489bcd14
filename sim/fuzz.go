package sim

import (
	"fmt"
	"math/rand/v2"
	"time"

	"lifeboat/fsm"
	"lifeboat/sim/scenario"
)

// Fuzz says what random worlds are made.
type Fuzz struct {
	// Hosts of a world are at least Hosts and, when that is more, up to UpTo;
	// zero: 20 to 50.
	Hosts, UpTo int
	VMs         int // 0: three a host
	Hours       float64
}

// World makes the random world of a seed: hosts and VMs of all kinds, faults
// all the time, and quiet at the end, in which everything must mend.
func (z Fuzz) World(seed uint64) *scenario.File {
	r := rand.New(rand.NewPCG(seed, 0x66757a7a))
	f := &scenario.File{Path: fmt.Sprintf("seed-%d.yaml", seed), Name: fmt.Sprintf("a random world, seed %d", seed), World: scenario.DefaultTiming(), Until: 15 * time.Minute}
	g := &maker{Rand: r, f: f}
	g.policy()
	low, high := z.Hosts, z.UpTo
	if low <= 0 {
		low, high = 20, 50
	}
	n := low
	if high > low {
		n += r.IntN(high - low + 1)
	}
	for i := range n {
		f.Hosts = append(f.Hosts, g.host(fmt.Sprintf("n%d", i+1)))
	}
	managers := []int{1, 3, 3, 3, 5}[r.IntN(5)]
	for i := range managers {
		f.Managers = append(f.Managers, fmt.Sprintf("m%d", i+1))
	}
	if r.IntN(2) == 0 {
		f.ManagersOn = map[string]string{}
		for i, m := range f.Managers {
			if i < n && r.IntN(3) > 0 {
				f.ManagersOn[m] = f.Hosts[i].Name
			}
		}
	}
	vms := z.VMs
	if vms == 0 {
		vms = 3 * n
	}
	for i := range vms {
		f.VMs = append(f.VMs, g.vm(fmt.Sprintf("v%d", i+1)))
	}
	if r.IntN(2) == 0 {
		g.rules()
		g.orders()
	}
	total := time.Duration(z.Hours * float64(time.Hour))
	for mean := total / 40; ; mean /= 2 {
		g.faults(total, max(mean, 5*time.Second))
		if Faults(f) >= z.faults() {
			return f
		}
		f.Steps, g.todo = nil, nil
	}
}

// LeastFaults is how many faults a random world of two hours has at the least.
const LeastFaults = 20

// faults is how many a world must have: as many as there is time for.
func (z Fuzz) faults() int { return min(LeastFaults, int(z.Hours*60)) }

// Faults counts what goes wrong in a scenario: not what an operator orders, and
// not what is mended.
func Faults(f *scenario.File) int {
	n := 0
	for _, s := range f.Steps {
		for _, c := range s.Commands {
			if isFault(c.Form) {
				n++
			}
		}
	}
	return n
}

func isFault(form string) bool {
	switch form {
	case "power off", "network off", "storage off", "freeze", "agent kill", "agent stop", "libvirt stop", "reboot", "shutdown",
		"bmc off", "bmc lies", "bmc errors", "bmc slow", "partition", "partition one-way",
		"manager kill", "manager isolate", "manager freeze", "manager disk stall", "manager disk full", "leader kill",
		"vm kill", "vm hang", "vm guest-shutdown", "vm crash-loop on", "vm copy", "vm move":
		return true
	}
	return false
}

// maker makes up one world.
type maker struct {
	*rand.Rand
	f  *scenario.File
	at time.Duration
	// todo are the repairs to come, in no order.
	todo []repair
}

type repair struct {
	at   time.Duration
	text string
}

func (g *maker) pick(from ...string) string { return from[g.IntN(len(from))] }

// often picks the first three times out of four.
func (g *maker) often(first string, other ...string) string {
	if g.IntN(4) > 0 {
		return first
	}
	return g.pick(other...)
}

func (g *maker) policy() {
	set := func(key, value string) { g.f.Settings = append(g.f.Settings, fsm.Setting{Key: key, Value: value}) }
	for _, key := range []string{"events_keep", "work_keep", "alerts_keep"} {
		set(key, "100") // history costs time
	}
	if g.IntN(3) == 0 {
		set("placement", g.pick("spread", "pack", "load"))
	}
	if g.IntN(4) == 0 {
		set("starts_per_host", fmt.Sprint(1+g.IntN(4)))
	}
	if g.IntN(6) == 0 {
		set("agent_stop_grace", "10s")
	}
	if g.IntN(4) == 0 {
		set("shutdown_policy", g.pick("freeze", "failover", "migrate"))
	}
	if g.IntN(4) == 0 {
		set("rebalance", "true")
	}
	if g.IntN(6) == 0 {
		set("migrate_timeout", "10s")
	}
}

func (g *maker) host(name string) scenario.Host {
	h := scenario.DefaultHost(name)
	if g.IntN(3) == 0 {
		h.Labels = []fsm.Label{{Key: "rack", Value: g.pick("a", "b", "c")}}
	}
	switch g.IntN(8) {
	case 0:
		h.Fence = []string{scenario.Lease}
	case 1:
		h.Fence = []string{scenario.BMC}
	case 2:
		h.Fence = []string{scenario.Lease, scenario.BMC}
	case 3:
		if g.IntN(4) == 0 {
			h.Fence = []string{}
		}
	}
	h.Watchdog = g.often(scenario.WatchdogHard, scenario.WatchdogHard, scenario.WatchdogSoft, scenario.WatchdogNone)
	h.Memory = uint64(64+g.IntN(4)*64) << 30
	return h
}

func (g *maker) vm(name string) scenario.VM {
	v := scenario.DefaultVM(name, g.f.Hosts[g.IntN(len(g.f.Hosts))].Name)
	v.Off = g.IntN(12) == 0
	v.HA = g.often("restart", "restart", "always", "none")
	v.Priority = g.often("medium", "lowest", "low", "high", "highest")
	v.Memory = uint64(1+g.IntN(8)) << 30
	if g.IntN(10) == 0 {
		v.Faults.Start = 1 + g.IntN(2)
	}
	if g.IntN(10) == 0 {
		v.Faults.Migrate = 1 + g.IntN(3)
	}
	v.NoLive, v.Stays = g.IntN(12) == 0, g.IntN(6) == 0
	return v
}

func (g *maker) anyHost() string { return g.f.Hosts[g.IntN(len(g.f.Hosts))].Name }
func (g *maker) manager() string { return g.f.Managers[g.IntN(len(g.f.Managers))] }
func (g *maker) anyVM() string {
	if len(g.f.VMs) == 0 {
		return ""
	}
	return g.f.VMs[g.IntN(len(g.f.VMs))].Name
}

// faults fills the time with faults, each with its repair.
func (g *maker) faults(total, mean time.Duration) {
	last := time.Duration(0)
	add := func(at time.Duration, texts ...string) {
		s := scenario.Step{After: at - last}
		for _, text := range texts {
			if c, err := g.f.NewCommand(text); err == nil {
				s.Commands = append(s.Commands, c)
			}
		}
		last = at
		g.f.Steps = append(g.f.Steps, s)
	}
	for g.at = g.gap(mean); ; g.at += g.gap(mean) {
		for i := g.due(min(g.at, total)); i >= 0; i = g.due(min(g.at, total)) {
			add(max(g.todo[i].at, last), g.todo[i].text)
			g.todo = append(g.todo[:i], g.todo[i+1:]...)
		}
		if g.at >= total {
			break
		}
		add(g.at, g.fault()...)
	}
	for _, x := range g.todo {
		add(max(last, total), x.text)
	}
	for _, m := range g.f.Managers {
		add(max(last, total), "manager "+m+" start")
	}
}

func (g *maker) gap(mean time.Duration) time.Duration {
	if g.IntN(4) == 0 {
		return time.Duration(g.Int64N(int64(8 * time.Second))).Round(time.Millisecond) // in the middle of something
	}
	return time.Duration(g.Int64N(int64(2 * mean))).Round(time.Millisecond)
}

// due is the repair that comes first until a time; -1: none.
func (g *maker) due(until time.Duration) int {
	best := -1
	for i, x := range g.todo {
		if x.at <= until && (best < 0 || x.at < g.todo[best].at) {
			best = i
		}
	}
	return best
}

// later plans a repair.
func (g *maker) later(text string) {
	d := []time.Duration{2 * time.Second, 10 * time.Second, time.Minute, 5 * time.Minute}[g.IntN(4)]
	g.todo = append(g.todo, repair{g.at + (d/2 + time.Duration(g.Int64N(int64(d)))).Round(time.Millisecond), text})
}

// fault makes up what goes wrong now.
func (g *maker) fault() []string {
	h, m, v := g.anyHost(), g.manager(), g.anyVM()
	with := func(text, mend string) []string {
		g.later(mend)
		return []string{text}
	}
	switch g.IntN(29) {
	case 25, 28:
		other := g.anyHost()
		if v == "" || other == h {
			return nil
		}
		return []string{"vm " + v + " " + g.often("migrate", "relocate") + " " + other}
	case 26:
		if v == "" {
			return nil
		}
		other := g.anyHost()
		g.todo = append(g.todo, repair{g.at + time.Duration(g.Int64N(int64(12*time.Second))).Round(time.Millisecond), g.pick("work "+v+" cancel", "agent "+h+" kill", "power "+h+" off", "network "+other+" off", "libvirt "+h+" stop")})
		g.later("power " + h + " on")
		g.later("network " + other + " on")
		g.later("libvirt " + h + " start")
		return []string{"vm " + v + " migrate " + other}
	case 27:
		return with("maintenance "+h+" "+g.pick("on", "force"), "maintenance "+h+" off")
	case 0, 1, 2:
		return with("power "+h+" off", "power "+h+" on")
	case 3, 4, 5:
		return with("network "+h+" off", "network "+h+" on")
	case 6:
		return with("freeze "+h, "thaw "+h)
	case 7:
		return []string{"agent " + h + " kill"}
	case 8:
		return with("agent "+h+" stop", "agent "+h+" start")
	case 9:
		return with("libvirt "+h+" stop", "libvirt "+h+" start")
	case 10:
		return with("storage "+h+" off", "storage "+h+" on")
	case 11:
		g.later("bmc " + h + " on")
		return []string{"bmc " + h + " " + g.pick("off", "lies", "errors", "slow 2s"), g.pick("power ", "network ") + h + " off"}
	case 12:
		return with("manager "+m+" kill", "manager "+m+" start")
	case 13:
		return with("manager "+m+" isolate", "manager "+m+" heal")
	case 14:
		return with("manager "+m+" freeze", "manager "+m+" thaw")
	case 15:
		return with("manager "+m+" disk "+g.pick("stall", "full"), "manager "+m+" disk ok")
	case 16:
		return with("leader kill", "manager "+m+" start")
	case 17:
		return g.switchDies()
	case 18:
		return with("partition "+h+" "+m+g.pick("", " one-way"), "heal "+h+" "+m)
	case 19:
		other := g.anyHost()
		if v == "" || other == h {
			return nil
		}
		return []string{"vm " + v + " move " + other}
	case 20:
		return []string{g.pick("reboot ", "shutdown ") + h}
	case 24:
		return g.writes(v)
	case 21:
		return with("maintenance "+h+" on", "maintenance "+h+" off")
	default:
		if v == "" {
			return nil
		}
		return []string{"vm " + v + " " + g.pick("kill", "kill", "guest-shutdown", "stop", "start", "hang", "define")}
	}
}

// switchDies cuts off many hosts at once.
func (g *maker) switchDies() []string {
	var out []string
	share := 2 + g.IntN(3)
	for i, h := range g.f.Hosts {
		if i%share == 0 {
			out = append(out, "network "+h.Name+" off")
			g.later("network " + h.Name + " on")
		}
	}
	return out
}
