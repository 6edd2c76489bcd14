package foresee_test

import (
	"fmt"
	"testing"
	"time"

	"lifeboat/fsm"
	"lifeboat/ha"
	"lifeboat/ha/foresee"
)

// A hundred of 10,000 hosts die at once, with 100 VMs each: all that a leader, which has led
// for a while, decides until the last of them runs again, and the longest time that it thinks
// at once.
func BenchmarkHundredDie(b *testing.B) {
	w := fleet(b, 10_000, 100)
	s := w.state()
	var dead []fsm.HostID
	for i := range 100 {
		dead = append(dead, fsm.HostID(fmt.Sprintf("h%d", 1+100*i)))
	}
	for b.Loop() {
		var all, longest time.Duration
		passes := 0
		calm := ha.Soft{Memo: &ha.Memo{}}
		for id, h := range s.Hosts() {
			calm.Hosts.Set(id, ha.Contact{Epoch: h.Epoch, Heard: time.Hour, Absorbed: s.Time, Looked: s.Time})
		}
		if plan := ha.Decide(s, &calm, ha.Now{Wall: s.Time, Mono: time.Hour}); len(plan.Commands) > 0 {
			b.Fatal(plan.Commands[0])
		}
		p := foresee.FailWatched(s, dead, func(s *fsm.State, soft *ha.Soft, now ha.Now) ha.Plan {
			soft.Memo = calm.Memo
			began := time.Now()
			plan := ha.Decide(s, soft, now)
			took := time.Since(began)
			all, longest = all+took, max(longest, took)
			passes++
			return plan
		})
		if len(p.Steps) != 10_000 || len(p.Stays) > 0 {
			b.Fatalf("%d starts, %d stay", len(p.Steps), len(p.Stays))
		}
		b.ReportMetric(all.Seconds(), "s-deciding")
		b.ReportMetric(float64(longest.Microseconds())/1000, "ms-longest")
		b.ReportMetric(float64(passes), "passes")
	}
}
