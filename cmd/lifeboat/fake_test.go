package main

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"sync"
	"time"

	"connectrpc.com/connect"
	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"

	pb "lifeboat/api/lifeboat/v1"
	"lifeboat/api/lifeboat/v1/lifeboatv1connect"
	"lifeboat/transport"
)

// fakeAdmin is a small AdminService that works: what is written is read back.
// It decides nothing by itself.
type fakeAdmin struct {
	lifeboatv1connect.UnimplementedAdminServiceHandler
	receivers []*pb.ReceiverView
	silences  []*pb.SilenceView

	mu      sync.Mutex
	state   *fakeState
	index   uint64
	changed chan struct{} // closed and replaced when an event is added
	calls   []string      // "Procedure {request}" of every write
	// before runs ahead of every method; an error is the answer.
	before func(ctx context.Context, procedure string) error
	// remembers, if not nil, has what was answered to each request id; nil = as a
	// version that does not know them.
	remembers map[string]connect.AnyResponse
	// lose is how many answers to writes get lost after they were executed.
	lose int
	// headers looks at what a request carries; an error is the answer.
	headers  func(map[string][]string) error
	answered *pb.Answered         // of lists of hosts
	last     *pb.ListHostsRequest // that was asked

	lastPolicy *pb.GetPolicyRequest
}

func newFakeAdmin(state *fakeState) *fakeAdmin {
	return &fakeAdmin{state: state, index: 100, changed: make(chan struct{})}
}

// intercept is how before sees every call, and how writes are recorded.
func (f *fakeAdmin) intercept(next connect.UnaryFunc) connect.UnaryFunc {
	return func(ctx context.Context, req connect.AnyRequest) (connect.AnyResponse, error) {
		procedure := filepath.Base(req.Spec().Procedure)
		if id, ok := transport.IdentityFromContext(ctx); !ok || id.Kind != transport.KindOperator {
			return nil, connect.NewError(connect.CodePermissionDenied, fmt.Errorf("%s may not use the admin API: use the certificate of an operator", id))
		}
		f.mu.Lock()
		before := f.before
		f.mu.Unlock()
		if before != nil {
			if err := before(ctx, procedure); err != nil {
				return nil, err
			}
		}
		return f.remembered(ctx, req, next)
	}
}

// remembered answers what was asked before with the same request id.
func (f *fakeAdmin) remembered(ctx context.Context, req connect.AnyRequest, next connect.UnaryFunc) (connect.AnyResponse, error) {
	if f.headers != nil {
		if err := f.headers(req.Header()); err != nil {
			return nil, err
		}
	}
	id := req.Header().Get(pb.HeaderRequestID)
	f.mu.Lock()
	was := f.remembers[id]
	f.mu.Unlock()
	if was != nil {
		w := proto.Clone(was.Any().(proto.Message)).(*pb.WriteResponse)
		w.DoneBefore, w.Message = true, fmt.Sprintf("this was done already, at log index %d", w.Index)
		return connect.NewResponse(w), nil
	}
	writes := f.writes()
	res, err := next(ctx, req)
	f.mu.Lock()
	defer f.mu.Unlock()
	if err == nil && id != "" && f.remembers != nil {
		f.remembers[id] = res
	}
	if len(f.calls) > writes && f.lose > 0 {
		f.lose--
		return nil, connect.NewError(connect.CodeUnknown, errors.New("the leader does not answer"))
	}
	return res, err
}

// behave sets what runs ahead of every method from now on.
func (f *fakeAdmin) behave(before func(ctx context.Context, procedure string) error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.before = before
}

func notFoundErr(format string, args ...any) error {
	return connect.NewError(connect.CodeNotFound, fmt.Errorf(format, args...))
}

func refusedErr(format string, args ...any) error {
	return connect.NewError(connect.CodeFailedPrecondition, fmt.Errorf(format, args...))
}

// wrote records a write and makes its answer.
func (f *fakeAdmin) wrote(procedure, kind, subject, message string, req proto.Message) (*connect.Response[pb.WriteResponse], error) {
	f.index++
	data, err := protojson.MarshalOptions{UseProtoNames: true}.Marshal(req)
	if err != nil {
		return nil, err
	}
	f.calls = append(f.calls, procedure+" "+string(data))
	f.addEvent(kind, subject, message)
	return connect.NewResponse(&pb.WriteResponse{Index: f.index, Message: message}), nil
}

