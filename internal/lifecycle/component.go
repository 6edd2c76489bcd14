package lifecycle

import (
	"context"
	"errors"
	"fmt"
	"runtime/debug"
	"time"
)

// Component is one part of a process. Every function may be nil.
type Component struct {
	Name string
	// Start returns once what comes after may rely on the component. One that
	// fails has cleaned up after itself: it is not stopped.
	Start func(ctx context.Context) error
	// Run is the component's own goroutine. It begins after Start and lasts until
	// its context ends, which is when Stop has returned or its time is over. An
	// error before that stops the process; nil does not.
	Run func(ctx context.Context) error
	// Stop ends the component. why is what ends the process, nil when it was
	// asked to; ctx ends with the deadline.
	Stop func(ctx context.Context, why error) error
	// Within is the deadline of Stop and of the end of Run together; 0 means
	// DefaultWithin.
	Within time.Duration
}

const (
	// DefaultWithin is how long a component may take to stop.
	DefaultWithin = 5 * time.Second
	// Hurried is what is left of every deadline once somebody is in a hurry.
	Hurried = 200 * time.Millisecond
	// grace is given after a deadline to whatever notices the end of its context.
	grace = 100 * time.Millisecond
)

// StopError is why one component did not stop as it should.
type StopError struct {
	Component string
	Err       error
}

func (e *StopError) Error() string { return e.Component + ": " + e.Err.Error() }
func (e *StopError) Unwrap() error { return e.Err }

// ErrHangs is a component that was left behind: it neither stopped nor failed.
var ErrHangs = errors.New("it did not stop in time and is left behind")

// PanicError is a panic that was caught.
type PanicError struct {
	Value any
	Stack []byte
}

func (e *PanicError) Error() string { return fmt.Sprintf("panic: %v", e.Value) }

// guard turns a panic of f into an error.
func guard(f func() error) (err error) {
	defer func() {
		if v := recover(); v != nil {
			err = &PanicError{Value: v, Stack: debug.Stack()}
		}
	}()
	return f()
}

// running is a component that was started.
type running struct {
	Component
	end  context.CancelFunc // of Run
	over chan struct{}      // closed when Run has returned
	err  error              // of Run; read after over
}
