package node

import (
	"context"
	"encoding/binary"
	"fmt"
	"io"
	"path/filepath"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/hashicorp/go-hclog"
	"github.com/hashicorp/raft"
	"google.golang.org/protobuf/proto"

	"lifeboat/fsm"
	"lifeboat/fsm/logpb"
)

const (
	benchHosts = 1000
	benchVMs   = 100 // on each host
)

// benchID is the id of the i-th VM of a host; ids of a host are sorted, and
// neighbours among all ids are of different hosts, as with random UUIDs.
func benchID(host, i int) (id [16]byte) {
	const step = 1 << 32 / benchVMs
	binary.BigEndian.PutUint32(id[:], uint32(i*step)+uint32(host)*2654435761%step)
	binary.BigEndian.PutUint64(id[8:], uint64(host)*0x9e3779b97f4a7c15)
	id[6], id[8] = 0x40, 0x80
	return id
}

func benchHost(i int) string { return fmt.Sprintf("host-%05d", i) }

// benchEntries are all VMs of a host in one power state.
func benchEntries(host, vms int, p fsm.Power, r fsm.Reason, named bool) *logpb.VMEntries {
	e := &logpb.VMEntries{}
	for i := range vms {
		id := benchID(host, i)
		e.Ids = append(e.Ids, id[:]...)
		e.Power = append(e.Power, byte(p))
		e.Reason = append(e.Reason, byte(r))
		if named {
			e.Details = append(e.Details, &logpb.VMDetail{Pos: uint32(i), Name: fmt.Sprintf("vm-%05d-%03d", host, i)})
		}
	}
	return e
}

func benchRegister(host, vms int) *logpb.Command {
	return &logpb.Command{Body: &logpb.Command_HostRegister{HostRegister: &logpb.HostRegister{
		Id: benchHost(host), MachineId: fmt.Sprintf("machine-%d", host), BootId: fmt.Sprintf("boot-%d", host), Session: fmt.Sprintf("session-%d", host),
		Version: "bench", FeatureLevel: FeatureLevel,
		Inventory: &logpb.Inventory{Cpus: 64, MemoryBytes: 1 << 40, Storages: []*logpb.Storage{{Id: "shared", Path: "/srv/vms", Up: true}},
			Networks: []string{"bridge:br0"}, Machines: []string{"pc-q35-7.2"}},
		Vms: benchEntries(host, vms, fsm.PowerOn, fsm.ReasonBooted, true)}}}
}

// flipped is the power state of round n: every report changes every VM.
func flipped(n int) (fsm.Power, fsm.Reason) {
	if n%2 == 0 {
		return fsm.PowerOff, fsm.ReasonShutdown
	}
	return fsm.PowerOn, fsm.ReasonBooted
}

// BenchmarkCommit is the power-state changes of whole hosts committed through
// three nodes by the leader's batcher, and the same entries through bare Raft.
// They take turns, so that both meet the same machine.
func BenchmarkCommit(b *testing.B) {
	c := newBenchCluster(b)
	t := c.leader(b)
	// Nothing is heard of these hosts but their changes.
	if _, err := t.propose(context.Background(), "", benchPolicy("suspect_beats", "100")); err != nil {
		b.Fatal(err)
	}
	var register sync.WaitGroup
	for w := range 16 {
		register.Go(func() {
			for h := w; h < benchHosts; h += 16 {
				if _, err := t.propose(context.Background(), "", benchRegister(h, benchVMs)); err != nil {
					b.Errorf("register: %v", err)
					return
				}
			}
		})
	}
	register.Wait()
	reports := benchReports()
	bare, entries := bareLeader(b), bareEntries(b)
	var ours, theirs, ourCPU, theirCPU time.Duration
	rounds := 0
	for b.Loop() {
		for range 5 {
			begin, cpu := time.Now(), cpuTime(b)
			benchRound(b, t, rounds, reports[rounds%2])
			ours, ourCPU = ours+time.Since(begin), ourCPU+cpuTime(b)-cpu
			rounds++
		}
		for i := range 5 {
			begin, cpu := time.Now(), cpuTime(b)
			bareRound(b, bare, entries[i%2])
			theirs, theirCPU = theirs+time.Since(begin), theirCPU+cpuTime(b)-cpu
		}
	}
	changes := float64(rounds) * benchHosts * benchVMs
	b.ReportMetric(changes/ours.Seconds(), "changes/s")
	b.ReportMetric(changes/theirs.Seconds(), "bare-changes/s")
	b.ReportMetric(changes/ourCPU.Seconds(), "changes/s/core")
	b.ReportMetric(changes/theirCPU.Seconds(), "bare-changes/s/core")
	c.agree(b, t)
	for id, h := range t.node.fsm.State().Hosts() {
		power, _ := flipped(rounds - 1)
		if h.Seq != uint64(rounds) || slices.ContainsFunc(h.VMs, func(v fsm.VM) bool { return v.Power != power }) {
			b.Fatalf("not every change of host %s was applied: it is %s (%s), its last report is %d of %d", id, h.Status, h.Reason, h.Seq, rounds)
		}
	}
}

