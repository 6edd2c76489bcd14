package main

import (
	"cmp"
	"context"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"
	"time"

	pb "lifeboat/api/lifeboat/v1"
	"lifeboat/api/lifeboat/v1/lifeboatv1connect"
	"lifeboat/internal/cli"
)

// NotifyCmd is 'lifeboat notify'.
type NotifyCmd struct {
	List    NotifyListCmd    `cmd:"" help:"List the receivers of notifications, and how they fare."`
	Set     NotifySetCmd     `cmd:"" help:"Add a receiver, or change one: what is not given is as by default."`
	Remove  NotifyRemoveCmd  `cmd:"" help:"Send nothing more to a receiver, and forget it."`
	Test    NotifyTestCmd    `cmd:"" help:"Send a receiver a test, now."`
	Silence NotifySilenceCmd `cmd:"" help:"Keep alerts from notifying anybody during works."`
}

const seeReceivers = "'lifeboat notify list' shows the receivers"

// NotifyListCmd is 'lifeboat notify list'.
type NotifyListCmd struct{ cli.ReadFlags }

// Run lists the receivers.
func (c *NotifyListCmd) Run(ctx context.Context, env *cli.Env, g *cli.Globals) error {
	return cli.Show(ctx, env, g, c.ReadFlags, func(ctx context.Context, client *cli.Client) (*pb.ListReceiversResponse, error) {
		return cli.Read(ctx, client, lifeboatv1connect.AdminServiceClient.ListReceivers, &pb.ListReceiversRequest{Stale: c.Stale})
	}, func(v *cli.View, r *pb.ListReceiversResponse) {
		cli.DrawTable(v, []cli.Column[*pb.ReceiverView]{
			{Title: "RECEIVER", Cell: func(_ *cli.View, r *pb.ReceiverView) string { return r.Name }},
			{Title: "KIND", Cell: func(_ *cli.View, r *pb.ReceiverView) string { return r.Kind }},
			{Title: "ADDRESS", Cell: func(_ *cli.View, r *pb.ReceiverView) string { return r.Address }},
			{Title: "ALERTS", Cell: func(_ *cli.View, r *pb.ReceiverView) string { return filterText(r.Match) }},
			{Title: "STATE", Cell: func(v *cli.View, r *pb.ReceiverView) string { return receiverState(v, r) }},
			{Title: "DELIVERED", Cell: func(_ *cli.View, r *pb.ReceiverView) string { return fmt.Sprint(r.Delivered) }},
			{Title: "LAST", Cell: func(v *cli.View, r *pb.ReceiverView) string { return v.Time(r.DeliveredUnixNs) }},
			{Title: "WAITING", Cell: func(_ *cli.View, r *pb.ReceiverView) string { return fmt.Sprint(r.Pending) }},
			{Title: "LOST", Cell: func(_ *cli.View, r *pb.ReceiverView) string { return fmt.Sprint(r.Lost) }},
			{Title: "OPTIONS", Wide: true, Cell: func(_ *cli.View, r *pb.ReceiverView) string { return dash(pairs(r.Options)) }},
			{Title: "DELIVERY", Wide: true, Cell: func(_ *cli.View, r *pb.ReceiverView) string { return dash(r.Delivery) }},
		}, r.Receivers, "There are no receivers: nobody is told of alerts. 'lifeboat notify set' adds one.")
	})
}

func receiverState(v *cli.View, r *pb.ReceiverView) string {
	switch {
	case r.Off:
		return "off"
	case r.FailingUnixNs != 0:
		return fmt.Sprintf("failing since %s (%s): %s", v.Time(r.FailingUnixNs), cli.Count(r.Attempts, "attempt"), r.Failure)
	case r.Delivered == 0:
		return "not used yet"
	}
	return "well"
}

func pairs(m map[string]string) string {
	var out []string
	for _, k := range slices.Sorted(maps.Keys(m)) {
		out = append(out, k+"="+m[k])
	}
	return strings.Join(out, " ")
}

// filterText says in words what a filter chooses.
func filterText(f *pb.AlertFilter) string {
	var out []string
	add := func(what string, words []string) {
		if len(words) > 0 {
			out = append(out, what+strings.Join(words, ","))
		}
	}
	add("", f.GetTypes())
	if f.GetSeverity() != "" {
		out = append(out, f.Severity+" or worse")
	}
	add("of ", f.GetSubjects())
	add("cause ", f.GetCauses())
	if len(f.GetLabels()) > 0 {
		out = append(out, pairs(f.Labels))
	}
	if len(out) == 0 {
		return "all"
	}
	return strings.Join(out, ", ")
}

