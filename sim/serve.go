package sim

import (
	"errors"
	"fmt"
	"time"

	lifeboatv1 "lifeboat/api/lifeboat/v1"
	"lifeboat/exchange"
	"lifeboat/fsm"
	"lifeboat/fsm/logpb"
)

// forwardLimit bounds a request that is passed on to the leader.
const forwardLimit = 15 * time.Second

// serve answers a request here, or passes it on to the leader.
func (m *manager) serve(c *call, req any) {
	if h, ok := req.(hello); ok {
		if m.term == nil {
			if t := m.listening; t != nil {
				t.noteClock(h)
			}
			c.answer(response{err: errNoLeader})
			return
		}
		m.term.hello(h, func(err error) { c.answer(response{err: err}) })
		return
	}
	if m.term != nil {
		m.term.serve(c, req)
		return
	}
	l := m.raft.leader
	if _, forwarded := c.from.(*manager); forwarded || l == nil || l == m {
		c.answer(response{err: errNoLeader})
		return
	}
	m.w.ask(m, l.name, forwardLimit, req, func(r response) {
		switch r.err {
		case errReset, errTimeout:
			r = response{err: errForwarded}
		case errRefused:
			r = response{err: errNoLeader} // nothing was done, and the others know no better
		}
		m.do(func() { c.answer(r) })
	})
}

func (t *term) serve(c *call, req any) {
	switch req := req.(type) {
	case *lifeboatv1.RegisterRequest:
		t.register(c, req)
	case *lifeboatv1.ReportRequest:
		t.report(c, req)
	case *lifeboatv1.PutSpecsRequest:
		t.putSpecs(c, req)
	case *lifeboatv1.LeaveRequest:
		t.leave(c, req)
	case *operation:
		req.run(t, func(err error) { c.answer(response{err: err}) })
	}
}

// failure is an error as an agent sees it: what the rules refuse, another
// registration cures.
func failure(err error) response {
	var no *rejected
	var taken *exchange.TakenError
	return response{err: err, register: errors.As(err, &no) || errors.As(err, &taken)}
}

func (t *term) register(c *call, req *lifeboatv1.RegisterRequest) {
	if req.Ticket == 0 {
		c.answer(response{msg: &lifeboatv1.RegisterResponse{Ticket: t.state().Index}})
		return
	}
	arrived, wall := t.mono(), t.wall()
	cmd, whole := exchange.Registration(req)
	t.propose("host/"+req.HostId, &logpb.Command{Body: &logpb.Command_HostRegister{HostRegister: cmd}}, func(_ fsm.Result, err error) {
		s := t.state()
		h := s.Host(fsm.HostID(req.HostId))
		switch {
		case err != nil:
			c.answer(failure(err))
			return
		case h == nil || h.Session != req.Session:
			c.answer(response{err: fmt.Errorf("another agent has registered as host %s", req.HostId)})
			return
		}
		x := t.contact(h.ID, h.Epoch)
		x.touch(0, arrived)
		x.changed()
		if whole {
			x.absorbed = max(x.absorbed, wall)
		}
		t.again()
		if w := t.m.w; w.shared && !w.settled {
			t.adopt(x.host)
		}
		c.answer(response{msg: &lifeboatv1.RegisterResponse{Epoch: h.Epoch, LeaderId: t.m.name, LeaderAddr: t.m.name,
			Managers: t.m.w.managerList(), BeatMs: s.Policy.Beat.Milliseconds()}})
	})
}

func (w *World) managerList() []*lifeboatv1.Manager {
	var out []*lifeboatv1.Manager
	for _, m := range w.managers {
		out = append(out, &lifeboatv1.Manager{Id: m.name, Addr: m.name})
	}
	return out
}

// report absorbs one report and answers when there is news, or after a beat.
func (t *term) report(c *call, req *lifeboatv1.ReportRequest) {
	arrived, wall := t.mono(), t.wall()
	s := t.state()
	h, err := exchange.Known(s, req)
	if err != nil {
		c.answer(t.refusal(s, err))
		return
	}
	x := t.contact(h.ID, h.Epoch)
	if x.epoch != req.Epoch {
		c.answer(t.refusal(s, &exchange.RegisterError{Reason: fmt.Sprintf("host %s has registered again", h.ID)}))
		return
	}
	x.touch(req.Seq, arrived)
	x.arrivals.Note(req.Seq, wall)
	for _, p := range req.Probes {
		t.deliver(h.ID, p)
	}
	if h.Status != fsm.Up {
		t.again()
	}
	t.absorb(x, req, wall, func(wanted [][]byte, err error) {
		if err != nil {
			c.answer(t.refusal(s, err))
			return
		}
		t.park(c, x, req, wanted)
	})
}

// park answers at once when there is something to say, else when there is or
// after a beat.
func (t *term) park(c *call, x *contact, req *lifeboatv1.ReportRequest, wanted [][]byte) {
	if t.over {
		c.answer(response{err: errNoLeader})
		return
	}
	x.wake() // an agent waits for one answer
	s := t.state()
	h, err := exchange.Known(s, req)
	if err != nil {
		c.answer(t.refusal(s, err))
		return
	}
	if len(wanted) > 0 || len(x.probes) > 0 || exchange.AssignmentIndex(s, h) > req.HaveAssignment {
		c.answer(t.answer(s, h, x, req, wanted))
		return
	}
	p := &parked{have: req.HaveAssignment}
	p.reply = func() {
		if t.over {
			c.answer(response{err: errNoLeader})
			return
		}
		s := t.state()
		h, err := exchange.Known(s, req)
		if err != nil {
			c.answer(t.refusal(s, err))
			return
		}
		c.answer(t.answer(s, h, x, req, nil))
	}
	x.parked = p
	run := t.m.runs
	var beat func()
	beat = func() {
		if x.parked != p || t.over || t.m.runs != run || !t.m.up {
			return
		}
		if h, ok := c.from.(*host); ok && t.maySleep(x, h) {
			h.plan(0, true, beat)
			t.sleep(x, h)
			return
		}
		t.m.do(func() {
			if x.parked == p && !t.over {
				x.wake()
			}
		})
	}
	c.after(s.Policy.Beat, beat)
}

