package fsm

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
// it never inserts, and never suppresses another subject.
type AlertKey struct{ Type, Subject, Cause string }

// AlertRecord is one alert.
type AlertRecord struct {
	ID         AlertID
	Key        AlertKey
	State      AlertState
	Severity   Severity
	Text       string
	Count      uint32
	First      int64
	Last       int64
	Resolved   int64
	Resolution string
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
