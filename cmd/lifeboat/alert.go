package main

import (
	"context"
	"fmt"

	pb "lifeboat/api/lifeboat/v1"
	"lifeboat/api/lifeboat/v1/lifeboatv1connect"
	"lifeboat/internal/cli"
)

// AlertCmd is 'lifeboat alert'.
type AlertCmd struct {
	List    AlertListCmd    `cmd:"" help:"List the open alerts, or all of them."`
	Show    AlertShowCmd    `cmd:"" help:"Show everything about an alert."`
	Ack     AlertAckCmd     `cmd:"" help:"Say that you have seen an alert and care for it."`
	Resolve AlertResolveCmd `cmd:"" help:"Close an alert by hand. Most close when their cause is gone."`
}

// AlertListCmd is 'lifeboat alert list'.
type AlertListCmd struct {
	cli.ReadFlags
	All     bool   `short:"a" help:"Also resolved alerts."`
	Type    string `placeholder:"TYPE" help:"Only alerts of this type."`
	Subject string `placeholder:"NAME" help:"Only alerts about this host, VM or node."`
}

// Run lists the alerts.
func (c *AlertListCmd) Run(ctx context.Context, env *cli.Env, g *cli.Globals) error {
	return cli.Show(ctx, env, g, c.ReadFlags, func(ctx context.Context, client *cli.Client) (*pb.ListAlertsResponse, error) {
		return cli.Read(ctx, client, lifeboatv1connect.AdminServiceClient.ListAlerts,
			&pb.ListAlertsRequest{Stale: c.Stale, All: c.All, Type: c.Type, Subject: c.Subject})
	}, func(v *cli.View, r *pb.ListAlertsResponse) {
		empty := "No open alerts."
		if c.All || c.Type != "" || c.Subject != "" {
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
			[2]string{"Text", a.Text},
		)
	})
}

// AlertAckCmd is 'lifeboat alert ack'.
type AlertAckCmd struct {
	ID ID `arg:"" name:"id" help:"Number of the alert."`
}

// Run acknowledges an alert.
func (c *AlertAckCmd) Run(ctx context.Context, env *cli.Env, g *cli.Globals) error {
	return controlAlert(ctx, env, g, c.ID, "ack", fmt.Sprintf("alert %s is acknowledged", c.ID))
}

// AlertResolveCmd is 'lifeboat alert resolve'.
type AlertResolveCmd struct {
	ID ID `arg:"" name:"id" help:"Number of the alert."`
}

// Run resolves an alert.
func (c *AlertResolveCmd) Run(ctx context.Context, env *cli.Env, g *cli.Globals) error {
	return controlAlert(ctx, env, g, c.ID, "resolve", fmt.Sprintf("alert %s is resolved", c.ID))
}

func controlAlert(ctx context.Context, env *cli.Env, g *cli.Globals, id ID, action, done string) error {
	return change(ctx, env, g, lifeboatv1connect.AdminServiceClient.ControlAlert, &pb.ControlAlertRequest{Id: uint64(id), Action: action}, done, seeAlerts)
}
