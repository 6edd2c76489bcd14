package agent

import (
	"context"
	"errors"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"connectrpc.com/connect"

	lifeboatv1 "lifeboat/api/lifeboat/v1"
	"lifeboat/api/lifeboat/v1/lifeboatv1connect"
)

// crew are managers of which m1:1 leads; some refuse at once, as a process that
// is starting does. It notes when a report came through.
type crew struct {
	*managers
	mu      sync.Mutex
	refuse  map[string]bool
	through string
	last    time.Time
	gap     time.Duration // the longest silence
}

type crewman struct {
	lifeboatv1connect.AgentServiceClient
	*crew
	addr string
}

func (c *crew) at(addr string) lifeboatv1connect.AgentServiceClient {
	return crewman{c.managers.at(addr), c, addr}
}

func (c *crew) seen() (through string, gap time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.through, max(c.gap, time.Since(c.last))
}

// fresh forgets what was seen.
func (c *crew) fresh() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.gap, c.last = 0, time.Now()
}

func (c crewman) Register(ctx context.Context, r *connect.Request[lifeboatv1.RegisterRequest]) (*connect.Response[lifeboatv1.RegisterResponse], error) {
	c.mu.Lock()
	refuse := c.refuse[c.addr]
	c.mu.Unlock()
	if refuse {
		return nil, connect.NewError(connect.CodeUnavailable, errors.New("connection refused"))
	}
	resp, err := c.AgentServiceClient.Register(ctx, r)
	if err == nil {
		resp.Msg.LeaderAddr = "m1:1"
	}
	return resp, err
}

func (c crewman) Report(ctx context.Context, r *connect.Request[lifeboatv1.ReportRequest]) (*connect.Response[lifeboatv1.ReportResponse], error) {
	down := locked(c.managers, func() bool { return c.down[c.addr] })
	c.mu.Lock()
	if refuse := c.refuse[c.addr]; refuse {
		c.mu.Unlock()
		return nil, connect.NewError(connect.CodeUnavailable, errors.New("connection refused"))
	}
	if !down {
		if !c.last.IsZero() {
			c.gap = max(c.gap, time.Since(c.last))
		}
		c.through, c.last = c.addr, time.Now()
	}
	c.mu.Unlock()
	resp, err := c.AgentServiceClient.Report(ctx, r)
	if err == nil {
		resp.Msg.LeaderAddr = "m1:1"
	}
	return resp, err
}

func newCrew(t *testing.T) (*rig, *crew) {
	r := newRig(t)
	c := &crew{managers: r.m, refuse: map[string]bool{}}
	r.cfg.Connect = c.at
	return r, c
}

// A leader that refused a moment ago, because it was starting, is reported to
// as soon as a follower names it.
func TestRefusalIsForgivenAtOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r, c := newCrew(t)
		c.refuse["m1:1"] = true
		r.run()
		r.eventually(10*time.Second, "registered", r.registered)
		time.Sleep(10 * time.Second)
		if _, gap := c.seen(); gap > 1300*time.Millisecond {
			t.Errorf("silent for %s while the leader refuses and others forward", gap)
		}
		c.mu.Lock()
		c.refuse["m1:1"] = false
		c.mu.Unlock()
		r.eventually(2*beat, "reports to the leader itself", func() bool { to, _ := c.seen(); return to == "m1:1" })
		if err := r.halt(); err != nil {
			t.Error(err)
		}
	})
}

// The silence that one dead manager causes stays below the three beats after
// which a host is suspect, whenever in a beat it dies.
func TestDeadManagerCostsLessThanThreeBeats(t *testing.T) {
	for _, at := range []time.Duration{0, 1, 250 * time.Millisecond, 500 * time.Millisecond, 990 * time.Millisecond} {
		t.Run(at.String(), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				r, c := newCrew(t)
				r.run()
				r.eventually(10*time.Second, "reports to the leader", func() bool { to, _ := c.seen(); return to == "m1:1" })
				time.Sleep(3*beat + at)
				c.fresh()
				locked(r.m, func() bool { c.down["m1:1"] = true; return true })
				time.Sleep(30 * time.Second)
				to, gap := c.seen()
				t.Log(gap)
				if gap >= 3*beat || to == "m1:1" {
					t.Errorf("silent for %s after the death of a manager; reports go through %s", gap, to)
				}
				if err := r.halt(); err != nil {
					t.Error(err)
				}
			})
		})
	}
}
