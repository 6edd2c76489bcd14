package main

import (
	"context"
	"fmt"
	"os"

	"lifeboat/internal/cli"
	"lifeboat/sim"
	"lifeboat/sim/scenario"
)

// SimCmd is 'lifeboat sim'.
type SimCmd struct {
	Run  SimRunCmd  `cmd:"" help:"Run scenario files and compare the outcome with what they expect."`
	Fuzz SimFuzzCmd `cmd:"" help:"Run random worlds full of faults and check what must always hold."`
}

// SimRunCmd is 'lifeboat sim run'.
type SimRunCmd struct {
	Seed  uint64   `default:"1" help:"Fixes timing and jitter; the same seed gives the same run."`
	Story bool     `help:"Tell everything that happened, also when all came out as expected."`
	Files []string `arg:"" name:"file" help:"Scenario files."`
}

// Run runs every file, and fails when one did not come out as expected.
func (c *SimRunCmd) Run(ctx context.Context, env *cli.Env, g *cli.Globals) error {
	var files []*scenario.File
	for _, path := range c.Files {
		data, err := os.ReadFile(path)
		if err != nil {
			return cli.Usage("", "%v", err)
		}
		f, err := scenario.Parse(path, data)
		if err != nil {
			return cli.Usage("", "%v", err)
		}
		files = append(files, f)
	}
	machine := g.Output == cli.JSON || g.Output == cli.YAML
	var results []*sim.Result
	failed := 0
	for _, f := range files {
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		r, err := sim.Run(ctx, f, c.Seed)
		if err != nil {
			return err
		}
		results = append(results, r)
		if !r.Passed {
			failed++
		}
		if c.Story && !machine {
			for _, l := range r.Story {
				fmt.Fprintln(env.Stdout, l)
			}
		}
		if !machine {
			if err := r.Write(env.Stdout); err != nil {
				return err
			}
		}
	}
	if machine {
		if err := cli.PrintValue(env, g, results, ""); err != nil {
			return err
		}
	}
	if failed > 0 {
		return &cli.Error{Exit: cli.ExitFailed, Text: fmt.Sprintf("%d of %d scenarios did not come out as expected", failed, len(files))}
	}
	return nil
}
