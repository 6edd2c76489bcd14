package main

import (
	"context"
	"fmt"
	"time"

	pb "lifeboat/api/lifeboat/v1"
	"lifeboat/api/lifeboat/v1/lifeboatv1connect"
	"lifeboat/internal/cli"
	"lifeboat/node"
)

// usageTime is a time or a date on the command line. A date begins where its window does,
// in the time zone of the policy: inUsageZone makes a time of it.
type usageTime struct {
	time.Time
	date bool
}

// UnmarshalText reads 2026-01-02, or 2026-01-02T03:04:05Z.
func (t *usageTime) UnmarshalText(b []byte) (err error) {
	if t.Time, err = time.Parse(time.RFC3339Nano, string(b)); err == nil {
		return nil
	}
	if t.Time, err = time.Parse(time.DateOnly, string(b)); err == nil {
		t.date = true
		return nil
	}
	return fmt.Errorf("%q is no time; write 2026-01-02 or 2026-01-02T03:04:05Z", b)
}

// ns is unix ns, 0 for none.
func (t usageTime) ns() int64 {
	if t.IsZero() {
		return 0
	}
	return t.UnixNano()
}

// inUsageZone makes times of dates. It asks the cluster for its time zone if there is one;
// stale: the node asked answers, also without a leader.
func inUsageZone(ctx context.Context, client *cli.Client, stale bool, times ...*usageTime) error {
	var loc *time.Location
	for _, t := range times {
		if !t.date {
			continue
		}
		if loc == nil {
			var err error
			if loc, err = usageZone(ctx, client, stale); err != nil {
				return err
			}
		}
		t.Time, t.date = node.Midnight(t.Year(), t.Month(), t.Day(), loc), false
	}
	return nil
}

func usageZone(ctx context.Context, client *cli.Client, stale bool) (*time.Location, error) {
	r, err := cli.Read(ctx, client, lifeboatv1connect.AdminServiceClient.GetPolicy, &pb.GetPolicyRequest{Stale: stale})
	if err != nil {
		return nil, err
	}
	for _, s := range r.Settings {
		if s.Key != "usage_timezone" {
			continue
		}
		loc, err := time.LoadLocation(s.Value)
		if err != nil {
			return nil, cli.Usage("give a time, for example 2026-01-02T00:00:00Z", "this version of lifeboat does not know the time zone %q of the policy, in which a date begins", s.Value)
		}
		return loc, nil
	}
	return time.UTC, nil
}
