package fsm

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"lifeboat/fsm/logpb"
)

// Gate is when a VM counts as ready for those that depend on it. The numbers are
// those of the log.
type Gate uint8

const (
	GateRunning Gate = iota // it runs
	GateOrder               // its start is ordered
	GateAfter               // it has run for some time
	GateAgent               // its guest's agent answers
)

// DefaultGateTimeout is for how long a VM is waited for that says nothing else.
const DefaultGateTimeout = 10 * time.Minute

const (
	maxGate         = 24 * time.Hour
	maxDependencies = 64
)

// StartOrder is when a VM may start, and when those may that wait for it.
type StartOrder struct {
	DependsOn []VMID // it starts when these are ready
	Gate      Gate
	After     time.Duration // of GateAfter
	Timeout   time.Duration // others wait for it no longer than this; 0 = DefaultGateTimeout
}

// Order is a VM's place in the order of starts, with defaults filled in.
func (v *VM) Order() StartOrder {
	o := StartOrder{}
	if v.Policy != nil && v.Policy.Order != nil {
		o = *v.Policy.Order
	}
	if o.Timeout == 0 {
		o.Timeout = DefaultGateTimeout
	}
	return o
}

// GateText is the gate as operators write it: running, order, agent, or 30s.
func (o StartOrder) GateText() string {
	switch o.Gate {
	case GateOrder:
		return "order"
	case GateAgent:
		return "agent"
	case GateAfter:
		return o.After.String()
	}
	return "running"
}

// VMSetting is something that `lifeboat vm set` changes.
type VMSetting struct {
	Key string
	Doc string
	set func(*vmEdit, string) string // says what is wrong with the value
}

// vmEdit is what a VMSet makes of a VM's policy.
type vmEdit struct {
	t     *tx
	vm    *VM
	p     *logpb.Protection
	order *StartOrder  // nil = as it is
	guest *GuestHealth // the same
}

// VMSettings lists what `lifeboat vm set` changes, in the order it is shown.
func VMSettings() []VMSetting {
	limit := func(key string, at func(*logpb.Protection) **uint32) func(*vmEdit, string) string {
		return func(e *vmEdit, value string) string {
			n, err := strconv.ParseUint(value, 10, 32)
			if err != nil || n > 1000 {
				return fmt.Sprintf("%s: %q must be a whole number between 0 and 1000", key, value)
			}
			x := uint32(n)
			*at(e.p) = &x
			return ""
		}
	}
	return []VMSetting{
		{"ha", "restart, always or none", func(e *vmEdit, value string) string {
			e.p.Ha = value
			return checkProtection(&logpb.Protection{Ha: value})
		}},
		{"priority", "lowest, low, medium, high or highest: who is restarted first", func(e *vmEdit, value string) string {
			e.p.Priority = value
			return checkProtection(&logpb.Protection{Priority: value})
		}},
		{"max_restart", "retries on a host after the first failed start", limit("max_restart", func(p *logpb.Protection) **uint32 { return &p.MaxRestart })},
		{"max_relocate", "other hosts tried after that, before the VM is in error", limit("max_relocate", func(p *logpb.Protection) **uint32 { return &p.MaxRelocate })},
		{"depends_on", "VMs that must be ready before it starts; none: it waits for nobody", (*vmEdit).dependsOn},
		{"gate", "when it is ready for those that depend on it: order (its start is ordered), running, or a time that it has run, like 30s", (*vmEdit).gate},
		{"gate_timeout", "for how long those that depend on it wait for it; they start without it then", (*vmEdit).gateTimeout},
		{"guest_health", "when its guest counts as hung and the VM is restarted: ping (its agent has fallen silent), watchdog (its watchdog has fired), both or none", (*vmEdit).guestHealth},
		{"guest_timeout", "for how long its guest's agent is silent before the guest counts as hung", func(e *vmEdit, value string) string {
			return e.guestTime("guest_timeout", value, minGuestTimeout, &e.watched().Timeout)
		}},
		{"guest_grace", "for how long after a start its guest's agent may be silent", func(e *vmEdit, value string) string {
			return e.guestTime("guest_grace", value, time.Second, &e.watched().Grace)
		}},
	}
}

