package node

import (
	"bytes"
	"context"
	"fmt"
	"slices"
	"testing"
	"time"

	"connectrpc.com/connect"

	lifeboatv1 "lifeboat/api/lifeboat/v1"
	"lifeboat/fsm"
	"lifeboat/transport/memnet"
)

func (a alice) tell(events ...*lifeboatv1.UsageEvent) (*lifeboatv1.RecordUsageResponse, error) {
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	defer cancel()
	r, err := a.RecordUsage(ctx, connect.NewRequest(&lifeboatv1.RecordUsageRequest{Events: events}))
	if err != nil {
		return nil, err
	}
	return r.Msg, nil
}

func usageEvent(id, typ, resource, account string, at time.Time) *lifeboatv1.UsageEvent {
	return &lifeboatv1.UsageEvent{Id: id, Type: typ, Resource: resource, Account: account, TimeUnixNs: at.UnixNano()}
}

// records reads all records page by page, at most n on a page.
func (w *world) records(at *testNode, n uint32) (out []*lifeboatv1.UsageRecordView) {
	w.Helper()
	q := &lifeboatv1.ListUsageRequest{Limit: n, Type: "LOAD_BALANCER_POLICY"}
	a := w.alice(at)
	for {
		r, err := a.ListUsage(context.Background(), connect.NewRequest(q))
		if connect.CodeOf(err) == connect.CodeUnavailable {
			time.Sleep(time.Second) // a leader is being elected
			continue
		}
		w.must(err)
		out = append(out, r.Msg.Records...)
		if q.Page = r.Msg.NextPage; q.Page == "" {
			return out
		}
	}
}

// Hours are closed once each, while leaders die in between; what is told late corrects;
// every node computes the same records.
func TestUsageOverLeaders(t *testing.T) {
	run(t, 3, func(w *world) {
		begin := time.Now().Add(-5 * time.Hour).Truncate(time.Hour)
		ask := func() alice { return w.alice(w.leader()) }
		ctx := context.Background()
		set := func(settings ...*lifeboatv1.Setting) error {
			_, err := ask().SetPolicy(ctx, connect.NewRequest(&lifeboatv1.SetPolicyRequest{Settings: settings}))
			return err
		}
		setGrace := func(d string) {
			w.Helper()
			w.within(20*time.Second, "the policy is set", func() bool { return set(&lifeboatv1.Setting{Key: "usage_grace", Value: d}) == nil })
		}
		w.must(set(&lifeboatv1.Setting{Key: "usage_window", Value: "hour"}, &lifeboatv1.Setting{Key: "usage_grace", Value: "24h0m0s"}, &lifeboatv1.Setting{Key: "usage_from", Value: begin.UTC().Format(time.RFC3339)}))
		err := set(&lifeboatv1.Setting{Key: "usage_timezone", Value: "Middle/Earth"})
		wantCode(t, "an unknown time zone", err, connect.CodeInvalidArgument, "there is no time zone")
		var events []*lifeboatv1.UsageEvent
		for i := range 1200 { // more than one entry, and one that is refused
			events = append(events, usageEvent("c", "LB.CREATE", fmt.Sprint(i), "alice", begin))
		}
		events[700].Type = "LB.CRATE"
		r, err := ask().tell(events...)
		w.must(err)
		if r.Taken != 1199 || len(r.Refused) != 1 || r.Refused[0].At != 700 {
			t.Fatalf("taken %d, refused %v", r.Taken, r.Refused)
		}
		if r, err = ask().tell(events...); err != nil || r.Known != 1199 || r.Taken != 0 {
			t.Fatalf("again: %v, %v", r, err)
		}
		for hours := 4; hours >= 2; hours-- { // as time goes on, one hour after the other is over for long enough
			old := w.leader()
			setGrace(fmt.Sprintf("%dh0m0s", hours))
			w.within(20*time.Second, "another hour is closed", func() bool { return windows(w.state()) == 5-hours })
			old.crash(memnet.Crash)
			w.leader()
			old.back()
		}
		w.within(20*time.Second, "a delete is told; it may be told again and again", func() bool {
			_, err := ask().tell(usageEvent("d", "LB.DELETE", "5", "", begin.Add(30*time.Minute)))
			return err == nil
		})
		records := w.records(w.leader(), 97)
		if again := w.records(w.others(w.leader())[0], 1000); len(again) != len(records) {
			t.Errorf("page by page %d records, at once %d", len(records), len(again))
		}
		sums, corrections := map[string]int64{}, 0
		for _, x := range records {
			sums[x.Resource] += x.UsedNs
			if x.Correction {
				corrections++
			}
		}
		closed := w.state().LastUsageWindow().End
		if got, want := time.Duration(sums["5"]), 30*time.Minute; got != want || corrections < 3 {
			t.Errorf("rule 5 lived %s, its records say %s with %d corrections", want, got, corrections)
		}
		if got, want := sums["6"], closed-begin.UnixNano(); got != want {
			t.Errorf("rule 6 has lived %s by the last close, its records say %s", time.Duration(want), time.Duration(got))
		}
		var texts [][]byte
		w.within(10*time.Second, "all nodes are at one index", func() bool {
			texts = nil
			for _, n := range w.live() {
				var b bytes.Buffer
				for x := range n.n.fsm.State().Usage(fsm.UsageQuery{}) {
					fmt.Fprintln(&b, x.Window.Start, x.Key, *x.Owner, x.Used, x.Index, x.Corrects)
				}
				texts = append(texts, b.Bytes())
			}
			return !slices.ContainsFunc(texts, func(b []byte) bool { return !bytes.Equal(b, texts[0]) })
		})
		if len(texts) != 3 || len(texts[0]) == 0 {
			t.Errorf("%d nodes answered", len(texts))
		}
	})
}