// benchReports are two reports of every host, each of which changes all VMs
// that the other one says something about.
func benchReports() (r [2][]*logpb.HostReport) {
	for n := range r {
		p, why := flipped(n)
		for h := range benchHosts {
			r[n] = append(r[n], &logpb.HostReport{Host: benchHost(h), Epoch: 1, Vms: benchEntries(h, benchVMs, p, why, false)})
		}
	}
	return r
}

// benchRound commits one report of every host, as the requests of that many
// agents do.
func benchRound(b *testing.B, t *term, n int, reports []*logpb.HostReport) {
	var wg sync.WaitGroup
	for _, r := range reports {
		wg.Go(func() {
			r.Seq = uint64(n + 1)
			if err := t.commit(context.Background(), r); err != nil {
				b.Errorf("commit: %v", err)
			}
		})
	}
	wg.Wait()
}

// bareEntries are the entries that carry benchReports.
func bareEntries(b *testing.B) (entries [2][][]byte) {
	for n, reports := range benchReports() {
		queue := make([]*pending, len(reports))
		for i, r := range reports {
			r.Seq = uint64(n + 1)
			queue[i] = &pending{report: r, size: proto.Size(r)}
		}
		for len(queue) > 0 {
			k := fits(queue)
			c := &logpb.HostReports{}
			for _, p := range queue[:k] {
				c.Reports = append(c.Reports, p.report)
			}
			queue = queue[k:]
			data, err := proto.Marshal(&logpb.Command{TimeUnixNs: time.Now().UnixNano(), OnlyTerm: 1, Body: &logpb.Command_HostReports{HostReports: c}})
			if err != nil {
				b.Fatal(err)
			}
			entries[n] = append(entries[n], data)
		}
	}
	return entries
}

// bareRound commits entries with the library alone: plain TCP, the same settings
// and store, all handed over at once, and a state machine that decodes and
// forgets.
func bareRound(b *testing.B, leader *raft.Raft, entries [][]byte) {
	var futures []raft.ApplyFuture
	for _, data := range entries {
		futures = append(futures, leader.Apply(data, 0))
	}
	for _, f := range futures {
		if err := f.Error(); err != nil {
			b.Fatal(err)
		}
	}
}

// bareLeader starts three nodes of the bare library and waits for the leader.
func bareLeader(b *testing.B) *raft.Raft {
	dir := b.TempDir()
	log := hclog.NewNullLogger()
	var conf raft.Configuration
	var starts []func() *raft.Raft
	for i := range 3 {
		trans, err := raft.NewTCPTransportWithConfig("127.0.0.1:0", nil, &raft.NetworkTransportConfig{MaxPool: 3, MaxRPCsInFlight: 1,
			Timeout: 10 * time.Second, MsgpackUseNewTimeFormat: true, Logger: log})
		if err != nil {
			b.Fatal(err)
		}
		cfg := Config{ID: fmt.Sprintf("n%d", i+1), RaftTimeout: 2 * time.Second}
		conf.Servers = append(conf.Servers, raft.Server{ID: raft.ServerID(cfg.ID), Address: trans.LocalAddr()})
		starts = append(starts, func() *raft.Raft {
			store, err := openStorage(filepath.Join(dir, cfg.ID), log)
			if err != nil {
				b.Fatal(err)
			}
			settings := cfg.raft(log)
			if err := raft.BootstrapCluster(settings, store.logs, store.stable, store.snapshots, trans, conf); err != nil {
				b.Fatal(err)
			}
			r, err := raft.NewRaft(settings, throwAway{}, store.logs, store.stable, store.snapshots, trans)
			if err != nil {
				b.Fatal(err)
			}
			b.Cleanup(func() { _, _, _ = r.Shutdown().Error(), trans.Close(), store.Close() })
			return r
		})
	}
	var all []*raft.Raft
	for _, start := range starts {
		all = append(all, start())
	}
	for range 600 {
		for _, r := range all {
			if r.State() == raft.Leader && r.Barrier(time.Second).Error() == nil {
				return r
			}
		}
		time.Sleep(50 * time.Millisecond)
	}
	b.Fatal("no leader within 30 s")
	return nil
}

// throwAway is a state machine that decodes entries and forgets them.
type throwAway struct{}

func (throwAway) ApplyBatch(logs []*raft.Log) []any {
	out := make([]any, len(logs))
	for i, l := range logs {
		if l.Type == raft.LogCommand {
			var c logpb.Command
			if err := proto.Unmarshal(l.Data, &c); err != nil {
				panic(err)
			}
		}
		out[i] = fsm.Result{Index: l.Index}
	}
	return out
}

func (f throwAway) Apply(l *raft.Log) any             { return f.ApplyBatch([]*raft.Log{l})[0] }
func (throwAway) Snapshot() (raft.FSMSnapshot, error) { return nil, raft.ErrNothingNewToSnapshot }
func (throwAway) Restore(r io.ReadCloser) error       { return r.Close() }
