package node

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"sync"

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

	mu     sync.Mutex
	latest raft.SnapshotMeta // the one with the highest index
	failed error             // set once it was contradicted
	over   chan struct{}     // closed then
}

func newGuard(dir string, logs raft.LogStore, snaps raft.SnapshotStore, log hclog.Logger) (*guard, error) {
	g := &guard{LogStore: logs, SnapshotStore: snaps, dir: dir, log: log, over: make(chan struct{})}
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
	g.mu.Lock()
	defer g.mu.Unlock()
	if index > g.latest.Index {
		g.latest.Index, g.latest.Term = index, term
	}
}

// check compares entries that are to be stored with the newest snapshot.
func (g *guard) check(entries []*raft.Log) error {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.failed != nil {
		return g.failed
	}
	for _, e := range entries {
		if e.Index > g.latest.Index {
			return nil
		}
		if e.Term > g.latest.Term {
			g.log.Error("a restored state was not taken by the others", "index", g.latest.Index, "term", g.latest.Term, "entry", e.Index, "its_term", e.Term)
			g.failed = errors.Join(ErrContradicted, g.drop(e))
			close(g.over)
			return g.failed
		}
	}
	return nil
}

// verdict is why the node must end.
func (g *guard) verdict() error {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.failed
}

// drop moves aside what an entry contradicts. What was appended to it goes first: the
// log may not have a hole that no snapshot covers.
func (g *guard) drop(e *raft.Log) error {
	if last, err := g.LastIndex(); err != nil {
		return fmt.Errorf("find the last entry: %w", err)
	} else if last >= e.Index {
		if err := g.DeleteRange(e.Index, last); err != nil {
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
// ever, and be sent the snapshot again and again. Its contents are never asked for.
func (g *guard) GetLog(index uint64, out *raft.Log) error {
	err := g.LogStore.GetLog(index, out)
	if !errors.Is(err, raft.ErrLogNotFound) {
		return err
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	if index == 0 || index != g.latest.Index {
		return err
	}
	*out = raft.Log{Index: index, Term: g.latest.Term, Type: raft.LogNoop}
	return nil
}

// StoreLog implements raft.LogStore.
func (g *guard) StoreLog(l *raft.Log) error { return g.StoreLogs([]*raft.Log{l}) }

// StoreLogs implements raft.LogStore.
func (g *guard) StoreLogs(logs []*raft.Log) error {
	if err := g.check(logs); err != nil {
		return err
	}
	return g.LogStore.StoreLogs(logs)
}

// guardedTransport shows the guard what other nodes want appended. Raft alone would
// not get as far as storing it: it looks for the entry that stands there already,
// finds a hole, and refuses for ever.
type guardedTransport struct {
	*raft.NetworkTransport
	out chan raft.RPC
}

// Consumer implements raft.Transport.
func (t *guardedTransport) Consumer() <-chan raft.RPC { return t.out }

// watch hands on what arrives until over ends. term is the newest term that this node
// knows; what an older leader sends says nothing.
func (t *guardedTransport) watch(over <-chan struct{}, g *guard, term func() uint64) {
	in := t.NetworkTransport.Consumer()
	for {
		select {
		case <-over:
			return
		case rpc := <-in:
			if q, ok := rpc.Command.(*raft.AppendEntriesRequest); ok && len(q.Entries) > 0 && q.Term >= term() {
				_ = g.check(q.Entries) // it is heard of by over
			}
			select {
			case <-over:
				return
			case t.out <- rpc:
			}
		}
	}
}

// Create implements raft.SnapshotStore.
func (g *guard) Create(v raft.SnapshotVersion, index, term uint64, c raft.Configuration, at uint64, t raft.Transport) (raft.SnapshotSink, error) {
	sink, err := g.SnapshotStore.Create(v, index, term, c, at, t)
	if err != nil {
		return nil, err
	}
	return &guardedSink{SnapshotSink: sink, done: func() { g.note(index, term) }}, nil
}

// Open implements raft.SnapshotStore.
func (g *guard) Open(id string) (*raft.SnapshotMeta, io.ReadCloser, error) {
	return g.SnapshotStore.Open(id)
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
