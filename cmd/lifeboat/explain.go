package main

import (
	"context"

	pb "lifeboat/api/lifeboat/v1"
	"lifeboat/api/lifeboat/v1/lifeboatv1connect"
	"lifeboat/internal/cli"
)

// ExplainCmd is 'lifeboat explain'.
type ExplainCmd struct {
	cli.ReadFlags
	Kind string `arg:"" enum:"vm,host,work" help:"What to explain: ${enum}."`
	Name string `arg:"" help:"Name (or UUID of a VM, or number of a work item)."`
}

// Run tells the story of one thing, line by line as the cluster tells it.
func (c *ExplainCmd) Run(ctx context.Context, env *cli.Env, g *cli.Globals) error {
	hint := map[string]string{"vm": seeVMs, "host": seeHosts, "work": seeWork}[c.Kind]
	return cli.Show(ctx, env, g, c.ReadFlags, func(ctx context.Context, client *cli.Client) (*pb.ExplainResponse, error) {
		r, err := cli.Read(ctx, client, lifeboatv1connect.AdminServiceClient.Explain,
			&pb.ExplainRequest{Stale: c.Stale, Kind: c.Kind, Name: c.Name})
		return r, withNames(err, hint)
	}, func(v *cli.View, r *pb.ExplainResponse) {
		if len(r.Lines) == 0 {
			v.Note("Nothing has happened to it that the cluster remembers.")
		}
		for _, line := range r.Lines {
			v.Line("%s", line)
		}
	})
}