// ordered is the order of starts to be changed.
func (e *vmEdit) ordered() *StartOrder {
	if e.order == nil {
		e.order = &StartOrder{}
		if p := e.vm.Policy; p != nil && p.Order != nil {
			*e.order = *p.Order
		}
	}
	return e.order
}

func (e *vmEdit) dependsOn(value string) string {
	o := e.ordered()
	o.DependsOn = nil
	if value == "" || value == "none" {
		return ""
	}
	for _, text := range strings.Split(value, ",") {
		id, err := ParseVMID(strings.TrimSpace(text))
		if err != nil {
			return fmt.Sprintf("depends_on: %q is not a UUID", text)
		}
		v, _ := e.t.s.VM(id)
		switch {
		case v == nil:
			return fmt.Sprintf("depends_on: there is no VM %s; `lifeboat vm list` shows them", id)
		case id == e.vm.ID:
			return fmt.Sprintf("depends_on: VM %s cannot wait for itself", v.Name)
		case slices.Contains(o.DependsOn, id):
			continue
		}
		if path := e.t.s.waitsFor(id, e.vm.ID, map[VMID]bool{}); path != nil {
			return fmt.Sprintf("depends_on: VM %s cannot wait for %s, which waits for it: %s", e.vm.Name, v.Name, strings.Join(append(path, e.vm.Name), " → "))
		}
		o.DependsOn = append(o.DependsOn, id)
	}
	if len(o.DependsOn) > maxDependencies {
		return fmt.Sprintf("depends_on: a VM waits for at most %d others", maxDependencies)
	}
	return ""
}

// waitsFor is how one VM depends on another, by the names on the way; nil when it
// does not.
func (s *State) waitsFor(from, to VMID, seen map[VMID]bool) []string {
	v, _ := s.VM(from)
	if v == nil || seen[from] {
		return nil
	}
	seen[from] = true
	for _, id := range v.Order().DependsOn {
		if id == to {
			return []string{v.Name}
		}
		if path := s.waitsFor(id, to, seen); path != nil {
			return append([]string{v.Name}, path...)
		}
	}
	return nil
}

func (e *vmEdit) gate(value string) string {
	o := e.ordered()
	switch value {
	case "running", "":
		o.Gate, o.After = GateRunning, 0
		return ""
	case "order":
		o.Gate, o.After = GateOrder, 0
		return ""
	case "agent":
		o.Gate, o.After = GateAgent, 0
		return ""
	}
	d, err := time.ParseDuration(value)
	if err != nil || d < 0 || d > maxGate {
		return fmt.Sprintf("gate: %q must be order, running, agent, or a time up to %s, like 30s", value, maxGate)
	}
	o.Gate, o.After = GateAfter, d
	return ""
}

func (e *vmEdit) gateTimeout(value string) string {
	d, err := time.ParseDuration(value)
	if err != nil || d < time.Second || d > maxGate {
		return fmt.Sprintf("gate_timeout: %q must be a time between 1s and %s", value, maxGate)
	}
	e.ordered().Timeout = d
	return ""
}

