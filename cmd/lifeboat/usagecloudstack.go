package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"strconv"
	"strings"

	"lifeboat/internal/cli"
	"lifeboat/internal/usage/cloudstack"
)

// UsageCloudstackCmd is 'lifeboat usage repair-cloudstack'.
type UsageCloudstackCmd struct {
	Events         string `required:"" placeholder:"FILE" help:"Export of usage_event."`
	Usage          string `placeholder:"FILE" help:"Export of cloud_usage. Without it rows are closed, and nothing is said of what was billed."`
	LoadBalancers  string `placeholder:"FILE" help:"Export of usage_load_balancer_policy."`
	PortForwarding string `placeholder:"FILE" help:"Export of usage_port_forwarding."`
	VMSnapshots    string `name:"vm-snapshots" placeholder:"FILE" help:"Export of usage_vmsnapshot."`
	Networks       string `placeholder:"FILE" help:"Export of usage_networks."`
	LiveLB         string `name:"live-load-balancers" placeholder:"FILE" help:"Ids of the load balancer rules that live, one on a line: what is open and not among them is named."`
	LivePF         string `name:"live-port-forwarding" placeholder:"FILE" help:"The same for port forwarding rules."`
	SQL            string `name:"sql" placeholder:"FILE" help:"Write SQL that mends the tables, in one transaction. It must not be there yet."`
	Undo           string `placeholder:"FILE" help:"Write SQL that takes that back. --sql needs it."`
	Database       string `default:"cloud_usage" placeholder:"NAME" help:"Name of the database in the SQL."`
}

// Run reads the exports, says what was found, and writes the SQL.
func (c *UsageCloudstackCmd) Run(_ context.Context, env *cli.Env, g *cli.Globals) error {
	if (c.SQL == "") != (c.Undo == "") {
		return cli.Usage("give both: what is mended must be possible to take back", "--sql and --undo belong together")
	}
	plan, err := c.plan()
	if err != nil {
		return &cli.Error{Exit: cli.ExitUsage, Text: err.Error(), Err: err}
	}
	if c.SQL != "" {
		if err := c.write(plan); err != nil {
			return err
		}
	}
	return cli.PrintValue(env, g, plan, c.text(plan))
}

// write writes the undo and then the SQL that it undoes: both, or neither.
func (c *UsageCloudstackCmd) write(plan *cloudstack.Plan) error {
	if err := writeNew(c.Undo, func(w io.Writer) error { return plan.WriteSQL(w, c.Database, true) }); err != nil {
		return err
	}
	if err := writeNew(c.SQL, func(w io.Writer) error { return plan.WriteSQL(w, c.Database, false) }); err != nil {
		return errors.Join(err, os.Remove(c.Undo))
	}
	return nil
}

func (c *UsageCloudstackCmd) plan() (*cloudstack.Plan, error) {
	var in cloudstack.Input
	var err error
	if in.Events, err = readExport(c.Events); err != nil {
		return nil, err
	}
	if c.Usage != "" {
		if in.Usage, err = readExport(c.Usage); err != nil {
			return nil, err
		}
	}
	for _, x := range []struct {
		kind       cloudstack.Kind
		path, live string
	}{{cloudstack.LoadBalancer(), c.LoadBalancers, c.LiveLB}, {cloudstack.PortForwarding(), c.PortForwarding, c.LivePF},
		{cloudstack.VMSnapshot(), c.VMSnapshots, ""}, {cloudstack.Network(), c.Networks, ""}} {
		if x.path == "" {
			continue
		}
		h := cloudstack.Helper{Kind: x.kind}
		if h.Table, err = readExport(x.path); err != nil {
			return nil, err
		}
		if x.live != "" {
			raw, err := os.ReadFile(x.live)
			if err != nil {
				return nil, fmt.Errorf("read what lives: %w", err)
			}
			h.Live = map[string]bool{}
			for _, id := range strings.Fields(string(raw)) {
				h.Live[id] = true
			}
		}
		in.Helpers = append(in.Helpers, h)
	}
	if len(in.Helpers) == 0 {
		return nil, fmt.Errorf("nothing is to be looked at: give --load-balancers, --port-forwarding, --vm-snapshots or --networks")
	}
	return cloudstack.Make(in)
}

func readExport(path string) (*cloudstack.Table, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, fmt.Errorf("read export: %w", err)
	}
	defer f.Close()
	return cloudstack.ReadTable(path, f)
}

// writeNew writes a file that must not be there: nobody loses an undo.
func writeNew(path string, write func(io.Writer) error) error {
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return fmt.Errorf("write SQL: %w", err)
	}
	err = write(f)
	if failed := f.Close(); err == nil {
		err = failed
	}
	if err != nil {
		return errors.Join(fmt.Errorf("write SQL to %s: %w", path, err), os.Remove(path)) // half of it is none
	}
	return nil
}

func (c *UsageCloudstackCmd) text(p *cloudstack.Plan) string {
	var b strings.Builder
	for _, f := range p.Findings {
		fmt.Fprintf(&b, "%s %s of account %s: %s", f.Kind, f.Resource, f.Account, f.Why)
		if f.Rows > 0 {
			fmt.Fprintf(&b, "; %s hours too much in %s", strconv.FormatFloat(f.Hours, 'f', 2, 64), cli.Count(f.Rows, "billed row"))
		}
		b.WriteByte('\n')
	}
	for _, a := range p.Accounts {
		fmt.Fprintf(&b, "= account %s was billed %s hours of %s too much, in %s\n", a.ID, strconv.FormatFloat(a.Hours, 'f', 2, 64), a.Kind, cli.Count(a.Rows, "row"))
	}
	switch {
	case len(p.Findings) == 0:
		b.WriteString("Nothing is billed that has ended.")
	case c.SQL == "":
		fmt.Fprintf(&b, "%s would be changed; --sql FILE --undo FILE writes how", cli.Count(p.Changes(), "row"))
	default:
		fmt.Fprintf(&b, "%s to change: read %s, then run it; %s takes it back", cli.Count(p.Changes(), "row"), c.SQL, c.Undo)
	}
	return b.String()
}
