package foresee

import (
	"slices"
	"time"

	"lifeboat/fsm"
	"lifeboat/fsm/logpb"
)

// orders has the hosts begin with the orders that are new to them.
func (r *rehearsal) orders() {
	for id, h := range r.state().Hosts() {
		if h.Status != fsm.Up || r.dead[id] {
			continue
		}
		for _, o := range h.Orders {
			if r.known[o.ID] {
				continue
			}
			r.known[o.ID] = true
			r.after(r.takes(o), happening{host: id, order: o.ID})
		}
	}
}

func (r *rehearsal) takes(o *fsm.Order) time.Duration {
	switch o.Kind {
	case fsm.OrderStart:
		return r.assumed.Start
	case fsm.OrderStop:
		return r.assumed.Stop
	case fsm.OrderMigrate:
		return r.assumed.Move
	}
	return r.state().Policy.Beat // what has to be written down only
}

// happen is what comes about now, all of it before the leader looks again.
func (r *rehearsal) happen() {
	r.last = r.now
	var said []*logpb.HostReport
	for len(r.queue) > 0 && r.queue[0].at <= r.now {
		h := r.queue[0]
		r.queue = r.queue[1:]
		if h.do != nil {
			h.do()
			continue
		}
		said = r.ends(said, h)
	}
	r.say(said)
	r.listen()
	r.orders()
}

// ends adds what hosts say at the end of an order, if it still stands.
func (r *rehearsal) ends(said []*logpb.HostReport, x happening) []*logpb.HostReport {
	s := r.state()
	h := s.Host(x.host)
	if h == nil || h.Status != fsm.Up || r.dead[x.host] {
		return said
	}
	i := slices.IndexFunc(h.Orders, func(o *fsm.Order) bool { return o.ID == x.order })
	if i < 0 {
		return said
	}
	o := h.Orders[i]
	e := entry{vm: o.VM, inc: o.Incarnation}
	switch o.Kind {
	case fsm.OrderStart:
		e.power, e.reason, e.answers = fsm.PowerOn, fsm.ReasonBooted, r.answers(h.VM(o.VM))
	case fsm.OrderStop:
		e.power, e.reason = fsm.PowerOff, fsm.ReasonOrdered
	case fsm.OrderDestroy:
		e.power, e.reason, e.refused = fsm.PowerOff, fsm.ReasonOrdered, o.Incarnation
	case fsm.OrderMigrate:
		t := s.Host(o.Target)
		if t == nil || t.Status != fsm.Up || r.dead[o.Target] {
			return said // it fails, and runs on
		}
		e.power, e.reason = fsm.PowerOff, fsm.ReasonMigrated
		said = append(said, report(h, e))
		e.power, e.reason, e.answers = fsm.PowerOn, fsm.ReasonBooted, r.answers(h.VM(o.VM))
		return append(said, report(t, e))
	default:
		return said
	}
	if n := len(said); n > 0 && said[n-1].Host == string(h.ID) {
		e.add(said[n-1].Vms)
		return said
	}
	return append(said, report(h, e))
}

// promptAgents is what a plan takes guests to do that others wait for.
const promptAgents = "guests whose agent others wait for are taken to answer as soon as they run"

// answers reports whether somebody waits for the agent of a VM's guest, and notes that
// it is taken to answer.
func (r *rehearsal) answers(v *fsm.VM) bool {
	if v == nil || v.Order().Gate != fsm.GateAgent {
		return false
	}
	if !slices.Contains(r.plan.Notes, promptAgents) {
		r.plan.Notes = append(r.plan.Notes, promptAgents)
	}
	return true
}

// say commits reports, and notes who runs by them.
func (r *rehearsal) say(said []*logpb.HostReport) {
	if len(said) == 0 {
		return
	}
	seq := map[string]uint64{}
	for _, x := range said {
		if seq[x.Host] == 0 {
			seq[x.Host] = r.state().Host(fsm.HostID(x.Host)).Seq
		}
		seq[x.Host]++
		x.Seq = seq[x.Host]
	}
	r.apply(&logpb.Command{Body: &logpb.Command_HostReports{HostReports: &logpb.HostReports{Reports: said}}})
	s := r.state()
	for _, x := range said {
		for i, p := range x.Vms.Power {
			v, at := s.VM(fsm.VMID(x.Vms.Ids[16*i : 16*i+16]))
			if fsm.Power(p) == fsm.PowerOn && v != nil && v.Power == fsm.PowerOn && string(at.ID) == x.Host {
				r.done(v.ID, at.ID)
			}
		}
	}
}

// entry is one VM in a report.
type entry struct {
	vm      fsm.VMID
	power   fsm.Power
	reason  fsm.Reason
	inc     fsm.Incarnation
	refused fsm.Incarnation
	answers bool // the agent of its guest does
}

func report(h *fsm.Host, e entry) *logpb.HostReport {
	x := &logpb.HostReport{Host: string(h.ID), Epoch: h.Epoch, Vms: &logpb.VMEntries{}}
	e.add(x.Vms)
	return x
}

func (e entry) add(to *logpb.VMEntries) {
	if e.refused != 0 || e.answers {
		to.Details = append(to.Details, &logpb.VMDetail{Pos: uint32(len(to.Power)), Refused: uint64(e.refused), GuestAnswers: e.answers})
	}
	to.Ids = append(to.Ids, e.vm[:]...)
	to.Power, to.Reason = append(to.Power, byte(e.power)), append(to.Reason, byte(e.reason))
	to.Incarnations = append(to.Incarnations, uint64(e.inc))
}
