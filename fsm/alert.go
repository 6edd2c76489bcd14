package fsm

import "cmp"

// Types of alerts; together with subject and cause they are an alert's key.
const (
	AlertHost  = "HOST"
	AlertFence = "FENCE"
	AlertVM    = "VM"
	AlertNode  = "NODE"
	AlertBrake = "BRAKE"
)

// AlertState is the life of an alert.
type AlertState uint8

const (
	AlertOpen AlertState = iota + 1
	AlertAcknowledged
	AlertResolved
)

func (s AlertState) String() string { return name(int(s), "", "open", "acknowledged", "resolved") }

// Severity of an alert or event.
type Severity uint8

const (
	Info Severity = iota + 1
	Warning
	Critical
)

func (s Severity) String() string { return name(int(s), "", "info", "warning", "critical") }

// AlertKey is the identity of an alert: a second raise of an open key counts,
// it never inserts, and never suppresses another subject. The subject is an id; a
// VM's is its UUID, since names may change and need not be unique.
type AlertKey struct{ Type, Subject, Cause string }

// VMAlert is the key of an alert about a VM.
func VMAlert(v *VM, cause string) AlertKey { return AlertKey{AlertVM, v.ID.String(), cause} }

// AlertRecord is one alert.
type AlertRecord struct {
	ID         AlertID
	Key        AlertKey
	Name       string // of the subject, for people; a VM's last one
	State      AlertState
	Severity   Severity
	Text       string
	Count      uint32
	First      int64
	Last       int64
	Resolved   int64
	Resolution string
}

// About is the name of what the alert is about.
func (a *AlertRecord) About() string { return cmp.Or(a.Name, a.Key.Subject) }

// called is the name of a key's subject.
func (s *State) called(k AlertKey) string {
	if k.Type == AlertVM {
		if id, err := ParseVMID(k.Subject); err == nil {
			if v, _ := s.VM(id); v != nil {
				return v.Name
			}
		}
	}
	return k.Subject
}

// Event is one line of the audit: every transition, decision and operator's
// action.
type Event struct {
	ID      EventID
	Index   uint64
	Time    int64
	Type    string // NOUN.VERB
	Level   Severity
	Actor   string
	Subject string // "host h2", "vm web1", ...
	Text    string
}
