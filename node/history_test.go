package node

import (
	"encoding/hex"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/hashicorp/go-hclog"
	"github.com/hashicorp/raft"

	"lifeboat/fsm"
	"lifeboat/fsm/raftfsm"
)

// goldenEntries are those of a golden log of fsm.
func goldenEntries(t *testing.T, name string) (out []*raft.Log) {
	t.Helper()
	raw, err := os.ReadFile(filepath.Join("../fsm/testdata/logs", name+".log"))
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(raw)) {
		e, body := &raft.Log{Type: raft.LogCommand}, ""
		if _, err := fmt.Sscan(line, &e.Index, &e.Term, &body); err != nil {
			continue
		}
		if e.Data, err = hex.DecodeString(body); err != nil {
			t.Fatal(err)
		}
		out = append(out, e)
	}
	return out
}

// stopped is a data directory that holds a golden log, of which the first entries up to
// cut are in a snapshot alone.
func stopped(t *testing.T, cut uint64) (dir string, states map[uint64]*fsm.State) {
	t.Helper()
	dir, states = t.TempDir(), map[uint64]*fsm.State{}
	st, err := openStorage(dir, hclog.NewNullLogger())
	if err != nil {
		t.Fatal(err)
	}
	all, f := goldenEntries(t, "host-death"), raftfsm.New()
	last := all[len(all)-1].Index
	for _, e := range all {
		f.Apply(e)
		states[e.Index] = f.State()
		if e.Index != cut && e.Index != last-1 {
			continue
		}
		_, trans := raft.NewInmemTransport("a")
		sink, err := st.snapshots.Create(raft.SnapshotVersionMax, e.Index, e.Term, raft.Configuration{}, 0, trans)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := f.State().WriteTo(sink); err != nil {
			t.Fatal(err)
		}
		if err := sink.Close(); err != nil {
			t.Fatal(err)
		}
	}
	if err := errors.Join(st.logs.StoreLogs(all[cut:]), st.Close()); err != nil {
		t.Fatal(err)
	}
	return dir, states
}

func replayAll(dir string, base *fsm.State, to uint64) (from uint64, last *fsm.State, equal int, err error) {
	h, err := OpenHistory(dir)
	if err != nil {
		return 0, nil, 0, err
	}
	defer h.Close()
	err = h.Replay(base, to, func(s *fsm.State, at uint64) error { from, last = at, s; return nil }, func(r Replayed) error {
		last = r.After
		if r.Kept != nil && r.Kept.Sum() == r.After.Sum() {
			equal++
		}
		return nil
	})
	return from, last, equal, err
}

// The log of a stopped node makes the states that it made, from wherever one begins;
// the directory is not touched.
func TestHistoryIsWhatWas(t *testing.T) {
	for _, cut := range []uint64{0, 7} {
		dir, states := stopped(t, cut)
		before := listing(t, dir)
		end := uint64(len(states))
		for _, to := range []uint64{0, cut + 5, end, end + 100} {
			want := states[min(max(to, cut), end)]
			if to == 0 {
				want = states[end]
			}
			from, last, equal, err := replayAll(dir, nil, to)
			if err != nil || from != cut || last.Sum() != want.Sum() || last.Index != want.Index {
				t.Errorf("from %d to %d: began at %d, index %d, %v", cut, to, from, last.Index, err)
			}
			if to == 0 && equal != 1 {
				t.Errorf("%d snapshots on the way are equal", equal)
			}
		}
		from, last, _, err := replayAll(dir, states[10], 0) // an archive of index 10
		if err != nil || from != 10 || last.Sum() != states[end].Sum() {
			t.Errorf("from an archive: began at %d, %v", from, err)
		}
		if after := listing(t, dir); after != before {
			t.Errorf("the directory has changed:\n%s\n%s", before, after)
		}
	}
}

func listing(t *testing.T, dir string) (out string) {
	t.Helper()
	_ = filepath.Walk(dir, func(path string, fi os.FileInfo, err error) error {
		if err == nil {
			out += fmt.Sprintln(path, fi.Size(), fi.ModTime(), fi.Mode())
		}
		return err
	})
	return out
}

// What cannot be replayed is refused with a sentence: a directory in use, none, one of
// another history, one that is damaged, an index that is too old.
func TestHistoryIsRefused(t *testing.T) {
	expect := func(what, want string, err error) {
		t.Helper()
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v, want %q", what, err, want)
		}
	}
	dir, states := stopped(t, 7)
	_, _, _, err := replayAll(dir, nil, 3)
	expect("an old index", "the oldest state that can be rebuilt", err)
	alien := fsm.NewMachine()
	for _, e := range goldenEntries(t, "host-death")[:10] {
		alien.Apply([]fsm.Entry{{Index: e.Index, Term: e.Term + 4, Data: e.Data}})
	}
	_, _, _, err = replayAll(dir, alien.State(), 0)
	expect("another history", "different histories", err)
	_, _, _, err = replayAll(dir, states[3], 0)
	expect("a gap", "read log index 4", err)
	_, _, _, err = replayAll(t.TempDir(), nil, 0)
	expect("no directory", "is no data directory", err)
	st, err := openStorage(dir, hclog.NewNullLogger())
	if err != nil {
		t.Fatal(err)
	}
	_, _, _, err = replayAll(dir, nil, 0)
	expect("in use", "another process has it open", err)
	if err := st.Close(); err != nil {
		t.Fatal(err)
	}
	files, _ := filepath.Glob(filepath.Join(dir, "snapshots", "*", "state.bin"))
	for _, file := range files {
		raw, err := os.ReadFile(file)
		if err != nil || os.WriteFile(file, raw[:len(raw)*3/4], 0o600) != nil {
			t.Fatal(err)
		}
	}
	_, _, _, err = replayAll(dir, nil, 0)
	expect("a truncated snapshot", "state.bin", err)
}

// Whatever stands in the description of a snapshot, it is an index or it is passed over.
func FuzzSnapshotIndex(f *testing.F) {
	f.Add([]byte(`{"Version":1,"ID":"2-7-1","Index":7,"Term":2}`))
	f.Add([]byte(`{"Index":-1}`))
	f.Fuzz(func(t *testing.T, raw []byte) {
		if i, ok := snapshotIndex(raw); ok && i == 0 {
			t.Fatalf("%q has the index 0", raw)
		}
	})
}
