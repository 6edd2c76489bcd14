package node

import (
	"context"
	"errors"
	"fmt"

	"connectrpc.com/connect"

	lifeboatv1 "lifeboat/api/lifeboat/v1"
	"lifeboat/api/lifeboat/v1/lifeboatv1connect"
	"lifeboat/transport"
)

// agentAPI is what agents call. An agent speaks for the host in its certificate
// only.
type agentAPI struct{ n *Node }

func speaksFor(ctx context.Context, host string) error {
	id, err := caller(ctx, transport.KindHost)
	if err != nil {
		return err
	}
	if id.Name != host {
		return connect.NewError(connect.CodePermissionDenied, fmt.Errorf("the certificate is of host %s, the request of host %s; give each host its own certificate", id.Name, host))
	}
	return nil
}

func forAgent[Q, R any](ctx context.Context, a *agentAPI, host string, req *connect.Request[Q],
	local func(*term, context.Context, *Q) (*R, error),
	remote func(lifeboatv1connect.AgentServiceClient, context.Context, *connect.Request[Q]) (*connect.Response[R], error),
) (*connect.Response[R], error) {
	read(ctx)
	if err := speaksFor(ctx, host); err != nil {
		return nil, err
	}
	if ctx.Value(behalfKey{}) == nil { // else it came to another node
		defer a.n.crowd.come(host)()
	}
	ctx, done := a.n.calls.repeatable(ctx)
	defer done()
	r, err := onward(ctx, a.n, req, false, local, lifeboatv1connect.NewAgentServiceClient, remote)
	switch {
	case err == nil:
	case errors.Is(context.Cause(ctx), errStopping):
		return nil, errStopping
	case errors.Is(err, errNoLeader):
		return nil, noLeader() // its term has ended meanwhile
	}
	return r, err
}

func (a *agentAPI) Register(ctx context.Context, req *connect.Request[lifeboatv1.RegisterRequest]) (*connect.Response[lifeboatv1.RegisterResponse], error) {
	return forAgent(ctx, a, req.Msg.HostId, req, (*term).register, lifeboatv1connect.AgentServiceClient.Register)
}

func (a *agentAPI) Report(ctx context.Context, req *connect.Request[lifeboatv1.ReportRequest]) (*connect.Response[lifeboatv1.ReportResponse], error) {
	r, err := forAgent(ctx, a, req.Msg.HostId, req, (*term).report, lifeboatv1connect.AgentServiceClient.Report)
	if err == nil {
		r.Msg.MoveOn = a.n.sendsOn()
	}
	return r, err
}

func (a *agentAPI) PutSpecs(ctx context.Context, req *connect.Request[lifeboatv1.PutSpecsRequest]) (*connect.Response[lifeboatv1.PutSpecsResponse], error) {
	return forAgent(ctx, a, req.Msg.HostId, req, (*term).putSpecs, lifeboatv1connect.AgentServiceClient.PutSpecs)
}

func (a *agentAPI) Leave(ctx context.Context, req *connect.Request[lifeboatv1.LeaveRequest]) (*connect.Response[lifeboatv1.LeaveResponse], error) {
	return forAgent(ctx, a, req.Msg.HostId, req, (*term).leave, lifeboatv1connect.AgentServiceClient.Leave)
}

// nodeAPI is what management nodes call.
type nodeAPI struct{ n *Node }

func (a nodeAPI) Recognize(ctx context.Context, req *connect.Request[lifeboatv1.RecognizeRequest]) (*connect.Response[lifeboatv1.RecognizeResponse], error) {
	return a.n.recognize(ctx, req)
}

func (a nodeAPI) Hello(ctx context.Context, req *connect.Request[lifeboatv1.HelloRequest]) (*connect.Response[lifeboatv1.HelloResponse], error) {
	return a.n.hello(ctx, req)
}
