package ha

import (
	"fmt"
	"math"
	"slices"
	"strings"
	"time"

	"lifeboat/fsm"
	"lifeboat/fsm/logpb"
)

// noTargetRetry is how often a VM that waits says anew what it waits for, at
// most; whether a host can take it is looked at every time.
const noTargetRetry = 10 * time.Second

// placeChunk keeps an entry well below the size that is accepted.
const placeChunk = 500

// job is a VM that waits for a host.
type job struct {
	vm     *fsm.VM
	owner  *fsm.Host
	work   *fsm.Work
	gone   bool              // proven gone: may start anywhere (S2)
	fenced *logpb.HostFenced // its proof is committed by this entry
	tier   fsm.Priority      // see inOrder
}

// work looks at every open item, and starts what can be started: the most
// important first, whether its host was proven dead just now or long ago.
func (d *decision) work() {
	for _, w := range d.works {
		v, owner := d.s.VM(w.VM)
		if v == nil {
			continue
		}
		switch w.Step {
		case fsm.Scheduled:
			if w.NotBefore > d.now.Wall && !waits(w) {
				d.wakeAt(w.NotBefore) // it backs off after a failed start
				continue
			}
			d.jobs = append(d.jobs, job{vm: v, owner: owner, work: w, gone: v.Gone})
		case fsm.Restarting:
			d.overdue(w, owner)
		case fsm.Stopping:
			d.stuck(v, w, owner, d.letsGo())
		case fsm.Migrating:
			d.stuck(v, w, owner, d.p.MigrateTimeout+d.letsGo())
		case fsm.Investigating:
			d.missing(v, owner, w)
		}
	}
	var place []*logpb.WorkPlacement
	least := fsm.PriorityLowest
	for _, j := range d.inOrder(d.jobs) {
		if j.tier < least {
			break // a higher tier waits for its turn to start
		}
		full := false
		if j.fenced != nil {
			if d.unsure(j.vm, j.work) != "" || d.hearing(j.owner.ID) || d.gate(j) != "" {
				continue
			}
			var t *fsm.Host
			var why string
			if t, why, full = d.placer().place(j); t != nil {
				j.fenced.Placements = append(j.fenced.Placements, &logpb.Placement{Vm: j.vm.ID[:], Target: string(t.ID), Why: why})
			}
		} else {
			var p *logpb.WorkPlacement
			if p, full = d.start(j); p != nil {
				place = append(place, p)
			}
		}
		if full && d.s.Level >= fsm.LevelPolicy {
			least = j.tier
		}
	}
	for chunk := range slices.Chunk(place, placeChunk) {
		d.do(&logpb.Command{Body: &logpb.Command_Place{Place: &logpb.Place{Placements: chunk}}})
	}
}

// start finds where a VM starts, or says what it waits for. full: its turn has not
// come.
func (d *decision) start(j job) (p *logpb.WorkPlacement, full bool) {
	if !d.s.Armed && (j.work.Cause != fsm.CauseOperator || d.s.Waking) && !d.s.Permitted(j.vm, j.work) {
		d.wait(j, disarmed)
		return nil, false
	}
	if why := d.gate(j); why != "" {
		d.waitForOthers(j, why)
		return nil, false
	}
	if j.owner.Frozen() && !j.gone {
		d.wait(j, fmt.Sprintf("%shost %s is %s, and its VMs wait for it (shutdown_policy %s)", NoTarget, j.owner.ID, j.owner.Stopping, d.p.ShutdownPolicy))
		return nil, false
	}
	if !j.gone && removing(j.owner, j.vm) {
		d.wait(j, fmt.Sprintf("%shost %s is still removing it", NoTarget, j.owner.ID))
		return nil, false
	}
	if why := d.unsure(j.vm, j.work); why != "" {
		d.wait(j, NoTarget+why)
		return nil, false
	}
	if (j.gone || j.work.Cause == fsm.CauseSelfFenced) && d.hearing(j.owner.ID) {
		return nil, false // a matter of seconds
	}
	t, why, full := d.placer().place(j)
	if t != nil {
		return &logpb.WorkPlacement{Work: uint64(j.work.ID), Vm: j.vm.ID[:], Target: string(t.ID), Why: why}, false
	}
	if full {
		return nil, true // budgets: a start that ends changes the state
	}
	if !j.gone && j.owner.Status == fsm.Up && j.vm.Power == fsm.PowerOff && d.elsewhere(j) {
		d.update(j.work, fsm.WorkWithdraw, fmt.Sprintf("host %s cannot start it (%s), another host can", j.owner.ID, why), 0)
		return nil, false
	}
	d.wait(j, NoTarget+why)
	return nil, false
}

const (
	// NoTarget begins the reason of work that no host can take.
	NoTarget = "no host can take it: "
	disarmed = "HA is disarmed"
)

// waits reports whether a VM waits for something else than its timer: that is
// looked at every time.
func waits(w *fsm.Work) bool { return w.Reason == disarmed || strings.HasPrefix(w.Reason, NoTarget) }

// removing reports whether a host has yet to say that it refuses what it holds
// of a VM (S4).
func removing(h *fsm.Host, v *fsm.VM) bool { return ordered(h, v, fsm.OrderDestroy) }

// ordered reports whether an order of a kind about a VM stands.
func ordered(h *fsm.Host, v *fsm.VM, kind fsm.OrderKind) bool {
	return slices.ContainsFunc(h.Orders, func(o *fsm.Order) bool { return o.VM == v.ID && o.Kind == kind })
}

