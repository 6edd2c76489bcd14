package main

import (
	"context"
	"fmt"
	"strings"
	"time"

	pb "lifeboat/api/lifeboat/v1"
	"lifeboat/api/lifeboat/v1/lifeboatv1connect"
	"lifeboat/internal/cli"
)

// UsageCmd is 'lifeboat usage'.
type UsageCmd struct {
	List      UsageListCmd      `cmd:"" help:"List what closed windows hold, with corrections."`
	Export    UsageExportCmd    `cmd:"" help:"Write all records as CSV or as JSON lines, for a billing system."`
	Resources UsageResourcesCmd `cmd:"" help:"List resources: since when they are charged, to whom, and what does not fit."`
	Types     UsageTypesCmd     `cmd:"" help:"List the types of usage, what opens and closes them, and how far usage is closed."`
	Event     UsageEventCmd     `cmd:"" help:"Tell what happened to resources: one event, or many from JSON lines."`
	Verify    UsageVerifyCmd    `cmd:"" help:"Compare what is charged with what lives."`
	Repair    UsageRepairCmd    `cmd:"" help:"Close what dangles. What was charged too much is corrected, and audited."`
	Account   UsageAccountCmd   `cmd:"" help:"Accounts: list, remove, restore."`
	Owner     UsageOwnerCmd     `cmd:"" help:"Say to which account a VM is charged."`
	Type      UsageTypeCmd      `cmd:"" help:"Add a type of usage, or take it out."`

	RepairCloudstack UsageCloudstackCmd `cmd:"" name:"repair-cloudstack" help:"Find what CloudStack bills for ever, from exports of its database, and write SQL that mends it. Works offline."`
}

const seeUsage = "'lifeboat usage types' shows the types and their events"

// usageFlags choose records.
type usageFlags struct {
	cli.ReadFlags
	From     usageTime `placeholder:"TIME" help:"Only windows that begin then or later: 2026-01-02T03:04:05Z, or 2026-01-02, which begins in the time zone of the windows (policy usage_timezone)."`
	To       usageTime `placeholder:"TIME" help:"Only windows that end then or earlier. A date is where it begins: --from 2026-01-01 --to 2026-02-01 is January."`
	Type     string    `placeholder:"TYPE" help:"Only this type, by name or number."`
	Resource string    `placeholder:"ID" help:"Only this resource."`
	Account  string    `placeholder:"NAME" help:"Only this account: ACCOUNT or DOMAIN/ACCOUNT."`
	Project  string    `placeholder:"NAME" help:"Only this project."`
	After    uint64    `placeholder:"INDEX" help:"Only what was made after this log index: what an earlier export has not had."`
}

func (f *usageFlags) request(ctx context.Context, client *cli.Client) (*pb.ListUsageRequest, error) {
	if err := inUsageZone(ctx, client, f.Stale, &f.From, &f.To); err != nil {
		return nil, err
	}
	domain, account := splitAccount(f.Account)
	return &pb.ListUsageRequest{Stale: f.Stale, FromUnixNs: f.From.ns(), ToUnixNs: f.To.ns(), Type: f.Type, Resource: f.Resource,
		Domain: domain, Account: account, Project: f.Project, After: f.After}, nil
}

// splitAccount reads DOMAIN/ACCOUNT; the domain may hold slashes.
func splitAccount(s string) (domain, account string) {
	if i := strings.LastIndexByte(s, '/'); i >= 0 {
		return s[:i], s[i+1:]
	}
	return "", s
}

func accountName(domain, account, project string) string {
	if domain != "" {
		account = domain + "/" + account
	}
	if project != "" {
		account += " (" + project + ")"
	}
	return account
}

// UsageListCmd is 'lifeboat usage list'.
type UsageListCmd struct {
	usageFlags
	Limit uint32 `short:"n" default:"100" placeholder:"N" help:"At most so many records, up to 1000. 'usage export' writes all."`
}

