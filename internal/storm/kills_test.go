package storm

import (
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"testing"
	"time"
)

// program builds the binary that the nodes run.
func program(t *testing.T) string {
	t.Helper()
	if testing.Short() {
		t.Skip("runs processes")
	}
	path := filepath.Join(t.TempDir(), "lifeboat")
	cmd := exec.Command("go", "build", "-tags", "hashicorpmetrics", "-o", path, "../../cmd/lifeboat")
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("build: %v\n%s", err, out)
	}
	return path
}

// cluster is one that runs, and keeps all events.
func cluster(t *testing.T, o Options) *Cluster {
	t.Helper()
	o.Program, o.Dir = program(t), t.TempDir()
	c, err := New(o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.Close)
	if err := c.Start(); err != nil {
		t.Fatal(err)
	}
	if _, err := c.Ready(t.Context(), backWithin); err != nil {
		t.Fatal(err)
	}
	if err := c.Keep(t.Context()); err != nil {
		t.Fatal(err)
	}
	return c
}

// number is a whole number of the environment.
func number(t *testing.T, name string, or int) int {
	t.Helper()
	text := os.Getenv(name)
	if text == "" {
		return or
	}
	n, err := strconv.Atoi(text)
	if err != nil || n < 1 {
		t.Fatalf("%s: %q is no number of kills", name, text)
	}
	return n
}

// Nodes are killed at random while they are written to: what was confirmed is there
// afterwards, on each of them, where it was confirmed. `make test-storm` kills 200,
// or LIFEBOAT_STORM_KILLS;
// LIFEBOAT_STORM_SEED tells the same story again, as far as processes can.
func TestNothingConfirmedIsLostToKills(t *testing.T) {
	kills := 3
	if os.Getenv("LIFEBOAT_STORM") != "" {
		kills = number(t, "LIFEBOAT_STORM_KILLS", 200)
	}
	seed := uint64(number(t, "LIFEBOAT_STORM_SEED", int(time.Now().UnixNano()%1_000_000)+1))
	t.Logf("LIFEBOAT_STORM_SEED=%d", seed)
	d, err := cluster(t, Options{}).Kills(t.Context(), kills, seed)
	if err == nil {
		err = d.Err()
	}
	if err != nil {
		t.Fatal(err)
	}
	t.Logf("%d processes killed, %d times all three; %d writes confirmed, of %d the outcome stayed unknown", d.Kills, d.All, d.Confirmed, d.Unsure)
}
