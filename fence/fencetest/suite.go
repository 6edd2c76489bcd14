package fencetest

import (
	"context"
	"errors"
	"strings"
	"testing"
	"time"

	"lifeboat/fence"
)

// otherIdentity belongs to no rig.
const otherIdentity = "6f1f2f3f-0000-4000-8000-0123456789ab"

// limit is the deadline of attempts that are expected to use it up.
const limit = 6 * time.Second

// Run runs the suite. newRig makes a rig whose machine is on; rigs are used in
// parallel, one per subtest.
func Run(t *testing.T, newRig func(t *testing.T) Rig) {
	for _, c := range []struct {
		name string
		run  func(*testing.T, Rig)
	}{
		{"off", off},
		{"already off", alreadyOff},
		{"on", on},
		{"probe", probe},
		{"confirm", confirm},
		{"slow", slow},
		{"lies", lies},
		{"error", erring},
		{"flapping", flapping},
		{"unreachable", unreachable},
		{"hung", hung},
		{"wrong password", wrongPassword},
		{"identity mismatch", mismatch},
		{"cancel", cancelled},
		{"executor", executor},
		{"executor lies", executorLies},
		{"executor hung", executorHung},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			rig := newRig(t)
			c.run(t, rig)
			Eventually(t, "no process or session is left: "+strings.Join(rig.Leftovers(t), "; "), 5*time.Second,
				func() bool { return len(rig.Leftovers(t)) == 0 })
		})
	}
}

func open(t *testing.T, target fence.Target, rig Rig) fence.Driver {
	t.Helper()
	d, err := fence.NewRegistry(rig.Kind()).Open(target)
	if err != nil {
		t.Fatal(err)
	}
	return d
}

// attempt fences with a deadline and checks what holds for every attempt.
func attempt(t *testing.T, rig Rig, target fence.Target, identity string, deadline time.Duration) (fence.Proof, error) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), deadline)
	defer cancel()
	start := time.Now()
	p, err := fence.Fence(ctx, open(t, target, rig), fence.Expect{Identity: identity}, func(r fence.Reading) {
		t.Logf("%5.2fs reads %s", time.Since(start).Seconds(), r.State)
	})
	t.Logf("%5.2fs %v", time.Since(start).Seconds(), err)
	if over := time.Since(start) - deadline; over > 2*time.Second {
		t.Errorf("came back %s after the deadline", over)
	}
	if err == nil {
		if cerr := p.Check(); cerr != nil {
			t.Errorf("proof does not hold: %v", cerr)
		}
		if p.Driver != target.Driver || p.Address != target.Address || !fence.SameIdentity(p.Identity, rig.Identity()) {
			t.Errorf("proof names %s %s %s", p.Driver, p.Address, p.Identity)
		}
	} else if s := err.Error(); strings.Contains(s, rig.Target().Password.Reveal()) {
		t.Errorf("the error tells the password: %s", s)
	}
	return p, err
}

func mustFail(t *testing.T, err error, reasons ...fence.Reason) *fence.Error {
	t.Helper()
	var e *fence.Error
	if !errors.As(err, &e) {
		t.Fatalf("got %v, want a failure with reason %q", err, reasons)
	}
	for _, r := range reasons {
		if e.Reason == r {
			return e
		}
	}
	t.Fatalf("reason is %q, want one of %q: %v", e.Reason, reasons, e)
	return nil
}

func off(t *testing.T, rig Rig) {
	p, err := attempt(t, rig, rig.Target(), rig.Identity(), 30*time.Second)
	if err != nil {
		t.Fatal(err)
	}
	if p.AlreadyOff || rig.Power(t) || rig.Orders(t) != 1 {
		t.Fatalf("power %v after %d orders, proof %+v", rig.Power(t), rig.Orders(t), p)
	}
}

func alreadyOff(t *testing.T, rig Rig) {
	rig.SetPower(t, false)
	p, err := attempt(t, rig, rig.Target(), rig.Identity(), 30*time.Second)
	if err != nil {
		t.Fatal(err)
	}
	if !p.AlreadyOff || rig.Orders(t) != 0 {
		t.Fatalf("%d orders to a machine that was off, proof %+v", rig.Orders(t), p)
	}
}

func on(t *testing.T, rig Rig) {
	rig.SetPower(t, false)
	d := open(t, rig.Target(), rig)
	if err := d.On(t.Context()); err != nil {
		t.Fatal(err)
	}
	if s, err := d.Power(t.Context()); err != nil || s != fence.On || !rig.Power(t) {
		t.Fatalf("reads %s: %v", s, err)
	}
}

