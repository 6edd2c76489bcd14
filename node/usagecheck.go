package node

import (
	"context"
	"fmt"
	"time"

	lifeboatv1 "lifeboat/api/lifeboat/v1"
	"lifeboat/fsm"
	"lifeboat/fsm/logpb"
)

// maxFindings is how many findings one answer holds; a repair mends those, and is asked
// again for the rest.
const maxFindings = 10_000

// findUsage compares what is open with what lives.
func findUsage(s *fsm.State, q *lifeboatv1.VerifyUsageRequest) ([]*lifeboatv1.UsageFinding, []*logpb.UsageEvent, error) {
	var out []*lifeboatv1.UsageFinding
	var events []*logpb.UsageEvent
	for _, id := range s.UsageAstray(maxFindings) {
		text := "what is charged for it is not what the state says of it"
		if v, h := s.VM(id); v != nil {
			text += fmt.Sprintf(" (%s on host %s, %s)", v.Name, h.ID, v.Power)
		} else {
			text += " (there is no such VM any more)"
		}
		out = append(out, &lifeboatv1.UsageFinding{Type: "VM", Resource: id.String(), Account: s.VMOwner(id).String(), Text: text, Repair: "follow the state from now on"})
	}
	typ, _, err := usageFilter(s, q.Type, "", "", "")
	if err != nil {
		return nil, nil, err
	}
	if q.Given && typ == 0 {
		return nil, nil, refuse("say of which usage type these are the resources that live")
	}
	live := make(map[string]bool, len(q.Live))
	for _, id := range q.Live {
		live[id] = true
	}
	for key, r := range s.UsageResources(fsm.UsageKey{}) {
		t := s.UsageType(key.Type)
		if len(out) >= maxFindings {
			break
		}
		if t == nil || t.Derived || typ != 0 && key.Type != typ {
			continue
		}
		f := &lifeboatv1.UsageFinding{Type: t.Name, Resource: key.Resource, Account: orNobody(r.Open())}
		if r.Open() == nil {
			if q.Given && live[key.Resource] {
				f.Text = "it lives, and nobody is charged: its create was not told, or a delete that was none"
				out = append(out, f)
			}
			delete(live, key.Resource)
			continue
		}
		start := openSince(r)
		switch a := s.Account(*r.Open()); {
		case a != nil && a.Removed != 0:
			f.Text, f.EndedUnixNs = "it is charged to an account that is removed", max(a.Removed, start)
		case q.Given && !live[key.Resource]:
			f.Text = "it is charged and does not live"
			if q.EndedUnixNs != 0 {
				f.EndedUnixNs = max(q.EndedUnixNs, start)
			}
		}
		delete(live, key.Resource)
		if f.Text == "" {
			continue
		}
		out = append(out, f)
		if f.EndedUnixNs == 0 {
			continue
		}
		f.Repair = "close it as of " + time.Unix(0, f.EndedUnixNs).UTC().Format(time.RFC3339Nano)
		events = append(events, &logpb.UsageEvent{Id: fmt.Sprintf("repair:%d", start), Type: t.Closes[0], Resource: key.Resource, TimeUnixNs: f.EndedUnixNs})
	}
	if q.Given {
		for _, id := range q.Live { // in the order in which they were named
			if live[id] && len(out) < maxFindings {
				delete(live, id)
				out = append(out, &lifeboatv1.UsageFinding{Type: q.Type, Resource: id, Text: "it lives, and nothing was ever told of it"})
			}
		}
	}
	return out, events, nil
}

// openSince is the begin of the interval that is open.
func openSince(r *fsm.UsageResource) int64 {
	list, _ := r.Intervals()
	return list[len(list)-1].Start
}

func (t *term) verifyUsage(_ context.Context, q *lifeboatv1.VerifyUsageRequest) (*lifeboatv1.VerifyUsageResponse, error) {
	s := t.node.fsm.State()
	found, _, err := findUsage(s, q)
	return &lifeboatv1.VerifyUsageResponse{Findings: found, Index: s.Index}, err
}

func (t *term) repairUsage(ctx context.Context, q *lifeboatv1.VerifyUsageRequest) (*lifeboatv1.VerifyUsageResponse, error) {
	s := t.node.fsm.State()
	found, events, err := findUsage(s, q)
	if err != nil {
		return nil, err
	}
	r := &lifeboatv1.VerifyUsageResponse{Findings: found, Index: s.Index}
	for _, f := range found {
		if f.Type == "VM" {
			r.Repaired++
		}
	}
	if r.Repaired > 0 {
		if err := t.syncUsage(ctx); err != nil {
			return nil, err
		}
	}
	if len(events) == 0 {
		r.Index = t.node.fsm.State().Index
		return r, nil
	}
	reason := valid(q.Reason)
	if reason == "" {
		reason = "repair asked for by " + actor(ctx)
	}
	told, err := t.tellUsage(ctx, events, reason)
	if err != nil {
		return nil, err
	}
	r.Index = told.Index
	r.Repaired += told.Taken
	for _, x := range told.Refused {
		for _, f := range found {
			if f.Resource == events[x.At].Resource && f.EndedUnixNs == events[x.At].TimeUnixNs {
				f.Repair = "refused: " + x.Why
			}
		}
	}
	return r, nil
}
