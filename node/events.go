package node

import (
	"context"
	"slices"
	"strings"
	"time"

	lifeboatv1 "lifeboat/api/lifeboat/v1"
	"lifeboat/fsm"
)

const (
	maxEvents = 1000
	maxWait   = 30 * time.Second
)

// readEvents answers with what is newer than q.After, or with the newest; it
// waits up to q.WaitMs for news.
func (n *Node) readEvents(_ *term, ctx context.Context, q *lifeboatv1.ListEventsRequest) (*lifeboatv1.ListEventsResponse, error) {
	var least fsm.Severity
	if q.Level != "" {
		var ok bool
		if least, ok = fsm.ParseSeverity(q.Level); !ok {
			return nil, refuse("%q is no level of an event; it is info, warning or critical", q.Level)
		}
	}
	wait := time.NewTimer(min(time.Duration(q.WaitMs)*time.Millisecond, maxWait))
	defer wait.Stop()
	for {
		changed := n.fsm.Changed()
		r := events(n.fsm.State(), q, least)
		if len(r.Events) > 0 || q.WaitMs <= 0 {
			return r, nil
		}
		select {
		case <-ctx.Done():
			return nil, ctx.Err()
		case <-wait.C:
			return r, nil
		case <-changed:
		}
	}
}

func events(s *fsm.State, q *lifeboatv1.ListEventsRequest, least fsm.Severity) *lifeboatv1.ListEventsResponse {
	limit := int(q.Limit)
	if limit <= 0 || limit > maxEvents {
		limit = maxEvents
	}
	r := &lifeboatv1.ListEventsResponse{Index: s.Index, Seen: q.After}
	for id := range s.EventsAfter(0) {
		r.Oldest = uint64(id)
		break
	}
	forward := q.After > 0 || q.AfterIndex > 0
	seq := s.EventsDown()
	if forward {
		seq = s.EventsAfter(fsm.EventID(q.After))
	}
	for id, e := range seq {
		r.Seen = max(r.Seen, uint64(id))
		if !forward && q.SinceUnixNs > 0 && e.Time < q.SinceUnixNs {
			break // they are in order
		}
		if e.Index <= q.AfterIndex && q.AfterIndex > 0 || !wanted(e, q, least) {
			continue
		}
		r.Events = append(r.Events, eventView(e))
		if len(r.Events) == limit {
			break
		}
	}
	if !forward {
		slices.Reverse(r.Events)
	}
	return r
}

// wanted reports whether an event is asked for.
func wanted(e *fsm.Event, q *lifeboatv1.ListEventsRequest, least fsm.Severity) bool {
	switch noun, all := strings.CutSuffix(q.Type, "*"); {
	case q.Subject != "" && q.Subject != e.Subject && !strings.HasSuffix(e.Subject, " "+q.Subject),
		all && !strings.HasPrefix(e.Type, strings.ToUpper(noun)),
		!all && q.Type != "" && !strings.EqualFold(e.Type, q.Type),
		e.Level < least,
		q.Actor != "" && q.Actor != e.Actor && !strings.HasSuffix(e.Actor, "/"+q.Actor),
		e.Time < q.SinceUnixNs:
		return false
	}
	return true
}
