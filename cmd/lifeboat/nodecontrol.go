package main

import (
	"context"
	"fmt"
	"time"

	pb "lifeboat/api/lifeboat/v1"
	"lifeboat/api/lifeboat/v1/lifeboatv1connect"
	"lifeboat/internal/cli"
)

// NodeMaintenanceCmd is 'lifeboat node maintenance'.
type NodeMaintenanceCmd struct {
	On  NodeMaintenanceOnCmd  `cmd:"" help:"Let a management node hand over what it carries, and be worked on."`
	Off NodeMaintenanceOffCmd `cmd:"" help:"Put a management node back to work."`
}

// NodeMaintenanceOnCmd is 'lifeboat node maintenance on'.
type NodeMaintenanceOnCmd struct {
	Node   string        `arg:"" help:"Name of the node."`
	For    time.Duration `help:"How long the maintenance lasts, from when it has begun; then the node is Up by itself. Left out, until 'maintenance off'."`
	Within time.Duration `default:"5m" help:"The node is Up again if it has not handed over by then."`
	Force  bool          `help:"Also when the rest would survive no failure meanwhile."`
}

// Run begins the maintenance of a node.
func (c *NodeMaintenanceOnCmd) Run(ctx context.Context, env *cli.Env, g *cli.Globals) error {
	if c.For < 0 || c.Within < time.Millisecond {
		return cli.Usage("", "--for and --within take a duration above 0, for example 30m")
	}
	return controlNode(ctx, env, g, &pb.ControlNodeRequest{Id: c.Node, Action: "maintenance-on", Force: c.Force, ForMs: c.For.Milliseconds(), WithinMs: c.Within.Milliseconds()},
		fmt.Sprintf("node %s prepares for maintenance", c.Node))
}

// NodeMaintenanceOffCmd is 'lifeboat node maintenance off'.
type NodeMaintenanceOffCmd struct {
	Node string `arg:"" help:"Name of the node."`
}

// Run ends the maintenance of a node.
func (c *NodeMaintenanceOffCmd) Run(ctx context.Context, env *cli.Env, g *cli.Globals) error {
	return controlNode(ctx, env, g, &pb.ControlNodeRequest{Id: c.Node, Action: "maintenance-off"}, fmt.Sprintf("maintenance of node %s is over", c.Node))
}

// NodeShutdownCmd is 'lifeboat node shutdown'.
type NodeShutdownCmd struct {
	Prepare NodeShutdownPrepareCmd `cmd:"" help:"Let a management node hand over what it carries, so that it can be stopped."`
	Cancel  NodeShutdownCancelCmd  `cmd:"" help:"Do not stop it: put it back to work."`
	Trigger NodeShutdownTriggerCmd `cmd:"" help:"Stop a node that is ready, in order."`
}

// NodeShutdownPrepareCmd is 'lifeboat node shutdown prepare'.
type NodeShutdownPrepareCmd struct {
	Node   string        `arg:"" help:"Name of the node."`
	Within time.Duration `default:"5m" help:"The node is Up again if it has not handed over by then."`
	Force  bool          `help:"Also when the rest would survive no failure any more."`
}

// Run prepares a node for its stop.
func (c *NodeShutdownPrepareCmd) Run(ctx context.Context, env *cli.Env, g *cli.Globals) error {
	if c.Within < time.Millisecond {
		return cli.Usage("", "--within takes a duration above 0, for example 30m")
	}
	return controlNode(ctx, env, g, &pb.ControlNodeRequest{Id: c.Node, Action: "shutdown-prepare", Force: c.Force, WithinMs: c.Within.Milliseconds()},
		fmt.Sprintf("node %s prepares to shut down", c.Node))
}

// NodeShutdownCancelCmd is 'lifeboat node shutdown cancel'.
type NodeShutdownCancelCmd struct {
	Node string `arg:"" help:"Name of the node."`
}

// Run calls the stop of a node off.
func (c *NodeShutdownCancelCmd) Run(ctx context.Context, env *cli.Env, g *cli.Globals) error {
	return controlNode(ctx, env, g, &pb.ControlNodeRequest{Id: c.Node, Action: "shutdown-cancel"}, fmt.Sprintf("node %s does not shut down", c.Node))
}

// NodeShutdownTriggerCmd is 'lifeboat node shutdown trigger'.
type NodeShutdownTriggerCmd struct {
	Node  string `arg:"" help:"Name of the node."`
	Force bool   `help:"Also when it is not ready, or the rest would have no majority."`
}

// Run stops a node.
func (c *NodeShutdownTriggerCmd) Run(ctx context.Context, env *cli.Env, g *cli.Globals) error {
	return controlNode(ctx, env, g, &pb.ControlNodeRequest{Id: c.Node, Action: "shutdown-trigger", Force: c.Force}, fmt.Sprintf("node %s stops now", c.Node))
}

func controlNode(ctx context.Context, env *cli.Env, g *cli.Globals, q *pb.ControlNodeRequest, done string) error {
	return change(ctx, env, g, lifeboatv1connect.AdminServiceClient.ControlNode, q, done, seeNodes)
}

// nodeLeft is how long it takes until a node's state ends by itself.
func nodeLeft(n *pb.NodeView) string {
	if n.RemainingMs == 0 {
		return "-"
	}
	return cli.Millis(n.RemainingMs)
}
