package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"runtime/debug"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"lifeboat/internal/cli"
	"lifeboat/sim"
	"lifeboat/sim/scenario"
)

// SimFuzzCmd is 'lifeboat sim fuzz'.
type SimFuzzCmd struct {
	Hosts     string        `default:"20-50" placeholder:"N[-M]" help:"Hosts of a world; of a range each world draws its own."`
	VMs       int           `name:"vms" placeholder:"N" help:"VMs of a world; left out, three a host."`
	Hours     float64       `default:"2" help:"Virtual hours of a world."`
	Seed      uint64        `default:"1" help:"Seed of the first world; the next one has the next seed. 0: from the clock."`
	Runs      int           `placeholder:"N" help:"How many worlds; left out, one, or as many as --for allows."`
	For       time.Duration `placeholder:"TIME" help:"Begin no world after so long."`
	Parallel  int           `placeholder:"N" help:"Worlds at a time; left out, one for each core."`
	KeepGoing bool          `help:"Go on after a world that breaks a rule."`
	Shrink    int           `default:"300" help:"Runs that may be spent on making a failure small; 0 leaves it as it is."`
	Out       string        `default:"." placeholder:"DIR" help:"Where the scenario of a failure goes."`
}

// gcPercent of a heap of a world or two, some 50 MB.
const gcPercent = 800

// fuzzing is one run of the command.
type fuzzing struct {
	*SimFuzzCmd
	env   *cli.Env
	z     sim.Fuzz
	began time.Time

	mu     sync.Mutex
	next   uint64 // seed of the next world
	left   int
	ended  time.Time // no world begins after it; zero: whenever
	worlds int       // that were run to their end
	faults int
	least  int // faults of the world that had the fewest
	hours  float64
	seeds  seeds
	failed []uint64
	err    error
}

// Run runs worlds until one breaks a rule. That one is made small and written
// to a file, and the command that runs it is printed.
func (c *SimFuzzCmd) Run(ctx context.Context, env *cli.Env, g *cli.Globals) error {
	z := &fuzzing{SimFuzzCmd: c, env: env, began: env.Now(), next: c.Seed, left: c.Runs, z: sim.Fuzz{VMs: c.VMs, Hours: c.Hours}}
	var err error
	if z.z.Hosts, z.z.UpTo, err = hostRange(c.Hosts); err != nil {
		return err
	}
	if c.Hours <= 0 {
		return cli.Usage("", "--hours is %v: a world needs time", c.Hours)
	}
	if err := os.MkdirAll(c.Out, 0o755); err != nil {
		return fmt.Errorf("make the folder for scenarios that break a rule: %w", err)
	}
	if z.next == 0 {
		z.next = uint64(z.began.Unix()) * 1000 // so that two runs do not share worlds
	}
	switch {
	case c.Runs <= 0 && c.For > 0:
		z.left = 1 << 30
	case c.Runs <= 0:
		z.left = 1
	}
	if c.Seed == 0 {
		fmt.Fprintf(env.Stderr, "seeds from %d\n", z.next)
	}
	if c.For > 0 {
		z.ended = z.began.Add(c.For)
	}
	at := c.Parallel
	if at <= 0 {
		at = runtime.GOMAXPROCS(0)
	}
	work, stop := context.WithCancel(ctx)
	defer stop()
	var running sync.WaitGroup
	for range min(at, z.left) {
		running.Go(func() { z.work(work, stop) })
	}
	// Worlds are small and thrown away: collecting their garbage all the time
	// would cost a third of the run.
	defer debug.SetGCPercent(debug.SetGCPercent(gcPercent))
	over := make(chan struct{})
	go func() { running.Wait(); close(over) }()
	z.watch(over)
	text := z.summary()
	if err := cli.PrintValue(env, g, map[string]any{"worlds": z.worlds, "seeds": z.seeds.String(), "virtual_hours": z.hours, "faults": z.faults,
		"least_faults": z.least, "failed": z.failed, "seconds": env.Now().Sub(z.began).Seconds()}, text); err != nil {
		return err
	}
	switch {
	case len(z.failed) > 0:
		return &cli.Error{Exit: cli.ExitFailed, Text: fmt.Sprintf("%s of seeds %v break a rule", plural(len(z.failed), "world"), z.failed),
			Do: fmt.Sprintf("run one again with 'lifeboat sim run --seed %d %s'", z.failed[0], z.file(z.failed[0]))}
	case z.err != nil:
		return z.err
	case ctx.Err() != nil:
		return context.Cause(ctx)
	}
	return nil
}

func plural(n int, what string) string {
	if n == 1 {
		return "1 " + what
	}
	return fmt.Sprintf("%d %ss", n, what)
}

// hostRange reads 30 or 20-50.
func hostRange(text string) (low, high int, err error) {
	from, to, two := strings.Cut(text, "-")
	low, err = strconv.Atoi(from)
	high = low
	if err == nil && two {
		high, err = strconv.Atoi(to)
	}
	if err != nil || low < 1 || high < low {
		return 0, 0, cli.Usage("write --hosts 30, or --hosts 20-50 for a number that each world draws", "--hosts %s is no number of hosts", text)
	}
	return low, high, nil
}

// take is the seed of the next world; false when there is none.
func (z *fuzzing) take() (uint64, bool) {
	z.mu.Lock()
	defer z.mu.Unlock()
	if z.left <= 0 || !z.ended.IsZero() && z.env.Now().After(z.ended) {
		return 0, false
	}
	z.left--
	z.next++
	return z.next - 1, true
}