// vmSet changes how a protected VM is treated. It is an operator's word from then
// on: the domain's metadata does not undo it.
func (t *tx) vmSet(c *logpb.VMSet) string {
	if no := t.later(LevelPolicy); no != "" {
		return no
	}
	id, _ := vmID(c.Vm)
	old, h := t.s.VM(id)
	if old == nil {
		return fmt.Sprintf("there is no VM %s; `lifeboat vm list` shows them", id)
	}
	if old.ProtectedBy == Unprotected || old.ProtectedBy == OptedOut {
		return fmt.Sprintf("VM %s is not protected: lifeboat does not touch it; protect it with `lifeboat vm protect %s`", old.Name, old.Name)
	}
	v := *old
	e := &vmEdit{t: t, vm: &v, p: &logpb.Protection{On: true}}
	var text []string
	known := VMSettings()
	for _, s := range c.Settings {
		i := slices.IndexFunc(known, func(k VMSetting) bool { return k.Key == s.Key })
		if i < 0 {
			return fmt.Sprintf("a VM has no setting %q; `lifeboat vm set --help` lists them", s.Key)
		}
		if no := known[i].set(e, s.Value); no != "" {
			return no
		}
		text = append(text, s.Key+" = "+t.settingText(s))
	}
	if len(text) == 0 {
		return "nothing is to be set"
	}
	if w := t.s.Work(v.Work); w != nil && e.p.Ha == HANone.String() && handedOut(h, &v, w) {
		return fmt.Sprintf("VM %s is being started or stopped (work %d); wait until that has ended", v.Name, w.ID)
	}
	t.protect(&v, h.ID, ByOperator, e.p)
	if e.order != nil {
		p := v.HAPolicy()
		p.Order = e.order
		v.setPolicy(&p)
	}
	if e.guest != nil {
		watched := v.Guest().Watch != watchNothing
		p := v.HAPolicy()
		p.Guest = e.guest
		v.setPolicy(&p)
		t.assigned(h.ID) // its agent asks, or asks no more
		if watched && e.guest.Watch == watchNothing {
			t.guestSettled(&v, "nobody watches its guest")
		}
	}
	t.storeVM(h.ID, &v)
	t.event("VM.SET", Info, vmSubject(&v), "VM %s: %s", v.Name, strings.Join(text, ", "))
	return ""
}

// settingText is a value for people: VMs by their names.
func (t *tx) settingText(s *logpb.Setting) string {
	if s.Key != "depends_on" {
		return s.Value
	}
	var names []string
	for _, text := range strings.Split(s.Value, ",") {
		if id, err := ParseVMID(strings.TrimSpace(text)); err == nil {
			names = append(names, t.s.nameOf(id))
		}
	}
	if len(names) == 0 {
		return "none"
	}
	return strings.Join(names, ", ")
}

func orderToLog(p *VMPolicy) *logpb.StartOrder {
	if p == nil || p.Order == nil {
		return nil
	}
	o := &logpb.StartOrder{Gate: uint32(p.Order.Gate), AfterNs: int64(p.Order.After), TimeoutNs: int64(p.Order.Timeout)}
	for _, id := range p.Order.DependsOn {
		o.DependsOn = append(o.DependsOn, id[:])
	}
	return o
}

// orderFromLog gives a policy the order of a snapshot.
func orderFromLog(p *VMPolicy, o *logpb.StartOrder) *VMPolicy {
	if o == nil {
		return p
	}
	n := defaultVMPolicy()
	if p != nil {
		n = *p
	}
	n.Order = &StartOrder{Gate: Gate(o.Gate), After: time.Duration(o.AfterNs), Timeout: time.Duration(o.TimeoutNs)}
	for _, b := range o.DependsOn {
		id, _ := vmID(b)
		n.Order.DependsOn = append(n.Order.DependsOn, id)
	}
	return &n
}

// gated notes that work waits for the VMs that its VM depends on. The time of its
// gates runs from the first such note until it is granted a host.
func (t *tx) gated(w *Work, v *VM, reason string) string {
	if no := t.later(LevelPolicy); no != "" {
		return no
	}
	if w.Step != Scheduled || reason == "" || reason == w.Reason && w.Gated != 0 {
		return ""
	}
	n := *w
	if n.Gated == 0 {
		n.Gated = t.now
	}
	n.Reason = reason
	t.event("WORK.WAIT", Info, vmSubject(v), "%s waits: %s", v.Name, reason)
	t.putWork(&n)
	return ""
}
