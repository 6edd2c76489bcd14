package fsm

import (
	"fmt"
	"slices"
	"strings"

	"lifeboat/fsm/logpb"
)

const (
	// External begins the cause of every alert that was raised from outside, so that
	// none can be taken for what lifeboat has seen itself, or end that.
	External = "external: "
	// MaxRaised is how many alerts one command may raise.
	MaxRaised = 1000
	// maxAlertText bounds each of a raised alert's texts, in bytes.
	maxAlertText = 4000
	// retainAtOnce bounds what the retention does in one entry.
	retainAtOnce = 1000
)

// overflowKey is the alert that there are more alerts than are kept.
func overflowKey() AlertKey { return AlertKey{AlertAlerts, "cluster", "too many"} }

// indispensable reports whether an alert is kept however many there are: decisions
// look at it, or it says what only an operator can do, or it is about few things.
func (k AlertKey) indispensable() bool {
	if strings.HasPrefix(k.Cause, External) {
		return false
	}
	return k.Type != AlertVM || k.Cause == "stopping" || k.Cause == "error" || k.Cause == GuestHangs ||
		strings.HasPrefix(k.Cause, duplicateOn) || strings.HasPrefix(k.Cause, sameUUIDOn)
}

// open opens an alert of a key that has no open one: the resolved one of that key
// again, or a new one.
func (t *tx) open(key AlertKey, name string, sev Severity, text string) {
	if t.s.raised.len() >= t.s.Policy.AlertsOpenMax && !key.indispensable() {
		t.overflow(key, sev, text)
		return
	}
	kind, n := NoticeOpened, AlertRecord{ID: 0, Key: key, First: t.now}
	if was := t.s.settledAlert(key); was != nil {
		kind, n = NoticeReopened, *was
		n.Reopened++
	} else {
		n.ID = AlertID(t.mint())
	}
	n.Name, n.State, n.Severity, n.Text = name, AlertOpen, sev, text
	n.Count++
	n.Last, n.Since, n.Index = t.now, t.now, t.index
	n.Labels = t.s.labelsOf(key)
	n.Resolved, n.Resolution, n.AckedBy, n.Muted, n.Worse = 0, "", "", false, false
	verb := "ALERT.GENERATE"
	if kind == NoticeReopened {
		verb = "ALERT.REOPEN"
	}
	n.Begun = t.linked(0, key.link(), verb, sev, subjectOf(key, name), text)
	t.setAlert(&n)
	t.notice(kind, &n)
}

// overflow counts an alert that is not kept.
func (t *tx) overflow(key AlertKey, sev Severity, text string) {
	t.raise(overflowKey(), max(sev, Warning), "%d alerts are open, which is as many as are kept (alerts_open_max). What is raised beyond is counted here and not kept; the newest is %s of %s: %s. Mend what is behind them, resolve what is over with `lifeboat alert resolve`, or raise alerts_open_max.",
		t.s.raised.len(), key.Cause, subjectOf(key, t.s.called(key)), cut(text, 300))
}

// retainAlerts archives and forgets what is old. It does a bounded part of it; the
// next entry goes on.
func (t *tx) retainAlerts() {
	p := t.s.Policy
	for range retainAtOnce {
		k, ok := t.s.oldest(AlertResolved)
		if !ok || p.AlertsArchiveAfter == 0 || k.at+int64(p.AlertsArchiveAfter) > t.now {
			break
		}
		t.archive(t.s.Alert(k.id))
	}
	for range retainAtOnce {
		k, ok := t.s.oldest(AlertArchived)
		if !ok {
			k, ok = t.s.oldest(AlertResolved)
		}
		old := p.AlertsKeepFor != 0 && k.at+int64(p.AlertsKeepFor) <= t.now
		if !ok || !old && t.s.closed.len() <= p.AlertsKeep {
			break
		}
		t.dropAlert(k.id)
	}
	if t.s.raised.len() < p.AlertsOpenMax-p.AlertsOpenMax/10 {
		if a := t.s.OpenAlert(overflowKey()); a != nil {
			t.resolve(a.Key, "%d alerts are open", t.s.raised.len()-1)
		}
	}
}

func (t *tx) archive(a *AlertRecord) {
	n := *a
	n.State, n.Archived, n.Index = AlertArchived, t.now, t.index
	t.setAlert(&n)
}

