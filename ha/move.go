package ha

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"lifeboat/fsm"
	"lifeboat/fsm/logpb"
)

// underWay are the moves that are open, and the recoveries.
type underWay struct {
	of       map[fsm.HostID]int // moves from or to a host
	to       map[fsm.HostID]incoming
	all      int
	recovery bool // one is open, and may wait for something
	recovers bool // one gets on
}

type incoming struct {
	vms    int
	memory uint64
	cpus   uint64
}

// settled is how long a recovery keeps VMs from going home, and rules from being mended,
// after it last got on: one that waits for a proof, or for room, may do so for days.
const settled = 5 * time.Minute

// moving counts the open moves, once for a decision.
func (d *decision) moving() *underWay {
	if d.way != nil {
		return d.way
	}
	u := &underWay{of: map[fsm.HostID]int{}, to: map[fsm.HostID]incoming{}}
	for _, w := range d.works {
		switch {
		case w.Type == fsm.WorkHA:
			u.recovery = true
			if d.now.Wall < w.Updated+int64(settled) {
				u.recovers = true
				d.wakeAt(w.Updated + int64(settled))
			}
		case w.Type.Moves():
			v, owner := d.s.VM(w.VM)
			u.begin(v, w.From, w.Target, owner != nil && owner.ID != w.Target)
		}
	}
	d.way = u
	return u
}

// begin counts a move. comes: the target does not have it among its own yet.
func (u *underWay) begin(v *fsm.VM, from, to fsm.HostID, comes bool) {
	u.all++
	u.of[from]++
	u.of[to]++
	if comes && v != nil && v.Spec != nil {
		in := u.to[to]
		in.vms++
		in.memory += v.Spec.MemoryBytes
		in.cpus += uint64(v.Spec.CPUs)
		u.to[to] = in
	}
}

// moves begins what lifeboat moves by itself: away from hosts that are to be empty,
// back home, and from hosts that carry more than others. Each is bounded by the
// policy, and waits after a failure.
func (d *decision) moves() {
	for _, h := range d.emptying {
		d.drain(h)
	}
	if !d.s.Armed {
		return
	}
	for _, h := range d.away {
		d.failback(h)
	}
	d.repair()
	d.rebalance()
}

// away reports whether a VM of a host has a home to go back to.
func away(h *fsm.Host) bool {
	return slices.ContainsFunc(h.VMs, func(v fsm.VM) bool { return v.Home() != "" })
}

// patience is how often in a row a VM may fail to move before people are told that
// its host cannot be emptied. It is tried on.
const patience = 3

// maxStay VMs are named that cannot leave a host.
const maxStay = 5

// drain moves the VMs of a host away that is to be empty.
func (d *decision) drain(h *fsm.Host) {
	var stay []string
	left, busy := 0, 0
	for i := range h.VMs {
		v := &h.VMs[i]
		if !v.KeepsFromEmpty() {
			continue
		}
		left++
		no, waits := d.moveAway(h, v)
		if waits {
			busy++
		}
		if no != "" {
			stay = append(stay, v.Name+" ("+no+")")
		}
	}
	if h.Resource != fsm.PrepareForMaintenance && h.Resource != fsm.ErrorInMaintenance {
		return
	}
	alert := d.s.NotEmptied(h.ID)
	switch {
	case left == 0:
		d.drained(h, fsm.DrainDone, "")
	case len(stay) > 0 && busy == 0:
		n := len(stay)
		if n > maxStay {
			stay = append(stay[:maxStay], fmt.Sprintf("%d more", n-maxStay))
		}
		why := fmt.Sprintf("%d of %d VMs cannot be moved: %s", n, left, strings.Join(stay, "; "))
		switch {
		case h.Resource == fsm.PrepareForMaintenance || alert == nil:
			d.drained(h, fsm.DrainStuck, why)
		case strings.Contains(alert.Text, why):
		case d.now.Wall < alert.Last+int64(time.Minute):
			d.wakeAt(alert.Last + int64(time.Minute))
		default:
			d.drained(h, fsm.DrainStuck, why)
		}
	case h.Resource == fsm.ErrorInMaintenance && len(stay) == 0:
		d.drained(h, fsm.DrainOn, "")
	}
}

