package fsm

import "lifeboat/fsm/logpb"

// What an operator does that changes nothing else of the state, as it is in the log.
const (
	AuditSnapshot   = 1 // read a snapshot of the state
	AuditNotifyTest = 2 // had a receiver sent a test
	AuditFenceTest  = 3 // had the fence levels of a host tested
)

// audit writes down that somebody has done something which leaves no other trace.
func (t *tx) audit(c *logpb.Audit) string {
	const most = 1000
	if no := t.later(LevelPolicy); no != "" {
		return no
	}
	if c.Subject == "" || c.Text == "" {
		return "what is noted for the audit says what it is about, and what was done"
	}
	subject, text := cut(c.Subject, most), cut(c.Text, most)
	switch c.Action {
	case AuditSnapshot:
		if t.s.noted("SNAPSHOT.SAVE", text) {
			return "" // a node tells of it until it knows that it was noted
		}
		t.event("SNAPSHOT.SAVE", Info, "node "+subject, "%s", text)
	case AuditNotifyTest:
		t.event("NOTIFY.TEST", Info, receiverSubject(subject), "%s", text)
	case AuditFenceTest:
		t.event("HOST.FENCE.TEST", Info, hostSubject(HostID(subject)), "%s", text)
	default:
		return "what is noted for the audit is a snapshot, or a test of a receiver or of a host's fence levels"
	}
	return ""
}

// noted reports whether there is an event of a type with a text. It walks the events that
// are kept, the newest first: for what is rare, and was noted lately if ever.
func (s *State) noted(typ, text string) bool {
	for _, e := range s.EventsDown() {
		if e.Type == typ && e.Text == text {
			return true
		}
	}
	return false
}

// snapshotTaken notes when a node took its newest snapshot by itself. What it says again
// is no news.
func (t *tx) snapshotTaken(old, n *Node, at int64) {
	if t.s.Level < LevelPolicy {
		return
	}
	if old != nil {
		n.SnapshotAt = old.SnapshotAt
	}
	if at <= 0 || at == n.SnapshotAt {
		return
	}
	n.SnapshotAt = at
	t.event("SNAPSHOT.SCHEDULE", Info, "node "+string(n.ID), "management node %s took a snapshot as scheduled, at %s", n.ID, clock(at))
}
