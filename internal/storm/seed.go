package storm

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"time"

	"github.com/hashicorp/go-hclog"
	"github.com/hashicorp/raft"
	raftboltdb "github.com/hashicorp/raft-boltdb/v2"
)

// Seed gives a node that was never started a state: a snapshot, as if Raft had taken
// it at an index, in term 1.
func (c *Cluster) Seed(node, snapshot string, index uint64) (err error) {
	dir := c.DataDir(node)
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return fmt.Errorf("seed %s: %w", node, err)
	}
	in, err := os.Open(snapshot)
	if err != nil {
		return fmt.Errorf("seed %s: %w", node, err)
	}
	defer in.Close()
	store, err := raft.NewFileSnapshotStoreWithLogger(dir, 1, hclog.NewNullLogger())
	if err != nil {
		return fmt.Errorf("seed %s: %w", node, err)
	}
	var members raft.Configuration
	for _, n := range c.Names {
		members.Servers = append(members.Servers, raft.Server{ID: raft.ServerID(n), Address: raft.ServerAddress(c.Addrs[n])})
	}
	_, trans := raft.NewInmemTransport("")
	sink, err := store.Create(raft.SnapshotVersionMax, index, 1, members, 1, trans)
	if err != nil {
		return fmt.Errorf("seed %s: %w", node, err)
	}
	if _, err := io.Copy(sink, in); err != nil {
		return errors.Join(fmt.Errorf("seed %s: %w", node, err), sink.Cancel())
	}
	if err := sink.Close(); err != nil {
		return fmt.Errorf("seed %s: %w", node, err)
	}
	log, err := raftboltdb.New(raftboltdb.Options{Path: filepath.Join(dir, "raft.db"), MsgpackUseNewTimeFormat: true})
	if err != nil {
		return fmt.Errorf("seed %s: %w", node, err)
	}
	return errors.Join(log.SetUint64([]byte("CurrentTerm"), 1), log.Close())
}

// FreshResult is how a large state came to a node that had nothing.
type FreshResult struct {
	Started time.Duration // of nodes with the state, until they had a leader
	Caught  time.Duration // from the start of the fresh node until it had applied what the leader had
	Peak    map[string]int64
}

// Fresh starts two nodes with a state and then the third without, and waits until all
// agree.
func (c *Cluster) Fresh(ctx context.Context, snapshot string, index uint64) (*FreshResult, error) {
	last := len(c.Names) - 1
	for _, n := range c.Names[:last] {
		if err := c.Seed(n, snapshot, index); err != nil {
			return nil, err
		}
	}
	r := &FreshResult{Peak: map[string]int64{}}
	began := time.Now()
	if err := c.Start(c.Names[:last]...); err != nil {
		return nil, err
	}
	leader := ""
	if err := c.Within(ctx, 3*time.Minute, "the nodes with the state have a leader", func() bool {
		leader = c.Leader(ctx)
		return leader != "" && c.Status(ctx, leader, true).Vms > 0
	}); err != nil {
		return nil, err
	}
	r.Started = time.Since(began)
	began = time.Now()
	if err := c.Start(c.Names[last]); err != nil {
		return nil, err
	}
	if err := c.Within(ctx, 5*time.Minute, "the fresh node has caught up", func() bool {
		at := c.Status(ctx, c.Names[last], true)
		return at.Vms > 0 && at.AppliedIndex+maxBehind >= c.Status(ctx, leader, true).AppliedIndex
	}); err != nil {
		return nil, err
	}
	r.Caught = time.Since(began)
	if err := c.Agree(ctx, time.Minute); err != nil {
		return nil, err
	}
	for _, n := range c.Names {
		_, peak, err := Memory(c.nodes[n].PID())
		if err != nil {
			return nil, err
		}
		r.Peak[n] = peak
	}
	return r, nil
}
