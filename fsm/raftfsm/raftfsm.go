package raftfsm

import (
	"fmt"
	"io"
	"sync"

	"github.com/hashicorp/raft"

	"lifeboat/fsm"
)

var (
	_ raft.BatchingFSM        = (*FSM)(nil)
	_ raft.ConfigurationStore = (*FSM)(nil)
)

// FSM is what raft.NewRaft is given. Raft calls its methods from one goroutine;
// State and Changed may be called from any.
//
// An entry that this build must not go on with breaks it: from there on nothing is
// applied or written, and whoever runs it must end.
type FSM struct {
	machine *fsm.Machine
	level   uint32
	broken  chan struct{} // closed once err is set

	mu      sync.Mutex
	changed chan struct{} // closed by the next publication
	err     error
}

// New returns an FSM with an empty state.
func New() *FSM { return Of(fsm.FeatureLevel) }

// Of is New for a build that knows feature levels up to level.
func Of(level uint32) *FSM {
	return &FSM{machine: fsm.NewMachineOf(level), level: level, broken: make(chan struct{}), changed: make(chan struct{})}
}

// Broken is closed once Err is not nil.
func (f *FSM) Broken() <-chan struct{} { return f.broken }

// Err says why nothing is applied any more, as an fsm.ErrNewer; nil = all is well.
func (f *FSM) Err() error {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.err
}

// refuse keeps everything from an index on out of the state.
func (f *FSM) refuse(index uint64, err error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.err == nil {
		f.err = fmt.Errorf("log index %d: %w", index, err)
		close(f.broken)
	}
}

// State is the newest view.
func (f *FSM) State() *fsm.State { return f.machine.State() }

// Changed returns a channel that is closed when there is a newer view than the
// one State returned before the call.
func (f *FSM) Changed() <-chan struct{} {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.changed
}

func (f *FSM) publish() {
	f.mu.Lock()
	defer f.mu.Unlock()
	close(f.changed)
	f.changed = make(chan struct{})
}

// Apply applies one entry; the response is as in ApplyBatch.
func (f *FSM) Apply(l *raft.Log) any { return f.ApplyBatch([]*raft.Log{l})[0] }

// ApplyBatch applies entries in order. Responses are fsm.Results; for an entry that
// was not applied here because this build is too old, the error that Err gives.
func (f *FSM) ApplyBatch(logs []*raft.Log) []any {
	out := make([]any, len(logs))
	entries := make([]fsm.Entry, 0, len(logs))
	start := 0 // of the entries within out
	flush := func() {
		for i, r := range f.machine.Apply(entries) {
			out[start+i] = r
		}
		entries = entries[:0]
	}
	failed := f.Err()
	for i, l := range logs {
		if failed == nil && l.Type == raft.LogCommand {
			if err := fsm.CheckEntry(l.Data, f.level); err != nil {
				f.refuse(l.Index, err)
				failed = f.Err()
			}
		}
		if failed != nil {
			out[i] = failed
			continue
		}
		if l.Type == raft.LogCommand {
			if len(entries) == 0 {
				start = i
			}
			entries = append(entries, fsm.Entry{Index: l.Index, Term: l.Term, Data: l.Data})
			continue
		}
		if len(entries) > 0 {
			flush()
		}
		if l.Type == raft.LogConfiguration {
			f.members(l.Index, raft.DecodeConfiguration(l.Data))
		}
		out[i] = fsm.Result{Index: l.Index}
	}
	if len(entries) > 0 {
		flush()
	}
	f.publish()
	return out
}

// StoreConfiguration tells the state who is a member. Raft calls it where
// entries are applied one by one, and after a restore.
func (f *FSM) StoreConfiguration(index uint64, c raft.Configuration) {
	f.members(index, c)
	f.publish()
}

func (f *FSM) members(index uint64, c raft.Configuration) {
	if f.Err() != nil {
		return
	}
	ids := make([]fsm.NodeID, len(c.Servers))
	for i, s := range c.Servers {
		ids[i] = fsm.NodeID(s.ID)
	}
	f.machine.Members(index, ids)
}

// Snapshot takes a view; writing it out does not hold up Apply.
func (f *FSM) Snapshot() (raft.FSMSnapshot, error) {
	if err := f.Err(); err != nil {
		return nil, err // Raft would put it at an index that the state never reached
	}
	return snapshot{f.State()}, nil
}

// Restore replaces the state by a snapshot, or leaves it as it is when the
// snapshot is damaged, or of a newer version.
func (f *FSM) Restore(r io.ReadCloser) error {
	defer r.Close()
	if err := f.Err(); err != nil {
		return err
	}
	s, err := f.machine.Read(r)
	if err != nil {
		return fmt.Errorf("restore snapshot: %w", err)
	}
	f.machine.Restore(s)
	f.publish()
	return nil
}

type snapshot struct{ state *fsm.State }

func (s snapshot) Persist(sink raft.SnapshotSink) error {
	if _, err := s.state.WriteTo(sink); err != nil {
		_ = sink.Cancel() // the write error is the one to report
		return fmt.Errorf("write snapshot: %w", err)
	}
	return sink.Close()
}

func (snapshot) Release() {}
