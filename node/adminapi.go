package node

import (
	"context"
	"fmt"

	"connectrpc.com/connect"

	lifeboatv1 "lifeboat/api/lifeboat/v1"
	"lifeboat/api/lifeboat/v1/lifeboatv1connect"
	"lifeboat/fsm"
	"lifeboat/transport"
)

// adminAPI is what people and programs call. It takes an operator's
// certificate.
type adminAPI struct{ n *Node }

type client = lifeboatv1connect.AdminServiceClient

// request is any request that may ask for this node's own view.
type stale interface{ GetStale() bool }

// forAdmin answers an operator whose role is enough. The node that answers says
// whether it is: one that passes the request on may not know yet what was given.
func forAdmin[Q, R any](ctx context.Context, a *adminAPI, req *connect.Request[Q], least fsm.Role,
	local func(*term, context.Context, *Q) (*R, error),
	remote func(client, context.Context, *connect.Request[Q]) (*connect.Response[R], error),
) (*connect.Response[R], error) {
	id, err := caller(ctx, transport.KindOperator)
	if err != nil {
		return nil, err
	}
	own, ok := any(req.Msg).(stale)
	return onward(ctx, a.n, req, ok && own.GetStale(), func(t *term, ctx context.Context, q *Q) (*R, error) {
		if role := a.n.fsm.State().RoleOf(id.Name); role < least {
			return nil, connect.NewError(connect.CodePermissionDenied, fmt.Errorf(
				"operator %s has the role %s, and this takes the role %s; an administrator can give it: `lifeboat operator set %s %s`", id.Name, role, least, id.Name, least))
		}
		return local(t, ctx, q)
	}, lifeboatv1connect.NewAdminServiceClient, remote)
}

func (a *adminAPI) Status(ctx context.Context, req *connect.Request[lifeboatv1.StatusRequest]) (*connect.Response[lifeboatv1.StatusResponse], error) {
	return forAdmin(ctx, a, req, fsm.RoleViewer, a.n.readStatus, client.Status)
}

func (a *adminAPI) ListNodes(ctx context.Context, req *connect.Request[lifeboatv1.ListNodesRequest]) (*connect.Response[lifeboatv1.ListNodesResponse], error) {
	return forAdmin(ctx, a, req, fsm.RoleViewer, a.n.readNodes, client.ListNodes)
}

func (a *adminAPI) ListHosts(ctx context.Context, req *connect.Request[lifeboatv1.ListHostsRequest]) (*connect.Response[lifeboatv1.ListHostsResponse], error) {
	return forAdmin(ctx, a, req, fsm.RoleViewer, a.n.readHosts, client.ListHosts)
}

func (a *adminAPI) ListVMs(ctx context.Context, req *connect.Request[lifeboatv1.ListVMsRequest]) (*connect.Response[lifeboatv1.ListVMsResponse], error) {
	return forAdmin(ctx, a, req, fsm.RoleViewer, a.n.readVMs, client.ListVMs)
}

func (a *adminAPI) ListWork(ctx context.Context, req *connect.Request[lifeboatv1.ListWorkRequest]) (*connect.Response[lifeboatv1.ListWorkResponse], error) {
	return forAdmin(ctx, a, req, fsm.RoleViewer, a.n.readWork, client.ListWork)
}

func (a *adminAPI) ListAlerts(ctx context.Context, req *connect.Request[lifeboatv1.ListAlertsRequest]) (*connect.Response[lifeboatv1.ListAlertsResponse], error) {
	return forAdmin(ctx, a, req, fsm.RoleViewer, a.n.readAlerts, client.ListAlerts)
}

func (a *adminAPI) ListEvents(ctx context.Context, req *connect.Request[lifeboatv1.ListEventsRequest]) (*connect.Response[lifeboatv1.ListEventsResponse], error) {
	return forAdmin(ctx, a, req, fsm.RoleViewer, a.n.readEvents, client.ListEvents)
}

func (a *adminAPI) Explain(ctx context.Context, req *connect.Request[lifeboatv1.ExplainRequest]) (*connect.Response[lifeboatv1.ExplainResponse], error) {
	return forAdmin(ctx, a, req, fsm.RoleViewer, a.n.explain, client.Explain)
}

func (a *adminAPI) GetPolicy(ctx context.Context, req *connect.Request[lifeboatv1.GetPolicyRequest]) (*connect.Response[lifeboatv1.GetPolicyResponse], error) {
	return forAdmin(ctx, a, req, fsm.RoleViewer, a.n.readPolicy, client.GetPolicy)
}

func (a *adminAPI) SetPolicy(ctx context.Context, req *connect.Request[lifeboatv1.SetPolicyRequest]) (*connect.Response[lifeboatv1.WriteResponse], error) {
	return forAdmin(ctx, a, req, fsm.RoleAdmin, (*term).setPolicy, client.SetPolicy)
}

func (a *adminAPI) ProtectVM(ctx context.Context, req *connect.Request[lifeboatv1.ProtectVMRequest]) (*connect.Response[lifeboatv1.WriteResponse], error) {
	return forAdmin(ctx, a, req, fsm.RoleOperator, (*term).protectVM, client.ProtectVM)
}

