package node

import (
	"context"
	"errors"
	"fmt"
	"time"

	"connectrpc.com/connect"
	"google.golang.org/protobuf/proto"

	lifeboatv1 "lifeboat/api/lifeboat/v1"
	"lifeboat/exchange"
	"lifeboat/fsm"
	"lifeboat/fsm/logpb"
	"lifeboat/transport"
)

// absorbTimeout bounds how long a report may wait to be committed. The agent
// sends the next one anyway.
const absorbTimeout = 5 * time.Second

// maxSpec is what the log takes of one VM's needs and definition, in bytes.
const maxSpec = maxEntry - 4<<10

// register begins a new epoch of a host, in the second of two calls: a request may
// lie with a frozen node while the host reboots and registers elsewhere, and is not
// to be taken for news when it comes (S5).
func (t *term) register(ctx context.Context, req *lifeboatv1.RegisterRequest) (*lifeboatv1.RegisterResponse, error) {
	if err := checkVMs(req.Vms); err != nil {
		return nil, err
	}
	arrived, wall := t.mono(), t.node.clock().UnixNano()
	s := t.node.fsm.State()
	h := s.Host(fsm.HostID(req.HostId))
	if h != nil && h.Status != fsm.Removed && h.MachineID != req.MachineId {
		// S11. Said here with a code that no agent takes for "register again".
		return nil, connect.NewError(connect.CodeAlreadyExists, fmt.Errorf(
			"host %s is another machine (machine id %s); give this one an id and a certificate of its own, or remove the old host first with `lifeboat host remove %s`", h.ID, h.MachineID, h.ID))
	}
	if no := t.node.outcast(s, transport.Identity{Kind: transport.KindHost, Name: req.HostId}); no != "" {
		return nil, connect.NewError(connect.CodePermissionDenied, errors.New(no))
	}
	if req.Ticket == 0 {
		return &lifeboatv1.RegisterResponse{Ticket: s.Index}, nil
	}
	if !h.Late(req.Ticket) {
		t.contacts.knock(fsm.HostID(req.HostId), arrived)
	}
	c, whole := exchange.Registration(req)
	ctx, cancel := context.WithTimeout(ctx, absorbTimeout)
	defer cancel()
	_, err := t.propose(ctx, "host/"+req.HostId, &logpb.Command{Body: &logpb.Command_HostRegister{HostRegister: c}})
	if err != nil {
		return nil, answerError(err)
	}
	s = t.node.fsm.State()
	h = s.Host(fsm.HostID(req.HostId))
	if h == nil || h.Session != req.Session {
		return nil, connect.NewError(connect.CodeAborted, fmt.Errorf("another agent has registered as host %s in the meantime", req.HostId))
	}
	x := t.contacts.of(h.ID, h.Epoch)
	x.touch(0, arrived)
	if whole {
		x.absorbed(0, wall)
	}
	t.again()
	return &lifeboatv1.RegisterResponse{Epoch: h.Epoch, LeaderId: t.node.cfg.ID, LeaderAddr: t.node.cfg.Advertise,
		Managers: t.node.managers(), BeatMs: s.Policy.Beat.Milliseconds()}, nil
}

// report absorbs one report and answers when there is news for the host, or
// after a beat.
func (t *term) report(ctx context.Context, req *lifeboatv1.ReportRequest) (*lifeboatv1.ReportResponse, error) {
	arrived, wall := t.mono(), t.node.clock().UnixNano()
	if err := checkVMs(req.Vms); err != nil {
		return nil, err
	}
	t.node.metrics.reports.Inc()
	s := t.node.fsm.State()
	h, err := known(s, req)
	if err != nil {
		return t.refusal(s, err)
	}
	x := t.contacts.of(h.ID, h.Epoch)
	if x.epoch != req.Epoch {
		// It has registered again in this very moment: a sequence of the last
		// epoch must not count in the new one.
		return t.refusal(s, &exchange.RegisterError{Reason: fmt.Sprintf("host %s has registered again", h.ID)})
	}
	x.touch(req.Seq, arrived)
	x.arrive(req.Seq, wall)
	for _, p := range req.Probes {
		t.probes.deliver(h.ID, p)
	}
	for _, o := range req.Fences {
		t.proxies.deliver(h.ID, t.wire(s), o)
	}
	if h.Status != fsm.Up {
		t.again()
	}
	wanted, err := t.absorb(ctx, x, req, wall)
	if err != nil {
		return t.refusal(s, err)
	}
	p := x.park(req.HaveAssignment)
	defer x.unpark(p)
	s = t.node.fsm.State()
	if h, err = known(s, req); err != nil {
		return t.refusal(s, err)
	}
	probes := x.takeProbes()
	// The first answer does not wait: the agent learns from it who leads, and leaves the
	// node that passed its report on.
	if !x.greet() && len(wanted) == 0 && len(probes) == 0 && !t.proxies.news(h.ID) && exchange.AssignmentIndex(s, h) <= req.HaveAssignment {
		beat := time.NewTimer(s.Policy.Beat)
		defer beat.Stop()
		select {
		case <-ctx.Done():
			return nil, ctx.Err()
		case <-t.over:
			return nil, noLeader()
		case <-beat.C:
		case <-p.wake:
		}
		s = t.node.fsm.State()
		if h, err = known(s, req); err != nil {
			return t.refusal(s, err)
		}
		probes = x.takeProbes()
	}
	if t.node.term.Load() != t {
		return nil, noLeader()
	}
	r := t.answer(s, h, x, req, wanted, probes)
	r.Fences, r.FencesOff = t.proxies.take(h.ID, arrived)
	return r, nil
}

