package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"
	"time"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if done, err := child(ctx, os.Args[1:]); done {
		if err != nil {
			fmt.Fprintln(os.Stderr, "bench:", err)
			os.Exit(1)
		}
		return
	}
	if err := run(ctx); err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
		os.Exit(1)
	}
}

// bench is one run of all measurements.
type bench struct {
	lifeboat, lab, tags string
	kills, storm        int
	watch               time.Duration
	seedIndex           uint64 // of the state that million left; 0 = none
	results             []result
	failed              []error
}

func run(ctx context.Context) error {
	var b bench
	out := flag.String("o", "bench-results.json", "write the figures to this file")
	flag.StringVar(&b.lifeboat, "lifeboat", "bin/lifeboat", "the program, for the drills")
	flag.StringVar(&b.lab, "lab", "bin/lab-result.json", "figures that `make lab-demo` left")
	flag.StringVar(&b.tags, "tags", "hashicorpmetrics", "build tags")
	long := flag.Bool("long", false, "measure what takes long, instead of the rest, and keep the other figures of the file")
	peers := flag.Bool("peers", false, "measure beside programs of others that are installed here, instead of the rest, and keep the other figures of the file")
	only := flag.String("only", "", "measure only the parts in whose names this occurs")
	flag.IntVar(&b.kills, "kills", 50, "how often a leader is killed, and stopped, for the failover")
	flag.IntVar(&b.storm, "storm", 200, "how many processes are killed under write load")
	flag.DurationVar(&b.watch, "watch", time.Minute, "how long a cluster with many agents is watched")
	flag.Parse()
	began := time.Now()
	fmt.Printf("%s, %d cores, load %s; %s\n", cpu(), runtime.NumCPU(), load(), began.UTC().Format("2006-01-02 15:04 MST"))
	parts := b.parts()
	switch {
	case *long:
		parts = b.longParts()
	case *peers:
		parts = b.peerParts()
	}
	for _, part := range parts {
		if !strings.Contains(part.name, *only) {
			continue
		}
		fmt.Printf("  %s ... (load %s)\n", part.name, load())
		if err := part.measure(ctx); err != nil {
			if ctx.Err() != nil {
				return errors.New("interrupted")
			}
			b.failed = append(b.failed, fmt.Errorf("%s: %w", part.name, err))
		}
	}
	fmt.Println()
	printTable(os.Stdout, b.results)
	fmt.Printf("\n%.0f s, load %s at the end\n", time.Since(began).Seconds(), load())
	if *long || *peers || *only != "" {
		earlier, err := readResults(*out)
		if err != nil {
			return err
		}
		b.results = merge(earlier, b.results)
	}
	raw, err := json.MarshalIndent(b.results, "", "  ")
	if err != nil {
		return fmt.Errorf("encode results: %w", err)
	}
	if err := os.WriteFile(*out, append(raw, '\n'), 0o644); err != nil {
		return fmt.Errorf("write results: %w", err)
	}
	return errors.Join(b.failed...)
}

// part is something that is measured by itself.
type part struct {
	name    string
	measure func(context.Context) error
}

func (b *bench) parts() []part {
	return []part{
		{"drill: hosts with BMCs", b.drillBMC},
		{"drill: hosts with leases", b.drillLease},
		{"lab", b.readLab},
		{"commits through three nodes", b.commits},
		{"reports without news", b.unchanged},
		{"a state of 10,000 hosts with 100 protected VMs each", b.fleet},
		{"usage: events, and a day of 1,000,000 resources", b.usage},
		{"a virtual hour of 10,000 hosts with 100 VMs each", b.simulator},
		{"the N+1 proof of 1,000 hosts with 100 VMs each", b.foresight},
		{"100 of 10,000 hosts die", b.storm100},
		{"1,000 restarts on 50 hosts", b.budget},
		{"failover", b.failover},
		{"1,000 agents", b.thousand},
	}
}

