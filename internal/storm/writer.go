package storm

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"sync"
	"time"

	"connectrpc.com/connect"

	pb "lifeboat/api/lifeboat/v1"
	"lifeboat/api/lifeboat/v1/lifeboatv1connect"
	"lifeboat/internal/cli"
)

// Confirmed is a write whose confirmation has arrived.
type Confirmed struct {
	Value     string // of the setting; no two writes have the same
	Index     uint64 // log index of its entry
	Asked, At time.Time
}

// Writers change a setting of the policy all the time, each beginning with another
// node, with the client of the command line and so with its request ids, its retries
// and its patience. Each change is an event that holds the value: what was
// confirmed can be looked for later, one by one.
type Writers struct {
	stop context.CancelFunc
	all  sync.WaitGroup

	mu     sync.Mutex
	done   []Confirmed
	unsure []string // values of writes whose outcome is not known
	failed error
}

// setting takes any duration between a second and a day.
const setting = "retry_max"

// Write starts writers, one per node, with a pause after each confirmed write.
// Patience is how long one write may take, as --timeout.
func (c *Cluster) Write(ctx context.Context, pause, patience time.Duration) (*Writers, error) {
	ctx, stop := context.WithCancel(ctx)
	w := &Writers{stop: stop}
	run := time.Now().UnixNano() % int64(time.Hour)
	for i := range c.Names {
		client, err := c.client(i, patience)
		if err != nil {
			w.Stop()
			return nil, err
		}
		w.all.Go(func() {
			defer client.Close()
			// Values of one writer differ by the number of writers.
			for n := run*3 + int64(i); ctx.Err() == nil; n += int64(len(c.Names)) {
				w.one(ctx, client, (time.Hour + time.Duration(n)).String())
				sleep(ctx, pause)
			}
		})
	}
	return w, nil
}

// client is that of the command line, which asks node number first at first.
func (c *Cluster) client(first int, patience time.Duration) (*cli.Client, error) {
	var addrs []string
	for i := range c.Names {
		addrs = append(addrs, c.Addrs[c.Names[(first+i)%len(c.Names)]])
	}
	env := &cli.Env{Stdout: io.Discard, Stderr: io.Discard, LookupEnv: func(string) (string, bool) { return "", false }, Now: time.Now}
	client, err := cli.Open(env, &cli.Globals{Addr: strings.Join(addrs, ","), Cert: c.user.Cert, Key: c.user.Key, CA: c.user.CA, Timeout: patience, Consistency: "leader"})
	if err != nil {
		return nil, fmt.Errorf("open client: %w", err)
	}
	return client, nil
}

func (w *Writers) one(ctx context.Context, client *cli.Client, value string) {
	asked := time.Now()
	// Stop lets a write that is out end.
	r, err := cli.Write(context.WithoutCancel(ctx), client, lifeboatv1connect.AdminServiceClient.SetPolicy,
		&pb.SetPolicyRequest{Settings: []*pb.Setting{{Key: setting, Value: value}}})
	now := time.Now()
	w.mu.Lock()
	defer w.mu.Unlock()
	var e *cli.Error
	switch {
	case err == nil:
		w.done = append(w.done, Confirmed{value, r.Index, asked, now})
	case errors.As(err, &e) && e.Exit == cli.ExitUnknown:
		w.unsure = append(w.unsure, value)
	case errors.As(err, &e) && e.Exit == cli.ExitUnreachable: // not done
	case w.failed == nil:
		w.failed = fmt.Errorf("write %s: %w", value, err)
		w.stop()
	}
}

// Stop ends the writers, what is out first. The error is of a write that was refused.
func (w *Writers) Stop() error {
	w.stop()
	w.all.Wait()
	return w.failed
}

// Confirmed are the writes confirmed so far, in the order of their confirmation.
func (w *Writers) Confirmed() []Confirmed {
	w.mu.Lock()
	defer w.mu.Unlock()
	return slices.Clone(w.done)
}

// Unsure are the values of the writes of which the client said that their outcome is
// unknown.
func (w *Writers) Unsure() []string {
	w.mu.Lock()
	defer w.mu.Unlock()
	return slices.Clone(w.unsure)
}

// After waits for a write that was asked for after a moment and was confirmed.
func (w *Writers) After(ctx context.Context, when time.Time, most time.Duration) (Confirmed, error) {
	end := time.Now().Add(most)
	for {
		w.mu.Lock()
		failed := w.failed
		var first Confirmed
		for i := len(w.done) - 1; i >= 0 && w.done[i].At.After(when); i-- {
			// One that was asked for earlier counts when it was confirmed a good
			// while later: no leader that is dead confirms.
			if d := w.done[i]; d.Asked.After(when) || d.At.Sub(when) > inFlight {
				first = d
			}
		}
		w.mu.Unlock()
		switch {
		case failed != nil:
			return first, failed
		case !first.At.IsZero():
			return first, nil
		case time.Now().After(end):
			return first, fmt.Errorf("wait for a write: none was confirmed for %s", most)
		case !sleep(ctx, time.Millisecond):
			return first, context.Cause(ctx)
		}
	}
}

// inFlight is longer than what a dead process had sent takes to arrive on loopback.
const inFlight = 50 * time.Millisecond

// LongestPause is the longest time without a confirmation, of any writer, between two
// moments.
func LongestPause(done []Confirmed, from, to time.Time) (longest time.Duration) {
	last := from
	for _, d := range done {
		if d.At.Before(from) || d.At.After(to) {
			continue
		}
		longest = max(longest, d.At.Sub(last))
		last = d.At
	}
	return max(longest, to.Sub(last))
}

// Events are the values that the events of a node's state hold, with the log indexes
// at which each was set.
func (c *Cluster) Events(ctx context.Context, node string) (map[string][]uint64, error) {
	values := map[string][]uint64{}
	for after := uint64(1); ; {
		r, err := c.apis[node].ListEvents(ctx, connect.NewRequest(&pb.ListEventsRequest{Stale: true, After: after, Limit: 1000, Subject: "policy"}))
		if err != nil {
			return nil, fmt.Errorf("list events of %s: %w", node, err)
		}
		if len(r.Msg.Events) == 0 {
			return values, nil
		}
		for _, e := range r.Msg.Events {
			after = e.Id
			if _, value, ok := strings.Cut(e.Text, " → "); ok && strings.HasPrefix(e.Text, setting+":") {
				values[value] = append(values[value], e.Index)
			}
		}
	}
}

// Keep has the cluster keep every event of a run.
func (c *Cluster) Keep(ctx context.Context) error {
	client, err := c.client(0, 15*time.Second)
	if err != nil {
		return err
	}
	defer client.Close()
	_, err = cli.Write(ctx, client, lifeboatv1connect.AdminServiceClient.SetPolicy, &pb.SetPolicyRequest{Settings: []*pb.Setting{{Key: "events_keep", Value: "10000000"}}})
	return err
}
