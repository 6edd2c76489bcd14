package fence

import (
	"context"
	"errors"
	"fmt"
	"time"
)

const (
	// patience bounds an attempt whose context has no deadline: a controller
	// that lies would otherwise be asked for ever.
	patience = time.Minute
	// callLimit bounds one question to the controller, so that one lost answer
	// does not cost the whole attempt.
	callLimit = 10 * time.Second
	// pollEvery is the pause between readings while the machine is not off.
	pollEvery = 500 * time.Millisecond
	// repeatOff: an accepted order that has no effect is given again after this
	// time; some controllers drop the first one while they are busy.
	repeatOff = 5 * time.Second
	// tries is how often in a row a controller may fail before an attempt ends,
	// so that the next level gets its turn.
	tries = 3
)

// Expect is what must be true of the controller before it is believed or given
// an order.
type Expect struct {
	// Identity of the host's machine: system UUID or serial, see SameIdentity.
	// Empty or a placeholder matches nothing.
	Identity string
	// Reach bounds how long the controller may take to say which machine it
	// controls; later than that it counts as Unreachable, so that somebody else
	// can try in what is left of the deadline. 0 = no bound of its own.
	Reach time.Duration
}

// Fence switches a machine off and proves it. It blocks until there is proof, a
// failure that more time would not mend, or the end of ctx (a minute where ctx
// has no deadline). observe, if not nil, is called with every reading, on the
// calling goroutine. The error is always an *Error.
func Fence(ctx context.Context, d Driver, want Expect, observe func(Reading)) (Proof, error) {
	return attemptOff(ctx, d, want, observe, true)
}

// Confirm proves that a machine is off without ever giving an order. It fails
// with StillOn as soon as the machine reads anything but off.
func Confirm(ctx context.Context, d Driver, want Expect, observe func(Reading)) (Proof, error) {
	return attemptOff(ctx, d, want, observe, false)
}

// Probe proves the path to a controller without harm: it answers, accepts the
// login, controls the expected machine, and can read its power state.
func Probe(ctx context.Context, d Driver, want Expect) (identity string, power Reading, err error) {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	a := &attempt{driver: d, want: want, started: time.Now()}
	if err := a.match(ctx); err != nil {
		return a.identity, Reading{}, err
	}
	r, err := a.read(ctx)
	if err != nil {
		return a.identity, Reading{}, a.fail(ctx, StagePower, err)
	}
	return a.identity, r, nil
}

// Identify asks a controller which machine it controls, so that it can be pinned
// as what is expected from then on. reach is that of Expect.
func Identify(ctx context.Context, d Driver, reach time.Duration) (string, error) {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	a := &attempt{driver: d, want: Expect{Reach: reach}, started: time.Now()}
	got, err := a.introduce(ctx)
	if err == nil && !UsableIdentity(got) {
		err = Because(IdentityUnknown, "it gives %q", got)
	}
	if err != nil {
		return "", a.fail(ctx, StageIdentity, err)
	}
	return oneLine(got), nil
}

// Test proves the path to a controller as a fence would use it, without harm: it
// controls the expected machine and reads its power plainly, twice, at least
// MinGap apart. The readings are returned as far as they came.
func Test(ctx context.Context, d Driver, want Expect) (identity string, readings []Reading, err error) {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	a := &attempt{driver: d, want: want, started: time.Now()}
	for i := range 2 {
		if i > 0 {
			if err := wait(ctx, MinGap); err != nil {
				return a.identity, a.readings, a.fail(ctx, StagePower, err)
			}
		}
		if err := a.match(ctx); err != nil {
			return a.identity, a.readings, err
		}
		r, err := a.read(ctx)
		switch {
		case err != nil:
		case r.State == Unknown:
			err = Because(Refused, "the power reads neither on nor off")
		case r.State != a.readings[0].State:
			err = Because(Refused, "the power reads %s, then %s, without an order of ours", a.readings[0].State, r.State)
		}
		if err != nil {
			return a.identity, a.readings, a.fail(ctx, StagePower, err)
		}
	}
	return a.identity, a.readings, nil
}

