package sim

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"lifeboat/fsm"
	"lifeboat/hypervisor"
	"lifeboat/sim/scenario"
)

// What must always hold, by the numbers of the contract (docs/simulator.md).
// Rule 1 is checked where a guest begins to run (guest.go), the second half of
// 3 where it is started by order, rule 6 where an entry is applied (raft.go).
// Rule 4 is checked when a start or a move is ordered and at the end (rules.go).

// smallWorld is up to how many hosts and VMs the whole state is checked after
// every entry that tells something; a larger one is checked every minute.
const smallWorld = 500

// small reports whether the world is one.
func (w *World) small() bool { return len(w.hosts)+len(w.vms) <= smallWorld }

// checkCommit looks at the state after an entry. told: the audit has grown.
func (w *World) checkCommit(before, after *fsm.State, told bool) {
	w.book.newAlerts(w, after)
	if told && after.CountRules() > 0 {
		w.noteRules(after)
	}
	minute := after.Time/int64(time.Minute) != before.Time/int64(time.Minute)
	switch {
	case w.small() && (minute || told):
		if err := after.Check(); err != nil {
			w.violate("3 (the state holds together)", nil, "%v", err)
		}
	case minute && !w.small():
		w.inspected()
		w.inspect(after)
		for _, g := range w.vms {
			if len(g.on) > 1 {
				w.oneCopy(g)
			}
		}
	}
}

// inspect checks a state of a large world while the world goes on: a state never
// changes.
func (w *World) inspect(s *fsm.State) {
	found := make(chan error, 1)
	w.inspection = found
	go func() { found <- s.Check() }()
}

// inspected waits for what the last inspection has found.
func (w *World) inspected() {
	if w.inspection == nil {
		return
	}
	if err := <-w.inspection; err != nil {
		w.violate("3 (the state holds together)", nil, "a minute ago: %v", err)
	}
	w.inspection = nil
}

// granted is rule 2, when a start is ordered: nothing of the VM lives, but for
// what was copied by hand.
func (w *World) granted(vm string) {
	g := w.byVM[vm]
	if g == nil {
		return
	}
	for _, d := range w.copies(g) {
		if d.byHand || w.book.excused[d.h.name] {
			continue
		}
		w.violate("2 (proof before start)", []string{vm, d.h.name}, "a start of VM %s is ordered while it lives on %s", vm, d.h.name)
	}
}

// fenced is rule 2, when a host is proven dead.
func (w *World) fenced(name string) {
	h := w.byHost[name]
	if h == nil || w.book.excused[name] {
		return
	}
	s := w.truth.State()
	for _, id := range h.ids {
		d := h.domains[id]
		if v, owner := s.VM(fsm.VMID(id)); d.live() && !d.byHand && v != nil && v.Protected() && string(owner.ID) == name {
			w.violate("2 (proof before start)", []string{d.g.name, name}, "host %s is declared proven dead while VM %s lives there", name, d.g.name)
		}
	}
}

// sawCopy: lifeboat knows of a copy made by hand.
func (w *World) sawCopy(vm string) {
	if g := w.byVM[vm]; g != nil && g.copySeen < 0 {
		g.copySeen = w.now
		w.after(copyGrace, func() { w.oneCopy(g) })
	}
}

// atTheEnd checks what must hold before `until`.
func (w *World) atTheEnd() {
	s := w.truth.State()
	w.inspected()
	if err := w.truth.Check(); err != nil {
		w.violate("3 (the state holds together)", nil, "%v", err)
	}
	for _, g := range w.vms {
		w.runs(s, g)
	}
	for _, k := range w.errorsWithoutAlert(s) {
		w.violate("5 (work never ends silently)", []string{k}, "VM %s is in error and no alert says so", k)
	}
	w.rulesHold(s)
	w.sameEverywhere()
}

