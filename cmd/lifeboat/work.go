package main

import (
	"context"
	"fmt"
	"strconv"

	pb "lifeboat/api/lifeboat/v1"
	"lifeboat/api/lifeboat/v1/lifeboatv1connect"
	"lifeboat/internal/cli"
)

// WorkCmd is 'lifeboat work'.
type WorkCmd struct {
	List   WorkListCmd   `cmd:"" help:"List the open work, or all of it."`
	Show   WorkShowCmd   `cmd:"" help:"Show everything about a work item."`
	Cancel WorkCancelCmd `cmd:"" help:"End a work item undone. Refused once its VM may have been started."`
	Retry  WorkRetryCmd  `cmd:"" help:"Try a failed or waiting work item now."`
}

// WorkListCmd is 'lifeboat work list'.
type WorkListCmd struct {
	cli.ReadFlags
	All bool   `short:"a" help:"Also work that has ended."`
	VM  string `name:"vm" placeholder:"VM" help:"Only work for this VM (name or UUID)."`
}

// Run lists the work.
func (c *WorkListCmd) Run(ctx context.Context, env *cli.Env, g *cli.Globals) error {
	return cli.Show(ctx, env, g, c.ReadFlags, func(ctx context.Context, client *cli.Client) (*pb.ListWorkResponse, error) {
		r, err := cli.Read(ctx, client, lifeboatv1connect.AdminServiceClient.ListWork, &pb.ListWorkRequest{Stale: c.Stale, All: c.All, Vm: c.VM})
		return r, withNames(err, seeVMs)
	}, func(v *cli.View, r *pb.ListWorkResponse) {
		cli.DrawTable(v, workColumns(c.All), r.Work, c.nothing())
	})
}

func (c *WorkListCmd) nothing() string {
	switch {
	case c.All && c.VM != "":
		return fmt.Sprintf("No work for VM %s yet: it has not failed so far.", c.VM)
	case c.All:
		return "No work yet: nothing has failed so far."
	case c.VM != "":
		return fmt.Sprintf("No open work for VM %s.", c.VM)
	}
	return "No open work: nothing is being repaired. 'lifeboat work list --all' shows what was done."
}

func workColumns(all bool) []cli.Column[*pb.WorkView] {
	return []cli.Column[*pb.WorkView]{
		{Title: "ID", Cell: func(_ *cli.View, w *pb.WorkView) string { return fmt.Sprint(w.Id) }},
		{Title: "VM", Cell: func(_ *cli.View, w *pb.WorkView) string { return w.VmName }},
		{Title: "UUID", Wide: true, Cell: func(_ *cli.View, w *pb.WorkView) string { return w.Vm }},
		{Title: "TYPE", Cell: func(_ *cli.View, w *pb.WorkView) string { return w.Type }},
		{Title: "STEP", Cell: func(_ *cli.View, w *pb.WorkView) string { return w.Step }},
		{Title: "ATTEMPT", Cell: func(_ *cli.View, w *pb.WorkView) string { return fmt.Sprint(w.Attempt) }},
		{Title: "FROM", Cell: func(_ *cli.View, w *pb.WorkView) string { return w.From }},
		{Title: "TARGET", Cell: func(_ *cli.View, w *pb.WorkView) string { return w.Target }},
		{Title: "INCARNATION", Wide: true, Cell: func(_ *cli.View, w *pb.WorkView) string { return w.Incarnation }},
		{Title: "CREATED", Cell: func(v *cli.View, w *pb.WorkView) string { return v.Time(w.CreatedUnixNs) }},
		{Title: "CHANGED", Wide: true, Cell: func(v *cli.View, w *pb.WorkView) string { return v.Time(w.UpdatedUnixNs) }},
		{Title: "NOT BEFORE", Cell: func(v *cli.View, w *pb.WorkView) string { return v.Time(w.NotBeforeUnixNs) }},
		{Title: "ENDED", Wide: !all, Cell: func(v *cli.View, w *pb.WorkView) string { return v.Time(w.EndedUnixNs) }},
		{Title: "DOWNTIME", Wide: !all, Cell: func(_ *cli.View, w *pb.WorkView) string { return downtime(w) }},
		{Title: "OUTCOME", Wide: !all, Cell: func(_ *cli.View, w *pb.WorkView) string { return w.Outcome }},
		{Title: "REASON", Cell: func(_ *cli.View, w *pb.WorkView) string { return w.Reason }},
	}
}

