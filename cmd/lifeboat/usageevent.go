package main

import (
	"context"
	"encoding/csv"
	"fmt"
	"io"
	"os"
	"strings"
	"time"

	"google.golang.org/protobuf/encoding/protojson"

	pb "lifeboat/api/lifeboat/v1"
	"lifeboat/api/lifeboat/v1/lifeboatv1connect"
	"lifeboat/internal/cli"
	"lifeboat/internal/usage/events"
)

// usageBatch is how many events are sent in one request.
const usageBatch = 5000

// UsageEventCmd is 'lifeboat usage event'.
type UsageEventCmd struct {
	Type     string    `arg:"" optional:"" help:"What happened, for example LB.CREATE. Without it, --file is read."`
	Resource string    `arg:"" optional:"" help:"Id of the resource."`
	ID       string    `name:"id" placeholder:"ID" help:"Id of the event, by which its repetition is known. Without it: type and time."`
	At       usageTime `placeholder:"TIME" help:"When it happened, for example 2026-01-02T03:04:05Z. Without it, now. A date begins in the time zone of the windows (policy usage_timezone)."`
	Account  string    `placeholder:"NAME" help:"Who is charged: ACCOUNT or DOMAIN/ACCOUNT."`
	Project  string    `placeholder:"NAME" help:"A project of it."`
	Size     uint64    `placeholder:"BYTES" help:"Its size."`
	Offering string    `placeholder:"NAME" help:"Its offering."`
	Zone     string    `placeholder:"NAME" help:"Its zone."`
	Name     string    `placeholder:"NAME" help:"Its name."`
	File     string    `short:"f" placeholder:"FILE" help:"Read events from JSON lines; - is standard input. See docs/usage.md."`
}

// Run tells events. Those that are refused are named, and make the exit code.
func (c *UsageEventCmd) Run(ctx context.Context, env *cli.Env, g *cli.Globals) error {
	switch {
	case c.File != "" && c.Type != "":
		return cli.Usage("leave one of them out", "there is an event and a file of events")
	case c.File == "" && (c.Type == "" || c.Resource == ""):
		return cli.Usage("for example: lifeboat usage event LB.CREATE 7 --account alice, or --file events.jsonl", "what happened, and to which resource?")
	}
	client, err := cli.Open(env, g)
	if err != nil {
		return err
	}
	defer client.Close()
	t := &teller{ctx: ctx, env: env, client: client}
	if c.File == "" {
		if err := inUsageZone(ctx, client, false, &c.At); err != nil {
			return err
		}
		at := c.At.Time
		if at.IsZero() {
			at = env.Now()
		}
		domain, account := splitAccount(c.Account)
		e := events.Event{ID: c.ID, Type: c.Type, Resource: c.Resource, Time: at, Domain: domain, Account: account, Project: c.Project,
			Size: c.Size, Offering: c.Offering, Zone: c.Zone, Name: c.Name}
		if e.ID == "" {
			e.ID = fmt.Sprintf("%s@%s", c.Type, at.UTC().Format(time.RFC3339Nano))
		}
		err = t.add(1, e)
	} else {
		err = t.file(c.File)
	}
	if err == nil {
		err = t.flush()
	}
	if err != nil {
		return t.partly(err)
	}
	if err := cli.Print(env, g, &t.sum, func(v *cli.View, r *pb.RecordUsageResponse) {
		v.Line("%s told, %d of them known before (log index %d)", cli.Count(int(r.Taken+r.Known), "event"), r.Known, r.Index)
		if r.Early > 0 {
			v.Line("%d of them are of a time that nobody is charged for: %s", r.Early, r.EarlyText)
		}
		for _, x := range r.Refused {
			v.Line("refused: event %d (%s): %s", x.At+1, x.Id, x.Why)
		}
	}); err != nil {
		return err
	}
	if n := len(t.sum.Refused); n > 0 {
		return &cli.Error{Exit: cli.ExitRefused, Text: fmt.Sprintf("%s refused", cli.Count(n, "event")), Do: "the others count; mend these and tell all again: what is known does not count twice"}
	}
	return nil
}

// teller sends events in batches, and adds up what became of them.
type teller struct {
	ctx    context.Context
	env    *cli.Env
	client *cli.Client
	batch  []*pb.UsageEvent
	done   int
	sum    pb.RecordUsageResponse
}

func (t *teller) file(path string) error {
	r := io.Reader(t.env.Stdin)
	if path != "-" {
		f, err := os.Open(path)
		if err != nil {
			return &cli.Error{Exit: cli.ExitUsage, Text: fmt.Sprintf("cannot read the events: %v", err), Err: err}
		}
		defer f.Close()
		r = f
	}
	if err := events.Read(r, t.add); err != nil {
		return fmt.Errorf("read events of %s: %w", path, err)
	}
	return nil
}

