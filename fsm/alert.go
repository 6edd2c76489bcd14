package fsm

import "cmp"

// Types of alerts; together with subject and cause they are an alert's key.
const (
	AlertHost  = "HOST"
	AlertFence = "FENCE"
	AlertVM    = "VM"
	AlertNode  = "NODE"
	AlertBrake = "BRAKE"

	AlertReceiver = "NOTIFY" // a receiver of notifications gets none
	AlertAlerts   = "ALERTS" // there are more alerts than are kept
)

// AlertState is the life of an alert.
type AlertState uint8

const (
	AlertOpen AlertState = iota + 1
	AlertAcknowledged
	AlertResolved
	// AlertArchived is out of sight: it does not come back, a new failure is a new
	// alert. From level 4 on.
	AlertArchived
)

func (s AlertState) String() string {
	return name(int(s), "", "open", "acknowledged", "resolved", "archived")
}

// Closed: it is over.
func (s AlertState) Closed() bool { return s >= AlertResolved }

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
	Count      uint32 // times that it was raised
	First      int64  // unix ns
	Last       int64  // when it was raised the last time
	Resolved   int64
	Resolution string

	// What follows counts from level 4 on.

	Index    uint64  // of the log entry that changed its state the last time
	Reopened uint32  // times that it came back after it was resolved
	Since    int64   // since when it is open, or was the last time
	AckedBy  string  // who cares for it
	Archived int64   // when it was put out of sight
	Begun    EventID // the event that opened it
	Muted    bool    // a silence kept it from those who would have been told
	Worse    bool    // a silence kept from those who were told that it became more severe
	Labels   []Label // of its host as it opened; see State.LabelsOf
}

// Opened is since when it is open, or was the last time: unix ns.
func (a *AlertRecord) Opened() int64 { return cmp.Or(a.Since, a.First) }

// ended is when it was last heard of, by which closed alerts grow old.
func (a *AlertRecord) ended() int64 {
	if a.State == AlertArchived {
		return a.Archived
	}
	return a.Resolved
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
	Start   EventID // what began that which this one ends or carries on; 0 = nothing did. From level 4 on
	Cause   string  // "work 12", "alert HOST/h2/down"; from level 4 on
}
