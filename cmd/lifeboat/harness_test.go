package main

import (
	"bytes"
	"context"
	"encoding/json"
	"flag"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/rogpeppe/go-internal/testscript"

	"lifeboat/internal/cli"
)

var update = flag.Bool("update", false, "rewrite the golden files of this package")

func TestMain(m *testing.M) {
	testscript.Main(m, map[string]func(){
		"lifeboat":    main,
		"fakecluster": fakeClusterMain,
	})
}

// world is a cluster of fake nodes and an operator who may use it.
type world struct {
	t       *testing.T
	certs   *testCerts
	admin   *fakeAdmin
	node    *fakeNode
	environ map[string]string
	stdin   string
	ask     func(context.Context, string) (string, error)
}

func newWorld(t *testing.T, state *fakeState) *world {
	t.Helper()
	certs, err := newTestCerts(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	w := &world{t: t, certs: certs, admin: newFakeAdmin(state)}
	w.node = w.start("n1", w.admin)
	w.use(w.node.addr)
	return w
}

// start runs one more node until the end of the test.
func (w *world) start(name string, admin *fakeAdmin) *fakeNode {
	w.t.Helper()
	n, err := startFakeNode(w.t.Context(), w.certs, name, admin)
	if err != nil {
		w.t.Fatal(err)
	}
	w.t.Cleanup(func() { n.stop() })
	return n
}

// use points the operator at the addresses.
func (w *world) use(addrs ...string) {
	w.t.Helper()
	path, err := w.certs.writeContext(addrs...)
	if err != nil {
		w.t.Fatal(err)
	}
	w.environ = map[string]string{"LIFEBOAT_CONTEXT": path, "HOME": w.certs.dir, "XDG_RUNTIME_DIR": w.certs.dir}
}

func (w *world) env(stdout, stderr io.Writer) *cli.Env {
	return &cli.Env{
		Stdin: strings.NewReader(w.stdin), Stdout: stdout, Stderr: stderr,
		LookupEnv:    func(name string) (string, bool) { v, ok := w.environ[name]; return v, ok },
		Now:          func() time.Time { return testNow },
		UID:          os.Getuid(),
		WatchEvery:   time.Millisecond,
		ReadPassword: w.ask,
		Build:        cli.Build{Version: "v1.2.3", Commit: "0123456789abcdef", Go: "go1.26", Platform: "linux/amd64"},
	}
}

type result struct {
	code           int
	stdout, stderr string
}

func (w *world) run(args ...string) result { return w.runCtx(w.t.Context(), args...) }

func (w *world) runCtx(ctx context.Context, args ...string) result {
	var stdout, stderr bytes.Buffer
	code := run(ctx, args, w.env(&stdout, &stderr))
	return result{code, stdout.String(), stderr.String()}
}

// transcript runs command lines and writes down what was asked of the cluster,
// what was printed and the exit code.
func (w *world) transcript(lines ...string) string {
	var b strings.Builder
	for _, line := range lines {
		w.admin.mu.Lock()
		w.admin.calls = nil
		w.admin.mu.Unlock()
		r := w.run(strings.Fields(line)...)
		fmt.Fprintf(&b, "$ lifeboat %s\n", line)
		for _, call := range w.admin.calls {
			fmt.Fprintf(&b, "[sent] %s\n", compactJSON(w.t, call))
		}
		b.WriteString(r.stdout)
		for _, l := range strings.SplitAfter(r.stderr, "\n") {
			if l != "" {
				fmt.Fprintf(&b, "[stderr] %s", l)
			}
		}
		if r.stderr != "" && !strings.HasSuffix(r.stderr, "\n") {
			b.WriteByte('\n')
		}
		if r.code != 0 {
			fmt.Fprintf(&b, "[exit %d]\n", r.code)
		}
		b.WriteByte('\n')
	}
	return strings.ReplaceAll(strings.ReplaceAll(b.String(), w.node.addr, "NODE"), w.certs.dir, "DIR")
}

// compactJSON undoes the white space that protojson varies on purpose.
func compactJSON(t *testing.T, call string) string {
	t.Helper()
	procedure, request, _ := strings.Cut(call, " ")
	buf := bytes.NewBufferString(procedure + " ")
	if err := json.Compact(buf, []byte(request)); err != nil {
		t.Fatalf("recorded call %q: %v", call, err)
	}
	return buf.String()
}

func golden(t *testing.T, name, got string) {
	t.Helper()
	path := filepath.Join("testdata", "golden", name+".txt")
	if *update {
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(got), 0o644); err != nil {
			t.Fatal(err)
		}
		return
	}
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatalf("%v; run the test with -update", err)
	}
	if diff := cmp.Diff(string(want), got); diff != "" {
		t.Errorf("%s changed (-want +got); if it should, run the test with -update and read the diff:\n%s", path, diff)
	}
}
