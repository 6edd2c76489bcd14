package labcluster

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"lifeboat/internal/lab"
)

func TestMain(m *testing.M) {
	lab.MaybeInit()
	code := m.Run()
	if err := shared.close(); err != nil {
		fmt.Fprintln(os.Stderr, "close the shared cluster:", err)
		code = 1
	}
	os.Exit(code)
}

const hosts = 3

// sharedCluster is one cluster for all tests: three hosts, each sharing its
// machine with a management node. A test that fails takes it down with it.
type sharedCluster struct {
	*Cluster
	bin    string // directory of the program
	failed error  // building it
	log    syncBuffer
	ups    int
}

var shared sharedCluster

func (s *sharedCluster) close() error {
	var err error
	if s.Cluster != nil {
		err = s.Cluster.Close()
		s.Cluster = nil
	}
	if s.bin != "" {
		err = errors.Join(err, os.RemoveAll(s.bin))
		s.bin = ""
	}
	return err
}

// build makes the program under test, as `make build` does.
func (s *sharedCluster) build(ctx context.Context) error {
	if s.bin != "" {
		return s.failed
	}
	dir, err := os.MkdirTemp("", "lifeboat-test-")
	if err != nil {
		return err
	}
	s.bin = dir // close removes it
	cmd := exec.CommandContext(ctx, "go", "build", "-trimpath", "-tags", "hashicorpmetrics", "-o", s.program(), "lifeboat/cmd/lifeboat")
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := cmd.CombinedOutput(); err != nil {
		s.failed = fmt.Errorf("build lifeboat: %w\n%s", err, out)
	}
	return s.failed
}

func (s *sharedCluster) program() string { return filepath.Join(s.bin, "lifeboat") }

func (s *sharedCluster) up(ctx context.Context, levels []string) error {
	if err := s.build(ctx); err != nil {
		return err
	}
	dir := os.Getenv("LAB_TEST_DIR") // keeps the logs
	if dir != "" {
		s.ups++
		dir = filepath.Join(dir, fmt.Sprint(s.ups))
	}
	c, err := Up(ctx, Options{
		Lab: lab.Options{Prefix: "clutest", Dir: dir, Hosts: hosts, Managers: hosts,
			ManagerOn: map[int]int{1: 1, 2: 2, 3: 3}, Log: &s.log},
		Binary: s.program(), Guests: 2, Levels: levels,
	})
	s.Cluster = c
	return err
}

// syncBuffer keeps the lab's log for the test that fails.
type syncBuffer struct {
	mu   sync.Mutex
	text strings.Builder
}

func (b *syncBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.text.Write(p)
}

func (b *syncBuffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.text.String()
}

// story is one test: a healthy cluster at its beginning, and at its end again.
type story struct {
	*testing.T
	*Cluster
	ctx   context.Context
	begin uint64 // the last event before
}

// begin hands out the shared cluster, healthy, with these fence levels. At the
// end of the test every guest must run exactly once and no two may ever have
// run at once.
func begin(t *testing.T, levels ...string) *story {
	t.Helper()
	if os.Getenv(lab.RequireEnv) != "1" {
		t.Skipf("takes minutes; `make test-lab` runs it (%s=1)", lab.RequireEnv)
	}
	lab.Require(t)
	ctx, cancel := context.WithTimeout(t.Context(), 3*time.Minute)
	t.Cleanup(cancel)
	from := len(shared.log.String())
	if shared.Cluster == nil {
		if err := shared.up(ctx, levels); err != nil {
			t.Fatalf("bring the cluster up: %v", err)
		}
	}
	s := &story{T: t, Cluster: shared.Cluster, ctx: ctx}
	t.Cleanup(func() {
		if t.Failed() {
			s.lament(shared.log.String()[from:])
			shared.Cluster = nil
			if err := s.Close(); err != nil {
				t.Errorf("close the cluster: %v", err)
			}
		}
	})
	s.begin = s.lastEvent()
	s.heal(levels)
	s.begin = s.lastEvent()
	return s
}

// heal makes everything whole and waits until the cluster is.
func (s *story) heal(levels []string) {
	s.Helper()
	for n := 1; n <= hosts; n++ {
		for _, err := range []error{s.Lab.Heal(s.ctx, n), s.Lab.BMCUp(s.ctx, n), s.Lab.BMCHeal(n), s.Lab.PowerOn(s.ctx, n), s.Lab.WaitLibvirtd(s.ctx, n)} {
			s.must(err)
		}
	}
	s.must(s.WaitHosts(s.ctx, "Up"))
	if !slices.Equal(levels, s.opts.Levels) {
		s.must(s.SetLevels(s.ctx, levels...))
		// An agent lets go of its watchdog a moment after the lease has ended.
		defer time.Sleep(2 * time.Second)
	}
	s.must(s.Ready(s.ctx))
	s.must(s.settled(s.ctx))
}

// end is the last line of a story: all is well again, and always was.
func (s *story) end() {
	s.Helper()
	s.heal(s.opts.Levels)
	s.must(s.Verify(s.ctx, s.Output()))
}

// lament shows what happened.
func (s *story) lament(log string) {
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	s.Logf("the lab's log:\n%s", log)
	events, err := s.Events(ctx, s.begin)
	text := ""
	for _, e := range events {
		text += fmt.Sprintf("%s %s %s\n", time.Unix(0, e.TimeUnixNs).UTC().Format("15:04:05.00"), e.Type, e.Text)
	}
	s.Logf("events (%v):\n%s", err, text)
	vms, err := s.VMs(ctx)
	for _, v := range vms {
		s.Logf("%s (%v): %v, copies on %v", v.Name, err, v, s.Lab.Copies(v.Name))
	}
	for n := 1; n <= hosts; n++ {
		for _, p := range []*lab.Program{s.Agent(n), s.Server(n)} {
			if p == nil {
				continue
			}
			raw, _ := os.ReadFile(p.LogPath())
			lines := strings.Split(strings.TrimSpace(string(raw)), "\n")
			s.Logf("%s:\n%s", p.LogPath(), strings.Join(lines[max(0, len(lines)-40):], "\n"))
		}
	}
}

func (s *story) must(err error) {
	s.Helper()
	if err != nil {
		s.Fatal(err)
	}
}

// within polls, as everything here happens in other processes.
func (s *story) within(most time.Duration, what string, ok func() bool) time.Duration {
	s.Helper()
	begin := time.Now()
	for !ok() {
		if time.Since(begin) > most {
			s.Fatalf("after %v: not yet: %s", most, what)
		}
		time.Sleep(50 * time.Millisecond)
	}
	return time.Since(begin)
}

// during checks for a while that something stays as it is.
func (s *story) during(d time.Duration, check func()) {
	for end := time.Now().Add(d); time.Now().Before(end); time.Sleep(100 * time.Millisecond) {
		check()
	}
}