func (w *World) errorsWithoutAlert(s *fsm.State) (vms []string) {
	for _, h := range s.Hosts() {
		for i := range h.VMs {
			v := &h.VMs[i]
			if v.Error != "" && s.OpenAlert(fsm.VMAlert(v, "error")) == nil {
				vms = append(vms, v.Name)
			}
		}
	}
	return vms
}

// sameEverywhere is rule 6 for the managers that have applied everything.
func (w *World) sameEverywhere() {
	want := w.truth.State()
	for _, m := range w.managers {
		if s := m.state(); m.up && s.Index == want.Index && s.Sum() != want.Sum() {
			w.violate("6 (equal states)", []string{m.name}, "the state of %s at index %d is another than that of the others", m.name, s.Index)
		}
	}
}

// runs is rule 7: what is wanted on and can run does.
func (w *World) runs(s *fsm.State, g *guest) {
	v, owner := s.VM(fsm.VMID(g.id))
	if v == nil || !v.Protected() || !v.Wanted || v.Error != "" || !s.Armed || g.crashLoop || !w.led() {
		return
	}
	all := w.copies(g)
	if len(all) > 0 {
		d := all[0]
		switch {
		case d.state == hypervisor.StateRunning, d.reason == hypervisor.ReasonIOError && !w.anyFor(s, g, d.h):
			return
		case d.h.frozen, d.reason == hypervisor.ReasonIOError && (!d.h.libvirt || !d.h.agent.runs || !d.h.wire() || owner.Status == fsm.Alert):
			return // it lives as far as anybody can prove
		case d.reason == hypervisor.ReasonWatchdog && s.GuestAlert(v) != nil && (v.Guest().Watch == 0 || s.GaveUpOnGuest(v) || w.heldBack(s, v)):
			return // people know that it is left as it is
		}
		w.violate("7 (what can run does)", []string{g.name, d.h.name}, "VM %s is wanted on and %s (%s) on %s at the end", g.name, d.state, d.reason, d.h.name)
		return
	}
	if why := w.cannotRun(s, g, v, owner); why == "" {
		about := []string{g.name, string(owner.ID)}
		doing := "nobody does anything"
		if x := s.Work(v.Work); x != nil {
			doing = fmt.Sprintf("work %d is %s: %s", x.ID, x.Step, x.Reason)
		}
		w.violate("7 (what can run does)", about, "VM %s is wanted on, could run, and does not at the end; its owner is %s (%s), %s", g.name, owner.ID, owner.Status, doing)
	}
}

// heldBack: too many guests hang at once, or no other host can take it.
func (w *World) heldBack(s *fsm.State, v *fsm.VM) bool {
	text := s.GuestAlert(v).Text
	return strings.Contains(text, "brake_min") || strings.Contains(text, "no other host can take it")
}

// led reports whether somebody leads, and may: when nobody has led for longer than
// a clock may be ahead, an operator must accept the time first (S21).
func (w *World) led() bool {
	return slices.ContainsFunc(w.managers, func(m *manager) bool {
		return m.term != nil && m.works() && m.raft.leads && m.term.wall()-m.state().Time <= fsm.MaxClockStep
	})
}

// cannotRun is the world's reason why a VM need not run; "" when there is none.
func (w *World) cannotRun(s *fsm.State, g *guest, v *fsm.VM, owner *fsm.Host) string {
	if g.faults.Start == scenario.Always && g.faults.Host == "" {
		return "it can start nowhere"
	}
	if owner.Frozen() && !v.Gone {
		return "its host is to come back (shutdown_policy)"
	}
	h := w.byHost[string(owner.ID)]
	if !v.Gone && h != nil && !w.provable(s, h, owner) && !w.usable(s, h) {
		return "nothing proves its host dead"
	}
	if !v.Gone && h != nil && g.faults.Stop != 0 {
		return "its host cannot stop it"
	}
	if why := w.searched(s, v); why != "" {
		return why
	}
	if why := w.gated(s, v); why != "" {
		return why
	}
	if g.spec.Local {
		if x := w.byHost[g.diskOn]; x == nil || !w.usable(s, x) {
			return "its disk is on a host that is not there"
		}
		return ""
	}
	if !w.anyFor(s, g, nil) {
		return "there is no room, or it has failed to start wherever there is"
	}
	return ""
}

