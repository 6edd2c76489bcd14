package main

import (
	"context"
	"fmt"
	"strings"
	"time"

	pb "lifeboat/api/lifeboat/v1"
	"lifeboat/api/lifeboat/v1/lifeboatv1connect"
	"lifeboat/internal/cli"
)

const seeIncidents = "'lifeboat incident list' shows the incidents"

// IncidentCmd is 'lifeboat incident'.
type IncidentCmd struct {
	List IncidentListCmd `cmd:"" help:"List failures of hosts and losses of VMs, with how long VMs were down."`
	Show IncidentShowCmd `cmd:"" help:"Tell the story of one failure: timeline, evidence, downtime of each VM, slowest step."`
}

// IncidentListCmd is 'lifeboat incident list'.
type IncidentListCmd struct {
	cli.ReadFlags
	Limit uint32 `short:"n" default:"50" placeholder:"N" help:"How many, the newest (1000 at most)."`
}

// Run lists the incidents.
func (c *IncidentListCmd) Run(ctx context.Context, env *cli.Env, g *cli.Globals) error {
	return cli.Show(ctx, env, g, c.ReadFlags, func(ctx context.Context, client *cli.Client) (*pb.ListIncidentsResponse, error) {
		return cli.Read(ctx, client, lifeboatv1connect.AdminServiceClient.ListIncidents, &pb.ListIncidentsRequest{Stale: c.Stale, Limit: c.Limit})
	}, func(v *cli.View, r *pb.ListIncidentsResponse) {
		cli.DrawTable(v, incidentColumns(), r.Incidents, "No incidents: no host and no VM has failed, as far as the cluster remembers.")
	})
}

func incidentColumns() []cli.Column[*pb.IncidentView] {
	return []cli.Column[*pb.IncidentView]{
		{Title: "ID", Cell: func(_ *cli.View, i *pb.IncidentView) string { return fmt.Sprint(i.Id) }},
		{Title: "BEGUN", Cell: func(v *cli.View, i *pb.IncidentView) string { return v.Time(i.BegunUnixNs) }},
		{Title: "SUBJECT", Cell: func(_ *cli.View, i *pb.IncidentView) string { return i.Subject }},
		{Title: "WHAT", Cell: func(_ *cli.View, i *pb.IncidentView) string { return i.What }},
		{Title: "VMS", Cell: func(_ *cli.View, i *pb.IncidentView) string { return fmt.Sprint(len(i.Vms)) }},
		{Title: "STILL DOWN", Cell: func(_ *cli.View, i *pb.IncidentView) string { return fmt.Sprint(i.Down) }},
		{Title: "LONGEST DOWNTIME", Cell: func(_ *cli.View, i *pb.IncidentView) string { return some(i.LongestDowntimeMs) }},
		{Title: "SLOWEST STEP", Cell: func(_ *cli.View, i *pb.IncidentView) string { return stepText(i.Slowest) }},
		{Title: "ENDED", Cell: func(v *cli.View, i *pb.IncidentView) string {
			if i.EndedUnixNs == 0 {
				return "goes on"
			}
			return v.Time(i.EndedUnixNs)
		}},
		{Title: "LOG INDEX", Wide: true, Cell: func(_ *cli.View, i *pb.IncidentView) string { return fmt.Sprint(i.Index) }},
	}
}

// some is a length of time, "" for none.
func some(ms int64) string {
	if ms <= 0 {
		return ""
	}
	return cli.Millis(ms)
}

// stepText is "proof of death 12s", with the VM whose it was.
func stepText(t *pb.IncidentStep) string {
	if t == nil {
		return ""
	}
	text := t.Step + " " + cli.Millis(t.TookMs)
	if t.Vm != "" {
		text += " (" + t.Vm + ")"
	}
	if t.Open {
		text += " so far"
	}
	return text
}

// IncidentShowCmd is 'lifeboat incident show'.
type IncidentShowCmd struct {
	cli.ReadFlags
	ID ID `arg:"" name:"id" help:"Number of the incident: that of the event that began it."`
}

// Run tells one incident.
func (c *IncidentShowCmd) Run(ctx context.Context, env *cli.Env, g *cli.Globals) error {
	return cli.Show(ctx, env, g, c.ReadFlags, func(ctx context.Context, client *cli.Client) (*pb.IncidentView, error) {
		r, err := cli.Read(ctx, client, lifeboatv1connect.AdminServiceClient.ListIncidents, &pb.ListIncidentsRequest{Stale: c.Stale, Id: uint64(c.ID)})
		if err != nil {
			return nil, err // it says what to do
		}
		if len(r.Incidents) != 1 {
			return nil, notFound("incident", c.ID.String(), seeIncidents)
		}
		return r.Incidents[0], nil
	}, drawIncident)
}

