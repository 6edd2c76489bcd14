package node

import (
	"context"

	"connectrpc.com/connect"

	lifeboatv1 "lifeboat/api/lifeboat/v1"
	"lifeboat/api/lifeboat/v1/lifeboatv1connect"
	"lifeboat/transport"
)

// adminAPI is what people and programs call. It takes an operator's
// certificate.
type adminAPI struct{ n *Node }

type client = lifeboatv1connect.AdminServiceClient

// forAdmin answers a request of an operator here when this node leads or own is set,
// else it has the leader answer it. The node that answers looks whether the role is
// enough: one that passes the request on may not know yet what was given.
func forAdmin[Q, R any](ctx context.Context, a *adminAPI, req *connect.Request[Q], own bool,
	local func(*term, context.Context, *Q) (*R, error),
	remote func(client, context.Context, *connect.Request[Q]) (*connect.Response[R], error),
) (*connect.Response[R], error) {
	id, err := caller(ctx, transport.KindOperator)
	if err != nil {
		return nil, err
	}
	return onward(ctx, a.n, req, own, func(t *term, ctx context.Context, q *Q) (*R, error) {
		if err := permit(a.n.fsm.State(), id, req.Spec().Procedure); err != nil {
			return nil, err
		}
		return local(t, ctx, q)
	}, lifeboatv1connect.NewAdminServiceClient, remote)
}

func (a *adminAPI) Status(ctx context.Context, req *connect.Request[lifeboatv1.StatusRequest]) (*connect.Response[lifeboatv1.StatusResponse], error) {
	return forRead(ctx, a, req, a.n.readStatus, client.Status)
}

func (a *adminAPI) ListNodes(ctx context.Context, req *connect.Request[lifeboatv1.ListNodesRequest]) (*connect.Response[lifeboatv1.ListNodesResponse], error) {
	return forRead(ctx, a, req, a.n.readNodes, client.ListNodes)
}

func (a *adminAPI) ListHosts(ctx context.Context, req *connect.Request[lifeboatv1.ListHostsRequest]) (*connect.Response[lifeboatv1.ListHostsResponse], error) {
	return forRead(ctx, a, req, a.n.readHosts, client.ListHosts)
}

func (a *adminAPI) ListVMs(ctx context.Context, req *connect.Request[lifeboatv1.ListVMsRequest]) (*connect.Response[lifeboatv1.ListVMsResponse], error) {
	return forRead(ctx, a, req, a.n.readVMs, client.ListVMs)
}

func (a *adminAPI) ListWork(ctx context.Context, req *connect.Request[lifeboatv1.ListWorkRequest]) (*connect.Response[lifeboatv1.ListWorkResponse], error) {
	return forRead(ctx, a, req, a.n.readWork, client.ListWork)
}

func (a *adminAPI) ListAlerts(ctx context.Context, req *connect.Request[lifeboatv1.ListAlertsRequest]) (*connect.Response[lifeboatv1.ListAlertsResponse], error) {
	return forRead(ctx, a, req, a.n.readAlerts, client.ListAlerts)
}

func (a *adminAPI) ListEvents(ctx context.Context, req *connect.Request[lifeboatv1.ListEventsRequest]) (*connect.Response[lifeboatv1.ListEventsResponse], error) {
	return forRead(ctx, a, req, a.n.readEvents, client.ListEvents)
}

func (a *adminAPI) Explain(ctx context.Context, req *connect.Request[lifeboatv1.ExplainRequest]) (*connect.Response[lifeboatv1.ExplainResponse], error) {
	return forRead(ctx, a, req, a.n.explain, client.Explain)
}

func (a *adminAPI) Plan(ctx context.Context, req *connect.Request[lifeboatv1.PlanRequest]) (*connect.Response[lifeboatv1.PlanResponse], error) {
	return forRead(ctx, a, req, a.n.plan, client.Plan)
}

func (a *adminAPI) GetPolicy(ctx context.Context, req *connect.Request[lifeboatv1.GetPolicyRequest]) (*connect.Response[lifeboatv1.GetPolicyResponse], error) {
	return forRead(ctx, a, req, a.n.readPolicy, client.GetPolicy)
}

func (a *adminAPI) SetPolicy(ctx context.Context, req *connect.Request[lifeboatv1.SetPolicyRequest]) (*connect.Response[lifeboatv1.WriteResponse], error) {
	return forWrite(ctx, a, req, (*term).setPolicy, client.SetPolicy)
}

