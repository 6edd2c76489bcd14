package labcluster

import (
	"testing"
	"time"
)

// A leader that can reach every host and every BMC, but no other node: the
// others elect one of themselves, and the old one does nothing meanwhile.
func TestLeaderPartitioned(t *testing.T) {
	s := begin(t, "ipmi")
	old, err := s.Leader(s.ctx)
	s.must(err)
	n := s.alone()
	guests := s.Lab.Guests(n)
	before, others := s.look(guests), s.look(s.without(guests))
	defer s.watch()()
	cut := func(do func(a, b string) error) {
		for m := 1; m <= managers; m++ {
			if m != old {
				s.must(do(s.machine(old), s.machine(m)))
			}
		}
	}
	cut(func(a, b string) error { return s.Lab.Partition(s.ctx, a, b) })
	defer cut(func(a, b string) error { return s.Lab.HealPartition(s.ctx, a, b) })
	// At the same moment a host dies: both leaders would have work.
	s.must(s.Lab.PowerCut(s.ctx, n))
	took := s.restarted(before, 60*time.Second, elsewhere)
	t.Logf("all guests beat after %s", took)
	now, err := s.Leader(s.ctx)
	s.must(err)
	if now == old {
		t.Errorf("n%d leads on without a majority", old)
	}
	s.untouched(others)
	cut(func(a, b string) error { return s.Lab.HealPartition(s.ctx, a, b) })
	s.never("VM.DUPLICATE", "VM.CONTRADICTION")
	s.end()
	s.untouched(others)
}

// All management nodes are killed in the middle of a recovery.
func TestAllNodesRestartDuringRecovery(t *testing.T) {
	for _, at := range []string{"HOST.FENCE.ATTEMPT", "VM.START.ORDER"} {
		t.Run(at, func(t *testing.T) {
			s := begin(t, "ipmi")
			n := s.alone()
			guests := s.Lab.Guests(n)
			before, others := s.look(guests), s.look(s.without(guests))
			defer s.watch()()
			s.must(s.Lab.BMCDelay(n, 2*time.Second)) // so that they die while it acts
			s.must(s.Lab.PowerCut(s.ctx, n))
			s.happened(30*time.Second, at, "", "")
			for m := 1; m <= managers; m++ {
				s.Server(m).Kill()
			}
			for m := 1; m <= managers; m++ {
				s.must(s.StartServer(m))
			}
			took := s.restarted(before, 60*time.Second, elsewhere)
			t.Logf("all guests beat %s after the nodes' death", took)
			s.untouched(others)
			s.end()
		})
	}
}