func (z *fuzzing) work(ctx context.Context, stop func()) {
	for ctx.Err() == nil {
		seed, ok := z.take()
		if !ok {
			return
		}
		f := z.z.World(seed)
		r, err := sim.Run(ctx, f, seed)
		if err != nil {
			return // it was told to end
		}
		z.count(f, r)
		if r.Passed {
			continue
		}
		err = z.tell(ctx, f, seed, r)
		z.mu.Lock()
		z.failed = append(z.failed, seed)
		z.err = errors.Join(z.err, err)
		z.mu.Unlock()
		if !z.KeepGoing || err != nil {
			stop()
		}
	}
}

func (z *fuzzing) count(f *scenario.File, r *sim.Result) {
	n := sim.Faults(f)
	z.mu.Lock()
	defer z.mu.Unlock()
	if z.worlds == 0 || n < z.least {
		z.least = n
	}
	z.worlds++
	z.faults += n
	z.hours += r.Virtual / 3600
	z.seeds.add(r.Seed)
}

// tell makes a failure small, writes it down and prints it.
func (z *fuzzing) tell(ctx context.Context, f *scenario.File, seed uint64, r *sim.Result) error {
	if z.Shrink > 0 {
		f = sim.Shrink(ctx, f, seed, z.Shrink)
		if small, err := sim.Run(context.WithoutCancel(ctx), f, seed); err == nil {
			r = small
		}
	}
	f.Path = z.file(seed)
	r.File = f.Path
	z.mu.Lock()
	defer z.mu.Unlock()
	if err := r.Write(z.env.Stdout); err != nil {
		return err
	}
	if err := os.WriteFile(f.Path, f.Write(), 0o644); err != nil {
		return fmt.Errorf("write the scenario of the failure: %w", err)
	}
	_, err := fmt.Fprintf(z.env.Stdout, "      lifeboat sim run --seed %d %s\n\n", seed, f.Path)
	return err
}

func (z *fuzzing) file(seed uint64) string {
	return filepath.Join(z.Out, fmt.Sprintf("sim-seed-%d.yaml", seed))
}

// How often the progress is told: in place on a terminal, as lines elsewhere.
const (
	tellTerminal = time.Second
	tellLines    = 20 * time.Second
)

func (z *fuzzing) watch(over <-chan struct{}) {
	every, before, after := tellLines, "", "\n"
	if z.env.Terminal {
		every, before, after = tellTerminal, "\r\x1b[K", ""
	}
	tick := time.NewTicker(every)
	defer tick.Stop()
	for {
		select {
		case <-over:
			if z.env.Terminal {
				fmt.Fprint(z.env.Stderr, before)
			}
			return
		case <-tick.C:
			z.mu.Lock()
			line := z.progress()
			z.mu.Unlock()
			fmt.Fprint(z.env.Stderr, before, line, after)
		}
	}
}

func (z *fuzzing) progress() string {
	took := z.env.Now().Sub(z.began)
	return fmt.Sprintf("%s in %s, %.1f a minute, seeds %s, %d faults, %d broken", plural(z.worlds, "world"), took.Round(time.Second),
		float64(z.worlds)/took.Minutes(), &z.seeds, z.faults, len(z.failed))
}

func (z *fuzzing) summary() string {
	took := z.env.Now().Sub(z.began)
	if z.worlds == 0 {
		return fmt.Sprintf("no world came to its end in %s (first seed %d)", took.Round(time.Second), z.Seed)
	}
	verdict := "no rule was broken"
	if len(z.failed) > 0 {
		slices.Sort(z.failed)
		verdict = fmt.Sprintf("%d broke a rule: seeds %v", len(z.failed), z.failed)
	}
	return fmt.Sprintf("%s of %s hosts and %g virtual hours, seeds %s: %d faults, at least %d in each; %s. %s, %.1f worlds a minute.",
		plural(z.worlds, "world"), z.Hosts, z.Hours, &z.seeds, z.faults, z.least, verdict, took.Round(time.Second), float64(z.worlds)/took.Minutes())
}

// seeds is a set of numbers that come almost in order.
type seeds [][2]uint64

func (s *seeds) add(n uint64) {
	l := *s
	i := slices.IndexFunc(l, func(r [2]uint64) bool { return n <= r[1]+1 })
	switch {
	case i < 0:
		l = append(l, [2]uint64{n, n})
		i = len(l) - 1
	case n+1 < l[i][0]:
		l = slices.Insert(l, i, [2]uint64{n, n})
	default:
		l[i] = [2]uint64{min(n, l[i][0]), max(n, l[i][1])}
	}
	if i+1 < len(l) && l[i][1]+1 >= l[i+1][0] {
		l[i][1] = max(l[i][1], l[i+1][1])
		l = slices.Delete(l, i+1, i+2)
	}
	*s = l
}

func (s *seeds) String() string {
	var parts []string
	for _, r := range *s {
		if r[0] == r[1] {
			parts = append(parts, strconv.FormatUint(r[0], 10))
		} else {
			parts = append(parts, fmt.Sprintf("%d-%d", r[0], r[1]))
		}
	}
	if len(parts) == 0 {
		return "none"
	}
	return strings.Join(parts, " ")
}