// alertControl is an operator's word about alerts.
func (t *tx) alertControl(c *logpb.AlertControl) string {
	if no := t.later(LevelPolicy); no != "" {
		return no
	}
	m, no := matchFromLog(c.Match)
	switch {
	case no != "":
		return no
	case c.Action < alertAck || c.Action > alertDelete:
		return "an alert can be acknowledged, resolved, archived or deleted"
	case len(c.Ids) > MaxRaised:
		return fmt.Sprintf("at most %d alerts can be named at once; choose them by a filter", MaxRaised)
	case c.OlderNs < 0:
		return "an age is not negative"
	}
	chosen, no := t.s.chosenAlerts(c, m, t.now)
	if no == "" {
		t.controlAlerts(c.Action, chosen)
	}
	return no
}

// chosenAlerts are the alerts that a command is about, or why it is refused.
func (s *State) chosenAlerts(c *logpb.AlertControl, m AlertMatch, now int64) (chosen []*AlertRecord, no string) {
	if len(c.Ids) > 0 {
		for _, id := range c.Ids {
			a := s.Alert(AlertID(id))
			if a == nil {
				return nil, fmt.Sprintf("there is no alert %d; `lifeboat alert list --all` shows what is kept. Nothing was changed", id)
			}
			if c.Action >= alertArchive && !a.State.Closed() {
				return nil, fmt.Sprintf("alert %d is %s: it would be out of sight although it goes on; mend the cause, or first `lifeboat alert resolve %d`. Nothing was changed", id, a.State, id)
			}
			chosen = append(chosen, a)
		}
		return chosen, ""
	}
	for _, a := range s.alerts.all() {
		if (c.State == 0 || a.State == AlertState(c.State)) && now-a.changed() >= c.OlderNs && m.Matches(s, a) {
			chosen = append(chosen, a)
		}
	}
	return chosen, ""
}

// CountControlled is how many alerts a command would change at a time (unix ns): not
// those that are as it wants them already. 0 when it would be refused.
func (s *State) CountControlled(c *logpb.AlertControl, now int64) (n int) {
	m, no := matchFromLog(c.Match)
	if no != "" {
		return 0
	}
	chosen, _ := s.chosenAlerts(c, m, now)
	seen := map[AlertID]bool{}
	for _, a := range chosen {
		if !seen[a.ID] && a.takes(c.Action) {
			n++
		}
		seen[a.ID] = true
	}
	return n
}

// takes reports whether an action changes an alert in its state.
func (a *AlertRecord) takes(action uint32) bool {
	switch action {
	case alertAck:
		return a.State == AlertOpen
	case alertResolve:
		return !a.State.Closed()
	case alertArchive:
		return a.State == AlertResolved
	case alertDelete:
		return a.State.Closed()
	}
	return false
}

// Actions on alerts, as they are in the log.
const (
	alertAck = iota + 1
	alertResolve
	alertArchive
	alertDelete
)

// changed is when an alert was heard of last.
func (a *AlertRecord) changed() int64 { return max(a.Last, a.Resolved, a.Archived) }

func (t *tx) controlAlerts(action uint32, chosen []*AlertRecord) {
	for _, a := range chosen {
		if now := t.s.Alert(a.ID); now != a || !a.takes(action) {
			continue // an earlier one of this command has changed it, or it is so already
		}
		subject := subjectOf(a.Key, a.About())
		switch action {
		case alertAck:
			n := *a
			n.State, n.AckedBy, n.Index = AlertAcknowledged, t.actor, t.index
			t.setAlert(&n)
			t.linked(a.Begun, a.Key.link(), "ALERT.ACKNOWLEDGE", Info, subject, "acknowledged: "+a.Text)
		case alertResolve:
			t.resolveByHand(a.Key)
		case alertArchive:
			t.archive(a)
			t.linked(a.Begun, a.Key.link(), "ALERT.ARCHIVE", Info, subject, "archived: "+a.Text)
		case alertDelete:
			t.dropAlert(a.ID)
			t.linked(a.Begun, a.Key.link(), "ALERT.DELETE", Warning, subject, "deleted: "+a.Text)
		}
	}
}

