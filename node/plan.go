package node

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	lifeboatv1 "lifeboat/api/lifeboat/v1"
	"lifeboat/fsm"
	"lifeboat/ha"
	"lifeboat/ha/foresee"
)

const (
	// statusThinks is how long a status may play failures through that the proof leaves
	// open.
	statusThinks = time.Second
	// maxStart bounds how long a start is said to last.
	maxStart = time.Hour
)

// plan says what would happen if. It works on a copy of the state, in the goroutine of
// the request.
func (n *Node) plan(_ *term, ctx context.Context, q *lifeboatv1.PlanRequest) (*lifeboatv1.PlanResponse, error) {
	s := n.fsm.State()
	asked := 0
	for _, set := range []bool{len(q.Fail) > 0, len(q.Maintenance) > 0, q.Each} {
		if set {
			asked++
		}
	}
	a := foresee.Assumed{Start: time.Duration(q.StartMs) * time.Millisecond}
	switch {
	case asked != 1:
		return nil, refuse("a plan is about one question: hosts that fail (`--fail`), hosts that are to be empty (`--maintenance`), or each host by itself (`--n1`)")
	case a.Start < 0 || a.Start > maxStart:
		return nil, refuse("a start is taken to last between 0 and %s", maxStart)
	case q.Each:
		return n.planEach(ctx, s, a)
	}
	hosts, err := hostsCalled(s, append(slices.Clone(q.Fail), q.Maintenance...))
	if err != nil {
		return nil, err
	}
	var p *foresee.Plan
	if len(q.Fail) > 0 {
		p = foresee.Fail(s, hosts, a)
	} else {
		p = foresee.Maintain(s, hosts, q.Force, a)
	}
	return planView(s, p), nil
}

func planView(s *fsm.State, p *foresee.Plan) *lifeboatv1.PlanResponse {
	r := &lifeboatv1.PlanResponse{Notes: p.Notes, TookMs: p.Took.Milliseconds(), Unprotected: uint32(p.Unprotected), Index: s.Index,
		StartMs: p.Assumed.Start.Milliseconds(), StopMs: p.Assumed.Stop.Milliseconds(), MoveMs: p.Assumed.Move.Milliseconds()}
	for _, id := range p.Hosts {
		r.Hosts = append(r.Hosts, string(id))
	}
	for i, x := range p.Steps {
		r.Steps = append(r.Steps, &lifeboatv1.PlannedVM{Id: x.VM.String(), Name: x.Name, Priority: x.Tier.String(), From: string(x.From), To: string(x.To),
			Order: uint32(i + 1), How: x.How, AtMs: x.At.Milliseconds(), DoneMs: x.Done.Milliseconds(), Why: x.Why})
	}
	r.Stays = stays(p.Stays)
	return r
}

func stays(all []foresee.Stay) (out []*lifeboatv1.PlannedVM) {
	for _, x := range all {
		out = append(out, &lifeboatv1.PlannedVM{Id: x.VM.String(), Name: x.Name, Priority: x.Tier.String(), From: string(x.From), Why: x.Why})
	}
	return out
}

func (n *Node) planEach(ctx context.Context, s *fsm.State, a foresee.Assumed) (*lifeboatv1.PlanResponse, error) {
	r := &lifeboatv1.PlanResponse{Index: s.Index}
	var all []foresee.Loss
	for x := range foresee.Singles(s, a) {
		if err := ctx.Err(); err != nil {
			return nil, fmt.Errorf("plan the failure of each host: %w", err)
		}
		all = append(all, x)
		r.Each = append(r.Each, &lifeboatv1.HostLoss{Host: string(x.Host), Starts: uint32(x.Starts), TookMs: x.Took.Milliseconds(), Down: stays(x.Down)})
	}
	slices.SortStableFunc(r.Each, func(x, y *lifeboatv1.HostLoss) int { return ha.Natural(x.Host, y.Host) })
	r.NPlusOne = foresee.Sentence(all)
	return r, nil
}

// hostsCalled finds hosts by their names and by labels, each once and in natural order.
func hostsCalled(s *fsm.State, names []string) ([]fsm.HostID, error) {
	var out []fsm.HostID
	for _, name := range names {
		var found []fsm.HostID
		key, value, labelled := strings.Cut(name, "=")
		for id, h := range s.Hosts() {
			if h.Status != fsm.Removed && (string(id) == name || labelled && key != "" && value != "" && h.Label(key) == value) {
				found = append(found, id)
			}
		}
		switch {
		case len(found) == 0 && labelled:
			return nil, notFound("no host has the label %s; `lifeboat host show` shows the labels of a host", name)
		case len(found) == 0:
			return nil, notFound("there is no host %s; `lifeboat host list` shows them", name)
		}
		out = append(out, found...)
	}
	slices.SortFunc(out, func(a, b fsm.HostID) int { return ha.Natural(string(a), string(b)) })
	return slices.Compact(out), nil
}
