package node

import (
	"os"
	"path/filepath"
	"runtime"
	"strconv"
	"testing"
	"time"

	"github.com/hashicorp/go-hclog"
	"github.com/hashicorp/raft"

	"lifeboat/fsm"
	"lifeboat/fsm/logpb"
	"lifeboat/fsm/raftfsm"
)

// BenchmarkSnapshot measures a snapshot of 10,000 hosts with 100 protected VMs each,
// which have definitions of 4 KiB: the longest that Apply takes while it is written
// to disk as Raft does, the same without one, and the time until it is read.
// LIFEBOAT_BENCH_SEED names a file that the snapshot is kept in.
func BenchmarkSnapshot(b *testing.B) {
	hosts := bigHosts
	if n, err := strconv.Atoi(os.Getenv("LIFEBOAT_BENCH_HOSTS")); err == nil && n > 0 {
		hosts = n
	}
	path := os.Getenv("LIFEBOAT_BENCH_SEED")
	if path == "" {
		path = filepath.Join(b.TempDir(), "seed")
	}
	index := benchSeed(b, path, hosts)
	f := raftfsm.New()
	restore := benchRestore(b, f, path)
	runtime.GC()
	store, err := raft.NewFileSnapshotStoreWithLogger(b.TempDir(), 1, hclog.NewNullLogger())
	if err != nil {
		b.Fatal(err)
	}
	load := &benchLoad{fsm: f, hosts: hosts, index: index, seq: 1, reporter: newBenchReporter(10)}
	load.during(b, func() { time.Sleep(2 * time.Second) }) // digests, caches
	calm := load.during(b, func() { time.Sleep(10 * time.Second) })
	size, took := int64(0), time.Duration(0)
	busy := load.during(b, func() {
		begin := time.Now()
		size = benchPersist(b, f, store)
		took = time.Since(begin)
	})
	for b.Loop() {
	}
	b.ReportMetric(ms(busy.longest), "ms-longest")
	b.ReportMetric(ms(calm.longest), "ms-longest-calm")
	b.ReportMetric(float64(index), "index")
	b.ReportMetric(float64(busy.applied), "entries")
	b.ReportMetric(float64(size)/(1<<20), "MiB")
	b.ReportMetric(took.Seconds(), "s-write")
	b.ReportMetric(restore.Seconds(), "s-restore")
}

func ms(d time.Duration) float64 { return float64(d.Microseconds()) / 1000 }

// benchSeed writes the snapshot of a fleet whose hosts may be silent for long, and
// returns its index.
func benchSeed(b *testing.B, path string, hosts int) uint64 {
	l := benchFleet(b, hosts)
	l.apply(b, benchEncode(b, &logpb.Command{Body: &logpb.Command_PolicySet{PolicySet: &logpb.PolicySet{Settings: []*logpb.Setting{
		{Key: "beat", Value: "1m"}, {Key: "suspect_beats", Value: "100"}, {Key: "lease", Value: "10m"}, {Key: "takeover", Value: "20m"}}}}}))
	out, err := os.Create(path)
	if err != nil {
		b.Fatal(err)
	}
	defer out.Close()
	if _, err := l.machine.State().WriteTo(out); err != nil {
		b.Fatal(err)
	}
	return l.index
}

func benchRestore(b *testing.B, f *raftfsm.FSM, path string) time.Duration {
	in, err := os.Open(path)
	if err != nil {
		b.Fatal(err)
	}
	begin := time.Now()
	if err := f.Restore(in); err != nil { // closes it
		b.Fatal(err)
	}
	return time.Since(begin)
}

// benchPersist is what Raft does beside its loop.
func benchPersist(b *testing.B, f *raftfsm.FSM, store raft.SnapshotStore) int64 {
	s, err := f.Snapshot()
	if err != nil {
		b.Fatal(err)
	}
	defer s.Release()
	_, trans := raft.NewInmemTransport("")
	sink, err := store.Create(raft.SnapshotVersionMax, f.State().Index, 1, raft.Configuration{}, 1, trans)
	if err != nil {
		b.Fatal(err)
	}
	if err := s.Persist(sink); err != nil {
		b.Fatal(err)
	}
	list, err := store.List()
	if err != nil || len(list) != 1 {
		b.Fatal(list, err)
	}
	return list[0].Size
}

// benchLoad is two hundred reports a second that change ten VMs each, and a canary a
// second.
type benchLoad struct {
	fsm      *raftfsm.FSM
	hosts    int
	index    uint64
	seq      uint64
	reporter *benchReporter
}

type benchPace struct {
	longest time.Duration
	applied int
}

func (l *benchLoad) during(b *testing.B, do func()) (p benchPace) {
	over := make(chan struct{})
	go func() { defer close(over); do() }()
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for n := 0; ; n++ {
		select {
		case <-over:
			return p
		case <-tick.C:
		}
		var data []byte
		if n%200 == 199 {
			data = benchEncode(b, &logpb.Command{Body: &logpb.Command_Canary{Canary: &logpb.Canary{}}})
		} else {
			l.seq++
			data = l.reporter.write(b, int(l.seq)*7919%l.hosts, l.seq, []fsm.Power{fsm.PowerUnknown, fsm.PowerOn}[n%2])
		}
		l.index++
		begin := time.Now()
		r := l.fsm.Apply(&raft.Log{Index: l.index, Term: 1, Data: data}).(fsm.Result)
		p.longest = max(p.longest, time.Since(begin))
		p.applied++
		if r.Rejected != "" {
			b.Fatalf("entry %d: %s", l.index, r.Rejected)
		}
	}
}
