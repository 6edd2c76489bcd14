package labcluster

import (
	"testing"
	"time"
)

// The bar: host death to start order, and what the death of the leader's
// machine may add.
const (
	barBMC    = 12 * time.Second
	barLease  = 30 * time.Second
	barLeader = 3 * time.Second
)

func TestDrillWithBMC(t *testing.T)   { drill(t, barBMC, "ipmi") }
func TestDrillWithLease(t *testing.T) { drill(t, barLease, "lease") }

// drill: a host dies, then the leader's machine with its host. Every guest
// comes back elsewhere, once.
func drill(t *testing.T, bar time.Duration, level string) {
	s := begin(t, level)
	stop := s.watch()
	rounds, err := s.Drill(s.ctx, t.Output())
	stop()
	s.must(err)
	Table(t.Output(), rounds)
	if len(rounds) != 2 || rounds[0].Order > bar || rounds[1].Order > bar+barLeader {
		t.Errorf("the first start orders came too late; the bar is %s, and %s with the leader", bar, bar+barLeader)
	}
	s.end()
}
