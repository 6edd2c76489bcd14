package storm

import (
	"errors"
	"os"
	"strings"
	"testing"
	"time"
)

// The disk of the leader fills up, later that of a follower: the others go on, and
// with space the node comes back. In the end all three are stopped and started.
// What was confirmed at any time is there afterwards.
func TestNothingConfirmedIsLostToAFullDisk(t *testing.T) {
	if os.Getenv("LIFEBOAT_STORM") == "" {
		t.Skip("takes half a minute; run `make test-storm`")
	}
	dir := t.TempDir()
	disk, err := MountDisk(dir, 48)
	if errors.Is(err, ErrNoMount) {
		t.Skip(err)
	} else if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = disk.Unmount() })
	c := cluster(t, Options{DataDir: func(n string) string {
		if n == "n1" {
			return dir + "/n1"
		}
		return t.TempDir()
	}})
	ctx := t.Context()
	w, err := c.Write(ctx, 2*time.Millisecond, 20*time.Second)
	if err != nil {
		t.Fatal(err)
	}
	defer w.Stop()
	for _, role := range []bool{true, false} { // leads, follows
		leader, err := c.Ready(ctx, backWithin)
		if err != nil {
			t.Fatal(err)
		}
		for tries := 0; (leader == "n1") != role; tries++ {
			if tries == 30 {
				t.Fatalf("n1 leads: want %v", role)
			}
			if err := c.Stop(ctx, leader); err != nil {
				t.Fatal(err)
			}
			if err := c.Start(leader); err != nil {
				t.Fatal(err)
			}
			if leader, err = c.Ready(ctx, backWithin); err != nil {
				t.Fatal(err)
			}
		}
		if err := disk.Fill(); err != nil {
			t.Fatal(err)
		}
		full, before := time.Now(), complaints(t, c)
		// The free pages of the log are used up first.
		for time.Since(full) < 3*time.Second || complaints(t, c) == before {
			if time.Since(full) > time.Minute {
				t.Fatalf("leads %v: n1 has not noticed that its disk is full:\n%s", role, c.Node("n1").Said(1500))
			}
			if _, err := w.After(ctx, time.Now(), backWithin); err != nil {
				t.Fatalf("leads %v, disk full: %v\n%s", role, err, c.Said(1500))
			}
		}
		t.Logf("leads %v: the longest pause of the writers was %s; n1 runs: %v", role, LongestPause(w.Confirmed(), full, time.Now()).Round(time.Millisecond), c.Node("n1").Runs())
		if err := disk.Free(); err != nil {
			t.Fatal(err)
		}
		if !c.Node("n1").Runs() {
			if err := c.Start("n1"); err != nil {
				t.Fatal(err)
			}
		}
	}
	if _, err := c.Ready(ctx, backWithin); err != nil {
		t.Fatal(err)
	}
	for _, n := range c.Names {
		if err := c.Stop(ctx, n); err != nil {
			t.Fatal(err)
		}
	}
	if err := c.Start(); err != nil {
		t.Fatal(err)
	}
	if _, err := w.After(ctx, time.Now(), backWithin); err != nil {
		t.Fatal(err)
	}
	if err := w.Stop(); err != nil {
		t.Fatal(err)
	}
	d := &Damage{}
	if err := c.Check(ctx, w, d); err != nil {
		t.Fatal(err)
	}
	if err := d.Err(); err != nil {
		t.Fatal(err)
	}
	t.Logf("%d writes confirmed, of %d the outcome stayed unknown", d.Confirmed, d.Unsure)
}

// complaints are how often n1 has said that its disk is full.
func complaints(t *testing.T, c *Cluster) int {
	t.Helper()
	raw, err := os.ReadFile(c.Path("n1.log"))
	if err != nil {
		t.Fatal(err)
	}
	return strings.Count(string(raw), "no space left on device")
}
