package fence

import (
	"context"
	"errors"
	"fmt"
	"time"
)

// Task is what an executor is to do with a controller.
type Task string

const (
	TaskIdentify Task = "identify" // which machine is it? Nothing is expected
	TaskProbe    Task = "probe"    // one reading, see Probe
	TaskTest     Task = "test"     // two readings, see Test
	TaskOff      Task = "off"      // see Fence
)

// Job is one task as it is given to whoever executes a fence level: this
// process, another manager, or the agent of a peer. Its deadline is that of the
// context it runs under.
type Job struct {
	Task   Task
	Target Target
	Expect Expect
}

// Outcome is what became of a Job. It crosses the network as it is, so its
// readings are told by the time since the job began: no clock of the executor
// has to be right. It holds no secret.
type Outcome struct {
	Identity   string // as the controller gave it; "" when it did not
	Readings   []Read // the last ones, oldest first
	AlreadyOff bool   // TaskOff: it was off without an order of ours
	Took       time.Duration
	OffSent    bool   // an order to switch off left the executor
	Failure    string // a sentence; "" when the task was done
	Reason     Reason // of the failure
	Stage      Stage  // of the failure
}

// Read is a Reading, told by the time since the job began.
type Read struct {
	After time.Duration
	State PowerState
}

// Do runs a job here. It blocks until there is an outcome, at the latest when
// ctx ends, and leaves no child process behind.
func (r Registry) Do(ctx context.Context, j Job) Outcome {
	start := time.Now()
	d, err := r.Open(j.Target)
	if err != nil {
		// Whoever set the level could open it: here something is missing.
		return Outcome{Failure: err.Error(), Reason: NoProgram, Stage: StageIdentity}
	}
	var o Outcome
	var readings []Reading
	switch j.Task {
	case TaskIdentify:
		o.Identity, err = Identify(ctx, d, j.Expect.Reach)
	case TaskProbe:
		var one Reading
		if o.Identity, one, err = Probe(ctx, d, j.Expect); err == nil {
			readings = []Reading{one}
		}
	case TaskTest:
		o.Identity, readings, err = Test(ctx, d, j.Expect)
	case TaskOff:
		var p Proof
		p, err = Fence(ctx, d, j.Expect, nil)
		o.Identity, readings, o.AlreadyOff, o.OffSent = p.Identity, p.Readings, p.AlreadyOff, err == nil && !p.AlreadyOff
	default:
		return Outcome{Failure: fmt.Sprintf("there is no task %q for a power controller here; is this version of lifeboat older than the leader's?", j.Task), Reason: NoProgram}
	}
	if e := (*Error)(nil); errors.As(err, &e) {
		o.Identity, readings, o.OffSent, o.Reason, o.Stage = e.Got, e.Readings, e.OffSent, e.Reason, e.Stage
	}
	if err != nil {
		o.Failure = err.Error()
	}
	for _, x := range readings {
		o.Readings = append(o.Readings, Read{x.At.Sub(start), x.State})
	}
	o.Took = time.Since(start)
	return o
}

// Elsewhere reports whether another executor may do better: the controller was
// not reached from where the job ran, and nothing was ordered.
func (o Outcome) Elsewhere() bool {
	if o.Failure == "" || o.OffSent {
		return false
	}
	switch o.Reason {
	case Unreachable, NoProgram:
		return true
	case Deadline:
		return o.Stage == StageIdentity
	}
	return false
}

// Last is the newest power state that was read; Unknown when there is none.
func (o Outcome) Last() PowerState {
	if len(o.Readings) == 0 {
		return Unknown
	}
	return o.Readings[len(o.Readings)-1].State
}

// Proof is the proof in the outcome of TaskOff, by the rules of whoever asked:
// an executor's word alone is none (S9). ended is when the outcome was here.
func (o Outcome) Proof(end Endpoint, want Expect, ended time.Time) (Proof, error) {
	if o.Failure != "" {
		return Proof{}, errors.New(o.Failure)
	}
	if !SameIdentity(o.Identity, want.Identity) {
		return Proof{}, fmt.Errorf("%s controls machine %q, not %q as expected", end, o.Identity, want.Identity)
	}
	p := Proof{Driver: end.Driver, Address: end.Address, Identity: o.Identity, AlreadyOff: o.AlreadyOff}
	for _, r := range o.Readings {
		p.Readings = append(p.Readings, Reading{At: ended.Add(r.After - o.Took), State: r.State})
	}
	return p, p.Check()
}
