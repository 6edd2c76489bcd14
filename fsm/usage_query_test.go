package fsm

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"lifeboat/fsm/logpb"
)

// plainUsage is what Usage has to give: every window, every resource, every record.
func (s *State) plainUsage(q UsageQuery) (out []string) {
	for start, w := range s.UsageWindows(0) {
		if start < q.From || start < q.Window || q.To != 0 && w.End > q.To {
			continue
		}
		for key, r := range s.UsageResources(UsageKey{}) {
			if start == q.Window && lessUsage(key, q.Resuming) || q.Type != 0 && key.Type != q.Type || q.Resource != "" && key.Resource != q.Resource {
				continue
			}
			for _, x := range r.Records(w) {
				if x.Index > q.After && (q.Upto == 0 || x.Index <= q.Upto) && (q.Owner == nil || q.Owner(*x.Owner)) {
					out = append(out, recordText(x))
				}
			}
		}
	}
	return out
}

func recordText(x *UsageRecord) string {
	return fmt.Sprint(x.Window.Start, x.Key, *x.Owner, x.Used, x.Index, x.Corrects, x.First, x.Last)
}

func usageTexts(s *State, q UsageQuery) (out []string) {
	for x := range s.Usage(q) {
		out = append(out, recordText(x))
	}
	return out
}

// Whatever is asked of whatever has happened, the indexes give what a look at everything
// gives.
func TestUsageQueriesFindWhatIsThere(t *testing.T) {
	asked, found := 0, 0
	for seed := range uint64(12) {
		l := level4(t)
		c := chooser(rand.New(rand.NewPCG(seed, 8)).IntN)
		for range 250 {
			l.wait(time.Duration(c(3000)) * time.Millisecond)
			l.do(randomUsage(c, l.state()))
			if !c.odds(4) {
				continue
			}
			s := l.state()
			q := UsageQuery{After: pick(c, 0, 0, uint64(c(int(s.Index)+2))), Type: pick(c, uint32(0), 0, 0, 11, 6, 99), Resource: pick(c, "", "", "", "1", "3", "9"), Upto: pick(c, 0, 0, uint64(c(int(s.Index)+2)))}
			for start, w := range s.UsageWindows(0) {
				switch c(30) {
				case 0:
					q.From = start
				case 1:
					q.To = w.End
				case 2:
					q.Window, q.Resuming = start, UsageKey{pick(c, uint32(0), 6, 11), pick(c, "", "1", "2", "9")}
				}
			}
			if c.odds(3) {
				q.Owner = func(o Owner) bool { return o.Account == "a" }
			}
			want := s.plainUsage(q)
			asked++
			found += min(len(want), 1)
			if got := usageTexts(s, q); !slices.Equal(got, want) {
				t.Fatalf("seed %d: %+v gives\n%q\nand not\n%q", seed, q, got, want)
			}
		}
	}
	if found < asked/10 {
		t.Errorf("only %d of %d questions have an answer", found, asked)
	}
}

// A billing system that asks again and again for what came after its last export gets each
// record once, whatever happens in between.
func TestUsageExportsAddUp(t *testing.T) {
	for seed := range uint64(6) {
		l := level4(t)
		c := chooser(rand.New(rand.NewPCG(seed, 9)).IntN)
		var had []string
		last := uint64(0)
		for range 300 {
			l.wait(time.Duration(c(3000)) * time.Millisecond)
			body := randomUsage(c, l.state())
			if _, trims := body.(*logpb.UsageTrim); trims {
				continue // what is given up is in no later export
			}
			l.do(body)
			if c.odds(10) {
				had = append(had, usageTexts(l.state(), UsageQuery{After: last})...)
				last = l.state().Index
			}
		}
		had = append(had, usageTexts(l.state(), UsageQuery{After: last})...)
		all := l.state().plainUsage(UsageQuery{})
		slices.Sort(had)
		slices.Sort(all)
		if !slices.Equal(had, all) || len(all) == 0 {
			t.Fatalf("seed %d: %d records in parts, %d in all", seed, len(had), len(all))
		}
	}
}

// BenchmarkUsageAfter asks for what came since the last export, where 100 windows are
// closed and one resource in ten thousand was told of since: by the index, and by a look at
// all, which is what it cost before.
func BenchmarkUsageAfter(b *testing.B) {
	const resources, windows, news = 100_000, 100, 10
	l := level4(b)
	l.m.digester.dirty = &tracked{}
	apply := func(c *logpb.Command) {
		c.TimeUnixNs = l.now
		l.index++
		if r := l.m.Apply([]Entry{{Index: l.index, Term: 1, Data: encode(b, c)}})[0]; r.Rejected != "" {
			b.Fatal(r.Rejected)
		}
	}
	tell := func(first, n int, typ string) {
		x := &logpb.UsageEvents{}
		for i := first; i < first+n; i++ {
			x.Events = append(x.Events, &logpb.UsageEvent{Id: fmt.Sprint(typ, i), Type: typ, Resource: fmt.Sprint(i), TimeUnixNs: epochStart + int64(time.Minute), Account: &logpb.UsageAccount{Account: "a"}})
		}
		apply(command(x))
	}
	l.wait(time.Minute)
	for i := 0; i < resources; i += 500 {
		tell(i, 500, "LB.CREATE")
	}
	for i := range windows {
		l.wait(time.Hour)
		apply(command(&logpb.UsageClose{Zone: "UTC", Unit: "hour", Windows: []*logpb.UsageSpan{{StartUnixNs: epochStart + int64(i)*int64(time.Hour), EndUnixNs: epochStart + int64(i+1)*int64(time.Hour)}}}))
	}
	after := l.state().Index
	for i := range news {
		tell(i*(resources/news), 1, "LB.DELETE")
	}
	s := l.state()
	q := UsageQuery{After: after}
	n := 0
	for b.Loop() {
		n = len(usageTexts(s, q))
	}
	took := b.Elapsed() / time.Duration(b.N)
	begin := time.Now()
	all := 0
	for _, w := range s.UsageWindows(0) {
		for _, r := range s.UsageResources(UsageKey{}) {
			if slices.ContainsFunc(r.Facts, func(f UsageFact) bool { return f.Index > after }) {
				for _, x := range r.Records(w) {
					if x.Index > after {
						all++
					}
				}
			}
		}
	}
	if all != n || n != news*windows {
		b.Fatalf("%d records, and %d by a look at all", n, all)
	}
	b.ReportMetric(float64(time.Since(begin))/float64(took), "times-faster")
	b.ReportMetric(float64(n), "records")
}