func probe(t *testing.T, rig Rig) {
	d := open(t, rig.Target(), rig)
	identity, r, err := fence.Probe(t.Context(), d, fence.Expect{Identity: rig.Identity()})
	if err != nil || r.State != fence.On || !fence.SameIdentity(identity, rig.Identity()) || rig.Orders(t) != 0 {
		t.Fatalf("%s %+v after %d orders: %v", identity, r, rig.Orders(t), err)
	}
}

func confirm(t *testing.T, rig Rig) {
	d := open(t, rig.Target(), rig)
	_, err := fence.Confirm(t.Context(), d, fence.Expect{Identity: rig.Identity()}, nil)
	mustFail(t, err, fence.StillOn)
	rig.SetPower(t, false)
	if p, err := fence.Confirm(t.Context(), d, fence.Expect{Identity: rig.Identity()}, nil); err != nil || !p.AlreadyOff {
		t.Fatal(p, err)
	}
	if rig.Orders(t) != 0 {
		t.Fatal("Confirm gave an order")
	}
}

func slow(t *testing.T, rig Rig) {
	rig.Inject(t, Slow)
	if _, err := attempt(t, rig, rig.Target(), rig.Identity(), time.Minute); err != nil {
		t.Fatal(err)
	}
	if rig.Power(t) {
		t.Fatal("proof, but the machine is on")
	}
}

func lies(t *testing.T, rig Rig) {
	rig.Inject(t, Lying)
	_, err := attempt(t, rig, rig.Target(), rig.Identity(), limit)
	if e := mustFail(t, err, fence.StillOn); !e.OffSent || rig.Orders(t) == 0 {
		t.Fatalf("%d orders: %v", rig.Orders(t), e)
	}
}

func erring(t *testing.T, rig Rig) {
	rig.Inject(t, Erring)
	_, err := attempt(t, rig, rig.Target(), rig.Identity(), 30*time.Second)
	if e := mustFail(t, err, fence.Refused); e.Stage != fence.StageOff || e.Took > 15*time.Second {
		t.Fatalf("stage %s after %s: %v", e.Stage, e.Took, e)
	}
}

func flapping(t *testing.T, rig Rig) {
	rig.Inject(t, Flapping)
	_, err := attempt(t, rig, rig.Target(), rig.Identity(), limit)
	mustFail(t, err, fence.StillOn)
}

func unreachable(t *testing.T, rig Rig) {
	rig.SetPower(t, false) // "cannot be reached" and "is off" must not be mixed up
	rig.Inject(t, Down)
	_, err := attempt(t, rig, rig.Target(), rig.Identity(), 20*time.Second)
	if e := mustFail(t, err, fence.Unreachable); e.OffSent || e.Took > 8*time.Second {
		t.Fatalf("after %s: %v", e.Took, e)
	}
}

func hung(t *testing.T, rig Rig) {
	rig.Inject(t, Hung)
	_, err := attempt(t, rig, rig.Target(), rig.Identity(), 3*time.Second)
	mustFail(t, err, fence.Deadline)
}

func wrongPassword(t *testing.T, rig Rig) {
	rig.SetPower(t, false)
	target := rig.Target()
	target.Password = fence.NewSecret("not-the-password")
	_, err := attempt(t, rig, target, rig.Identity(), 20*time.Second)
	if e := mustFail(t, err, fence.AuthFailed); strings.Contains(e.Error(), "not-the-password") {
		t.Fatalf("the error tells the password: %v", e)
	}
	if rig.Orders(t) != 0 {
		t.Fatal("an order was taken with a wrong password")
	}
}

func mismatch(t *testing.T, rig Rig) {
	for _, on := range []bool{true, false} { // S9: nor is "already off" of an unmatched machine proof
		rig.SetPower(t, on)
		_, err := attempt(t, rig, rig.Target(), otherIdentity, 20*time.Second)
		if e := mustFail(t, err, fence.IdentityMismatch); e.OffSent || rig.Orders(t) != 0 || rig.Power(t) != on {
			t.Fatalf("another machine got %d orders", rig.Orders(t))
		}
	}
}

// cancelled ends the term while the controller is thinking (S10).
func cancelled(t *testing.T, rig Rig) {
	rig.Inject(t, Hung)
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	time.AfterFunc(700*time.Millisecond, cancel)
	start := time.Now()
	_, err := fence.Fence(ctx, open(t, rig.Target(), rig), fence.Expect{Identity: rig.Identity()}, nil)
	mustFail(t, err, fence.Cancelled)
	if took := time.Since(start); took > 3*time.Second {
		t.Fatalf("came back after %s", took)
	}
	if left := rig.Leftovers(t); len(left) > 0 {
		t.Fatalf("left behind: %v", left)
	}
}
