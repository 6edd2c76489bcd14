package main

import (
	"cmp"
	"context"
	"fmt"
	"strings"

	pb "lifeboat/api/lifeboat/v1"
	"lifeboat/api/lifeboat/v1/lifeboatv1connect"
	"lifeboat/internal/cli"
)

// NodeCmd is 'lifeboat node'.
type NodeCmd struct {
	List               NodeListCmd        `cmd:"" help:"List the management nodes."`
	Show               NodeShowCmd        `cmd:"" help:"Show everything about a management node."`
	Maintenance        NodeMaintenanceCmd `cmd:"" help:"Let a management node be worked on."`
	Shutdown           NodeShutdownCmd    `cmd:"" help:"Stop a management node in order."`
	Leave              NodeLeaveCmd       `cmd:"" help:"Let a management node leave the cluster for good, in order."`
	Remove             NodeRemoveCmd      `cmd:"" help:"Take a node that is dead or lost out of the cluster for good."`
	TransferLeadership NodeTransferCmd    `cmd:"" help:"Let another node lead."`
}

// NodeListCmd is 'lifeboat node list'.
type NodeListCmd struct {
	cli.ReadFlags
}

// Run lists the nodes.
func (c *NodeListCmd) Run(ctx context.Context, env *cli.Env, g *cli.Globals) error {
	return cli.Show(ctx, env, g, c.ReadFlags, func(ctx context.Context, client *cli.Client) (*pb.ListNodesResponse, error) {
		return cli.Read(ctx, client, lifeboatv1connect.AdminServiceClient.ListNodes, &pb.ListNodesRequest{Stale: c.Stale})
	}, func(v *cli.View, r *pb.ListNodesResponse) {
		cli.DrawTable(v, nodeColumns(levelsDiffer(r.Nodes)), r.Nodes, "No management nodes are known.")
	})
}

// levelsDiffer reports whether members are of versions that know different feature
// levels: then the list says which.
func levelsDiffer(nodes []*pb.NodeView) bool {
	var first uint32
	for _, n := range nodes {
		if n.FeatureLevel == 0 || n.Role == "left" || n.Role == "removed" || n.Role == "gone" {
			continue
		}
		if first == 0 {
			first = n.FeatureLevel
		}
		if n.FeatureLevel != first {
			return true
		}
	}
	return false
}

// nodeLevel is the feature level that a node knows; "-" = it was never heard.
func nodeLevel(n *pb.NodeView) string {
	if n.FeatureLevel == 0 {
		return "-"
	}
	return fmt.Sprint(n.FeatureLevel)
}

func nodeColumns(levels bool) []cli.Column[*pb.NodeView] {
	return []cli.Column[*pb.NodeView]{
		{Title: "NODE", Cell: func(_ *cli.View, n *pb.NodeView) string { return n.Id }},
		{Title: "STATE", Cell: func(_ *cli.View, n *pb.NodeView) string { return n.State }},
		{Title: "LEFT", Cell: func(_ *cli.View, n *pb.NodeView) string { return nodeLeft(n) }},
		{Title: "ROLE", Cell: func(_ *cli.View, n *pb.NodeView) string { return nodeRole(n) }},
		{Title: "ADDRESS", Cell: func(_ *cli.View, n *pb.NodeView) string { return n.Addr }},
		{Title: "HTTP", Wide: true, Cell: func(_ *cli.View, n *pb.NodeView) string { return n.HttpAddr }},
		{Title: "LAG", Cell: func(_ *cli.View, n *pb.NodeView) string { return nodeLag(n) }},
		{Title: "HEARD", Cell: func(_ *cli.View, n *pb.NodeView) string { return nodeHeard(n) }},
		{Title: "SNAPSHOT", Cell: func(v *cli.View, n *pb.NodeView) string { return snapshotOrFailure(v, n) }},
		{Title: "VERSION", Cell: func(_ *cli.View, n *pb.NodeView) string { return n.Version }},
		{Title: "LEVEL", Wide: !levels, Cell: func(_ *cli.View, n *pb.NodeView) string { return nodeLevel(n) }},
		{Title: "HOST", Wide: true, Cell: func(_ *cli.View, n *pb.NodeView) string { return n.Machine }},
		{Title: "RUN", Wide: true, Cell: func(_ *cli.View, n *pb.NodeView) string { return n.RunId }},
		{Title: "SINCE", Cell: func(v *cli.View, n *pb.NodeView) string { return v.Time(n.SinceUnixNs) }},
		{Title: "LOG INDEX", Wide: true, Cell: func(_ *cli.View, n *pb.NodeView) string { return fmt.Sprint(n.Index) }},
		{Title: "REASON", Cell: func(_ *cli.View, n *pb.NodeView) string { return cmp.Or(n.Waits, n.Reason) }},
	}
}

func nodeRole(n *pb.NodeView) string {
	switch {
	case n.Role != "":
		return n.Role
	case n.Leader:
		return "leader"
	case n.Voter:
		return "voter"
	}
	return "non-voter"
}

