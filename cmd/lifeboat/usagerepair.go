package main

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"strings"

	pb "lifeboat/api/lifeboat/v1"
	"lifeboat/api/lifeboat/v1/lifeboatv1connect"
	"lifeboat/internal/cli"
)

// compact takes the white space out of JSON, which protojson varies on purpose.
func compact(b []byte) []byte {
	var out bytes.Buffer
	if err := json.Compact(&out, b); err != nil {
		return b
	}
	return out.Bytes()
}

// usageCheck is what verify and repair compare with.
type usageCheck struct {
	Type     string    `placeholder:"TYPE" help:"Only this type. --live needs it."`
	Live     string    `placeholder:"FILE" help:"The ids of all resources of the type that live, one on a line; - is standard input. It must not be empty."`
	LiveNone bool      `help:"No resource of the type lives: all that are open have ended."`
	At       usageTime `placeholder:"TIME" help:"When that has ended which does not live, as far as nothing else says so: no later than the list was made. What began later is named and left. A date begins in the time zone of the windows (policy usage_timezone)."`
}

func (c *usageCheck) request(env *cli.Env) (*pb.VerifyUsageRequest, error) {
	req := &pb.VerifyUsageRequest{Type: c.Type, Given: c.Live != "" || c.LiveNone, NoneLives: c.LiveNone}
	switch {
	case !req.Given:
		return req, nil
	case c.Type == "":
		return nil, cli.Usage("add --type, for example --type LOAD_BALANCER_POLICY", "of which type are these the resources that live?")
	case c.Live != "" && c.LiveNone:
		return nil, cli.Usage("leave one of them out", "there is a list of what lives, and nothing is said to live")
	case c.LiveNone:
		return req, nil
	}
	r := io.Reader(env.Stdin)
	if c.Live != "-" {
		f, err := os.Open(c.Live)
		if err != nil {
			return nil, &cli.Error{Exit: cli.ExitUsage, Text: fmt.Sprintf("cannot read what lives: %v", err), Err: err}
		}
		defer f.Close()
		r = f
	}
	for lines := bufio.NewScanner(r); ; {
		if !lines.Scan() {
			if err := lines.Err(); err != nil {
				return nil, fmt.Errorf("read what lives: %w", err)
			}
			if len(req.Live) == 0 {
				return nil, cli.Usage("give --live-none instead if nothing of it lives", "the list of what lives is empty, and everything of %s that is open would be closed", c.Type)
			}
			return req, nil
		}
		if id := strings.TrimSpace(lines.Text()); id != "" {
			req.Live = append(req.Live, id)
		}
	}
}

// UsageVerifyCmd is 'lifeboat usage verify'.
type UsageVerifyCmd struct{ usageCheck }

// Run compares. What is found makes the exit code, for monitoring.
func (c *UsageVerifyCmd) Run(ctx context.Context, env *cli.Env, g *cli.Globals) error {
	r, err := askUsage(ctx, env, &c.usageCheck, g, "", false)
	if err != nil {
		return err
	}
	if err := cli.Print(env, g, r, func(v *cli.View, r *pb.VerifyUsageResponse) {
		drawFindings(v, r, "What is charged is what lives.")
	}); err != nil {
		return err
	}
	if n := found(r); n > 0 {
		return &cli.Error{Exit: cli.ExitFailed, Text: fmt.Sprintf("%s not as it should be", are(n, "resource")), Do: "'lifeboat usage repair --dry-run' says what a repair would do"}
	}
	return nil
}

// found is how many findings there are, listed or not.
func found(r *pb.VerifyUsageResponse) int { return len(r.Findings) + int(r.More) }

func are(n int, noun string) string {
	if n == 1 {
		return "1 " + noun + " is"
	}
	return fmt.Sprintf("%d %ss are", n, noun)
}

// UsageRepairCmd is 'lifeboat usage repair'.
type UsageRepairCmd struct {
	usageCheck
	DryRun bool   `help:"Say what would be done, and change nothing."`
	Reason string `placeholder:"TEXT" help:"Why, for the audit."`
}

// Run mends. What is left makes the exit code.
func (c *UsageRepairCmd) Run(ctx context.Context, env *cli.Env, g *cli.Globals) error {
	r, err := askUsage(ctx, env, &c.usageCheck, g, c.Reason, !c.DryRun)
	if err != nil {
		return err
	}
	if err := cli.Print(env, g, r, func(v *cli.View, r *pb.VerifyUsageResponse) {
		drawFindings(v, r, "There is nothing to repair.")
		if !c.DryRun && found(r) > 0 {
			v.Line("%d of %d repaired (log index %d); closed windows that they touch have corrections", r.Repaired, found(r), r.Index)
		}
	}); err != nil {
		return err
	}
	if n := found(r) - int(r.Repaired); n > 0 && !c.DryRun {
		do := "the list says why"
		if r.Left > 0 {
			do = fmt.Sprintf("run it again: it mends only so many at once, and has left %d that it can mend", r.Left)
		}
		return &cli.Error{Exit: cli.ExitFailed, Text: fmt.Sprintf("%s not repaired", are(n, "resource")), Do: do}
	}
	return nil
}

func askUsage(ctx context.Context, env *cli.Env, c *usageCheck, g *cli.Globals, reason string, repair bool) (*pb.VerifyUsageResponse, error) {
	req, err := c.request(env)
	if err != nil {
		return nil, err
	}
	req.Reason = reason
	client, err := cli.Open(env, g)
	if err != nil {
		return nil, err
	}
	defer client.Close()
	if err := inUsageZone(ctx, client, false, &c.At); err != nil {
		return nil, err
	}
	req.EndedUnixNs = c.At.ns()
	var r *pb.VerifyUsageResponse
	if repair {
		r, err = cli.Write(ctx, client, lifeboatv1connect.AdminServiceClient.RepairUsage, req)
	} else {
		r, err = cli.Read(ctx, client, lifeboatv1connect.AdminServiceClient.VerifyUsage, req)
	}
	return r, withNames(err, seeUsage)
}

func drawFindings(v *cli.View, r *pb.VerifyUsageResponse, none string) {
	type row = *pb.UsageFinding
	cli.DrawTable(v, []cli.Column[row]{
		{Title: "TYPE", Cell: func(_ *cli.View, f row) string { return f.Type }},
		{Title: "RESOURCE", Cell: func(_ *cli.View, f row) string { return f.Resource }},
		{Title: "ACCOUNT", Cell: func(_ *cli.View, f row) string { return f.Account }},
		{Title: "FOUND", Cell: func(_ *cli.View, f row) string { return f.Text }},
		{Title: "REPAIR", Cell: func(_ *cli.View, f row) string {
			if f.Repair == "" {
				return "tell the missing event, or give --at"
			}
			return f.Repair
		}},
	}, r.Findings, none)
	if r.More > 0 {
		v.Line("and %d more, which are not listed", r.More)
	}
}
