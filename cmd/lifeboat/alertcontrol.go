package main

import (
	"context"
	"fmt"
	"time"

	"lifeboat/fsm"

	pb "lifeboat/api/lifeboat/v1"
	"lifeboat/api/lifeboat/v1/lifeboatv1connect"
	"lifeboat/internal/cli"
)

// matchFlags choose alerts.
type matchFlags struct {
	Type     []string          `placeholder:"TYPE" help:"Alerts of these types: names, CloudStack's codes or numbers; see 'lifeboat alert types'."`
	Severity string            `placeholder:"LEVEL" help:"Alerts at least this severe: info, warning or critical."`
	Subject  []string          `placeholder:"NAME" help:"Alerts about these; a * at the end stands for anything."`
	Cause    []string          `placeholder:"CAUSE" help:"Alerts of these causes; a * at the end stands for anything."`
	Label    map[string]string `mapsep:"none" placeholder:"KEY=VALUE" help:"Alerts of hosts with this label, and of their VMs."`
}

// filter is the filter, nil when no flag was given.
func (m *matchFlags) filter() *pb.AlertFilter {
	if len(m.Type)+len(m.Subject)+len(m.Cause)+len(m.Label) == 0 && m.Severity == "" {
		return nil
	}
	return &pb.AlertFilter{Types: m.Type, Severity: m.Severity, Subjects: m.Subject, Causes: m.Cause, Labels: m.Label}
}

// chooseFlags choose alerts to do something with.
type chooseFlags struct {
	IDs []ID `arg:"" optional:"" name:"id" help:"Numbers of the alerts. Without them, a filter is needed."`
	matchFlags
	State string        `placeholder:"STATE" help:"Only alerts in this state."`
	Older time.Duration `placeholder:"AGE" help:"Only alerts that were last heard of before that, for example 24h."`
	All   bool          `help:"All that this can be done to, without a filter."`
}

func (c *chooseFlags) control(ctx context.Context, env *cli.Env, g *cli.Globals, action, done string) error {
	req := &pb.ControlAlertRequest{Action: action}
	f := c.filter()
	if c.State != "" || c.Older > 0 || c.All {
		if f == nil {
			f = &pb.AlertFilter{}
		}
		f.State, f.OlderMs = c.State, c.Older.Milliseconds()
	}
	switch {
	case len(c.IDs) > 0 && f != nil:
		return cli.Usage("", "give numbers or a filter, not both")
	case len(c.IDs) == 0 && f == nil:
		return cli.Usage("for example: lifeboat alert "+action+" 12, or --subject h2, or --all", "say which alerts")
	case len(c.IDs) == 1:
		req.Id = uint64(c.IDs[0])
		done = fmt.Sprintf("alert %s is %s", c.IDs[0], done)
	default:
		for _, id := range c.IDs {
			req.Ids = append(req.Ids, uint64(id))
		}
		done = "the alerts are " + done
	}
	if len(req.Ids) == 0 && req.Id == 0 {
		req.Filter = f
	}
	return change(ctx, env, g, lifeboatv1connect.AdminServiceClient.ControlAlert, req, done, seeAlerts)
}

// AlertAckCmd is 'lifeboat alert ack'.
type AlertAckCmd struct{ chooseFlags }

// Run acknowledges alerts.
func (c *AlertAckCmd) Run(ctx context.Context, env *cli.Env, g *cli.Globals) error {
	return c.control(ctx, env, g, "ack", "acknowledged")
}

// AlertResolveCmd is 'lifeboat alert resolve'.
type AlertResolveCmd struct{ chooseFlags }

// Run resolves alerts.
func (c *AlertResolveCmd) Run(ctx context.Context, env *cli.Env, g *cli.Globals) error {
	return c.control(ctx, env, g, "resolve", "resolved")
}

// AlertArchiveCmd is 'lifeboat alert archive'.
type AlertArchiveCmd struct{ chooseFlags }

// Run archives alerts.
func (c *AlertArchiveCmd) Run(ctx context.Context, env *cli.Env, g *cli.Globals) error {
	return c.control(ctx, env, g, "archive", "archived")
}

// AlertDeleteCmd is 'lifeboat alert delete'.
type AlertDeleteCmd struct{ chooseFlags }

// Run deletes alerts.
func (c *AlertDeleteCmd) Run(ctx context.Context, env *cli.Env, g *cli.Globals) error {
	return c.control(ctx, env, g, "delete", "deleted")
}

// AlertRaiseCmd is 'lifeboat alert raise'.
type AlertRaiseCmd struct {
	Type     string `arg:"" help:"Type of the alert; 'lifeboat alert types' lists them."`
	Subject  string `arg:"" help:"What it is about: a host, a VM, a node or anything else."`
	Cause    string `arg:"" help:"What is wrong, in a word or two. The same type, subject and cause is the same alert."`
	Text     string `arg:"" optional:"" help:"What happened, and what to do."`
	Severity string `default:"warning" placeholder:"LEVEL" help:"info, warning or critical."`
	Resolved bool   `help:"It is over."`
}

// Run raises an alert, or says that it is over.
func (c *AlertRaiseCmd) Run(ctx context.Context, env *cli.Env, g *cli.Globals) error {
	done := fmt.Sprintf("alert %s/%s/%s is raised", c.Type, c.Subject, c.Cause)
	if c.Resolved {
		done = fmt.Sprintf("alert %s/%s/%s is over", c.Type, c.Subject, c.Cause)
	}
	return change(ctx, env, g, lifeboatv1connect.AdminServiceClient.RaiseAlerts, &pb.RaiseAlertsRequest{Alerts: []*pb.RaiseAlert{
		{Type: c.Type, Subject: c.Subject, Cause: c.Cause, Severity: c.Severity, Text: c.Text, Resolved: c.Resolved}}}, done, "'lifeboat alert types' lists the types")
}

// AlertTypesCmd is 'lifeboat alert types'.
type AlertTypesCmd struct{}

// Run lists the types. It asks no cluster.
func (c *AlertTypesCmd) Run(env *cli.Env, g *cli.Globals) error {
	r := &pb.AlertTypes{}
	for _, t := range fsm.AlertTypes() {
		r.Types = append(r.Types, &pb.AlertTypeView{Id: t.ID, Name: t.Name, Code: t.Code, Own: t.Own})
	}
	return cli.Print(env, g, r, func(v *cli.View, r *pb.AlertTypes) {
		type row = *pb.AlertTypeView
		cli.DrawTable(v, []cli.Column[row]{
			{Title: "ID", Cell: func(_ *cli.View, t row) string { return fmt.Sprint(t.Id) }},
			{Title: "TYPE", Cell: func(_ *cli.View, t row) string { return t.Name }},
			{Title: "CODE", Cell: func(_ *cli.View, t row) string { return t.Code }},
			{Title: "RAISED", Cell: func(_ *cli.View, t row) string {
				if t.Own {
					return "by lifeboat"
				}
				return "from outside, by 'lifeboat alert raise'"
			}},
		}, r.Types, "There are no types.")
	})
}
