package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"lifeboat/internal/cli"
	"lifeboat/internal/dev"
)

// DevCmd is 'lifeboat dev'.
type DevCmd struct {
	Run       DevRunCmd       `cmd:"" default:"withargs" help:"Run the cluster (the default)."`
	List      DevListCmd      `cmd:"" help:"Show what really runs where."`
	Kill      DevKillCmd      `cmd:"" help:"Cut the power of a machine, or kill a management node."`
	Panic     DevPanicCmd     `cmd:"" help:"Let a machine die with its power on."`
	Start     DevStartCmd     `cmd:"" help:"Switch a machine on again, or start what was stopped on it."`
	StopAgent DevStopAgentCmd `cmd:"" help:"Stop the agent of a host cleanly."`
	Crash     DevCrashCmd     `cmd:"" help:"Let a VM crash."`
	Shutdown  DevShutdownCmd  `cmd:"" help:"Shut a VM down from inside."`
}

// DevRunCmd is 'lifeboat dev run', or just 'lifeboat dev'.
type DevRunCmd struct {
	Drill  bool   `help:"Kill a host, then the machine of the leader, and check that every VM comes back exactly once."`
	Fence  string `enum:"bmc,lease" default:"bmc" help:"What proves that a host is dead: its power controller, or its self-fence lease."`
	Result string `placeholder:"FILE" help:"Write the figures of the drill to a file, as JSON."`
	Dir    string `placeholder:"DIR" help:"Where configurations, logs and data go: a new or empty directory, or one of an earlier run, which is emptied. Left out, one beside the context file."`
	Keep   bool   `help:"Leave the directory behind. After a failure it always stays."`
}

// Run is the cluster until a signal ends it, or until the drill is over.
func (c *DevRunCmd) Run(ctx context.Context, env *cli.Env) (err error) {
	program, err := os.Executable()
	if err != nil {
		return fmt.Errorf("find this program: %w", err)
	}
	contextFile := cli.DevContextPath(env)
	o := dev.Options{Program: program, Dir: c.Dir, Runtime: filepath.Dir(contextFile), Keep: c.Keep, Lease: c.Fence == "lease"}
	if o.Dir == "" {
		o.Dir = filepath.Join(o.Runtime, "cluster")
	}
	room, err := dev.Open(o)
	if err != nil {
		return fmt.Errorf("start the development cluster: %w", err)
	}
	defer func() {
		if failed := err != nil && ctx.Err() == nil; failed {
			room.Keep()
			err = &cli.Error{Exit: cli.ExitFailed, Text: err.Error(), Do: "the logs are in " + filepath.Join(room.Dir(), "log"), Err: err}
		}
		err = errors.Join(err, room.Close())
	}()
	access := room.Access()
	if err := cli.WriteContext(contextFile, cli.Context{Addrs: access.Addrs, Cert: access.Cert, Key: access.Key, CA: access.CA}); err != nil {
		return err
	}
	defer os.Remove(contextFile)

	running, end := context.WithCancelCause(ctx)
	defer end(nil)
	go func() {
		if err := room.Serve(running); err != nil {
			end(err)
		}
	}()
	_, plain := env.LookupEnv("NO_COLOR")
	to := dev.Teller{Out: env.Stdout, Color: env.Terminal && !plain}
	if c.Drill {
		figures, err := dev.Drill(running, room, to)
		if err != nil || c.Result == "" {
			return err
		}
		return writeFigures(c.Result, figures)
	}
	err = dev.Play(running, room, to)
	var signal *cli.Interrupted
	if errors.As(err, &signal) {
		return nil // how it is meant to end
	}
	return err
}

func writeFigures(path string, figures []dev.Figure) error {
	raw, err := json.MarshalIndent(figures, "", "  ")
	if err != nil {
		return fmt.Errorf("encode figures: %w", err)
	}
	if err := os.WriteFile(path, append(raw, '\n'), 0o600); err != nil {
		return fmt.Errorf("write figures: %w", err)
	}
	return nil
}

// send asks the running cluster and prints its answer.
func send(ctx context.Context, env *cli.Env, verb, name string) error {
	text, err := dev.Send(ctx, filepath.Dir(cli.DevContextPath(env)), dev.Request{Verb: verb, Name: name})
	if errors.Is(err, dev.ErrNotRunning) {
		return &cli.Error{Exit: cli.ExitUnreachable, Text: dev.ErrNotRunning.Error(), Do: "start it in another terminal with 'lifeboat dev'", Err: err}
	}
	if err != nil {
		return &cli.Error{Exit: cli.ExitRefused, Text: err.Error(), Err: err}
	}
	_, err = fmt.Fprintln(env.Stdout, text)
	return err
}

// DevListCmd is 'lifeboat dev list'.
type DevListCmd struct{}

// Run shows the machines.
func (c *DevListCmd) Run(ctx context.Context, env *cli.Env) error {
	return send(ctx, env, dev.VerbList, "")
}

// DevKillCmd is 'lifeboat dev kill'.
type DevKillCmd struct {
	Name string `arg:"" help:"h1 to h4: the machine, with everything on it. n1 to n3: only the management node. leader: the machine of the leader."`
}

// Run cuts the power.
func (c *DevKillCmd) Run(ctx context.Context, env *cli.Env) error {
	return send(ctx, env, dev.VerbKill, c.Name)
}

// DevPanicCmd is 'lifeboat dev panic'.
type DevPanicCmd struct {
	Name string `arg:"" help:"h1 to h4, or leader."`
}

// Run stops a machine's kernel.
func (c *DevPanicCmd) Run(ctx context.Context, env *cli.Env) error {
	return send(ctx, env, dev.VerbPanic, c.Name)
}

// DevStartCmd is 'lifeboat dev start'.
type DevStartCmd struct {
	Name string `arg:"" help:"h1 to h4, or n1 to n3."`
}

// Run switches a machine on.
func (c *DevStartCmd) Run(ctx context.Context, env *cli.Env) error {
	return send(ctx, env, dev.VerbStart, c.Name)
}

// DevStopAgentCmd is 'lifeboat dev stop-agent'.
type DevStopAgentCmd struct {
	Host string `arg:"" help:"h1 to h4."`
}

// Run stops an agent.
func (c *DevStopAgentCmd) Run(ctx context.Context, env *cli.Env) error {
	return send(ctx, env, dev.VerbStopAgent, c.Host)
}

// DevCrashCmd is 'lifeboat dev crash'.
type DevCrashCmd struct {
	VM string `arg:"" help:"Name or UUID of the VM."`
}

// Run crashes a VM.
func (c *DevCrashCmd) Run(ctx context.Context, env *cli.Env) error {
	return send(ctx, env, dev.VerbCrash, c.VM)
}

// DevShutdownCmd is 'lifeboat dev shutdown'.
type DevShutdownCmd struct {
	VM string `arg:"" help:"Name or UUID of the VM."`
}

// Run shuts a VM down.
func (c *DevShutdownCmd) Run(ctx context.Context, env *cli.Env) error {
	return send(ctx, env, dev.VerbShutdown, c.VM)
}
