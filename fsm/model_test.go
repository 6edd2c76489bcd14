package fsm

import (
	"fmt"

	"google.golang.org/protobuf/proto"

	"lifeboat/fsm/logpb"
)

// model is a second, much simpler opinion on S2: where may a VM be running? It
// knows only what was ordered and seen, and what proof takes away.
type model struct {
	alive map[VMID]map[HostID]Incarnation
}

func newModel() *model { return &model{alive: map[VMID]map[HostID]Incarnation{}} }

func (m *model) may(v VMID, h HostID, inc Incarnation) {
	if m.alive[v] == nil {
		m.alive[v] = map[HostID]Incarnation{}
	}
	m.alive[v][h] = inc
}

// dead: nothing of before runs on a host any more.
func (m *model) dead(h HostID) {
	for _, at := range m.alive {
		delete(at, h)
	}
}

// step judges what a command made of a state.
func (m *model) step(before, after *State, body proto.Message, rejected string) error {
	m.proofs(before, after, body)
	for id := range before.owner.all() {
		if _, ok := after.owner.get(id); !ok {
			delete(m.alive, id) // forgotten: never ours, or removed with its host
		}
	}
	for id, hid := range after.owner.all() {
		v, _ := after.VM(id)
		old, from := before.VM(id)
		if !v.Protected() {
			delete(m.alive, id)
			continue
		}
		if old != nil && v.Incarnation < old.Incarnation {
			return fmt.Errorf("S1: the incarnation of %s fell from %s to %s", v.Name, old.Incarnation, v.Incarnation)
		}
		granted := old != nil && old.Incarnation != v.Incarnation && after.Host(hid).order(OrderStart, id) != nil
		switch {
		case granted:
			for h, inc := range m.alive[id] {
				if h != hid {
					return fmt.Errorf("S2: %s was granted to %s at %s, but may run on %s at %s", v.Name, hid, v.Incarnation, h, inc)
				}
			}
			m.may(id, hid, v.Incarnation)
		case old != nil && from.ID != hid:
			delete(m.alive[id], from.ID) // seen running where it is now, and not where it was
			m.may(id, hid, v.Incarnation)
		case old != nil && old.Incarnation != v.Incarnation && old.Incarnation != 0:
			return fmt.Errorf("S2: the incarnation of %s rose from %s to %s without an order or a move", v.Name, old.Incarnation, v.Incarnation)
		case v.Power == PowerOn:
			m.may(id, hid, v.Incarnation)
		}
	}
	for id, h := range before.Hosts() {
		n := after.Host(id)
		if n == nil || n.Epoch < h.Epoch {
			return fmt.Errorf("S4: the epoch of host %s fell", id)
		}
	}
	if after.Time < before.Time || after.seq < before.seq {
		return fmt.Errorf("S21: time or ids ran backwards")
	}
	return nil
}

func (m *model) proofs(before, after *State, body proto.Message) {
	for id, h := range before.Hosts() {
		n := after.Host(id)
		if n.Status == Removed || h.Status != Removed && n.BootID != h.BootID || n.HA == HAFenced && h.HA != HAFenced {
			m.dead(id)
		}
	}
	c, ok := body.(*logpb.HostReports)
	if !ok {
		if r, isReg := body.(*logpb.HostRegister); isReg && after.Host(HostID(r.Id)) != nil && r.MachineId == after.Host(HostID(r.Id)).MachineID && r.BootId != "" {
			m.words(HostID(r.Id), r.Vms)
		}
		return
	}
	seq := map[HostID]uint64{}
	for _, r := range c.Reports {
		id := HostID(r.Host)
		h := before.Host(id)
		if h == nil || h.Status == Down || h.Status == Removed || h.Epoch != r.Epoch {
			continue
		}
		last := max(seq[id], h.Seq)
		if r.Seq <= last && last != 0 {
			continue
		}
		seq[id] = r.Seq
		m.words(id, r.Vms)
	}
}

// words: what an agent has persisted it will not run.
func (m *model) words(h HostID, c *logpb.VMEntries) {
	for _, d := range c.GetDetails() {
		if int(d.Pos)*16+16 > len(c.Ids) {
			continue
		}
		id := VMID(c.Ids[d.Pos*16 : d.Pos*16+16])
		if inc, ok := m.alive[id][h]; ok && (Incarnation(d.Refused) >= inc || Incarnation(d.Failed) == inc) {
			delete(m.alive[id], h)
		}
	}
}