func windows(s *fsm.State) (n int) {
	for range s.UsageWindows(0) {
		n++
	}
	return n
}

// What dangles is found and closed, in an audited way, and closing it again is no news.
func TestUsageRepair(t *testing.T) {
	run(t, 1, func(w *world) {
		a, begin, ctx := w.alice(w.leader()), time.Now(), context.Background()
		_, err := a.tell(usageEvent("1", "LB.CREATE", "lives", "bob", begin), usageEvent("2", "LB.CREATE", "dead", "bob", begin), usageEvent("3", "VOLUME.CREATE", "v", "carol", begin))
		w.must(err)
		_, err = a.SetUsage(ctx, connect.NewRequest(&lifeboatv1.SetUsageRequest{Action: "account-remove", Account: "carol", RemovedUnixNs: begin.Add(time.Second).UnixNano()}))
		w.must(err)
		q := &lifeboatv1.VerifyUsageRequest{Type: "LOAD_BALANCER_POLICY", Live: []string{"lives", "unknown"}, Given: true, EndedUnixNs: begin.Add(time.Second).UnixNano()}
		v, err := a.VerifyUsage(ctx, connect.NewRequest(q))
		w.must(err)
		if len(v.Msg.Findings) != 2 || v.Msg.Findings[0].Resource != "dead" || v.Msg.Findings[1].Repair != "" {
			t.Fatalf("found %v", v.Msg.Findings)
		}
		if w.state().UsageResource(fsm.UsageKey{Type: 11, Resource: "dead"}).Open() == nil {
			t.Fatal("looking has changed something")
		}
		time.Sleep(time.Minute)
		r, err := a.RepairUsage(ctx, connect.NewRequest(q))
		w.must(err)
		if r.Msg.Repaired != 1 || w.state().UsageResource(fsm.UsageKey{Type: 11, Resource: "dead"}).Open() != nil {
			t.Errorf("repaired %d", r.Msg.Repaired)
		}
		if r, err = a.RepairUsage(ctx, connect.NewRequest(&lifeboatv1.VerifyUsageRequest{})); err != nil || r.Msg.Repaired != 1 {
			t.Errorf("the account's volume: %v, %v", r, err)
		}
		if r, err = a.RepairUsage(ctx, connect.NewRequest(&lifeboatv1.VerifyUsageRequest{})); err != nil || len(r.Msg.Findings) != 0 {
			t.Errorf("again: %v, %v", r, err)
		}
		audited := 0
		for _, e := range w.state().EventsDown() {
			if e.Type == "USAGE.REPAIR" && e.Actor == "operator/alice" {
				audited++
			}
		}
		if audited != 2 {
			t.Errorf("%d repairs are in the audit, want 2", audited)
		}
	})
}

