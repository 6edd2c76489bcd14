package upgrade

import (
	"bytes"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// wanted says whether these tests run: LIFEBOAT_UPGRADE=1 for somebody who may lack
// the history, required where nothing may be skipped.
func wanted(t *testing.T) (must bool) {
	t.Helper()
	switch os.Getenv("LIFEBOAT_UPGRADE") {
	case "":
		t.Skip("builds two more versions and takes minutes; run `make test-upgrade`")
	case "required":
		return true
	}
	return false
}

func command(dir, name string, args ...string) (string, error) {
	cmd := exec.Command(name, args...)
	cmd.Dir = dir
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		return "", fmt.Errorf("%s %s: %w: %s", name, strings.Join(args, " "), err, stderr.String())
	}
	return strings.TrimSpace(string(out)), nil
}

func must(t *testing.T, dir, name string, args ...string) string {
	t.Helper()
	out, err := command(dir, name, args...)
	if err != nil {
		t.Fatal(err)
	}
	return out
}

// previous is the commit that testdata/upgrade/previous names.
func previous(t *testing.T, root string, must bool) string {
	t.Helper()
	path := filepath.Join(root, "testdata", "upgrade", "previous")
	raw, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	var name string
	for _, line := range strings.Split(string(raw), "\n") {
		if line = strings.TrimSpace(line); line != "" && !strings.HasPrefix(line, "#") {
			name = line
		}
	}
	commit, err := command(root, "git", "rev-parse", "--verify", "--quiet", name+"^{commit}")
	if err != nil {
		why := fmt.Sprintf("the previous build cannot be made: %s names %s, which this clone does not have; fetch the history (`git fetch --unshallow --tags`)", path, name)
		if must {
			t.Fatal(why)
		}
		t.Skip(why)
	}
	return commit
}

// build makes a program from a source tree.
func build(t *testing.T, source, version string) string {
	t.Helper()
	program := filepath.Join(t.TempDir(), "lifeboat")
	must(t, source, "go", "build", "-tags", "hashicorpmetrics", "-ldflags", "-s -w -X main.version="+version, "-o", program, "./cmd/lifeboat")
	return program
}

// checkout is the tree of a commit.
func checkout(t *testing.T, root, commit string) string {
	t.Helper()
	dir := t.TempDir()
	archive := filepath.Join(dir, "source.tar")
	must(t, root, "git", "archive", "-o", archive, commit)
	must(t, dir, "tar", "-xf", archive)
	return dir
}

// later is this tree as it stands, of the next feature level.
func later(t *testing.T, root string) string {
	t.Helper()
	dir := t.TempDir()
	for _, name := range strings.Split(must(t, root, "git", "ls-files", "--cached", "--others", "--exclude-standard"), "\n") {
		if strings.Contains(name, "testdata/") || strings.HasSuffix(name, "_test.go") {
			continue
		}
		if err := copyFile(filepath.Join(root, name), filepath.Join(dir, name)); err != nil && !os.IsNotExist(err) {
			t.Fatal(err)
		}
	}
	path := filepath.Join(dir, "fsm", "level.go")
	raw, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	level := regexp.MustCompile(`(?m)^const FeatureLevel = \d+$`)
	if !level.Match(raw) {
		t.Fatalf("%s has no line that says the feature level", path)
	}
	if err := os.WriteFile(path, level.ReplaceAll(raw, fmt.Appendf(nil, "const FeatureLevel = %d", newLevel+1)), 0o644); err != nil {
		t.Fatal(err)
	}
	return dir
}

func copyFile(from, to string) error {
	if err := os.MkdirAll(filepath.Dir(to), 0o755); err != nil {
		return err
	}
	in, err := os.Open(from)
	if err != nil {
		return err
	}
	defer in.Close()
	out, err := os.Create(to)
	if err != nil {
		return err
	}
	if _, err := io.Copy(out, in); err != nil {
		return err
	}
	return out.Close()
}
