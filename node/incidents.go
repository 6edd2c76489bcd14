package node

import (
	"context"
	"time"

	lifeboatv1 "lifeboat/api/lifeboat/v1"
	"lifeboat/fsm"
	"lifeboat/ha/incident"
)

// maxIncidents are told at once.
const maxIncidents = 1000

// readIncidents tells the newest failures, or one in full.
func (n *Node) readIncidents(_ *term, _ context.Context, q *lifeboatv1.ListIncidentsRequest) (*lifeboatv1.ListIncidentsResponse, error) {
	s := n.fsm.State()
	r := &lifeboatv1.ListIncidentsResponse{Index: s.Index}
	if q.Id != 0 {
		i, err := incident.Find(s, fsm.EventID(q.Id))
		if err != nil {
			return nil, notFound("%w", err)
		}
		r.Incidents = append(r.Incidents, incidentStory(s, i))
		return r, nil
	}
	limit := int(q.Limit)
	if limit <= 0 || limit > maxIncidents {
		limit = maxIncidents
	}
	all := incident.All(s)
	for _, i := range all[max(0, len(all)-limit):] {
		r.Incidents = append(r.Incidents, incidentView(i))
	}
	return r, nil
}

// incidentView is what a list shows of an incident.
func incidentView(i *incident.Incident) *lifeboatv1.IncidentView {
	v := &lifeboatv1.IncidentView{Id: uint64(i.ID), Index: i.Index, Subject: i.About, What: i.What, BegunUnixNs: i.Begun, NoticedUnixNs: i.Noticed,
		EndedUnixNs: i.Ended, Proof: i.Proof, Host: string(i.Host)}
	if t, ok := i.Slowest(); ok {
		v.Slowest = stepTook(t)
	}
	for _, t := range i.Steps {
		v.Steps = append(v.Steps, stepTook(t))
	}
	if x, ok := i.Down(); ok {
		v.LongestDowntimeMs = x.Down.Milliseconds()
	}
	for k := range i.VMs {
		x := &i.VMs[k]
		if x.Open {
			v.Down++
		}
		o := &lifeboatv1.IncidentVM{Id: x.ID.String(), Name: x.Name, WorkId: uint64(x.Work), Cause: x.Cause.String(), Step: x.Step.String(), From: string(x.From),
			Target: string(x.Target), Starts: x.Starts, LostUnixNs: x.Lost, BackUnixNs: x.Back, DowntimeMs: x.Down.Milliseconds(), Down: x.Open, Waits: x.Waits, Outcome: x.Outcome}
		if t, ok := x.Slowest(); ok && x.Down > 0 {
			o.Slowest = stepTook(t)
		}
		for _, p := range x.Spans {
			o.Spans = append(o.Spans, &lifeboatv1.IncidentSpan{Step: p.Phase.String(), FromUnixNs: p.From, ToUnixNs: p.To, Open: p.Open})
		}
		v.Vms = append(v.Vms, o)
	}
	return v
}

// incidentStory is all that is known of an incident.
func incidentStory(s *fsm.State, i *incident.Incident) *lifeboatv1.IncidentView {
	v := incidentView(i)
	for _, e := range i.Events {
		x := eventView(e)
		v.Timeline = append(v.Timeline, x)
		if e.Type == "HOST.EVIDENCE" {
			v.Evidence = append(v.Evidence, x)
		}
	}
	many := ambiguous(s)
	for _, a := range i.Alerts {
		v.Alerts = append(v.Alerts, alertView(a, many))
	}
	return v
}

func stepTook(t incident.Took) *lifeboatv1.IncidentStep {
	return &lifeboatv1.IncidentStep{Step: t.Phase.String(), TookMs: time.Duration(t.For).Milliseconds(), Vm: t.VM, Open: t.Open}
}
