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

// h4 shares its machine with no management node: it may die with all three of
// them alive.
const (
	hosts    = 4
	managers = 3
)

// clusters are used by one test each at a time; two fill the time in which one
// waits. A test that fails takes its cluster down with it.
type clusters struct {
	build sync.Once
	bin   string // directory of the program
	err   error  // building it

	mu   sync.Mutex
	free []*sharedCluster
	some *sync.Cond // one is free
}

var shared = newClusters("clutest-a", "clutest-b")

func newClusters(prefixes ...string) *clusters {
	cs := &clusters{}
	cs.some = sync.NewCond(&cs.mu)
	for _, p := range prefixes {
		cs.free = append(cs.free, &sharedCluster{prefix: p})
	}
	return cs
}

// take waits for a free one: best one that has these levels already, then one
// that runs.
func (cs *clusters) take(levels []string) *sharedCluster {
	cs.mu.Lock()
	defer cs.mu.Unlock()
	for len(cs.free) == 0 {
		cs.some.Wait()
	}
	best := slices.MaxFunc(cs.free, func(a, b *sharedCluster) int { return a.fits(levels) - b.fits(levels) })
	cs.free = slices.DeleteFunc(cs.free, func(s *sharedCluster) bool { return s == best })
	return best
}

func (cs *clusters) give(s *sharedCluster) {
	cs.mu.Lock()
	defer cs.mu.Unlock()
	cs.free = append(cs.free, s)
	cs.some.Signal()
}

func (cs *clusters) close() error {
	var errs []error
	for _, s := range cs.free {
		if s.Cluster != nil {
			errs = append(errs, s.Close())
		}
	}
	if cs.bin != "" {
		errs = append(errs, os.RemoveAll(cs.bin))
	}
	return errors.Join(errs...)
}

// program makes the program under test, as `make build` does.
func (cs *clusters) program(ctx context.Context) (string, error) {
	cs.build.Do(func() {
		if cs.bin, cs.err = os.MkdirTemp("", "lifeboat-test-"); cs.err != nil {
			return // close removes it
		}
		cmd := exec.CommandContext(ctx, "go", "build", "-trimpath", "-tags", "hashicorpmetrics", "-o", filepath.Join(cs.bin, "lifeboat"), "lifeboat/cmd/lifeboat")
		cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
		if out, err := cmd.CombinedOutput(); err != nil {
			cs.err = fmt.Errorf("build lifeboat: %w\n%s", err, out)
		}
	})
	return filepath.Join(cs.bin, "lifeboat"), cs.err
}

// sharedCluster is a cluster with the log of its lab.
type sharedCluster struct {
	*Cluster // nil: to be made
	prefix   string
	log      syncBuffer
	ups      int
}

func (s *sharedCluster) fits(levels []string) int {
	switch {
	case s.Cluster == nil:
		return 0
	case !slices.Equal(levels, s.opts.Levels):
		return 1
	}
	return 2
}

func (s *sharedCluster) up(ctx context.Context, levels []string) error {
	program, err := shared.program(ctx)
	if err != nil {
		return err
	}
	dir := os.Getenv("LAB_TEST_DIR") // keeps the logs
	if dir != "" {
		s.ups++
		dir = filepath.Join(dir, fmt.Sprint(s.prefix, "-", s.ups))
	}
	s.Cluster, err = Up(ctx, Options{
		Lab: lab.Options{Prefix: s.prefix, Dir: dir, Hosts: hosts, Managers: managers,
			ManagerOn: map[int]int{1: 1, 2: 2, 3: 3}, Log: &s.log},
		Binary: program, Guests: 6, Levels: levels,
	})
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

// begin hands out a cluster, healthy, with these fence levels. No guest may have
// met another copy of itself at the end of the test, however it ends.
func begin(t *testing.T, levels ...string) *story {
	t.Helper()
	if os.Getenv(lab.RequireEnv) != "1" {
		t.Skipf("takes minutes; `make test-lab` runs it (%s=1)", lab.RequireEnv)
	}
	lab.Require(t)
	t.Parallel()
	own := shared.take(levels)
	t.Cleanup(func() { shared.give(own) })
	if _, err := shared.program(t.Context()); err != nil { // not in the time that a cluster has
		t.Fatal(err)
	}
	began := time.Now()
	ctx, cancel := context.WithTimeout(t.Context(), 3*time.Minute)
	t.Cleanup(cancel)
	from := len(own.log.String())
	if own.Cluster == nil {
		if err := own.up(ctx, levels); err != nil {
			t.Fatalf("bring the cluster up: %v", err)
		}
	}
	s := &story{T: t, Cluster: own.Cluster, ctx: ctx}
	t.Cleanup(func() {
		if err := s.checkSplitBrains(); err != nil {
			t.Error(err)
		}
		if t.Failed() {
			s.lament(own.log.String()[from:])
			own.Cluster = nil
			if err := s.Close(); err != nil {
				t.Errorf("close the cluster: %v", err)
			}
		}
		t.Logf("took %.1f s", time.Since(began).Seconds())
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
		for _, p := range []*lab.Program{s.Agent(n), s.Server(n)} { // no node has the number of h4
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
