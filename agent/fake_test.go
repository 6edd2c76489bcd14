package agent

import (
	"context"
	"errors"
	"slices"
	"sync"
	"time"

	"connectrpc.com/connect"

	lifeboatv1 "lifeboat/api/lifeboat/v1"
	"lifeboat/api/lifeboat/v1/lifeboatv1connect"
	"lifeboat/hypervisor"
)

// managers are a small working cluster of management nodes, as one host sees
// it: registration, parked reports, assignments, leases, goodbyes.
type managers struct {
	mu      sync.Mutex
	news    chan struct{} // closed and replaced when something changes
	heard   chan struct{} // the same, when a report comes
	down    map[string]bool
	term    uint64
	epoch   uint64
	index   uint64
	armed   bool
	lease   time.Duration // 0: none
	vms     map[hypervisor.UUID]*lifeboatv1.AssignedVM
	orders  []*lifeboatv1.Order
	wants   [][]byte
	asks    []*lifeboatv1.Probe
	boot    string
	last    *lifeboatv1.ReportRequest
	reg     *lifeboatv1.RegisterRequest
	specs   map[hypervisor.UUID]*lifeboatv1.VMSpec
	probes  []*lifeboatv1.ProbeResult
	powers  map[hypervisor.UUID][]lifeboatv1.PowerState // every change, in order
	left    *lifeboatv1.LeaveRequest
	onLeave func()
	leased  uint64 // reports that were answered with a lease

	emptyFirst bool // of the assignment
}

const beat = time.Second

func newManagers() *managers {
	return &managers{
		news: make(chan struct{}), heard: make(chan struct{}), down: map[string]bool{}, term: 1, armed: true,
		vms: map[hypervisor.UUID]*lifeboatv1.AssignedVM{}, specs: map[hypervisor.UUID]*lifeboatv1.VMSpec{},
		powers: map[hypervisor.UUID][]lifeboatv1.PowerState{},
	}
}

// change changes the state; every parked report is answered.
func (m *managers) change(do func()) {
	m.mu.Lock()
	defer m.mu.Unlock()
	do()
	m.index++
	close(m.news)
	m.news = make(chan struct{})
}

// start orders a start and makes the host the owner.
func (m *managers) start(id hypervisor.UUID, name string, xml []byte, incarnation uint64) {
	m.change(func() {
		def := hypervisor.NewDefinition(id, xml, true)
		m.vms[id] = &lifeboatv1.AssignedVM{Id: id[:], Incarnation: incarnation, Protected: true, Wanted: true}
		m.orders = append(m.orders, &lifeboatv1.Order{
			Id: m.index + 1, Kind: lifeboatv1.OrderKind_ORDER_KIND_START, Vm: id[:], Name: name, Incarnation: incarnation,
			Epoch: m.epoch, BootId: m.boot, Definition: def.XML, DefinitionHash: def.Hash[:],
		})
	})
}

// locked looks at the state.
func locked[T any](m *managers, look func() T) T {
	m.mu.Lock()
	defer m.mu.Unlock()
	return look()
}

func (m *managers) report(id hypervisor.UUID) *lifeboatv1.VMReport {
	m.mu.Lock()
	defer m.mu.Unlock()
	return find(m.last.GetVms(), id)
}

func find(list []*lifeboatv1.VMReport, id hypervisor.UUID) *lifeboatv1.VMReport {
	i := slices.IndexFunc(list, func(r *lifeboatv1.VMReport) bool { return hypervisor.UUID(r.Id) == id })
	if i < 0 {
		return nil
	}
	return list[i]
}

// at is the manager at an address.
func (m *managers) at(addr string) lifeboatv1connect.AgentServiceClient { return manager{m, addr} }

type manager struct {
	*managers
	addr string
}

// enter locks the state, unless the manager is down: then it is silent.
func (m manager) enter(ctx context.Context) error {
	m.mu.Lock()
	if !m.down[m.addr] {
		return nil
	}
	m.mu.Unlock()
	<-ctx.Done()
	return connect.NewError(connect.CodeUnavailable, ctx.Err())
}

func (m manager) Register(ctx context.Context, r *connect.Request[lifeboatv1.RegisterRequest]) (*connect.Response[lifeboatv1.RegisterResponse], error) {
	if err := m.enter(ctx); err != nil {
		return nil, err
	}
	defer m.mu.Unlock()
	if r.Msg.Ticket == 0 {
		return connect.NewResponse(&lifeboatv1.RegisterResponse{Ticket: 1}), nil
	}
	m.epoch++
	m.reg, m.boot = r.Msg, r.Msg.BootId
	m.orders = nil
	return connect.NewResponse(&lifeboatv1.RegisterResponse{Epoch: m.epoch, LeaderId: "n1", BeatMs: beat.Milliseconds()}), nil
}

