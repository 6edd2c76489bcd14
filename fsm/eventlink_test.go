package fsm

import (
	"slices"
	"testing"

	"lifeboat/fsm/logpb"
)

// What began and what ended it are linked.
func TestEventsAreLinked(t *testing.T) {
	l := level4(t)
	l.ok(l.suspect("h1"))
	l.ok(l.hostDown("h1"))
	byID := map[EventID]*Event{}
	var ends int
	l.ok(raised("h2", "hot"))
	l.ok(itEnded("h2", "hot"))
	for _, w := range slices.Collect(func(yield func(*Work) bool) {
		for w := range l.state().OpenWork() {
			if !yield(w) {
				return
			}
		}
	}) {
		l.ok(&logpb.WorkUpdate{Work: uint64(w.ID), Action: WorkCancel})
	}
	for id, e := range l.state().EventsAfter(0) {
		byID[id] = e
		if want := map[string]string{"ALERT.RESOLVE": "ALERT.GENERATE", "WORK.CANCEL": "WORK.OPEN"}[e.Type]; want != "" {
			ends++
			if s := byID[e.Start]; s == nil || s.Type != want || s.Cause == "" || s.Cause != e.Cause {
				t.Errorf("%+v begins with %+v", e, s)
			}
		}
	}
	if ends < 3 {
		t.Errorf("only %d ends", ends)
	}
	first := uint64(0)
	for id := range l.state().EventsAfter(0) {
		first = uint64(id) + 3
		break
	}
	n := l.state().events.len()
	l.ok(&logpb.EventPurge{BeforeId: first, BeforeUnixNs: l.now + 1})
	if got := l.state().events.len(); got >= n {
		t.Errorf("%d events were purged to %d", n, got)
	}
}