// downtime is from the loss of the VM to the end of its work.
func downtime(w *pb.WorkView) string {
	if w.LostUnixNs == 0 || w.EndedUnixNs < w.LostUnixNs {
		return ""
	}
	return cli.Millis((w.EndedUnixNs - w.LostUnixNs) / 1e6)
}

// WorkShowCmd is 'lifeboat work show'.
type WorkShowCmd struct {
	cli.ReadFlags
	ID ID `arg:"" name:"id" help:"Number of the work item."`
}

// Run shows one work item.
func (c *WorkShowCmd) Run(ctx context.Context, env *cli.Env, g *cli.Globals) error {
	return cli.Show(ctx, env, g, c.ReadFlags, func(ctx context.Context, client *cli.Client) (*pb.WorkView, error) {
		r, err := cli.Read(ctx, client, lifeboatv1connect.AdminServiceClient.ListWork, &pb.ListWorkRequest{Stale: c.Stale, All: true, Id: uint64(c.ID)})
		if err != nil {
			return nil, withNames(err, seeWork)
		}
		for _, w := range r.Work {
			if w.Id == uint64(c.ID) {
				return w, nil
			}
		}
		return nil, notFound("work item", c.ID.String(), seeWork)
	}, drawWork)
}

func drawWork(v *cli.View, w *pb.WorkView) {
	v.Fields(
		[2]string{"Work", fmt.Sprint(w.Id)},
		[2]string{"VM", fmt.Sprintf("%s (%s)", w.VmName, w.Vm)},
		[2]string{"Type", w.Type},
		[2]string{"Step", w.Step},
		[2]string{"Outcome", w.Outcome},
		[2]string{"Reason", w.Reason},
		[2]string{"Attempt", fmt.Sprint(w.Attempt)},
		[2]string{"From", w.From},
		[2]string{"Target", withReason(w.Target, w.WhyTarget)},
		[2]string{"Incarnation", w.Incarnation},
		[2]string{"VM lost", v.Time(w.LostUnixNs)},
		[2]string{"Created", v.Time(w.CreatedUnixNs)},
		[2]string{"Changed", fmt.Sprintf("%s, log index %d", v.Time(w.UpdatedUnixNs), w.Index)},
		[2]string{"Not before", v.Time(w.NotBeforeUnixNs)},
		[2]string{"Ended", v.Time(w.EndedUnixNs)},
		[2]string{"Downtime", downtime(w)},
	)
}

// WorkCancelCmd is 'lifeboat work cancel'.
type WorkCancelCmd struct {
	ID ID `arg:"" name:"id" help:"Number of the work item."`
}

// Run cancels a work item.
func (c *WorkCancelCmd) Run(ctx context.Context, env *cli.Env, g *cli.Globals) error {
	return controlWork(ctx, env, g, c.ID, "cancel", fmt.Sprintf("work item %s is cancelled", c.ID))
}

// WorkRetryCmd is 'lifeboat work retry'.
type WorkRetryCmd struct {
	ID ID `arg:"" name:"id" help:"Number of the work item."`
}

// Run retries a work item.
func (c *WorkRetryCmd) Run(ctx context.Context, env *cli.Env, g *cli.Globals) error {
	return controlWork(ctx, env, g, c.ID, "retry", fmt.Sprintf("work item %s is tried again", c.ID))
}

func controlWork(ctx context.Context, env *cli.Env, g *cli.Globals, id ID, action, done string) error {
	return change(ctx, env, g, lifeboatv1connect.AdminServiceClient.ControlWork, &pb.ControlWorkRequest{Id: uint64(id), Action: action}, done, seeWork)
}

// ID is the number of a work item or alert, also as it is often shown: "#12".
type ID uint64

func (id ID) String() string { return strconv.FormatUint(uint64(id), 10) }

// UnmarshalText reads a number as people copy it.
func (id *ID) UnmarshalText(text []byte) error {
	s := string(text)
	if len(s) > 1 && s[0] == '#' {
		s = s[1:]
	}
	n, err := strconv.ParseUint(s, 10, 64)
	if err != nil || n == 0 {
		return fmt.Errorf("%q is not the number of an item, as lists show it under ID", text)
	}
	*id = ID(n)
	return nil
}
