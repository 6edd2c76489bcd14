package main

import (
	"context"
	"fmt"
	"strings"
	"testing"
	"time"

	"connectrpc.com/connect"

	pb "lifeboat/api/lifeboat/v1"
	"lifeboat/internal/cli"
)

// What the fake cluster knows of usage: one rule that was closed late.

func (f *fakeAdmin) RecordUsage(_ context.Context, r *connect.Request[pb.RecordUsageRequest]) (*connect.Response[pb.RecordUsageResponse], error) {
	out := &pb.RecordUsageResponse{Index: 4711}
	if r.Msg.Events[0].Resource == "old" {
		out.Early, out.EarlyText = 1, "the first window begins at 2026-01-01T00:00:00Z, and is closed"
	}
	for i, e := range r.Msg.Events {
		switch e.Type {
		case "LB.CREATE", "LB.DELETE":
			out.Taken++
		default:
			out.Refused = append(out.Refused, &pb.UsageRefusal{At: uint32(i), Id: e.Id, Why: fmt.Sprintf("no usage type knows the event %q", e.Type)})
		}
	}
	return connect.NewResponse(out), nil
}

func (f *fakeAdmin) ListUsage(_ context.Context, r *connect.Request[pb.ListUsageRequest]) (*connect.Response[pb.ListUsageResponse], error) {
	out := &pb.ListUsageResponse{Index: 4711}
	if r.Msg.Type != "" && r.Msg.Type != "LOAD_BALANCER_POLICY" {
		return nil, notFoundErr("there is no usage type %s", r.Msg.Type)
	}
	if zone := time.Unix(0, r.Msg.ToUnixNs).UTC(); r.Msg.ToUnixNs != 0 && zone.Hour() != 0 {
		return nil, notFoundErr("no window from %s to %s", utc(r.Msg.FromUnixNs), utc(r.Msg.ToUnixNs))
	}
	day := func(n int) int64 { return time.Date(2026, 1, n, 0, 0, 0, 0, time.UTC).UnixNano() }
	record := func(used time.Duration, index uint64) *pb.UsageRecordView {
		return &pb.UsageRecordView{WindowStartUnixNs: day(1), WindowEndUnixNs: day(2), TypeId: 11, Type: "LOAD_BALANCER_POLICY", Resource: "7", Domain: "ROOT/sales", Account: "alice",
			UsedNs: int64(used), Correction: used < 0, Index: index, FirstUnixNs: day(1), LastUnixNs: day(2), Name: "front, \"old\""}
	}
	if r.Msg.Page == "" && r.Msg.After < 100 {
		out.Records = append(out.Records, record(24*time.Hour, 100))
		out.NextPage = "more"
		return connect.NewResponse(out), nil
	}
	out.Records = append(out.Records, record(-90*time.Minute, 4000), record(-time.Second, 9000)) // the last one came in between
	return connect.NewResponse(out), nil
}

func (f *fakeAdmin) ListUsageResources(_ context.Context, r *connect.Request[pb.ListUsageResourcesRequest]) (*connect.Response[pb.ListUsageResourcesResponse], error) {
	out := &pb.ListUsageResourcesResponse{Index: 4711}
	at := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC).UnixNano()
	if !r.Msg.Trouble {
		out.Resources = append(out.Resources, &pb.UsageResourceView{TypeId: 11, Type: "LOAD_BALANCER_POLICY", Resource: "7", Facts: 2,
			Intervals: []*pb.UsageIntervalView{{StartUnixNs: at, EndUnixNs: at + 1, Domain: "ROOT/sales", Account: "alice", Project: "shop", Name: "front"}}})
	}
	out.Resources = append(out.Resources, &pb.UsageResourceView{TypeId: 6, Type: "VOLUME", Resource: "v1", Facts: 1, Trouble: []string{"event e1 of 2026-01-01T00:00:00Z, told at log index 12: a delete without a create: it was not open"}})
	return connect.NewResponse(out), nil
}

func (f *fakeAdmin) DescribeUsage(context.Context, *connect.Request[pb.DescribeUsageRequest]) (*connect.Response[pb.DescribeUsageResponse], error) {
	at := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
	return connect.NewResponse(&pb.DescribeUsageResponse{Index: 4711, SinceUnixNs: at.UnixNano(), ClosedUnixNs: at.Add(48 * time.Hour).UnixNano(), NextUnixNs: at.Add(72*time.Hour + 15*time.Minute).UnixNano(), Windows: 2,
		Types:    []*pb.UsageTypeView{{Id: 1, Name: "RUNNING_VM", Derived: true, Open: 12, Known: 20}, {Id: 11, Name: "LOAD_BALANCER_POLICY", Opens: []string{"LB.CREATE"}, Closes: []string{"LB.DELETE"}, Known: 1}},
		Accounts: []*pb.UsageAccountView{{Domain: "ROOT/sales", Account: "alice", Project: "shop", SinceUnixNs: at.UnixNano(), Open: 3}}}), nil
}