func attemptOff(ctx context.Context, d Driver, want Expect, observe func(Reading), mayOrder bool) (Proof, error) {
	if _, bounded := ctx.Deadline(); !bounded {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, patience)
		defer cancel()
	}
	a := &attempt{driver: d, want: want, observe: observe, started: time.Now()}
	if err := a.match(ctx); err != nil {
		return Proof{}, err
	}
	return a.untilOff(ctx, mayOrder)
}

// attempt is one run of Fence, Confirm, Probe or Test.
type attempt struct {
	driver   Driver
	want     Expect
	observe  func(Reading)
	started  time.Time
	identity string
	readings []Reading

	orders     int       // orders to switch off sent
	lastOrder  time.Time // when the last one was answered
	accepted   bool      // an order was answered without an error
	refusals   int       // orders answered with an error, in a row
	readFails  int       // readings that failed, in a row
	lastDetail error     // the last failure that did not end the attempt
}

// match is the first half of S9: a controller of another machine, or one that
// does not say, is neither believed nor given an order.
func (a *attempt) match(ctx context.Context) error {
	got, err := a.introduce(ctx)
	if err != nil {
		return a.fail(ctx, StageIdentity, err)
	}
	a.identity = oneLine(got)
	switch {
	case !UsableIdentity(got):
		return a.fail(ctx, StageIdentity, Because(IdentityUnknown, "it gives %q", got))
	case !UsableIdentity(a.want.Identity):
		return a.fail(ctx, StageIdentity, Because(IdentityMismatch, "no identity is known for the host"))
	case !SameIdentity(got, a.want.Identity):
		return a.fail(ctx, StageIdentity, Because(IdentityMismatch, "it is another machine"))
	}
	return nil
}

// introduce asks the controller which machine it controls.
func (a *attempt) introduce(ctx context.Context) (string, error) {
	limited := ctx
	if a.want.Reach > 0 {
		var cancel context.CancelFunc
		limited, cancel = context.WithTimeout(ctx, a.want.Reach)
		defer cancel()
	}
	got, err := call(limited, a.driver.Identity)
	if err != nil && limited.Err() != nil && ctx.Err() == nil {
		return got, Because(Unreachable, "no answer within %s", a.want.Reach)
	}
	return got, err
}

// untilOff reads the power state until it was off twice in a row, MinGap apart,
// and between readings orders off as needed.
func (a *attempt) untilOff(ctx context.Context, mayOrder bool) (Proof, error) {
	var firstOff *Reading // start of the present unbroken run of off
	for {
		r, err := a.read(ctx)
		pause := pollEvery
		switch {
		case err != nil:
			firstOff = nil // an unread state breaks the run: off must be read, not assumed
			if err := a.readFailed(ctx, err); err != nil {
				return Proof{}, err
			}
		case r.State != Off:
			firstOff = nil
		case firstOff == nil:
			firstOff, pause = &r, MinGap
		case r.At.Sub(firstOff.At) >= MinGap:
			return a.proof(ctx)
		default:
			pause = MinGap - r.At.Sub(firstOff.At)
		}
		if firstOff == nil {
			if !mayOrder && err == nil {
				return Proof{}, a.fail(ctx, StagePower, Because(StillOn, "no order was given"))
			}
			if mayOrder {
				if err := a.order(ctx); err != nil {
					return Proof{}, err
				}
			}
		}
		if err := wait(ctx, pause); err != nil {
			return Proof{}, a.fail(ctx, StagePower, err)
		}
	}
}

// order sends Off if it is due. What the controller answers is no proof either
// way; only repeated refusals end the attempt.
func (a *attempt) order(ctx context.Context) error {
	if a.orders > 0 && a.refusals == 0 && time.Since(a.lastOrder) < repeatOff {
		return nil
	}
	if a.refusals >= tries {
		return a.fail(ctx, StageOff, a.lastDetail)
	}
	a.orders++
	_, err := call(ctx, func(ctx context.Context) (struct{}, error) { return struct{}{}, a.driver.Off(ctx) })
	a.lastOrder = time.Now()
	if err == nil {
		a.accepted, a.refusals = true, 0
		return nil
	}
	if ctx.Err() != nil {
		return a.fail(ctx, StageOff, err)
	}
	a.refusals++
	a.lastDetail = err
	if errors.Is(err, AuthFailed) {
		return a.fail(ctx, StageOff, err)
	}
	return nil
}

