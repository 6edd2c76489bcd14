package upgrade

import (
	"context"
	"crypto/sha256"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"connectrpc.com/connect"

	pb "lifeboat/api/lifeboat/v1"
	"lifeboat/api/lifeboat/v1/lifeboatv1connect"
	"lifeboat/node"
)

const (
	oldLevel = 1 // of the build in testdata/upgrade/previous
	newLevel = node.FeatureLevel
	// settle is longer than every member must have known a level before it rises.
	settle = 6 * time.Second
)

// A cluster of the previous build is upgraded to this one while it is written to, one
// node back and forth on the way, and then to a build of a level to come. The state is
// one all the time, the level rises with the last node, and what is older than the
// level is refused from then on.
func TestUpgrade(t *testing.T) {
	strict := wanted(t)
	root := must(t, ".", "git", "rev-parse", "--show-toplevel")
	commit := previous(t, root, strict)
	old := build(t, checkout(t, root, commit), "old")
	now := build(t, root, "now")
	next := build(t, later(t, root), "next")

	c := newCluster(t)
	for _, n := range names {
		c.start(old, n)
	}
	c.start(old, "h1")
	c.within(60*time.Second, "a node leads", func() bool { return c.leader() != "" })
	c.within(60*time.Second, "the VM is known and runs", c.running)
	w := c.writes()
	defer w.stop()
	w.goOn()
	c.agree()

	steps := append(c.followers(), c.leader())
	for i, n := range steps {
		c.swap(n, now)
		if i == 0 { // half way, and back, as somebody would who does not like what he sees
			w.goOn()
			c.agree()
			c.swap(n, old)
			w.goOn()
			c.agree()
			c.swap(n, now)
			c.transfer(n) // from here on this build leads, and the previous one follows
		}
		if i < len(steps)-1 {
			c.stays(n, oldLevel)
			if !c.says("runs version old, which knows feature levels up to 1; install the version of the others there") {
				t.Error("nobody says who keeps the level low")
			}
		}
		w.goOn()
		c.agree()
	}
	c.within(30*time.Second, "the level has risen", func() bool { return c.level(newLevel) })
	w.goOn()
	c.agree()
	c.stop("h1")
	c.start(now, "h1")
	c.within(60*time.Second, "the VM runs under the new agent", c.running)

	// The previous build cannot go on with what it had: it stops with a sentence,
	// and this one can.
	n := c.followers()[0]
	c.stop(n)
	c.start(old, n)
	if said := c.ended(n); !strings.Contains(said, "install that version here") && !strings.Contains(said, "use a newer version") {
		t.Errorf("the previous build ended without a word about it:\n%s", said)
	}
	c.start(now, n)
	c.within(60*time.Second, n+" is Up", func() bool { return c.up(n) })
	w.goOn()
	c.agree()

	// From this build to the next, and this one is the old one.
	steps = append(c.followers(), c.leader())
	for i, n := range steps {
		c.swap(n, next)
		if i < len(steps)-1 {
			c.stays(n, newLevel)
		}
		w.goOn()
		c.agree()
	}
	c.within(30*time.Second, "the level has risen again", func() bool { return c.level(newLevel + 1) })
	n = c.followers()[0]
	c.stop(n)
	before := sum(t, c.data(n))
	c.start(now, n)
	said := c.ended(n)
	for _, text := range []string{"version now cannot be run here", c.data(n) + " is as it was", fmt.Sprintf("feature level %d, raised by version next", newLevel+1), "install the version of the other nodes"} {
		if !strings.Contains(said, text) {
			t.Errorf("%q is not said:\n%s", text, said)
		}
	}
	if sum(t, c.data(n)) != before {
		t.Error("its data directory was touched")
	}
	c.start(next, n)
	c.within(60*time.Second, n+" is Up", func() bool { return c.up(n) })
	w.goOn()
	c.agree()
	w.stop()
	w.check()
}

// followers are the nodes that do not lead, in order.
func (c *cluster) followers() (list []string) {
	c.Helper()
	c.within(30*time.Second, "a node leads", func() bool { return c.leader() != "" })
	for l, i := c.leader(), 0; i < len(names); i++ {
		if names[i] != l {
			list = append(list, names[i])
		}
	}
	return list
}

// swap installs another build on a node, as an operator does.
func (c *cluster) swap(n, program string) {
	c.Helper()
	c.Logf("%s: %s", n, filepath.Dir(program))
	c.stop(n)
	c.start(program, n)
	c.within(60*time.Second, n+" is Up again", func() bool { return c.up(n) })
	c.within(30*time.Second, "a node leads", func() bool { return c.leader() != "" })
}

func (c *cluster) up(n string) bool {
	var up bool
	_ = c.try(func(ctx context.Context, a lifeboatv1connect.AdminServiceClient) error {
		r, err := a.ListNodes(ctx, connect.NewRequest(&pb.ListNodesRequest{}))
		for _, x := range msg(r).GetNodes() {
			if x.Id == n {
				up = x.State == "Up" && x.LastContactMs >= 0 && x.LastContactMs < 2000
			}
		}
		return err
	})
	return up && c.runs(n) && c.status(n, true).ClusterId != ""
}

// running reports whether the VM is known, and on.
func (c *cluster) running() bool {
	var on bool
	_ = c.try(func(ctx context.Context, a lifeboatv1connect.AdminServiceClient) error {
		r, err := a.ListVMs(ctx, connect.NewRequest(&pb.ListVMsRequest{}))
		for _, x := range msg(r).GetVms() {
			on = x.Id == uuid && x.Power == "PowerOn"
		}
		return err
	})
	return on
}

// level reports whether every node says that the cluster is at a feature level.
func (c *cluster) level(want uint32) bool {
	for _, n := range names {
		if c.status(n, true).FeatureLevel != want {
			return false
		}
	}
	return true
}

