package main

import (
	"context"
	"fmt"

	pb "lifeboat/api/lifeboat/v1"
	"lifeboat/api/lifeboat/v1/lifeboatv1connect"
	"lifeboat/internal/cli"
)

// VMMigrateCmd is 'lifeboat vm migrate'.
type VMMigrateCmd struct {
	VM   string `arg:"" name:"vm" help:"Name or UUID of the VM."`
	Host string `arg:"" optional:"" help:"Where it goes; the best host when left out."`
}

// Run orders a live migration.
func (c *VMMigrateCmd) Run(ctx context.Context, env *cli.Env, g *cli.Globals) error {
	return moveVM(ctx, env, g, c.VM, c.Host, "migrate", fmt.Sprintf("VM %s migrates live", c.VM))
}

// VMRelocateCmd is 'lifeboat vm relocate'.
type VMRelocateCmd struct {
	VM   string `arg:"" name:"vm" help:"Name or UUID of the VM."`
	Host string `arg:"" optional:"" help:"Where it goes; the best host when left out."`
}

// Run orders a relocation.
func (c *VMRelocateCmd) Run(ctx context.Context, env *cli.Env, g *cli.Globals) error {
	return moveVM(ctx, env, g, c.VM, c.Host, "relocate", fmt.Sprintf("VM %s is stopped, and started elsewhere", c.VM))
}

func moveVM(ctx context.Context, env *cli.Env, g *cli.Globals, vm, host, action, done string) error {
	return change(ctx, env, g, lifeboatv1connect.AdminServiceClient.ControlVM, &pb.ControlVMRequest{Vm: vm, Action: action, Target: host}, done, seeVMs)
}
