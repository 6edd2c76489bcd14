package sim_test

import (
	"strings"
	"testing"

	"lifeboat/sim"
	"lifeboat/sim/scenario"
)

// TestSameSeedSameRun: a run can be repeated, word for word.
func TestSameSeedSameRun(t *testing.T) {
	z := sim.Fuzz{Hosts: 6, VMs: 12, Hours: 0.1}
	a, b := runFile(t, z.World(3), 3), runFile(t, z.World(3), 3)
	if x, y := strings.Join(a.Story, "\n"), strings.Join(b.Story, "\n"); x != y || x == "" {
		t.Error("two runs of one seed differ")
	}
}

// TestFailureIsExplained: what was expected, what happened, the line of the
// file, and the log that explains it.
func TestFailureIsExplained(t *testing.T) {
	r := run(t, `
hosts: {count: 3, prefix: n}
vms: {vm1: {host: n1}}
steps:
  - 10s: [power n1 off]
expect:
  vms:
    vm1: {host: n1, state: stopped, starts: 0, within: 1s}
  fenced: [n2]
  alerts: {HOST/n1: 3}
  alerts_exact: true
  work: {done: 4}
  hosts: {n2: {running: 7}}
`)
	var b strings.Builder
	if err := r.Write(&b); err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{
		"FAIL", "x.yaml:8: vm1 host", "expected: n1", "actual:   n2", "x.yaml:8: vm1 state", "vm1 within", "x.yaml:9: fenced",
		"x.yaml:10: alerts HOST/n1", "alerts_exact", "VM/vm1: 1", "work done", "running on n2", "VM.START.ORDER", "* power n1 off",
	} {
		if !strings.Contains(b.String(), want) {
			t.Errorf("it does not say %q:\n%s", want, b.String())
		}
	}
}

// TestOperatorsError: to confirm the death of a host that lives fails the file.
func TestOperatorsError(t *testing.T) {
	r := run(t, `
hosts: {n1: {fence: []}, n2: {}, n3: {}}
vms: {vm1: {host: n1}}
steps:
  - 10s: [network n1 off]
  - 30s: [confirm-dead n1]
`)
	if r.Passed || r.Failures[0].What != "operator's error" {
		t.Errorf("%+v", r.Failures)
	}
}

// TestEveryCommandIsCarriedOut: whatever the format takes, the world does.
func TestEveryCommandIsCarriedOut(t *testing.T) {
	words := strings.NewReplacer("NEWH", "n9", "NEWV", "v9", "+D", "+1s", "KEY VALUE", "KEYVALUE", "rule add ...", "RULE")
	for _, pattern := range scenario.Patterns() {
		choices := []string{""}
		for _, w := range strings.Fields(words.Replace(pattern)) {
			var next []string
			for _, alt := range strings.Split(w, "|") {
				switch alt {
				case "H", "A":
					alt = "n1"
				case "V":
					alt = "v1"
				case "N":
					alt = "1"
				case "M":
					alt = "m2"
				case "D":
					alt = "1s"
				case "RULE":
					alt = `"rule add {hosts: {n1: 1}, vms: [v1]}"`
				case "KEYVALUE":
					alt = "priority high"
					if strings.HasPrefix(pattern, "set") {
						alt = "placement spread"
					}
				}
				for _, c := range choices {
					next = append(next, strings.TrimSpace(c+" "+alt))
				}
			}
			choices = next
		}
		for _, c := range choices {
			r := run(t, "hosts: {n1: {}, n2: {}}\nvms: {v1: {host: n2}}\nsteps:\n  - 1s: ["+c+"]\nuntil: 1s\n")
			for _, f := range r.Failures {
				if f.What == "commands" {
					t.Errorf("%s: %s", c, f.Actual)
				}
			}
		}
	}
}
