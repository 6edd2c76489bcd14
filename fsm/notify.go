package fsm

import (
	"fmt"
	"iter"
	"slices"
	"time"
)

// NoticeID is minted from the counter of the state, as all ids are.
type NoticeID uint64

// SilenceID is one, too.
type SilenceID uint64

// NoticeKind is what happened to an alert that somebody is told of.
type NoticeKind uint8

// The kinds, as they are in the log.
const (
	NoticeOpened NoticeKind = iota + 1
	NoticeReopened
	NoticeResolved
	NoticeWorse // it is more severe than it was
	NoticeStill // it is still open: for receivers that forget what they do not hear again
)

func (k NoticeKind) String() string {
	return name(int(k), "", "opened", "reopened", "resolved", "worse", "still")
}

// Notice is a change of an alert that receivers are to be told of: the outbox is a
// table of them. It goes when the last of its receivers has it.
type Notice struct {
	ID    NoticeID
	Kind  NoticeKind
	Time  int64        // unix ns
	For   []string     // receivers, decided when it happened
	Alert *AlertRecord // as it was then
}

// Receiver is where notifications go.
type Receiver struct {
	Name    string
	Kind    string // driver
	Address string
	Options []Setting
	Secret  []byte // sealed
	Match   AlertMatch
	Off     bool          // nothing new is sent to it
	Repeat  time.Duration // what stays open is told again that often; 0 = never
	By      string
	Set     int64 // unix ns, last change

	Done  NoticeID // all notices up to this one are settled
	Batch *Batch   // being delivered; nil = none

	Delivered   uint64 // deliveries that arrived
	DeliveredAt int64
	Lost        uint64 // notices that were dropped before they were delivered
	Failing     int64  // since when; 0 = it does not fail
	Failure     string

	Round  int64   // when the newest round began that tells again what is open, unix ns
	Cursor AlertID // the alert where it goes on; 0 = it is over
}

// wants reports whether the receiver is told of an alert. Who cannot be reached is not
// told so: that would never end.
func (r *Receiver) wants(s *State, a *AlertRecord) bool {
	return r.Match.Matches(s, a) && (a.Key.Type != AlertReceiver || a.Key.Subject != r.Name)
}

// Batch is one delivery: it is committed before it is sent, so that whoever leads
// sends the same under the same id.
type Batch struct {
	ID        string
	Upto      NoticeID // the newest notice of it
	Count     uint32   // notices; more than one make a digest
	Attempts  uint32   // that failed
	Begun     int64
	NotBefore int64 // the next attempt
}

// Silence keeps alerts that match from notifying anybody, for a while.
type Silence struct {
	ID      SilenceID
	Match   AlertMatch
	Reason  string
	By      string
	From    int64
	Until   int64
	Muted   uint64 // alerts that it kept from receivers
	Planned bool   // its begin was not noted yet
	Ended   int64  // unix ns; 0 = it has not
}

// StateAt is planned, active or ended.
func (x *Silence) StateAt(now int64) string {
	switch {
	case x.Ended != 0 || x.Until <= now:
		return "ended"
	case x.From > now:
		return "planned"
	}
	return "active"
}

// Receiver returns a receiver, nil when unknown.
func (s *State) Receiver(name string) *Receiver { r, _ := s.receivers.get(name); return r }

// Receivers walks the receivers by name.
func (s *State) Receivers() iter.Seq2[string, *Receiver] { return s.receivers.all() }

// Silences walks the silences, oldest first: planned ones, active ones, and those that
// have ended lately.
func (s *State) Silences() iter.Seq2[SilenceID, *Silence] { return s.silences.all() }

// CountNotices is the number of notices that have not arrived everywhere.
func (s *State) CountNotices() int { return s.outbox.len() }

// Notices walks what a receiver has not got, after one notice up to another, oldest
// first.
func (s *State) Notices(receiver string, after, upto NoticeID) iter.Seq[*Notice] {
	return func(yield func(*Notice) bool) {
		for id, n := range s.outbox.from(after + 1) {
			if id > upto {
				return
			}
			if slices.Contains(n.For, receiver) && !yield(n) {
				return
			}
		}
	}
}

// Pending walks all that a receiver has not got, oldest first.
func (s *State) Pending(r *Receiver) iter.Seq[*Notice] {
	return s.Notices(r.Name, r.Done, ^NoticeID(0)-1)
}

// putNotice adds a notice to the outbox. Which are news is derived, so that a snapshot
// gives the same.
func (s *State) putNotice(n *Notice) {
	s.outbox.set(n.ID, n)
	if n.Kind != NoticeStill {
		s.news.set(n.ID, struct{}{})
	}
}

func (s *State) dropNotice(id NoticeID) {
	s.outbox.delete(id)
	s.news.delete(id)
}

// NoticesWaiting counts what each receiver has not got.
func (s *State) NoticesWaiting() map[string]int {
	out := map[string]int{}
	for id, n := range s.outbox.all() {
		for _, name := range n.For {
			if r := s.Receiver(name); r != nil && id > r.Done {
				out[name]++
			}
		}
	}
	return out
}

// silenced is the silence that keeps an alert from receivers, nil when none does.
func (s *State) silenced(a *AlertRecord, now int64) *Silence {
	for _, x := range s.silences.all() {
		if x.StateAt(now) == "active" && x.Match.Matches(s, a) {
			return x
		}
	}
	return nil
}

// unended counts the silences that are planned or active.
func (s *State) unended() (n int) {
	for _, x := range s.silences.all() {
		if x.Ended == 0 {
			n++
		}
	}
	return n
}

// deliveryID names a delivery: no other one of this cluster has the same, also after
// a restore, which brings ids back that were given before.
func (s *State) deliveryID(receiver string, upto NoticeID) string {
	return fmt.Sprintf("%s-%d-%s-%d", s.ClusterID, s.Generation, receiver, upto)
}

// receiverAlert is the key of "a receiver cannot be reached".
func receiverAlert(name string) AlertKey { return AlertKey{AlertReceiver, name, "failing"} }