// NotifySetCmd is 'lifeboat notify set'.
type NotifySetCmd struct {
	Name    string            `arg:"" help:"Name of the receiver."`
	Kind    string            `arg:"" help:"webhook, mail, alertmanager or program."`
	Address string            `arg:"" help:"Where: https://HOST/PATH, smtp://HOST:587, https://HOST:9093, or the name of a program in /etc/lifeboat/notify.d."`
	Option  map[string]string `mapsep:"none" placeholder:"KEY=VALUE" help:"Option of the kind: ca; for mail from, to, user, helo; for alertmanager user, lasts; for program args."`
	Secret  string            `placeholder:"SECRET" env:"LIFEBOAT_NOTIFY_SECRET" help:"Key of the signature, or password; - reads it from the input, where no list of processes shows it. It is sealed, and never shown again."`
	Keep    bool              `name:"keep-secret" help:"Keep the secret that it has."`
	Off     bool              `help:"Send nothing to it; what waits for it is dropped."`
	matchFlags
}

// Run adds or changes a receiver.
func (c *NotifySetCmd) Run(ctx context.Context, env *cli.Env, g *cli.Globals) error {
	secret := c.Secret
	if secret == "-" {
		raw, err := io.ReadAll(io.LimitReader(env.Stdin, 1<<16))
		if err != nil {
			return fmt.Errorf("read the secret: %w", err)
		}
		secret = strings.TrimSpace(string(raw))
	}
	return change(ctx, env, g, lifeboatv1connect.AdminServiceClient.SetReceiver, &pb.SetReceiverRequest{Name: c.Name, Kind: c.Kind, Address: c.Address, Options: c.Option,
		Secret: secret, KeepSecret: c.Keep, Match: c.filter(), Off: c.Off}, "receiver "+c.Name+" is set", seeReceivers)
}

// NotifyRemoveCmd is 'lifeboat notify remove'.
type NotifyRemoveCmd struct {
	Name string `arg:"" help:"Name of the receiver."`
}

// Run removes a receiver.
func (c *NotifyRemoveCmd) Run(ctx context.Context, env *cli.Env, g *cli.Globals) error {
	return change(ctx, env, g, lifeboatv1connect.AdminServiceClient.RemoveReceiver, &pb.RemoveReceiverRequest{Name: c.Name}, "receiver "+c.Name+" is removed", seeReceivers)
}

// NotifyTestCmd is 'lifeboat notify test'.
type NotifyTestCmd struct {
	Name string `arg:"" help:"Name of the receiver."`
}

// Run sends a test.
func (c *NotifyTestCmd) Run(ctx context.Context, env *cli.Env, g *cli.Globals) error {
	client, err := cli.Open(env, g)
	if err != nil {
		return err
	}
	defer client.Close()
	r, err := cli.WriteLed(ctx, client, lifeboatv1connect.AdminServiceClient.TestReceiver, &pb.TestReceiverRequest{Name: c.Name})
	if err != nil {
		return withNames(err, seeReceivers)
	}
	if r.Failure != "" {
		return &cli.Error{Exit: cli.ExitRefused, Text: fmt.Sprintf("receiver %s did not take the test after %d ms: %s", c.Name, r.TookMs, r.Failure), Do: "mend that, or change it with 'lifeboat notify set'"}
	}
	return cli.Print(env, g, r, func(v *cli.View, r *pb.TestReceiverResponse) {
		v.Line("receiver %s took the test in %d ms (delivery %s)", c.Name, r.TookMs, r.Delivery)
	})
}

// NotifySilenceCmd is 'lifeboat notify silence'.
type NotifySilenceCmd struct {
	Add  SilenceAddCmd  `cmd:"" help:"Begin a silence, or plan one: alerts that match notify nobody. What is still open when it ends is told then."`
	List SilenceListCmd `cmd:"" help:"List the silences: planned, active, and ended in the last week."`
	End  SilenceEndCmd  `cmd:"" help:"End a silence before its time, or call off a planned one."`
}

const seeSilences = "'lifeboat notify silence list' shows the silences"

