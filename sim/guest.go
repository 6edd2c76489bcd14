package sim

import (
	"encoding/binary"
	"slices"
	"time"

	"lifeboat/fsm"
	"lifeboat/hypervisor"
	"lifeboat/sim/scenario"
)

// guest is a VM, wherever it runs.
type guest struct {
	w         *World
	name      string
	id        hypervisor.UUID
	spec      scenario.VM
	faults    scenario.Faults // what is left of them
	version   int             // of its definition
	diskOn    string          // host that has its local disk
	crashLoop bool
	hung      bool

	starts   map[uint64]int // by incarnation
	on       []*host        // where it is defined, in natural order
	copySeen time.Duration  // when lifeboat first saw a copy made by hand; -1: not
}

const sharedDir = "/shared"

func (w *World) addGuest(v scenario.VM) *guest {
	g := &guest{w: w, name: v.Name, spec: v, faults: v.Faults, diskOn: v.Host, copySeen: -1}
	// In the order of names, so that what the product orders by UUID is too.
	binary.BigEndian.PutUint64(g.id[8:], uint64(len(w.vms)+1))
	g.id[0], g.id[6], g.id[8] = 0x5e, 0x40, 0x80
	w.vms = append(w.vms, g)
	w.byVM[g.name], w.byID[g.id] = g, g
	h := w.byHost[v.Host]
	h.define(g, nil)
	return g
}

func (g *guest) disk() string {
	if g.spec.Local {
		return "/local/" + g.name + ".img"
	}
	return sharedDir + "/" + g.name + ".img"
}

// copies are the live ones.
func (w *World) copies(g *guest) []*domain {
	var out []*domain
	for _, h := range g.on {
		if d := h.domains[g.id]; d.live() {
			out = append(out, d)
		}
	}
	return out
}

// livesOn checks rule 1 when a guest begins to run.
func (w *World) livesOn(d *domain) { w.oneCopy(d.g) }

func (w *World) oneCopy(g *guest) {
	all := w.copies(g)
	hand := slices.ContainsFunc(all, func(d *domain) bool { return d.byHand })
	if hand && g.spec.Local {
		return // it has a disk of its own there: another machine with the same UUID (S6)
	}
	if len(all) < 2 || hand && (g.copySeen < 0 || w.now-g.copySeen < copyGrace) {
		return
	}
	w.violate("1 (one live copy)", []string{g.name, all[0].h.name, all[1].h.name}, "VM %s lives on %s and on %s", g.name, all[0].h.name, all[1].h.name)
}

// copyGrace is how long a copy made by hand may live on once lifeboat has seen it.
const copyGrace = 10 * time.Second

// started counts a start by order and checks that it is the only one of its
// incarnation.
func (w *World) started(d *domain) {
	if d.g.starts == nil {
		d.g.starts = map[uint64]int{}
	}
	d.g.starts[d.inc]++
	d.g.hung = false // it boots
	w.book.starts[d.g.name]++
	w.note([]string{d.g.name, d.h.name}, "%s runs on %s at incarnation %s", d.g.name, d.h.name, fsm.Incarnation(d.inc))
	if n := d.g.starts[d.inc]; n > 1 {
		w.violate("3 (one start per incarnation)", []string{d.g.name, d.h.name}, "incarnation %s of VM %s was started %d times", fsm.Incarnation(d.inc), d.g.name, n)
	}
}