// searched: a host that could have the VM neither reports nor can be proven dead,
// and the work says which.
func (w *World) searched(s *fsm.State, v *fsm.VM) string {
	x := s.Work(v.Work)
	if x == nil || x.Step != fsm.Investigating && !strings.Contains(x.Reason, "was being migrated to host") {
		return ""
	}
	for _, f := range s.Hosts() {
		h := w.byHost[string(f.ID)]
		if h == nil || f.Status == fsm.Removed || f.Status == fsm.Up && h.libvirt || f.HA == fsm.HAFenced || !f.Frozen() && (w.usable(s, h) || w.provable(s, h, f)) {
			continue
		}
		if strings.Contains(x.Reason, " "+h.name+" (") || strings.Contains(x.Reason, " more:") {
			return "it may be on host " + h.name
		}
	}
	return ""
}

// provable reports whether something could prove a silent host dead.
func (w *World) provable(s *fsm.State, h *host, x *fsm.Host) bool {
	if x.HA == fsm.HAFenced {
		return true
	}
	if h.wire() && !h.frozen && (!h.agent.runs || x.Status == fsm.Up) {
		return false // it reports, or is seen alive without its agent: it is left alone
	}
	bmc := x.HasLevel(bmcDriver) && (h.bmc == bmcOn || h.bmc == bmcSlow && h.bmcDelay < s.Policy.FenceTimeout/3 || h.bmc == bmcLies && h.state == machineOff)
	braked := false
	for range s.Brakes() {
		braked = true
	}
	if bmc && (!braked || h.state == machineOff) {
		return true
	}
	return x.Lease != nil && s.Policy.ProvesDeath(x.Lease.Watchdog)
}

// usable reports whether a host could start something.
func (w *World) usable(s *fsm.State, h *host) bool {
	x := s.Host(fsm.HostID(h.name))
	if x == nil || x.Status != fsm.Up || x.Resource != fsm.Enabled || !h.wire() || h.frozen || !h.libvirt || !h.agent.runs {
		return false
	}
	return s.Policy.PlaceUnfenced || x.Fenceable(s.Policy)
}

// anyFor reports whether a host other than one has room for a VM, and has not
// failed to start it as often as it may.
func (w *World) anyFor(s *fsm.State, g *guest, not *host) bool {
	v, _ := s.VM(fsm.VMID(g.id))
	group := w.startsWith(s, v)
	spent := func(h *host) bool {
		for _, v := range group {
			x := s.Work(v.Work)
			restarts, _ := s.Policy.Limits(v)
			if x != nil && x.TriedOn(fsm.HostID(h.name)) > restarts || s.RuleAgainst(v.ID, s.Host(fsm.HostID(h.name))) != "" {
				return true
			}
		}
		return false
	}
	memory, cpus := uint64(0), 0
	for _, v := range group {
		x := w.byID[hypervisor.UUID(v.ID)]
		memory += x.spec.Memory
		cpus += x.spec.CPUs
	}
	for _, h := range w.hosts {
		if h == not || !w.usable(s, h) || spent(h) || !h.storage || g.spec.CPUs > h.spec.CPUs ||
			g.faults.Start == scenario.Always && g.faults.Host == h.name {
			continue
		}
		used, busy := uint64(0), 0
		for _, id := range h.ids {
			if d := h.domains[id]; d.state.Active() {
				used += d.g.spec.Memory
				busy += d.g.spec.CPUs
			}
		}
		hasCPUs, has := s.Policy.Capacity(s.Host(fsm.HostID(h.name)).Inventory)
		if used+memory <= has && (hasCPUs == 0 || busy+cpus <= int(hasCPUs)) {
			return true
		}
	}
	return false
}
