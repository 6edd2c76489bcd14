package fsm

import (
	"fmt"
	"slices"
	"time"

	"lifeboat/fsm/logpb"
)

const (
	maxReceivers = 50
	// failsAfter is how often a delivery fails before that is an alert.
	failsAfter = 3
)

// notice puts a change of an alert into the outbox, for those who want to know.
func (t *tx) notice(kind NoticeKind, a *AlertRecord) {
	if t.s.Level < LevelPolicy || t.s.receivers.len() == 0 {
		return
	}
	if kind == NoticeResolved {
		if a.Muted {
			return // nobody was told that it began
		}
	} else if x := t.s.silenced(a, t.now); x != nil {
		t.mute(x, kind, a)
		return
	} else if a.Muted || a.Worse { // what it matched has changed
		kind = map[bool]NoticeKind{true: NoticeOpened, false: NoticeWorse}[a.Muted]
		a = t.heard(a)
	}
	var to []string
	for name, r := range t.s.receivers.all() {
		if !r.Off && r.wants(t.s, a) {
			to = append(to, name)
		}
	}
	if len(to) == 0 {
		return
	}
	id := NoticeID(t.mint())
	t.s.putNotice(&Notice{ID: id, Kind: kind, Time: t.now, For: to, Alert: a})
	t.boundOutbox()
}

// boundOutbox drops the oldest news beyond notify_keep; those who miss one are told how
// many. Repeats have a bound of their own (repeatShare), so that they cost no news.
func (t *tx) boundOutbox() {
	for t.s.news.len() > t.s.Policy.NotifyKeep {
		id, _, _ := t.s.news.min()
		n, _ := t.s.outbox.get(id)
		for _, name := range n.For {
			if r := t.s.Receiver(name); r != nil && r.Done < id {
				x := *r
				x.Lost++
				t.s.receivers.set(name, &x)
			}
		}
		t.s.dropNotice(id)
	}
}

// sweepOutbox drops the notices of a range that nobody waits for any more.
func (t *tx) sweepOutbox(after, upto NoticeID) {
	var drop []NoticeID
	for id, n := range t.s.outbox.from(after + 1) {
		if id > upto {
			break
		}
		if !slices.ContainsFunc(n.For, func(name string) bool { r := t.s.Receiver(name); return r != nil && r.Done < id }) {
			drop = append(drop, id)
		}
	}
	for _, id := range drop {
		t.s.dropNotice(id)
	}
}

func receiverSubject(name string) string { return "receiver " + name }

func (t *tx) notifySet(c *logpb.NotifySet) string {
	if no := t.later(LevelPolicy); no != "" {
		return no
	}
	m, no := matchFromLog(c.Match)
	old := t.s.Receiver(c.Name)
	const most = 64
	switch {
	case no != "":
		return no
	case c.Name == "" || len(c.Name) > most || c.Kind == "":
		return fmt.Sprintf("a receiver has a name of at most %d bytes, and a kind", most)
	case old == nil && t.s.receivers.len() >= maxReceivers:
		return fmt.Sprintf("there are %d receivers, and there can be no more; remove one with `lifeboat notify remove`", maxReceivers)
	case c.RepeatNs != 0 && c.RepeatNs < int64(minRepeat):
		return fmt.Sprintf("a receiver is told again of what is open every %s at most", minRepeat)
	case c.KeepSecret && old == nil:
		return fmt.Sprintf("there is no receiver %s whose secret could be kept; `lifeboat notify list` shows them", c.Name)
	}
	r := Receiver{Name: c.Name, Done: NoticeID(t.s.seq)} // what was before is not for it
	if old != nil {
		r = *old
	}
	moved := r.Kind != c.Kind || r.Address != c.Address
	if moved || c.Off { // what failed there says nothing
		r.Failing, r.Failure = 0, ""
	}
	if c.Off { // what waits for it is not for it any more
		r.Done, r.Batch = NoticeID(t.s.seq), nil
	}
	if r.Batch != nil {
		b := *r.Batch
		b.NotBefore, r.Batch = t.now, &b // at once, with what was set
	}
	if !c.KeepSecret {
		r.Secret = c.Secret
	}
	if moved || c.Off {
		r.Round, r.Cursor = 0, 0 // nothing is known there of what is open
	}
	r.Repeat = time.Duration(c.RepeatNs)
	r.Kind, r.Address, r.Options, r.Match, r.Off, r.By, r.Set = c.Kind, c.Address, settingsFromLog(c.Options), m, c.Off, t.actor, t.now
	t.s.receivers.set(r.Name, &r)
	if old != nil {
		t.sweepOutbox(old.Done, r.Done)
	}
	t.event("NOTIFY.SET", Warning, receiverSubject(r.Name), "receiver %s: %s at %s%s", r.Name, r.Kind, r.Address, map[bool]string{true: ", off"}[r.Off])
	if moved || c.Off {
		t.resolve(receiverAlert(r.Name), "the receiver was changed")
	}
	return ""
}

