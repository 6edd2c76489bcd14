package main

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"time"
)

// million measures the snapshot of a state with a million VMs, and leaves it where
// fresh looks for it.
func (b *bench) million(ctx context.Context) error {
	seed, err := b.seedFile()
	if err != nil {
		return err
	}
	if err := os.Setenv("LIFEBOAT_BENCH_SEED", seed); err != nil {
		return fmt.Errorf("pass on a file name: %w", err)
	}
	defer os.Unsetenv("LIFEBOAT_BENCH_SEED")
	f, err := b.goBench(ctx, "./node", "^BenchmarkSnapshot$", "1x")
	if err != nil {
		return err
	}
	x := f["Snapshot"]
	wait := atMost("1M VMs: the longest Apply while a snapshot is written", x["ms-longest"], "ms", 20)
	b.seedIndex = uint64(x["index"])
	b.add(wait,
		info("  the same with no snapshot", x["ms-longest-calm"], "ms"),
		info("  entries applied meanwhile", x["entries"], ""),
		info("  writing it", x["s-write"], "s"),
		info("  its size, definitions included", x["MiB"], "MiB"),
		atMost("  restoring it", x["s-restore"], "s", 30))
	return nil
}

func (b *bench) seedFile() (string, error) {
	if err := os.MkdirAll("bin", 0o755); err != nil {
		return "", fmt.Errorf("make directory: %w", err)
	}
	return filepath.Abs(filepath.Join("bin", "bench-seed"))
}

// fresh has a node without anything catch up with two that have a million VMs.
func (b *bench) fresh(ctx context.Context) error {
	seed, err := b.seedFile()
	if err != nil {
		return err
	}
	defer os.Remove(seed)
	if b.seedIndex == 0 {
		if err := b.million(ctx); err != nil {
			return err
		}
	}
	c, end, err := b.newCluster(0)
	if err != nil {
		return err
	}
	defer end()
	r, err := c.Fresh(ctx, seed, b.seedIndex)
	if err != nil {
		return err
	}
	peak := int64(0)
	for _, p := range r.Peak {
		peak = max(peak, p)
	}
	b.add(atMost("1M VMs: a fresh node has caught up, over TLS", r.Caught.Seconds(), "s", 60),
		atMost("1M VMs: resident memory of a node at most", float64(peak)/(1<<20), "MiB", 2048),
		info("  of the fresh one", float64(r.Peak["n3"])/(1<<20), "MiB"),
		info("  two nodes that have it start and elect", r.Started.Round(time.Millisecond).Seconds(), "s"))
	return nil
}
