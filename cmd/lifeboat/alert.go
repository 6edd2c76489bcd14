package main

import (
	"context"
	"fmt"
	"time"

	pb "lifeboat/api/lifeboat/v1"
	"lifeboat/api/lifeboat/v1/lifeboatv1connect"
	"lifeboat/internal/cli"
)

// AlertCmd is 'lifeboat alert'.
type AlertCmd struct {
	List    AlertListCmd    `cmd:"" help:"List the open alerts, or all of them."`
	Show    AlertShowCmd    `cmd:"" help:"Show everything about an alert."`
	Ack     AlertAckCmd     `cmd:"" help:"Say that you have seen alerts and care for them."`
	Resolve AlertResolveCmd `cmd:"" help:"Close alerts by hand. Most close when their cause is gone."`
	Archive AlertArchiveCmd `cmd:"" help:"Put resolved alerts out of sight: what fails anew is a new alert."`
	Delete  AlertDeleteCmd  `cmd:"" help:"Forget alerts that are over."`
	Raise   AlertRaiseCmd   `cmd:"" help:"Raise an alert about what lifeboat does not watch, or say that it is over."`
	Types   AlertTypesCmd   `cmd:"" help:"List the types of alerts, with CloudStack's numbers."`
}

// AlertListCmd is 'lifeboat alert list'.
type AlertListCmd struct {
	cli.ReadFlags
	All      bool          `short:"a" help:"Also resolved and archived alerts."`
	Type     string        `placeholder:"TYPE" help:"Only alerts of this type: its name, CloudStack's code or number."`
	Subject  string        `placeholder:"NAME" help:"Only alerts about this host, VM or node."`
	Severity string        `placeholder:"LEVEL" help:"Only alerts at least this severe: info, warning or critical."`
	State    string        `placeholder:"STATE" help:"Only alerts that are open, acknowledged, resolved or archived."`
	Older    time.Duration `placeholder:"AGE" help:"Only alerts last heard of before that, for example 24h."`
	Newer    time.Duration `placeholder:"AGE" help:"Only alerts heard of since, for example 1h."`
}

// Run lists the alerts.
func (c *AlertListCmd) Run(ctx context.Context, env *cli.Env, g *cli.Globals) error {
	return cli.Show(ctx, env, g, c.ReadFlags, func(ctx context.Context, client *cli.Client) (*pb.ListAlertsResponse, error) {
		return cli.Read(ctx, client, lifeboatv1connect.AdminServiceClient.ListAlerts,
			&pb.ListAlertsRequest{Stale: c.Stale, All: c.All, Type: c.Type, Subject: c.Subject,
				Severity: c.Severity, State: c.State, OlderMs: c.Older.Milliseconds(), NewerMs: c.Newer.Milliseconds()})
	}, func(v *cli.View, r *pb.ListAlertsResponse) {
		empty := "No open alerts."
		if c.All || c.Type != "" || c.Subject != "" || c.Severity != "" || c.State != "" || c.Older+c.Newer > 0 {
			empty = "No alerts match."
		}
		cli.DrawTable(v, alertColumns(), r.Alerts, empty)
	})
}

func alertColumns() []cli.Column[*pb.AlertView] {
	return []cli.Column[*pb.AlertView]{
		{Title: "ID", Cell: func(_ *cli.View, a *pb.AlertView) string { return fmt.Sprint(a.Id) }},
		{Title: "SEVERITY", Cell: func(_ *cli.View, a *pb.AlertView) string { return a.Severity }},
		{Title: "STATE", Cell: func(_ *cli.View, a *pb.AlertView) string { return a.State }},
		{Title: "TYPE", Cell: func(_ *cli.View, a *pb.AlertView) string { return a.Type }},
		{Title: "SUBJECT", Cell: func(_ *cli.View, a *pb.AlertView) string { return a.Subject }},
		{Title: "CAUSE", Wide: true, Cell: func(_ *cli.View, a *pb.AlertView) string { return a.Cause }},
		{Title: "RAISED", Cell: func(_ *cli.View, a *pb.AlertView) string { return cli.Count(a.Count, "time") }},
		{Title: "FIRST", Wide: true, Cell: func(v *cli.View, a *pb.AlertView) string { return v.Time(a.FirstUnixNs) }},
		{Title: "LAST", Cell: func(v *cli.View, a *pb.AlertView) string { return v.Time(a.LastUnixNs) }},
		{Title: "RESOLVED", Wide: true, Cell: func(v *cli.View, a *pb.AlertView) string { return v.Time(a.ResolvedUnixNs) }},
		{Title: "TEXT", Cell: func(_ *cli.View, a *pb.AlertView) string { return a.Text }},
	}
}

func reopened(v *cli.View, a *pb.AlertView) string {
	if a.Reopened == 0 {
		return ""
	}
	return fmt.Sprintf("%s, the last time %s", cli.Count(a.Reopened, "time"), v.Time(a.SinceUnixNs))
}

// AlertShowCmd is 'lifeboat alert show'.
type AlertShowCmd struct {
	cli.ReadFlags
	ID ID `arg:"" name:"id" help:"Number of the alert."`
}

// Run shows one alert.
func (c *AlertShowCmd) Run(ctx context.Context, env *cli.Env, g *cli.Globals) error {
	return cli.Show(ctx, env, g, c.ReadFlags, func(ctx context.Context, client *cli.Client) (*pb.AlertView, error) {
		r, err := cli.Read(ctx, client, lifeboatv1connect.AdminServiceClient.ListAlerts, &pb.ListAlertsRequest{Stale: c.Stale, All: true})
		if err != nil {
			return nil, err
		}
		for _, a := range r.Alerts {
			if a.Id == uint64(c.ID) {
				return a, nil
			}
		}
		return nil, notFound("alert", c.ID.String(), seeAlerts)
	}, func(v *cli.View, a *pb.AlertView) {
		v.Fields(
			[2]string{"Alert", fmt.Sprint(a.Id)},
			[2]string{"Type", a.Type},
			[2]string{"Severity", a.Severity},
			[2]string{"Subject", a.Subject},
			[2]string{"Cause", a.Cause},
			[2]string{"State", withReason(a.State, a.Resolution)},
			[2]string{"Raised", fmt.Sprintf("%s, first %s, last %s", cli.Count(a.Count, "time"), v.Time(a.FirstUnixNs), v.Time(a.LastUnixNs))},
			[2]string{"Resolved", v.Time(a.ResolvedUnixNs)},
			[2]string{"Re-opened", reopened(v, a)},
			[2]string{"Acknowledged by", a.AckedBy},
			[2]string{"Silenced", map[bool]string{true: "yes: nobody was told yet; see 'lifeboat notify silence list'"}[a.Muted]},
			[2]string{"Text", a.Text},
		)
	})
}
