package main

import (
	"context"
	"time"

	"connectrpc.com/connect"

	pb "lifeboat/api/lifeboat/v1"
)

// incidents are a host that died, and a VM that is down still.
func incidents(now time.Time) []*pb.IncidentView {
	at := func(s float64) int64 { return now.Add(-10*time.Minute + time.Duration(s*1e9)).UnixNano() }
	proof := &pb.IncidentStep{Step: "proof of death", TookMs: 14_000}
	wait := &pb.IncidentStep{Step: "placement", TookMs: 560_000, Vm: "db-1", Open: true}
	event := func(id uint64, s float64, typ, subject, text string) *pb.EventView {
		return &pb.EventView{Id: id, Index: id + 100, TimeUnixNs: at(s), Type: typ, Level: "warning", Actor: "leader", Subject: subject, Text: text}
	}
	return []*pb.IncidentView{{
		Id: 41, Index: 141, Subject: "host h3", Host: "h3", What: "dead", BegunUnixNs: at(0), NoticedUnixNs: at(3), EndedUnixNs: at(21.5),
		Proof: "host h3 is proven dead by lease (lease): its self-fence lease has run out", Slowest: proof,
		Steps:             []*pb.IncidentStep{{Step: "detection", TookMs: 3000}, {Step: "evidence", TookMs: 1000}, proof, {Step: "start", TookMs: 3500, Vm: "web-2"}},
		LongestDowntimeMs: 21_500,
		Vms: []*pb.IncidentVM{{Id: "8d2c6f0e-0000-4000-8000-000000000002", Name: "web-2", WorkId: 44, Cause: "host down", Step: "Done", From: "h3", Target: "h1", Starts: 1,
			LostUnixNs: at(0), BackUnixNs: at(21.5), DowntimeMs: 21_500, Slowest: proof, Outcome: "runs on host h1 at incarnation 1.2",
			Spans: []*pb.IncidentSpan{{Step: "detection", FromUnixNs: at(0), ToUnixNs: at(3)}, {Step: "evidence", FromUnixNs: at(3), ToUnixNs: at(4)},
				{Step: "proof of death", FromUnixNs: at(4), ToUnixNs: at(18)}, {Step: "start", FromUnixNs: at(18), ToUnixNs: at(21.5)}}}},
		Timeline: []*pb.EventView{event(41, 3, "HOST.SUSPECT", "host h3", "host h3 is suspect: nothing heard for 3s"),
			event(42, 4, "HOST.EVIDENCE", "host h3", "peer h1 says unknown: no answer"), event(43, 4, "HOST.DOWN", "host h3", "host h3 is Down: nobody reaches it"),
			event(47, 18, "HOST.FENCED", "host h3", "host h3 is proven dead by lease (lease): its self-fence lease has run out")},
		Evidence: []*pb.EventView{event(42, 4, "HOST.EVIDENCE", "host h3", "peer h1 says unknown: no answer")},
		Alerts:   []*pb.AlertView{{Id: 46, Severity: "critical", State: "open", Text: "Host h3 is Down: nobody reaches it."}},
	}, {
		Id: 60, Index: 160, Subject: "vm db-1", What: "crashed", BegunUnixNs: at(40), NoticedUnixNs: at(40), Slowest: wait, Steps: []*pb.IncidentStep{wait},
		LongestDowntimeMs: 560_000, Down: 1,
		Vms: []*pb.IncidentVM{{Id: "8d2c6f0e-0000-4000-8000-000000000001", Name: "db-1", WorkId: 59, Cause: "crashed", Step: "Scheduled", From: "h2", LostUnixNs: at(40),
			DowntimeMs: 560_000, Down: true, Slowest: wait, Spans: []*pb.IncidentSpan{{Step: "placement", FromUnixNs: at(40), ToUnixNs: at(600), Open: true}},
			Waits: []string{"no host can take it: less than 65536 MiB of memory free (h1)"}}},
		Timeline: []*pb.EventView{event(60, 40, "WORK.OPEN", "vm db-1", "HA work 59 for db-1: crashed, it crashed")},
	}}
}

func (f *fakeAdmin) ListIncidents(_ context.Context, r *connect.Request[pb.ListIncidentsRequest]) (*connect.Response[pb.ListIncidentsResponse], error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	res := &pb.ListIncidentsResponse{Index: f.index}
	for _, i := range incidents(testNow) {
		switch {
		case r.Msg.Id == 0:
			i.Timeline, i.Evidence, i.Alerts = nil, nil, nil
			res.Incidents = append(res.Incidents, i)
		case r.Msg.Id == i.Id:
			res.Incidents = append(res.Incidents, i)
		}
	}
	if len(f.state.hosts) == 0 {
		res.Incidents = nil
	}
	if r.Msg.Id != 0 && len(res.Incidents) == 0 {
		return nil, notFoundErr("event 7 began no incident; `lifeboat incident list` shows the incidents")
	}
	return connect.NewResponse(res), nil
}
