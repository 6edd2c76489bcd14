package sim

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"lifeboat/fsm"
	"lifeboat/fsm/logpb"
	"lifeboat/ha"
	"lifeboat/hypervisor"
	"lifeboat/sim/scenario"
)

// do carries out one command of the scenario.
func (w *World) do(c scenario.Command) {
	act := actions()[c.Form]
	if act == nil {
		w.violate("commands", nil, "line %d: %s is not carried out by this simulator", c.Line, c)
		return
	}
	x := step{World: w, text: c.Text, rule: c.Rule}
	for _, a := range c.Args {
		x.words = append(x.words, a)
		h, m, v := w.byHost[a], w.byName[a], w.byVM[a]
		switch {
		case h != nil && x.h == nil:
			x.h = h
		case m != nil && x.m == nil:
			x.m = m
		case v != nil && x.g == nil:
			x.g = v
		}
	}
	x.rouse()
	about := slices.Clone(c.Args)
	w.note(about, "* %s", c.Text)
	act(&x)
	// What a step breaks is seen at once.
	if x.g != nil {
		w.oneCopy(x.g)
	}
}

// step is a command with what its words name.
type step struct {
	*World
	text  string
	words []string // its names and values
	h     *host
	m     *manager
	g     *guest
	rule  *scenario.Rule // of `rule add`
}

// last is the word that says which way, in forms like "power H on|off": those
// are part of the form.
type action func(*step)

func actions() map[string]action {
	all := map[string]action{
		"power on":  func(x *step) { x.h.powerOn(false) },
		"power off": func(x *step) { x.fault(); x.h.powerOff("its power failed") },

		"network on":  func(x *step) { x.h.network = true },
		"network off": func(x *step) { x.fault(); x.h.network = false },

		"partition":         func(x *step) { x.cut(true, true) },
		"partition one-way": func(x *step) { x.cut(true, false) },
		"heal":              func(x *step) { x.cut(false, true) },

		"bmc on":     func(x *step) { x.h.setBMC(bmcOn, 0) },
		"bmc off":    func(x *step) { x.h.setBMC(bmcOff, 0) },
		"bmc lies":   func(x *step) { x.h.setBMC(bmcLies, 0) },
		"bmc errors": func(x *step) { x.h.setBMC(bmcErrors, 0) },
		"bmc slow":   func(x *step) { x.h.setBMC(bmcSlow, x.duration(1)) },

		"storage on":  func(x *step) { x.h.setStorage(true) },
		"storage off": func(x *step) { x.fault(); x.h.setStorage(false) },
		"freeze":      func(x *step) { x.fault(); x.h.freeze() },
		"thaw":        func(x *step) { x.h.thaw() },

		"agent stop":    func(x *step) { x.fault(); x.h.agent.stop(x.h) },
		"agent kill":    func(x *step) { x.fault(); x.h.agent.kill(x.h) },
		"agent start":   func(x *step) { x.h.agent.start(x.h) },
		"libvirt stop":  func(x *step) { x.fault(); x.h.libvirt = false },
		"libvirt start": func(x *step) { x.h.startLibvirt() },
		"shutdown":      func(x *step) { x.fault(); x.h.shutdown(false) },
		"reboot":        func(x *step) { x.fault(); x.h.shutdown(true) },

		"manager kill":       func(x *step) { x.m.kill() },
		"manager start":      func(x *step) { x.m.start() },
		"manager leave":      func(x *step) { x.m.leave() },
		"manager isolate":    func(x *step) { x.m.wired = false },
		"manager heal":       func(x *step) { x.m.wired = true },
		"manager freeze":     func(x *step) { x.m.frozen = x.m.up },
		"manager thaw":       func(x *step) { x.m.thaw() },
		"manager disk stall": func(x *step) { x.m.disk = diskStalls },
		"manager disk full":  func(x *step) { x.m.disk = diskFull },
		"manager disk ok":    func(x *step) { x.m.disk = diskOK },
		"clock":              func(x *step) { x.m.offset += x.signed(1) },
		"leader kill":        func(x *step) { x.leaderKill() },
	}
	for form, act := range operatorActions() {
		all[form] = act
	}
	for form, act := range guestActions() {
		all[form] = act
	}
	return all
}

// fault notes that the step breaks its host or VM.
func (x *step) fault() {
	switch {
	case x.g != nil:
		x.faultOnVM(x.g)
	case x.h != nil:
		x.faultOn(x.h)
	}
}

func (x *step) duration(i int) time.Duration {
	d, _ := time.ParseDuration(x.words[i]) // checked by the parser
	return d
}

func (x *step) signed(i int) time.Duration {
	d, _ := time.ParseDuration(strings.TrimPrefix(x.words[i], "+"))
	return d
}

// cut stops, or lets through again, what one says to the other.
func (x *step) cut(off, both bool) {
	a, b := x.words[0], x.words[1]
	set := func(k [2]string) {
		if off {
			x.cuts[k] = true
		} else {
			delete(x.cuts, k)
		}
	}
	set([2]string{a, b})
	if both {
		set([2]string{b, a})
	}
}

func (x *step) leaderKill() {
	var leader *manager
	for _, m := range x.managers {
		if m.up && m.raft.leads && (leader == nil || m.raft.term > leader.raft.term) {
			leader = m
		}
	}
	if leader != nil {
		leader.kill()
	}
}

func (h *host) startLibvirt() {
	if h.running() && !h.libvirt {
		h.libvirt = true
		h.look(hypervisor.UUID{})
	}
}

// shutdown is ordered by the operating system: the agent is stopped, then the
// guests are.
func (h *host) shutdown(again bool) {
	if !h.running() || h.stopping {
		return
	}
	h.stopping = true
	h.agent.goesDown(h, again)
	h.stopGuests(again, time.Second)
}

