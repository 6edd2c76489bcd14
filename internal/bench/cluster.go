package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"time"

	"lifeboat/internal/storm"
)

// child is this program as a part of a measurement. done: it was one.
func child(ctx context.Context, args []string) (done bool, err error) {
	if len(args) != 2 || args[0] != "agents" {
		return false, nil
	}
	var cfg storm.AgentsConfig
	if err := json.Unmarshal([]byte(args[1]), &cfg); err != nil {
		return true, fmt.Errorf("read configuration of agents: %w", err)
	}
	return true, storm.ActAsAgents(ctx, cfg, os.Stdout)
}

// agents starts this program as agents.
func agents(cfg storm.AgentsConfig) *exec.Cmd {
	text, err := json.Marshal(cfg)
	if err != nil {
		panic(err) // it holds only texts and numbers
	}
	self, err := os.Executable()
	if err != nil {
		self = os.Args[0]
	}
	// Agents have machines of their own: here they take what the nodes leave them.
	// Setpriority would do that for one thread of the process only.
	cmd := exec.Command("nice", "-n", "5", self, "agents", string(text))
	cmd.Env = append(os.Environ(), "GOGC=400")
	return cmd
}

// newCluster is three nodes on the disk of this directory, none of which runs; end
// takes everything away. raftTimeout 0 = as by default.
func (b *bench) newCluster(raftTimeout time.Duration) (c *storm.Cluster, end func(), err error) {
	program, err := filepath.Abs(b.lifeboat)
	if err != nil {
		return nil, nil, fmt.Errorf("find %s: %w", b.lifeboat, err)
	}
	if err := os.MkdirAll("bin", 0o755); err != nil {
		return nil, nil, fmt.Errorf("make directory: %w", err)
	}
	dir, err := os.MkdirTemp("bin", "bench-")
	if err == nil {
		dir, err = filepath.Abs(dir)
	}
	if err != nil {
		return nil, nil, fmt.Errorf("make directory: %w", err)
	}
	if c, err = storm.New(storm.Options{Program: program, Dir: dir, RaftTimeout: raftTimeout}); err != nil {
		return nil, nil, errors.Join(err, os.RemoveAll(dir))
	}
	return c, func() { c.Close(); _ = os.RemoveAll(dir) }, nil
}

// cluster is one that runs.
func (b *bench) cluster(ctx context.Context, raftTimeout time.Duration) (c *storm.Cluster, end func(), err error) {
	if c, end, err = b.newCluster(raftTimeout); err != nil {
		return nil, nil, err
	}
	if err = c.Start(); err == nil {
		_, err = c.Ready(ctx, 30*time.Second)
	}
	if err != nil {
		end()
		return nil, nil, err
	}
	return c, end, nil
}

func ms(d time.Duration) float64 { return float64(d.Microseconds()) / 1000 }

func (b *bench) fsync() (float64, error) {
	times, err := storm.Fsyncs("bin", 500)
	return ms(times.Percentile(50)), err
}

func (b *bench) failover(ctx context.Context) error {
	c, end, err := b.cluster(ctx, 0)
	if err != nil {
		return err
	}
	defer end()
	before, err := b.fsync()
	if err != nil {
		return err
	}
	kills, err := c.Failovers(ctx, b.kills)
	if err != nil {
		return err
	}
	stops, err := c.Stops(ctx, b.kills)
	if err != nil {
		return err
	}
	after, err := b.fsync()
	if err != nil {
		return err
	}
	n := strconv.Itoa(b.kills)
	b.add(atMost("leader killed with -9 → first committed write, p50 of "+n, kills.Percentile(50).Seconds(), "s", 1.2),
		atMost("  p95", kills.Percentile(95).Seconds(), "s", 2),
		info("  the longest", kills.Percentile(100).Seconds(), "s"),
		atMost("leader stopped in order → first committed write, p95 of "+n, ms(stops.Percentile(95)), "ms", 200),
		info("  p50 of the stops", ms(stops.Percentile(50)), "ms"),
		info("  the longest of the stops", ms(stops.Percentile(100)), "ms"),
		info("  fsync p50 of the same disk, before", before, "ms"),
		info("  fsync p50 of the same disk, after", after, "ms"))
	return nil
}

func (b *bench) thousand(ctx context.Context) error {
	return b.crowd(ctx, "1,000 agents, 1 s beat", 0, storm.CrowdOptions{Agents: 1000, Beat: time.Second}, 15)
}

// tenThousand agents and three nodes share two cores here. With the raft_timeout that
// docs/install.md has for such fleets, a node that is busy with the handshakes of
// them all is not taken for dead.
func (b *bench) tenThousand(ctx context.Context) error {
	return b.crowd(ctx, "10,000 agents, 10 s beat, raft_timeout 2s", 2*time.Second, storm.CrowdOptions{Agents: 10_000, Beat: 10 * time.Second}, 30)
}

func (b *bench) crowd(ctx context.Context, name string, raftTimeout time.Duration, o storm.CrowdOptions, back float64) error {
	c, end, err := b.cluster(ctx, raftTimeout)
	if err != nil {
		return err
	}
	defer end()
	o.VMs, o.For, o.Processes, o.Command = 100, b.watch, 4, agents
	r, err := c.Crowd(ctx, o)
	if err != nil {
		return err
	}
	kept := result{Name: name + ": changes of leader", Unit: "", Target: "0", Met: !r.Changed}
	if r.Changed {
		kept.Value = 1
	}
	b.add(kept,
		atMost(name+": all back after kill -9 of the leader", r.Back.Seconds(), "s", back),
		info(name+": nine in ten of them", r.BackMost.Seconds(), "s"),
		info(name+": CPU time of the nodes left, until all are back", r.NodesCPU.Seconds(), "s"),
		info(name+": CPU time of the agents meanwhile", r.AgentsCPU.Seconds(), "s"),
		info(name+": reports answered", r.Answers, "/s"),
		info(name+": the longest wait of one of them", float64(r.OldestMS)/1000, "s"),
		info(name+": calls that failed meanwhile", float64(r.Failures), ""),
		info(name+": CPU of the leader", r.LeaderCPU, "cores"),
		info(name+": memory of the leader", float64(r.LeaderRSS)/(1<<20), "MiB"),
		info(name+": memory of the leader at most", float64(r.LeaderPeak)/(1<<20), "MiB"),
		info(name+": registered and answered after", r.Joined.Seconds(), "s"))
	return nil
}

func (b *bench) kill(ctx context.Context) error {
	c, end, err := b.cluster(ctx, 0)
	if err != nil {
		return err
	}
	defer end()
	if err := c.Keep(ctx); err != nil {
		return err
	}
	d, err := c.Kills(ctx, b.storm, uint64(time.Now().UnixNano()))
	if err != nil {
		return err
	}
	lost := float64(len(d.Lost) + len(d.Doubled))
	b.add(result{Name: fmt.Sprintf("%d kill -9 under write load: confirmed writes lost or done twice", d.Kills), Value: lost, Target: "0", Met: lost == 0},
		info("  of them with all three nodes at once", float64(d.All), "times"),
		info("  writes confirmed", float64(d.Confirmed), ""),
		info("  writes whose outcome stayed unknown", float64(d.Unsure), ""))
	return d.Err()
}
