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

// crew are managers of which some refuse at once, as a process that is starting does. It notes when a report came through.
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
	return c.AgentServiceClient.Register(ctx, r)
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
	return c.AgentServiceClient.Report(ctx, r)
}

func newCrew(t *testing.T) (*rig, *crew) {
	r := newRig(t)
	c := &crew{managers: r.m, refuse: map[string]bool{}}
	r.cfg.Connect = c.at
	return r, c
}

// Managers that refuse cost nothing as long as one does not, also when that is another
// one after a while, and one that refused a moment ago.
func TestManagersThatRefuse(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r, c := newCrew(t)
		only := func(addr string) {
			c.mu.Lock()
			defer c.mu.Unlock()
			for _, a := range []string{"m1:1", "m2:1", "m3:1"} {
				c.refuse[a] = a != addr
			}
		}
		only("m2:1")
		r.run()
		r.eventually(10*time.Second, "registered", r.registered)
		time.Sleep(10 * time.Second)
		for _, addr := range []string{"m1:1", "m2:1", "m3:1", "m2:1"} {
			c.fresh()
			only(addr)
			time.Sleep(10 * time.Second)
			if to, gap := c.seen(); gap > 2500*time.Millisecond || to != addr {
				t.Errorf("silent for %s when only %s answers; reports go through %s", gap, addr, to)
			}
		}
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
				r.eventually(10*time.Second, "reports", func() bool { to, _ := c.seen(); return to != "" })
				time.Sleep(3*beat + at)
				dead, _ := c.seen()
				c.fresh()
				locked(r.m, func() bool { c.down[dead] = true; return true })
				time.Sleep(30 * time.Second)
				to, gap := c.seen()
				t.Log(gap)
				if gap >= 3*beat || to == dead {
					t.Errorf("silent for %s after the death of a manager; reports go through %s", gap, to)
				}
				if err := r.halt(); err != nil {
					t.Error(err)
				}
			})
		})
	}
}
