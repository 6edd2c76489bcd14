package fsm

import (
	"fmt"
	"runtime"
	"testing"

	"lifeboat/fsm/logpb"
)

// BenchmarkAlertStorm raises 100,000 alerts about as many subjects, in commands of a
// thousand, with a receiver that takes none of it, and a canary after every tenth of
// them. It reports what all of it took, and what the state holds then.
func BenchmarkAlertStorm(b *testing.B) {
	const alerts, each = 100_000, 1000
	var log []Entry
	var index uint64
	add := func(c *logpb.Command) {
		index++
		c.TimeUnixNs = epochStart + int64(index)*1_000_000
		log = append(log, Entry{Index: index, Term: 1, Data: encode(b, c)})
	}
	add(command(&logpb.ClusterInit{ClusterId: "c1", FeatureLevel: LevelPolicy}))
	add(command(&logpb.NotifySet{Name: "hook", Kind: "webhook"}))
	for i := 0; i < alerts; i += each {
		c := &logpb.AlertRaise{}
		for j := range each {
			c.Alerts = append(c.Alerts, &logpb.Raised{Type: "OTHER", Subject: fmt.Sprintf("thing-%06d", i+j), Cause: "lost", Severity: uint32(Critical), Text: fmt.Sprintf("Thing %d was lost; look after it.", i+j)})
		}
		add(command(c))
		if i%(10*each) == 0 {
			add(command(&logpb.Canary{Node: "n1", Term: 1}))
		}
	}
	var before, after runtime.MemStats
	for b.Loop() {
		m := NewMachine()
		runtime.GC()
		runtime.ReadMemStats(&before)
		for _, e := range log {
			m.Apply([]Entry{e})
		}
		b.StopTimer()
		runtime.GC()
		runtime.ReadMemStats(&after)
		s := m.State()
		if s.CountOpenAlerts() != s.Policy.AlertsOpenMax+1 || s.CountNotices() != s.Policy.NotifyKeep {
			b.Fatalf("%d alerts are open, %d notices wait", s.CountOpenAlerts(), s.CountNotices())
		}
		b.ReportMetric(float64(int64(after.HeapAlloc)-int64(before.HeapAlloc))/(1<<20), "MiB-held")
		b.StartTimer()
	}
	b.ReportMetric(b.Elapsed().Seconds()/float64(b.N), "s/storm")
}
