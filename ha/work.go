package ha

import (
	"cmp"
	"fmt"
	"slices"
	"time"

	"lifeboat/fsm"
	"lifeboat/fsm/logpb"
)

// noTargetRetry is how soon a VM that no host can take is looked at again, at
// the latest; a change of the state is looked at at once.
const noTargetRetry = 10 * time.Second

// job is a VM that waits for a host.
type job struct {
	vm    *fsm.VM
	owner *fsm.Host
	work  *fsm.Work
	gone  bool // proven gone: may start anywhere (S2)
}

// byPriority orders jobs: higher tiers first, then who has waited longer.
func byPriority(jobs []job) []job {
	slices.SortStableFunc(jobs, func(a, b job) int {
		return cmp.Or(cmp.Compare(b.vm.HAPolicy().Priority, a.vm.HAPolicy().Priority), cmp.Compare(a.work.ID, b.work.ID))
	})
	return jobs
}

// work looks at every open item.
func (d *decision) work() {
	var waiting []job
	for w := range d.s.OpenWork() {
		v, owner := d.s.VM(w.VM)
		if v == nil {
			continue
		}
		switch w.Step {
		case fsm.Scheduled:
			if w.NotBefore > d.now.Wall && !d.newHope(w) {
				d.wakeAt(w.NotBefore)
				continue
			}
			waiting = append(waiting, job{vm: v, owner: owner, work: w, gone: v.Gone})
		case fsm.Restarting:
			d.overdue(w, owner)
		case fsm.Investigating:
			d.missing(v, owner, w)
		}
	}
	var place []*logpb.WorkPlacement
	for _, j := range byPriority(waiting) {
		if !d.s.Armed && j.work.Cause != fsm.CauseOperator {
			d.wait(j, "HA is disarmed")
			continue
		}
		if p := d.start(j); p != nil {
			place = append(place, p)
		}
	}
	if len(place) > 0 {
		d.do(&logpb.Command{Body: &logpb.Command_Place{Place: &logpb.Place{Placements: place}}})
	}
}

// newHope reports whether a VM that waits only because no host could take it
// is to be looked at before its timer: a failed start waits for its back-off in
// any case.
func (d *decision) newHope(w *fsm.Work) bool {
	return d.waitsForHost(w) && d.changedSince(w.Index)
}

func (d *decision) waitsForHost(w *fsm.Work) bool {
	return w.NotBefore > 0 && len(w.Reason) >= len(noTarget) && w.Reason[:len(noTarget)] == noTarget
}

// changedSince reports whether a host was told something new, or came, since
// an index.
func (d *decision) changedSince(index uint64) bool {
	for _, h := range d.s.Hosts() {
		if h.Assigned > index {
			return true
		}
	}
	return false
}

// start finds where a VM starts, or says what it waits for.
func (d *decision) start(j job) *logpb.WorkPlacement {
	t, why, full := d.placer().place(j)
	if t != nil {
		return &logpb.WorkPlacement{Work: uint64(j.work.ID), Vm: j.vm.ID[:], Target: string(t.ID), Why: why}
	}
	if full {
		return nil // budgets: a start that ends changes the state
	}
	if !j.gone && j.owner.Status == fsm.Up && d.elsewhere(j) {
		d.update(j.work, fsm.WorkWithdraw, fmt.Sprintf("host %s cannot start it (%s), another host can", j.owner.ID, why), 0)
		return nil
	}
	d.wait(j, noTarget+why)
	return nil
}

const noTarget = "no host can take it: "

// elsewhere reports whether a host other than its owner could start the VM if
// the owner gave it up.
func (d *decision) elsewhere(j job) bool {
	j.gone = true
	t, _, full := d.placer().find(j)
	return (t != nil && t.ID != j.owner.ID) || full
}

// wait commits what a VM waits for, when that is news.
func (d *decision) wait(j job, why string) {
	if j.work.Reason == why && j.work.NotBefore > d.now.Wall {
		d.wakeAt(j.work.NotBefore)
		return
	}
	d.update(j.work, fsm.WorkNoTarget, why, noTargetRetry)
}

func (d *decision) update(w *fsm.Work, action uint32, why string, delay time.Duration) {
	d.do(&logpb.Command{Body: &logpb.Command_WorkUpdate{WorkUpdate: &logpb.WorkUpdate{
		Work: uint64(w.ID), Action: action, Reason: why, DelayNs: int64(delay)}}})
}

// overdue withdraws a start order that stands too long. The outcome of a
// timeout is unknown: the host must say that it refuses the incarnation before
// the VM starts elsewhere (S4).
func (d *decision) overdue(w *fsm.Work, owner *fsm.Host) {
	if owner.Status != fsm.Up {
		return // what becomes of the host decides
	}
	due := w.Updated + int64(d.p.StartTimeout)
	if d.now.Wall < due {
		d.wakeAt(due)
		return
	}
	d.update(w, fsm.WorkWithdraw, fmt.Sprintf("host %s has not started it within %s", owner.ID, d.p.StartTimeout), 0)
}

// missing ends the search for a VM that is missing or has left, once every
// host that could run it has reported since, or is proven dead (S18). One that
// has it ends the search by its report.
func (d *decision) missing(v *fsm.VM, owner *fsm.Host, w *fsm.Work) {
	n := 0
	for _, h := range d.s.Hosts() {
		if h.Status == fsm.Removed || h.Status == fsm.Down && h.HA == fsm.HAFenced {
			continue
		}
		c := d.contact(h)
		if h.Status != fsm.Up || c.Absorbed <= w.Created+int64(settle) {
			return // asked again when it has reported or its fate is known
		}
		n++
	}
	d.do(&logpb.Command{Body: &logpb.Command_VmReleased{VmReleased: &logpb.VMReleased{Vm: v.ID[:], Work: uint64(w.ID),
		Reason: fmt.Sprintf("all %d hosts have reported since and none has it; it was last on host %s", n, owner.ID)}}})
}

// settle is how much later than the loss a report must be, so that a report
// polled before it does not count.
const settle = 2 * time.Second