func (m manager) Report(ctx context.Context, r *connect.Request[lifeboatv1.ReportRequest]) (*connect.Response[lifeboatv1.ReportResponse], error) {
	if err := m.enter(ctx); err != nil {
		return nil, err
	}
	defer m.mu.Unlock()
	req := r.Msg
	if req.Epoch != m.epoch {
		return nil, connect.NewError(connect.CodeFailedPrecondition, errors.New("another epoch"))
	}
	if m.last == nil || m.last.Epoch != req.Epoch || m.last.Seq < req.Seq {
		m.take(req)
	}
	if deadline := time.After(beat); req.HaveAssignment == m.index+1 && len(m.wants)+len(m.asks) == 0 {
		news := m.news
		m.mu.Unlock()
		select {
		case <-news:
		case <-deadline:
		case <-ctx.Done():
		}
		m.mu.Lock()
	}
	if m.down[m.addr] {
		return nil, connect.NewError(connect.CodeUnavailable, errors.New("it has just died"))
	}
	return connect.NewResponse(m.answer(req)), nil
}

func (m *managers) take(req *lifeboatv1.ReportRequest) {
	for _, v := range req.Vms {
		id := hypervisor.UUID(v.Id)
		if l := m.powers[id]; len(l) == 0 || l[len(l)-1] != v.Power {
			m.powers[id] = append(l, v.Power)
		}
		m.orders = slices.DeleteFunc(m.orders, func(o *lifeboatv1.Order) bool {
			return hypervisor.UUID(o.Vm) == id && (o.Incarnation == v.Incarnation && v.Power == lifeboatv1.PowerState_POWER_STATE_ON || o.Incarnation <= max(v.Failed, v.Refused))
		})
	}
	m.probes = append(m.probes, req.Probes...)
	m.asks = slices.DeleteFunc(m.asks, func(p *lifeboatv1.Probe) bool {
		return slices.ContainsFunc(m.probes, func(r *lifeboatv1.ProbeResult) bool { return r.Nonce == p.Nonce })
	})
	m.last = req
	close(m.heard)
	m.heard = make(chan struct{})
}

func (m *managers) answer(req *lifeboatv1.ReportRequest) *lifeboatv1.ReportResponse {
	resp := &lifeboatv1.ReportResponse{
		LeaderId: "n1", Term: m.term, AckedSeq: req.Seq, BeatMs: beat.Milliseconds(), WantSpecs: m.wants, Probes: m.asks,
	}
	if m.lease > 0 && req.Lease.GetArmed() {
		resp.LeaseSeq, resp.LeaseMs = req.Seq, m.lease.Milliseconds()
		m.leased++
	}
	if req.HaveAssignment != m.index+1 {
		a := &lifeboatv1.Assignment{
			Index: m.index + 1, Armed: m.armed, EmptyFirst: m.emptyFirst, Orders: slices.Clone(m.orders),
			Lease: &lifeboatv1.Lease{Armed: m.lease > 0, DurationMs: m.lease.Milliseconds()},
		}
		for _, v := range m.vms {
			a.Vms = append(a.Vms, v)
		}
		resp.Assignment = a
	}
	return resp
}

func (m manager) PutSpecs(ctx context.Context, r *connect.Request[lifeboatv1.PutSpecsRequest]) (*connect.Response[lifeboatv1.PutSpecsResponse], error) {
	if err := m.enter(ctx); err != nil {
		return nil, err
	}
	defer m.mu.Unlock()
	for _, s := range r.Msg.Specs {
		m.specs[hypervisor.UUID(s.Id)] = s
		m.wants = slices.DeleteFunc(m.wants, func(id []byte) bool { return slices.Equal(id, s.Id) })
	}
	return connect.NewResponse(&lifeboatv1.PutSpecsResponse{}), nil
}

func (m manager) Leave(ctx context.Context, r *connect.Request[lifeboatv1.LeaveRequest]) (*connect.Response[lifeboatv1.LeaveResponse], error) {
	if err := m.enter(ctx); err != nil {
		return nil, err
	}
	defer m.mu.Unlock()
	if r.Msg.Epoch != m.epoch {
		return nil, connect.NewError(connect.CodeFailedPrecondition, errors.New("another epoch"))
	}
	m.left = r.Msg
	if m.onLeave != nil {
		m.onLeave()
	}
	return connect.NewResponse(&lifeboatv1.LeaveResponse{}), nil
}
