package sim

import (
	"context"
	"fmt"
	"slices"
	"time"

	"lifeboat/exchange"
	"lifeboat/fsm"
	"lifeboat/fsm/logpb"
	"lifeboat/sim/scenario"
)

// Run runs a scenario to its end and says what came of it. The error is that of
// ctx, whose end ends the run.
func Run(ctx context.Context, f *scenario.File, seed uint64) (*Result, error) {
	w := newWorld(f, seed)
	w.ended = ctx.Done()
	w.live()
	if w.cut {
		return nil, context.Cause(ctx)
	}
	return w.result(seed), nil
}

// live is the world from its first moment to its last.
func (w *World) live() {
	f := w.file
	if !w.settle() {
		return
	}
	for _, s := range f.Steps {
		w.run(w.now + s.After)
		for _, c := range s.Commands {
			if !w.done {
				w.do(c)
			}
		}
	}
	w.run(w.now + f.Until)
	if !w.done {
		w.atTheEnd()
	}
}

const (
	settleLimit = 10 * time.Minute
	settleStep  = 250 * time.Millisecond
	// settled is how long the world goes on once everything is in place, so
	// that nothing at zero is fresh.
	settled = 5 * time.Second
)

// stage is one of the things that must be in place before a scenario begins.
type stage struct {
	what  string
	begin func()
	ready func(*fsm.State) bool
}

// powerOn boots all hosts, with what runs there.
func (w *World) powerOn() {
	for _, h := range w.hosts {
		h.powerOn(true)
		for _, id := range h.ids {
			if d := h.domains[id]; !d.g.spec.Off {
				d.life++
				h.run(d, 1)
			}
		}
	}
}

// settle lets the world begin: all is up, the VMs run, are protected and their
// definitions known, the leases are armed. Then the scenario's clock starts.
func (w *World) settle() bool {
	if !w.shared {
		w.powerOn()
	}
	for _, m := range w.managers {
		if !m.up {
			m.start()
		}
	}
	w.managers[0].lead(1, w.managers[1:])
	w.after(raftTick, w.raftTicks)
	stages := []stage{
		{"all managers and hosts are up", func() {}, w.allUp},
		{"the policy and the fence levels are set", func() { w.setPolicy(); w.setAllLevels() }, w.leased},
		{"the VMs are protected", w.protectAll, func(s *fsm.State) bool { return w.leased(s) && w.protected(s) }},
		{"the rules are written", w.writeRules, func(*fsm.State) bool { return w.toWrite == 0 }},
	}
	if w.shared { // see adopt
		stages = []stage{
			{"the policy is set", w.setPolicy, func(*fsm.State) bool { return w.policySet }},
			{"all managers and hosts are up", w.powerOn, w.allUp},
			{"the VMs are protected", func() {}, func(s *fsm.State) bool { return w.leased(s) && w.protected(s) }},
			{"the rules are written", w.writeRules, func(*fsm.State) bool { return w.toWrite == 0 }},
		}
	}
	for _, stage := range stages {
		stage.begin()
		for deadline := w.now + settleLimit; !stage.ready(w.truth.State()); {
			if w.shared {
				hugePages() // the heap has grown
			}
			if w.run(w.now + settleStep); w.done {
				return false
			}
			if w.now > deadline {
				w.violate("set-up", nil, "within %s it did not come about that %s", settleLimit, stage.what)
				return false
			}
		}
	}
	w.settled = true
	w.run(w.now + settled)
	w.zero = w.now
	w.story.lines = nil
	w.book.zero()
	return !w.done
}

func (w *World) allUp(s *fsm.State) bool {
	up := 0
	for _, n := range s.Nodes() {
		if n.State == fsm.NodeUp {
			up++
		}
	}
	for _, h := range s.Hosts() {
		if h.Status != fsm.Up {
			return false
		}
	}
	return up == len(w.managers) && s.CountHosts() == len(w.hosts) && s.CountVMs() == len(w.vms)
}

func (w *World) setPolicy() {
	set := &logpb.PolicySet{}
	if !slices.ContainsFunc(w.file.Settings, func(x fsm.Setting) bool { return x.Key == "cpu_overcommit" }) {
		set.Settings = append(set.Settings, &logpb.Setting{Key: "cpu_overcommit", Value: "1"}) // as the format says
	}
	for _, x := range w.file.Settings {
		set.Settings = append(set.Settings, &logpb.Setting{Key: x.Key, Value: x.Value})
	}
	if w.ordinary() {
		set.Settings = append(set.Settings, &logpb.Setting{Key: "protect_default", Value: "true"})
	}
	if w.policySet = len(set.Settings) == 0; w.policySet {
		return
	}
	w.operate("settings", &logpb.Command{Body: &logpb.Command_PolicySet{PolicySet: set}}, func(err error) {
		if w.policySet = true; err != nil {
			w.violate("set-up", nil, "the settings are refused: %v", err)
		}
	})
}