func (f *fakeAdmin) addEvent(kind, subject, text string) {
	f.state.events = append(f.state.events, &pb.EventView{
		Id: f.index * 1000, Index: f.index, TimeUnixNs: testNow.Add(-time.Second).UnixNano(),
		Type: kind, Level: "info", Actor: "alice", Subject: subject, Text: text,
	})
	close(f.changed)
	f.changed = make(chan struct{})
}

func (f *fakeAdmin) Status(_ context.Context, r *connect.Request[pb.StatusRequest]) (*connect.Response[pb.StatusResponse], error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	s := proto.Clone(f.state.status).(*pb.StatusResponse)
	s.Armed = f.state.armed
	if r.Msg.NPlusOne && len(f.state.hosts) > 0 {
		s.NPlusOne = "host h2's failure would leave 1 VM down: db-1 [less than 4096 MiB of memory free (h1, h3)]"
	}
	return connect.NewResponse(s), nil
}

func (f *fakeAdmin) ListNodes(context.Context, *connect.Request[pb.ListNodesRequest]) (*connect.Response[pb.ListNodesResponse], error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	return connect.NewResponse(&pb.ListNodesResponse{Nodes: f.state.nodes, Index: f.index}), nil
}

func (f *fakeAdmin) ListHosts(_ context.Context, r *connect.Request[pb.ListHostsRequest]) (*connect.Response[pb.ListHostsResponse], error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	res := &pb.ListHostsResponse{Index: f.index, Answered: f.answered}
	f.last = r.Msg
	for _, h := range f.state.hosts {
		if r.Msg.Id == "" || r.Msg.Id == h.Id {
			res.Hosts = append(res.Hosts, h)
		}
	}
	return connect.NewResponse(res), nil
}

func (f *fakeAdmin) ListVMs(_ context.Context, r *connect.Request[pb.ListVMsRequest]) (*connect.Response[pb.ListVMsResponse], error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	res := &pb.ListVMsResponse{Index: f.index}
	for _, vm := range f.state.vms {
		if (r.Msg.Vm == "" || r.Msg.Vm == vm.Name || r.Msg.Vm == vm.Id) &&
			(r.Msg.Host == "" || r.Msg.Host == vm.Host) && (!r.Msg.ProtectedOnly || vm.Protected) {
			res.Vms = append(res.Vms, vm)
		}
	}
	return connect.NewResponse(res), nil
}

func (f *fakeAdmin) ListWork(_ context.Context, r *connect.Request[pb.ListWorkRequest]) (*connect.Response[pb.ListWorkResponse], error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	res := &pb.ListWorkResponse{Index: f.index}
	for _, w := range f.state.work {
		if (r.Msg.All || w.EndedUnixNs == 0) && (r.Msg.Vm == "" || r.Msg.Vm == w.VmName) && (r.Msg.Id == 0 || r.Msg.Id == w.Id) {
			res.Work = append(res.Work, w)
		}
	}
	return connect.NewResponse(res), nil
}

func (f *fakeAdmin) ListAlerts(_ context.Context, r *connect.Request[pb.ListAlertsRequest]) (*connect.Response[pb.ListAlertsResponse], error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	res := &pb.ListAlertsResponse{Index: f.index}
	for _, a := range f.state.alerts {
		if (r.Msg.All || a.State != "resolved") && (r.Msg.Type == "" || r.Msg.Type == a.Type) && (r.Msg.Subject == "" || r.Msg.Subject == a.Subject) {
			res.Alerts = append(res.Alerts, a)
		}
	}
	return connect.NewResponse(res), nil
}

