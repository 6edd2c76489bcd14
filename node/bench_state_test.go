package node

import (
	"crypto/sha256"
	"fmt"
	"math/rand/v2"
	"os"
	"runtime"
	"strconv"
	"sync"
	"testing"
	"time"

	"google.golang.org/protobuf/proto"

	"lifeboat/fsm"
	"lifeboat/fsm/logpb"
	"lifeboat/ha"
)

// bigHosts × benchVMs; LIFEBOAT_BENCH_HOSTS makes it smaller for a quick look.
const bigHosts = 10000

// benchLog feeds a state machine with entries as they stand in the log.
type benchLog struct {
	machine *fsm.Machine
	index   uint64
}

func (l *benchLog) apply(tb testing.TB, entries ...[]byte) {
	batch := make([]fsm.Entry, len(entries))
	for i, data := range entries {
		l.index++
		batch[i] = fsm.Entry{Index: l.index, Term: 1, Data: data}
	}
	for _, r := range l.machine.Apply(batch) {
		if r.Rejected != "" {
			tb.Fatal(r.Rejected)
		}
	}
}

func benchPolicy(key, value string) *logpb.Command {
	return &logpb.Command{Body: &logpb.Command_PolicySet{PolicySet: &logpb.PolicySet{Settings: []*logpb.Setting{{Key: key, Value: value}}}}}
}

func benchEncode(tb testing.TB, c *logpb.Command) []byte {
	c.TimeUnixNs = time.Now().UnixNano()
	data, err := proto.Marshal(c)
	if err != nil {
		tb.Fatal(err)
	}
	return data
}

// benchSpecs are the specs of all VMs of a host, split into entries as a leader
// does.
func benchSpecs(tb testing.TB, s *sealer, templates []benchTemplate, host int) (out [][]byte) {
	r := rand.New(rand.NewPCG(uint64(host), 7))
	c := &logpb.VMSpecs{Host: benchHost(host), Epoch: 1}
	size := 0
	flush := func() {
		if len(c.Specs) > 0 {
			out = append(out, benchEncode(tb, &logpb.Command{Body: &logpb.Command_VmSpecs{VmSpecs: c}}))
		}
		c, size = &logpb.VMSpecs{Host: benchHost(host), Epoch: 1}, 0
	}
	for i := range benchVMs {
		id := benchID(host, i)
		t := templates[r.IntN(len(templates))]
		name := fmt.Sprintf("vm-%05d-%03d", host, i)
		text := []byte(t.define(r, fsm.VMID(id).String(), name))
		hash := sha256.Sum256(text)
		spec := &logpb.Spec{Id: id[:], Name: name, Cpus: uint32(t.cpus), MemoryBytes: uint64(t.memoryMiB) << 20, Machine: t.machine, Arch: "x86_64",
			CpuModel: t.cpu, Networks: []string{"bridge:br0"}, Hash: hash[:], Definition: s.seal(text, id[:])}
		for n := range t.disks {
			spec.Disks = append(spec.Disks, &logpb.Disk{Path: fmt.Sprintf("%s/%s-%d.%s", t.pool, fsm.VMID(id), n, t.format), Storage: "nfs:filer7.example.net:/vol/" + t.pool})
		}
		if size += len(spec.Definition) + 512; size > batchSize {
			flush()
		}
		c.Specs = append(c.Specs, spec)
	}
	flush()
	return out
}

// benchFleet is the state of a whole fleet: every VM is protected and has a
// definition of 4 KiB.
func benchFleet(tb testing.TB, hosts int) *benchLog {
	l := &benchLog{machine: fsm.NewMachine()}
	l.apply(tb, benchEncode(tb, benchPolicy("protect_default", "true")))
	templates := benchTemplates()
	sealed := make([]chan [][]byte, runtime.GOMAXPROCS(0))
	var wg sync.WaitGroup
	for w := range sealed {
		sealed[w] = make(chan [][]byte, 16)
		wg.Go(func() {
			s, err := newSealer(benchKey())
			if err != nil {
				panic(err)
			}
			for h := w; h < hosts; h += len(sealed) {
				sealed[w] <- benchSpecs(tb, s, templates, h)
			}
		})
	}
	// Raft hands entries over in batches when there are many.
	const batch = 64
	for first := 0; first < hosts; first += batch {
		var entries [][]byte
		for h := first; h < min(first+batch, hosts); h++ {
			entries = append(entries, benchEncode(tb, benchRegister(h, benchVMs)))
		}
		l.apply(tb, entries...)
		for h := first; h < min(first+batch, hosts); h++ {
			l.apply(tb, <-sealed[h%len(sealed)]...)
		}
	}
	wg.Wait()
	return l
}

func heapInUse() uint64 {
	runtime.GC()
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return m.HeapInuse
}