// Days have 23, 24 and 25 hours, and one midnight there never was.
func TestWindowBorders(t *testing.T) {
	for _, c := range []struct {
		zone, unit, from string
		hours            []float64
	}{
		{"UTC", "day", "2026-03-28T12:00:00Z", []float64{24, 24, 24}},
		{"Europe/Berlin", "day", "2026-03-28T12:00:00Z", []float64{24, 23, 24}},
		{"Europe/Berlin", "day", "2026-10-24T12:00:00Z", []float64{24, 25, 24}},
		{"Europe/Berlin", "hour", "2026-03-29T00:30:00Z", []float64{1, 1, 1}},
		{"Asia/Kolkata", "hour", "2026-03-29T00:10:00Z", []float64{1, 1, 1}},
		{"America/Sao_Paulo", "day", "2018-11-03T12:00:00Z", []float64{24, 23, 24}}, // no midnight on November 4
		{"America/Santiago", "day", "2026-09-05T12:00:00Z", []float64{24, 23, 24}},  // none on September 6
		{"America/Santiago", "day", "2026-04-04T12:00:00Z", []float64{25, 24, 24}},  // from midnight back to 23:00
		{"America/Sao_Paulo", "day", "2018-02-17T12:00:00Z", []float64{25, 24, 24}},
		{"America/Havana", "day", "2026-10-31T12:00:00Z", []float64{24, 25, 24}},      // from 1:00 back to midnight
		{"America/Toronto", "day", "1919-03-30T12:00:00Z", []float64{23.5, 23.5, 24}}, // from 23:30 to 0:30
		{"Pacific/Apia", "day", "2011-12-29T12:00:00Z", []float64{24, 24, 24}},        // there was no December 30
		{"Australia/Lord_Howe", "hour", "2026-04-04T14:20:00Z", []float64{1, 0.5, 1}},
	} {
		loc, err := time.LoadLocation(c.zone)
		if err != nil {
			t.Fatal(err)
		}
		from, _ := time.Parse(time.RFC3339, c.from)
		at := windowStart(from, c.unit, loc)
		if at.After(from) || from.Sub(at) > 25*time.Hour {
			t.Errorf("%v: begins at %s", c, at)
		}
		for i, want := range c.hours {
			end := windowEnd(at, c.unit, loc)
			if got := end.Sub(at).Hours(); got != want && c.zone != "Australia/Lord_Howe" {
				t.Errorf("%v: window %d has %v hours", c, i, got)
			}
			if !end.After(at) || end.Sub(at) > 26*time.Hour {
				t.Errorf("%v: window %d is from %s to %s", c, i, at, end)
			}
			at = end
		}
	}
}

// Who reads page by page while events come late and windows are closed gets what there was
// at the first page, each record once, and the rest by asking for what came after.
func TestUsagePagesWhileWindowsAreClosed(t *testing.T) {
	run(t, 1, func(w *world) {
		w.within(20*time.Second, "the cluster is at level 4", func() bool { return w.state().Level >= fsm.LevelPolicy })
		a := w.alice(w.leader())
		from := time.Now().Truncate(time.Hour).Add(-4 * time.Hour)
		_, err := a.SetPolicy(context.Background(), connect.NewRequest(&lifeboatv1.SetPolicyRequest{Settings: []*lifeboatv1.Setting{{Key: "usage_window", Value: "hour"}, {Key: "usage_from", Value: from.UTC().Format(time.RFC3339)}}}))
		w.must(err)
		tell := func(id, typ, resource string, at time.Time) {
			_, err := a.tell(usageEvent(id, typ, resource, "alice", at))
			w.must(err)
		}
		for i := range 9 {
			tell(fmt.Sprint("c", i), "LB.CREATE", fmt.Sprint("r", i), from.Add(time.Duration(i)*20*time.Minute))
		}
		windows := func() (n int) {
			for range w.state().UsageWindows(0) {
				n++
			}
			return n
		}
		w.within(time.Hour, "windows are closed", func() bool { return windows() >= 3 })
		key := func(x *lifeboatv1.UsageRecordView) string {
			return fmt.Sprint(x.WindowStartUnixNs, x.Resource, x.Index, x.Correction, x.UsedNs)
		}
		read := func(q *lifeboatv1.ListUsageRequest, between func(page int)) (out []string, index uint64) {
			for page := 0; ; page++ {
				r, err := a.ListUsage(context.Background(), connect.NewRequest(q))
				w.must(err)
				if index != 0 && r.Msg.Index != index {
					t.Errorf("page %d is of index %d, and the first one of %d", page, r.Msg.Index, index)
				}
				index = r.Msg.Index
				for _, x := range r.Msg.Records {
					out = append(out, key(x))
				}
				if q.Page = r.Msg.NextPage; q.Page == "" {
					return out, index
				}
				between(page)
			}
		}
		want, _ := read(&lifeboatv1.ListUsageRequest{}, nil)
		before := windows()
		got, index := read(&lifeboatv1.ListUsageRequest{Limit: 2}, func(page int) {
			if page < 9 { // corrections before and behind the place where it reads
				tell(fmt.Sprint("d", page), "LB.DELETE", fmt.Sprint("r", page), from.Add(time.Duration(page)*20*time.Minute+time.Minute))
			}
			if page == 3 {
				w.within(2*time.Hour, "another window is closed", func() bool { return windows() > before })
			}
		})
		if len(want) < 15 || !slices.Equal(got, want) {
			t.Errorf("read page by page, %d records:\n%q\nwere\n%q", len(got), got, want)
		}
		rest, _ := read(&lifeboatv1.ListUsageRequest{After: index, Limit: 3}, func(int) {})
		all, _ := read(&lifeboatv1.ListUsageRequest{}, nil)
		both := slices.Concat(got, rest)
		slices.Sort(both)
		slices.Sort(all)
		if len(rest) == 0 || !slices.Equal(both, all) {
			t.Errorf("%d and %d records later, of %d", len(got), len(rest), len(all))
		}
	})
}
