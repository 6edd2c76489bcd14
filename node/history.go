package node

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/hashicorp/raft"
	raftboltdb "github.com/hashicorp/raft-boltdb/v2"
	"go.etcd.io/bbolt"

	"lifeboat/fsm"
	"lifeboat/fsm/raftfsm"
)

// History is the log of a node that does not run, with the snapshots beside it. It is
// only read; the directory stays as it is.
type History struct {
	dir    string
	bolt   *raftboltdb.BoltStore
	First  uint64 // of the log; 0 = it is empty
	Last   uint64
	states []kept
}

// kept is a snapshot on the disk.
type kept struct {
	index uint64
	path  string
}

// OpenHistory opens the data directory of a stopped node, or a copy of it.
func OpenHistory(dir string) (*History, error) {
	path := filepath.Join(dir, "raft.db")
	if _, err := os.Stat(path); err != nil {
		return nil, fmt.Errorf("%s is no data directory of a server: %w", dir, err)
	}
	if err := preflight(dir, FeatureLevel); err != nil {
		return nil, err
	}
	options := &bbolt.Options{Timeout: lockTimeout, ReadOnly: true}
	if empty, err := withoutLog(path, options); err != nil {
		return nil, err
	} else if empty {
		return nil, fmt.Errorf("%s holds no log", path)
	}
	bolt, err := raftboltdb.New(raftboltdb.Options{Path: path, BoltOptions: options})
	if err != nil {
		return nil, unopened(path, err)
	}
	h := &History{dir: dir, bolt: bolt}
	if h.First, err = bolt.FirstIndex(); err == nil {
		h.Last, err = bolt.LastIndex()
	}
	if err == nil {
		h.states, err = snapshotsIn(filepath.Join(dir, "snapshots"))
	}
	if err != nil {
		return nil, errors.Join(fmt.Errorf("read %s: %w", dir, err), bolt.Close())
	}
	return h, nil
}

// Close lets the directory go.
func (h *History) Close() error { return h.bolt.Close() }

// snapshotsIn lists the complete snapshots, oldest first. One whose description cannot
// be read is passed over, as Raft does.
func snapshotsIn(dir string) (out []kept, err error) {
	list, err := os.ReadDir(dir)
	if errors.Is(err, os.ErrNotExist) {
		return nil, nil
	} else if err != nil {
		return nil, err
	}
	for _, d := range list {
		raw, err := os.ReadFile(filepath.Join(dir, d.Name(), "meta.json"))
		if index, ok := snapshotIndex(raw); err == nil && ok && !strings.HasSuffix(d.Name(), ".tmp") {
			out = append(out, kept{index, filepath.Join(dir, d.Name(), "state.bin")})
		}
	}
	slices.SortFunc(out, func(a, b kept) int { return int(int64(a.index) - int64(b.index)) })
	return slices.CompactFunc(out, func(a, b kept) bool { return a.index == b.index }), nil
}

// snapshotIndex reads the index in the description of a snapshot.
func snapshotIndex(raw []byte) (uint64, bool) {
	var m struct{ Index uint64 }
	err := json.Unmarshal(raw, &m)
	return m.Index, err == nil && m.Index > 0
}

func (k kept) read() (*fsm.State, error) {
	f, err := os.Open(k.path)
	if err != nil {
		return nil, fmt.Errorf("open snapshot: %w", err)
	}
	defer f.Close() // only read
	s, err := fsm.ReadState(f)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", k.path, err)
	}
	return s, nil
}

// Replayed is one step of a replay.
type Replayed struct {
	Log    *raft.Log
	Before *fsm.State
	After  *fsm.State
	Result fsm.Result
	Kept   *fsm.State // a snapshot on the disk that was taken right after this entry; nil = none
}

// Replay goes on from base, the state of an archive, or (nil) from the oldest
// snapshot whose log is there, or from nothing. step is told of each entry up to the
// index to (0 = all of them); its error ends the replay. It returns the state that it
// began with.
func (h *History) Replay(base *fsm.State, to uint64, begin func(*fsm.State, uint64) error, step func(Replayed) error) error {
	f := raftfsm.New()
	at := uint64(0)
	switch {
	case base != nil:
		at = base.Index
	case h.First > 1 || h.First == 0:
		i := slices.IndexFunc(h.states, func(k kept) bool { return h.First == 0 || k.index+1 >= h.First })
		if i < 0 {
			return fmt.Errorf("the log in %s begins at index %d, and no snapshot there reaches up to it; take an archive of an earlier index, or the directory of another node", h.dir, h.First)
		}
		var err error
		if base, err = h.states[i].read(); err != nil {
			return err
		}
		at = h.states[i].index
	}
	if to != 0 && to < at {
		return fmt.Errorf("the oldest state that can be rebuilt from here is that of index %d; %d is before that", at, to)
	}
	if base != nil {
		if err := h.fits(base); err != nil {
			return err
		}
		var b bytes.Buffer
		if _, err := base.WriteTo(&b); err != nil {
			return fmt.Errorf("copy state: %w", err)
		}
		if err := f.Restore(io.NopCloser(&b)); err != nil {
			return err
		}
	}
	if err := begin(f.State(), at); err != nil {
		return err
	}
	if to == 0 || to > h.Last {
		to = h.Last
	}
	for i := at + 1; i <= to; i++ {
		e := &raft.Log{}
		if err := h.bolt.GetLog(i, e); err != nil {
			return fmt.Errorf("read log index %d: %w; the log in %s has %d to %d", i, err, h.dir, h.First, h.Last)
		}
		r := Replayed{Log: e, Before: f.State()}
		switch x := f.Apply(e).(type) {
		case fsm.Result:
			r.Result = x
		case error:
			return fmt.Errorf("apply log index %d: %w", i, x)
		}
		r.After = f.State()
		if k := slices.IndexFunc(h.states, func(k kept) bool { return k.index == i }); k >= 0 {
			var err error
			if r.Kept, err = h.states[k].read(); err != nil {
				return err
			}
		}
		if err := step(r); err != nil {
			return err
		}
	}
	return nil
}

// fits says why the log cannot be of the cluster that made a state: their newest common
// entry is of another term.
func (h *History) fits(s *fsm.State) error {
	var e raft.Log
	if s.Index < h.First || s.Index > h.Last || h.bolt.GetLog(s.Index, &e) != nil || e.Type != raft.LogCommand || e.Term == s.Term {
		return nil
	}
	return fmt.Errorf("the state of index %d was made in term %d, and the log in %s has that index in term %d: they are of different histories", s.Index, s.Term, h.dir, e.Term)
}
