package node

import (
	"context"
	"fmt"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"google.golang.org/protobuf/proto"

	lifeboatv1 "lifeboat/api/lifeboat/v1"
	"lifeboat/fsm"
	"lifeboat/fsm/logpb"
)

// usageBatch are events that open resources, from the first-th on.
func usageBatch(first, n int, at time.Time) []*lifeboatv1.UsageEvent {
	out := make([]*lifeboatv1.UsageEvent, n)
	for i := range out {
		k := first + i
		out[i] = &lifeboatv1.UsageEvent{Id: fmt.Sprint("e", k), Type: "LB.CREATE", Resource: fmt.Sprint(k), TimeUnixNs: at.UnixNano(), Domain: "ROOT/bench", Account: fmt.Sprint("account-", k%1000)}
	}
	return out
}

// BenchmarkUsageEvents is how many events a second three nodes take as they run in
// production, told by eight callers at once.
func BenchmarkUsageEvents(b *testing.B) {
	c := newBenchCluster(b)
	t := c.leader(b)
	for end := time.Now().Add(30 * time.Second); t.node.fsm.State().Level < fsm.LevelPolicy && time.Now().Before(end); {
		time.Sleep(50 * time.Millisecond)
	}
	const callers, batch = 8, 5000
	var next atomic.Int64
	at := time.Now()
	b.ResetTimer()
	begin := time.Now()
	var wait sync.WaitGroup
	for range callers {
		wait.Go(func() {
			for int(next.Load()) < b.N {
				first := int(next.Add(batch)) - batch
				r, err := t.recordUsage(context.Background(), &lifeboatv1.RecordUsageRequest{Events: usageBatch(first, batch, at)})
				if err != nil || r.Taken != batch {
					b.Errorf("%v, %v", r, err)
					return
				}
			}
		})
	}
	wait.Wait()
	b.ReportMetric(float64(next.Load())/time.Since(begin).Seconds(), "events/s")
	b.StopTimer()
	c.agree(b, t)
}

// BenchmarkUsageDay closes a day of a million open resources, and reads its records
// while events come in: the longest Apply of all must not hold up heartbeats.
func BenchmarkUsageDay(b *testing.B) {
	const resources = 1_000_000
	m := fsm.NewMachine()
	index, now := uint64(0), time.Now().Add(-30*time.Hour)
	longest := time.Duration(0)
	apply := func(c *logpb.Command) {
		index++
		c.TimeUnixNs = now.UnixNano()
		data, err := proto.Marshal(c)
		if err != nil {
			b.Fatal(err)
		}
		begin := time.Now()
		r := m.Apply([]fsm.Entry{{Index: index, Term: 1, Data: data}})[0]
		longest = max(longest, time.Since(begin))
		if r.Rejected != "" {
			b.Fatal(r.Rejected)
		}
	}
	tell := func(first, n int) {
		c := &logpb.UsageEvents{}
		for _, e := range usageBatch(first, n, now) {
			c.Events = append(c.Events, &logpb.UsageEvent{Id: e.Id, Type: e.Type, Resource: e.Resource, TimeUnixNs: e.TimeUnixNs, Account: &logpb.UsageAccount{Domain: e.Domain, Account: e.Account}})
		}
		apply(&logpb.Command{Body: &logpb.Command_UsageEvents{UsageEvents: c}})
	}
	apply(&logpb.Command{Body: &logpb.Command_ClusterInit{ClusterInit: &logpb.ClusterInit{ClusterId: "c1", FeatureLevel: FeatureLevel}}})
	for i := 0; i < resources; i += usageChunk {
		tell(i, usageChunk)
	}
	day := now.Truncate(24 * time.Hour)
	for range 60 { // the cluster's time goes in small steps
		now = now.Add(50 * time.Minute)
		apply(&logpb.Command{Body: &logpb.Command_Canary{Canary: &logpb.Canary{Node: "n1", Term: 1}}})
	}
	b.ReportMetric(float64(longest)/1e6, "ms-longest-before")
	for b.Loop() {
		longest = 0
		begin := time.Now()
		day = day.Add(time.Minute) // another window each time: the first is the day
		c := &logpb.UsageClose{Zone: "UTC", Unit: "day"}
		if w := m.State().LastUsageWindow(); w == nil {
			c.Windows = []*logpb.UsageSpan{{StartUnixNs: day.Add(-time.Minute).UnixNano(), EndUnixNs: day.Add(24 * time.Hour).UnixNano()}}
		} else {
			c.Windows = []*logpb.UsageSpan{{StartUnixNs: w.End, EndUnixNs: w.End + int64(time.Minute)}}
		}
		apply(&logpb.Command{Body: &logpb.Command_UsageClose{UsageClose: c}})
		closed := time.Since(begin)
		s := m.State()
		var wait sync.WaitGroup
		n, used := 0, int64(0)
		wait.Go(func() { // an export, beside Apply
			for x := range s.Usage(fsm.UsageQuery{From: c.Windows[0].StartUnixNs}) {
				n++
				used += x.Used
			}
		})
		for i := range 40 {
			tell(10*resources+i*usageChunk, usageChunk)
			apply(&logpb.Command{Body: &logpb.Command_Canary{Canary: &logpb.Canary{Node: "n1", Term: 1}}})
		}
		wait.Wait()
		if n < resources || used == 0 {
			b.Fatalf("%d records", n)
		}
		b.ReportMetric(float64(closed)/1e6, "ms-close")
		b.ReportMetric(time.Since(begin).Seconds(), "s-with-records")
		b.ReportMetric(float64(longest)/1e6, "ms-longest-apply")
	}
}
