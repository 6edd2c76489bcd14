package sim

import (
	"fmt"
	"time"

	"google.golang.org/protobuf/proto"

	"lifeboat/fsm"
	"lifeboat/fsm/logpb"
)

// raftLog is what is committed, whoever knows it.
type raftLog struct {
	term    uint64
	entries []entry
	digests map[uint64]uint64 // of the state at an index, by the first who was there
}

// entry of the log; a nil command is the first of a term, or a state that replaces the
// one before it.
type entry struct {
	term  uint64
	data  []byte
	state []byte
}

// raftNode is a manager's share of Raft: an ideal one, in which a message
// between two that hear each other is instant, and time passes in ticks.
type raftNode struct {
	log         []entry // entry i has the index i+1
	commit      int
	applied     int
	term        uint64
	leads       bool
	leader      *manager      // as far as known
	heard       time.Duration // when it was last heard
	quorum      time.Duration // when the leader last heard a majority
	patient     time.Duration // no vote is asked for before
	lastContact time.Duration // as a follower, with a leader
	soon        int           // run of the process in which replication is planned; 0: it is not
	begun       int           // index of the term's first entry; the term serves when it is applied
}

const (
	raftTick    = 50 * time.Millisecond
	raftTimeout = 500 * time.Millisecond
	leaderLease = 400 * time.Millisecond
	appendTime  = time.Millisecond
	restartWait = 2 * time.Second // systemd
)

// begin is the start of a process: the log is there, nothing is applied.
func (r *raftNode) begin(m *manager) {
	r.applied, r.commit, r.leads, r.leader, r.soon = 0, 0, false, nil, 0
	r.heard = m.w.now
	r.patience(m.w)
}

// patience is how long a node waits for a leader; longer for some.
func (r *raftNode) patience(w *World) { r.patient = raftTimeout + w.jitter(raftTimeout) }

func (w *World) majority() int { return len(w.managers)/2 + 1 }

// raftTicks is Raft's passing of time.
func (w *World) raftTicks() {
	for _, m := range w.managers {
		if m.works() && m.raft.leads {
			m.beat()
		}
	}
	for _, m := range w.managers {
		if m.works() && !m.raft.leads && !m.left && w.now-m.raft.heard > m.raft.patient {
			m.stand()
		}
	}
	w.after(raftTick, w.raftTicks)
}

// beat is a leader's heartbeat to all.
func (m *manager) beat() {
	w, r := m.w, &m.raft
	heard := 1
	for _, o := range w.managers {
		if o == m || !o.works() {
			continue
		}
		there, back := w.reaches(m, o), w.reaches(o, m)
		if there && back && o.raft.term > r.term {
			m.stepDown(o.raft.term, "another node leads in a later term")
			return
		}
		if there && o.raft.term <= r.term {
			o.follow(m)
		}
		if there && back {
			heard++
		}
	}
	if heard >= w.majority() {
		r.quorum = w.now
	} else if w.now-r.quorum > leaderLease {
		m.stepDown(r.term, "it does not hear a majority")
		return
	}
	m.replicate()
}

func (m *manager) follow(l *manager) {
	r := &m.raft
	if r.leads {
		m.stepDown(l.raft.term, "another node leads")
	}
	r.term, r.leader, r.heard, r.lastContact = l.raft.term, l, m.w.now, m.w.now
}

func (m *manager) stepDown(term uint64, why string) {
	r := &m.raft
	r.leads, r.leader = false, nil
	r.term = max(r.term, term)
	r.heard = m.w.now
	r.patience(m.w)
	m.w.note([]string{m.name}, "%s does not lead any more: %s", m.name, why)
	m.endTerm(why)
}

// stand asks for votes.
func (m *manager) stand() {
	w, r := m.w, &m.raft
	if m.disk != diskOK {
		return
	}
	var voters []*manager
	term := r.term
	for _, o := range w.managers {
		if o == m || !o.works() || o.disk != diskOK || !w.talk(m, o) {
			continue
		}
		x := &o.raft
		if x.leads && x.term >= r.term || x.leader != nil && w.now-x.heard < raftTimeout || !upToDate(r.log, x.log) {
			continue // it would not vote for us
		}
		term = max(term, x.term)
		voters = append(voters, o)
	}
	if len(voters)+1 < w.majority() {
		return
	}
	m.lead(max(term, w.raft.term)+1, voters)
}

func upToDate(mine, theirs []entry) bool {
	a, b := lastTerm(mine), lastTerm(theirs)
	return a > b || a == b && len(mine) >= len(theirs)
}

func lastTerm(log []entry) uint64 {
	if len(log) == 0 {
		return 0
	}
	return log[len(log)-1].term
}

