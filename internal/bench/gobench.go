package main

import (
	"bufio"
	"bytes"
	"context"
	"fmt"
	"os/exec"
	"strconv"
	"strings"
)

// figures of Go benchmarks: name of the benchmark → unit → value.
type figures map[string]map[string]float64

// goBench runs benchmarks of a package. runs is a -benchtime; the count of
// cores is taken off the names.
func (b *bench) goBench(ctx context.Context, pkg, pattern, runs string) (figures, error) {
	cmd := exec.CommandContext(ctx, "go", "test", "-tags", b.tags, "-run", "^$", "-bench", pattern, "-benchtime", runs, "-timeout", "10m", pkg)
	out, err := cmd.CombinedOutput()
	if err != nil {
		return nil, fmt.Errorf("run %s: %w\n%s", strings.Join(cmd.Args, " "), err, lastLines(out, 10))
	}
	f := parse(out)
	if len(f) == 0 {
		return nil, fmt.Errorf("run %s: no benchmark has run", strings.Join(cmd.Args, " "))
	}
	return f, nil
}

// parse reads what `go test -bench` prints: name, runs, and pairs of value and
// unit.
func parse(out []byte) figures {
	f := figures{}
	for s := bufio.NewScanner(bytes.NewReader(out)); s.Scan(); {
		fields := strings.Fields(s.Text())
		if len(fields) < 4 || !strings.HasPrefix(fields[0], "Benchmark") {
			continue
		}
		name := strings.TrimPrefix(fields[0], "Benchmark")
		if i := strings.LastIndexByte(name, '-'); i > 0 {
			if _, err := strconv.Atoi(name[i+1:]); err == nil {
				name = name[:i]
			}
		}
		units := map[string]float64{}
		for i := 2; i+1 < len(fields); i += 2 {
			if v, err := strconv.ParseFloat(fields[i], 64); err == nil {
				units[fields[i+1]] = v
			}
		}
		f[name] = units
	}
	return f
}

func (b *bench) commits(ctx context.Context) error {
	f, err := b.goBench(ctx, "./node", "^BenchmarkCommit$", "12x")
	if err != nil {
		return err
	}
	c := f["Commit"]
	ours, bare := c["changes/s"], c["bare-changes/s"]
	b.add(atLeast("power-state changes through three nodes, fsync, TLS", ours, "changes/s", 200000),
		result{Name: "  the same beside bare hashicorp/raft that decodes and forgets", Value: ours, Unit: "changes/s", Baseline: bare, Ratio: ours / bare,
			Target: "ratio ≥ 0.5", Met: ours >= bare/2},
		result{Name: "  the same per core: seconds of CPU time, not of the clock", Value: c["changes/s/core"], Unit: "changes/s", Baseline: c["bare-changes/s/core"], Ratio: c["changes/s/core"] / c["bare-changes/s/core"]})
	return nil
}

func (b *bench) usage(ctx context.Context) error {
	f, err := b.goBench(ctx, "./node", "^BenchmarkUsageEvents$", "400000x")
	if err != nil {
		return err
	}
	day, err := b.goBench(ctx, "./node", "^BenchmarkUsageDay$", "1x")
	if err != nil {
		return err
	}
	d := day["UsageDay"]
	b.add(atLeast("resource events through three nodes, fsync, TLS", f["UsageEvents"]["events/s"], "events/s", 50000),
		atMost("a day of 1,000,000 open resources closed, and all its records read", d["s-with-records"], "s", 15),
		atMost("  longest Apply meanwhile, 500 events an entry", d["ms-longest-apply"], "ms", 20))
	return nil
}

func (b *bench) unchanged(ctx context.Context) error {
	f, err := b.goBench(ctx, "./node", "^BenchmarkUnchanged", "2s")
	if err != nil {
		return err
	}
	soft, tls := f["Unchanged"]["reports/s/core"], f["UnchangedTLS"]
	b.add(atLeast("reports of 100 unchanged VMs at the soft view, no log entry", soft, "reports/s per core", 10000),
		result{Name: "  the same through TLS and HTTP/2, agents on the same cores", Value: tls["reports/s/core"], Unit: "reports/s per core", Baseline: soft, Ratio: tls["reports/s/core"] / soft})
	return nil
}

func (b *bench) fleet(ctx context.Context) error {
	f, err := b.goBench(ctx, "./node", "^(BenchmarkFleet|BenchmarkSeal)$", "2s")
	if err != nil {
		return err
	}
	const cpu = "µs-cpu/report"
	b.add(atMost("Apply of one host's report, 1 VM changed", f["Fleet/report-1"][cpu], "µs", 20),
		atMost("  10 of 100 VMs changed", f["Fleet/report-10"][cpu], "µs", 20),
		atMost("  100 of 100 VMs changed", f["Fleet/report-100"][cpu], "µs", 20),
		atMost("heap in use, a 4 KiB definition for every VM", f["Fleet/heap"]["MiB"], "MiB", 1024),
		info("  of it for each VM", f["Fleet/heap"]["bytes/VM"], "bytes"),
		info("  a definition, compressed and sealed", f["Seal"]["bytes/sealed"], "bytes"),
		info("digest when every host has changed", f["Fleet/heap"]["fold-ms"], "ms"),
		info("Decide when nothing is to be done", f["Fleet/decide"]["ns/op"]/1e6, "ms"))
	return nil
}
