package main

import (
	"context"

	"connectrpc.com/connect"

	pb "lifeboat/api/lifeboat/v1"
)

func (f *fakeAdmin) Plan(_ context.Context, r *connect.Request[pb.PlanRequest]) (*connect.Response[pb.PlanResponse], error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	down := &pb.PlannedVM{Name: "db-1", Priority: "highest", From: "h2", Why: "less than 65536 MiB of memory free (h1); it is Down (h3)"}
	res := &pb.PlanResponse{Index: f.index, StartMs: max(r.Msg.StartMs, 5000), StopMs: 10_000, MoveMs: 30_000}
	switch {
	case r.Msg.Each:
		res.Each = []*pb.HostLoss{{Host: "h1"}, {Host: "h2", Starts: 1, TookMs: 14_000, Down: []*pb.PlannedVM{down}}}
		res.NPlusOne = "host h2's failure would leave 1 VM down: db-1 [less than 4096 MiB of memory free (h1, h3)]"
	case len(r.Msg.Maintenance) > 0:
		res.Hosts, res.TookMs = r.Msg.Maintenance, 30_000
		res.Steps = []*pb.PlannedVM{{Order: 1, Name: "web-2", Priority: "medium", From: "h2", To: "h1", How: "migrate", DoneMs: 30_000, Why: "fewest VMs (1) of 1 hosts that can take it"}}
	case r.Msg.Fail[0] == "h9":
		return nil, notFoundErr("there is no host h9")
	case r.Msg.Fail[0] == "h1":
		res.Hosts = r.Msg.Fail
	default:
		res.Hosts, res.TookMs, res.Unprotected = r.Msg.Fail, 14_000, 1
		res.Steps = []*pb.PlannedVM{{Order: 1, Name: "web-2", Priority: "medium", From: "h2", To: "h1", How: "start", AtMs: 9000, DoneMs: 14_000, Why: "fewest VMs (1) of 1 hosts that can take it"}}
		res.Stays = []*pb.PlannedVM{down}
		res.Notes = []string{"nothing else is known"}
	}
	return connect.NewResponse(res), nil
}
