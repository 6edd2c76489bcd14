package sim

import (
	"io/fs"
	"iter"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"lifeboat/sim/scenario"
)

// scenarioFiles are the project's own scenarios, by their name in testdata/scenarios.
// maxVMs leaves out the worlds that are larger.
func scenarioFiles(t *testing.T, maxVMs int) iter.Seq2[string, *scenario.File] {
	t.Helper()
	const dir = "../testdata/scenarios"
	return func(yield func(string, *scenario.File) bool) {
		err := filepath.WalkDir(dir, func(path string, _ fs.DirEntry, err error) error {
			if err != nil || filepath.Ext(path) != ".yaml" {
				return err
			}
			name, err := filepath.Rel(dir, path)
			if err != nil {
				return err
			}
			switch f := readScenario(t, path); {
			case len(f.VMs) > maxVMs:
			case !yield(strings.TrimSuffix(name, ".yaml"), f):
				return fs.SkipAll
			}
			return nil
		})
		if err != nil {
			t.Fatal(err)
		}
	}
}

func readScenario(t *testing.T, path string) *scenario.File {
	t.Helper()
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	f, err := scenario.Parse(path, data)
	if err != nil {
		t.Fatal(err)
	}
	return f
}
