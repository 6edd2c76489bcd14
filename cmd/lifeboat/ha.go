package main

import (
	"context"

	pb "lifeboat/api/lifeboat/v1"
	"lifeboat/api/lifeboat/v1/lifeboatv1connect"
	"lifeboat/internal/cli"
)

// HACmd is 'lifeboat ha'.
type HACmd struct {
	Arm        HAArmCmd        `cmd:"" help:"Let the cluster fence hosts and restart VMs."`
	Disarm     HADisarmCmd     `cmd:"" help:"Fence and restart nothing. A host with an armed lease counts as disarmed only when its agent has acknowledged."`
	AcceptTime HAAcceptTimeCmd `cmd:"" name:"accept-time" help:"Say that the leader's clock is right although it is more than an hour ahead of the cluster's time, as after a long outage."`
}

// HAArmCmd is 'lifeboat ha arm'.
type HAArmCmd struct {
	Force bool `help:"Also while hosts have not registered since a restore. VMs that run there may be started a second time."`
}

// Run arms HA.
func (c *HAArmCmd) Run(ctx context.Context, env *cli.Env, g *cli.Globals) error {
	return change(ctx, env, g, lifeboatv1connect.AdminServiceClient.ControlHA, &pb.ControlHARequest{Action: "arm", Force: c.Force}, "HA is armed", "")
}

// HADisarmCmd is 'lifeboat ha disarm'.
type HADisarmCmd struct {
	How string `arg:"" optional:"" enum:"freeze,ignore," default:"" help:"freeze (the default): nothing is acted on, the state is still followed, and what was lost is recovered when HA is armed. ignore: as if VMs were not managed; what runs when HA is armed is wanted on, and what does not is not."`
}

// Run disarms HA.
func (c *HADisarmCmd) Run(ctx context.Context, env *cli.Env, g *cli.Globals) error {
	return change(ctx, env, g, lifeboatv1connect.AdminServiceClient.ControlHA, &pb.ControlHARequest{Action: "disarm", Ignore: c.How == "ignore"}, "HA is disarmed: nothing is fenced or restarted", "")
}

// HAAcceptTimeCmd is 'lifeboat ha accept-time'.
type HAAcceptTimeCmd struct{}

// Run accepts the leader's time.
func (c *HAAcceptTimeCmd) Run(ctx context.Context, env *cli.Env, g *cli.Globals) error {
	return change(ctx, env, g, lifeboatv1connect.AdminServiceClient.ControlHA, &pb.ControlHARequest{Action: "accept-time"}, "The cluster goes on with the leader's time", "")
}
