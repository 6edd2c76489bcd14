package fencetest

import (
	"context"
	"strings"
	"testing"
	"time"

	"lifeboat/fence"
	"lifeboat/fence/wire"
)

// do has an executor elsewhere do a job: it and its outcome cross the wire.
func do(t *testing.T, rig Rig, task fence.Task, want fence.Expect, deadline time.Duration) fence.Outcome {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), deadline)
	defer cancel()
	p := wire.Job("h1", 1, fence.Job{Task: task, Target: rig.Target(), Expect: want})
	sent := wire.Outcome(p, 1, fence.NewRegistry(rig.Kind()).Do(ctx, wire.ReadJob(p)))
	if secret := rig.Target().Password.Reveal(); secret != "" && strings.Contains(sent.String(), secret) {
		t.Errorf("the outcome tells the password: %s", sent)
	}
	o := wire.ReadOutcome(sent)
	t.Logf("%s after %s: %+v", task, o.Took, o)
	return o
}

// executor: what an executor elsewhere finds is the same, and its word alone is
// no proof.
func executor(t *testing.T, rig Rig) {
	want := fence.Expect{Identity: rig.Identity()}
	end := rig.Target().Endpoint()
	if o := do(t, rig, fence.TaskIdentify, fence.Expect{}, 20*time.Second); !fence.SameIdentity(o.Identity, rig.Identity()) {
		t.Fatalf("%+v", o)
	}
	o := do(t, rig, fence.TaskTest, want, 30*time.Second)
	if o.Failure != "" || len(o.Readings) != 2 || o.Last() != fence.On || rig.Orders(t) != 0 || !rig.Power(t) {
		t.Fatalf("a test made %+v with %d orders", o, rig.Orders(t))
	}
	if _, err := o.Proof(end, want, time.Now()); err == nil {
		t.Fatal("power that is on became proof")
	}
	if o = do(t, rig, fence.TaskOff, fence.Expect{Identity: otherIdentity}, 20*time.Second); o.Failure == "" || o.Elsewhere() || rig.Orders(t) != 0 {
		t.Fatalf("another machine: %+v", o)
	}
	o = do(t, rig, fence.TaskOff, want, 30*time.Second)
	p, err := o.Proof(end, want, time.Now())
	if err != nil || p.AlreadyOff || rig.Power(t) {
		t.Fatalf("%+v: %v", o, err)
	}
	if _, err := o.Proof(end, fence.Expect{Identity: otherIdentity}, time.Now()); err == nil {
		t.Fatal("proof about another machine")
	}
}

// executorLies: a controller that lies to an executor makes no proof, and nobody
// else is asked.
func executorLies(t *testing.T, rig Rig) {
	rig.Inject(t, Lying)
	if o := do(t, rig, fence.TaskOff, fence.Expect{Identity: rig.Identity()}, limit); o.Failure == "" || !o.OffSent || o.Elsewhere() {
		t.Fatalf("%+v", o)
	}
}

// executorHung: who does not reach the controller leaves time for others.
func executorHung(t *testing.T, rig Rig) {
	rig.Inject(t, Hung)
	o := do(t, rig, fence.TaskOff, fence.Expect{Identity: rig.Identity(), Reach: time.Second}, limit)
	switch {
	case o.Failure == "":
		t.Fatalf("%+v", o)
	case o.Identity != "": // it hangs only later: then it was reached
		if o.Elsewhere() {
			t.Fatalf("somebody else is asked after an order: %+v", o)
		}
	case !o.Elsewhere() || o.Took > 4*time.Second:
		t.Fatalf("%+v", o)
	}
}
