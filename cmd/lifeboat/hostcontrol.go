package main

import (
	"context"
	"fmt"
	"io"

	"connectrpc.com/connect"

	pb "lifeboat/api/lifeboat/v1"
	"lifeboat/api/lifeboat/v1/lifeboatv1connect"
	"lifeboat/internal/cli"
)

func controlHost(ctx context.Context, env *cli.Env, g *cli.Globals, host, action string, force bool, done string) error {
	return change(ctx, env, g, lifeboatv1connect.AdminServiceClient.ControlHost,
		&pb.ControlHostRequest{Host: host, Action: action, Force: force}, done, seeHosts)
}

// HostEnableCmd is 'lifeboat host enable'.
type HostEnableCmd struct {
	Host string `arg:"" help:"Name of the host."`
}

// Run enables a host.
func (c *HostEnableCmd) Run(ctx context.Context, env *cli.Env, g *cli.Globals) error {
	return controlHost(ctx, env, g, c.Host, "enable", false, fmt.Sprintf("host %s is enabled", c.Host))
}

// HostDisableCmd is 'lifeboat host disable'.
type HostDisableCmd struct {
	Host string `arg:"" help:"Name of the host."`
}

// Run disables a host.
func (c *HostDisableCmd) Run(ctx context.Context, env *cli.Env, g *cli.Globals) error {
	return controlHost(ctx, env, g, c.Host, "disable", false, fmt.Sprintf("host %s is disabled", c.Host))
}

// HostAdmitCmd is 'lifeboat host admit'.
type HostAdmitCmd struct {
	Host string `arg:"" help:"Name of the host."`
}

// Run lets a removed host come back.
func (c *HostAdmitCmd) Run(ctx context.Context, env *cli.Env, g *cli.Globals) error {
	return controlHost(ctx, env, g, c.Host, "admit", false, fmt.Sprintf("host %s may register again", c.Host))
}

// HostMaintenanceCmd is 'lifeboat host maintenance'.
type HostMaintenanceCmd struct {
	On  HostMaintenanceOnCmd  `cmd:"" help:"Move the protected VMs away, then let the host be worked on."`
	Off HostMaintenanceOffCmd `cmd:"" help:"Put the host back to work."`
}

// HostMaintenanceOnCmd is 'lifeboat host maintenance on'.
type HostMaintenanceOnCmd struct {
	Host  string `arg:"" help:"Name of the host."`
	Force bool   `help:"Stop what cannot be migrated live, and start it elsewhere."`
	Wait  bool   `help:"Come back when the host is empty, and show how far it is meanwhile."`
}

// Run begins maintenance.
func (c *HostMaintenanceOnCmd) Run(ctx context.Context, env *cli.Env, g *cli.Globals) error {
	said := controlHost(ctx, env, g, c.Host, "maintenance-on", c.Force, fmt.Sprintf("host %s prepares for maintenance; follow it with 'lifeboat host show %s --watch'", c.Host, c.Host))
	if said != nil || !c.Wait {
		return said
	}
	return awaitEmpty(ctx, env, g, c.Host)
}

// HostMaintenanceOffCmd is 'lifeboat host maintenance off'.
type HostMaintenanceOffCmd struct {
	Host string `arg:"" help:"Name of the host."`
}

// Run ends maintenance.
func (c *HostMaintenanceOffCmd) Run(ctx context.Context, env *cli.Env, g *cli.Globals) error {
	return controlHost(ctx, env, g, c.Host, "maintenance-off", false, fmt.Sprintf("maintenance of host %s is over", c.Host))
}

// HostRemoveCmd is 'lifeboat host remove'.
type HostRemoveCmd struct {
	Host  string `arg:"" help:"Name of the host."`
	Force bool   `help:"Also when the cluster would rather not; it says so first."`
}

