package main

import (
	"context"
	"errors"

	"lifeboat/agent"
	"lifeboat/hypervisor/libvirt"
	"lifeboat/internal/cli"
	"lifeboat/internal/systemd"
	"lifeboat/transport"
)

// AgentCmd is 'lifeboat agent'.
type AgentCmd struct {
	Run  AgentRunCmd  `cmd:"" default:"withargs" help:"Run the agent of a host. This is what 'lifeboat agent' alone does."`
	Join AgentJoinCmd `cmd:"" help:"Make this machine a host of a cluster, by a token."`
}

// AgentRunCmd is 'lifeboat agent run'.
type AgentRunCmd struct {
	Config string `required:"" short:"c" placeholder:"FILE" help:"YAML configuration of this host's agent; see lifeboat config default agent."`
}

// Run is a host's agent until a signal ends it. VMs are not touched by that.
func (c *AgentRunCmd) Run(ctx context.Context, env *cli.Env) error {
	f, err := agent.LoadConfig(c.Config)
	if err != nil {
		return cli.Usage("", "%w", err)
	}
	log := newLogger(env.Stderr, "lifeboat", f.Log.Level, f.Log.Format)
	creds, err := transport.LoadCredentials(f.Files(), log.Named("tls"))
	if err != nil {
		return cli.Usage("", "%w", err)
	}
	hv, err := openHypervisor(f.HostID, f.Hypervisor, libvirt.Options{Logger: log.Named("hypervisor"), SharedDirs: f.SharedDirs, MigrateURI: f.MigrateURI, MigrateUnsafe: f.MigrateUnsafe})
	if err != nil {
		return cli.Usage("correct hypervisor in "+c.Config, "%w", err)
	}
	conf, err := agent.Build(f, agent.Deps{Credentials: creds, Hypervisor: hv, Version: env.Build.Version, Logger: log, Fences: fences()})
	if err != nil {
		return errors.Join(cli.Usage("", "%w", err), hv.Close())
	}
	told, err := systemd.New(log.Named("systemd"))
	if err != nil {
		return errors.Join(cli.Usage("", "%w", err), hv.Close())
	}
	if told != nil {
		conf.Supervisor = told
	}
	return errors.Join(agent.Run(ctx, conf), hv.Close())
}

// WatchdogCmd is the process behind an external watchdog. Agents start it.
type WatchdogCmd struct {
	Socket string   `required:"" placeholder:"PATH" help:"Where agents connect."`
	Reset  []string `arg:"" optional:"" passthrough:"" help:"Command that resets the machine; left out: sysrq."`
}

// Run watches until it is idle.
func (c *WatchdogCmd) Run(ctx context.Context, env *cli.Env) error {
	if len(c.Reset) > 0 && c.Reset[0] == "--" {
		c.Reset = c.Reset[1:]
	}
	return agent.ServeWatchdog(ctx, agent.ServeOptions{Socket: c.Socket, Reset: c.Reset, Logger: newLogger(env.Stderr, "watchdog", "", "")})
}
