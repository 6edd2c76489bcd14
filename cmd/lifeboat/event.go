package main

import (
	"context"
	"fmt"
	"time"

	pb "lifeboat/api/lifeboat/v1"
	"lifeboat/api/lifeboat/v1/lifeboatv1connect"
	"lifeboat/internal/cli"
)

// EventCmd is 'lifeboat event'.
type EventCmd struct {
	List  EventListCmd  `cmd:"" help:"List the newest events, or those after an id."`
	Watch EventWatchCmd `cmd:"" help:"Print events as they happen, until interrupted."`
	Purge EventPurgeCmd `cmd:"" help:"Forget old events on every node."`
}

// eventFlags choose events.
type eventFlags struct {
	Type  string        `placeholder:"TYPE" help:"Only events of this type, for example HOST.DOWN, or HOST.* for all of a noun."`
	Level string        `placeholder:"LEVEL" help:"Only events of at least this level: info, warning or critical."`
	Actor string        `placeholder:"NAME" help:"Only what this one did: an operator's name, or leader."`
	Since time.Duration `placeholder:"AGE" help:"Only events that are no older, for example 1h."`
}

func (f *eventFlags) into(r *pb.ListEventsRequest) *pb.ListEventsRequest {
	r.Type, r.Level, r.Actor = f.Type, f.Level, f.Actor
	if f.Since > 0 {
		r.SinceUnixNs = time.Now().Add(-f.Since).UnixNano()
	}
	return r
}

// EventPurgeCmd is 'lifeboat event purge'.
type EventPurgeCmd struct {
	Before string `required:"" placeholder:"AGE|TIME" help:"Events older than an age like 720h, or than a time like 2026-11-01T00:00:00Z, are forgotten."`
}

// Run forgets old events.
func (c *EventPurgeCmd) Run(ctx context.Context, env *cli.Env, g *cli.Globals) error {
	at, err := time.Parse(time.RFC3339, c.Before)
	if age, wrong := time.ParseDuration(c.Before); wrong == nil && age > 0 {
		at, err = time.Now().Add(-age), nil
	}
	if err != nil {
		return cli.Usage("write for example 720h or 2026-11-01T00:00:00Z", "%q is neither an age nor a time", c.Before)
	}
	return change(ctx, env, g, lifeboatv1connect.AdminServiceClient.PurgeEvents, &pb.PurgeEventsRequest{BeforeUnixNs: at.UnixNano()},
		"events from before "+at.UTC().Format(time.RFC3339)+" are forgotten", "")
}

// EventListCmd is 'lifeboat event list'.
type EventListCmd struct {
	cli.ReadFlags
	After   uint64 `placeholder:"ID" help:"Only events after this one, oldest first. Without it the newest are listed."`
	Limit   uint32 `short:"n" default:"50" placeholder:"N" help:"At most so many events."`
	Subject string `placeholder:"NAME" help:"Only events about this host, VM or node."`
	eventFlags
}

// Run lists events.
func (c *EventListCmd) Run(ctx context.Context, env *cli.Env, g *cli.Globals) error {
	return cli.Show(ctx, env, g, c.ReadFlags, func(ctx context.Context, client *cli.Client) (*pb.ListEventsResponse, error) {
		return cli.Read(ctx, client, lifeboatv1connect.AdminServiceClient.ListEvents,
			c.into(&pb.ListEventsRequest{Stale: c.Stale, After: c.After, Limit: c.Limit, Subject: c.Subject}))
	}, func(v *cli.View, r *pb.ListEventsResponse) {
		cli.DrawTable(v, eventColumns(), r.Events, "No events match.")
	})
}

