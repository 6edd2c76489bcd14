package fsm

import (
	"fmt"
	"slices"

	"lifeboat/fsm/logpb"
)

// Kinds of VMMove.
const (
	MoveLive     = 1
	MoveRelocate = 2
)

// LevelMigrates is what the agent of a host must understand of orders to be told to
// migrate a VM.
const LevelMigrates = 2

// vmMove orders a running VM to another host: an operator's word, or the leader's
// with a cause (S7).
func (t *tx) vmMove(c *logpb.VMMove) string {
	id, _ := vmID(c.Vm)
	old, h := t.s.VM(id)
	switch no := t.later(LevelPolicy); {
	case no != "":
		return no
	case old == nil:
		return fmt.Sprintf("there is no VM %s; `lifeboat vm list` shows them", id)
	case c.Incarnation != 0 && Incarnation(c.Incarnation) != old.Incarnation:
		return "" // late
	case c.Kind != MoveLive && c.Kind != MoveRelocate:
		return "a VM can be migrated live, or stopped and started elsewhere"
	}
	to, live := t.s.Host(HostID(c.Target)), c.Kind == MoveLive
	if to == nil {
		return fmt.Sprintf("there is no host %s; `lifeboat host list` shows them", c.Target)
	}
	if no := t.s.CannotMove(old, h, live); no != "" {
		return no
	}
	if no := t.s.CannotTake(old, h, to, live); no != "" {
		return no
	}
	for _, r := range t.s.RulesOf(id) { // those about VMs together: who moves with it comes next
		if no := t.s.breaks(r, id, to); no != "" && r.Strict {
			return no
		}
	}
	v, cause := *old, Cause(c.Cause)
	if cause < CauseMaintenance || cause > CauseRule {
		cause = CauseOperator
	}
	typ, step, kind := WorkRelocation, Stopping, OrderStop
	if live {
		typ, step, kind = WorkMigration, Migrating, OrderMigrate
	}
	w := *t.openWork(&v, typ, step, cause, h.ID, fmt.Sprintf("from host %s to host %s", h.ID, to.ID))
	w.Target, w.Why, w.Incarnation = to.ID, c.Why, v.Incarnation
	if live {
		w.Attempt = 1
	}
	t.putWork(&w)
	n := edit(t.s.Host(h.ID))
	n.Orders = slices.DeleteFunc(slices.Clone(n.Orders), func(o *Order) bool { return o.VM == id })
	t.order(n, kind, &v, v.Incarnation, w.ID)
	if live {
		o := n.Orders[len(n.Orders)-1]
		o.Target, o.Index = to.ID, t.index
	}
	t.setHost(n)
	t.storeVM(h.ID, &v)
	if live {
		x := edit(t.s.Host(to.ID))
		x.Expects, x.Assigned = t.index, t.index
		t.setHost(x)
	}
	how := "be stopped, and started on host " + string(to.ID)
	if live {
		how = "migrate live to host " + string(to.ID)
	}
	t.linked(w.Begun, workCause(w.ID), "VM.MOVE.ORDER", Info, vmSubject(&v), fmt.Sprintf("%s on host %s is to %s (%s): %s", v.Name, h.ID, how, cause, c.Why))
	return ""
}

// Expected reports whether the target of a migration knows that the VM comes: its
// agent has written down that it ends with the host's lease, as those do that the host
// owns. Before that the source is not told to begin (S7, S12).
func (s *State) Expected(o *Order) bool {
	to := s.Host(o.Target)
	return to != nil && to.Heeds >= o.Index
}

// Coming walks the VMs that are on their way to a host by live migration.
func (s *State) Coming(to HostID) (vms []VM) {
	h := s.Host(to)
	if h == nil || h.Expects == 0 {
		return nil
	}
	for w := range s.OpenWork() {
		if v, _ := s.VM(w.VM); v != nil && w.Type == WorkMigration && w.Target == to {
			vms = append(vms, *v)
		}
	}
	return vms
}

// CannotMove says why a VM cannot leave the host h that owns it, whatever the
// target; "" = it can. Room and what it needs are the business of placement.
func (s *State) CannotMove(v *VM, h *Host, live bool) string {
	switch {
	case !s.Armed:
		return fmt.Sprintf("HA is disarmed: VM %s is not moved before `lifeboat ha arm`", v.Name)
	case !v.Protected():
		return fmt.Sprintf("VM %s is not protected: lifeboat does not touch it; protect it with `lifeboat vm protect %s`", v.Name, v.Name)
	case v.Work != 0:
		return fmt.Sprintf("VM %s has open work %d already; `lifeboat work show %d` says what it is", v.Name, v.Work, v.Work)
	case h.Status != Up:
		return fmt.Sprintf("host %s, on which VM %s is, is %s: it cannot be told", h.ID, v.Name, h.Status)
	case v.Power != PowerOn || !v.Wanted:
		return fmt.Sprintf("VM %s is not running on host %s (%s): it has nothing to be moved from", v.Name, h.ID, v.Power)
	case v.Reason == ReasonIOError:
		return fmt.Sprintf("VM %s is paused on an I/O error: it cannot reach its storage", v.Name)
	case h.order(OrderDestroy, v.ID) != nil:
		return fmt.Sprintf("host %s is told to remove VM %s", h.ID, v.Name)
	case v.Spec == nil || !v.Spec.Defines():
		return fmt.Sprintf("the definition of VM %s has never been read: what it needs is not known", v.Name)
	case len(v.Spec.Local) > 0:
		return fmt.Sprintf("VM %s is bound to host %s: %s", v.Name, h.ID, v.Spec.Local[0])
	case live && v.HAPolicy().NoLive:
		return fmt.Sprintf("VM %s may not be migrated live (live_migration is false for it); `lifeboat vm relocate %s` stops it and starts it elsewhere", v.Name, v.Name)
	case live && h.Level < LevelMigrates:
		return fmt.Sprintf("the agent of host %s is of a version that does not migrate VMs; install a newer one there", h.ID)
	}
	return ""
}

