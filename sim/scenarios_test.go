package sim_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"lifeboat/sim/scenario"
)

// TestScenarios runs the project's own scenario files, each with two seeds:
// timing must not decide an outcome.
func TestScenarios(t *testing.T) {
	paths, err := filepath.Glob("../testdata/scenarios/*.yaml")
	if err != nil || len(paths) == 0 {
		t.Fatalf("no scenario files: %v", err)
	}
	for _, path := range paths {
		t.Run(strings.TrimSuffix(filepath.Base(path), ".yaml"), func(t *testing.T) {
			t.Parallel()
			data, err := os.ReadFile(path)
			if err != nil {
				t.Fatal(err)
			}
			for seed := range uint64(2) {
				f, err := scenario.Parse(path, data)
				if err != nil {
					t.Fatal(err)
				}
				r := runFile(t, f, seed+1)
				if !r.Passed {
					var b strings.Builder
					_ = r.Write(&b)
					t.Error(b.String())
				}
			}
		})
	}
}