func (d *decision) drained(h *fsm.Host, state uint32, why string) {
	d.do(&logpb.Command{Body: &logpb.Command_HostDrained{HostDrained: &logpb.HostDrained{Host: string(h.ID), State: state, Reason: why, Force: h.Drain != nil && h.Drain.Force}}})
}

// moveAway moves one VM of a host that is to be empty. no: why it cannot be moved;
// waits: it is on its way, or it is only a matter of time.
func (d *decision) moveAway(h *fsm.Host, v *fsm.VM) (no string, waits bool) {
	again, failed := d.backsOff(v)
	forced := h.Drain != nil && h.Drain.Force
	if failed >= patience && !forced {
		no = "its live migration fails again and again" // also while it is tried once more
	}
	if v.Work != 0 || !d.s.Armed || h.Status != fsm.Up {
		return no, no == ""
	}
	if again > 0 && !(forced && failed >= patience) {
		d.wakeAt(again)
		return no, no == ""
	}
	cause := fsm.CauseMaintenance
	if h.Held == fsm.HeldMigrate && h.Resource == fsm.Enabled {
		cause = fsm.CauseHostStops
	}
	t, why, full := d.target(v, h, true)
	if forced && (failed >= patience || t == nil && !full) {
		if r, how, f := d.target(v, h, false); r != nil || f {
			d.move(v, h, r, fsm.MoveRelocate, cause, how)
			return "", true
		}
	}
	if t == nil && !full {
		return why, false
	}
	d.move(v, h, t, fsm.MoveLive, cause, why)
	return no, no == ""
}

// backsOff is until when a VM waits that has failed to move; 0: it does not.
func (d *decision) backsOff(v *fsm.VM) (until int64, failed uint32) {
	a := d.s.OpenAlert(fsm.VMAlert(v, fsm.NotMoved))
	if a == nil {
		return 0, 0
	}
	if until = a.Last + int64(d.p.Backoff(a.Count)); d.now.Wall >= until {
		return 0, a.Count
	}
	return until, a.Count
}

// move orders a move of a VM and of all that must move with it, if the budgets allow
// it; t nil: they do not. Then it is a matter of time.
func (d *decision) move(v *fsm.VM, from *fsm.Host, t *room, kind uint32, cause fsm.Cause, why string) {
	if t == nil {
		return
	}
	u, all := d.moving(), d.party(v, t.h.ID)
	if u.spare(d.p, from.ID, t.h.ID) < len(all) {
		return
	}
	for i, j := range all {
		if i == 1 {
			why = fmt.Sprintf("%s keeps it with %s, which is moved there: %s", ruleOfBundle(d.s.Bundle(j.vm.ID), j.vm.ID), v.Name, why)
		}
		u.begin(j.vm, j.owner.ID, t.h.ID, false)
		d.placer().line.change(t, func() { t.take(j.vm.Spec) })
		if p := d.placer(); p.rules != nil {
			p.rules.put[j.vm.ID] = t.h.ID
		}
		d.do(&logpb.Command{Body: &logpb.Command_VmMove{VmMove: &logpb.VMMove{Vm: j.vm.ID[:], Incarnation: uint64(j.vm.Incarnation), Kind: kind,
			Target: string(t.h.ID), Cause: uint32(cause), Why: why}}})
	}
}

// target finds the best host for a VM to move to. why says why that one, or why
// none; full: only because as many as may are moving.
func (d *decision) target(v *fsm.VM, from *fsm.Host, live bool) (best *room, why string, full bool) {
	if no := d.s.CannotMove(v, from, live); no != "" {
		return nil, no, false
	}
	p, u := d.placer(), d.moving()
	j := job{vm: v, owner: from, work: &fsm.Work{}, gone: true}
	asks := p.asks(j)
	fit := 0
	var no refusals
	for i := range p.rooms {
		r := &p.rooms[i]
		if r.h == from {
			continue
		}
		if why := d.cannotTake(r, v, live); why != "" {
			no.add(why, r.h.ID)
			continue
		}
		if u.spare(d.p, from.ID, r.h.ID) < len(companions(d.s, v.ID, r.h.ID)) {
			full = true
			continue
		}
		asks.note(r)
		if fit++; best == nil || p.better(r, best, j, asks) {
			best = r
		}
	}
	if best == nil {
		return nil, no.String(), full
	}
	return best, asks.decided(best) + p.why(best, fit), false
}

