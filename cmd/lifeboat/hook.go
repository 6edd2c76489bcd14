package main

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"lifeboat/agent"
	"lifeboat/agent/hook"
	"lifeboat/internal/cli"
)

// HookCmd is 'lifeboat hook'.
type HookCmd struct {
	Qemu    HookQemuCmd    `cmd:"" hidden:"" help:"What libvirt calls before it starts a domain."`
	Install HookInstallCmd `cmd:"" help:"Let libvirt ask this host's agent before it starts a protected VM. Restart libvirtd afterwards: it looks for hooks when it starts."`
}

// HookQemuCmd is 'lifeboat hook qemu'.
type HookQemuCmd struct {
	Config string   `required:"" short:"c" placeholder:"FILE" help:"Configuration of this host's agent."`
	Args   []string `arg:"" optional:"" passthrough:"" help:"What libvirt says: domain, operation, ..."`
}

// Run allows or refuses; the refusal is libvirt's error message.
func (c *HookQemuCmd) Run(env *cli.Env) error {
	f, err := agent.LoadConfig(c.Config)
	if err != nil {
		return err
	}
	return hook.Run(hook.Options{StateDir: f.StateDir, RunDir: f.RunDir, BootIDFile: f.BootIDFile, Now: agent.Boottime()}, c.Args, env.Stdin)
}

// HookInstallCmd is 'lifeboat hook install'.
type HookInstallCmd struct {
	Config string `required:"" short:"c" placeholder:"FILE" help:"Configuration of this host's agent."`
	Path   string `default:"/etc/libvirt/hooks/qemu.d/lifeboat" placeholder:"FILE" help:"Where libvirt looks for the hook."`
}

// Run writes the hook.
func (c *HookInstallCmd) Run(env *cli.Env, g *cli.Globals) error {
	config, err := filepath.Abs(c.Config)
	if err != nil {
		return err
	}
	if _, err := agent.LoadConfig(config); err != nil {
		return cli.Usage("", "%w", err)
	}
	self, err := os.Executable()
	if err != nil {
		return fmt.Errorf("find own program: %w", err)
	}
	changed, err := hook.Install(c.Path, self, "--config", config)
	if errors.Is(err, os.ErrPermission) {
		return &cli.Error{Exit: cli.ExitFailed, Text: err.Error(), Do: "run it as root", Err: err}
	}
	if err != nil {
		return err
	}
	text := c.Path + " is there already"
	if changed {
		text = "Wrote " + c.Path + ". Restart libvirtd: it looks for hooks when it starts."
	}
	return cli.PrintValue(env, g, struct {
		Path    string `json:"path"`
		Changed bool   `json:"changed"`
	}{c.Path, changed}, text)
}