// nodeLag is how many entries a node is behind; "-" where the leader has not
// heard it.
func nodeLag(n *pb.NodeView) string {
	if n.LastContactMs < 0 {
		return "-"
	}
	return fmt.Sprint(n.Lag)
}

// nodeSnapshot is when a node took its newest snapshot by itself; "-" = it takes
// none, or the leader has not heard it.
func nodeSnapshot(v *cli.View, n *pb.NodeView) string {
	if n.SnapshotUnixNs == 0 {
		return "-"
	}
	return v.Time(n.SnapshotUnixNs)
}

func snapshotOrFailure(v *cli.View, n *pb.NodeView) string {
	if n.SnapshotFailure != "" {
		return "FAILS"
	}
	return nodeSnapshot(v, n)
}

func nodeHeard(n *pb.NodeView) string {
	if n.LastContactMs < 0 {
		return "-"
	}
	return fmt.Sprintf("%.1fs ago", float64(n.LastContactMs)/1000)
}

// NodeShowCmd is 'lifeboat node show'.
type NodeShowCmd struct {
	cli.ReadFlags
	Node string `arg:"" help:"Name of the node."`
}

// Run shows one node.
func (c *NodeShowCmd) Run(ctx context.Context, env *cli.Env, g *cli.Globals) error {
	return cli.Show(ctx, env, g, c.ReadFlags, func(ctx context.Context, client *cli.Client) (*pb.NodeView, error) {
		r, err := cli.Read(ctx, client, lifeboatv1connect.AdminServiceClient.ListNodes, &pb.ListNodesRequest{Stale: c.Stale})
		if err != nil {
			return nil, err
		}
		for _, n := range r.Nodes {
			if n.Id == c.Node {
				return n, nil
			}
		}
		return nil, notFound("node", c.Node, seeNodes)
	}, func(v *cli.View, n *pb.NodeView) {
		v.Fields(
			[2]string{"Node", n.Id},
			[2]string{"State", withReason(n.State, cmp.Or(n.Waits, n.Reason))},
			[2]string{"Ends by itself after", strings.TrimPrefix(nodeLeft(n), "-")},
			[2]string{"Role", nodeRole(n)},
			[2]string{"Since", fmt.Sprintf("%s, log index %d", v.Time(n.SinceUnixNs), n.Index)},
			[2]string{"Address", n.Addr},
			[2]string{"Health and metrics", n.HttpAddr},
			[2]string{"Behind the leader", withUnit(nodeLag(n), "entries")},
			[2]string{"Last heard", nodeHeard(n)},
			[2]string{"Newest snapshot of its own", nodeSnapshot(v, n)},
			[2]string{"Snapshots fail", n.SnapshotFailure},
			[2]string{"Version", n.Version},
			[2]string{"Knows feature levels up to", nodeLevel(n)},
			[2]string{"Run", n.RunId},
			[2]string{"Shares machine with host", n.Machine},
		)
	})
}

func withUnit(value, unit string) string {
	if value == "-" {
		return value
	}
	return value + " " + unit
}

// NodeLeaveCmd is 'lifeboat node leave'.
type NodeLeaveCmd struct {
	Node  string `arg:"" help:"Name of the node."`
	Force bool   `help:"Also when the rest would survive no failure any more."`
}

// Run lets a node leave.
func (c *NodeLeaveCmd) Run(ctx context.Context, env *cli.Env, g *cli.Globals) error {
	return change(ctx, env, g, lifeboatv1connect.AdminServiceClient.ControlNode,
		&pb.ControlNodeRequest{Id: c.Node, Action: "leave", Force: c.Force}, fmt.Sprintf("node %s has left the cluster", c.Node), seeNodes)
}

// NodeRemoveCmd is 'lifeboat node remove'.
type NodeRemoveCmd struct {
	Node  string `arg:"" help:"Name of the node."`
	Force bool   `help:"Also when the rest would survive no failure any more."`
}

// Run removes a node.
func (c *NodeRemoveCmd) Run(ctx context.Context, env *cli.Env, g *cli.Globals) error {
	return change(ctx, env, g, lifeboatv1connect.AdminServiceClient.ControlNode,
		&pb.ControlNodeRequest{Id: c.Node, Action: "remove", Force: c.Force}, fmt.Sprintf("node %s is removed", c.Node), seeNodes)
}

// NodeTransferCmd is 'lifeboat node transfer-leadership'.
type NodeTransferCmd struct {
	Node string `arg:"" optional:"" help:"Who is to lead; left out, the most up to date."`
}

// Run transfers the leadership.
func (c *NodeTransferCmd) Run(ctx context.Context, env *cli.Env, g *cli.Globals) error {
	done := "the leadership was transferred"
	if c.Node != "" {
		done += " to node " + c.Node
	}
	return changeOnce(ctx, env, g, lifeboatv1connect.AdminServiceClient.ControlNode,
		&pb.ControlNodeRequest{Id: c.Node, Action: "transfer-leadership"}, done, seeNodes)
}