// Run lists records.
func (c *UsageListCmd) Run(ctx context.Context, env *cli.Env, g *cli.Globals) error {
	return cli.Show(ctx, env, g, c.ReadFlags, func(ctx context.Context, client *cli.Client) (*pb.ListUsageResponse, error) {
		req, err := c.request(ctx, client)
		if err != nil {
			return nil, err
		}
		req.Limit = c.Limit
		r, err := cli.Read(ctx, client, lifeboatv1connect.AdminServiceClient.ListUsage, req)
		return r, withNames(err, seeUsage)
	}, func(v *cli.View, r *pb.ListUsageResponse) {
		cli.DrawTable(v, usageColumns(), r.Records, "No closed window holds anything of that. 'lifeboat usage types' shows how far usage is closed.")
		if r.NextPage != "" {
			v.Note(fmt.Sprintf("There are more than %d; 'lifeboat usage export' writes all.", len(r.Records)))
		}
	})
}

func usageColumns() []cli.Column[*pb.UsageRecordView] {
	type row = *pb.UsageRecordView
	return []cli.Column[row]{
		{Title: "FROM", Cell: func(_ *cli.View, r row) string { return utc(r.WindowStartUnixNs) }},
		{Title: "TO", Cell: func(_ *cli.View, r row) string { return utc(r.WindowEndUnixNs) }},
		{Title: "TYPE", Cell: func(_ *cli.View, r row) string { return r.Type }},
		{Title: "RESOURCE", Cell: func(_ *cli.View, r row) string { return r.Resource }},
		{Title: "NAME", Wide: true, Cell: func(_ *cli.View, r row) string { return r.Name }},
		{Title: "ACCOUNT", Cell: func(_ *cli.View, r row) string { return accountName(r.Domain, r.Account, r.Project) }},
		{Title: "HOURS", Cell: func(_ *cli.View, r row) string { return hours(r.UsedNs) }},
		{Title: "KIND", Cell: func(_ *cli.View, r row) string { return recordKind(r) }},
		{Title: "LOG INDEX", Wide: true, Cell: func(_ *cli.View, r row) string { return fmt.Sprint(r.Index) }},
		{Title: "FIRST", Wide: true, Cell: func(_ *cli.View, r row) string { return utc(r.FirstUnixNs) }},
		{Title: "LAST", Wide: true, Cell: func(_ *cli.View, r row) string { return utc(r.LastUnixNs) }},
	}
}

func recordKind(r *pb.UsageRecordView) string {
	if r.Correction {
		return "correction"
	}
	return "usage"
}

// hours writes nanoseconds as hours, to the millionth; used_ns is exact.
func hours(ns int64) string {
	s := fmt.Sprintf("%.6f", float64(ns)/float64(time.Hour))
	return strings.TrimSuffix(strings.TrimRight(s, "0"), ".")
}

func utc(ns int64) string {
	if ns == 0 {
		return ""
	}
	return time.Unix(0, ns).UTC().Format(time.RFC3339Nano)
}

// UsageResourcesCmd is 'lifeboat usage resources'.
type UsageResourcesCmd struct {
	cli.ReadFlags
	Type     string `placeholder:"TYPE" help:"Only this type, by name or number."`
	Resource string `placeholder:"ID" help:"Only this resource."`
	Account  string `placeholder:"NAME" help:"Only this account: ACCOUNT or DOMAIN/ACCOUNT."`
	Project  string `placeholder:"NAME" help:"Only this project."`
	Open     bool   `help:"Only what is charged now."`
	Trouble  bool   `help:"Only resources of which something was told that does not fit."`
	Limit    uint32 `short:"n" default:"100" placeholder:"N" help:"At most so many resources, up to 1000."`
	Page     string `placeholder:"PAGE" help:"Go on where the list before has ended: its next_page."`
}

// usageRow is an interval, or what does not fit, of a resource.
type usageRow struct {
	r     *pb.UsageResourceView
	i     *pb.UsageIntervalView
	wrong string
}