// absorb commits what a report says that the state does not.
func (t *term) absorb(x *contact, req *lifeboatv1.ReportRequest, wall int64, done func([][]byte, error)) {
	x.turn(func() {
		end := func(wanted [][]byte, err error) {
			done(wanted, err)
			x.turnOver()
		}
		if t.over {
			end(nil, errUnknown)
			return
		}
		s := t.state()
		h, err := exchange.Known(s, req)
		if err != nil || req.Seq <= x.seq {
			end(nil, err)
			return
		}
		change := func() {
			d := exchange.Diff(s, h, &x.memory, req, t.mono())
			if d.Changed() || len(d.Wanted) > 0 {
				x.host.news = t.m.w.now
			}
			commit := func() {
				x.changed()
				if !d.Partly {
					x.seq, x.absorbed = max(x.seq, req.Seq), max(x.absorbed, wall)
					x.arrivals.LookedAfter(req.LookedAfterSeq)
				}
				end(d.Wanted, nil)
			}
			if !d.Changed() {
				commit()
				return
			}
			t.propose("", &logpb.Command{Body: &logpb.Command_HostReports{HostReports: &logpb.HostReports{Reports: []*logpb.HostReport{d.Report}}}},
				func(_ fsm.Result, err error) {
					var no *rejected
					if err != nil && !errors.As(err, &no) {
						end(nil, err)
						return
					}
					commit()
				})
		}
		lease := exchange.LeaseChange(s, h, req)
		for _, c := range exchange.Words(s, h, req) {
			t.propose("host/"+req.HostId, c, ignore)
		}
		if lease == nil {
			change()
			return
		}
		x.host.news = t.m.w.now
		t.propose("host/"+req.HostId, &logpb.Command{Body: &logpb.Command_HostLease{HostLease: lease}}, func(_ fsm.Result, err error) {
			var no *rejected
			if err != nil && !errors.As(err, &no) {
				end(nil, err)
				return
			}
			change()
		})
	})
}

// answer is what a host is told.
func (t *term) answer(s *fsm.State, h *fsm.Host, x *contact, req *lifeboatv1.ReportRequest, wanted [][]byte) response {
	r := &lifeboatv1.ReportResponse{LeaderId: t.m.name, LeaderAddr: t.m.name, Term: t.number, AckedSeq: x.seq,
		WantSpecs: wanted, Probes: x.probes, BeatMs: s.Policy.Beat.Milliseconds()}
	x.probes = nil
	if exchange.AssignmentIndex(s, h) > req.HaveAssignment {
		r.Assignment = exchange.Assignment(s, h, func(v *fsm.VM) ([]byte, bool) { return v.Spec.Definition(), true })
		r.Managers = t.m.w.managerList()
	}
	if h.Lease != nil && h.Lease.Armed && h.Status == fsm.Up {
		if seq := x.leaseSeq(t.proven); seq > 0 {
			r.LeaseSeq, r.LeaseMs = seq, time.Duration(h.Lease.DurationNS).Milliseconds()
		}
	}
	return response{msg: r}
}

// refusal turns the wish to register into an answer and everything else into an
// error.
func (t *term) refusal(s *fsm.State, err error) response {
	var again *exchange.RegisterError
	if !errors.As(err, &again) {
		return failure(err)
	}
	return response{msg: &lifeboatv1.ReportResponse{LeaderId: t.m.name, LeaderAddr: t.m.name, Term: t.number,
		Register: true, Reason: again.Reason, BeatMs: s.Policy.Beat.Milliseconds()}}
}

func (t *term) putSpecs(c *call, req *lifeboatv1.PutSpecsRequest) {
	s := t.state()
	h := s.Host(fsm.HostID(req.HostId))
	if h == nil || h.Epoch != req.Epoch {
		c.answer(response{err: &rejected{"the host must register again first"}, register: true})
		return
	}
	cmd := &logpb.VMSpecs{Host: req.HostId, Epoch: req.Epoch}
	x := t.contact(h.ID, h.Epoch)
	for _, p := range req.Specs {
		if x.memory.ReadCopy(h, p) {
			x.changed()
			t.again()
			continue
		}
		spec := exchange.Spec(p)
		if exchange.KeepsDefinition(s, h, p) {
			spec.Definition = p.Definition // not sealed
		}
		cmd.Specs = append(cmd.Specs, spec)
	}
	t.propose("host/"+req.HostId, &logpb.Command{Body: &logpb.Command_VmSpecs{VmSpecs: cmd}}, func(_ fsm.Result, err error) {
		c.answer(failure(err))
	})
}

// leave is the clean stop of an agent: committed before it is answered (S16).
func (t *term) leave(c *call, req *lifeboatv1.LeaveRequest) {
	if h := t.state().Host(fsm.HostID(req.HostId)); h != nil && h.Epoch == req.Epoch {
		if c := exchange.Stopping(t.state(), h, req.MachineStop, req.Session); c != nil {
			t.propose("host/"+req.HostId, c, ignore)
		}
	}
	t.propose("host/"+req.HostId, &logpb.Command{Body: &logpb.Command_HostLeave{HostLeave: &logpb.HostLeave{
		Host: req.HostId, Epoch: req.Epoch, Session: req.Session, Reason: req.Reason}}}, func(_ fsm.Result, err error) {
		c.answer(failure(err))
	})
}