// longParts take some minutes each.
func (b *bench) longParts() []part {
	return []part{
		{"kills under write load", b.kill},
		{"10,000 agents", b.tenThousand},
		{"1M VMs", b.fresh},
	}
}

func load() string {
	raw, err := os.ReadFile("/proc/loadavg")
	if err != nil {
		return "unknown"
	}
	first, _, _ := strings.Cut(string(raw), " ")
	return first
}

func cpu() string {
	raw, _ := os.ReadFile("/proc/cpuinfo") // "" on other systems
	for line := range strings.Lines(string(raw)) {
		if name, ok := strings.CutPrefix(line, "model name"); ok {
			return strings.TrimSpace(strings.TrimLeft(name, "\t :"))
		}
	}
	return runtime.GOARCH
}

// figure is one round of a drill, of `lifeboat dev` or of the lab.
type figure struct {
	Name  string  `json:"name"`
	Order float64 `json:"order_seconds"`
}

func readFigures(path string) ([]figure, error) {
	raw, err := os.ReadFile(path)
	if err != nil {
		return nil, fmt.Errorf("read figures: %w", err)
	}
	var f []figure
	if err := json.Unmarshal(raw, &f); err != nil {
		return nil, fmt.Errorf("read figures of %s: %w", path, err)
	}
	return f, nil
}

// drill runs the drill and returns its rounds and how long all of it took.
func (b *bench) drill(ctx context.Context, fence string) ([]figure, time.Duration, error) {
	dir, err := os.MkdirTemp("", "lifeboat-bench-")
	if err != nil {
		return nil, 0, fmt.Errorf("make directory: %w", err)
	}
	defer os.RemoveAll(dir)
	file := filepath.Join(dir, "figures.json")
	cmd := exec.CommandContext(ctx, b.lifeboat, "dev", "--drill", "--fence="+fence, "--result="+file)
	cmd.Env = append(os.Environ(), "XDG_RUNTIME_DIR="+dir) // beside a cluster that somebody plays with
	began := time.Now()
	out, err := cmd.CombinedOutput()
	took := time.Since(began)
	if err != nil {
		return nil, 0, fmt.Errorf("run %s: %w\n%s", strings.Join(cmd.Args, " "), err, lastLines(out, 5))
	}
	f, err := readFigures(file)
	return f, took, err
}

func lastLines(out []byte, n int) []byte {
	lines := bytes.Split(bytes.TrimSpace(out), []byte("\n"))
	return bytes.Join(lines[max(0, len(lines)-n):], []byte("\n"))
}

func (b *bench) drillBMC(ctx context.Context) error {
	f, took, err := b.drill(ctx, "bmc")
	if err != nil {
		return err
	}
	b.orders("drill, BMC", f, 12)
	b.add(atMost("make demo, after the build", took.Seconds(), "s", 60))
	return nil
}

func (b *bench) drillLease(ctx context.Context) error {
	f, _, err := b.drill(ctx, "lease")
	if err != nil {
		return err
	}
	b.orders("drill, lease", f, 30)
	return nil
}

func (b *bench) readLab(context.Context) error {
	f, err := readFigures(b.lab)
	if errors.Is(err, os.ErrNotExist) {
		b.add(result{Name: "host death → start order: lab, BMC", Unit: "s", Target: "≤ 12", Note: "not measured here: run `make lab-demo` first"})
		return nil
	}
	if err != nil {
		return err
	}
	b.orders("lab, BMC", f, 12)
	return nil
}

// orders adds what two rounds of a drill took until the first start order: a
// host died; a host died with the leader on it.
func (b *bench) orders(where string, rounds []figure, bound float64) {
	for i, r := range rounds {
		name := "host death → start order: " + where
		limit := bound
		if i > 0 || strings.Contains(r.Name, "leader") {
			name += ", leader's machine too"
			limit += 3
		}
		b.add(atMost(name, r.Order, "s", limit))
	}
}