func eventColumns() []cli.Column[*pb.EventView] {
	return []cli.Column[*pb.EventView]{
		{Title: "ID", Cell: func(_ *cli.View, e *pb.EventView) string { return fmt.Sprint(e.Id) }},
		{Title: "TIME", Cell: func(v *cli.View, e *pb.EventView) string { return v.Time(e.TimeUnixNs) }},
		{Title: "LEVEL", Cell: func(_ *cli.View, e *pb.EventView) string { return e.Level }},
		{Title: "TYPE", Cell: func(_ *cli.View, e *pb.EventView) string { return e.Type }},
		{Title: "SUBJECT", Cell: func(_ *cli.View, e *pb.EventView) string { return e.Subject }},
		{Title: "ACTOR", Cell: func(_ *cli.View, e *pb.EventView) string { return e.Actor }},
		{Title: "LOG INDEX", Wide: true, Cell: func(_ *cli.View, e *pb.EventView) string { return fmt.Sprint(e.Index) }},
		{Title: "TEXT", Cell: func(_ *cli.View, e *pb.EventView) string { return e.Text }},
	}
}

// EventWatchCmd is 'lifeboat event watch'.
type EventWatchCmd struct {
	Stale      bool   `help:"Take the events that the node asked knows, also when it is not the leader and may be behind."`
	After      uint64 `placeholder:"ID" help:"Begin after this event. Without it, begin with the newest."`
	AfterIndex uint64 `placeholder:"INDEX" help:"Begin after this index of the log: what a program does that has kept the index of an answer."`
	Last       uint32 `short:"n" default:"10" placeholder:"N" help:"How many old events to begin with; 0 for none."`
	Subject    string `placeholder:"NAME" help:"Only events about this host, VM or node."`
	eventFlags
}

const (
	// parkFor is how long a node may hold the request open for something new.
	parkFor = 20 * time.Second
	// watchBatch bounds one answer; the next follows at once.
	watchBatch = 500
)

// Run prints events as they come. Interrupting is how it ends, so that is no
// error; nor is a cluster that cannot be reached for a while.
func (c *EventWatchCmd) Run(ctx context.Context, env *cli.Env, g *cli.Globals) error {
	client, err := cli.Open(env, g)
	if err != nil {
		return err
	}
	defer client.Close()
	req := c.into(&pb.ListEventsRequest{Stale: c.Stale, After: c.After, Limit: watchBatch, Subject: c.Subject, AfterIndex: c.AfterIndex})
	news := c.After == 0 && c.AfterIndex == 0
	if news {
		// Without a position the answer is the newest; nothing is parked. A limit of 0
		// would be none.
		req.Limit = max(c.Last, 1)
	}
	return cli.Follow(ctx, env, client, func(ctx context.Context, client *cli.Client, again bool) error {
		if again {
			client, req.WaitMs = client.Patient(parkFor), parkFor.Milliseconds()
		}
		r, err := cli.Read(ctx, client, lifeboatv1connect.AdminServiceClient.ListEvents, req)
		if err != nil {
			return err
		}
		if req.After > 0 && r.Oldest > req.After {
			fmt.Fprintf(env.Stderr, "Event %d is not kept any more, the oldest one that is has number %d (events_keep): events between them may be missing here.\n", req.After, r.Oldest)
		}
		for _, e := range r.Events {
			if e.Id <= req.After {
				continue
			}
			if old := news && !again && c.Last == 0; !old {
				if err := cli.PrintEach(env, g, e, drawEvent); err != nil {
					return err
				}
			}
			req.After, req.AfterIndex = e.Id, 0
		}
		if r.Seen > req.After {
			req.After, req.AfterIndex = r.Seen, 0 // what did not match is not read again
		}
		req.Limit = watchBatch
		return nil
	})
}

// drawEvent prints a time, not an age: the line stays while time goes on.
func drawEvent(v *cli.View, e *pb.EventView) {
	at := time.Unix(0, e.TimeUnixNs).UTC().Format("2006-01-02T15:04:05.000Z07:00")
	by := ""
	if v.Wide {
		by = fmt.Sprintf("  (%s, id %d, log index %d)", e.Actor, e.Id, e.Index)
	}
	v.Line("%s  %-5s %-20s %-12s %s%s", at, e.Level, e.Type, e.Subject, e.Text, by)
}
