package storm

import (
	"context"
	"fmt"
	"time"
)

// Times are the durations of one kind, in the order in which they were measured.
type Times []time.Duration

const (
	// betweenWrites is the resolution of the figures.
	betweenWrites = 5 * time.Millisecond
	// backWithin bounds how long a node that was started again may take.
	backWithin = 30 * time.Second
)

// Failovers kills the leader with -9, and notes the time until a write that was asked
// for later is confirmed, that many times. Each time the node comes back before the
// next one goes.
func (c *Cluster) Failovers(ctx context.Context, kills int) (Times, error) {
	return c.gaps(ctx, kills, func(w *Writers, leader string) (time.Duration, error) {
		began := time.Now()
		c.Kill(leader)
		first, err := w.After(ctx, began, 20*time.Second)
		return first.At.Sub(began), err
	})
}

// Stops stops the leader in order, that many times, and notes the longest time
// without a confirmed write from the signal until the process has ended, and
// a second more.
func (c *Cluster) Stops(ctx context.Context, stops int) (Times, error) {
	return c.gaps(ctx, stops, func(w *Writers, leader string) (time.Duration, error) {
		began := time.Now()
		if err := c.Stop(ctx, leader); err != nil {
			return 0, err
		}
		sleep(ctx, time.Second)
		end := time.Now()
		if _, err := w.After(ctx, end, 20*time.Second); err != nil {
			return 0, err
		}
		return LongestPause(w.Confirmed(), began, end), nil
	})
}

func (c *Cluster) gaps(ctx context.Context, times int, end func(w *Writers, leader string) (time.Duration, error)) (Times, error) {
	w, err := c.Write(ctx, betweenWrites, 15*time.Second)
	if err != nil {
		return nil, err
	}
	defer w.Stop()
	var out Times
	for i := range times {
		leader, err := c.Ready(ctx, backWithin)
		if err != nil {
			return out, err
		}
		// Not always at the same moment of the canary's second.
		if !sleep(ctx, time.Duration(i%10)*50*time.Millisecond) {
			return out, context.Cause(ctx)
		}
		gap, err := end(w, leader)
		if err != nil {
			return out, fmt.Errorf("round %d, leader %s: %w", i+1, leader, err)
		}
		out = append(out, gap)
		if err := c.Start(leader); err != nil {
			return out, err
		}
	}
	if _, err := c.Ready(ctx, backWithin); err != nil {
		return out, err
	}
	return out, w.Stop()
}
