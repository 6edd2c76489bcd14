package hypervisor

import "errors"

var (
	// ErrNotFound: the hypervisor does not know the domain.
	ErrNotFound = errors.New("domain not found")
	// ErrActive: the domain is active already.
	ErrActive = errors.New("domain is already active")
	// ErrUnavailable: there is no connection to the hypervisor; nothing was sent.
	ErrUnavailable = errors.New("hypervisor unavailable")
	// ErrUnknownOutcome: the call was sent and not answered in time. It may
	// have happened, or still happen: look again (S4).
	ErrUnknownOutcome = errors.New("outcome unknown")
	// ErrSilent: the hypervisor works, and the agent inside the guest does not answer.
	ErrSilent = errors.New("the guest's agent does not answer")
)

// Error is a failed operation in words for the operator.
type Error struct {
	Op      string // "start", "stop", "list domains", …
	Subject string // UUID or name of the domain; empty when there is none
	Message string // what happened, and what to do if that is known
	Err     error  // one of the Err values above, or the cause; may be nil
}

func (e *Error) Error() string {
	s := e.Op
	if e.Subject != "" {
		s += " " + e.Subject
	}
	if e.Message != "" {
		s += ": " + e.Message
	}
	if e.Err != nil {
		s += ": " + e.Err.Error()
	}
	return s
}

func (e *Error) Unwrap() error { return e.Err }
