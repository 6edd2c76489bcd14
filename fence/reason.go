package fence

import (
	"fmt"
	"strings"
	"time"
)

// Reason is the class of a failure: a small closed set for callers to act on
// (errors.Is works with it). Drivers wrap the first five, see Because.
type Reason string

const (
	// Unreachable: no answer, or the connection broke.
	Unreachable Reason = "unreachable"
	// AuthFailed: the controller refuses the user, the password or their rights.
	AuthFailed Reason = "login refused"
	// Refused: the controller answered with an error, or with what cannot be understood.
	Refused Reason = "refused"
	// NoProgram: a helper program cannot be run where this driver runs.
	NoProgram Reason = "program missing"
	// IdentityUnknown: the controller cannot tell which machine it controls.
	IdentityUnknown Reason = "identity unknown"
	// IdentityMismatch: the controller controls another machine; no order was sent.
	IdentityMismatch Reason = "identity mismatch"
	// StillOn: orders were accepted but the machine reads on.
	StillOn Reason = "still on"
	// Deadline: the time given was over before there was proof.
	Deadline Reason = "deadline"
	// Cancelled: the caller gave up, for instance because its term ended.
	Cancelled Reason = "cancelled"
)

func (r Reason) Error() string { return string(r) }

// Because makes a driver's error: a reason and what exactly happened. The text
// must hold no secret; it is shown to operators.
func Because(r Reason, format string, args ...any) error {
	return &cause{reason: r, text: oneLine(fmt.Sprintf(format, args...))}
}

type cause struct {
	reason Reason
	text   string
}

func (c *cause) Error() string { return c.text }
func (c *cause) Unwrap() error { return c.reason }

// oneLine makes what a device said fit for an operator's line: no control
// characters, no more than 200 bytes.
func oneLine(s string) string {
	s = strings.Join(strings.FieldsFunc(strings.ToValidUTF8(s, "?"), func(r rune) bool {
		return r < ' ' || r == 0x7f
	}), " ")
	if len(s) > 200 {
		s = strings.ToValidUTF8(s[:200], "") + "…"
	}
	return s
}

// Stage is the step at which an attempt failed.
type Stage string

const (
	StageIdentity Stage = "identity"
	StageOff      Stage = "off"
	StagePower    Stage = "power"
)

// Error says why there is no proof.
type Error struct {
	Endpoint Endpoint
	Stage    Stage
	Reason   Reason
	Detail   string        // what the controller or the driver said
	Want     string        // the expected identity
	Got      string        // the identity the controller gave, if it did
	Took     time.Duration // from the start of the attempt
	// OffSent: an order to switch off left this machine. It may still take
	// effect after the error; until the attempt's deadline the host must not be
	// taken for alive because of this failure (S10).
	OffSent  bool
	Readings []Reading // the last ones, oldest first

	err error
}

// Unwrap gives the reason and the driver's own error to errors.Is and errors.As.
func (e *Error) Unwrap() []error {
	if e.err == nil {
		return []error{e.Reason}
	}
	return []error{e.Reason, e.err}
}

// Error is a sentence for the operator: what, why, what to do.
func (e *Error) Error() string {
	s := e.sentence()
	if e.OffSent {
		s += "; the order to switch off was sent and may still take effect"
	}
	return s
}

func (e *Error) sentence() string {
	took := e.Took.Round(100 * time.Millisecond)
	switch e.Reason {
	case Unreachable:
		return fmt.Sprintf("%s does not answer%s: check its address, network and power", e.Endpoint, e.why())
	case AuthFailed:
		return fmt.Sprintf("%s refuses the login%s: check user, password and the user's rights", e.Endpoint, e.why())
	case NoProgram:
		return fmt.Sprintf("%s cannot be asked%s: install the program where this fence level is executed", e.Endpoint, e.why())
	case IdentityUnknown:
		return fmt.Sprintf("%s does not tell which machine it controls%s, so its word is no proof and no order was sent: set the identity by which it can be matched", e.Endpoint, e.why())
	case IdentityMismatch:
		return fmt.Sprintf("%s controls machine %q, not %q as expected, so no order was sent: correct the address or the host's identity", e.Endpoint, e.Got, e.Want)
	case Refused:
		if e.Stage == StageOff {
			return fmt.Sprintf("%s refuses to switch the machine off%s, and it does not read off: check the controller's log", e.Endpoint, e.why())
		}
		return fmt.Sprintf("%s answers the question for the %s with an error%s: check the controller's log and the driver's options", e.Endpoint, e.Stage, e.why())
	case StillOn:
		if !e.OffSent {
			return fmt.Sprintf("%s reads the machine as %s%s", e.Endpoint, lastState(e.Readings), e.why())
		}
		return fmt.Sprintf("%s accepted the order to switch off, but after %s the machine reads %s%s: the controller does not do what it says", e.Endpoint, took, lastState(e.Readings), e.why())
	case Deadline:
		return fmt.Sprintf("%s gave no proof within %s%s", e.Endpoint, took, e.why())
	case Cancelled:
		return fmt.Sprintf("the attempt at %s was cancelled after %s%s", e.Endpoint, took, e.why())
	default:
		return fmt.Sprintf("%s: %s%s", e.Endpoint, e.Reason, e.why())
	}
}

func (e *Error) why() string {
	if e.Detail == "" {
		return ""
	}
	return " (" + e.Detail + ")"
}

func lastState(readings []Reading) PowerState {
	if len(readings) == 0 {
		return Unknown
	}
	return readings[len(readings)-1].State
}