func (f *fakeAdmin) ListEvents(ctx context.Context, r *connect.Request[pb.ListEventsRequest]) (*connect.Response[pb.ListEventsResponse], error) {
	park := time.NewTimer(time.Duration(r.Msg.WaitMs) * time.Millisecond)
	defer park.Stop()
	for {
		f.mu.Lock()
		events, changed, index, oldest := f.eventsAfter(r.Msg), f.changed, f.index, uint64(0)
		if len(f.state.events) > 0 {
			oldest = f.state.events[0].Id
		}
		f.mu.Unlock()
		if len(events) > 0 || r.Msg.WaitMs == 0 {
			return connect.NewResponse(&pb.ListEventsResponse{Events: events, Index: index, Oldest: oldest}), nil
		}
		select {
		case <-changed:
		case <-park.C:
			return connect.NewResponse(&pb.ListEventsResponse{Index: index}), nil
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
}

// eventsAfter is the first of them after a position, the newest without one.
func (f *fakeAdmin) eventsAfter(r *pb.ListEventsRequest) []*pb.EventView {
	var events []*pb.EventView
	for _, e := range f.state.events {
		if e.Id > r.After && (r.Subject == "" || r.Subject == e.Subject) {
			events = append(events, e)
		}
	}
	if n := len(events) - int(r.Limit); n > 0 {
		if r.After == 0 {
			return events[n:]
		}
		return events[:r.Limit]
	}
	return events
}

func (f *fakeAdmin) Explain(_ context.Context, r *connect.Request[pb.ExplainRequest]) (*connect.Response[pb.ExplainResponse], error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	lines, ok := f.state.stories[r.Msg.Kind+" "+r.Msg.Name]
	if !ok {
		return nil, notFoundErr("no %s %q", r.Msg.Kind, r.Msg.Name)
	}
	return connect.NewResponse(&pb.ExplainResponse{Lines: lines}), nil
}

func (f *fakeAdmin) GetPolicy(_ context.Context, r *connect.Request[pb.GetPolicyRequest]) (*connect.Response[pb.GetPolicyResponse], error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.lastPolicy = r.Msg
	return connect.NewResponse(&pb.GetPolicyResponse{Settings: f.state.policy, Computed: f.state.computed, Index: f.index}), nil
}

func (f *fakeAdmin) SetPolicy(_ context.Context, r *connect.Request[pb.SetPolicyRequest]) (*connect.Response[pb.WriteResponse], error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, want := range r.Msg.Settings {
		found := false
		for _, s := range f.state.policy {
			if s.Key == want.Key {
				s.Value, found = want.Value, true
			}
		}
		if !found {
			return nil, connect.NewError(connect.CodeInvalidArgument, fmt.Errorf("there is no setting %q", want.Key))
		}
	}
	return f.wrote("SetPolicy", "POLICY.SET", "policy", "", r.Msg)
}

func (f *fakeAdmin) ProtectVM(_ context.Context, r *connect.Request[pb.ProtectVMRequest]) (*connect.Response[pb.WriteResponse], error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, vm := range f.state.vms {
		if vm.Name == r.Msg.Vm || vm.Id == r.Msg.Vm {
			vm.Protected = r.Msg.On
			return f.wrote("ProtectVM", "VM.PROTECT", vm.Name, "", r.Msg)
		}
	}
	return nil, notFoundErr("no VM %q", r.Msg.Vm)
}

func (f *fakeAdmin) ControlVM(_ context.Context, r *connect.Request[pb.ControlVMRequest]) (*connect.Response[pb.WriteResponse], error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, vm := range f.state.vms {
		if vm.Name == r.Msg.Vm || vm.Id == r.Msg.Vm {
			if !vm.Protected {
				return nil, refusedErr("VM %s is not protected, Lifeboat does not touch it", vm.Name)
			}
			vm.Wanted = r.Msg.Action == "start"
			return f.wrote("ControlVM", "VM."+r.Msg.Action, vm.Name, "", r.Msg)
		}
	}
	return nil, notFoundErr("no VM %q", r.Msg.Vm)
}

func (f *fakeAdmin) ControlHost(_ context.Context, r *connect.Request[pb.ControlHostRequest]) (*connect.Response[pb.WriteResponse], error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, h := range f.state.hosts {
		if h.Id != r.Msg.Host {
			continue
		}
		switch r.Msg.Action {
		case "disable":
			h.Resource = "Disabled"
		case "enable":
			h.Resource = "Enabled"
		case "confirm-dead":
			if h.Status == "Up" && !r.Msg.Force {
				return nil, refusedErr("host %s was heard 0.4 s ago", h.Id)
			}
			return f.wrote("ControlHost", "HOST.CONFIRM_DEAD", h.Id, "host "+h.Id+" is confirmed dead by alice, 1 VM restarts elsewhere", r.Msg)
		}
		return f.wrote("ControlHost", "HOST."+r.Msg.Action, h.Id, "", r.Msg)
	}
	return nil, notFoundErr("no host %q", r.Msg.Host)
}

func (f *fakeAdmin) SetFence(_ context.Context, r *connect.Request[pb.SetFenceRequest]) (*connect.Response[pb.WriteResponse], error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, h := range f.state.hosts {
		if h.Id == r.Msg.Host {
			return f.wrote("SetFence", "HOST.FENCE", h.Id, "", r.Msg)
		}
	}
	return nil, notFoundErr("no host %q", r.Msg.Host)
}

func (f *fakeAdmin) TestFence(_ context.Context, r *connect.Request[pb.TestFenceRequest]) (*connect.Response[pb.TestFenceResponse], error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	switch r.Msg.Host {
	case "h1":
		return connect.NewResponse(&pb.TestFenceResponse{Host: "h1", Index: f.index, Levels: []*pb.FenceTestView{
			{Level: 1, Driver: "ipmi", Address: "10.0.9.1", By: "leader", Proven: true, Text: "machine guid-1, power read twice as on, no order given"},
			{Level: 2, Driver: "lease", Text: "not armed, because HA is disarmed (hardware watchdog)", Action: "run `lifeboat ha arm`"},
		}}), nil
	case "h2":
		return connect.NewResponse(&pb.TestFenceResponse{Host: "h2", Index: f.index, Levels: []*pb.FenceTestView{
			{Level: 1, Driver: "redfish", Address: "10.0.9.2", By: "host h1", Text: "it does not answer", Action: "check its address, network and power"},
		}}), nil
	}
	return nil, notFoundErr("no host %q", r.Msg.Host)
}

func (f *fakeAdmin) ControlWork(_ context.Context, r *connect.Request[pb.ControlWorkRequest]) (*connect.Response[pb.WriteResponse], error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, w := range f.state.work {
		if w.Id == r.Msg.Id {
			return f.wrote("ControlWork", "WORK."+r.Msg.Action, w.VmName, "", r.Msg)
		}
	}
	return nil, notFoundErr("no work item %d", r.Msg.Id)
}

func (f *fakeAdmin) ControlNode(_ context.Context, r *connect.Request[pb.ControlNodeRequest]) (*connect.Response[pb.WriteResponse], error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if r.Msg.Action == "leave" && !r.Msg.Force {
		return nil, refusedErr("without %s the cluster would survive no failure any more: 1 of 2 voters would be up, and a majority is 2; add another node first (--force overrides this)", r.Msg.Id)
	}
	if r.Msg.Action == "remove" && r.Msg.Id == "n1" {
		return nil, refusedErr("node n1 is the leader; transfer the leadership first")
	}
	if r.Msg.Action == "maintenance-on" && !r.Msg.Force {
		return nil, refusedErr("without %s the cluster would survive no failure: 2 of 3 voters would be at work, and a majority is 2; add nodes first, or accept that for as long as it takes with --force", r.Msg.Id)
	}
	if r.Msg.Action == "shutdown-trigger" && !r.Msg.Force {
		return nil, refusedErr("management node %s is in state PreparingForMaintenance, not ReadyToShutDown; prepare it with `lifeboat node shutdown prepare %s` and wait until it is ready (--force stops it at once)", r.Msg.Id, r.Msg.Id)
	}
	return f.wrote("ControlNode", "NODE."+r.Msg.Action, r.Msg.Id, "", r.Msg)
}

func (f *fakeAdmin) ControlHA(_ context.Context, r *connect.Request[pb.ControlHARequest]) (*connect.Response[pb.WriteResponse], error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.state.armed = r.Msg.Action == "arm"
	return f.wrote("ControlHA", "HA."+r.Msg.Action, "cluster", "", r.Msg)
}
