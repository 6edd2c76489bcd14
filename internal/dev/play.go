package dev

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"
)

// Play waits until the cluster is ready, says how to play with it, and tells
// what happens until ctx ends, which is how it is meant to end.
func Play(ctx context.Context, r *Room, to Teller) error {
	began := time.Now()
	since := func(at time.Time) string { return fmt.Sprintf("%6.1f s", max(at.Sub(began), 0).Seconds()) }
	to.line(bold, "Three management nodes and four hosts start, with twelve VMs on them.")
	ready, cancel := context.WithTimeoutCause(ctx, settleWithin, errors.New("time is up"))
	defer cancel()
	err := r.Settle(ready, func(what string) { to.line(faint, "  %s  waiting for %s", since(time.Now()), what) })
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	if err != nil {
		return fmt.Errorf("start the cluster: %w", err)
	}
	s, err := r.newStory(ctx, to, clock)
	if err != nil {
		return fmt.Errorf("follow the cluster: %w", err)
	}
	to.line(good, "  %s  all are Up, every VM runs, is protected and has its definition in the log; %s leads", since(time.Now()), s.leader)
	r.explain(to)
	for ctx.Err() == nil {
		select {
		case err := <-r.failed:
			to.line(bad, "%v", err)
		default:
		}
		if err := s.step(ctx, time.Second); err != nil {
			sleep(ctx, time.Second)
		}
	}
	return context.Cause(ctx)
}

// explain says how to play.
func (r *Room) explain(to Teller) {
	to.title("In another terminal:")
	for _, line := range columns([][]string{
		{"  lifeboat status", "the cluster in a few lines; also: host list, vm list, work list, event list"},
		{"  lifeboat dev list", "what really runs where"},
		{"  lifeboat dev kill h4", "cut the power of a machine; its VMs start elsewhere"},
		{"  lifeboat dev kill leader", "the same for the machine of the leader"},
		{"  lifeboat dev panic h2", "the machine dies and its power stays on, until it is fenced"},
		{"  lifeboat dev kill n1", "only the management node"},
		{"  lifeboat dev stop-agent h3", "a clean stop of an agent"},
		{"  lifeboat dev crash web-1", "the VM crashes; or it shuts down: lifeboat dev shutdown web-1"},
		{"  lifeboat dev start h4", "whatever was killed or stopped on a machine"},
		{"  lifeboat explain vm web-1", "what happened to it, and why"},
	}) {
		to.line(plain, "%s", strings.TrimRight(line, " "))
	}
	to.line(faint, "Metrics and health: http://%s/metrics, /healthz, /readyz, /leader.", r.machines[0].http)
	to.line(faint, "Logs and data are in %s. Ctrl-C ends everything.", r.Dir())
	to.line(plain, "")
}