func drawIncident(v *cli.View, i *pb.IncidentView) {
	ended := "it goes on"
	if i.EndedUnixNs != 0 {
		ended = fmt.Sprintf("%s, after %s", v.Time(i.EndedUnixNs), cli.Millis((i.EndedUnixNs-i.BegunUnixNs)/1e6))
	}
	v.Fields(
		[2]string{"Incident", fmt.Sprintf("%d, log index %d", i.Id, i.Index)},
		[2]string{"Subject", i.Subject},
		[2]string{"What", i.What},
		[2]string{"Begun", v.Time(i.BegunUnixNs)},
		[2]string{"Noticed", fmt.Sprintf("%s, %s later", v.Time(i.NoticedUnixNs), cli.Millis((i.NoticedUnixNs-i.BegunUnixNs)/1e6))},
		[2]string{"Ended", ended},
		[2]string{"Proof", i.Proof},
		[2]string{"Slowest step", stepText(i.Slowest)},
		[2]string{"Steps", stepsText(i.Steps)},
		[2]string{"VMs", fmt.Sprintf("%d, %d of them down still", len(i.Vms), i.Down)},
	)
	if len(i.Vms) > 0 {
		v.Line("")
		cli.DrawTable(v, incidentVMColumns(), i.Vms, "")
		for _, x := range i.Vms {
			for _, why := range x.Waits {
				v.Line("! %s: %s", x.Name, why)
			}
		}
	}
	if len(i.Evidence) > 0 {
		v.Line("")
		v.Line("Evidence:")
		for _, e := range i.Evidence {
			v.Line("  %s", e.Text)
		}
	}
	v.Line("")
	for _, e := range i.Timeline {
		at := time.Duration(e.TimeUnixNs - i.BegunUnixNs)
		v.Line("%+9.3fs  %-20s %s  (log index %d)", at.Seconds(), e.Type, e.Text, e.Index)
	}
	for _, a := range i.Alerts {
		v.Line("Alert %d (%s, %s): %s", a.Id, a.Severity, a.State, a.Text)
	}
}

func stepsText(steps []*pb.IncidentStep) string {
	var out []string
	for _, t := range steps {
		out = append(out, stepText(t))
	}
	return strings.Join(out, "; ")
}

func incidentVMColumns() []cli.Column[*pb.IncidentVM] {
	return []cli.Column[*pb.IncidentVM]{
		{Title: "VM", Cell: func(_ *cli.View, x *pb.IncidentVM) string { return x.Name }},
		{Title: "UUID", Wide: true, Cell: func(_ *cli.View, x *pb.IncidentVM) string { return x.Id }},
		{Title: "FROM", Cell: func(_ *cli.View, x *pb.IncidentVM) string { return x.From }},
		{Title: "TO", Cell: func(_ *cli.View, x *pb.IncidentVM) string { return x.Target }},
		{Title: "CAUSE", Cell: func(_ *cli.View, x *pb.IncidentVM) string { return x.Cause }},
		{Title: "STARTS", Cell: func(_ *cli.View, x *pb.IncidentVM) string { return fmt.Sprint(x.Starts) }},
		{Title: "DOWNTIME", Cell: func(_ *cli.View, x *pb.IncidentVM) string {
			if x.Down {
				return cli.Millis(x.DowntimeMs) + " so far"
			}
			return some(x.DowntimeMs)
		}},
		{Title: "WAITED FOR", Cell: func(_ *cli.View, x *pb.IncidentVM) string {
			var out []string
			for _, p := range x.Spans {
				out = append(out, p.Step+" "+cli.Millis((p.ToUnixNs-p.FromUnixNs)/1e6))
			}
			return strings.Join(out, ", ")
		}},
		{Title: "WORK", Cell: func(_ *cli.View, x *pb.IncidentVM) string { return fmt.Sprint(x.WorkId) }},
		{Title: "OUTCOME", Cell: func(_ *cli.View, x *pb.IncidentVM) string {
			if x.Outcome == "" {
				return x.Step
			}
			return x.Outcome
		}},
	}
}