func (a *attempt) read(ctx context.Context) (Reading, error) {
	state, err := call(ctx, a.driver.Power)
	if err != nil {
		return Reading{}, err
	}
	a.readFails = 0
	r := Reading{At: time.Now(), State: state}
	if len(a.readings) == keepReadings {
		a.readings = a.readings[1:]
	}
	a.readings = append(a.readings, r)
	if a.observe != nil {
		a.observe(r)
	}
	return r, nil
}

func (a *attempt) readFailed(ctx context.Context, err error) error {
	if ctx.Err() != nil {
		return a.fail(ctx, StagePower, err)
	}
	a.readFails++
	if errors.Is(err, AuthFailed) || a.readFails >= tries {
		return a.fail(ctx, StagePower, err)
	}
	a.lastDetail = err
	return nil
}

func (a *attempt) proof(ctx context.Context) (Proof, error) {
	end := a.driver.Endpoint()
	p := Proof{
		Driver: end.Driver, Address: end.Address, Identity: a.identity,
		Readings: a.readings, AlreadyOff: a.orders == 0,
	}
	if err := p.Check(); err != nil {
		return Proof{}, a.fail(ctx, StagePower, err)
	}
	return p, nil
}

// fail makes the attempt's error. The end of ctx outranks what the driver said,
// which by then is only a consequence of it.
func (a *attempt) fail(ctx context.Context, stage Stage, err error) error {
	e := &Error{
		Endpoint: a.driver.Endpoint(), Stage: stage, Reason: Refused, Detail: oneLine(err.Error()),
		Want: a.want.Identity, Got: a.identity, Took: time.Since(a.started),
		OffSent: a.orders > 0, Readings: a.readings, err: err,
	}
	switch {
	case errors.Is(ctx.Err(), context.Canceled):
		e.Reason, e.Detail = Cancelled, ""
		if cause := context.Cause(ctx); cause != nil && !errors.Is(cause, context.Canceled) {
			e.Detail = oneLine(cause.Error())
		}
	case ctx.Err() != nil:
		a.overdue(e)
	default:
		errors.As(err, &e.Reason)
	}
	return e
}

// overdue says why the time was not enough: a controller that took the order
// and changed nothing is a liar, everything else is just late.
func (a *attempt) overdue(e *Error) {
	e.Reason, e.Detail = Deadline, ""
	switch {
	case a.accepted && a.refusals == 0 && a.readFails == 0 && (lastState(a.readings) == On || a.flapped()):
		e.Reason = StillOn
		if a.flapped() {
			e.Detail = "it also read off in between, never twice in a row"
		}
	case a.lastDetail != nil && (a.refusals > 0 || a.readFails > 0):
		e.Detail = "last: " + oneLine(a.lastDetail.Error())
	case len(a.readings) > 0:
		e.Detail = fmt.Sprintf("the machine last read %s", lastState(a.readings))
	}
}

// flapped reports whether the machine read off and then on again.
func (a *attempt) flapped() bool {
	for i := 1; i < len(a.readings); i++ {
		if a.readings[i-1].State == Off && a.readings[i].State != Off {
			return true
		}
	}
	return false
}

// call runs one question with its own limit inside the attempt's.
func call[T any](ctx context.Context, ask func(context.Context) (T, error)) (T, error) {
	limited, cancel := context.WithTimeout(ctx, callLimit)
	defer cancel()
	answer, err := ask(limited)
	if err == nil && ctx.Err() != nil {
		// An answer after the end is worth nothing: the caller has moved on.
		return answer, ctx.Err()
	}
	if err != nil && limited.Err() != nil && ctx.Err() == nil {
		return answer, Because(Unreachable, "no answer within %s", callLimit)
	}
	return answer, err
}

func wait(ctx context.Context, d time.Duration) error {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-t.C:
		return nil
	}
}
