package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"

	"connectrpc.com/connect"
)

// Exit codes; the user's side of the contract is in docs/cli.md.
const (
	ExitOK          = 0
	ExitFailed      = 1   // failed on this machine, or the cluster failed
	ExitUsage       = 2   // wrong flag, argument, context or certificate file
	ExitRefused     = 3   // the cluster refused, and said why; nothing was changed
	ExitUnreachable = 4   // no node could be reached, or none can serve; nothing was changed
	ExitUnknown     = 5   // a write was sent and its outcome is not known
	ExitInterrupted = 130 // Ctrl-C or SIGTERM
)

// Error is an error for the user, with the exit code it ends in.
type Error struct {
	Exit int
	Text string // what went wrong and why
	Do   string // what to do about it; may be empty
	Err  error  // cause, for errors.Is; its text is already in Text
}

// Error is one line: control characters of foreign text are escaped.
func (e *Error) Error() string {
	if e.Do == "" {
		return clean(e.Text)
	}
	return clean(strings.TrimRight(e.Text, ".;") + "; " + e.Do)
}

func (e *Error) Unwrap() error { return e.Err }

// Usage is an error in what the user typed or set.
func Usage(do, format string, args ...any) error {
	err := fmt.Errorf(format, args...)
	return &Error{Exit: ExitUsage, Text: err.Error(), Do: do, Err: errors.Unwrap(err)}
}

// WithHint says what to do about a refusal with one of the codes, where the
// cluster itself only says what is wrong.
func WithHint(err error, do string, codes ...connect.Code) error {
	var e *Error
	if errors.As(err, &e) && e.Exit == ExitRefused && e.Do == "" && slices.Contains(codes, connect.CodeOf(e.Err)) {
		hinted := *e
		hinted.Do = do
		return &hinted
	}
	return err
}

// Interrupted is the cause of a context that a signal ended.
type Interrupted struct{ Signal string }

func (e *Interrupted) Error() string { return "interrupted by " + e.Signal }

// interrupted reports whether ctx ended by a signal.
func interrupted(ctx context.Context) bool {
	var sig *Interrupted
	return errors.As(context.Cause(ctx), &sig)
}

// Report prints err as one line and returns the exit code.
func Report(stderr io.Writer, err error) int {
	if err == nil {
		return ExitOK
	}
	fmt.Fprintf(stderr, "lifeboat: %s\n", clean(err.Error()))
	var e *Error
	var sig *Interrupted
	switch {
	case errors.As(err, &e):
		return e.Exit
	case errors.As(err, &sig), errors.Is(err, context.Canceled):
		return ExitInterrupted
	}
	return ExitFailed
}