// absorb commits what a report says that the state does not, one report of a
// host at a time.
func (t *term) absorb(ctx context.Context, x *contact, req *lifeboatv1.ReportRequest, wall int64) (wanted [][]byte, err error) {
	ctx, cancel := context.WithTimeout(ctx, absorbTimeout)
	defer cancel()
	select {
	case <-ctx.Done():
		return nil, ctx.Err()
	case x.turn <- struct{}{}:
		defer func() { <-x.turn }()
	}
	s := t.node.fsm.State()
	h, err := known(s, req)
	if err != nil {
		return nil, err
	}
	if req.Seq <= x.seq() {
		return nil, nil // overtaken by a later one
	}
	if c := exchange.LeaseChange(s, h, req); c != nil {
		if _, err := t.propose(ctx, "host/"+req.HostId, &logpb.Command{Body: &logpb.Command_HostLease{HostLease: c}}); err != nil && !(c.Armed && rejected(err)) {
			return nil, err // one that the rules do not arm by now is told to change
		}
	}
	for _, c := range exchange.Words(s, h, req) {
		if _, err := t.propose(ctx, "host/"+req.HostId, c); err != nil && !rejected(err) {
			return nil, err
		}
	}
	d := exchange.Diff(s, h, &x.memory, req, t.mono())
	if d.Changed() {
		if err := t.commit(ctx, d.Report); err != nil {
			return nil, err
		}
		t.node.metrics.changed.Inc()
	}
	if !d.Partly {
		x.absorbed(req.Seq, wall)
		x.lookedAt(req.LookedAfterSeq)
	}
	return d.Wanted, nil
}

// answer is what a host is told.
func (t *term) answer(s *fsm.State, h *fsm.Host, x *contact, req *lifeboatv1.ReportRequest, wanted [][]byte, probes []*lifeboatv1.Probe) *lifeboatv1.ReportResponse {
	r := &lifeboatv1.ReportResponse{
		LeaderId: t.node.cfg.ID, LeaderAddr: t.node.cfg.Advertise, Term: t.wire(s), AckedSeq: x.seq(),
		WantSpecs: wanted, Probes: probes, BeatMs: s.Policy.Beat.Milliseconds(),
	}
	if exchange.AssignmentIndex(s, h) > req.HaveAssignment {
		r.Assignment = t.node.assignment(s, h)
		r.Managers = t.node.managers()
	}
	if h.Lease != nil && h.Lease.Armed && h.Status == fsm.Up {
		if seq := t.contacts.leaseSeq(x); seq > 0 {
			r.LeaseSeq, r.LeaseMs = seq, time.Duration(h.Lease.DurationNS).Milliseconds()
		}
	}
	return r
}

// wire is the term as agents see it. They refuse a lower one than they have seen
// (S14), also after a restore, which begins with Raft's terms anew: the
// generation stands above them (S1).
func (t *term) wire(s *fsm.State) uint64 { return uint64(s.Generation)<<generationShift | t.number }

// generationShift leaves room for 2^40 elections.
const generationShift = 40

// refusal turns the wish to register into an answer and everything else into an
// error.
func (t *term) refusal(s *fsm.State, err error) (*lifeboatv1.ReportResponse, error) {
	var again *exchange.RegisterError
	if !errors.As(err, &again) {
		return nil, answerError(err)
	}
	return &lifeboatv1.ReportResponse{LeaderId: t.node.cfg.ID, LeaderAddr: t.node.cfg.Advertise, Term: t.wire(s),
		Register: true, Reason: again.Reason, BeatMs: s.Policy.Beat.Milliseconds()}, nil
}