// failback moves VMs home that were moved away from a host that is back.
func (d *decision) failback(h *fsm.Host) {
	if d.moving().recovers || h.Status != fsm.Up {
		return
	}
	for i := range h.VMs {
		v := &h.VMs[i]
		home := d.s.Host(v.Home())
		if home == nil || v.Work != 0 || v.HAPolicy().Stays || home.Status != fsm.Up || home.Resource != fsm.Enabled || home.Stopping != fsm.StaysUp {
			continue
		}
		if again, _ := d.backsOff(v); again > 0 {
			d.wakeAt(again)
			continue
		}
		if d.s.CannotMove(v, h, true) != "" {
			continue
		}
		p := d.placer()
		r := &p.rooms[p.at[home.ID]]
		if d.cannotTake(r, v, true) == "" {
			d.move(v, h, r, fsm.MoveLive, fsm.CauseFailback, "it was moved away from there, and host "+string(home.ID)+" is back")
		}
	}
}

// lostOnTheWay ends the search for a VM whose source is spoken for: the target must
// have reported since without it, or be proven dead (S7).
func (d *decision) lostOnTheWay(v *fsm.VM, owner *fsm.Host, w *fsm.Work) {
	t := d.s.Host(w.Target)
	if gone := t == nil || t.Status == fsm.Removed || t.Status == fsm.Down && t.HA == fsm.HAFenced; !gone {
		by := int64(0)
		if t.Status == fsm.Up && !unread(t) {
			by = d.contact(t).Absorbed
		}
		if by <= w.Updated+int64(settle) {
			d.wake(d.now.Mono + d.p.Beat)
			why := fmt.Sprintf("host %s (%s), to which it was being migrated, must report or be proven dead", t.ID, t.Status)
			if t.Status != fsm.Up && why != w.Reason && d.now.Wall >= w.Updated+int64(noTargetRetry) {
				d.update(w, fsm.WorkNoTarget, why, 0)
			}
			return
		}
	}
	if why := d.unsure(v, w); why != "" {
		if why != w.Reason {
			d.update(w, fsm.WorkNoTarget, why, 0)
		}
		return
	}
	d.do(&logpb.Command{Body: &logpb.Command_VmReleased{VmReleased: &logpb.VMReleased{Vm: v.ID[:], Work: uint64(w.ID),
		Reason: fmt.Sprintf("it is not on host %s, and host %s, to which it was being migrated, does not have it", owner.ID, w.Target)}}})
}

// Step is one VM of a move.
type Step struct {
	VM  fsm.VMID
	To  fsm.HostID
	Why string
}

// Move says to which host a VM goes that an operator wants moved, and which others move
// with it because a strict rule keeps them together, itself first; to "": to the best
// host. no is why it cannot be moved.
func Move(s *fsm.State, soft *Soft, now Now, id fsm.VMID, to fsm.HostID, live bool) (steps []Step, no string) {
	v, from := s.VM(id)
	if v == nil {
		return nil, fmt.Sprintf("there is no VM %s; `lifeboat vm list` shows them", id)
	}
	if no := s.CannotMove(v, from, live); no != "" {
		return nil, no
	}
	x := *soft
	x.Memo = nil
	d := decide(s, &x, now)
	d.survey()
	why := "asked for"
	if to == "" {
		r, best, full := d.target(v, from, live)
		switch {
		case r == nil && full:
			return nil, fmt.Sprintf("VM %s cannot be moved now: as many VMs are on the move as moves_per_host and moves_per_cluster allow", v.Name)
		case r == nil:
			return nil, fmt.Sprintf("VM %s cannot be moved: %s", v.Name, best)
		}
		to, why = r.h.ID, best
	} else {
		t := s.Host(to)
		if t == nil {
			return nil, fmt.Sprintf("there is no host %s; `lifeboat host list` shows them", to)
		}
		if no := s.CannotTake(v, from, t, live); no != "" {
			return nil, no
		}
		p := d.placer()
		if no := d.cannotTake(&p.rooms[p.at[to]], v, live); no != "" {
			return nil, fmt.Sprintf("VM %s cannot be moved to host %s: %s", v.Name, to, no)
		}
	}
	for i, j := range d.party(v, to) {
		if i == 1 {
			why = fmt.Sprintf("%s keeps it with %s, which is moved there", ruleOfBundle(s.Bundle(id), id), v.Name)
		}
		steps = append(steps, Step{j.vm.ID, to, why})
	}
	return steps, ""
}
