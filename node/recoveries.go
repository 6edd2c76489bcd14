package node

import (
	"context"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"lifeboat/fsm"
)

// recoveryEvery is how often the leader looks for recoveries that have ended, at the most.
const recoveryEvery = time.Second

// newRecoverySeconds counts recoveries by how long the VM was down. The buckets lie around
// the worst cases of a default policy: 9 s with a power controller, 19 s with the lease.
func newRecoverySeconds() *prometheus.HistogramVec {
	return prometheus.NewHistogramVec(prometheus.HistogramOpts{Name: "lifeboat_recovery_seconds",
		Help:    "From the moment a VM was lost, as far as known, until HA had started it again, by the VM's priority; on the leader.",
		Buckets: []float64{1, 2, 4, 6, 8, 10, 15, 20, 30, 45, 60, 120, 300, 900, 3600}}, []string{"priority"})
}

// measure counts the recoveries that end while this node leads. One that begins and ends
// between two looks is not counted: no host died then, its proof takes longer.
func (t *term) measure(ctx context.Context) error {
	var open []fsm.WorkID
	for ctx.Err() == nil {
		changed, s := t.node.fsm.Changed(), t.node.fsm.State()
		for _, id := range open {
			w := s.Work(id)
			if w == nil || w.Step != fsm.Done || w.Lost == 0 {
				continue
			}
			if v, _ := s.VM(w.VM); v != nil {
				t.node.metrics.recovery.WithLabelValues(v.HAPolicy().Priority.String()).Observe(time.Duration(max(w.Ended-w.Lost, 0)).Seconds())
			}
		}
		open = open[:0]
		for w := range s.OpenWork() {
			if w.Type == fsm.WorkHA {
				open = append(open, w.ID)
			}
		}
		if !pause(ctx, recoveryEvery) {
			return nil
		}
		select {
		case <-ctx.Done():
		case <-changed:
		}
	}
	return nil
}
