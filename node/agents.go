package node

import (
	"context"
	"errors"
	"fmt"
	"time"

	"connectrpc.com/connect"
	"google.golang.org/protobuf/proto"

	lifeboatv1 "lifeboat/api/lifeboat/v1"
	"lifeboat/fsm"
	"lifeboat/fsm/logpb"
)

// absorbTimeout bounds how long a report may wait to be committed. The agent
// sends the next one anyway.
const absorbTimeout = 5 * time.Second

// maxSpec is what the log takes of one VM's needs and definition, in bytes.
const maxSpec = maxEntry - 4<<10

// register begins a new epoch of a host.
func (t *term) register(ctx context.Context, req *lifeboatv1.RegisterRequest) (*lifeboatv1.RegisterResponse, error) {
	if err := checkVMs(req.Vms); err != nil {
		return nil, err
	}
	arrived, wall := t.mono(), t.node.clock().UnixNano()
	if h := t.node.fsm.State().Host(fsm.HostID(req.HostId)); h != nil && h.Status != fsm.Removed && h.MachineID != req.MachineId {
		// S11. Said here with a code that no agent takes for "register again".
		return nil, connect.NewError(connect.CodeAlreadyExists, fmt.Errorf(
			"host %s is another machine (machine id %s); give this one an id and a certificate of its own, or remove the old host first with `lifeboat host remove %s`", h.ID, h.MachineID, h.ID))
	}
	t.contacts.knock(fsm.HostID(req.HostId), arrived)
	var entries entryWriter
	for _, r := range req.Vms {
		if entries.full() {
			break // the reports bring the rest
		}
		entries.add(r, read(r), true)
	}
	whole := entries.n == len(req.Vms)
	c := &logpb.HostRegister{
		Id: req.HostId, MachineId: valid(req.MachineId), BootId: valid(req.BootId), Session: valid(req.Session), Version: valid(req.Version),
		FeatureLevel: req.FeatureLevel, ProbeAddrs: validAll(req.ProbeAddrs), Inventory: inventoryToLog(req.Inventory),
		HardwareId: valid(req.HardwareId), Watchdog: uint32(req.Watchdog), WatchdogBoundNs: req.WatchdogBoundMs * int64(time.Millisecond),
		Vms: entries.done(), NodeId: valid(req.NodeId),
	}
	for _, l := range req.Labels {
		c.Labels = append(c.Labels, &logpb.Label{Key: valid(l.Key), Value: valid(l.Value)})
	}
	ctx, cancel := context.WithTimeout(ctx, absorbTimeout)
	defer cancel()
	_, err := t.propose(ctx, "host/"+req.HostId, &logpb.Command{Body: &logpb.Command_HostRegister{HostRegister: c}})
	if err != nil {
		return nil, answerError(err)
	}
	s := t.node.fsm.State()
	h := s.Host(fsm.HostID(req.HostId))
	if h == nil || h.Session != req.Session {
		return nil, connect.NewError(connect.CodeAborted, fmt.Errorf("another agent has registered as host %s in the meantime", req.HostId))
	}
	x := t.contacts.of(h.ID, h.Epoch)
	t.contacts.touch(x, 0, arrived)
	if whole {
		t.contacts.absorbed(x, 0, wall)
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
		return t.refusal(s, &errRegister{fmt.Sprintf("host %s has registered again", h.ID)})
	}
	t.contacts.touch(x, req.Seq, arrived)
	t.contacts.arrive(x, req.Seq, wall)
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
	p := t.contacts.park(x, req.HaveAssignment)
	defer t.contacts.unpark(x, p)
	s = t.node.fsm.State()
	if h, err = known(s, req); err != nil {
		return t.refusal(s, err)
	}
	probes := t.contacts.takeProbes(x)
	if len(wanted) == 0 && len(probes) == 0 && !t.proxies.news(h.ID) && assignmentIndex(s, h) <= req.HaveAssignment {
		beat := time.NewTimer(s.Policy.Beat)
		defer beat.Stop()
		select {
		case <-ctx.Done():
			return nil, ctx.Err()
		case <-beat.C:
		case <-p.wake:
		}
		s = t.node.fsm.State()
		if h, err = known(s, req); err != nil {
			return t.refusal(s, err)
		}
		probes = t.contacts.takeProbes(x)
	}
	if t.node.term.Load() != t {
		return nil, errNoLeader
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
	if req.Seq <= t.contacts.seq(x) {
		return nil, nil // overtaken by a later one
	}
	if c := leaseChange(s, h, req); c != nil {
		if _, err := t.propose(ctx, "host/"+req.HostId, &logpb.Command{Body: &logpb.Command_HostLease{HostLease: c}}); err != nil && !(c.Armed && rejected(err)) {
			return nil, err // one that the rules do not arm by now is told to change
		}
	}
	d := diff(s, h, x, req, t.mono())
	if d.changed() {
		if err := t.commit(ctx, d.report); err != nil {
			return nil, err
		}
		t.node.metrics.changed.Inc()
	}
	if !d.partly {
		t.contacts.absorbed(x, req.Seq, wall)
		t.contacts.lookedAt(x, req.LookedAfterSeq)
	}
	return d.wanted, nil
}

// leaseChange is what must be committed about the lease that an agent says it
// runs under (S12); nil when nothing.
func leaseChange(s *fsm.State, h *fsm.Host, req *lifeboatv1.ReportRequest) *logpb.HostLease {
	l := req.GetLease()
	if !l.GetArmed() {
		if h.Lease == nil {
			return nil
		}
		return &logpb.HostLease{Host: string(h.ID), Epoch: h.Epoch, BootId: h.BootID}
	}
	// The watchdog is the one the agent has now: it may have lost the one it
	// registered with, and then the lease is no proof any more.
	kind := watchdogOf(req.Watchdog)
	c := &logpb.HostLease{Host: string(h.ID), Epoch: h.Epoch, Armed: true, BootId: h.BootID, DurationNs: l.DurationMs * int64(time.Millisecond),
		Watchdog: uint32(kind), BoundNs: req.WatchdogBoundMs * int64(time.Millisecond), Assignment: req.HaveAssignment}
	switch held := h.Lease; {
	case held != nil && held.DurationNS == c.DurationNs && held.Watchdog == kind && held.BoundNS == c.BoundNs:
		return nil
	case held == nil && req.HaveAssignment < assignmentIndex(s, h):
		return nil // it may have been told to give up the lease since
	case wantsLease(s, h) && c.DurationNs > 0 && c.DurationNs <= int64(s.Policy.Lease) && c.BoundNs >= 0 && c.BoundNs <= int64(s.Policy.WatchdogBound):
		return c
	case held != nil && held.Watchdog != kind:
		c.DurationNs, c.BoundNs = held.DurationNS, held.BoundNS
		return c
	}
	return nil // it will be told to change
}

func watchdogOf(k lifeboatv1.WatchdogKind) fsm.Watchdog {
	if k < 0 || k > lifeboatv1.WatchdogKind_WATCHDOG_KIND_SOFT {
		return fsm.WatchdogNone
	}
	return fsm.Watchdog(k)
}

// answer is what a host is told.
func (t *term) answer(s *fsm.State, h *fsm.Host, x *contact, req *lifeboatv1.ReportRequest, wanted [][]byte, probes []*lifeboatv1.Probe) *lifeboatv1.ReportResponse {
	r := &lifeboatv1.ReportResponse{
		LeaderId: t.node.cfg.ID, LeaderAddr: t.node.cfg.Advertise, Term: t.wire(s), AckedSeq: t.contacts.seq(x),
		WantSpecs: wanted, Probes: probes, BeatMs: s.Policy.Beat.Milliseconds(),
	}
	if assignmentIndex(s, h) > req.HaveAssignment {
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
	var again *errRegister
	if !errors.As(err, &again) {
		return nil, answerError(err)
	}
	return &lifeboatv1.ReportResponse{LeaderId: t.node.cfg.ID, LeaderAddr: t.node.cfg.Advertise, Term: t.wire(s),
		Register: true, Reason: again.reason, BeatMs: s.Policy.Beat.Milliseconds()}, nil
}

// putSpecs commits what VMs need. Definitions are kept of protected VMs only.
func (t *term) putSpecs(ctx context.Context, req *lifeboatv1.PutSpecsRequest) (*lifeboatv1.PutSpecsResponse, error) {
	s := t.node.fsm.State()
	h := s.Host(fsm.HostID(req.HostId))
	if h == nil || h.Epoch != req.Epoch {
		return nil, connect.NewError(connect.CodeFailedPrecondition, fmt.Errorf("host %s must register again first", req.HostId))
	}
	if len(req.Specs) > 4*maxWanted {
		return nil, refuse("%d definitions at once, at most %d are accepted", len(req.Specs), 4*maxWanted)
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
		if t.contacts.readCopy(x, h, p) {
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
	spec := &logpb.Spec{Id: p.Id, Name: valid(p.Name), Cpus: p.Cpus, MemoryBytes: p.MemoryBytes, Machine: valid(p.Machine), Arch: valid(p.Arch),
		CpuModel: valid(p.CpuModel), Networks: validAll(p.Networks), Local: validAll(p.Local), Hash: p.Hash, Problem: valid(p.Problem)}
	for _, d := range p.Disks {
		spec.Disks = append(spec.Disks, &logpb.Disk{Path: valid(d.Path), Storage: valid(d.Storage), Readonly: d.Readonly, Shareable: d.Shareable, Network: d.Network})
	}
	if a := p.Protect; a != nil {
		spec.Protect = &logpb.Protection{On: a.On, Ha: valid(a.Ha), Priority: valid(a.Priority), MaxRestart: a.MaxRestart, MaxRelocate: a.MaxRelocate}
	}
	v := h.VM(fsm.VMID(p.Id))
	keep := v != nil && v.Protected() || p.Protect.GetOn() || s.Policy.ProtectDefault
	switch {
	case len(p.Definition) > maxDefinition:
		// Kept as a problem: a refusal would hold up the others it came with.
		spec.Problem = fmt.Sprintf("its definition has %d bytes, at most %d are accepted", len(p.Definition), maxDefinition)
	case keep && len(p.Definition) > 0:
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
	_, err := t.propose(ctx, "host/"+req.HostId, &logpb.Command{Body: &logpb.Command_HostLeave{HostLeave: &logpb.HostLeave{
		Host: req.HostId, Epoch: req.Epoch, Session: req.Session, Reason: valid(reason)}}})
	if err != nil {
		return nil, answerError(err)
	}
	return &lifeboatv1.LeaveResponse{}, nil
}

func inventoryToLog(p *lifeboatv1.Inventory) *logpb.Inventory {
	out := &logpb.Inventory{Cpus: p.GetCpus(), MemoryBytes: p.GetMemoryBytes(), Networks: validAll(p.GetNetworks()), Machines: validAll(p.GetMachines()),
		CpuModels: validAll(p.GetCpuModels()), LibvirtGuests: p.GetLibvirtGuests()}
	for _, s := range p.GetStorages() {
		out.Storages = append(out.Storages, &logpb.Storage{Id: valid(s.Id), Path: valid(s.Path), Up: s.Up})
	}
	for _, s := range p.GetBeats() {
		out.Beats = append(out.Beats, &logpb.Storage{Id: valid(s.Id), Path: valid(s.Path), Up: s.Up})
	}
	for _, x := range p.GetProblems() {
		out.Problems = append(out.Problems, &logpb.Problem{Part: valid(x.Part), Message: valid(x.Message)})
	}
	return out
}

func validAll(in []string) []string {
	out := make([]string, len(in))
	for i, s := range in {
		out[i] = valid(s)
	}
	return out
}