func (a *adminAPI) ControlVM(ctx context.Context, req *connect.Request[lifeboatv1.ControlVMRequest]) (*connect.Response[lifeboatv1.WriteResponse], error) {
	return forAdmin(ctx, a, req, fsm.RoleOperator, (*term).controlVM, client.ControlVM)
}

func (a *adminAPI) ControlHost(ctx context.Context, req *connect.Request[lifeboatv1.ControlHostRequest]) (*connect.Response[lifeboatv1.WriteResponse], error) {
	return forAdmin(ctx, a, req, fsm.RoleOperator, (*term).controlHost, client.ControlHost)
}

func (a *adminAPI) SetFence(ctx context.Context, req *connect.Request[lifeboatv1.SetFenceRequest]) (*connect.Response[lifeboatv1.WriteResponse], error) {
	return forAdmin(ctx, a, req, fsm.RoleAdmin, (*term).setFence, client.SetFence)
}

func (a *adminAPI) ControlWork(ctx context.Context, req *connect.Request[lifeboatv1.ControlWorkRequest]) (*connect.Response[lifeboatv1.WriteResponse], error) {
	return forAdmin(ctx, a, req, fsm.RoleOperator, (*term).controlWork, client.ControlWork)
}

func (a *adminAPI) ControlAlert(ctx context.Context, req *connect.Request[lifeboatv1.ControlAlertRequest]) (*connect.Response[lifeboatv1.WriteResponse], error) {
	return forAdmin(ctx, a, req, fsm.RoleOperator, (*term).controlAlert, client.ControlAlert)
}

func (a *adminAPI) ControlNode(ctx context.Context, req *connect.Request[lifeboatv1.ControlNodeRequest]) (*connect.Response[lifeboatv1.WriteResponse], error) {
	return forAdmin(ctx, a, req, fsm.RoleAdmin, (*term).controlNode, client.ControlNode)
}

func (a *adminAPI) ReadSnapshot(ctx context.Context, req *connect.Request[lifeboatv1.ReadSnapshotRequest]) (*connect.Response[lifeboatv1.ReadSnapshotResponse], error) {
	return forAdmin(ctx, a, req, fsm.RoleAdmin, a.n.readSnapshot, client.ReadSnapshot)
}

func (a *adminAPI) WriteSnapshot(ctx context.Context, req *connect.Request[lifeboatv1.WriteSnapshotRequest]) (*connect.Response[lifeboatv1.WriteSnapshotResponse], error) {
	return forAdmin(ctx, a, req, fsm.RoleAdmin, (*term).writeSnapshot, client.WriteSnapshot)
}

func (a *adminAPI) RestoreSnapshot(ctx context.Context, req *connect.Request[lifeboatv1.RestoreSnapshotRequest]) (*connect.Response[lifeboatv1.WriteResponse], error) {
	return forAdmin(ctx, a, req, fsm.RoleAdmin, (*term).restoreSnapshot, client.RestoreSnapshot)
}

func (a *adminAPI) ControlHA(ctx context.Context, req *connect.Request[lifeboatv1.ControlHARequest]) (*connect.Response[lifeboatv1.WriteResponse], error) {
	return forAdmin(ctx, a, req, fsm.RoleOperator, (*term).controlHA, client.ControlHA)
}

func (a *adminAPI) CreateToken(ctx context.Context, req *connect.Request[lifeboatv1.CreateTokenRequest]) (*connect.Response[lifeboatv1.CreateTokenResponse], error) {
	return forAdmin(ctx, a, req, fsm.RoleAdmin, (*term).createToken, client.CreateToken)
}

func (a *adminAPI) ListTokens(ctx context.Context, req *connect.Request[lifeboatv1.ListTokensRequest]) (*connect.Response[lifeboatv1.ListTokensResponse], error) {
	return forAdmin(ctx, a, req, fsm.RoleAdmin, a.n.readTokens, client.ListTokens)
}

func (a *adminAPI) RevokeToken(ctx context.Context, req *connect.Request[lifeboatv1.RevokeTokenRequest]) (*connect.Response[lifeboatv1.WriteResponse], error) {
	return forAdmin(ctx, a, req, fsm.RoleAdmin, (*term).revokeToken, client.RevokeToken)
}

func (a *adminAPI) ListOperators(ctx context.Context, req *connect.Request[lifeboatv1.ListOperatorsRequest]) (*connect.Response[lifeboatv1.ListOperatorsResponse], error) {
	return forAdmin(ctx, a, req, fsm.RoleViewer, a.n.readOperators, client.ListOperators)
}

func (a *adminAPI) SetOperator(ctx context.Context, req *connect.Request[lifeboatv1.SetOperatorRequest]) (*connect.Response[lifeboatv1.WriteResponse], error) {
	return forAdmin(ctx, a, req, fsm.RoleAdmin, (*term).setOperator, client.SetOperator)
}
