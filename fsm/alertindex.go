package fsm

import (
	"cmp"
	"strings"
)

// closedKey orders what is over: the resolved before the archived, each oldest first.
type closedKey struct {
	state AlertState
	at    int64
	id    AlertID
}

func lessClosed(a, b closedKey) bool {
	return cmp.Or(cmp.Compare(a.state, b.state), cmp.Compare(a.at, b.at), cmp.Compare(a.id, b.id)) < 0
}

// settledKey orders resolved alerts by their key, the newest of one key first.
type settledKey struct {
	key AlertKey
	id  AlertID
}

func lessSettled(a, b settledKey) bool {
	if a.key != b.key {
		return lessKey(a.key, b.key)
	}
	return a.id > b.id
}

// link writes the key as the cause of events.
func (k AlertKey) link() string { return "alert " + k.Type + "/" + k.Subject + "/" + k.Cause }

// putAlert stores an alert and keeps the indexes of it: they are derived, so that a
// snapshot gives the same ones.
func (s *State) putAlert(a *AlertRecord) {
	if old := s.Alert(a.ID); old != nil {
		s.unindex(old, a)
	}
	s.alerts.set(a.ID, a)
	switch {
	case !a.State.Closed():
		s.raised.set(a.Key, a.ID)
		return
	case a.State == AlertResolved:
		s.settled.set(settledKey{a.Key, a.ID}, a.ID)
	}
	s.closed.set(closedKey{a.State, a.ended(), a.ID}, a.ID)
}

// unindex takes an alert out of the indexes that its next version, nil = none, is not in.
func (s *State) unindex(old, next *AlertRecord) {
	if !old.State.Closed() {
		if next == nil || next.State.Closed() {
			s.raised.delete(old.Key)
		}
		return
	}
	s.closed.delete(closedKey{old.State, old.ended(), old.ID})
	if old.State == AlertResolved {
		s.settled.delete(settledKey{old.Key, old.ID})
	}
}

func (t *tx) setAlert(a *AlertRecord) { t.s.putAlert(a) }

func (t *tx) dropAlert(id AlertID) {
	if a := t.s.Alert(id); a != nil {
		t.s.unindex(a, nil)
		t.s.alerts.delete(id)
	}
}

// settledAlert is the newest resolved alert of a key that was not archived.
func (s *State) settledAlert(k AlertKey) *AlertRecord {
	for at, id := range s.settled.from(settledKey{k, ^AlertID(0)}) {
		if at.key == k {
			return s.Alert(id)
		}
		break
	}
	return nil
}

// oldest is the id of the alert in a closed state that has been in it for longest.
func (s *State) oldest(state AlertState) (closedKey, bool) {
	for k := range s.closed.from(closedKey{state: state}) {
		return k, k.state == state
	}
	return closedKey{}, false
}

// CountClosedAlerts is the number of alerts that are resolved or archived.
func (s *State) CountClosedAlerts() int { return s.closed.len() }

// AlertMatch chooses alerts. What is empty matches all; the words of one list are
// alternatives. A word that ends in * matches what begins like it.
type AlertMatch struct {
	Types    []string // their names in this program
	Severity Severity // at least this one
	Subjects []string // ids or names
	Labels   []Label  // all of them, of the host as it opened; an empty value = any
	Causes   []string
}

// Matches reports whether the alert is chosen, in a state that knows its subject.
func (m *AlertMatch) Matches(s *State, a *AlertRecord) bool {
	if a.Severity < m.Severity || !anyOf(m.Types, a.Key.Type) || !anyOf(m.Causes, a.Key.Cause) || !anyOf(m.Subjects, a.Key.Subject, a.Name) {
		return false
	}
	if len(m.Labels) == 0 {
		return true
	}
	has := s.LabelsOf(a)
	for _, want := range m.Labels {
		found := false
		for _, l := range has {
			found = found || l.Key == want.Key && (want.Value == "" || l.Value == want.Value)
		}
		if !found {
			return false
		}
	}
	return true
}

// Empty: it chooses all.
func (m *AlertMatch) Empty() bool {
	return len(m.Types)+len(m.Subjects)+len(m.Labels)+len(m.Causes) == 0 && m.Severity == 0
}

func anyOf(words []string, texts ...string) bool {
	if len(words) == 0 {
		return true
	}
	for _, w := range words {
		begin, open := strings.CutSuffix(w, "*")
		for _, x := range texts {
			if x == w || open && strings.HasPrefix(x, begin) {
				return true
			}
		}
	}
	return false
}

// labelsOf are the labels of the host that a key is about, or that has its VM now.
func (s *State) labelsOf(k AlertKey) []Label {
	switch k.Type {
	case AlertHost, AlertFence:
		if h := s.Host(HostID(k.Subject)); h != nil {
			return h.Labels
		}
	case AlertVM:
		if id, err := ParseVMID(k.Subject); err == nil {
			if _, h := s.VM(id); h != nil {
				return h.Labels
			}
		}
	}
	return nil
}

// LabelsOf are the labels of the host that an alert is about, or that has its VM, as
// they were when it opened: the VM goes elsewhere and the host goes away, and who was
// told of the begin is to be told of the end of the same alert.
func (s *State) LabelsOf(a *AlertRecord) []Label {
	if a.Since == 0 { // it opened before level 4, which kept no labels
		return s.labelsOf(a.Key)
	}
	return a.Labels
}
