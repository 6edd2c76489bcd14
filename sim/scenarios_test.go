package sim_test

import (
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"lifeboat/sim/scenario"
)

// TestScenarios runs the project's own scenario files, each with two seeds:
// timing must not decide an outcome.
func TestScenarios(t *testing.T) {
	const root = "../testdata/scenarios"
	var paths []string
	err := filepath.WalkDir(root, func(path string, _ fs.DirEntry, err error) error {
		if strings.HasSuffix(path, ".yaml") {
			paths = append(paths, path)
		}
		return err
	})
	if err != nil || len(paths) == 0 {
		t.Fatalf("no scenario files: %v", err)
	}
	for _, path := range paths {
		name, _ := filepath.Rel(root, strings.TrimSuffix(path, ".yaml"))
		t.Run(name, func(t *testing.T) {
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
