package node

import (
	"context"
	"crypto/sha256"
	"fmt"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"connectrpc.com/connect"
	"github.com/hashicorp/go-hclog"
	"github.com/hashicorp/raft"
	"google.golang.org/protobuf/proto"

	lifeboatv1 "lifeboat/api/lifeboat/v1"
	"lifeboat/api/lifeboat/v1/lifeboatv1connect"
	"lifeboat/fsm"
	"lifeboat/fsm/logpb"
	"lifeboat/fsm/raftfsm"
)

// benchRequest is the report of a host on which nothing has changed.
func benchRequest(host int, seq uint64) *lifeboatv1.ReportRequest {
	r := &lifeboatv1.ReportRequest{HostId: benchHost(host), Epoch: 1, BootId: fmt.Sprintf("boot-%d", host), Session: fmt.Sprintf("session-%d", host),
		Seq: seq, Term: 1, Storages: []*lifeboatv1.Storage{{Id: "shared", Path: "/srv/vms", Up: true}}}
	for i := range benchVMs {
		id := benchID(host, i)
		r.Vms = append(r.Vms, &lifeboatv1.VMReport{Id: id[:], Name: fmt.Sprintf("vm-%05d-%03d", host, i),
			SpecHash: benchHash(host, i), Power: lifeboatv1.PowerState_POWER_STATE_ON, Reason: lifeboatv1.PowerReason_POWER_REASON_BOOTED})
	}
	return r
}

func benchHash(host, i int) []byte {
	sum := sha256.Sum256(fmt.Append(nil, host, i))
	return sum[:]
}

// cpuTime is what this process has used of all cores. A rate per second of it
// is a rate per core, whoever else uses the machine.
func cpuTime(b *testing.B) time.Duration {
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		b.Fatal(err)
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

// BenchmarkUnchanged is reports of 100 VMs each on which nothing has changed,
// from their bytes to the soft view: what a leader does with them but for
// HTTP/2 and TLS.
func BenchmarkUnchanged(b *testing.B) {
	const hosts = 200
	f := raftfsm.New()
	for h := range hosts {
		if r := f.Apply(&raft.Log{Index: uint64(h + 1), Term: 1, Data: benchEncode(b, benchRegister(h, benchVMs))}).(fsm.Result); r.Rejected != "" {
			b.Fatal(r.Rejected)
		}
	}
	for h := range hosts {
		c := &logpb.VMSpecs{Host: benchHost(h), Epoch: 1}
		for i := range benchVMs {
			id := benchID(h, i)
			c.Specs = append(c.Specs, &logpb.Spec{Id: id[:], Hash: benchHash(h, i)})
		}
		f.Apply(&raft.Log{Index: uint64(hosts + h + 1), Term: 1, Data: benchEncode(b, &logpb.Command{Body: &logpb.Command_VmSpecs{VmSpecs: c}})})
	}
	n := &Node{fsm: f, log: hclog.NewNullLogger()}
	n.metrics = newMetrics(n)
	t := &term{node: n, log: n.log, number: 1, start: time.Now(), contacts: newContacts(), poke: make(chan struct{}, 1)}
	var bodies [hosts][]byte
	for h := range bodies {
		var err error
		if bodies[h], err = proto.Marshal(benchRequest(h, 1)); err != nil {
			b.Fatal(err)
		}
	}
	index := f.State().Index
	ctx := context.Background()
	round := 0
	begin := cpuTime(b)
	for b.Loop() {
		round++
		req := &lifeboatv1.ReportRequest{}
		if err := proto.Unmarshal(bodies[round%hosts], req); err != nil {
			b.Fatal(err)
		}
		req.Seq = uint64(round)
		benchAbsorb(b, ctx, t, req)
	}
	used := cpuTime(b) - begin
	if f.State().Index != index {
		b.Fatal("a report without news made a log entry")
	}
	b.ReportMetric(float64(round)/b.Elapsed().Seconds(), "reports/s")
	b.ReportMetric(float64(round)/used.Seconds(), "reports/s/core")
	b.ReportMetric(float64(len(bodies[0])), "bytes/report")
}

// benchAbsorb is what report does before it answers.
func benchAbsorb(b *testing.B, ctx context.Context, t *term, req *lifeboatv1.ReportRequest) {
	if err := checkVMs(req.Vms); err != nil {
		b.Fatal(err)
	}
	t.node.metrics.reports.Inc()
	h, err := known(t.node.fsm.State(), req)
	if err != nil {
		b.Fatal(err)
	}
	x := t.contacts.of(h.ID, h.Epoch)
	x.touch(req.Seq, t.mono())
	if _, err := t.absorb(ctx, x, req, time.Now().UnixNano()); err != nil {
		b.Fatal(err)
	}
}

// BenchmarkUnchangedTLS is the same through mutual TLS and HTTP/2, agents and
// leader on the same cores. The requests act on no assignment, so that each is
// answered at once, with one.
func BenchmarkUnchangedTLS(b *testing.B) {
	const hosts, each = 16, 8
	c := newBenchCluster(b)
	t := c.leader(b)
	ctx := context.Background()
	type agent struct {
		client lifeboatv1connect.AgentServiceClient
		seq    atomic.Uint64
	}
	var agents []*agent
	for h := range hosts {
		if _, err := t.propose(ctx, "", benchRegister(h, benchVMs)); err != nil {
			b.Fatal(err)
		}
		agents = append(agents, &agent{client: lifeboatv1connect.NewAgentServiceClient(c.httpClient(b, t, benchHost(h)), "https://"+t.node.cfg.Advertise)})
	}
	begin := cpuTime(b)
	b.ResetTimer()
	var wg sync.WaitGroup
	var left atomic.Int64
	left.Store(int64(b.N))
	for h, a := range agents {
		for range each {
			wg.Go(func() {
				for left.Add(-1) >= 0 {
					req := benchRequest(h, a.seq.Add(1))
					if _, err := a.client.Report(ctx, connect.NewRequest(req)); err != nil {
						b.Errorf("report: %v", err)
						return
					}
				}
			})
		}
	}
	wg.Wait()
	b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "reports/s")
	b.ReportMetric(float64(b.N)/(cpuTime(b)-begin).Seconds(), "reports/s/core")
}