// SilenceAddCmd is 'lifeboat notify silence add'.
type SilenceAddCmd struct {
	Reason string        `arg:"" help:"Why, for who wonders that nobody was told."`
	From   time.Time     `placeholder:"TIME" help:"When it begins, for example 2026-11-22T04:00:00Z; without it at once."`
	For    time.Duration `placeholder:"TIME" help:"How long, for example 2h."`
	Until  time.Time     `placeholder:"TIME" help:"Until when, for example 2026-11-22T06:00:00Z."`
	All    bool          `help:"All alerts."`
	matchFlags
}

// Run begins or plans a silence. What its times mean is decided where the log is, not
// by the clock of this machine.
func (c *SilenceAddCmd) Run(ctx context.Context, env *cli.Env, g *cli.Globals) error {
	switch {
	case (c.For > 0) == !c.Until.IsZero() || c.For < 0 || c.For > 0 && c.For < time.Millisecond:
		return cli.Usage("for example: lifeboat notify silence add --for 2h --subject h2 'new memory'", "a silence takes either --for or --until, and --from if it is to begin later")
	case c.filter() == nil && !c.All:
		return cli.Usage("--subject, --type, --severity, --cause or --label choose them; --all takes all", "say which alerts")
	}
	q := &pb.SetSilenceRequest{Match: c.filter(), Reason: c.Reason, ForMs: c.For.Milliseconds()}
	said := "alerts that match notify nobody"
	if !c.From.IsZero() {
		q.FromUnixNs = c.From.UnixNano()
		said = "alerts that match will notify nobody from " + minute(q.FromUnixNs)
	}
	if c.Until.IsZero() {
		said += " for " + c.For.Round(time.Second).String()
	} else {
		q.UntilUnixNs = c.Until.UnixNano()
		said += " until " + minute(q.UntilUnixNs)
	}
	return change(ctx, env, g, lifeboatv1connect.AdminServiceClient.SetSilence, q, said, "'lifeboat alert types' lists the types")
}

// minute is a time that an operator has chosen, which may be long past or ahead.
func minute(unixNs int64) string { return time.Unix(0, unixNs).UTC().Format("2006-01-02 15:04Z") }

// SilenceListCmd is 'lifeboat notify silence list'.
type SilenceListCmd struct{ cli.ReadFlags }

// Run lists the silences.
func (c *SilenceListCmd) Run(ctx context.Context, env *cli.Env, g *cli.Globals) error {
	return cli.Show(ctx, env, g, c.ReadFlags, func(ctx context.Context, client *cli.Client) (*pb.ListSilencesResponse, error) {
		return cli.Read(ctx, client, lifeboatv1connect.AdminServiceClient.ListSilences, &pb.ListSilencesRequest{Stale: c.Stale})
	}, func(v *cli.View, r *pb.ListSilencesResponse) {
		cli.DrawTable(v, []cli.Column[*pb.SilenceView]{
			{Title: "ID", Cell: func(_ *cli.View, s *pb.SilenceView) string { return fmt.Sprint(s.Id) }},
			{Title: "STATE", Cell: func(_ *cli.View, s *pb.SilenceView) string { return s.State }},
			{Title: "ALERTS", Cell: func(_ *cli.View, s *pb.SilenceView) string { return filterText(s.Match) }},
			{Title: "FROM", Cell: func(_ *cli.View, s *pb.SilenceView) string { return minute(s.FromUnixNs) }},
			{Title: "UNTIL", Cell: func(_ *cli.View, s *pb.SilenceView) string { return minute(cmp.Or(s.EndedUnixNs, s.UntilUnixNs)) }},
			{Title: "SILENCED", Cell: func(_ *cli.View, s *pb.SilenceView) string { return fmt.Sprint(s.Muted) }},
			{Title: "BY", Cell: func(_ *cli.View, s *pb.SilenceView) string { return s.By }},
			{Title: "REASON", Cell: func(_ *cli.View, s *pb.SilenceView) string { return s.Reason }},
		}, r.Silences, "There are no silences.")
	})
}

// SilenceEndCmd is 'lifeboat notify silence end'.
type SilenceEndCmd struct {
	ID ID `arg:"" name:"id" help:"Number of the silence."`
}

// Run ends a silence.
func (c *SilenceEndCmd) Run(ctx context.Context, env *cli.Env, g *cli.Globals) error {
	return change(ctx, env, g, lifeboatv1connect.AdminServiceClient.SetSilence, &pb.SetSilenceRequest{End: uint64(c.ID)}, fmt.Sprintf("silence %s is over", c.ID), seeSilences)
}