// CannotTake says why a host can certainly not take a VM that leaves host from.
func (s *State) CannotTake(v *VM, from, to *Host, live bool) string {
	switch {
	case to.ID == from.ID:
		return fmt.Sprintf("VM %s runs on host %s already", v.Name, to.ID)
	case to.Status != Up:
		return fmt.Sprintf("host %s is %s", to.ID, to.Status)
	case to.Resource != Enabled:
		return fmt.Sprintf("host %s is %s", to.ID, to.Resource)
	case to.Stopping != StaysUp:
		return fmt.Sprintf("host %s is %s", to.ID, to.Stopping)
	case to.Copy(v.ID) != nil:
		return fmt.Sprintf("another domain with the UUID of VM %s runs on host %s", v.Name, to.ID)
	case to.order(OrderDestroy, v.ID) != nil:
		return fmt.Sprintf("host %s still has to remove an older copy of VM %s", to.ID, v.Name)
	case live && (to.Inventory == nil || to.Inventory.MigrateURI == ""):
		return fmt.Sprintf("nobody knows how the hypervisor of host %s is reached by others: its agent does not say (`migrate_uri` in its configuration)", to.ID)
	}
	return ""
}

// callOff has the source of a migration abort it. What became of it only the source
// can say (S4).
func (t *tx) callOff(h *Host, v *VM, w *Work) string {
	o := h.order(OrderMigrate, v.ID)
	switch {
	case o == nil:
		return fmt.Sprintf("work %d cannot be cancelled: what became of the migration is being found out (%s)", w.ID, w.Reason)
	case o.Abort:
		return fmt.Sprintf("work %d is being called off already; host %s has not answered yet", w.ID, h.ID)
	}
	n := edit(h)
	n.Orders = slices.Clone(h.Orders)
	x := *o
	x.Abort = true
	n.Orders[slices.Index(h.Orders, o)] = &x
	n.Assigned = t.index
	t.setHost(n)
	c := *w
	c.Reason = "called off by " + t.actor
	t.putWork(&c)
	t.linked(w.Begun, workCause(w.ID), "WORK.CALLOFF", Info, vmSubject(v), fmt.Sprintf("work %d for %s is called off by %s; host %s is told to abort the migration", w.ID, v.Name, t.actor, h.ID))
	return ""
}

// answersOrder reports whether an entry is the source's word that a migration came
// to nothing: the VM runs where it was.
func answersOrder(h *Host, v *VM, e *vmEntry) bool {
	if e.order == 0 || e.power != PowerOn || e.inc != v.Incarnation {
		return false
	}
	o := h.order(OrderMigrate, v.ID)
	return o != nil && o.ID == e.order
}

func (p *reporting) notMoved(v *VM, e *vmEntry) {
	w := p.s.Work(v.Work)
	if !answersOrder(p.host, v, e) || w == nil {
		return
	}
	off := p.host.order(OrderMigrate, v.ID).Abort
	p.dropOrder(OrderMigrate, v.ID)
	runs := fmt.Sprintf("it runs on host %s as before", p.host.ID)
	if off {
		p.endWork(v, w, Cancelled, w.Reason+"; "+runs)
		return
	}
	p.endWork(v, w, Error, fmt.Sprintf("its live migration to host %s failed: %s; %s", w.Target, e.orderFailure, runs))
	p.raiseVM(v, NotMoved, Warning, "VM %s could not be migrated live from host %s to host %s: %s. It runs on host %s as before.", v.Name, p.host.ID, w.Target, e.orderFailure, p.host.ID)
}

// NotMoved is the cause of an alert about a VM that could not be moved. It counts
// how often in a row.
const NotMoved = "migration"

// runsOn: the source says that the VM runs there.
func (p *reporting) runsOn(v *VM, w *Work) {
	switch {
	case w.Step == Migrating:
	case p.host.order(OrderMigrate, v.ID) != nil:
		p.migratesAgain(p.host, w)
	default:
		p.endWork(v, w, Cancelled, fmt.Sprintf("it did not leave: it runs on host %s", p.host.ID))
	}
}

