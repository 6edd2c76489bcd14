package dev

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"time"

	"connectrpc.com/connect"

	pb "lifeboat/api/lifeboat/v1"
	"lifeboat/api/lifeboat/v1/lifeboatv1connect"
	"lifeboat/transport"
)

// cluster is the operator's view of the management nodes: each can be asked by
// name, or whichever runs.
type cluster struct {
	room *Room
	http *http.Client
	apis map[string]lifeboatv1connect.AdminServiceClient
}

// callTimeout bounds one question to one node, long polls apart.
const callTimeout = 3 * time.Second

func (r *Room) connect() (*cluster, error) {
	creds, err := transport.LoadCredentials(r.files(transport.KindOperator, operator), nil)
	if err != nil {
		return nil, err
	}
	c := &cluster{room: r, http: transport.NewHTTPClient(creds, transport.ClientOptions{}), apis: map[string]lifeboatv1connect.AdminServiceClient{}}
	for name, addr := range r.nodes {
		c.apis[name] = lifeboatv1connect.NewAdminServiceClient(c.http, "https://"+addr)
	}
	return c, nil
}

func (c *cluster) close() { c.http.CloseIdleConnections() }

// running are the nodes whose process runs, in order.
func (c *cluster) running() []string {
	var names []string
	for _, m := range c.room.machines {
		if m.node != "" && m.nodeRuns() {
			names = append(names, m.node)
		}
	}
	return names
}

type method[Q, R any] func(lifeboatv1connect.AdminServiceClient, context.Context, *connect.Request[Q]) (*connect.Response[R], error)

// askNode asks one node.
func askNode[Q, R any](ctx context.Context, c *cluster, name string, wait time.Duration, m method[Q, R], q *Q) (*R, error) {
	ctx, cancel := context.WithTimeout(ctx, callTimeout+wait)
	defer cancel()
	r, err := m(c.apis[name], ctx, connect.NewRequest(q))
	if err != nil {
		return nil, fmt.Errorf("ask %s: %w", name, err)
	}
	return r.Msg, nil
}

// ask asks one running node after the other until one answers. Only for what
// may be said twice.
func ask[Q, R any](ctx context.Context, c *cluster, m method[Q, R], q *Q) (*R, error) {
	return askPatiently(ctx, c, 0, m, q)
}

func askPatiently[Q, R any](ctx context.Context, c *cluster, wait time.Duration, m method[Q, R], q *Q) (*R, error) {
	err := errors.New("no management node runs")
	for _, name := range c.running() {
		var r *R
		if r, err = askNode(ctx, c, name, wait, m, q); err == nil {
			return r, nil
		}
		if ctx.Err() != nil {
			return nil, context.Cause(ctx)
		}
	}
	return nil, err
}

type api = lifeboatv1connect.AdminServiceClient

// status is that of the leader, asked through any node.
func (c *cluster) status(ctx context.Context) (*pb.StatusResponse, error) {
	return ask(ctx, c, api.Status, &pb.StatusRequest{})
}

func (c *cluster) hosts(ctx context.Context) ([]*pb.HostView, error) {
	r, err := ask(ctx, c, api.ListHosts, &pb.ListHostsRequest{})
	return r.GetHosts(), err
}

func (c *cluster) nodes(ctx context.Context) ([]*pb.NodeView, error) {
	r, err := ask(ctx, c, api.ListNodes, &pb.ListNodesRequest{})
	return r.GetNodes(), err
}

func (c *cluster) vms(ctx context.Context) ([]*pb.VMView, error) {
	r, err := ask(ctx, c, api.ListVMs, &pb.ListVMsRequest{})
	return r.GetVms(), err
}

func (c *cluster) work(ctx context.Context) ([]*pb.WorkView, error) {
	r, err := ask(ctx, c, api.ListWork, &pb.ListWorkRequest{All: true})
	return r.GetWork(), err
}

func (c *cluster) alerts(ctx context.Context) ([]*pb.AlertView, error) {
	r, err := ask(ctx, c, api.ListAlerts, &pb.ListAlertsRequest{All: true})
	return r.GetAlerts(), err
}

// events are those after the given one, as one node knows them: the leader or,
// when it does not answer, whichever runs. It waits for some.
func (c *cluster) events(ctx context.Context, leader string, after uint64, wait time.Duration) ([]*pb.EventView, error) {
	q := &pb.ListEventsRequest{Stale: true, After: after, WaitMs: wait.Milliseconds()}
	if slices.Contains(c.running(), leader) {
		if r, err := askNode(ctx, c, leader, wait, api.ListEvents, q); err == nil {
			return r.Events, nil
		}
	}
	r, err := askPatiently(ctx, c, wait, api.ListEvents, q)
	return r.GetEvents(), err
}

// lastEvent is the newest there is.
func (c *cluster) lastEvent(ctx context.Context) (uint64, error) {
	r, err := ask(ctx, c, api.ListEvents, &pb.ListEventsRequest{Limit: 1})
	if err != nil || len(r.Events) == 0 {
		return 0, err
	}
	return r.Events[len(r.Events)-1].Id, nil
}

// sleep waits; false when ctx ended first.
func sleep(ctx context.Context, d time.Duration) bool {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-ctx.Done():
		return false
	case <-t.C:
		return true
	}
}
