package main

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"time"

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
		r := sim.Run(f, c.Seed)
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

// SimFuzzCmd is 'lifeboat sim fuzz'.
type SimFuzzCmd struct {
	Hosts  int           `placeholder:"N" help:"Hosts of a world; left out, 20 to 50."`
	VMs    int           `name:"vms" placeholder:"N" help:"VMs of a world; left out, three a host."`
	Hours  float64       `default:"2" help:"Virtual hours of a world."`
	Seed   uint64        `default:"1" help:"Seed of the first world; the next one has the next seed."`
	Runs   int           `default:"1" help:"How many worlds."`
	For    time.Duration `placeholder:"TIME" help:"Begin no world after so long."`
	Shrink int           `default:"300" help:"Runs that may be spent on making a failure small; 0 leaves it as it is."`
	Out    string        `default:"." placeholder:"DIR" help:"Where the scenario of a failure goes."`
}

// Run runs worlds until one breaks a rule. That one is made small and written
// to a file, and the command that runs it is printed.
func (c *SimFuzzCmd) Run(ctx context.Context, env *cli.Env, g *cli.Globals) error {
	began := env.Now()
	z := sim.Fuzz{Hosts: c.Hosts, VMs: c.VMs, Hours: c.Hours}
	done := 0
	for i := range c.Runs {
		if c.For > 0 && env.Now().Sub(began) > c.For {
			break
		}
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		seed := c.Seed + uint64(i)
		f := z.World(seed)
		r := sim.Run(f, seed)
		done++
		if r.Passed {
			continue
		}
		if c.Shrink > 0 {
			f = sim.Shrink(f, seed, c.Shrink)
			r = sim.Run(f, seed)
		}
		f.Path = filepath.Join(c.Out, fmt.Sprintf("sim-seed-%d.yaml", seed))
		r.File = f.Path
		if err := os.WriteFile(f.Path, f.Write(), 0o644); err != nil {
			return fmt.Errorf("write the scenario of the failure: %w", err)
		}
		if err := r.Write(env.Stdout); err != nil {
			return err
		}
		return &cli.Error{Exit: cli.ExitFailed, Text: fmt.Sprintf("the world of seed %d breaks a rule", seed),
			Do: fmt.Sprintf("run it again with 'lifeboat sim run --seed %d %s'", seed, f.Path)}
	}
	return cli.PrintValue(env, g, map[string]any{"worlds": done, "first_seed": c.Seed, "hours": c.Hours},
		fmt.Sprintf("%d worlds of %g virtual hours, seeds %d to %d: no rule was broken.", done, c.Hours, c.Seed, c.Seed+uint64(max(done, 1))-1))
}
