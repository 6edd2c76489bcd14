package sim

import (
	"time"

	"lifeboat/fsm"
	"lifeboat/fsm/logpb"
	"lifeboat/ha"
	"lifeboat/hypervisor"
	"lifeboat/sim/scenario"
)

func guestActions() map[string]action {
	control := func(n uint32) action {
		return func(x *step) {
			x.operate(x.text, &logpb.Command{Body: &logpb.Command_VmControl{VmControl: &logpb.VMControl{Vm: x.g.id[:], Action: n}}}, nil)
		}
	}
	return map[string]action{
		"vm start": control(fsm.VMStart),
		"vm stop":  control(fsm.VMStop),
		"vm clear": control(fsm.VMClear),

		"vm kill": func(x *step) {
			x.fault()
			x.each(func(h *host, d *domain) { h.end(d, hypervisor.ReasonCrashed) })
		},
		"vm hang": (*step).hang,
		"vm guest-shutdown": func(x *step) {
			x.fault()
			x.each(func(h *host, d *domain) {
				if !x.g.hung {
					h.end(d, hypervisor.ReasonShutdown)
				}
			})
		},
		"vm crash-loop on": func(x *step) {
			x.fault()
			x.g.crashLoop = true
			x.each(func(h *host, d *domain) { h.end(d, hypervisor.ReasonCrashed) })
		},
		"vm crash-loop off": func(x *step) { x.g.crashLoop = false },

		"vm migrate":  func(x *step) { x.orderMove(true) },
		"vm relocate": func(x *step) { x.orderMove(false) },

		"vm move": (*step).move,
		"vm copy": (*step).copy,
		"vm define": func(x *step) {
			x.g.version++
			x.redefine()
		},
		"vm set": (*step).set,

		"vm add":      (*step).add,
		"vm manage":   func(x *step) { x.manage() },
		"vm unmanage": func(x *step) { x.unprotect() },
		"vm remove":   func(x *step) { x.unprotect() },
	}
}

// each does something to every live copy of the VM.
func (x *step) each(do func(*host, *domain)) {
	for _, d := range x.copies(x.g) {
		if !d.h.frozen {
			x.g.hung = x.g.hung && d.state.Active()
			do(d.h, d)
		}
	}
	x.g.hung = false
}

// orderMove has lifeboat move the VM: the leader asks placement, as it does for the
// command line.
func (x *step) orderMove(live bool) {
	to, kind := fsm.HostID(x.h.name), uint32(fsm.MoveRelocate)
	if live {
		kind = fsm.MoveLive
	}
	x.operation(x.text, &operation{func(t *term, end func(error)) {
		soft, now := t.soft(), ha.Now{Wall: t.wall(), Mono: t.mono()}
		steps, no := ha.Move(t.state(), soft, now, fsm.VMID(x.g.id), to, live)
		if no != "" {
			end(&rejected{no})
			return
		}
		for i, one := range steps {
			t.propose("operator/sim", &logpb.Command{Body: &logpb.Command_VmMove{VmMove: &logpb.VMMove{Vm: one.VM[:], Kind: kind, Target: string(one.To), Why: one.Why}}},
				func(_ fsm.Result, err error) {
					if i == 0 || err != nil {
						end(err)
					}
				})
		}
	}}, nil)
}

// move carries the VM to another host behind lifeboat's back.
func (x *step) move() {
	all := x.copies(x.g)
	if len(all) == 0 || all[0].h == x.h || !x.h.running() {
		return
	}
	x.book.byHand[x.g.name] = true
	x.migrate(all[0], x.h, func(error) {})
}

// copy has somebody start a second copy by hand.
func (x *step) copy() {
	if !x.h.running() || !x.h.libvirt {
		return
	}
	if d := x.h.domains[x.g.id]; d != nil && d.state.Active() {
		return
	}
	d := x.h.define(x.g, nil)
	d.life++
	x.book.byHand[x.g.name] = true
	d.byHand, d.inc = true, 0
	x.g.copySeen = -1
	x.h.run(d, hypervisor.ReasonBooted)
}

// redefine changes the definition wherever the VM is defined.
func (x *step) redefine() {
	for _, h := range x.g.on {
		if d := h.domains[x.g.id]; h.running() && d.live() {
			d.kind, d.xml = x.kindOf(x.g), nil
			h.look(x.g.id)
		}
	}
}

// set changes what the VM is, or how it is treated.
func (x *step) set() {
	key, value := x.words[1], x.words[2]
	s := &x.g.spec
	switch key {
	case "cpus":
		s.CPUs = number(value)
		x.redefine()
		return
	case "memory":
		s.Memory, _ = scenario.Memory(value)
		x.redefine()
		return
	case "priority":
		s.Priority = value
	case "ha":
		s.HA = value
	case "max_restart":
		s.MaxRestart = number(value)
	case "max_relocate":
		s.MaxRelocate = number(value)
	case "failback":
		s.Stays = value == "false"
	case "live_migration":
		s.NoLive = value == "false"
	default:
		x.setOrder(key, value)
		return
	}
	x.protect(x.g, x.text, nil)
}

// add defines and starts a VM by hand, and puts it under HA once it is known.
func (x *step) add() {
	if x.g == nil {
		x.g = x.addGuest(scenario.DefaultVM(x.words[0], x.words[1]))
	}
	if len(x.copies(x.g)) == 0 && x.h.running() && x.h.libvirt {
		x.book.byHand[x.g.name] = true
		d := x.h.define(x.g, nil)
		d.life++
		d.inc = 0
		x.h.run(d, hypervisor.ReasonBooted)
	}
	if x.g.spec.HA == "none" {
		x.g.spec.HA = "restart"
	}
	x.manage()
}

const (
	knownSoon  = time.Second
	knownLimit = 30
)

// manage puts a VM under HA, once the state knows it.
func (x *step) manage() { x.manageIn(knownLimit) }

func (x *step) manageIn(tries int) {
	if v, _ := x.truth.State().VM(fsm.VMID(x.g.id)); v == nil && tries > 0 {
		x.after(knownSoon, func() { x.manageIn(tries - 1) })
		return
	}
	x.protect(x.g, x.text, nil)
}

func (x *step) unprotect() {
	x.operate(x.text, &logpb.Command{Body: &logpb.Command_VmProtect{VmProtect: &logpb.VMProtect{Vm: x.g.id[:], Protect: &logpb.Protection{}}}}, nil)
}
