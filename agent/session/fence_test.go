package session

import (
	"testing"
	"time"

	lifeboatv1 "lifeboat/api/lifeboat/v1"
)

// fenceJob asks for a job at the power controller of h2.
func fenceJob(nonce uint64, within time.Duration) func(*lifeboatv1.ReportResponse) {
	return func(r *lifeboatv1.ReportResponse) {
		r.Fences = append(r.Fences, &lifeboatv1.FenceJob{Nonce: nonce, HostId: "h2", Task: "off", Driver: "ipmi", Password: "secret", WithinMs: within.Milliseconds()})
	}
}

// A job's time runs from the moment the report was sent: an answer that was long
// under way leaves less, and none at all when it is overdue (S10).
func TestS10FenceJobCountsFromTheReport(t *testing.T) {
	b := newBench(t, Ledger{}).boot()
	b.pass(100 * time.Millisecond)
	sent := b.now // the answer takes its time
	b.pass(300 * time.Millisecond)
	b.answer(fenceJob(1, 5*time.Second))
	x := act[RunFence](b)
	if end := b.now.Add(x.Timeout); end > sent.Add(5*time.Second) || x.Timeout < 4*time.Second {
		t.Errorf("it may run for %s", x.Timeout)
	}
	b.pass(time.Second)
	b.answer(fenceJob(1, 5*time.Second)) // repeated until its outcome is there
	b.nothing("it is under way")
	b.take(b.s.Fenced(b.now, &lifeboatv1.FenceOutcome{Nonce: 1, HostId: "h2", Term: x.Term}))
	b.next()
	if len(b.last.Req.Fences) != 1 {
		t.Fatalf("reported %v", b.last.Req.Fences)
	}
	b.answer(fenceJob(1, 5*time.Second)) // overtaken
	b.nothing("it has been done")
	b.next()
	if len(b.last.Req.Fences) != 0 {
		t.Errorf("reported again: %v", b.last.Req.Fences)
	}
	b.pass(300 * time.Millisecond)
	b.answer(fenceJob(2, 0))
	b.nothing("its deadline has passed")
	b.next()
	if f := b.last.Req.Fences; len(f) != 1 || f[0].Failure == "" {
		t.Errorf("reported %v", f)
	}
}

// What a leader asked for ends with its term, and when it is called off (S10).
func TestS10FenceJobEndsWithTheTerm(t *testing.T) {
	for name, end := range map[string]func(*lifeboatv1.ReportResponse){
		"a later term": func(r *lifeboatv1.ReportResponse) { r.Term++ },
		"called off":   func(r *lifeboatv1.ReportResponse) { r.FencesOff = []uint64{1} },
	} {
		t.Run(name, func(t *testing.T) {
			b := newBench(t, Ledger{}).boot()
			b.pass(100 * time.Millisecond)
			b.answer(fenceJob(1, 5*time.Second))
			x := act[RunFence](b)
			b.next()
			b.answer(end)
			if y := act[StopFence](b); y.Nonce != 1 || y.Term != x.Term {
				t.Errorf("%+v", y)
			}
		})
	}
}

func TestHostDoesNotFenceItself(t *testing.T) {
	b := newBench(t, Ledger{}).boot()
	b.pass(100 * time.Millisecond)
	b.answer(fenceJob(1, 5*time.Second), func(r *lifeboatv1.ReportResponse) { r.Fences[0].HostId = b.last.Req.HostId })
	b.nothing("it would kill its own host")
}
