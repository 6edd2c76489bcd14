package fsm

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"google.golang.org/protobuf/proto"

	"lifeboat/fsm/logpb"
)

// testdata/levels holds a folder for each feature level: logs of clusters that began
// at it, and the snapshot and digest that a build of that level made of each. Those
// of older levels were written by the builds of then and are never written again;
// -update writes those of this build's level.

// levelText is what is compared of a state.
func levelText(s *State) string {
	return fmt.Sprintf("digest %016x\nindex %d time %d level %d seq %d events %d\n", s.Sum(), s.Index, s.Time, s.Level, s.seq, s.events.len())
}

func TestGoldenLevels(t *testing.T) {
	for level := uint32(1); level <= FeatureLevel; level++ {
		dir := filepath.Join("testdata", "levels", fmt.Sprint(level))
		if *update && level == FeatureLevel {
			recordLevel(t, dir, level)
		}
		logs, _ := filepath.Glob(filepath.Join(dir, "*.log"))
		if len(logs) == 0 {
			t.Errorf("no golden logs of level %d", level)
		}
		for _, path := range logs {
			t.Run(fmt.Sprintf("%d/%s", level, filepath.Base(path)), func(t *testing.T) { replayLevel(t, path, level) })
		}
	}
}

// replayLevel checks that this build makes of a log what a build of then has made:
// by replaying all of it, and the whole again from the snapshot.
func replayLevel(t *testing.T, path string, level uint32) {
	base := strings.TrimSuffix(path, ".log")
	want, err := os.ReadFile(base + ".digest")
	if err != nil {
		t.Fatal(err)
	}
	log := readLog(t, path)
	m := NewMachine()
	m.Apply(log)
	if got := levelText(m.State()); got != string(want) {
		t.Errorf("this build makes of it\n%s, a build of level %d\n%s: what Apply does at a level that was released does not change; ask for a newer s.Level", got, level, want)
	}
	raw, err := os.ReadFile(base + ".snap")
	if err != nil {
		t.Fatal(err)
	}
	s, err := ReadState(bytes.NewReader(raw))
	if err != nil {
		t.Fatalf("the snapshot of then: %v", err)
	}
	if got := levelText(s); got != string(want) {
		t.Errorf("the snapshot of then is\n%s, it was\n%s", got, want)
	}
	if diff := sameState(m.State(), s); diff != "" {
		t.Errorf("the snapshot of then is another state:\n%s", diff)
	}
	// An older node reads what this build writes at that level, byte for byte.
	if again := snapshotOf(t, s); !bytes.Equal(again, raw) {
		t.Errorf("this build writes another snapshot of it: %d bytes, they were %d", len(again), len(raw))
	}
	// Half of the log, a snapshot of that, and the other half.
	half := NewMachine()
	half.Apply(log[:len(log)/2])
	mid, err := ReadState(bytes.NewReader(snapshotOf(t, half.State())))
	if err != nil {
		t.Fatal(err)
	}
	rest := NewMachine()
	rest.Restore(mid)
	rest.Apply(log[len(log)/2:])
	if got := levelText(rest.State()); got != string(want) {
		t.Errorf("with a restart in between it becomes\n%s, was\n%s", got, want)
	}
}

// recordLevel writes random stories of clusters that were founded at a level.
func recordLevel(t *testing.T, dir string, level uint32) {
	if err := os.MkdirAll(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	for seed := uint64(1); seed <= 2; seed++ {
		m := NewMachine()
		_, log := story(t.Fatalf, rand.New(rand.NewPCG(seed, uint64(level))).IntN, 250)
		for i, e := range log {
			var c logpb.Command
			if err := proto.Unmarshal(e.Data, &c); err != nil {
				t.Fatal(err)
			}
			if b := c.GetClusterInit(); b != nil && b.ClusterId == "c1" {
				b.FeatureLevel = level
				data, err := proto.MarshalOptions{Deterministic: true}.Marshal(&c)
				if err != nil {
					t.Fatal(err)
				}
				log[i].Data = data
			}
		}
		m.Apply(log)
		base := filepath.Join(dir, fmt.Sprintf("story%d", seed))
		for _, err := range []error{
			writeLog(base+".log", log),
			os.WriteFile(base+".digest", []byte(levelText(m.State())), 0o644),
			os.WriteFile(base+".snap", snapshotOf(t, m.State()), 0o644),
		} {
			if err != nil {
				t.Fatal(err)
			}
		}
	}
}