// resolveByHand closes an alert by an operator's word. Of a guest that hangs it says that
// this was seen to.
func (t *tx) resolveByHand(k AlertKey) {
	id, _ := ParseVMID(k.Subject)
	if old, h := t.s.VM(id); old != nil && k == guestAlert(old) {
		v := *old
		t.guestSettled(&v, "resolved by %s", t.actor)
		t.storeVM(h.ID, &v)
		return
	}
	t.resolve(k, "resolved by %s", t.actor)
}

// alertRaise raises alerts about what lifeboat does not watch, all or none.
func (t *tx) alertRaise(c *logpb.AlertRaise) string {
	if no := t.later(LevelPolicy); no != "" {
		return no
	}
	if len(c.Alerts) == 0 || len(c.Alerts) > MaxRaised {
		return fmt.Sprintf("a command raises 1 to %d alerts", MaxRaised)
	}
	types := make([]AlertType, len(c.Alerts))
	for i, a := range c.Alerts {
		known := true
		if i > 0 && a.Type == c.Alerts[i-1].Type { // as most are of a storm
			types[i] = types[i-1]
		} else {
			types[i], known = AlertTypeOf(a.Type)
		}
		typ := types[i]
		switch {
		case !known || typ.Name == AlertAlerts || typ.Name == AlertReceiver || typ.Name == AlertBrake:
			return fmt.Sprintf("%q is no type of alert that can be raised; `lifeboat alert types` shows them", a.Type)
		case a.Subject == "" || a.Cause == "":
			return "an alert has a subject and a cause: together with its type they say which alert it is"
		case !a.Resolved && (a.Text == "" || a.Severity < uint32(Info) || a.Severity > uint32(Critical)):
			return "an alert has a text, and a severity: info, warning or critical"
		case max(len(a.Subject), len(a.Cause), len(a.Text)) > maxAlertText:
			return fmt.Sprintf("a text of an alert has at most %d bytes", maxAlertText)
		}
	}
	for i, a := range c.Alerts {
		key := AlertKey{types[i].Name, a.Subject, External + a.Cause}
		if a.Resolved {
			t.resolve(key, "%s", orElse(a.Text, "it is over, says "+t.actor))
			continue
		}
		t.raise(key, Severity(a.Severity), "%s", a.Text)
	}
	return ""
}

func orElse(text, other string) string {
	if text == "" {
		return other
	}
	return text
}

// eventPurge forgets old events. What it forgot is one event.
func (t *tx) eventPurge(c *logpb.EventPurge) string {
	if no := t.later(LevelPolicy); no != "" {
		return no
	}
	if c.BeforeUnixNs <= 0 && c.BeforeId == 0 {
		return "say up to when, or up to which event, events are to be forgotten"
	}
	n := 0
	for {
		id, e, ok := t.s.events.min()
		if !ok || c.BeforeUnixNs > 0 && e.Time >= c.BeforeUnixNs || c.BeforeId > 0 && uint64(id) >= c.BeforeId {
			break
		}
		t.s.events.delete(id)
		n++
	}
	if n > 0 {
		t.event("EVENT.PURGE", Warning, "cluster", "%d events were purged", n)
	}
	return ""
}

// matchFromLog reads a match; it refuses one that cannot be meant.
func matchFromLog(p *logpb.AlertMatch) (AlertMatch, string) {
	m := AlertMatch{Severity: Severity(p.GetSeverity()), Subjects: slices.Clone(p.GetSubjects()), Causes: slices.Clone(p.GetCauses()), Labels: labelsFromLog(p.GetLabels())}
	const most = 100
	if len(p.GetTypes())+len(m.Subjects)+len(m.Labels)+len(m.Causes) > most {
		return m, fmt.Sprintf("a filter has at most %d words", most)
	}
	for _, w := range p.GetTypes() {
		typ, known := AlertTypeOf(w)
		if !known {
			return m, fmt.Sprintf("%q is no type of alert; `lifeboat alert types` shows them", w)
		}
		m.Types = append(m.Types, typ.Name)
	}
	if m.Severity > Critical {
		return m, "a severity is info, warning or critical"
	}
	return m, ""
}

func matchToLog(m *AlertMatch) *logpb.AlertMatch {
	p := &logpb.AlertMatch{Types: m.Types, Severity: uint32(m.Severity), Subjects: m.Subjects, Causes: m.Causes}
	p.Labels = labelsToLog(m.Labels)
	return p
}