// Run forgets a host.
func (c *HostRemoveCmd) Run(ctx context.Context, env *cli.Env, g *cli.Globals) error {
	return controlHost(ctx, env, g, c.Host, "remove", c.Force, fmt.Sprintf("host %s is removed", c.Host))
}

// HostConfirmDeadCmd is 'lifeboat host confirm-dead'.
type HostConfirmDeadCmd struct {
	Host  string `arg:"" help:"Name of the host."`
	Yes   bool   `help:"Do not ask. For scripts that have looked themselves."`
	Force bool   `help:"Also while something is still heard from the host."`
}

// Run names the VMs at risk, asks, and vouches for the death of a host (S24).
func (c *HostConfirmDeadCmd) Run(ctx context.Context, env *cli.Env, g *cli.Globals) error {
	client, err := cli.Open(env, g)
	if err != nil {
		return err
	}
	defer client.Close()
	host, err := findHost(ctx, client, c.Host, false)
	if err != nil {
		return err
	}
	vms, err := cli.Read(ctx, client, lifeboatv1connect.AdminServiceClient.ListVMs, &pb.ListVMsRequest{Host: c.Host})
	if err != nil {
		return err
	}
	if err := drawRisk(env, host, vms.Vms); err != nil {
		return err
	}
	if !c.Yes {
		answer, err := cli.AskLine(ctx, env, fmt.Sprintf("If its power is off for certain, type the name of the host (%s): ", c.Host))
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		if err != nil || answer != c.Host {
			return &cli.Error{Exit: cli.ExitFailed, Text: fmt.Sprintf("host %s was not confirmed dead: the answer was not its name; nothing was changed", c.Host),
				Do: "answer with the name of the host, or use --yes in scripts"}
		}
	}
	err = changeWith(ctx, env, g, client, cli.Write, lifeboatv1connect.AdminServiceClient.ControlHost,
		&pb.ControlHostRequest{Host: c.Host, Action: "confirm-dead", Force: c.Force},
		fmt.Sprintf("host %s is confirmed dead; its protected VMs restart elsewhere ('lifeboat work list --watch')", c.Host), seeHosts)
	return cli.WithHint(err, "'lifeboat host show "+c.Host+"' shows what is heard from it", connect.CodeFailedPrecondition)
}

// drawRisk goes to stderr: stdout is for the answer of the cluster.
func drawRisk(env *cli.Env, host *pb.HostView, vms []*pb.VMView) error {
	var atRisk, stay []*pb.VMView
	for _, vm := range vms {
		if vm.Protected && vm.Wanted {
			atRisk = append(atRisk, vm)
		} else {
			stay = append(stay, vm)
		}
	}
	v := &cli.View{Now: env.Now()}
	v.Line("Host %s is %s, last heard: %s.", host.Id, withReason(host.Status, host.Reason), lastHeard(host))
	if len(atRisk) == 0 {
		v.Line("No protected VM that should run is on it.")
	} else {
		v.Line("%s will start on other hosts. If %s still lives, each runs twice and its disks are destroyed:", cli.Count(len(atRisk), "protected VM"), host.Id)
		cli.DrawTable(v, riskColumns(), atRisk, "")
	}
	if len(stay) > 0 {
		v.Line("Not restarted: %s, not protected or wanted off.", cli.Count(len(stay), "other VM"))
	}
	_, err := io.Copy(env.Stderr, v)
	return err
}

func riskColumns() []cli.Column[*pb.VMView] {
	return []cli.Column[*pb.VMView]{
		{Title: "  VM", Cell: func(_ *cli.View, vm *pb.VMView) string { return "  " + vm.Name }},
		{Title: "POWER", Cell: func(_ *cli.View, vm *pb.VMView) string { return vm.Power }},
		{Title: "INCARNATION", Cell: func(_ *cli.View, vm *pb.VMView) string { return vm.Incarnation }},
		{Title: "STAYS, BECAUSE", Cell: func(_ *cli.View, vm *pb.VMView) string { return cli.Joined(vm.Local) }},
	}
}