func (f *fakeAdmin) VerifyUsage(_ context.Context, r *connect.Request[pb.VerifyUsageRequest]) (*connect.Response[pb.VerifyUsageResponse], error) {
	out := &pb.VerifyUsageResponse{Index: 4711}
	switch {
	case r.Msg.EndedUnixNs != 0: // it says as of when
		out.Findings = append(out.Findings, &pb.UsageFinding{Type: "LOAD_BALANCER_POLICY", Resource: "7", Text: "it does not live", Repair: "close it as of " + utc(r.Msg.EndedUnixNs)})
		out.More = 3
	case r.Msg.Type != "VOLUME":
		out.Findings = append(out.Findings, &pb.UsageFinding{Type: "LOAD_BALANCER_POLICY", Resource: "7", Account: "alice", Text: "it is charged and does not live"})
	}
	return connect.NewResponse(out), nil
}

func (f *fakeAdmin) RepairUsage(ctx context.Context, r *connect.Request[pb.VerifyUsageRequest]) (*connect.Response[pb.VerifyUsageResponse], error) {
	out, err := f.VerifyUsage(ctx, r)
	if err == nil {
		out.Msg.Repaired = uint64(len(out.Msg.Findings))
		if len(out.Msg.Findings) > 0 && r.Msg.Reason == "refused" {
			out.Msg.Findings[0].Repair, out.Msg.Repaired = "refused: it is to happen tomorrow", 0
		}
		if r.Msg.Reason == "many" {
			out.Msg.Left = 2
		}
	}
	return out, err
}

func (f *fakeAdmin) SetUsage(_ context.Context, r *connect.Request[pb.SetUsageRequest]) (*connect.Response[pb.WriteResponse], error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if r.Msg.Account == "nobody" {
		return nil, refusedErr("nothing was ever charged to account nobody")
	}
	return f.wrote("SetUsage", "USAGE.SET", "usage", "", r.Msg)
}

func TestUsageTranscript(t *testing.T) {
	w := newWorld(t, busyState())
	golden(t, "usage-records", w.transcript("usage list", "usage list -o wide --from 2026-01-01 --account ROOT/sales/alice", "usage list --type nope", "usage list --from yesterday",
		"usage export csv", "usage export json --after 200", "usage export xml", "usage resources", "usage resources --trouble -o json", "usage types", "usage types -o wide",
		"usage event LB.CREATE 7 --account alice --id e1 --at 2026-01-01T00:00:00Z", "usage event LB.CRATE 7", "usage event LB.CREATE", "usage event LB.CREATE 7 --file x", "usage event --file /nonexistent/x",
		"usage verify", "usage verify --type VOLUME", "usage verify --live x", "usage repair --dry-run", "usage repair --reason cleanup",
		"usage account list", "usage account remove ROOT/sales/alice --at 2026-01-02", "usage account restore nobody", "usage owner web-1 ROOT/sales/alice", "usage owner web-1",
		"usage type set 1000 GPU --opens GPU.ASSIGN --closes GPU.RELEASE", "usage type remove 1000",
		"usage event LB.CREATE old --account alice --id e1 --at 2020-01-01T00:00:00Z", "usage repair --reason refused",
		"usage repair --type LOAD_BALANCER_POLICY --live /dev/null --at 2026-01-02", "usage repair --type LOAD_BALANCER_POLICY --live x --live-none",
		"usage repair --type LOAD_BALANCER_POLICY --live-none --at 2026-01-02", "usage repair --type LOAD_BALANCER_POLICY --live-none --at 2026-01-02 --reason many", "usage repair --live-none"))
}

// A date begins where the windows do.
func TestUsageDatesAreInTheZoneOfTheWindows(t *testing.T) {
	state := busyState()
	state.policy = append(state.policy, &pb.Setting{Key: "usage_timezone", Value: "America/Santiago"})
	w := newWorld(t, state)
	golden(t, "usage-zone", w.transcript("usage account remove ROOT/sales/alice --at 2026-01-02", "usage account remove ROOT/sales/alice --at 2026-01-02T00:00:00Z",
		"usage account remove ROOT/sales/alice --at 2026-09-06", "usage verify --type LOAD_BALANCER_POLICY --live-none --at 2026-01-02", "usage list --from 2026-01-01 --to 2026-02-01", "usage event LB.CREATE 7 --account alice --at 2026-01-01"))
}

// Who takes what the node asked knows can give a date where there is no leader.
func TestUsageDatesAreAskedForAsTheRest(t *testing.T) {
	w := newWorld(t, busyState())
	for stale, line := range map[bool]string{false: "usage list --from 2026-01-01", true: "usage list --from 2026-01-01 --stale"} {
		w.run(strings.Fields(line)...).want(t, cli.ExitOK, "LOAD_BALANCER_POLICY")
		if w.admin.lastPolicy.GetStale() != stale {
			t.Errorf("%s: the zone is asked for with %v", line, w.admin.lastPolicy)
		}
	}
}