// lead begins a term.
func (m *manager) lead(term uint64, voters []*manager) {
	w, r := m.w, &m.raft
	w.raft.term = max(w.raft.term, term)
	for _, o := range voters {
		if o.raft.leads {
			o.stepDown(term, m.name+" was elected")
		}
		o.raft.term, o.raft.heard, o.raft.leader = term, w.now, m
	}
	r.term, r.leads, r.leader, r.quorum, r.heard = term, true, m, w.now, w.now
	r.log = append([]entry(nil), r.log...) // its own from here on
	r.log = append(r.log, entry{term: term})
	r.begun = len(r.log)
	w.note([]string{m.name}, "%s is elected, term %d", m.name, term)
	m.soonReplicate()
}

func (m *manager) soonReplicate() {
	r := &m.raft
	if r.soon == m.runs {
		return
	}
	r.soon = m.runs
	m.later(appendTime, func() {
		r.soon = 0
		if r.leads {
			m.replicate()
		}
	})
}

// replicate carries the leader's log to all that take it, and commits what a
// majority has.
func (m *manager) replicate() {
	w, r := m.w, &m.raft
	switch {
	case m.disk == diskFull:
		m.stepDown(r.term, "its disk is full")
		return
	case m.disk == diskStalls:
		return // the leader writes before it sends
	}
	n := len(r.log)
	var have []*manager
	for _, o := range w.managers {
		if o == m || !o.works() || o.disk != diskOK || !w.talk(m, o) || o.raft.term > r.term {
			continue
		}
		o.raft.log = r.log[:n:n]
		have = append(have, o)
	}
	if len(have)+1 >= w.majority() && lastTerm(r.log) == r.term {
		r.commit = n
	}
	m.apply()
	for _, o := range have {
		o.raft.commit = max(o.raft.commit, r.commit)
		o.apply()
	}
}

// apply brings the state machine up to what is committed.
func (m *manager) apply() {
	w, r := m.w, &m.raft
	if w.shared {
		m.applyShared()
		return
	}
	for r.applied < r.commit && !w.done {
		e := r.log[r.applied]
		r.applied++
		index := uint64(r.applied)
		first := w.commit(index, e)
		if e.state != nil {
			m.install(e.state, first)
			continue
		}
		if e.data == nil {
			if m.raft.leads && r.applied == r.begun {
				m.serveTerm()
			}
			continue
		}
		before := m.machine.State()
		res := m.machine.Apply([]fsm.Entry{{Index: index, Term: e.term, Data: e.data}})[0]
		if first {
			w.truth = m.machine
			w.checkCommit(before, w.truth.State(), w.tell())
		}
		w.compare(m, index)
		if m.term != nil {
			m.term.applied(index, res)
		}
	}
}

// commit notes an entry that somebody applies, and reports whether nobody has
// before.
func (w *World) commit(index uint64, e entry) (first bool) {
	n := uint64(len(w.raft.entries))
	if index <= n {
		if old := w.raft.entries[index-1]; old.term != e.term {
			w.violate("6 (one log)", nil, "entry %d is of term %d on one node and of term %d on another", index, old.term, e.term)
		}
		return false
	}
	w.raft.entries = append(w.raft.entries, e)
	return true
}

// compare is rule 6: equal states at equal indexes.
func (w *World) compare(m *manager, index uint64) {
	d := m.machine.State().Digest
	if d.Index != index {
		return // digests are taken by canaries
	}
	if w.raft.digests == nil {
		w.raft.digests = map[uint64]uint64{}
	}
	if sum, ok := w.raft.digests[index]; ok && sum != d.Sum {
		w.violate("6 (equal states)", []string{m.name}, "the state of %s at index %d is another than that of the others", m.name, index)
	}
	w.raft.digests[index] = d.Sum
}

// propose appends a command of this term. done is told what became of it.
func (t *term) propose(actor string, cmd *logpb.Command, done func(fsm.Result, error)) {
	m := t.m
	cmd.TimeUnixNs, cmd.Actor, cmd.OnlyTerm = t.wall(), actor, t.number
	data, err := proto.Marshal(cmd)
	if err != nil {
		done(fsm.Result{}, fmt.Errorf("encode command: %w", err))
		return
	}
	m.raft.log = append(m.raft.log, entry{term: m.raft.term, data: data})
	t.waiting[uint64(len(m.raft.log))] = done
	m.soonReplicate()
}

// giveAway hands leadership to the first other node that can take it.
func (m *manager) giveAway() (ok bool) {
	w := m.w
	if m.disk != diskOK {
		return false // Raft's own loop is stuck in the disk
	}
	m.replicate()
	for _, o := range w.managers {
		if o == m || !o.works() || o.left || o.disk != diskOK || !w.talk(m, o) || len(o.raft.log) < len(m.raft.log) || !m.raft.leads {
			continue
		}
		voters := []*manager{m}
		for _, v := range w.managers {
			if v != m && v != o && v.works() && v.disk == diskOK && w.talk(o, v) && upToDate(o.raft.log, v.raft.log) {
				voters = append(voters, v)
			}
		}
		if len(voters)+1 >= w.majority() {
			w.note([]string{m.name, o.name}, "%s hands over to %s", m.name, o.name)
			o.lead(w.raft.term+1, voters)
			return true
		}
	}
	return false
}
