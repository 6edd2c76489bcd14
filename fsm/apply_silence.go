package fsm

import (
	"fmt"
	"time"

	"lifeboat/fsm/logpb"
)

const (
	// maxSilences is how many may be planned or active.
	maxSilences = 1000
	// MaxSilence is how long a silence may last, and how far ahead it may be planned.
	MaxSilence = 365 * 24 * time.Hour
	// silencesKept is how many are shown that have ended, and for how long.
	silencesKept    = 100
	silencesKeptFor = 7 * 24 * time.Hour
)

func (t *tx) silenceSet(c *logpb.SilenceSet) string {
	if no := t.later(LevelPolicy); no != "" {
		return no
	}
	if c.Id != 0 {
		return t.silenceEnd(SilenceID(c.Id))
	}
	m, no := matchFromLog(c.Match)
	from := c.FromUnixNs
	if from == 0 {
		from = t.now
	}
	until := c.UntilUnixNs
	ahead := from - t.now
	switch longest := int64(MaxSilence); {
	case no != "":
		return no
	case c.Reason == "":
		return "a silence has a reason, for who wonders why nobody was told"
	case from < t.now:
		return fmt.Sprintf("the silence would begin at %s, and it is %s: one cannot begin in the past; name a time to come, or leave the begin away for now", clock(from), clock(t.now))
	case from > maxTime || ahead > longest:
		return fmt.Sprintf("a silence is planned at most %s ahead; plan it when it is nearer", MaxSilence)
	case (c.ForNs == 0) == (until == 0) || c.ForNs < 0 || c.ForNs > longest:
		return fmt.Sprintf("a silence lasts up to %s: say either for how long, or until when", MaxSilence)
	}
	if until == 0 {
		until = from + c.ForNs
	}
	switch {
	case until <= t.now:
		return fmt.Sprintf("the silence would end at %s, and it is %s: it would be over before it begins; name a time to come", clock(until), clock(t.now))
	case until <= from:
		return fmt.Sprintf("the silence would end at %s, before it begins at %s; name an end that is later", clock(until), clock(from))
	case until-from > int64(MaxSilence):
		return fmt.Sprintf("a silence lasts up to %s, and this one would last %s; let it end earlier", MaxSilence, time.Duration(until-from))
	case t.s.unended() >= maxSilences:
		return fmt.Sprintf("%d silences are planned or active, and there can be no more; end one with `lifeboat notify silence end`", maxSilences)
	}
	x := &Silence{ID: SilenceID(t.mint()), Match: m, Reason: c.Reason, By: t.actor, From: from, Until: until, Planned: from > t.now}
	t.s.silences.set(x.ID, x)
	if x.Planned {
		t.event("SILENCE.PLAN", Warning, x.subject(), "alerts that match will notify nobody from %s until %s: %s", clock(x.From), clock(x.Until), x.Reason)
		return ""
	}
	t.silenceStarts(x)
	return ""
}

func (x *Silence) subject() string { return fmt.Sprintf("silence %d", x.ID) }

func (t *tx) silenceStarts(x *Silence) {
	t.event("SILENCE.START", Warning, x.subject(), "alerts that match notify nobody until %s: %s", clock(x.Until), x.Reason)
}

// silenceEnd ends a silence before its time, or calls off a planned one.
func (t *tx) silenceEnd(id SilenceID) string {
	x, ok := t.s.silences.get(id)
	switch {
	case !ok:
		return fmt.Sprintf("there is no silence %d; `lifeboat notify silence list` shows them", id)
	case x.Ended != 0:
		return fmt.Sprintf("silence %d has ended already, at %s", id, clock(x.Ended))
	}
	t.endSilence(x, t.now, "was ended")
	t.unmute()
	return ""
}

// endSilence notes the end. Who is to be told of what it kept back, unmute looks for.
func (t *tx) endSilence(x *Silence, at int64, how string) {
	n := *x
	n.Ended = at
	if n.Planned && n.From > at {
		how = "was called off before it began"
	}
	n.Planned = false
	t.s.silences.set(n.ID, &n)
	t.event("SILENCE.END", Info, n.subject(), "silence %d %s; it kept %d alerts from receivers", n.ID, how, n.Muted)
}

// tickSilences notes which silences have begun or ended by now. It may come late, when
// nobody led: what a silence keeps back goes by its times alone.
func (t *tx) tickSilences() {
	var begun, over []*Silence
	for _, x := range t.s.silences.all() {
		switch {
		case x.Ended != 0:
		case x.Until <= t.now:
			over = append(over, x)
		case x.Planned && x.From <= t.now:
			begun = append(begun, x)
		}
	}
	for _, x := range begun {
		n := *x
		n.Planned = false
		t.s.silences.set(n.ID, &n)
		t.silenceStarts(&n)
	}
	for _, x := range over {
		t.endSilence(x, x.Until, "is over")
	}
	if len(over) > 0 {
		t.unmute()
	}
	t.forgetSilences()
}

// forgetSilences drops those that ended long ago, and the oldest of too many.
func (t *tx) forgetSilences() {
	var ended []*Silence
	for _, x := range t.s.silences.all() {
		if x.Ended != 0 {
			ended = append(ended, x)
		}
	}
	for i, x := range ended {
		if x.Ended+int64(silencesKeptFor) <= t.now || len(ended)-i > silencesKept {
			t.s.silences.delete(x.ID)
		}
	}
}

// mute notes on an alert what a silence keeps from receivers.
func (t *tx) mute(x *Silence, kind NoticeKind, a *AlertRecord) {
	n := *a
	if kind == NoticeWorse {
		n.Worse = !a.Muted // who was not told of the alert is told of it as it is then
		t.setAlert(&n)
		return
	}
	if a.Muted {
		return
	}
	n.Muted = true
	t.setAlert(&n)
	y := *x
	y.Muted++
	t.s.silences.set(y.ID, &y)
}

// heard is an alert of which nothing is kept back any more.
func (t *tx) heard(a *AlertRecord) *AlertRecord {
	n := *a
	n.Muted, n.Worse = false, false
	t.setAlert(&n)
	return &n
}

// unmute tells of the alerts that are still open, and that no silence keeps back any
// more: once, whatever became of them meanwhile.
func (t *tx) unmute() {
	var back []*AlertRecord
	for _, id := range t.s.raised.all() {
		if a := t.s.Alert(id); (a.Muted || a.Worse) && t.s.silenced(a, t.now) == nil {
			back = append(back, a)
		}
	}
	for _, a := range back {
		kind := NoticeOpened
		if !a.Muted {
			kind = NoticeWorse
		}
		t.notice(kind, t.heard(a))
	}
}
