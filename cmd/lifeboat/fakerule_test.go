package main

import (
	"context"

	"connectrpc.com/connect"

	pb "lifeboat/api/lifeboat/v1"
)

func (f *fakeAdmin) ListRules(context.Context, *connect.Request[pb.ListRulesRequest]) (*connect.Response[pb.ListRulesResponse], error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	r := &pb.ListRulesResponse{Index: f.index}
	if len(f.state.vms) > 0 {
		since := testNow.Add(-1e12).UnixNano()
		r.Rules = []*pb.RuleView{
			{Id: 1, Kind: "apart", Strict: true, Kept: true, Vms: []*pb.RuleVM{{Name: "web-1", Host: "h1"}, {Name: "web-2", Host: "h2"}}, SinceUnixNs: since, By: "operator/alice"},
			{Id: 4, Kind: "hosts", Broken: "db-1 is on host h3", Vms: []*pb.RuleVM{{Name: "db-1", Host: "h3"}, {Name: "old", Unknown: true}}, Hosts: []*pb.RuleHost{{Host: "h1", Priority: 2}, {Host: "rack=a"}}, SinceUnixNs: since, By: "operator/bob"},
		}
	}
	return connect.NewResponse(r), nil
}

func (f *fakeAdmin) AddRule(_ context.Context, r *connect.Request[pb.AddRuleRequest]) (*connect.Response[pb.WriteResponse], error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if r.Msg.Kind == "together" {
		return nil, refusedErr("rule 1 would keep web-1 and web-2 apart, and the new rule together")
	}
	return f.wrote("AddRule", "RULE.ADD", "rule 5", "rule 5 is written", r.Msg)
}

func (f *fakeAdmin) RemoveRule(_ context.Context, r *connect.Request[pb.RemoveRuleRequest]) (*connect.Response[pb.WriteResponse], error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.wrote("RemoveRule", "RULE.REMOVE", "rule", "", r.Msg)
}

func (f *fakeAdmin) SetVM(_ context.Context, r *connect.Request[pb.SetVMRequest]) (*connect.Response[pb.WriteResponse], error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.wrote("SetVM", "VM.SET", r.Msg.Vm, "", r.Msg)
}
