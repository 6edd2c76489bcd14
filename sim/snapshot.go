package sim

import (
	"bytes"
	"fmt"

	"lifeboat/fsm"
)

// snapshotSave keeps the leader's state, as `snapshot save` does.
func (x *step) snapshotSave() {
	x.operation(x.text, &operation{func(t *term, end func(error)) {
		x.World.saved = t.state()
		end(nil)
	}}, nil)
}

// snapshotRestore replaces the state by the one that was saved, which wakes disarmed.
// The refusals are those of a real node (S10, S22).
func (x *step) snapshotRestore() {
	x.operation(x.text, &operation{func(t *term, end func(error)) {
		w, s := x.World, t.state()
		switch {
		case w.shared:
			end(&rejected{"worlds of this size do not restore snapshots"})
			return
		case w.saved == nil:
			end(&rejected{"no snapshot was saved"})
			return
		case s.Armed:
			end(&rejected{"HA is armed"})
			return
		}
		for id, h := range s.Hosts() {
			if h.Attempt.End() > t.wall() {
				end(&rejected{fmt.Sprintf("the power of host %s may still be cut", id)})
				return
			}
		}
		if len(s.Unheeding()) > 0 || len(t.waiting) > 0 {
			end(errUnknown) // a matter of time
			return
		}
		if err := t.m.restore(w.saved); err != nil {
			end(&rejected{err.Error()})
			return
		}
		end(nil)
	}}, nil)
}

// restore appends the state that wakes to the leader's log. The term ends, and another
// one begins with that entry: what was decided before is not carried out after it.
func (m *manager) restore(saved *fsm.State) error {
	r := &m.raft
	index := uint64(len(r.log) + 1)
	next := saved.Wake(m.state(), fsm.Waking{Index: index, Term: r.term, Now: m.clock(), Actor: "operator/sim", From: " from a snapshot of the simulator"})
	var b bytes.Buffer
	if _, err := next.WriteTo(&b); err != nil {
		return fmt.Errorf("write state: %w", err)
	}
	m.endTerm("a snapshot is being restored")
	r.log = append(r.log, entry{term: r.term, state: b.Bytes()})
	r.begun = len(r.log)
	m.soonReplicate()
	return nil
}

// install replaces the state of a manager by the one that an entry holds.
func (m *manager) install(data []byte, first bool) {
	w := m.w
	s, err := fsm.ReadState(bytes.NewReader(data))
	if err != nil {
		w.violate("6 (equal states)", []string{m.name}, "a restored state cannot be read: %v", err)
		return
	}
	before := m.machine.State()
	m.machine.Restore(s)
	if first {
		w.truth = m.machine
		w.checkCommit(before, w.truth.State(), w.tell())
	}
	if m.raft.leads && m.raft.applied == m.raft.begun {
		m.serveTerm()
	}
}