// stopGuests is what the operating system does once the agent has ended, or has had
// the time for it: systemd stops them one after the other.
func (h *host) stopGuests(again bool, in time.Duration) {
	const unitLimit = 15 * time.Minute // TimeoutStopSec of the agent's unit
	begun := h.clock()
	var look func()
	look = func() {
		if h.agent.runs && h.clock()-begun < unitLimit {
			h.here(in, look)
			return
		}
		for _, id := range slices.Clone(h.ids) {
			if d := h.domains[id]; d.state == hypervisor.StateRunning {
				h.shutdownGuest(d)
			}
		}
		h.here(h.w.file.World.Stop+time.Second, func() {
			if again {
				h.reset("it reboots")
			} else {
				h.powerOff("it was shut down")
			}
		})
	}
	h.here(in, look)
}

func operatorActions() map[string]action {
	hostControl := func(n uint32) action {
		return func(x *step) {
			x.operate(x.text, &logpb.Command{Body: &logpb.Command_HostControl{HostControl: &logpb.HostControl{Host: x.h.name, Action: n}}}, nil)
		}
	}
	arm := func(on, ignore bool) action {
		return func(x *step) {
			x.operate(x.text, &logpb.Command{Body: &logpb.Command_Arm{Arm: &logpb.Arm{Armed: on, Ignore: ignore}}}, nil)
		}
	}
	return map[string]action{
		"maintenance on":   hostControl(fsm.HostMaintenanceOn),
		"maintenance off":  hostControl(fsm.HostMaintenanceOff),
		"host enable":      hostControl(fsm.HostEnable),
		"host disable":     hostControl(fsm.HostDisable),
		"host remove":      hostControl(fsm.HostRemove),
		"host add":         (*step).hostAdd,
		"confirm-dead":     (*step).confirmDead,
		"ha arm":           arm(true, false),
		"ha disarm":        arm(false, false),
		"ha disarm freeze": arm(false, false),
		"ha disarm ignore": arm(false, true),
		"maintenance force": func(x *step) {
			x.operate(x.text, &logpb.Command{Body: &logpb.Command_HostControl{HostControl: &logpb.HostControl{Host: x.h.name, Action: fsm.HostMaintenanceOn, Force: true}}}, nil)
		},
		"set": func(x *step) {
			x.operate(x.text, &logpb.Command{Body: &logpb.Command_PolicySet{PolicySet: &logpb.PolicySet{
				Settings: []*logpb.Setting{{Key: x.words[0], Value: x.words[1]}}}}}, nil)
		},
		"snapshot save":    (*step).snapshotSave,
		"snapshot restore": (*step).snapshotRestore,
		"work cancel":      (*step).workCancel,
		"rule add":         (*step).ruleAdd,
		"rule remove":      (*step).ruleRemove,
	}
}

// hostAdd has a new machine with an agent join; one that is known already is
// started again.
func (x *step) hostAdd() {
	if x.h != nil {
		x.h.powerOn(true)
		x.h.agent.start(x.h)
		return
	}
	h := x.addHost(scenario.DefaultHost(x.words[0]))
	x.byHost[h.name] = h
	slices.SortFunc(x.hosts, func(a, b *host) int { return ha.Natural(a.name, b.name) })
	h.powerOn(true)
	x.levelsOnceKnown(h)
}

// levelsOnceKnown sets the fence levels of a new host when it has registered.
func (w *World) levelsOnceKnown(h *host) {
	if w.truth.State().Host(fsm.HostID(h.name)) == nil {
		w.after(time.Second, func() { w.levelsOnceKnown(h) })
		return
	}
	w.setLevels(h)
}

// confirmDead is an operator's word, refused while anything is heard (S24). One
// that is not true is an operator's error.
func (x *step) confirmDead() {
	h := x.h
	x.operation(x.text, &operation{func(t *term, end func(error)) {
		s := t.state()
		f := s.Host(fsm.HostID(h.name))
		if f == nil {
			end(&rejected{"there is no such host"})
			return
		}
		if c := t.hosts[f.ID]; c != nil && c.heard > 0 && t.mono()-c.heard-h.drift() < s.Policy.SuspectAfter() {
			end(&rejected{fmt.Sprintf("host %s was heard %.1f s ago: it is not dead", h.name, (t.mono() - c.heard).Seconds())})
			return
		}
		for _, id := range h.ids {
			d := h.domains[id]
			if v, owner := s.VM(fsm.VMID(id)); d.live() && v != nil && v.Protected() && string(owner.ID) == h.name {
				x.violate("operator's error", []string{h.name, d.g.name}, "%s: VM %s lives there", x.text, d.g.name)
				return
			}
		}
		t.propose("operator/sim", &logpb.Command{Body: &logpb.Command_HostFenced{HostFenced: &logpb.HostFenced{Host: h.name, Epoch: f.Epoch,
			Proof: &logpb.Proof{Kind: uint32(fsm.ProofOperator), By: "operator", Detail: "declared dead by hand"}}}},
			func(_ fsm.Result, err error) { end(err) })
	}}, nil)
}

func (x *step) workCancel() {
	x.operation(x.text, &operation{func(t *term, end func(error)) {
		v, _ := t.state().VM(fsm.VMID(x.g.id))
		if v == nil || v.Work == 0 {
			end(&rejected{"VM " + x.g.name + " has no open work"})
			return
		}
		t.propose("operator/sim", &logpb.Command{Body: &logpb.Command_WorkUpdate{WorkUpdate: &logpb.WorkUpdate{Work: uint64(v.Work), Action: fsm.WorkCancel}}},
			func(_ fsm.Result, err error) { end(err) })
	}}, nil)
}

func number(s string) int {
	n, _ := strconv.Atoi(s) // checked by the parser
	return n
}
