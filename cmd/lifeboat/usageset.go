package main

import (
	"context"
	"fmt"

	pb "lifeboat/api/lifeboat/v1"
	"lifeboat/api/lifeboat/v1/lifeboatv1connect"
	"lifeboat/internal/cli"
)

// UsageAccountCmd is 'lifeboat usage account'.
type UsageAccountCmd struct {
	List    UsageAccountListCmd    `cmd:"" help:"List the accounts to which something was charged."`
	Remove  UsageAccountRemoveCmd  `cmd:"" help:"Nothing can begin for an account any more. What is open is named in an alert, and 'usage repair' ends it."`
	Restore UsageAccountRestoreCmd `cmd:"" help:"An account is there again."`
}

// UsageAccountListCmd is 'lifeboat usage account list'.
type UsageAccountListCmd struct{ cli.ReadFlags }

// Run lists the accounts.
func (c *UsageAccountListCmd) Run(ctx context.Context, env *cli.Env, g *cli.Globals) error {
	return cli.Show(ctx, env, g, c.ReadFlags, describeUsage(c.ReadFlags), func(v *cli.View, r *pb.DescribeUsageResponse) {
		type row = *pb.UsageAccountView
		cli.DrawTable(v, []cli.Column[row]{
			{Title: "ACCOUNT", Cell: func(_ *cli.View, a row) string { return accountName(a.Domain, a.Account, "") }},
			{Title: "PROJECT", Cell: func(_ *cli.View, a row) string { return a.Project }},
			{Title: "OPEN", Cell: func(_ *cli.View, a row) string { return fmt.Sprint(a.Open) }},
			{Title: "SINCE", Cell: func(v *cli.View, a row) string { return v.Time(a.SinceUnixNs) }},
			{Title: "REMOVED", Cell: func(_ *cli.View, a row) string { return utc(a.RemovedUnixNs) }},
		}, r.Accounts, "Nothing was charged to anybody yet.")
	})
}

// accountArg names an account.
type accountArg struct {
	Account string `arg:"" help:"ACCOUNT or DOMAIN/ACCOUNT."`
	Project string `placeholder:"NAME" help:"Its project, if it is one's."`
}

func (a accountArg) request(action string) *pb.SetUsageRequest {
	domain, account := splitAccount(a.Account)
	return &pb.SetUsageRequest{Action: action, Domain: domain, Account: account, Project: a.Project}
}

const seeAccounts = "'lifeboat usage account list' shows the accounts"

// UsageAccountRemoveCmd is 'lifeboat usage account remove'.
type UsageAccountRemoveCmd struct {
	accountArg
	At usageTime `placeholder:"TIME" help:"When it was removed. Without it, now. A date begins in the time zone of the windows (policy usage_timezone)."`
}

// Run removes an account.
func (c *UsageAccountRemoveCmd) Run(ctx context.Context, env *cli.Env, g *cli.Globals) error {
	client, err := cli.Open(env, g)
	if err != nil {
		return err
	}
	defer client.Close()
	if err := inUsageZone(ctx, client, false, &c.At); err != nil {
		return err
	}
	req := c.request("account-remove")
	req.RemovedUnixNs = c.At.ns()
	return changeWith(ctx, env, g, client, cli.Write, lifeboatv1connect.AdminServiceClient.SetUsage, req, "the account is removed", seeAccounts)
}

// UsageAccountRestoreCmd is 'lifeboat usage account restore'.
type UsageAccountRestoreCmd struct{ accountArg }

// Run restores an account.
func (c *UsageAccountRestoreCmd) Run(ctx context.Context, env *cli.Env, g *cli.Globals) error {
	return change(ctx, env, g, lifeboatv1connect.AdminServiceClient.SetUsage, c.request("account-restore"), "the account is there again", seeAccounts)
}

// UsageOwnerCmd is 'lifeboat usage owner'.
type UsageOwnerCmd struct {
	VM      string `arg:"" name:"vm" help:"Name or UUID of the VM."`
	Account string `arg:"" optional:"" help:"ACCOUNT or DOMAIN/ACCOUNT. Without it, the account of the policy (usage_account)."`
	Project string `placeholder:"NAME" help:"A project of it."`
}

// Run says to whom a VM is charged.
func (c *UsageOwnerCmd) Run(ctx context.Context, env *cli.Env, g *cli.Globals) error {
	req := accountArg{c.Account, c.Project}.request("vm-owner")
	req.Vm = c.VM
	return change(ctx, env, g, lifeboatv1connect.AdminServiceClient.SetUsage, req, "the VM is charged to "+c.Account, seeVMs)
}

// UsageTypeCmd is 'lifeboat usage type'.
type UsageTypeCmd struct {
	Set    UsageTypeSetCmd    `cmd:"" help:"Add a type, or say anew which events open and close it."`
	Remove UsageTypeRemoveCmd `cmd:"" help:"Take out a type that was added, of which nothing is open. What was told of it stays."`
}

// UsageTypeSetCmd is 'lifeboat usage type set'.
type UsageTypeSetCmd struct {
	ID      uint32   `arg:"" name:"id" help:"Its number."`
	Name    string   `arg:"" help:"Its name, for example GPU."`
	Opens   []string `required:"" placeholder:"EVENT" help:"Events that open it, for example GPU.ASSIGN."`
	Closes  []string `required:"" placeholder:"EVENT" help:"Events that close it, for example GPU.RELEASE."`
	Changes []string `placeholder:"EVENT" help:"Events that change its size or offering, for example GPU.RESIZE."`
}

// Run adds a type.
func (c *UsageTypeSetCmd) Run(ctx context.Context, env *cli.Env, g *cli.Globals) error {
	return change(ctx, env, g, lifeboatv1connect.AdminServiceClient.SetUsage, &pb.SetUsageRequest{Action: "type-set",
		Type: &pb.UsageTypeView{Id: c.ID, Name: c.Name, Opens: c.Opens, Closes: c.Closes, Changes: c.Changes}}, "the type is set", seeUsage)
}

// UsageTypeRemoveCmd is 'lifeboat usage type remove'.
type UsageTypeRemoveCmd struct {
	ID uint32 `arg:"" name:"id" help:"Its number."`
}

// Run takes a type out.
func (c *UsageTypeRemoveCmd) Run(ctx context.Context, env *cli.Env, g *cli.Globals) error {
	return change(ctx, env, g, lifeboatv1connect.AdminServiceClient.SetUsage, &pb.SetUsageRequest{Action: "type-remove", Type: &pb.UsageTypeView{Id: c.ID}}, "the type is removed", seeUsage)
}
