package node

import (
	"testing"
	"time"

	"lifeboat/ha"
)

// The VMs of a host that dies are counted once, on the leader, with the time that they
// were down: longer than its beats, and not longer than the worst case and a start.
func TestRecoveriesAreMeasured(t *testing.T) {
	run(t, 3, func(w *world) {
		w.fleet(3, 3, "bmc")
		time.Sleep(5 * time.Second)
		measured := func(n *testNode) (count uint64, sum float64) {
			all, err := n.n.metrics.registry.Gather()
			w.must(err)
			for _, f := range all {
				if f.GetName() == "lifeboat_recovery_seconds" {
					for _, m := range f.Metric {
						count, sum = count+m.GetHistogram().GetSampleCount(), sum+m.GetHistogram().GetSampleSum()
					}
				}
			}
			return count, sum
		}
		s := w.leader().n.fsm.State()
		lost := s.Host("h1").RunsProtected()
		worst, _ := ha.WorstCase(s.Policy)
		w.hosts["h1"].powerOff()
		w.within(time.Minute, "all recoveries are measured", func() bool { n, _ := measured(w.leader()); return n == uint64(lost) })
		time.Sleep(10 * time.Second)
		n, sum := measured(w.leader())
		if mean := sum / float64(n); lost == 0 || n != uint64(lost) || mean < 2 || mean > (worst+10*time.Second).Seconds() {
			t.Errorf("%d of %d VMs, %.1f s each; at the worst it is %s and the start", n, lost, mean, worst)
		}
		for _, other := range w.others(w.leader()) {
			if n, _ := measured(other); n != 0 {
				t.Errorf("a node that does not lead has measured %d", n)
			}
		}
	})
}