func (a *adminAPI) ProtectVM(ctx context.Context, req *connect.Request[lifeboatv1.ProtectVMRequest]) (*connect.Response[lifeboatv1.WriteResponse], error) {
	return forWrite(ctx, a, req, (*term).protectVM, client.ProtectVM)
}

func (a *adminAPI) ListIncidents(ctx context.Context, req *connect.Request[lifeboatv1.ListIncidentsRequest]) (*connect.Response[lifeboatv1.ListIncidentsResponse], error) {
	return forRead(ctx, a, req, a.n.readIncidents, client.ListIncidents)
}

func (a *adminAPI) ListRules(ctx context.Context, req *connect.Request[lifeboatv1.ListRulesRequest]) (*connect.Response[lifeboatv1.ListRulesResponse], error) {
	return forRead(ctx, a, req, a.n.readRules, client.ListRules)
}

func (a *adminAPI) AddRule(ctx context.Context, req *connect.Request[lifeboatv1.AddRuleRequest]) (*connect.Response[lifeboatv1.WriteResponse], error) {
	return forWrite(ctx, a, req, (*term).addRule, client.AddRule)
}

func (a *adminAPI) RemoveRule(ctx context.Context, req *connect.Request[lifeboatv1.RemoveRuleRequest]) (*connect.Response[lifeboatv1.WriteResponse], error) {
	return forWrite(ctx, a, req, (*term).removeRule, client.RemoveRule)
}

func (a *adminAPI) SetVM(ctx context.Context, req *connect.Request[lifeboatv1.SetVMRequest]) (*connect.Response[lifeboatv1.WriteResponse], error) {
	return forWrite(ctx, a, req, (*term).setVM, client.SetVM)
}

func (a *adminAPI) ControlVM(ctx context.Context, req *connect.Request[lifeboatv1.ControlVMRequest]) (*connect.Response[lifeboatv1.WriteResponse], error) {
	return forWrite(ctx, a, req, (*term).controlVM, client.ControlVM)
}

func (a *adminAPI) ControlHost(ctx context.Context, req *connect.Request[lifeboatv1.ControlHostRequest]) (*connect.Response[lifeboatv1.WriteResponse], error) {
	return forWrite(ctx, a, req, (*term).controlHost, client.ControlHost)
}

func (a *adminAPI) SetFence(ctx context.Context, req *connect.Request[lifeboatv1.SetFenceRequest]) (*connect.Response[lifeboatv1.WriteResponse], error) {
	return forWrite(ctx, a, req, (*term).setFence, client.SetFence)
}

func (a *adminAPI) ControlWork(ctx context.Context, req *connect.Request[lifeboatv1.ControlWorkRequest]) (*connect.Response[lifeboatv1.WriteResponse], error) {
	return forWrite(ctx, a, req, (*term).controlWork, client.ControlWork)
}

func (a *adminAPI) ControlAlert(ctx context.Context, req *connect.Request[lifeboatv1.ControlAlertRequest]) (*connect.Response[lifeboatv1.WriteResponse], error) {
	return forWrite(ctx, a, req, (*term).controlAlert, client.ControlAlert)
}

func (a *adminAPI) RaiseAlerts(ctx context.Context, req *connect.Request[lifeboatv1.RaiseAlertsRequest]) (*connect.Response[lifeboatv1.WriteResponse], error) {
	return forWrite(ctx, a, req, (*term).raiseAlerts, client.RaiseAlerts)
}

func (a *adminAPI) PurgeEvents(ctx context.Context, req *connect.Request[lifeboatv1.PurgeEventsRequest]) (*connect.Response[lifeboatv1.WriteResponse], error) {
	return forWrite(ctx, a, req, (*term).purgeEvents, client.PurgeEvents)
}

func (a *adminAPI) ListReceivers(ctx context.Context, req *connect.Request[lifeboatv1.ListReceiversRequest]) (*connect.Response[lifeboatv1.ListReceiversResponse], error) {
	return forRead(ctx, a, req, a.n.readReceivers, client.ListReceivers)
}

func (a *adminAPI) SetReceiver(ctx context.Context, req *connect.Request[lifeboatv1.SetReceiverRequest]) (*connect.Response[lifeboatv1.WriteResponse], error) {
	return forWrite(ctx, a, req, (*term).setReceiver, client.SetReceiver)
}

