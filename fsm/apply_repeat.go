package fsm

import "time"

const (
	// repeatAtOnce bounds how many alerts one entry tells a receiver again.
	repeatAtOnce = 500
	// minRepeat is the shortest time after which a receiver may be told again.
	minRepeat = 10 * time.Second
)

// repeat tells receivers that forget (Receiver.Repeat) again what is open, in rounds:
// each begins a time after the one before began, takes the alerts by their numbers, and
// goes on when the receiver has taken what it was told. So it costs a bounded part of
// an entry, a receiver that hangs has a bounded number of them waiting, and where a round
// is, is in the state: a new leader goes on with it.
func (t *tx) repeat() {
	var due []*Receiver
	for _, r := range t.s.receivers.all() {
		if r.Repeat != 0 && !r.Off && (r.Cursor != 0 || r.Round == 0 || t.now-r.Round >= int64(r.Repeat)) && !t.s.waits(r) {
			due = append(due, r)
		}
	}
	for _, r := range due {
		n := *r
		if n.Cursor == 0 {
			n.Round, n.Cursor = t.now, 1
		}
		n.Cursor = t.repeatTo(r, n.Cursor)
		t.s.receivers.set(n.Name, &n)
	}
}

// waits reports whether a receiver has not got something yet.
func (s *State) waits(r *Receiver) bool {
	for range s.Pending(r) {
		return true
	}
	return false
}

// repeatTo puts the next open alerts, from a number on, into the outbox for one
// receiver, and returns where to go on; 0 = that were all. What a silence has kept from
// everybody stays so; of what was told before it, the receiver goes on to know.
func (t *tx) repeatTo(r *Receiver, from AlertID) AlertID {
	keep := t.s.Policy.NotifyKeep
	// Where another receiver has filled the outbox, this one is not to suffer for it.
	room := min(repeatAtOnce, max(keep-t.s.outbox.len(), keep/10))
	defer t.boundOutbox()
	for id, a := range t.s.alerts.from(from) {
		if a.State.Closed() || a.Muted || !r.wants(t.s, a) {
			continue
		}
		if room <= 0 {
			return id
		}
		room--
		n := NoticeID(t.mint())
		t.s.outbox.set(n, &Notice{ID: n, Kind: NoticeStill, Time: t.now, For: []string{r.Name}, Alert: a})
	}
	return 0
}
