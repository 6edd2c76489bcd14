package main

import (
	"context"
	"fmt"
	"time"

	pb "lifeboat/api/lifeboat/v1"
	"lifeboat/api/lifeboat/v1/lifeboatv1connect"
	"lifeboat/internal/cli"
)

// PlanCmd is 'lifeboat plan'.
type PlanCmd struct {
	cli.ReadFlags
	Fail        []string      `placeholder:"HOST" xor:"what" required:"" help:"What if these hosts failed at once: names, or labels like rack=a; several with commas."`
	Maintenance []string      `placeholder:"HOST" xor:"what" required:"" help:"What if these hosts were put into maintenance."`
	N1          bool          `name:"n1" xor:"what" required:"" help:"What if any one host failed: a line for each."`
	Force       bool          `help:"With --maintenance: what cannot be migrated live is stopped and started elsewhere."`
	StartTime   time.Duration `placeholder:"5s" help:"How long a start is taken to last."`
}

// Run asks what would happen, and shows it. Nothing is done.
func (c *PlanCmd) Run(ctx context.Context, env *cli.Env, g *cli.Globals) error {
	return cli.Show(ctx, env, g, c.ReadFlags, func(ctx context.Context, client *cli.Client) (*pb.PlanResponse, error) {
		r, err := cli.Read(ctx, client, lifeboatv1connect.AdminServiceClient.Plan, &pb.PlanRequest{Stale: c.Stale, Fail: c.Fail, Maintenance: c.Maintenance,
			Each: c.N1, Force: c.Force, StartMs: c.StartTime.Milliseconds()})
		return r, withNames(err, seeHosts)
	}, func(v *cli.View, r *pb.PlanResponse) {
		switch {
		case c.N1:
			drawEach(v, r)
		case len(c.Maintenance) > 0:
			drawPlan(v, r, fmt.Sprintf("maintenance of %s", cli.Joined(r.Hosts)), "cannot leave", "stay where they are")
		default:
			drawPlan(v, r, fmt.Sprintf("failure of %s", cli.Joined(r.Hosts)), "would stay down", "would stay down")
		}
	})
}

func drawPlan(v *cli.View, r *pb.PlanResponse, what, stay, unprotected string) {
	rows := make([]*pb.PlannedVM, 0, len(r.Steps)+len(r.Stays))
	rows = append(append(rows, r.Steps...), r.Stays...)
	cli.DrawTable(v, []cli.Column[*pb.PlannedVM]{
		{Title: "ORDER", Cell: func(_ *cli.View, x *pb.PlannedVM) string {
			if x.Order == 0 {
				return ""
			}
			return fmt.Sprint(x.Order)
		}},
		{Title: "VM", Cell: func(_ *cli.View, x *pb.PlannedVM) string { return x.Name }},
		{Title: "PRIORITY", Cell: func(_ *cli.View, x *pb.PlannedVM) string { return x.Priority }},
		{Title: "FROM", Cell: func(_ *cli.View, x *pb.PlannedVM) string { return x.From }},
		{Title: "TO", Cell: func(_ *cli.View, x *pb.PlannedVM) string { return x.To }},
		{Title: "HOW", Cell: func(_ *cli.View, x *pb.PlannedVM) string { return x.How }},
		{Title: "ORDERED", Cell: func(_ *cli.View, x *pb.PlannedVM) string { return moment(x, x.AtMs) }},
		{Title: "RUNS", Cell: func(_ *cli.View, x *pb.PlannedVM) string {
			if x.DoneMs == 0 {
				return ""
			}
			return moment(x, x.DoneMs)
		}},
		{Title: "WHY", Cell: func(_ *cli.View, x *pb.PlannedVM) string { return x.Why }},
	}, rows, "")
	switch {
	case len(rows) == 0:
		v.Line("The %s would touch no VM that is protected and runs.", what)
	case len(r.Stays) == 0:
		v.Line("The %s: a host for %s, the last of which runs there after %s.", what, cli.Count(len(r.Steps), "VM"), cli.Millis(r.TookMs))
	default:
		v.Line("The %s: a host for %d of %s within %s; %s %s.", what, len(r.Steps), cli.Count(len(rows), "VM"), cli.Millis(r.TookMs), cli.Count(len(r.Stays), "VM"), stay)
	}
	if r.Unprotected > 0 {
		v.Line("! %s there without protection %s", cli.Count(r.Unprotected, "VM"), unprotected)
	}
	for _, n := range r.Notes {
		v.Line("! %s", n)
	}
	if v.Wide {
		v.Line("Assumed: a start takes %s, a stop %s, a live migration %s; a death is proven in the time that the policy gives at most.",
			cli.Millis(r.StartMs), cli.Millis(r.StopMs), cli.Millis(r.MoveMs))
	}
}

// moment is when something happens, of a VM that gets a host.
func moment(x *pb.PlannedVM, ms int64) string {
	if x.Order == 0 {
		return ""
	}
	return cli.Millis(ms)
}

func drawEach(v *cli.View, r *pb.PlanResponse) {
	cli.DrawTable(v, []cli.Column[*pb.HostLoss]{
		{Title: "HOST", Cell: func(_ *cli.View, x *pb.HostLoss) string { return x.Host }},
		{Title: "STARTED", Cell: func(_ *cli.View, x *pb.HostLoss) string { return fmt.Sprint(x.Starts) }},
		{Title: "WITHIN", Cell: func(_ *cli.View, x *pb.HostLoss) string {
			if x.Starts == 0 {
				return ""
			}
			return cli.Millis(x.TookMs)
		}},
		{Title: "DOWN", Cell: func(_ *cli.View, x *pb.HostLoss) string { return fmt.Sprint(len(x.Down)) }},
		{Title: "WHICH, AND WHY", Cell: func(_ *cli.View, x *pb.HostLoss) string { return whyDown(x.Down) }},
	}, r.Each, "There are no hosts.")
	v.Line("N+1: %s.", r.NPlusOne)
}

// whyDown says each reason once, with the VMs that it holds for.
func whyDown(down []*pb.PlannedVM) string {
	var order []string
	of := map[string][]string{}
	for _, x := range down {
		if of[x.Why] == nil {
			order = append(order, x.Why)
		}
		of[x.Why] = append(of[x.Why], x.Name)
	}
	text := ""
	for i, why := range order {
		if i > 0 {
			text += "; "
		}
		text += cli.Joined(of[why]) + ": " + why
	}
	return text
}
