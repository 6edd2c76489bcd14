package fsm

import "time"

const (
	// repeatAtOnce bounds how many alerts one entry tells a receiver again.
	repeatAtOnce = 500
	// minRepeat is the shortest time after which a receiver may be told again.
	minRepeat = 10 * time.Second
)

// repeatShare is how many repeats may wait for one receiver. They come on top of the
// news, which notify_keep bounds: so neither takes the place of the other, and a receiver
// that hangs takes nothing from those that do not.
func (p *Policy) repeatShare() int { return min(repeatAtOnce, p.NotifyKeep/10) }

// repeat tells receivers that forget (Receiver.Repeat) again what is open, in rounds:
// each begins a time after the one before began, takes the alerts by their numbers, and
// goes on when the receiver has taken the repeats that it was told. News in between do
// not hold it up, or a round would never end where alerts come and go all the time. Where
// a round is, is in the state: a new leader goes on with it.
func (t *tx) repeat() {
	var due []*Receiver
	for _, r := range t.s.receivers.all() {
		if r.Repeat != 0 && !r.Off && (r.Cursor != 0 || r.Round == 0 || t.now-r.Round >= int64(r.Repeat)) && !t.s.repeating(r) {
			due = append(due, r)
		}
	}
	for _, r := range due {
		n := *r
		if n.Cursor == 0 {
			n.Round, n.Cursor = t.now, 1
		}
		n.Cursor = t.repeatTo(&n)
		t.s.receivers.set(n.Name, &n)
	}
}

// repeating reports whether a receiver has not got all repeats yet.
func (s *State) repeating(r *Receiver) bool {
	for n := range s.Pending(r) {
		if n.Kind == NoticeStill {
			return true
		}
	}
	return false
}

// repeatTo puts the next open alerts of a round into the outbox for its receiver, and
// returns where to go on; 0 = that were all. What a silence has kept from everybody stays
// so; of what was told before it, the receiver goes on to know. What was first raised
// after the round began was told since as news, and is left to the next round: a round
// over what keeps coming would have no end.
func (t *tx) repeatTo(r *Receiver) AlertID {
	room := t.s.Policy.repeatShare()
	for id, a := range t.s.alerts.from(r.Cursor) {
		if a.First > r.Round {
			break // numbers are given in the order of time
		}
		if a.State.Closed() || a.Muted || !r.wants(t.s, a) {
			continue
		}
		if room <= 0 {
			return id
		}
		room--
		t.s.putNotice(&Notice{ID: NoticeID(t.mint()), Kind: NoticeStill, Time: t.now, For: []string{r.Name}, Alert: a})
	}
	return 0
}
