package sim

import "lifeboat/fsm"

// In a large world the managers share one state machine: each sees it as of the
// entry it has applied last. That they agree is not checked there; four copies
// of a million VMs would say no more than those of a small world do.

// batch is how many entries are applied at once.
const batch = 1024

func (m *manager) applyShared() {
	w, r := m.w, &m.raft
	for r.applied < r.commit && !w.done {
		from := r.applied
		end := min(r.commit, from+batch)
		var results []fsm.Result
		if known := len(w.raft.entries); from < known {
			end = min(end, known)
		} else {
			results = w.commitAll(r.log[from:end])
		}
		r.applied = end
		if end == len(w.raft.entries) {
			m.seen = w.truth.State()
		}
		for i := from; i < end; i++ {
			switch {
			case r.log[i].data == nil:
				if r.leads && i+1 == r.begun {
					m.serveTerm()
				}
			case m.term == nil:
			case results == nil:
				m.term.applied(uint64(i+1), fsm.Result{Index: uint64(i + 1)})
			default:
				m.term.applied(uint64(i+1), results[i-from])
			}
		}
	}
}

// commitAll applies entries that nobody has applied before. What they say is not
// needed any more then.
func (w *World) commitAll(entries []entry) []fsm.Result {
	first := len(w.raft.entries)
	results := make([]fsm.Result, len(entries))
	var list []fsm.Entry
	for i, e := range entries {
		if e.data != nil {
			list = append(list, fsm.Entry{Index: uint64(first + i + 1), Term: e.term, Data: e.data})
			entries[i].data = []byte{}
		}
	}
	w.raft.entries = append(w.raft.entries, entries...)
	if len(list) == 0 {
		return results
	}
	before := w.truth.State()
	for _, r := range w.truth.Apply(list) {
		results[int(r.Index)-first-1] = r
	}
	w.checkCommit(before, w.truth.State(), w.tell())
	return results
}

// state is what this manager's state machine says.
func (m *manager) state() *fsm.State {
	if m.w.shared {
		return m.seen
	}
	return m.machine.State()
}
