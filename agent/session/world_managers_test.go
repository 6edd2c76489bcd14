package session

import (
	lifeboatv1 "lifeboat/api/lifeboat/v1"
	"lifeboat/hypervisor"
)

func (w *world) registered(r *lifeboatv1.RegisterRequest) *lifeboatv1.RegisterResponse {
	if r.Ticket == 0 {
		return &lifeboatv1.RegisterResponse{Ticket: 1}
	}
	w.epoch++
	if w.bootOf != r.BootId {
		w.counting = false // a new boot id is proof that the old boot is over
	}
	w.bootOf, w.seq = r.BootId, 0
	return &lifeboatv1.RegisterResponse{Epoch: w.epoch, BeatMs: 1000}
}

// report is delivered, and answered, or lost on either way.
func (w *world) report(p int, a Report) {
	seq := a.Req.Seq
	lost := func(register bool) func() {
		return func() {
			w.tell(p, func() Out { return w.sess.SendFailed(w.now, seq, Failure{Err: errWorld, Register: register}) })
		}
	}
	e := w.ask("report", func() {
		if a.Req.Epoch != w.epoch {
			w.ask("refused", lost(true), nil)
			return
		}
		resp := w.answer(a.Req)
		w.ask("answer", func() { w.tell(p, func() Out { return w.sess.Answered(w.now, seq, resp) }) }, lost(false))
	}, lost(false))
	e.old = func() {
		if a.Req.Term < w.term {
			lost(false)() // it would renew nothing: its canary does not commit (S14)
			return
		}
		resp := &lifeboatv1.ReportResponse{Term: w.term - 1, AckedSeq: seq, LeaseSeq: seq, LeaseMs: leaseTime.Milliseconds(), BeatMs: 1000}
		w.ask("answer", func() { w.tell(p, func() Out { return w.sess.Answered(w.now, seq, resp) }) }, lost(false))
	}
}

func (w *world) answer(r *lifeboatv1.ReportRequest) *lifeboatv1.ReportResponse {
	resp := &lifeboatv1.ReportResponse{Term: w.term, AckedSeq: w.seq, BeatMs: 1000}
	if r.Seq <= w.seq {
		return resp // overtaken by a later one
	}
	w.seq = r.Seq
	resp.AckedSeq = r.Seq
	for _, v := range r.Vms {
		id := hypervisor.UUID(v.Id)
		w.refused[id] = max(w.refused[id], v.Refused)
		w.failed[id] = max(w.failed[id], v.Failed)
		o := w.vms[id]
		if o == nil {
			continue
		}
		if v.Incarnation == o.inc && v.Power == lifeboatv1.PowerState_POWER_STATE_ON || v.Failed >= o.inc {
			o.order = 0
		}
		if v.Refused >= o.destroy {
			o.destroy = 0
		}
	}
	w.counting = w.counting && r.Lease.GetArmed()
	if r.Lease.GetArmed() && w.wantLease && w.armed && r.BootId == w.bootOf {
		w.counting = true
		w.until = max(w.until, w.now.Add(leaseTime))
		resp.LeaseSeq, resp.LeaseMs = r.Seq, leaseTime.Milliseconds()
	}
	if a := w.assignment(); r.HaveAssignment != a.Index {
		resp.Assignment = a
	}
	return resp
}