// elsewhere reports whether a host other than its owner could start the VM if
// the owner gave it up.
func (d *decision) elsewhere(j job) bool {
	j.gone = true
	t, _, full := d.placer().find(j)
	return (t != nil && t.h.ID != j.owner.ID) || full
}

// wait commits what a VM waits for, when that is news, and not more often than
// people can read it.
func (d *decision) wait(j job, why string) {
	switch {
	case j.work.Reason == why:
		d.wake(d.now.Mono + noTargetRetry)
	case waits(j.work) && j.work.NotBefore > d.now.Wall:
		d.wakeAt(j.work.NotBefore)
	default:
		d.update(j.work, fsm.WorkNoTarget, why, noTargetRetry)
	}
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

// stuck alerts when a host has been told to stop a VM, or to give it up, and
// does not say that it has. Nothing else can be done: it may run there (S4).
func (d *decision) stuck(v *fsm.VM, w *fsm.Work, owner *fsm.Host, bound time.Duration) {
	if owner.Status != fsm.Up || d.s.Stuck(v) {
		return
	}
	if due := max(w.Updated, owner.Since) + int64(bound); d.now.Wall < due {
		d.wakeAt(due)
		return
	}
	d.update(w, fsm.WorkStuck, fmt.Sprintf("host %s has been told to stop it, to give it up or to migrate it, and has not said within %s that it has", owner.ID, bound), 0)
}

// letsGo is how long a host may take to stop a VM or to give it up, whatever it
// is at.
func (d *decision) letsGo() time.Duration { return d.p.StopGrace + d.p.StartTimeout }

// reported is what the hosts have said as a whole.
type reported struct {
	by    int64       // unix ns: every host has reported since, or is proven dead
	hosts int         // that have reported
	mute  []*fsm.Host // those that will not by themselves
}

// everyone sums up the reports of all hosts that could run a VM.
func (d *decision) everyone() *reported {
	if d.report != nil {
		return d.report
	}
	r := &reported{by: math.MaxInt64}
	contact := d.each()
	for _, h := range d.s.Hosts() {
		if h.Status == fsm.Removed || h.Status == fsm.Down && h.HA == fsm.HAFenced {
			continue
		}
		r.hosts++
		by := int64(0)
		if h.Status == fsm.Up && !unread(h) {
			by = contact(h).Absorbed
		} else {
			r.mute = append(r.mute, h)
		}
		r.by = min(r.by, by)
	}
	d.report = r
	return r
}

// unread reports whether an agent reports without seeing its domains: it repeats
// what it saw before, and what has come since it does not know.
func unread(h *fsm.Host) bool {
	return h.Inventory == nil || slices.ContainsFunc(h.Inventory.Problems, func(p fsm.Problem) bool { return p.Part == partDomains })
}

// partDomains is what agents call the problem that domains cannot be read.
const partDomains = "hypervisor"

// missing ends the search for a VM that is missing or has left, once every
// host that could run it has reported since, or is proven dead (S18). One that
// has it ends the search by its report.
func (d *decision) missing(v *fsm.VM, owner *fsm.Host, w *fsm.Work) {
	if d.s.Waking {
		return // S22: nothing is started before HA is armed
	}
	if w.Type == fsm.WorkMigration && v.Power == fsm.PowerOff && v.Reason != fsm.ReasonMigrated {
		d.lostOnTheWay(v, owner, w)
		return
	}
	r := d.everyone()
	if r.hosts == 0 || r.by <= w.Updated+int64(settle) {
		d.wake(d.now.Mono + d.p.Beat) // asked again when they have reported
		if why := r.waitsFor(); why != "" && why != w.Reason && d.now.Wall >= w.Updated+int64(noTargetRetry) {
			d.update(w, fsm.WorkNoTarget, why, 0)
		}
		return
	}
	if why := d.unsure(v, w); why != "" {
		if why != w.Reason {
			d.update(w, fsm.WorkNoTarget, why, 0)
		}
		return
	}
	d.do(&logpb.Command{Body: &logpb.Command_VmReleased{VmReleased: &logpb.VMReleased{Vm: v.ID[:], Work: uint64(w.ID),
		Reason: fmt.Sprintf("all %d hosts have reported since and none has it; it was last on host %s", r.hosts, owner.ID)}}})
}

// sought reports whether a VM is still searched for when every host that reports
// has had the time to say that it has it.
func (d *decision) sought() bool {
	if d.vain == nil {
		vain := false
		for _, w := range d.works {
			vain = vain || w.Step == fsm.Investigating && d.now.Wall >= w.Updated+int64(noTargetRetry)
		}
		d.vain = &vain
	}
	return *d.vain
}

// waitsFor names the hosts that a search cannot end without; "" when all report.
func (r *reported) waitsFor() string {
	if len(r.mute) == 0 {
		return ""
	}
	var names []string
	for i, h := range r.mute {
		if i == maxMute {
			names = append(names, fmt.Sprintf("%d more", len(r.mute)-i))
			break
		}
		what := h.Status.String()
		if h.Status == fsm.Up {
			what = "cannot read its domains"
		}
		names = append(names, fmt.Sprintf("%s (%s)", h.ID, what))
	}
	return fmt.Sprintf("every host is asked where it is; not yet known of %s: each must report, or be proven dead", strings.Join(names, ", "))
}

// maxMute hosts are named that a search waits for.
const maxMute = 8

// settle is how much later than the loss the arrival of a report must be: it
// was polled before it was sent, and the loss may have been noted by another
// leader's clock (S21).
const settle = 5 * time.Second
