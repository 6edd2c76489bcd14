package sim

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"lifeboat/sim/scenario"
)

// restarts runs a world in which ten hosts with a hundred VMs each die together, and 50
// are left that start four at a time in 2 s each. It returns the time from the first start
// order to the end of the last start, and what the budget of starts alone would take.
func restarts(tb testing.TB, seed uint64) (took, bound time.Duration) {
	const left, dead, vms, atOnce, start = 50, 10, 100, 4, 2 * time.Second
	var b, off strings.Builder
	fmt.Fprintf(&b, "settings: {starts_per_host: %d, starts_per_cluster: %d, brake_percent: 50}\nworld: {start: %s}\nhosts: {count: %d, prefix: h}\nvms:\n", atOnce, left*atOnce, start, left+dead)
	for i := left + 1; i <= left+dead; i++ {
		fmt.Fprintf(&b, "  - {count: %d, prefix: v%d-, host: h%d, cpus: 1, memory: 1GiB}\n", vms, i, i)
		fmt.Fprintf(&off, "power h%d off, ", i)
	}
	fmt.Fprintf(&b, "steps:\n  - 10s: [%s]\nuntil: 3m\nexpect:\n  work: {done: %d, error: 0, open: 0}\n", strings.TrimSuffix(off.String(), ", "), dead*vms)
	f, err := scenario.Parse("budget.yaml", []byte(b.String()))
	if err != nil {
		tb.Fatal(err)
	}
	w := newWorld(f, seed)
	w.live()
	if r := w.result(seed); !r.Passed {
		var t strings.Builder
		_ = r.Write(&t)
		tb.Fatal(t.String())
	}
	var at []time.Duration
	for _, t := range w.book.orderAt { // in any order
		at = append(at, t)
	}
	if len(at) != dead*vms {
		tb.Fatalf("%d VMs were ordered, of %d", len(at), dead*vms)
	}
	return slices.Max(at) + start - slices.Min(at), dead * vms / (left * atOnce) * start
}

// A storm is over soon after the budget of starts allows it: no slot is empty for long.
func TestTheBudgetIsUsed(t *testing.T) {
	for seed := range uint64(3) {
		took, bound := restarts(t, seed)
		t.Logf("seed %d: %s, the budget alone %s", seed, took, bound)
		if took > bound*12/10 {
			t.Errorf("seed %d: 1,000 restarts took %s, more than 1.2 times %s", seed, took, bound)
		}
	}
}

// BenchmarkRestarts is the time, by the world's clock, of 1,000 restarts on 50 hosts.
func BenchmarkRestarts(b *testing.B) {
	var took, bound time.Duration
	for b.Loop() {
		took, bound = restarts(b, 1)
	}
	b.ReportMetric(took.Seconds(), "s-world")
	b.ReportMetric(bound.Seconds(), "s-bound")
}