// putSpecs commits what VMs need. Definitions are kept of protected VMs only.
func (t *term) putSpecs(ctx context.Context, req *lifeboatv1.PutSpecsRequest) (*lifeboatv1.PutSpecsResponse, error) {
	s := t.node.fsm.State()
	h := s.Host(fsm.HostID(req.HostId))
	if h == nil || h.Epoch != req.Epoch {
		return nil, connect.NewError(connect.CodeFailedPrecondition, fmt.Errorf("host %s must register again first", req.HostId))
	}
	if len(req.Specs) > 4*exchange.MaxWanted {
		return nil, refuse("%d definitions at once, at most %d are accepted", len(req.Specs), 4*exchange.MaxWanted)
	}
	c := &logpb.VMSpecs{Host: string(h.ID), Epoch: h.Epoch}
	size := 0
	flush := func() error {
		if len(c.Specs) == 0 {
			return nil
		}
		_, err := t.propose(ctx, "host/"+req.HostId, &logpb.Command{Body: &logpb.Command_VmSpecs{VmSpecs: c}})
		c, size = &logpb.VMSpecs{Host: string(h.ID), Epoch: h.Epoch}, 0
		return err
	}
	x := t.contacts.of(h.ID, h.Epoch)
	for _, p := range req.Specs {
		if x.readCopy(h, p) {
			t.again()
			continue
		}
		spec, err := t.node.spec(s, h, p)
		if err != nil {
			return nil, err
		}
		if n := proto.Size(spec); size+n > batchSize {
			if err := flush(); err != nil {
				return nil, answerError(err)
			}
			size = n
		} else {
			size += n
		}
		c.Specs = append(c.Specs, spec)
	}
	if err := flush(); err != nil {
		return nil, answerError(err)
	}
	return &lifeboatv1.PutSpecsResponse{}, nil
}

// spec writes one spec for the log; its definition is compressed and sealed.
func (n *Node) spec(s *fsm.State, h *fsm.Host, p *lifeboatv1.VMSpec) (*logpb.Spec, error) {
	if len(p.Id) != 16 || len(p.Hash) != 32 {
		return nil, refuse("a spec has an id of %d bytes and a hash of %d, not 16 and 32", len(p.Id), len(p.Hash))
	}
	spec := exchange.Spec(p)
	switch {
	case len(p.Definition) > maxDefinition:
		// Kept as a problem: a refusal would hold up the others it came with.
		spec.Problem = fmt.Sprintf("its definition has %d bytes, at most %d are accepted", len(p.Definition), maxDefinition)
	case len(p.Definition) > 0 && exchange.KeepsDefinition(s, h, p):
		spec.Definition = n.sealer.seal(p.Definition, p.Id)
	}
	if size := proto.Size(spec); size > maxSpec {
		return &logpb.Spec{Id: p.Id, Name: spec.Name, Hash: p.Hash, Problem: fmt.Sprintf("what it needs takes %d bytes, at most %d are accepted", size, maxSpec)}, nil
	}
	return spec, nil
}

// leave is the clean stop of an agent: committed before it returns (S16).
func (t *term) leave(ctx context.Context, req *lifeboatv1.LeaveRequest) (*lifeboatv1.LeaveResponse, error) {
	ctx, cancel := context.WithTimeout(ctx, absorbTimeout)
	defer cancel()
	reason := req.Reason
	if reason == "" {
		reason = "its agent was stopped"
	}
	s := t.node.fsm.State()
	if h := s.Host(fsm.HostID(req.HostId)); h != nil && h.Epoch == req.Epoch {
		if c := exchange.Stopping(s, h, req.MachineStop, req.Session); c != nil {
			if _, err := t.propose(ctx, "host/"+req.HostId, c); err != nil && !rejected(err) {
				return nil, answerError(err)
			}
		}
	}
	_, err := t.propose(ctx, "host/"+req.HostId, &logpb.Command{Body: &logpb.Command_HostLeave{HostLeave: &logpb.HostLeave{
		Host: req.HostId, Epoch: req.Epoch, Session: req.Session, Reason: valid(reason)}}})
	if err != nil {
		return nil, answerError(err)
	}
	return &lifeboatv1.LeaveResponse{}, nil
}
