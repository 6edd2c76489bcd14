package main

import (
	"context"
	"fmt"

	pb "lifeboat/api/lifeboat/v1"
	"lifeboat/api/lifeboat/v1/lifeboatv1connect"
	"lifeboat/internal/cli"
)

// VMProtectCmd is 'lifeboat vm protect'.
type VMProtectCmd struct {
	VM          string  `arg:"" name:"vm" help:"Name or UUID of the VM."`
	HA          string  `name:"ha" enum:"restart,always,none," default:"" placeholder:"MODE" help:"What to do when it stops: restart = after a crash or host failure, always = also after a shutdown from inside, none = nothing. Unchanged when left out."`
	Priority    string  `placeholder:"TIER" help:"Who is restarted first. Unchanged when left out."`
	MaxRestart  *uint32 `placeholder:"N" help:"Restarts in place before another host is tried."`
	MaxRelocate *uint32 `placeholder:"N" help:"Tries on other hosts before the VM is given up with an alert."`

	Failback      *bool `negatable:"" help:"Let it go back to a host that it was moved away from for maintenance, once that takes VMs again (the default)."`
	LiveMigration *bool `negatable:"" help:"Let it be migrated live (the default)."`
}

// Run protects a VM.
func (c *VMProtectCmd) Run(ctx context.Context, env *cli.Env, g *cli.Globals) error {
	return change(ctx, env, g, lifeboatv1connect.AdminServiceClient.ProtectVM, &pb.ProtectVMRequest{
		Vm: c.VM, On: true, Ha: c.HA, Priority: c.Priority, MaxRestart: c.MaxRestart, MaxRelocate: c.MaxRelocate,
		Failback: c.Failback, LiveMigration: c.LiveMigration,
	}, fmt.Sprintf("VM %s is protected", c.VM), seeVMs)
}

// VMUnprotectCmd is 'lifeboat vm unprotect'.
type VMUnprotectCmd struct {
	VM string `arg:"" name:"vm" help:"Name or UUID of the VM."`
}

// Run ends the protection of a VM.
func (c *VMUnprotectCmd) Run(ctx context.Context, env *cli.Env, g *cli.Globals) error {
	return change(ctx, env, g, lifeboatv1connect.AdminServiceClient.ProtectVM, &pb.ProtectVMRequest{Vm: c.VM},
		fmt.Sprintf("VM %s is not protected any more", c.VM), seeVMs)
}

func controlVM(ctx context.Context, env *cli.Env, g *cli.Globals, vm, action, done string) error {
	return change(ctx, env, g, lifeboatv1connect.AdminServiceClient.ControlVM, &pb.ControlVMRequest{Vm: vm, Action: action}, done, seeVMs)
}

// VMStartCmd is 'lifeboat vm start'.
type VMStartCmd struct {
	VM string `arg:"" name:"vm" help:"Name or UUID of the VM."`
}

// Run wants a VM on.
func (c *VMStartCmd) Run(ctx context.Context, env *cli.Env, g *cli.Globals) error {
	return controlVM(ctx, env, g, c.VM, "start", fmt.Sprintf("VM %s is wanted on", c.VM))
}

// VMStopCmd is 'lifeboat vm stop'.
type VMStopCmd struct {
	VM    string `arg:"" name:"vm" help:"Name or UUID of the VM."`
	Force bool   `help:"Switch it off at once, without asking the guest to shut down."`
}

// Run wants a VM off.
func (c *VMStopCmd) Run(ctx context.Context, env *cli.Env, g *cli.Globals) error {
	action := "stop"
	if c.Force {
		action = "force-stop"
	}
	return controlVM(ctx, env, g, c.VM, action, fmt.Sprintf("VM %s is wanted off", c.VM))
}

// VMClearCmd is 'lifeboat vm clear'.
type VMClearCmd struct {
	VM string `arg:"" name:"vm" help:"Name or UUID of the VM."`
}

// Run clears the error of a VM.
func (c *VMClearCmd) Run(ctx context.Context, env *cli.Env, g *cli.Globals) error {
	return controlVM(ctx, env, g, c.VM, "clear", fmt.Sprintf("the error of VM %s is cleared", c.VM))
}