func (t *teller) add(_ int, e events.Event) error {
	t.batch = append(t.batch, &pb.UsageEvent{Id: e.ID, Type: e.Type, Resource: e.Resource, TimeUnixNs: e.Time.UnixNano(), Domain: e.Domain, Account: e.Account,
		Project: e.Project, Size: e.Size, Offering: e.Offering, Zone: e.Zone, Name: e.Name})
	if len(t.batch) < usageBatch {
		return nil
	}
	return t.flush()
}

func (t *teller) flush() error {
	if len(t.batch) == 0 {
		return nil
	}
	r, err := cli.Write(t.ctx, t.client, lifeboatv1connect.AdminServiceClient.RecordUsage, &pb.RecordUsageRequest{Events: t.batch})
	if err != nil {
		return err
	}
	for _, x := range r.Refused {
		x.At += uint32(t.done)
	}
	t.sum.Index, t.sum.Taken, t.sum.Known = r.Index, t.sum.Taken+r.Taken, t.sum.Known+r.Known
	t.sum.Refused = append(t.sum.Refused, r.Refused...)
	if r.Early > 0 {
		t.sum.Early, t.sum.EarlyText = t.sum.Early+r.Early, r.EarlyText
	}
	t.done += len(t.batch)
	t.batch = nil
	return nil
}

// partly says what is told already when the rest is not.
func (t *teller) partly(err error) error {
	if t.done > 0 {
		fmt.Fprintf(t.env.Stderr, "lifeboat: the first %s told; tell all again when this is mended: what is known does not count twice\n", cli.Count(t.done, "event"))
	}
	return err
}

// UsageExportCmd is 'lifeboat usage export'.
type UsageExportCmd struct {
	Format string `arg:"" enum:"csv,json" help:"csv, or json (one record on a line)."`
	usageFlags
}

// Run writes all records. The index to give as --after the next time goes to stderr.
func (c *UsageExportCmd) Run(ctx context.Context, env *cli.Env, g *cli.Globals) error {
	client, err := cli.Open(env, g)
	if err != nil {
		return err
	}
	defer client.Close()
	w := csv.NewWriter(env.Stdout)
	if c.Format == "csv" {
		if err := w.Write(usageCSVHeader()); err != nil {
			return fmt.Errorf("write records: %w", err)
		}
	}
	req, err := c.request(ctx, client)
	if err != nil {
		return err
	}
	index, n := uint64(0), 0
	for {
		r, err := cli.Read(ctx, client, lifeboatv1connect.AdminServiceClient.ListUsage, req)
		if err != nil {
			return withNames(err, seeUsage)
		}
		if index == 0 {
			index = r.Index // what came while this was written comes with the next one as well
		}
		for _, x := range r.Records {
			if x.Index > index {
				continue
			}
			n++
			if err := writeRecord(env.Stdout, w, c.Format, x); err != nil {
				return fmt.Errorf("write records: %w", err)
			}
		}
		if req.Page = r.NextPage; req.Page == "" {
			break
		}
	}
	w.Flush()
	if err := w.Error(); err != nil {
		return fmt.Errorf("write records: %w", err)
	}
	fmt.Fprintf(env.Stderr, "%s written; --after %d gives what comes later, and only that\n", cli.Count(n, "record"), index)
	return nil
}

func usageCSVHeader() []string {
	return strings.Split("window_start,window_end,type_id,type,resource,domain,account,project,kind,used_ns,hours,first,last,size,offering,zone,name,index", ",")
}

func writeRecord(out io.Writer, w *csv.Writer, format string, x *pb.UsageRecordView) error {
	if format == "json" {
		b, err := protojson.MarshalOptions{UseProtoNames: true, EmitUnpopulated: true}.Marshal(x)
		if err != nil {
			return err
		}
		_, err = out.Write(append(compact(b), '\n'))
		return err
	}
	return w.Write([]string{utc(x.WindowStartUnixNs), utc(x.WindowEndUnixNs), fmt.Sprint(x.TypeId), x.Type, x.Resource, x.Domain, x.Account, x.Project, recordKind(x),
		fmt.Sprint(x.UsedNs), hours(x.UsedNs), utc(x.FirstUnixNs), utc(x.LastUnixNs), fmt.Sprint(x.Size), x.Offering, x.Zone, x.Name, fmt.Sprint(x.Index)})
}
