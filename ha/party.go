package ha

import (
	"fmt"
	"math"
	"slices"
	"time"

	"lifeboat/fsm"
)

// party is a VM that is to move to a host, and those that a strict rule has move with
// it, the first of them first.
func (d *decision) party(v *fsm.VM, to fsm.HostID) []job {
	var all []job
	for _, id := range companions(d.s, v.ID, to) {
		x, owner := d.s.VM(id)
		all = append(all, job{vm: x, owner: owner, work: &fsm.Work{}, gone: true})
	}
	return all
}

// cannotTake says why a host cannot take a VM that is on the move, with all that must
// move with it; "" = it can. It is the one place where a move asks placement and rules.
func (d *decision) cannotTake(r *room, v *fsm.VM, live bool) string {
	p, s := d.placer(), d.s
	all := d.party(v, r.h.ID)
	var memory uint64
	var cpus uint32
	for i, j := range all {
		no := ""
		if i > 0 {
			no = s.CannotMove(j.vm, j.owner, live)
		}
		if no == "" {
			no = p.refuses(r, j, p.line.of(j.vm.Spec).lacks[r.rank])
		}
		if no == "" {
			no = s.CannotTake(j.vm, j.owner, r.h, live)
		}
		if no != "" && i > 0 {
			no = fmt.Sprintf("%s keeps it with %s: %s", ruleOfBundle(s.Bundle(v.ID), v.ID), j.vm.Name, no)
		}
		if no != "" {
			return no
		}
		memory, cpus = memory+j.vm.Spec.MemoryBytes, cpus+j.vm.Spec.CPUs
	}
	if len(all) > 1 {
		if no := r.fits(memory, cpus); no != "" {
			return fmt.Sprintf("%s, which it and what %s keeps with it need", no, ruleOfBundle(s.Bundle(v.ID), v.ID))
		}
	}
	return d.ruledOut(all, r)
}

// ruledOut says which strict rule a party would break on a host, also on its way: what
// is apart is judged by where everybody is and where everybody goes.
func (d *decision) ruledOut(all []job, r *room) string {
	u := d.placer().rules
	if u == nil {
		return ""
	}
	there := func(id fsm.VMID) bool {
		goes := slices.ContainsFunc(all, func(j job) bool { return j.vm.ID == id })
		return !goes && (slices.Contains(d.s.Where(id), r.h.ID) || slices.Contains(u.soon(id), r.h.ID))
	}
	for i, j := range all {
		for _, x := range d.s.RulesOf(j.vm.ID) {
			if !x.Strict {
				continue
			}
			switch no := d.s.Forbids(x, r.h, there); {
			case no == "":
			case i == 0:
				return no
			default:
				return fmt.Sprintf("%s keeps it with %s: %s", ruleOfBundle(d.s.Bundle(j.vm.ID), j.vm.ID), j.vm.Name, no)
			}
		}
	}
	return ""
}

// worse reports whether the rules, the soft ones too, prefer the host that a party is on
// to the one that it would move to.
func (d *decision) worse(all []job, from, to *room) bool {
	p := d.placer()
	if p.rules == nil {
		return false
	}
	a := &asked{p: p, seats: map[fsm.VMID][]fsm.HostID{}}
	for _, j := range all {
		a.group = append(a.group, j.vm.ID)
	}
	a.ruled()
	return a.compare(to, from) < 0
}

// spare is how many moves may begin between two hosts now. A party that is larger than
// all of the budget goes when nothing else moves.
func (u *underWay) spare(p *fsm.Policy, from, to fsm.HostID) int {
	if u.of[from] == 0 && u.of[to] == 0 && u.all == 0 {
		return math.MaxInt
	}
	return min(p.MovesPerCluster-u.all, p.MovesPerHost-u.of[from], p.MovesPerHost-u.of[to])
}

// repairEvery is how often the rules are looked at.
const repairEvery = 5 * time.Second

// repair moves VMs so that strict rules are kept which are broken as things are, one
// party at a time and never while a recovery runs.
func (d *decision) repair() {
	if d.s.CountRules() == 0 {
		return
	}
	memo := d.memo
	if u := d.moving(); u.recovers || u.all > 0 {
		memo.repair = 0
		return
	}
	if d.now.Mono < memo.repair {
		d.wake(memo.repair)
		return
	}
	memo.repair = d.now.Mono + repairEvery
	d.wake(memo.repair)
	for _, x := range Repairs(d.s) {
		v, from := d.s.VM(x.VM)
		if x.To == "" || from.Status != fsm.Up || d.s.CannotMove(v, from, true) != "" {
			continue
		}
		if again, _ := d.backsOff(v); again > 0 {
			d.wakeAt(again)
			continue
		}
		p := d.placer()
		r := &p.rooms[p.at[x.To]]
		if d.cannotTake(r, v, true) == "" {
			d.move(v, from, r, fsm.MoveLive, fsm.CauseRule, x.Why)
			return
		}
	}
}
