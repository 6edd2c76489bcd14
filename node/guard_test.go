package node

import (
	"errors"
	"io"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/hashicorp/go-hclog"
	"github.com/hashicorp/raft"
)

// slowLogs lets something happen while entries are being stored.
type slowLogs struct {
	raft.LogStore
	meanwhile func()
}

func (s *slowLogs) StoreLogs(l []*raft.Log) error {
	if f := s.meanwhile; f != nil {
		s.meanwhile = nil
		f()
	}
	return s.LogStore.StoreLogs(l)
}

// restoredLog is a log of nine entries of term 1 beneath a snapshot that was restored
// at index 73 in term 2.
func restoredLog(t *testing.T) (dir string, logs *slowLogs, g *guard) {
	t.Helper()
	dir = t.TempDir()
	snaps, err := raft.NewFileSnapshotStoreWithLogger(dir, keepSnapshot, hclog.NewNullLogger())
	if err != nil {
		t.Fatal(err)
	}
	logs = &slowLogs{LogStore: raft.NewInmemStore()}
	if g, err = newGuard(dir, logs, snaps, hclog.NewNullLogger()); err != nil {
		t.Fatal(err)
	}
	for i := uint64(1); i <= 9; i++ {
		if err := g.StoreLog(&raft.Log{Index: i, Term: 1}); err != nil {
			t.Fatal(err)
		}
	}
	take(t, g, 73, 2)
	return dir, logs, g
}

// take makes a snapshot.
func take(t *testing.T, g *guard, index, term uint64) {
	t.Helper()
	_, trans := raft.NewInmemTransport("n1")
	sink, err := g.Create(raft.SnapshotVersionMax, index, term, raft.Configuration{}, 1, trans)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := io.WriteString(sink, "state"); err != nil {
		t.Fatal(err)
	}
	if err := sink.Close(); err != nil {
		t.Fatal(err)
	}
}

// What a later leader has at the index of a snapshot drops it and all that lies on
// it, also what is being stored at that moment, and nothing is stored afterwards:
// a log with a hole would never start again.
func TestContradictedSnapshotIsDropped(t *testing.T) {
	dir, logs, g := restoredLog(t)
	checked := make(chan error, 1)
	logs.meanwhile = func() {
		done := make(chan struct{})
		go func() { defer close(done); checked <- g.check([]*raft.Log{{Index: 9, Term: 3}}) }()
		select {
		case <-done:
		case <-time.After(20 * time.Millisecond): // it waits for the lock
		}
	}
	_ = g.StoreLog(&raft.Log{Index: 74, Term: 2})
	if err := <-checked; !errors.Is(err, ErrContradicted) {
		t.Fatalf("the entry was answered with %v", err)
	}
	if err := g.StoreLog(&raft.Log{Index: 75, Term: 2}); !errors.Is(err, ErrContradicted) {
		t.Errorf("another entry: %v", err)
	}
	if last, err := logs.LastIndex(); err != nil || last != 8 {
		t.Errorf("the log ends at %d: %v", last, err)
	}
	if list, err := g.List(); err != nil || len(list) != 0 {
		t.Errorf("snapshots: %v, %v", list, err)
	}
	if _, err := os.Stat(filepath.Join(dir, "dropped-snapshot", "state.bin")); err != nil {
		t.Errorf("it was not kept aside: %v", err)
	}
}

// Entries that may stand beneath or on a snapshot leave it alone, and the entry at
// its index is known by its term.
func TestGuardLetsOtherEntriesBe(t *testing.T) {
	_, _, g := restoredLog(t)
	for _, e := range []raft.Log{{Index: 9, Term: 1}, {Index: 73, Term: 2}, {Index: 74, Term: 2}, {Index: 74, Term: 3}} {
		if err := g.check([]*raft.Log{&e}); err != nil {
			t.Errorf("entry %d of term %d: %v", e.Index, e.Term, err)
		}
	}
	var e raft.Log
	if err := g.GetLog(73, &e); err != nil || e.Term != 2 {
		t.Errorf("the entry at the snapshot: term %d, %v", e.Term, err)
	}
	for _, hole := range []uint64{72, 74} {
		if err := g.GetLog(hole, &e); !errors.Is(err, raft.ErrLogNotFound) {
			t.Errorf("entry %d: %v", hole, err)
		}
	}
}

// A restored snapshot may yet be dropped. What lies beneath it in the log is not
// deleted before another snapshot covers it, or the node would never start again.
func TestGuardKeepsWhatNoOtherSnapshotCovers(t *testing.T) {
	_, logs, g := restoredLog(t)
	expect := func(first, last uint64) {
		t.Helper()
		f, _ := logs.FirstIndex()
		l, err := logs.LastIndex()
		if err != nil || f != first || l != last {
			t.Fatalf("the log is %d to %d, %v; it should be %d to %d", f, l, err, first, last)
		}
	}
	compact := func(first, last uint64) {
		t.Helper()
		if err := g.DeleteRange(first, last); err != nil {
			t.Fatal(err)
		}
	}
	compact(1, 5)
	expect(1, 9)
	take(t, g, 75, 2)
	if err := g.StoreLogs([]*raft.Log{{Index: 74, Term: 2}, {Index: 75, Term: 2}, {Index: 76, Term: 2}}); err != nil {
		t.Fatal(err)
	}
	compact(1, 75)
	expect(74, 76) // what the one at 73 covers
	compact(75, 76)
	expect(74, 74) // the end of the log is another matter
}

// The entry at a snapshot is not invented where the one before it is there: it would
// be sent to others in place of the true one.
func TestGuardInventsNothingToBeSent(t *testing.T) {
	_, _, g := restoredLog(t)
	for i := uint64(10); i <= 72; i++ {
		if err := g.LogStore.StoreLog(&raft.Log{Index: i, Term: 1}); err != nil {
			t.Fatal(err)
		}
	}
	if err := g.GetLog(73, &raft.Log{}); err != raft.ErrLogNotFound { // Raft compares it so
		t.Errorf("the entry at the snapshot: %v", err)
	}
}
