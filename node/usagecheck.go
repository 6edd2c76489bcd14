package node

import (
	"context"
	"fmt"
	"math"
	"time"

	lifeboatv1 "lifeboat/api/lifeboat/v1"
	"lifeboat/fsm"
	"lifeboat/fsm/logpb"
)

const (
	// maxFindings is how many findings one answer lists.
	maxFindings = 10_000
	// maxRepairs is how many events one repair tells, of findings listed or not. It is asked
	// again for the rest.
	maxRepairs = 10_000
)

// usageFound is what differs between what is charged and what lives.
type usageFound struct {
	typ      uint32 // the only one that was looked at; 0 = all
	findings []*lifeboatv1.UsageFinding
	more     uint64 // beyond those
	vms      int    // how many of them are VMs
	events   []*logpb.UsageEvent
	of       []*lifeboatv1.UsageFinding // what each event mends
	listed   int                        // how many of those are listed: the first ones
	left     uint64                     // what could be mended beyond the events
}

// add lists a finding, or counts it when enough are listed.
func (f *usageFound) add(x *lifeboatv1.UsageFinding) {
	if len(f.findings) >= maxFindings {
		f.more++
		return
	}
	f.findings = append(f.findings, x)
}

// mend adds a finding that an event mends.
func (f *usageFound) mend(x *lifeboatv1.UsageFinding, e *logpb.UsageEvent) {
	f.add(x)
	if len(f.events) >= maxRepairs {
		f.left++
		return
	}
	f.events, f.of = append(f.events, e), append(f.of, x)
	if f.more == 0 {
		f.listed++
	}
}

// findUsage compares what is open with what lives.
func findUsage(s *fsm.State, q *lifeboatv1.VerifyUsageRequest) (*usageFound, error) {
	typ, _, err := usageFilter(s, q.Type, "", "", "")
	if err != nil {
		return nil, err
	}
	switch {
	case !q.Given:
	case typ == 0:
		return nil, refuse("say of which usage type these are the resources that live")
	case s.UsageType(typ).Derived:
		return nil, refuse("%s follows from the VMs of the state, and is compared with them; leave out what lives", s.UsageType(typ).Name)
	case len(q.Live) == 0 && !q.NoneLives:
		return nil, refuse("the list of what lives is empty, and everything of %s that is open would be closed; say --live-none if that is meant", s.UsageType(typ).Name)
	case len(q.Live) > 0 && q.NoneLives:
		return nil, refuse("there is a list of what lives, and nothing is said to live; leave one of them out")
	}
	f := &usageFound{typ: typ}
	f.lookAtVMs(s)
	f.lookAtTold(s, q)
	return f, nil
}

func (f *usageFound) lookAtVMs(s *fsm.State) {
	name := "VM"
	if f.typ != 0 {
		if !s.UsageType(f.typ).Derived {
			return
		}
		name = s.UsageType(f.typ).Name
	}
	for _, id := range s.UsageAstray(f.typ, math.MaxInt) {
		text := "what is charged for it is not what the state says of it"
		if v, h := s.VM(id); v != nil {
			text += fmt.Sprintf(" (%s on host %s, %s)", v.Name, h.ID, v.Power)
		} else {
			text += " (there is no such VM any more)"
		}
		f.vms++
		f.add(&lifeboatv1.UsageFinding{Type: name, Resource: id.String(), Account: s.VMOwner(id).String(), Text: text, Repair: "follow the state from now on"})
	}
}

// lookAtTold looks at what events have told.
func (f *usageFound) lookAtTold(s *fsm.State, q *lifeboatv1.VerifyUsageRequest) {
	live := make(map[string]bool, len(q.Live))
	for _, id := range q.Live {
		live[id] = true
	}
	for key, r := range s.UsageNamed(fsm.UsageKey{}, f.typ, "") {
		t := s.UsageType(key.Type)
		if t == nil || t.Derived {
			continue
		}
		x := &lifeboatv1.UsageFinding{Type: t.Name, Resource: key.Resource, Account: orNobody(r.Open())}
		if r.Open() == nil {
			if q.Given && live[key.Resource] {
				x.Text = "it lives, and nobody is charged: its create was not told, or a delete that was none"
				f.add(x)
			}
			delete(live, key.Resource)
			continue
		}
		start := openSince(r)
		switch a := s.Account(*r.Open()); {
		case a != nil && a.Removed != 0:
			x.Text, x.EndedUnixNs = "it is charged to an account that is removed", max(a.Removed, start)
		case !q.Given || live[key.Resource]:
		case q.EndedUnixNs != 0 && start > q.EndedUnixNs: // the list may be older
			x.Text = fmt.Sprintf("it is charged and is not among what lives, but what is charged began at %s, after the end that was given", findingTime(start))
		default:
			x.Text, x.EndedUnixNs = "it is charged and does not live", q.EndedUnixNs
		}
		delete(live, key.Resource)
		switch {
		case x.Text == "":
		case x.EndedUnixNs == 0:
			f.add(x)
		default:
			x.Repair = "close it as of " + findingTime(x.EndedUnixNs)
			f.mend(x, &logpb.UsageEvent{Id: fmt.Sprintf("repair:%d", start), Type: t.Closes[0], Resource: key.Resource, TimeUnixNs: x.EndedUnixNs})
		}
	}
	for _, id := range q.Live { // in the order in which they were named
		if live[id] {
			delete(live, id)
			f.add(&lifeboatv1.UsageFinding{Type: s.UsageType(f.typ).Name, Resource: id, Text: "it lives, and nothing was ever told of it"})
		}
	}
}

func findingTime(ns int64) string { return time.Unix(0, ns).UTC().Format(time.RFC3339Nano) }

// openSince is the begin of the interval that is open.
func openSince(r *fsm.UsageResource) int64 {
	list, _ := r.Intervals()
	return list[len(list)-1].Start
}

func (t *term) verifyUsage(_ context.Context, q *lifeboatv1.VerifyUsageRequest) (*lifeboatv1.VerifyUsageResponse, error) {
	s := t.node.fsm.State()
	f, err := findUsage(s, q)
	if err != nil {
		return nil, err
	}
	return &lifeboatv1.VerifyUsageResponse{Findings: f.findings, More: f.more, Index: s.Index}, nil
}

func (t *term) repairUsage(ctx context.Context, q *lifeboatv1.VerifyUsageRequest) (*lifeboatv1.VerifyUsageResponse, error) {
	s := t.node.fsm.State()
	f, err := findUsage(s, q)
	if err != nil {
		return nil, err
	}
	r := &lifeboatv1.VerifyUsageResponse{Findings: f.findings, More: f.more, Repaired: uint64(f.vms), Left: f.left, Index: s.Index}
	if f.vms > 0 {
		if err := t.syncUsage(ctx, f.typ); err != nil {
			return nil, err
		}
	}
	if len(f.events) == 0 {
		r.Index = t.node.fsm.State().Index
		return r, nil
	}
	reason := valid(q.Reason)
	if reason == "" {
		reason = "repair asked for by " + actor(ctx)
	}
	told, err := t.tellUsage(ctx, f.events, reason)
	if err != nil {
		return nil, err
	}
	r.Index = told.Index
	r.Repaired += told.Taken
	for _, x := range told.Refused {
		f.of[x.At].Repair = "refused: " + x.Why
		if int(x.At) >= f.listed { // that is to be seen
			r.Findings = append(r.Findings, f.of[x.At])
			r.More--
		}
	}
	return r, nil
}