// ordinary: no VM of this large world has a policy of its own, so that all can be
// protected by default.
func (w *World) ordinary() bool {
	usual := scenario.DefaultVM("", "")
	return w.shared && !slices.ContainsFunc(w.vms, func(g *guest) bool {
		return g.spec.HA != usual.HA || g.spec.Priority != usual.Priority || g.spec.MaxRestart != usual.MaxRestart || g.spec.MaxRelocate != usual.MaxRelocate || g.spec.Stays || g.spec.NoLive
	})
}

func (w *World) setAllLevels() {
	for _, h := range w.hosts {
		w.setLevels(h)
	}
}

func (w *World) setLevels(h *host) {
	c := &logpb.HostFenceLevels{Host: h.name}
	for _, l := range h.levels() {
		level := &logpb.FenceLevel{Driver: l}
		if l == bmcDriver {
			level.Address, level.Identity = "bmc-"+h.name, "machine-"+h.name
		}
		c.Levels = append(c.Levels, level)
	}
	w.operate("fence levels of "+h.name, &logpb.Command{Body: &logpb.Command_HostFenceLevels{HostFenceLevels: c}}, nil)
}

func (w *World) leased(s *fsm.State) bool {
	for _, h := range s.Hosts() {
		if len(h.Fence) != len(w.byHost[string(h.ID)].spec.Fence) || exchange.WantsLease(s, h) && h.Lease == nil {
			return false
		}
	}
	return true
}

func (w *World) protectAll() {
	for _, g := range w.vms {
		if g.spec.HA != "none" {
			w.protect(g, "protect "+g.name, nil)
		}
	}
}

// protect puts a VM under HA with the policy of its spec.
func (w *World) protect(g *guest, text string, done func(error)) {
	restart, relocate := uint32(g.spec.MaxRestart), uint32(g.spec.MaxRelocate)
	back, live := !g.spec.Stays, !g.spec.NoLive
	w.operate(text, &logpb.Command{Body: &logpb.Command_VmProtect{VmProtect: &logpb.VMProtect{Vm: g.id[:], Protect: &logpb.Protection{
		On: true, Ha: g.spec.HA, Priority: g.spec.Priority, MaxRestart: &restart, MaxRelocate: &relocate, Failback: &back, LiveMigration: &live}}}}, done)
}

func (w *World) protected(s *fsm.State) bool {
	for _, g := range w.vms[w.ready:] { // one that was ready stays so
		v, _ := s.VM(fsm.VMID(g.id))
		if v == nil || g.spec.HA != "none" && (!v.Protected() || v.Wanted == g.spec.Off || v.Spec == nil || !v.Spec.Defines()) {
			return false
		}
		w.ready++
	}
	return true
}

// adopt is what makes a host of a large world ready, in the moment in which it has
// registered and as if all had been said and ordered then: definitions, levels,
// protection. A hundred VMs of each of ten thousand hosts one after the other are
// most of the work of an hour.
func (t *term) adopt(h *host) {
	w := t.m.w
	w.setLevels(h)
	protected := w.truth.State().Policy.ProtectDefault
	specs := &logpb.VMSpecs{Host: h.name, Epoch: t.state().Host(fsm.HostID(h.name)).Epoch}
	for _, id := range h.ids {
		d := h.domains[id]
		spec := h.specOf(d)
		c := exchange.Spec(spec)
		if d.g.spec.HA != "none" {
			c.Definition = spec.Definition
		}
		if d.g.spec.HA != "none" && !protected {
			w.protect(d.g, "protect "+d.g.name, nil)
		}
		specs.Specs = append(specs.Specs, c)
	}
	t.propose("host/"+h.name, &logpb.Command{Body: &logpb.Command_VmSpecs{VmSpecs: specs}}, ignore)
}

// operation is a command of an operator on its way to the leader.
type operation struct {
	run func(t *term, done func(error))
}

const (
	operatorRetry = 200 * time.Millisecond
	operatorLimit = 20 * time.Second
)

// operate has an operator give a command, which is repeated while nobody leads.
// done is told how it ended; nil notes a refusal only. Before zero the leader judges
// nothing: what the file writes down is so, also what a policy of it would refuse.
func (w *World) operate(text string, cmd *logpb.Command, done func(error)) {
	w.operation(text, &operation{func(t *term, end func(error)) {
		if w.zero == 0 {
			t.record(asked{cmd, end})
			return
		}
		t.write(asked{cmd, end})
	}}, done)
}

func (w *World) operation(text string, op *operation, done func(error)) {
	limit := w.now + operatorLimit
	end := func(err error) {
		if err != nil {
			w.refused = append(w.refused, refusal{text, err.Error()})
			w.note(nil, "refused: %s: %v", text, err)
		}
		if done != nil {
			done(err)
		}
	}
	var try func()
	try = func() {
		var t *term
		for _, m := range w.managers {
			if m.works() && m.wire() && m.term != nil && (t == nil || m.term.number > t.number) {
				t = m.term
			}
		}
		if t == nil {
			if w.now >= limit {
				end(fmt.Errorf("there is no leader"))
				return
			}
			w.after(operatorRetry, try)
			return
		}
		op.run(t, func(err error) {
			if err == errUnknown && w.now < limit {
				w.after(operatorRetry, try)
				return
			}
			end(err)
		})
	}
	try()
}
