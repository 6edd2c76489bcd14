package fsm

import (
	"fmt"
	"strings"
)

// mint returns the next id of work, alerts, orders and events.
func (t *tx) mint() uint64 {
	t.s.seq++
	return t.s.seq
}

// event writes a line of the audit and drops the oldest beyond events_keep.
func (t *tx) event(typ string, level Severity, subject, format string, args ...any) {
	t.linked(0, "", typ, level, subject, fmt.Sprintf(format, args...))
}

// linked is event with what it belongs to: the event that began it, and its cause.
// Below level 4 neither is written down.
func (t *tx) linked(start EventID, cause, typ string, level Severity, subject, text string) EventID {
	if t.s.Level < LevelPolicy {
		start, cause = 0, ""
	}
	id := EventID(t.mint())
	t.s.events.set(id, &Event{ID: id, Index: t.index, Time: t.now, Type: typ, Level: level,
		Actor: t.actor, Subject: subject, Text: text, Start: start, Cause: cause})
	for t.s.events.len() > t.s.Policy.EventsKeep {
		old, _, _ := t.s.events.min()
		t.s.events.delete(old)
	}
	return id
}

// raise opens an alert, or counts on the open one of the same key.
func (t *tx) raise(key AlertKey, sev Severity, format string, args ...any) {
	t.raiseAs(key, t.s.called(key), sev, format, args...)
}

// raiseVM is raise about a VM, which need not be in the state yet.
func (t *tx) raiseVM(v *VM, cause string, sev Severity, format string, args ...any) {
	t.raiseAs(VMAlert(v, cause), v.Name, sev, format, args...)
}

func (t *tx) raiseAs(key AlertKey, name string, sev Severity, format string, args ...any) {
	text := fmt.Sprintf(format, args...)
	if a := t.s.OpenAlert(key); a != nil {
		n := *a
		n.Count++
		n.Name, n.Last, n.Text, n.Severity = name, t.now, text, max(n.Severity, sev)
		t.setAlert(&n)
		if n.Severity > a.Severity {
			t.notice(NoticeWorse, &n)
		}
		return
	}
	if t.s.Level >= LevelPolicy {
		t.open(key, name, sev, text)
		return
	}
	id := AlertID(t.mint())
	t.setAlert(&AlertRecord{ID: id, Key: key, Name: name, State: AlertOpen, Severity: sev, Text: text,
		Count: 1, First: t.now, Last: t.now})
	t.event("ALERT.GENERATE", sev, subjectOf(key, name), "%s", text)
	t.trimAlerts()
}

// resolve closes the open alert of a key, if there is one.
func (t *tx) resolve(key AlertKey, format string, args ...any) {
	a := t.s.OpenAlert(key)
	if a == nil {
		return
	}
	n := *a
	n.State, n.Resolved, n.Resolution = AlertResolved, t.now, fmt.Sprintf(format, args...)
	if t.s.Level >= LevelPolicy {
		n.Index = t.index
	}
	t.setAlert(&n)
	t.linked(n.Begun, n.Key.link(), "ALERT.RESOLVE", Info, subjectOf(key, n.About()), key.Cause+": "+n.Resolution)
	t.notice(NoticeResolved, &n)
	if t.s.Level >= LevelPolicy {
		t.retainAlerts()
	}
}

// resolveVM is resolve for an alert about a VM. Mostly none is open at all, and a
// report that is about many VMs makes no keys.
func (t *tx) resolveVM(v *VM, cause, format string, args ...any) {
	if t.s.raised.len() > 0 {
		t.resolve(VMAlert(v, cause), format, args...)
	}
}

// resolveAll closes every open alert about a subject.
func (t *tx) resolveAll(typ, subject, why string) {
	for _, k := range t.openAbout(typ, subject) {
		t.resolve(k, "%s", why)
	}
}

// openAbout lists the keys of the open alerts about a subject.
func (t *tx) openAbout(typ, subject string) []AlertKey {
	var keys []AlertKey
	for k := range t.s.raised.from(AlertKey{Type: typ, Subject: subject}) {
		if k.Type != typ || k.Subject != subject {
			break
		}
		keys = append(keys, k)
	}
	return keys
}

// copyAlert is the key of "a second copy of v runs on host h".
func copyAlert(v *VM, h HostID) AlertKey {
	return VMAlert(v, duplicateOn+string(h))
}

const duplicateOn = "duplicate on "

// copied reports whether a copy of v is known to run, or to have run a moment
// ago, on a host that does not own it.
func (s *State) copied(v *VM) bool {
	for k := range s.raised.from(VMAlert(v, duplicateOn)) {
		return k.Type == AlertVM && k.Subject == v.ID.String() && strings.HasPrefix(k.Cause, duplicateOn)
	}
	return false
}

// resolveCopies closes the alerts about second copies on a host.
func (t *tx) resolveCopies(h HostID, why string) {
	var keys []AlertKey
	for k := range t.s.raised.all() {
		if k.Type == AlertVM && (k.Cause == duplicateOn+string(h) || k.Cause == sameUUIDOn+string(h)) {
			keys = append(keys, k)
		}
	}
	for _, k := range keys {
		t.resolve(k, "%s", why)
	}
}

// renameAlerts lets what the open alerts about a VM say follow its name.
func (t *tx) renameAlerts(v *VM, to string) {
	for _, k := range t.openAbout(AlertVM, v.ID.String()) {
		a := *t.s.OpenAlert(k)
		a.Name, a.Text = to, strings.NewReplacer("VM "+v.Name+" ", "VM "+to+" ", " "+v.Name+"`", " "+to+"`").Replace(a.Text)
		t.setAlert(&a)
	}
}

// trimAlerts drops the oldest resolved alerts beyond alerts_keep, below level 4.
func (t *tx) trimAlerts() {
	excess := t.s.alerts.len() - t.s.raised.len() - t.s.Policy.AlertsKeep
	if excess <= 0 {
		return
	}
	var drop []AlertID
	for id, a := range t.s.alerts.all() {
		if a.State == AlertResolved {
			drop = append(drop, id)
			if len(drop) == excess {
				break
			}
		}
	}
	for _, id := range drop {
		t.dropAlert(id)
	}
}

func subjectOf(k AlertKey, name string) string {
	switch k.Type {
	case AlertHost, AlertFence:
		return "host " + name
	case AlertVM:
		return "vm " + name
	case AlertNode:
		return "node " + name
	case AlertReceiver:
		return "receiver " + name
	}
	return name
}

func hostSubject(id HostID) string { return "host " + string(id) }

func vmSubject(v *VM) string { return "vm " + v.Name }
