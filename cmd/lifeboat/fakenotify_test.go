package main

import (
	"context"
	"slices"
	"time"

	"connectrpc.com/connect"

	pb "lifeboat/api/lifeboat/v1"
)

func (f *fakeAdmin) ControlAlert(_ context.Context, r *connect.Request[pb.ControlAlertRequest]) (*connect.Response[pb.WriteResponse], error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, a := range f.state.alerts {
		if a.Id == r.Msg.Id || r.Msg.Filter != nil && slices.Contains(r.Msg.Filter.Subjects, a.Subject) {
			a.State = map[string]string{"ack": "acknowledged", "resolve": "resolved", "archive": "archived", "delete": "archived"}[r.Msg.Action]
			return f.wrote("ControlAlert", "ALERT."+r.Msg.Action, a.Subject, "", r.Msg)
		}
	}
	return nil, notFoundErr("no alert %d", r.Msg.Id)
}

func (f *fakeAdmin) RaiseAlerts(_ context.Context, r *connect.Request[pb.RaiseAlertsRequest]) (*connect.Response[pb.WriteResponse], error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.wrote("RaiseAlerts", "ALERT.GENERATE", r.Msg.Alerts[0].Subject, "", r.Msg)
}

func (f *fakeAdmin) PurgeEvents(_ context.Context, r *connect.Request[pb.PurgeEventsRequest]) (*connect.Response[pb.WriteResponse], error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.wrote("PurgeEvents", "EVENT.PURGE", "cluster", "", r.Msg)
}

func (f *fakeAdmin) ListReceivers(context.Context, *connect.Request[pb.ListReceiversRequest]) (*connect.Response[pb.ListReceiversResponse], error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	return connect.NewResponse(&pb.ListReceiversResponse{Receivers: f.receivers}), nil
}

func (f *fakeAdmin) SetReceiver(_ context.Context, r *connect.Request[pb.SetReceiverRequest]) (*connect.Response[pb.WriteResponse], error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	q := r.Msg
	f.receivers = append(f.receivers, &pb.ReceiverView{Name: q.Name, Kind: q.Kind, Address: q.Address, Options: q.Options, Secret: q.Secret != "", Match: q.Match, Off: q.Off, Pending: 2})
	return f.wrote("SetReceiver", "NOTIFY.SET", q.Name, "", &pb.SetReceiverRequest{Name: q.Name})
}

func (f *fakeAdmin) RemoveReceiver(_ context.Context, r *connect.Request[pb.RemoveReceiverRequest]) (*connect.Response[pb.WriteResponse], error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	return nil, notFoundErr("there is no receiver %s", r.Msg.Name)
}

func (f *fakeAdmin) TestReceiver(_ context.Context, r *connect.Request[pb.TestReceiverRequest]) (*connect.Response[pb.TestReceiverResponse], error) {
	if r.Msg.Name == "ops" {
		return connect.NewResponse(&pb.TestReceiverResponse{TookMs: 12, Delivery: "test-1"}), nil
	}
	return connect.NewResponse(&pb.TestReceiverResponse{TookMs: 10000, Failure: "post to hooks.example.org: it answers 503"}), nil
}

func (f *fakeAdmin) ListSilences(context.Context, *connect.Request[pb.ListSilencesRequest]) (*connect.Response[pb.ListSilencesResponse], error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	return connect.NewResponse(&pb.ListSilencesResponse{Silences: f.silences}), nil
}

func (f *fakeAdmin) SetSilence(_ context.Context, r *connect.Request[pb.SetSilenceRequest]) (*connect.Response[pb.WriteResponse], error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	q := r.Msg
	if q.End != 0 {
		return nil, notFoundErr("there is no silence %d", q.End)
	}
	x := &pb.SilenceView{Id: uint64(40 + len(f.silences)), Match: q.Match, Reason: q.Reason, By: "alice", State: "active", UntilUnixNs: q.UntilUnixNs}
	if q.FromUnixNs != 0 {
		x.State, x.FromUnixNs = "planned", q.FromUnixNs
	}
	if q.ForMs != 0 {
		x.UntilUnixNs = x.FromUnixNs + q.ForMs*int64(time.Millisecond)
	}
	f.silences = append(f.silences, x)
	return f.wrote("SetSilence", "SILENCE.START", "silence 1", "", r.Msg)
}