func (w *world) assignment() *lifeboatv1.Assignment {
	a := &lifeboatv1.Assignment{
		Armed: w.armed,
		Lease: &lifeboatv1.Lease{Armed: w.wantLease, DurationMs: leaseTime.Milliseconds()},
	}
	for _, id := range w.ids() {
		o := w.vms[id]
		if o == nil {
			continue
		}
		if o.order != 0 && w.renew && (o.epoch != w.epoch || o.boot != w.bootOf) {
			w.order(o)
		}
		add := func(kind lifeboatv1.OrderKind, no, incarnation uint64) {
			a.Orders = append(a.Orders, &lifeboatv1.Order{
				Id: no, Kind: kind, Vm: id[:], Name: "vm", Epoch: w.epoch, BootId: w.bootOf, Incarnation: incarnation, GraceMs: 2000,
			})
		}
		if !o.gone {
			a.Vms = append(a.Vms, &lifeboatv1.AssignedVM{Id: id[:], Incarnation: o.inc, Protected: true, Wanted: true})
		}
		if o.order != 0 {
			add(lifeboatv1.OrderKind_ORDER_KIND_START, o.order, o.inc)
			x := a.Orders[len(a.Orders)-1]
			x.Epoch, x.BootId = o.epoch, o.boot
		}
		if o.stop {
			add(lifeboatv1.OrderKind_ORDER_KIND_STOP, 1, o.inc)
		}
		if o.destroy != 0 {
			add(lifeboatv1.OrderKind_ORDER_KIND_DESTROY, 2, o.destroy)
		}
	}
	if s := a.String(); s != w.said {
		w.said = s
		w.index++
	}
	a.Index = w.index
	return a
}

// What must hold, whatever happens.

// checkReport: what the wire says is true, and safe on disk where it must be.
func (w *world) checkReport(r *lifeboatv1.ReportRequest) {
	disk := Ledger{}
	if w.ledger != nil {
		disk, _ = DecodeLedger(w.ledger)
	}
	for _, v := range r.Vms {
		id := hypervisor.UUID(v.Id)
		e, d := disk.VMs[id], w.dom(id)
		if v.Incarnation > e.Incarnation || v.Refused > e.Refused || v.Failed > e.Failed {
			w.t.Fatalf("reported %v, on disk is %+v", v, e)
		}
		if v.Power == lifeboatv1.PowerState_POWER_STATE_OFF || v.Power == lifeboatv1.PowerState_POWER_STATE_ABSENT {
			// Nothing of ours has ended since it began: it was never off (S5).
			if w.ran[key{id, v.Incarnation}] && d.state == hypervisor.StateRunning && d.inc == v.Incarnation {
				w.t.Fatalf("reported %v while that incarnation runs", v)
			}
		}
		if n := max(v.Refused, v.Failed); d.state.Active() && d.inc <= n && w.ran[key{id, d.inc}] {
			w.t.Fatalf("reported %v while incarnation %d runs", v, d.inc)
		}
	}
}

// checkMayRun: no guest begins to run when its lease may be over elsewhere.
func (w *world) checkMayRun(id hypervisor.UUID, what string) {
	if w.counting && w.now > w.until {
		w.t.Fatalf("%s of %s at %v, the managers took the lease for over at %v", what, id, w.now, w.until)
	}
}

// checkMayDestroy: while HA is disarmed nothing that runs is destroyed (S22).
func (w *world) checkMayDestroy(id hypervisor.UUID) {
	s := w.sess
	fence := s.lease.expired && s.ledger.HAArmed && s.ledger.protects(id)
	if w.dom(id).state == hypervisor.StateRunning && !fence && (s.assigned == nil || !s.assigned.Armed) {
		w.t.Fatalf("%s runs and is destroyed while HA is disarmed", id)
	}
}

// checkPet: from the end of the lease on the machine is kept alive only while
// no protected VM runs.
func (w *world) checkPet() {
	if !w.counting || w.now <= w.until || !w.armed {
		return
	}
	for _, p := range w.sess.ledger.Protected {
		if w.dom(p.ID).state == hypervisor.StateRunning {
			w.t.Fatalf("the watchdog is petted at %v, %s runs and the lease ended at %v", w.now, p.ID, w.until)
		}
	}
}

// check: a bound after the end of the lease nothing protected runs, however
// slow the agent was.
func (w *world) check() {
	if !w.counting || !w.armed || w.now <= w.until.Add(bound) {
		return
	}
	for _, id := range w.ids() {
		o := w.vms[id]
		if d := w.doms[id]; o != nil && !o.gone && o.inc == d.inc && d.state == hypervisor.StateRunning && w.sess.ledger.protects(id) {
			w.t.Fatalf("%s still runs at %v, the lease ended at %v", id, w.now, w.until)
		}
	}
}
