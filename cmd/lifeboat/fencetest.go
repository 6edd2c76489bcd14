package main

import (
	"context"
	"fmt"

	pb "lifeboat/api/lifeboat/v1"
	"lifeboat/api/lifeboat/v1/lifeboatv1connect"
	"lifeboat/internal/cli"
)

// FenceCmd is 'lifeboat fence'.
type FenceCmd struct {
	Test FenceTestCmd `cmd:"" help:"Try the fence levels of a host without any order to it."`
}

// FenceTestCmd is 'lifeboat fence test', and 'lifeboat host fence test'.
type FenceTestCmd struct {
	Host string `arg:"" help:"Name of the host."`
}

// Help is the long part of --help.
func (c *FenceTestCmd) Help() string {
	return `Each power controller is asked twice which machine it controls and whether its power is on, by whoever executes the level. Nothing is switched. What is found is kept, and shown by 'lifeboat host show'. The exit code is 1 when no level is proven to work.`
}

// Run tries the levels.
func (c *FenceTestCmd) Run(ctx context.Context, env *cli.Env, g *cli.Globals) error {
	client, err := cli.Open(env, g)
	if err != nil {
		return err
	}
	defer client.Close()
	r, err := cli.Read(ctx, client, lifeboatv1connect.AdminServiceClient.TestFence, &pb.TestFenceRequest{Host: c.Host})
	if err != nil {
		return withNames(err, seeHosts)
	}
	if err := cli.Print(env, g, r, drawFenceTest); err != nil {
		return err
	}
	for _, l := range r.Levels {
		if l.Proven {
			return nil
		}
	}
	return &cli.Error{Exit: cli.ExitFailed, Text: fmt.Sprintf("no fence level of host %s is proven to work", r.Host),
		Do: "until one is, its VMs may have to wait for an operator if it dies"}
}

func drawFenceTest(v *cli.View, r *pb.TestFenceResponse) {
	for _, l := range r.Levels {
		name := l.Driver
		if l.Address != "" {
			name += " at " + l.Address
		}
		if l.By != "" {
			name += ", by " + l.By
		}
		verdict := "not proven"
		if l.Proven {
			verdict = "proven"
		}
		line := fmt.Sprintf("Level %d (%s): %s: %s", l.Level, name, verdict, l.Text)
		if l.Action != "" {
			line += "; " + l.Action
		}
		v.Line("%s", line)
	}
}