func (a *adminAPI) RemoveReceiver(ctx context.Context, req *connect.Request[lifeboatv1.RemoveReceiverRequest]) (*connect.Response[lifeboatv1.WriteResponse], error) {
	return forWrite(ctx, a, req, (*term).removeReceiver, client.RemoveReceiver)
}

func (a *adminAPI) TestReceiver(ctx context.Context, req *connect.Request[lifeboatv1.TestReceiverRequest]) (*connect.Response[lifeboatv1.TestReceiverResponse], error) {
	return forAdmin(ctx, a, req, false, (*term).testReceiver, client.TestReceiver)
}

func (a *adminAPI) ListSilences(ctx context.Context, req *connect.Request[lifeboatv1.ListSilencesRequest]) (*connect.Response[lifeboatv1.ListSilencesResponse], error) {
	return forRead(ctx, a, req, a.n.readSilences, client.ListSilences)
}

func (a *adminAPI) SetSilence(ctx context.Context, req *connect.Request[lifeboatv1.SetSilenceRequest]) (*connect.Response[lifeboatv1.WriteResponse], error) {
	return forWrite(ctx, a, req, (*term).setSilence, client.SetSilence)
}

func (a *adminAPI) ControlNode(ctx context.Context, req *connect.Request[lifeboatv1.ControlNodeRequest]) (*connect.Response[lifeboatv1.WriteResponse], error) {
	return forWrite(ctx, a, req, (*term).controlNode, client.ControlNode)
}

func (a *adminAPI) ReadSnapshot(ctx context.Context, req *connect.Request[lifeboatv1.ReadSnapshotRequest]) (*connect.Response[lifeboatv1.ReadSnapshotResponse], error) {
	return forAdmin(ctx, a, req, req.Msg.Stale, a.n.readSnapshot, client.ReadSnapshot)
}

func (a *adminAPI) WriteSnapshot(ctx context.Context, req *connect.Request[lifeboatv1.WriteSnapshotRequest]) (*connect.Response[lifeboatv1.WriteSnapshotResponse], error) {
	return forAdmin(ctx, a, req, false, (*term).writeSnapshot, client.WriteSnapshot)
}

func (a *adminAPI) RestoreSnapshot(ctx context.Context, req *connect.Request[lifeboatv1.RestoreSnapshotRequest]) (*connect.Response[lifeboatv1.WriteResponse], error) {
	if requestID(ctx) != "" {
		return nil, refuse("a restore takes no request id, since it replaces what is remembered of requests; nothing was changed: leave it out, and look before you repeat it")
	}
	return forAdmin(ctx, a, req, false, (*term).restoreSnapshot, client.RestoreSnapshot)
}

func (a *adminAPI) ControlHA(ctx context.Context, req *connect.Request[lifeboatv1.ControlHARequest]) (*connect.Response[lifeboatv1.WriteResponse], error) {
	return forWrite(ctx, a, req, (*term).controlHA, client.ControlHA)
}

func (a *adminAPI) CreateToken(ctx context.Context, req *connect.Request[lifeboatv1.CreateTokenRequest]) (*connect.Response[lifeboatv1.CreateTokenResponse], error) {
	return forAdmin(ctx, a, req, false, (*term).createToken, client.CreateToken)
}

func (a *adminAPI) ListTokens(ctx context.Context, req *connect.Request[lifeboatv1.ListTokensRequest]) (*connect.Response[lifeboatv1.ListTokensResponse], error) {
	return forRead(ctx, a, req, a.n.readTokens, client.ListTokens)
}

func (a *adminAPI) RevokeToken(ctx context.Context, req *connect.Request[lifeboatv1.RevokeTokenRequest]) (*connect.Response[lifeboatv1.WriteResponse], error) {
	return forWrite(ctx, a, req, (*term).revokeToken, client.RevokeToken)
}

func (a *adminAPI) ListOperators(ctx context.Context, req *connect.Request[lifeboatv1.ListOperatorsRequest]) (*connect.Response[lifeboatv1.ListOperatorsResponse], error) {
	return forRead(ctx, a, req, a.n.readOperators, client.ListOperators)
}

func (a *adminAPI) SetOperator(ctx context.Context, req *connect.Request[lifeboatv1.SetOperatorRequest]) (*connect.Response[lifeboatv1.WriteResponse], error) {
	return forWrite(ctx, a, req, (*term).setOperator, client.SetOperator)
}
