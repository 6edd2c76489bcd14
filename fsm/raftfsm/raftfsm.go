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
type FSM struct {
	machine *fsm.Machine

	mu      sync.Mutex
	changed chan struct{} // closed by the next publication
}

// New returns an FSM with an empty state.
func New() *FSM {
	return &FSM{machine: fsm.NewMachine(), changed: make(chan struct{})}
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

// Apply applies one entry; the response is an fsm.Result.
func (f *FSM) Apply(l *raft.Log) any { return f.ApplyBatch([]*raft.Log{l})[0] }

// ApplyBatch applies entries in order. Responses are fsm.Results.
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
	for i, l := range logs {
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
	ids := make([]fsm.NodeID, len(c.Servers))
	for i, s := range c.Servers {
		ids[i] = fsm.NodeID(s.ID)
	}
	f.machine.Members(index, ids)
}

// Snapshot takes a view; writing it out does not hold up Apply.
func (f *FSM) Snapshot() (raft.FSMSnapshot, error) { return snapshot{f.State()}, nil }

// Restore replaces the state by a snapshot, or leaves it as it is when the
// snapshot is damaged.
func (f *FSM) Restore(r io.ReadCloser) error {
	defer r.Close()
	s, err := fsm.ReadState(r)
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