// Run lists resources.
func (c *UsageResourcesCmd) Run(ctx context.Context, env *cli.Env, g *cli.Globals) error {
	domain, account := splitAccount(c.Account)
	return cli.Show(ctx, env, g, c.ReadFlags, func(ctx context.Context, client *cli.Client) (*pb.ListUsageResourcesResponse, error) {
		r, err := cli.Read(ctx, client, lifeboatv1connect.AdminServiceClient.ListUsageResources, &pb.ListUsageResourcesRequest{Stale: c.Stale, Type: c.Type,
			Resource: c.Resource, Domain: domain, Account: account, Project: c.Project, Open: c.Open, Trouble: c.Trouble, Limit: c.Limit, Page: c.Page})
		return r, withNames(err, seeUsage)
	}, func(v *cli.View, r *pb.ListUsageResourcesResponse) {
		var rows []usageRow
		for _, x := range r.Resources {
			for _, i := range x.Intervals {
				if !c.Open || i.EndUnixNs == 0 {
					rows = append(rows, usageRow{r: x, i: i})
				}
			}
			for _, w := range x.Trouble {
				rows = append(rows, usageRow{r: x, wrong: w})
			}
		}
		cli.DrawTable(v, []cli.Column[usageRow]{
			{Title: "TYPE", Cell: func(_ *cli.View, r usageRow) string { return r.r.Type }},
			{Title: "RESOURCE", Cell: func(_ *cli.View, r usageRow) string { return r.r.Resource }},
			{Title: "ACCOUNT", Cell: func(_ *cli.View, r usageRow) string {
				return accountName(r.i.GetDomain(), r.i.GetAccount(), r.i.GetProject())
			}},
			{Title: "SINCE", Cell: func(_ *cli.View, r usageRow) string { return utc(r.i.GetStartUnixNs()) }},
			{Title: "UNTIL", Cell: func(_ *cli.View, r usageRow) string { return utc(r.i.GetEndUnixNs()) }},
			{Title: "NAME", Cell: func(_ *cli.View, r usageRow) string { return r.i.GetName() }},
			{Title: "NOTE", Cell: func(_ *cli.View, r usageRow) string { return r.wrong }},
		}, rows, "No resource matches.")
		if r.NextPage != "" {
			v.Note("There are more; go on with --page " + r.NextPage)
		}
	})
}

// UsageTypesCmd is 'lifeboat usage types'.
type UsageTypesCmd struct{ cli.ReadFlags }

// Run lists the types.
func (c *UsageTypesCmd) Run(ctx context.Context, env *cli.Env, g *cli.Globals) error {
	return cli.Show(ctx, env, g, c.ReadFlags, describeUsage(c.ReadFlags), func(v *cli.View, r *pb.DescribeUsageResponse) {
		type row = *pb.UsageTypeView
		cli.DrawTable(v, []cli.Column[row]{
			{Title: "ID", Cell: func(_ *cli.View, t row) string { return fmt.Sprint(t.Id) }},
			{Title: "TYPE", Cell: func(_ *cli.View, t row) string { return t.Name }},
			{Title: "OPENED BY", Cell: func(_ *cli.View, t row) string {
				if t.Derived {
					return "the state of the VM"
				}
				return strings.Join(t.Opens, " ")
			}},
			{Title: "CLOSED BY", Cell: func(_ *cli.View, t row) string { return strings.Join(t.Closes, " ") }},
			{Title: "CHANGED BY", Wide: true, Cell: func(_ *cli.View, t row) string { return strings.Join(t.Changes, " ") }},
			{Title: "OPEN", Cell: func(_ *cli.View, t row) string { return fmt.Sprint(t.Open) }},
			{Title: "KNOWN", Cell: func(_ *cli.View, t row) string { return fmt.Sprint(t.Known) }},
		}, r.Types, "There are no types.")
		switch {
		case r.SinceUnixNs == 0:
			v.Line("= nothing was told of usage yet")
		case r.ClosedUnixNs == 0:
			v.Line("= no window is closed yet; the first one at %s", utc(r.NextUnixNs))
		default:
			v.Line("= usage is closed until %s (%s kept); the next window is closed at %s", utc(r.ClosedUnixNs), cli.Count(int(r.Windows), "window"), utc(r.NextUnixNs))
		}
	})
}

func describeUsage(f cli.ReadFlags) func(context.Context, *cli.Client) (*pb.DescribeUsageResponse, error) {
	return func(ctx context.Context, client *cli.Client) (*pb.DescribeUsageResponse, error) {
		return cli.Read(ctx, client, lifeboatv1connect.AdminServiceClient.DescribeUsage, &pb.DescribeUsageRequest{Stale: f.Stale})
	}
}
