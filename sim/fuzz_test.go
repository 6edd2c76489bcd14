package sim_test

import (
	"strings"
	"testing"

	"lifeboat/sim"
	"lifeboat/sim/scenario"
)

// TestRandomWorlds runs a few; CI runs fresh seeds for longer.
func TestRandomWorlds(t *testing.T) {
	z := sim.Fuzz{Hosts: 6, VMs: 12, Hours: 0.25}
	for seed := range uint64(6) {
		if r := runFile(t, z.World(seed+1), seed+1); !r.Passed {
			var b strings.Builder
			_ = r.Write(&b)
			t.Error(b.String())
		}
	}
}

func run(t *testing.T, text string) *sim.Result {
	t.Helper()
	f, err := scenario.Parse("x.yaml", []byte(text))
	if err != nil {
		t.Fatal(err)
	}
	return runFile(t, f, 1)
}

func runFile(t testing.TB, f *scenario.File, seed uint64) *sim.Result {
	t.Helper()
	r, err := sim.Run(t.Context(), f, seed)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

// TestPositiveControl: a soft lease accepted as proof lets a frozen host thaw
// with a VM that was started elsewhere. A simulator that does not see this
// sees nothing.
func TestPositiveControl(t *testing.T) {
	r := run(t, `
settings: {accept_soft_watchdog: true}
hosts: {n1: {fence: [lease], watchdog: soft}, n2: {}, n3: {}}
vms: {vm1: {host: n1}}
steps:
  - 10s: [freeze n1]
  - 60s: [thaw n1]
`)
	if r.Passed {
		t.Fatal("two live copies were not seen")
	}
	if what := r.Failures[0].What; !strings.HasPrefix(what, "2 ") && !strings.HasPrefix(what, "1 ") {
		t.Errorf("rule %q was broken, want 1 or 2", what)
	}
}

// TestShrink: what breaks a rule is made small and still breaks it.
func TestShrink(t *testing.T) {
	f, err := scenario.Parse("x.yaml", []byte(`
settings: {accept_soft_watchdog: true}
hosts: {count: 6, prefix: n, fence: [lease], watchdog: soft}
vms: [{count: 12, prefix: v, host: "*"}]
steps:
  - 5s: [power n6 off, manager m3 kill]
  - 5s: [freeze n1]
  - 20s: [network n4 off]
  - 40s: [network n4 on, thaw n1]
`))
	if err != nil {
		t.Fatal(err)
	}
	small := sim.Shrink(t.Context(), f, 1, 100)
	if r := runFile(t, small, 1); r.Passed {
		t.Fatalf("it breaks nothing any more:\n%s", small.Write())
	}
	commands := 0
	for _, s := range small.Steps {
		commands += len(s.Commands)
	}
	if commands != 1 || len(small.VMs) != 1 {
		t.Errorf("%d commands and %d VMs are left:\n%s", commands, len(small.VMs), small.Write())
	}
}

func BenchmarkWorld(b *testing.B) {
	z := sim.Fuzz{Hosts: 20, VMs: 60, Hours: 0.5}
	f := z.World(1)
	for b.Loop() {
		runFile(b, f, 1)
	}
}