// migratesAgain: the source is heard again, and its order stands.
func (t *tx) migratesAgain(h *Host, w *Work) {
	n := *w
	n.Step, n.Reason = Migrating, fmt.Sprintf("host %s is heard again, and has not said what became of it", h.ID)
	t.putWork(&n)
}

// offOnTheWay: the VM does not run on its source any more. Whether it runs on the
// target is asked before anything is started (S7).
func (p *reporting) offOnTheWay(v *VM, w *Work, what string) {
	p.dropOrder(OrderMigrate, v.ID)
	if w.Step != Investigating {
		p.investigate(w, fmt.Sprintf("%s; host %s, to which it was being migrated, is asked", what, w.Target))
	}
}

// sourceDown: the source of a migration is declared Down.
func (t *tx) sourceDown(h *Host, w *Work) {
	if w.Step == Investigating {
		return // it did not run there any more
	}
	n := *w
	n.Step, n.Reason = Fencing, fmt.Sprintf("waits for proof that host %s is dead, or for its word on what became of the migration", h.ID)
	t.putWork(&n)
}

// sourceBack: the source is back, and the VM runs there; v is being edited.
func (t *tx) sourceBack(h *Host, v *VM, w *Work) {
	if h.order(OrderMigrate, v.ID) != nil {
		t.migratesAgain(h, w)
		return
	}
	t.endWork(v, w, Cancelled, fmt.Sprintf("it did not leave: it runs on host %s", h.ID))
}

// foundNowhere: source and target have both been accounted for, and the VM runs on
// neither. It becomes a VM to be recovered; nil: it stays off. v is being edited.
func (t *tx) foundNowhere(v *VM, h *Host, w *Work, why string) *Work {
	if offByHand(v, v.Reason) || !v.Protected() || !v.Wanted {
		t.endWork(v, w, Done, fmt.Sprintf("not needed: it is off (%s)", v.Reason))
		if v.Power != PowerOff {
			v.Power, v.Since = PowerOff, t.now
		}
		v.Wanted = false
		t.assigned(h.ID)
		return nil
	}
	n := *w
	n.Type, n.Attempt = WorkHA, 0
	switch {
	case h.HA == HAFenced || v.Reason == ReasonHostDead:
		n.Cause = CauseHostDown
	case v.Reason == ReasonMigrated:
		n.Cause = CauseMigrated
	case v.Power == PowerReportMissing:
		n.Cause = CauseMissing
	case v.Reason == ReasonHostReboot:
		n.Cause = CauseHostReboot
	case v.Reason == ReasonSelfFenced:
		n.Cause = CauseSelfFenced
	case v.Reason == ReasonHostShutdown:
		n.Cause = CauseHostShutdown
	default:
		n.Cause = CauseCrash
	}
	n.Target, n.Why = "", ""
	t.putWork(&n)
	t.linked(w.Begun, workCause(w.ID), "VM.MOVE.LOST", Warning, vmSubject(v), fmt.Sprintf("%s was lost on its way from host %s to host %s: %s", v.Name, h.ID, w.Target, why))
	t.lost(v, h.ID, n.Cause)
	return &n
}

// relocating: the VM is off on its source. It is given up there before it starts
// elsewhere (S4), unless somebody has migrated it away meanwhile.
func (p *reporting) relocating(v *VM, w *Work, r Reason) {
	o := p.host.order(OrderDestroy, v.ID)
	switch {
	case o != nil && w.Step == Stopping:
	case o == nil && r == ReasonMigrated:
		p.endWork(v, w, Cancelled, fmt.Sprintf("it has left host %s", p.host.ID))
		p.openWork(v, WorkHA, Investigating, CauseMigrated, p.host.ID, "it left host "+string(p.host.ID)+"; every host is asked where it is")
	default:
		if o == nil {
			p.order(p.host, OrderDestroy, v, v.Incarnation, w.ID)
		}
		n := *w
		n.Step, n.Reason = Stopping, fmt.Sprintf("it is off; host %s gives it up", p.host.ID)
		p.putWork(&n)
	}
}

// moved notes the end of a move; v is being edited, and runs on host at.
func (t *tx) moved(v *VM, w *Work, at HostID) {
	t.resolveVM(v, NotMoved, "it was moved to host %s", at)
	switch {
	case at == w.From:
		return
	case w.Cause == CauseMaintenance || w.Cause == CauseHostStops:
		if v.Home() == "" && !v.HAPolicy().Stays {
			v.setHome(w.From)
		}
	default:
		v.setHome("")
	}
	if v.Home() == at {
		v.setHome("")
	}
	how := "was migrated live"
	if w.Type == WorkRelocation {
		how = "was stopped, and started"
	}
	t.linked(w.Begun, workCause(w.ID), "VM.MOVE", Info, vmSubject(v), fmt.Sprintf("VM %s %s from host %s to host %s (%s) and runs there at incarnation %s", v.Name, how, w.From, at, w.Cause, v.Incarnation))
}

// inventory reads what a host has, as the feature level of the cluster knows it.
func (t *tx) inventory(p *logpb.Inventory) *Inventory {
	inv := inventoryFromLog(p)
	if t.s.Level < LevelPolicy {
		inv.MigrateURI = ""
	}
	return inv
}
