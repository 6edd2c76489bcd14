package main

import (
	"context"
	"fmt"

	pb "lifeboat/api/lifeboat/v1"
	"lifeboat/api/lifeboat/v1/lifeboatv1connect"
	"lifeboat/internal/cli"
)

// OperatorCmd is 'lifeboat operator'.
type OperatorCmd struct {
	List   OperatorListCmd   `cmd:"" help:"List who may do what."`
	Set    OperatorSetCmd    `cmd:"" help:"Give an operator a role."`
	Remove OperatorRemoveCmd `cmd:"" help:"Refuse an operator from now on, whatever certificate it has."`
}

// OperatorListCmd is 'lifeboat operator list'.
type OperatorListCmd struct {
	cli.ReadFlags
}

// Run lists the operators.
func (c *OperatorListCmd) Run(ctx context.Context, env *cli.Env, g *cli.Globals) error {
	return cli.Show(ctx, env, g, c.ReadFlags, func(ctx context.Context, client *cli.Client) (*pb.ListOperatorsResponse, error) {
		return cli.Read(ctx, client, lifeboatv1connect.AdminServiceClient.ListOperators, &pb.ListOperatorsRequest{Stale: c.Stale})
	}, func(v *cli.View, r *pb.ListOperatorsResponse) {
		cli.DrawTable(v, []cli.Column[*pb.OperatorView]{
			{Title: "OPERATOR", Cell: func(_ *cli.View, o *pb.OperatorView) string { return o.Name }},
			{Title: "ROLE", Cell: func(_ *cli.View, o *pb.OperatorView) string { return o.Role }},
			{Title: "SINCE", Cell: func(v *cli.View, o *pb.OperatorView) string { return v.Time(o.SinceUnixNs) }},
			{Title: "BY", Cell: func(_ *cli.View, o *pb.OperatorView) string { return o.By }},
		}, r.Operators, "Nobody was given a role.")
		v.Line("Anybody else with a valid certificate has the role %s (policy unknown_operator). You are %s, with the role %s.", r.Unknown, r.You, r.YourRole)
	})
}

// OperatorSetCmd is 'lifeboat operator set'.
type OperatorSetCmd struct {
	Name string `arg:"" help:"Name of the operator."`
	Role string `arg:"" enum:"viewer,operator,admin" help:"viewer looks; operator runs VMs, hosts, alerts and HA; admin also changes what the cluster is."`
}

// Run gives a role.
func (c *OperatorSetCmd) Run(ctx context.Context, env *cli.Env, g *cli.Globals) error {
	return change(ctx, env, g, lifeboatv1connect.AdminServiceClient.SetOperator, &pb.SetOperatorRequest{Name: c.Name, Role: c.Role},
		fmt.Sprintf("operator %s has the role %s", c.Name, c.Role), "'lifeboat operator list' shows the operators")
}

// OperatorRemoveCmd is 'lifeboat operator remove'.
type OperatorRemoveCmd struct {
	Name string `arg:"" help:"Name of the operator."`
}

// Run takes the role away.
func (c *OperatorRemoveCmd) Run(ctx context.Context, env *cli.Env, g *cli.Globals) error {
	return change(ctx, env, g, lifeboatv1connect.AdminServiceClient.SetOperator, &pb.SetOperatorRequest{Name: c.Name, Role: "none"},
		fmt.Sprintf("operator %s is removed", c.Name), "'lifeboat operator list' shows the operators")
}
