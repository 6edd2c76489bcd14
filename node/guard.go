package node

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"github.com/hashicorp/go-hclog"
	"github.com/hashicorp/raft"
)

// ErrContradicted ends Run when this node holds a restored state that the others
// have not taken: it was dropped, and the node must start again with what it had
// before.
var ErrContradicted = errors.New("the cluster went on without a restore that this node had begun to take; it was dropped here, and the node must start again")

// guard drops a snapshot that the log contradicts.
//
// A snapshot is of committed entries, so no later term has an entry at or below
// its index: with one exception. A restore makes a snapshot that is not committed
// before a majority has it, and Raft does not take it back when another leader
// goes on without it, as it would take back entries: the node would put that
// leader's entries on top of the restored state. So an entry of a later term at
// or below the index of a snapshot is the proof that the restore has failed. The
// snapshot goes, nothing is stored, and the node ends.
type guard struct {
	raft.LogStore
	raft.SnapshotStore
	dir string
	log hclog.Logger

	// turn has capacity 1 and is taken while entries are stored: nothing may be added to
	// what is dropped. No mutex: virtual time stands still while somebody waits for one,
	// and in tests disks hang.
	turn   chan struct{}
	latest position // of the newest snapshot
	failed error    // why nothing is stored any more
}

// position is a place in the log.
type position struct{ index, term uint64 }

func newGuard(dir string, logs raft.LogStore, snaps raft.SnapshotStore, log hclog.Logger) (*guard, error) {
	g := &guard{LogStore: logs, SnapshotStore: snaps, dir: dir, log: log, turn: make(chan struct{}, 1)}
	list, err := snaps.List()
	if err != nil {
		return nil, fmt.Errorf("list snapshots: %w", err)
	}
	for _, m := range list {
		g.note(m.Index, m.Term)
	}
	return g, nil
}

func (g *guard) note(index, term uint64) {
	g.turn <- struct{}{}
	defer func() { <-g.turn }()
	if index > g.latest.index {
		g.latest = position{index, term}
	}
}

// check compares entries of another node with the newest snapshot. An error means
// that this node must end: the snapshot was dropped.
func (g *guard) check(entries []*raft.Log) error {
	g.turn <- struct{}{}
	defer func() { <-g.turn }()
	return g.compare(entries)
}

func (g *guard) compare(entries []*raft.Log) error {
	if g.failed != nil {
		return g.failed
	}
	for _, e := range entries {
		if e.Index > g.latest.index {
			return nil
		}
		if e.Term > g.latest.term {
			g.log.Error("a restored state was not taken by the others", "index", g.latest.index, "term", g.latest.term, "entry", e.Index, "its_term", e.Term)
			g.failed = errors.Join(ErrContradicted, g.drop(e))
			return g.failed
		}
	}
	return nil
}

// drop moves aside what an entry contradicts. What was appended to it goes first: the
// log may not have a hole that no snapshot covers.
func (g *guard) drop(e *raft.Log) error {
	if last, err := g.LastIndex(); err != nil {
		return fmt.Errorf("find the last entry: %w", err)
	} else if last >= e.Index {
		if err := g.LogStore.DeleteRange(e.Index, last); err != nil {
			return fmt.Errorf("drop entries: %w", err)
		}
	}
	list, err := g.List()
	if err != nil {
		return fmt.Errorf("list snapshots: %w", err)
	}
	for _, m := range list {
		if m.Index < e.Index || m.Term >= e.Term {
			continue
		}
		aside := filepath.Join(g.dir, "dropped-snapshot")
		if err := os.RemoveAll(aside); err != nil {
			return fmt.Errorf("drop snapshot: %w", err)
		}
		if err := os.Rename(filepath.Join(g.dir, "snapshots", m.ID), aside); err != nil {
			return fmt.Errorf("drop snapshot: %w", err)
		}
	}
	return nil
}

// GetLog implements raft.LogStore. The entry at the index of the newest snapshot is
// known by its term although it is not in the log: without it a node that has
// uncommitted entries after a snapshot would refuse what its leader sends for
// ever, and be sent the snapshot again and again. Where the entry before it is there,
// this node could send others what it does not have, so it is not known then; else
// its contents are never asked for.
func (g *guard) GetLog(index uint64, out *raft.Log) error {
	err := g.LogStore.GetLog(index, out)
	if !errors.Is(err, raft.ErrLogNotFound) {
		return err
	}
	g.turn <- struct{}{}
	defer func() { <-g.turn }()
	if index == 0 || index != g.latest.index {
		return err
	}
	var before raft.Log
	switch no := g.LogStore.GetLog(index-1, &before); {
	case no == nil:
		return err
	case !errors.Is(no, raft.ErrLogNotFound):
		return no
	}
	*out = raft.Log{Index: index, Term: g.latest.term, Type: raft.LogNoop}
	return nil
}

// StoreLog implements raft.LogStore.
func (g *guard) StoreLog(l *raft.Log) error { return g.StoreLogs([]*raft.Log{l}) }

// StoreLogs implements raft.LogStore.
func (g *guard) StoreLogs(logs []*raft.Log) error {
	g.turn <- struct{}{}
	defer func() { <-g.turn }()
	if err := g.compare(logs); err != nil {
		return err
	}
	return g.LogStore.StoreLogs(logs)
}

// DeleteRange implements raft.LogStore. What Raft deletes at the beginning of the log
// is in the newest snapshot; but that one may yet be dropped, and the log may not have
// a hole then that no snapshot covers. So what the second newest does not cover stays.
func (g *guard) DeleteRange(first, last uint64) error {
	end, err := g.LogStore.LastIndex()
	if err != nil {
		return fmt.Errorf("find the last entry: %w", err)
	}
	if last < end { // else the end of the log goes: others have other entries there
		covered, err := g.covered()
		if err != nil {
			return err
		}
		if last = min(last, covered); last < first {
			return nil
		}
	}
	return g.LogStore.DeleteRange(first, last)
}

// covered is the index of the second newest snapshot; 0 = there is none.
func (g *guard) covered() (uint64, error) {
	list, err := g.List()
	if err != nil {
		return 0, fmt.Errorf("list snapshots: %w", err)
	}
	var newest, second uint64
	for _, m := range list {
		if m.Index > newest {
			newest, second = m.Index, newest
		} else if m.Index < newest {
			second = max(second, m.Index)
		}
	}
	return second, nil
}

// Create implements raft.SnapshotStore.
func (g *guard) Create(v raft.SnapshotVersion, index, term uint64, c raft.Configuration, at uint64, t raft.Transport) (raft.SnapshotSink, error) {
	sink, err := g.SnapshotStore.Create(v, index, term, c, at, t)
	if err != nil {
		return nil, err
	}
	return &guardedSink{SnapshotSink: sink, done: func() { g.note(index, term) }}, nil
}

// guardedSink tells when a snapshot is complete.
type guardedSink struct {
	raft.SnapshotSink
	done func()
}

func (s *guardedSink) Close() error {
	if err := s.SnapshotSink.Close(); err != nil {
		return err
	}
	s.done()
	return nil
}