func (t *tx) notifyRemove(c *logpb.NotifyRemove) string {
	r := t.s.Receiver(c.Name)
	if r == nil {
		return fmt.Sprintf("there is no receiver %s; `lifeboat notify list` shows them", c.Name)
	}
	t.s.receivers.delete(c.Name)
	t.sweepOutbox(r.Done, ^NoticeID(0)-1)
	t.event("NOTIFY.REMOVE", Warning, receiverSubject(c.Name), "receiver %s was removed", c.Name)
	t.resolve(receiverAlert(c.Name), "it was removed")
	return ""
}

// tick ends and begins what its time has come for. It comes with every canary and costs
// nothing when there is nothing.
func (t *tx) tick() {
	if t.s.Level < LevelPolicy {
		return
	}
	t.retainAlerts()
	t.tickSilences()
	t.repeat()
}

// notifyStep moves a delivery on. A late or repeated one changes nothing.
func (t *tx) notifyStep(c *logpb.NotifyStep) string {
	if no := t.later(LevelPolicy); no != "" {
		return no
	}
	old := t.s.Receiver(c.Receiver)
	if old == nil {
		return fmt.Sprintf("there is no receiver %s any more", c.Receiver)
	}
	r := *old
	switch c.Action {
	case NotifyBegin:
		return t.notifyBegin(&r, c)
	case NotifyDelivered, NotifyFailed:
		if r.Batch == nil || r.Batch.ID != c.Delivery {
			return "" // late or repeated
		}
	default:
		return "a delivery is begun, has arrived or has failed"
	}
	if c.Action == NotifyDelivered {
		after := r.Done
		r.Done, r.Batch = max(r.Done, r.Batch.Upto), nil
		r.Delivered++
		r.DeliveredAt, r.Failing, r.Failure = t.now, 0, ""
		t.s.receivers.set(r.Name, &r)
		t.sweepOutbox(after, r.Done)
		t.resolve(receiverAlert(r.Name), "a delivery has arrived")
		return ""
	}
	if c.Attempt != r.Batch.Attempts+1 {
		return ""
	}
	b := *r.Batch
	b.Attempts = c.Attempt
	b.NotBefore = t.now + int64(t.s.Policy.notifyBackoff(b.Attempts))
	r.Batch, r.Failure = &b, cut(c.Failure, requestText)
	if r.Failing == 0 {
		r.Failing = t.now
	}
	give := t.s.Policy.NotifyGiveUp
	if give != 0 && t.now-b.Begun >= int64(give) {
		after := r.Done
		for n := range t.s.Notices(r.Name, after, b.Upto) {
			if n.Kind != NoticeStill { // that comes again
				r.Lost++
			}
		}
		r.Done, r.Batch = max(r.Done, b.Upto), nil
		t.event("NOTIFY.GIVEUP", Critical, receiverSubject(r.Name), "%d notices for receiver %s were given up after %d attempts in %s: %s", b.Count, r.Name, b.Attempts, time.Duration(t.now-b.Begun), r.Failure)
		t.s.receivers.set(r.Name, &r)
		t.sweepOutbox(after, r.Done)
		return ""
	}
	t.s.receivers.set(r.Name, &r)
	if b.Attempts >= failsAfter {
		t.raise(receiverAlert(r.Name), Warning, "Receiver %s (%s at %s) gets no notifications since %s: %s. It is tried again until it takes them; see `lifeboat notify test %s`.", r.Name, r.Kind, r.Address, clock(r.Failing), r.Failure, r.Name)
	}
	return ""
}

// Actions of NotifyStep, as they are in the log.
const (
	NotifyBegin     = 1
	NotifyDelivered = 2
	NotifyFailed    = 3
)

func (t *tx) notifyBegin(r *Receiver, c *logpb.NotifyStep) string {
	switch {
	case r.Batch != nil || uint64(r.Done) != c.After:
		return "" // late or repeated
	case c.Upto <= uint64(r.Done) || c.Upto > t.s.seq:
		return fmt.Sprintf("there is no notice %d for receiver %s", c.Upto, r.Name)
	}
	b := &Batch{ID: t.s.deliveryID(r.Name, NoticeID(c.Upto)), Upto: NoticeID(c.Upto), Begun: t.now, NotBefore: t.now}
	for range t.s.Notices(r.Name, r.Done, b.Upto) {
		b.Count++
	}
	if b.Count == 0 {
		return fmt.Sprintf("receiver %s waits for no notice up to %d", r.Name, c.Upto)
	}
	r.Batch = b
	t.s.receivers.set(r.Name, r)
	return ""
}
