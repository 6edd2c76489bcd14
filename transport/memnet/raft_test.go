package memnet_test

import (
	"fmt"
	"io"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/hashicorp/go-hclog"
	"github.com/hashicorp/raft"

	"lifeboat/transport/memnet"
)

// TestRaftFailsOver runs real hashicorp/raft in virtual time: the leader is taken
// from the others in every way the network knows, and another must lead soon.
func TestRaftFailsOver(t *testing.T) {
	all := []string{"n1", "n2", "n3"}
	for name, strike := range map[string]func(n *memnet.Network, leader string, others []string){
		"cut off":    func(n *memnet.Network, l string, o []string) { n.Isolate(l, o...) },
		"power loss": func(n *memnet.Network, l string, _ []string) { n.Kill(l, memnet.PowerLoss) },
		"crash":      func(n *memnet.Network, l string, _ []string) { n.Kill(l, memnet.Crash) },
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				n := memnet.New()
				n.SetLatency(time.Millisecond)
				c := startRaft(t, n, all)
				old := c.waitLeader(all)
				if err := c.nodes[old].Apply([]byte("before"), time.Second).Error(); err != nil {
					t.Fatal(err)
				}
				var others []string
				for _, id := range all {
					if id != old {
						others = append(others, id)
					}
				}
				struck := time.Now()
				strike(n, old, others)
				next := c.waitLeader(others)
				if err := c.nodes[next].Apply([]byte("after"), time.Second).Error(); err != nil {
					t.Fatal(err)
				}
				took := time.Since(struck)
				t.Logf("failover from %s to %s took %v", old, next, took)
				if took >= 3*time.Second {
					t.Errorf("failover took %v, want less than 3s", took)
				}
				if name == "cut off" {
					n.HealAll()
					c.waitApplied(all, 2)
				}
				time.Sleep(10 * time.Second) // nobody may quarrel afterwards
				c.checkTerms()
			})
		})
	}
}

type cluster struct {
	t     *testing.T
	nodes map[string]*raft.Raft
	fsms  map[string]*countingFSM

	mu      sync.Mutex
	leaders map[uint64]map[string]bool // term to who led in it
}

func startRaft(t *testing.T, n *memnet.Network, ids []string) *cluster {
	c := &cluster{t: t, nodes: map[string]*raft.Raft{}, fsms: map[string]*countingFSM{}, leaders: map[uint64]map[string]bool{}}
	var conf raft.Configuration
	for _, id := range ids {
		conf.Servers = append(conf.Servers, raft.Server{ID: raft.ServerID(id), Address: raft.ServerAddress(id + ":7000")})
	}
	stop := make(chan struct{})
	var wg sync.WaitGroup
	for _, id := range ids {
		layer, err := n.StreamLayer(id + ":7000")
		if err != nil {
			t.Fatal(err)
		}
		trans := raft.NewNetworkTransportWithConfig(&raft.NetworkTransportConfig{
			Stream: layer, MaxPool: 3, MaxRPCsInFlight: 1, Timeout: 10 * time.Second,
			MsgpackUseNewTimeFormat: true, Logger: hclog.NewNullLogger(),
		})
		cfg := raft.DefaultConfig()
		cfg.LocalID = raft.ServerID(id)
		cfg.HeartbeatTimeout, cfg.ElectionTimeout, cfg.LeaderLeaseTimeout = 500*time.Millisecond, 500*time.Millisecond, 400*time.Millisecond
		cfg.Logger = hclog.NewNullLogger()
		store, snaps, fsm := raft.NewInmemStore(), raft.NewInmemSnapshotStore(), &countingFSM{}
		if err := raft.BootstrapCluster(cfg, store, store, snaps, trans, conf); err != nil {
			t.Fatal(err)
		}
		r, err := raft.NewRaft(cfg, fsm, store, store, snaps, trans)
		if err != nil {
			t.Fatal(err)
		}
		c.nodes[id], c.fsms[id] = r, fsm
		wg.Go(func() { c.watch(id, r, stop) })
		t.Cleanup(func() {
			trans.Close() // first: Shutdown waits for RPCs under way
			if err := r.Shutdown().Error(); err != nil {
				t.Error(err)
			}
		})
	}
	t.Cleanup(func() { close(stop); wg.Wait() })
	return c
}

// watch notes who leads in which term, a thousand times a second.
func (c *cluster) watch(id string, r *raft.Raft, stop <-chan struct{}) {
	tick := time.NewTicker(time.Millisecond)
	defer tick.Stop()
	for {
		select {
		case <-stop:
			return
		case <-tick.C:
		}
		term := r.CurrentTerm()
		if r.State() != raft.Leader || r.CurrentTerm() != term {
			continue
		}
		c.mu.Lock()
		if c.leaders[term] == nil {
			c.leaders[term] = map[string]bool{}
		}
		c.leaders[term][id] = true
		c.mu.Unlock()
	}
}

func (c *cluster) checkTerms() {
	c.mu.Lock()
	defer c.mu.Unlock()
	if len(c.leaders) < 2 {
		c.t.Errorf("saw leaders in %d terms only", len(c.leaders))
	}
	for term, who := range c.leaders {
		if len(who) != 1 {
			c.t.Errorf("term %d has leaders %v", term, who)
		}
	}
}

func (c *cluster) waitLeader(among []string) string {
	c.t.Helper()
	for range 10_000 {
		for _, id := range among {
			if c.nodes[id].State() == raft.Leader {
				return id
			}
		}
		time.Sleep(time.Millisecond)
	}
	c.t.Fatalf("no leader among %v", among)
	return ""
}

func (c *cluster) waitApplied(ids []string, want int) {
	c.t.Helper()
	for _, id := range ids {
		for range 20_000 {
			if c.fsms[id].count() == want {
				break
			}
			time.Sleep(time.Millisecond)
		}
		if got := c.fsms[id].count(); got != want {
			c.t.Errorf("%s applied %d commands, want %d", id, got, want)
		}
	}
}

type countingFSM struct {
	mu sync.Mutex
	n  int
}

func (f *countingFSM) Apply(*raft.Log) any { f.mu.Lock(); defer f.mu.Unlock(); f.n++; return nil }
func (f *countingFSM) count() int          { f.mu.Lock(); defer f.mu.Unlock(); return f.n }

func (f *countingFSM) Snapshot() (raft.FSMSnapshot, error) { return nil, fmt.Errorf("not needed here") }
func (f *countingFSM) Restore(r io.ReadCloser) error       { return r.Close() }