// BenchmarkFleet measures a state of 10,000 hosts with 100 protected VMs each.
func BenchmarkFleet(b *testing.B) {
	hosts := bigHosts
	if n, err := strconv.Atoi(os.Getenv("LIFEBOAT_BENCH_HOSTS")); err == nil && n > 0 {
		hosts = n
	}
	before := heapInUse()
	l := benchFleet(b, hosts)
	// What hosts were like before their first change may still be held by a node
	// of the tree that has been split and not been written since.
	first := newBenchReporter(1)
	for h := range hosts {
		l.apply(b, first.write(b, h, 1, fsm.PowerOn))
	}
	// A leader's canaries fold the digest all the time.
	begin := time.Now()
	l.apply(b, benchEncode(b, &logpb.Command{Body: &logpb.Command_Canary{Canary: &logpb.Canary{}}}))
	fold := time.Since(begin) // every host has changed
	heap := heapInUse() - before
	b.Run("heap", func(b *testing.B) {
		for b.Loop() {
		}
		b.ReportMetric(float64(heap)/(1<<20), "MiB")
		b.ReportMetric(float64(fold.Milliseconds()), "fold-ms")
		b.ReportMetric(float64(heap)/float64(hosts*benchVMs), "bytes/VM")
	})
	seq := uint64(1)
	report := func(b *testing.B, change int, p [2]fsm.Power) {
		var total, used time.Duration
		n, reporter := 0, newBenchReporter(change)
		for b.Loop() {
			n++
			seq++
			data := reporter.write(b, n*7919%hosts, seq, p[n/hosts%2])
			begin, cpu := time.Now(), cpuTime(b)
			l.apply(b, data)
			total += time.Since(begin)
			used += cpuTime(b) - cpu
		}
		b.ReportMetric(float64(used.Nanoseconds())/float64(n)/1000, "µs-cpu/report")
		b.ReportMetric(float64(total.Nanoseconds())/float64(n)/1000, "µs/report")
	}
	b.Run("report-1", func(b *testing.B) { report(b, 1, [2]fsm.Power{fsm.PowerUnknown, fsm.PowerOn}) })
	b.Run("report-10", func(b *testing.B) { report(b, 10, [2]fsm.Power{fsm.PowerUnknown, fsm.PowerOn}) })
	b.Run("report-100", func(b *testing.B) { report(b, benchVMs, [2]fsm.Power{fsm.PowerUnknown, fsm.PowerOn}) })
	b.Run("decide", func(b *testing.B) {
		s := l.machine.State()
		soft := &ha.Soft{Executor: "n1 in term 1", Proven: time.Second, Memo: &ha.Memo{}}
		for id, h := range s.Hosts() {
			soft.Hosts.Set(id, ha.Contact{Epoch: h.Epoch, Heard: time.Second, Absorbed: s.Time})
		}
		for b.Loop() {
			if p := ha.Decide(s, soft, ha.Now{Wall: s.Time, Mono: 2 * time.Second}); len(p.Commands) > 0 {
				b.Fatal(p.Commands)
			}
		}
	})
	b.Run("canary", func(b *testing.B) {
		data := benchEncode(b, &logpb.Command{Body: &logpb.Command_Canary{Canary: &logpb.Canary{}}})
		for b.Loop() {
			l.apply(b, data)
		}
	})
	runtime.KeepAlive(l)
}

// benchReporter writes reports that change some VMs of a host. It makes no garbage,
// whose collection would be counted with what is measured.
type benchReporter struct {
	command *logpb.Command
	report  *logpb.HostReport
	out     []byte
}

func newBenchReporter(change int) *benchReporter {
	e := benchEntries(0, change, fsm.PowerOn, fsm.ReasonNone, false)
	for range change {
		e.Incarnations = append(e.Incarnations, uint64(fsm.NewIncarnation(1, 1)))
	}
	r := &logpb.HostReport{Epoch: 1, Vms: e}
	return &benchReporter{report: r, command: &logpb.Command{Body: &logpb.Command_HostReports{HostReports: &logpb.HostReports{Reports: []*logpb.HostReport{r}}}}}
}

// write is valid until the next one.
func (w *benchReporter) write(tb testing.TB, host int, seq uint64, p fsm.Power) []byte {
	w.report.Host, w.report.Seq = benchHost(host), seq
	for i := range w.report.Vms.Power {
		id := benchID(host, i)
		copy(w.report.Vms.Ids[16*i:], id[:])
		w.report.Vms.Power[i] = byte(p)
	}
	w.command.TimeUnixNs = time.Now().UnixNano()
	var err error
	if w.out, err = (proto.MarshalOptions{}).MarshalAppend(w.out[:0], w.command); err != nil {
		tb.Fatal(err)
	}
	return w.out
}