// stays checks that the level does not rise, by the word of a node that knows of it: one
// that has just started knows a lower one until it has applied its log.
func (c *cluster) stays(n string, want uint32) {
	c.Helper()
	known := uint32(0)
	for end := time.Now().Add(settle); time.Now().Before(end); time.Sleep(200 * time.Millisecond) {
		s := c.status(n, true)
		if s.ClusterId == "" {
			continue
		}
		if s.FeatureLevel > want || s.FeatureLevel < known {
			c.Fatalf("the level is %d after %d, and not every node is new", s.FeatureLevel, known)
		}
		known = s.FeatureLevel
	}
	if known != want {
		c.Fatalf("%s knows level %d %s after its start, want %d", n, known, settle, want)
	}
}

func (c *cluster) says(text string) bool {
	for _, note := range c.status(c.leader(), false).Notes {
		if strings.Contains(note, text) {
			return true
		}
	}
	return false
}

// writer sets a policy and the protection of the VM, over and over.
type writer struct {
	c    *cluster
	end  context.CancelFunc
	done chan struct{}

	mu    sync.Mutex
	acked []int // values that were acknowledged
	tried int   // the newest one that was tried
}

const firstValue = 10_000

func (c *cluster) writes() *writer {
	ctx, end := context.WithCancel(context.Background())
	w := &writer{c: c, end: end, done: make(chan struct{}), tried: firstValue}
	go w.run(ctx)
	return w
}

func (w *writer) run(ctx context.Context) {
	defer close(w.done)
	for value := firstValue + 1; ctx.Err() == nil; value++ {
		w.mu.Lock()
		w.tried = value
		w.mu.Unlock()
		err := w.c.try(func(ctx context.Context, a lifeboatv1connect.AdminServiceClient) error {
			_, err := a.SetPolicy(ctx, connect.NewRequest(&pb.SetPolicyRequest{Settings: []*pb.Setting{{Key: "events_keep", Value: strconv.Itoa(value)}}}))
			return err
		})
		if err == nil {
			w.mu.Lock()
			w.acked = append(w.acked, value)
			w.mu.Unlock()
		}
		_ = w.c.try(func(ctx context.Context, a lifeboatv1connect.AdminServiceClient) error {
			_, err := a.ProtectVM(ctx, connect.NewRequest(&pb.ProtectVMRequest{Vm: "web", On: value%2 == 0}))
			return err
		})
		select {
		case <-ctx.Done():
		case <-time.After(50 * time.Millisecond):
		}
	}
}

// goOn waits until writes have been acknowledged from now on.
func (w *writer) goOn() {
	w.c.Helper()
	count := func() int {
		w.mu.Lock()
		defer w.mu.Unlock()
		return len(w.acked)
	}
	begin := count()
	w.c.within(30*time.Second, "writes go on", func() bool { return count() >= begin+3 })
}

func (w *writer) stop() { w.end(); <-w.done }

// check holds what the cluster says against what was acknowledged: each of those
// writes has left its event, and the value is that of the last. A later one whose
// outcome nobody knows may have counted too.
func (w *writer) check() {
	w.c.Helper()
	var got int
	w.c.ok(w.c.try(func(ctx context.Context, a lifeboatv1connect.AdminServiceClient) error {
		r, err := a.GetPolicy(ctx, connect.NewRequest(&pb.GetPolicyRequest{}))
		for _, x := range msg(r).GetSettings() {
			if x.Key == "events_keep" {
				got, _ = strconv.Atoi(x.Value)
			}
		}
		return err
	}))
	last := w.acked[len(w.acked)-1]
	w.c.Logf("%d writes were acknowledged, the last is %d", len(w.acked), last)
	if got < last || got > w.tried {
		w.c.Errorf("%d was acknowledged and %d tried, the cluster has %d", last, w.tried, got)
	}
	made := map[string]bool{}
	for after := uint64(1); ; { // 0 would be the newest ones
		var page []*pb.EventView
		w.c.ok(w.c.try(func(ctx context.Context, a lifeboatv1connect.AdminServiceClient) error {
			r, err := a.ListEvents(ctx, connect.NewRequest(&pb.ListEventsRequest{After: after, Limit: 500, Subject: "policy"}))
			page = msg(r).GetEvents()
			return err
		}))
		if len(page) == 0 {
			break
		}
		for _, e := range page {
			if _, value, ok := strings.Cut(e.Text, " → "); ok {
				made[value] = true
			}
			after = max(after, e.Id)
		}
	}
	for _, value := range w.acked {
		if !made[strconv.Itoa(value)] {
			w.c.Errorf("the write of %d was acknowledged and is lost", value)
		}
	}
}

// transfer gives leadership to a node.
func (c *cluster) transfer(n string) {
	c.Helper()
	c.within(30*time.Second, n+" leads", func() bool {
		if c.leader() == n {
			return true
		}
		_ = c.try(func(ctx context.Context, a lifeboatv1connect.AdminServiceClient) error {
			_, err := a.ControlNode(ctx, connect.NewRequest(&pb.ControlNodeRequest{Id: n, Action: "transfer-leadership"}))
			return err
		})
		return false
	})
}

// sum is a checksum of every file below a directory, with its name and time.
func sum(t *testing.T, dir string) string {
	t.Helper()
	h := sha256.New()
	err := filepath.Walk(dir, func(path string, fi os.FileInfo, err error) error {
		if err != nil {
			return err
		}
		fmt.Fprintln(h, path, fi.Size(), fi.ModTime().UnixNano())
		if fi.IsDir() {
			return nil
		}
		raw, err := os.ReadFile(path)
		h.Write(raw)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return fmt.Sprintf("%x", h.Sum(nil))
}
