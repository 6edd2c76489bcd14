package labcluster

import (
	"context"
	"os"
	"regexp"
	"testing"
	"time"

	"connectrpc.com/connect"

	lifeboatv1 "lifeboat/api/lifeboat/v1"
)

// All management nodes crash and come back: nothing happens to anybody.
func TestAllServersCrash(t *testing.T) {
	for _, levels := range [][]string{{"ipmi"}, {"lease"}} {
		t.Run(levels[0], func(t *testing.T) {
			s := begin(t, levels...)
			before := s.look(s.Guests)
			defer s.watch()()
			for m := 1; m <= managers; m++ {
				s.Server(m).Kill()
			}
			crashed := time.Now()
			time.Sleep(time.Second)
			for m := 1; m <= managers; m++ {
				s.must(s.StartServer(m))
			}
			var all time.Time
			s.within(20*time.Second, "every host is Up and heard", func() bool {
				ok := s.everyHostHeard()
				all = time.Now()
				return ok
			})
			led := s.leading(crashed)
			if took := all.Sub(led); took > 5*time.Second {
				t.Errorf("every host was heard %s after the first barrier; want 5 s", took)
			} else {
				t.Logf("a leader %s after the crash, every host heard %s later", led.Sub(crashed), took)
			}
			s.during(6*time.Second, func() { s.never("HOST.DOWN", "HOST.FENCE.ATTEMPT", "VM.START.ORDER") })
			s.untouched(before)
			s.end()
		})
	}
}

func (s *story) everyHostHeard() bool {
	ok := false
	_ = s.read(s.ctx, func(ctx context.Context, api API) error {
		r, err := api.ListHosts(ctx, connect.NewRequest(&lifeboatv1.ListHostsRequest{}))
		if err != nil {
			return err
		}
		ok = len(r.Msg.Hosts) == hosts
		for _, h := range r.Msg.Hosts {
			ok = ok && h.Status == "Up" && h.LastContactMs >= 0 && h.LastContactMs < 3000
		}
		return nil
	})
	return ok
}

var leadingLine = regexp.MustCompile(`(?m)^(\S+) .*leading: `)

// leading is when a term began first after a time, by the nodes' logs.
func (s *story) leading(after time.Time) time.Time {
	s.Helper()
	var first time.Time
	for m := 1; m <= managers; m++ {
		raw, err := os.ReadFile(s.Server(m).LogPath())
		s.must(err)
		for _, l := range leadingLine.FindAllSubmatch(raw, -1) {
			at, err := time.Parse(time.RFC3339Nano, string(l[1]))
			s.must(err)
			if at.After(after) && (first.IsZero() || at.Before(first)) {
				first = at
			}
		}
	}
	if first.IsZero() {
		s.Fatal("no log says that a node leads")
	}
	return first
}

// The leader crashes in the middle of a failover; the next term completes it.
func TestLeaderCrashesDuringFailover(t *testing.T) {
	for _, at := range []string{"HOST.DOWN", "HOST.FENCED", "VM.START.ORDER"} {
		t.Run(at, func(t *testing.T) {
			s := begin(t, "ipmi")
			n := s.busy(false)
			leader, err := s.Leader(s.ctx)
			s.must(err)
			before := s.look(s.Lab.Guests(n))
			defer s.watch()()
			s.must(s.Lab.BMCDelay(n, 2*time.Second))
			s.must(s.Lab.PowerCut(s.ctx, n))
			s.happened(30*time.Second, at, "", "")
			// With the dead host's node two of three are gone: the leader's must
			// come back, as systemd would have it.
			s.Server(leader).Kill()
			s.must(s.StartServer(leader))
			took := s.restarted(before, 60*time.Second, elsewhere)
			t.Logf("all guests beat %s after the leader's death", took)
			s.end()
		})
	}
}
