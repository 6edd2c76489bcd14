package node

import (
	"context"
	"testing"
	"time"

	"connectrpc.com/connect"

	"lifeboat/agent"
	lifeboatv1 "lifeboat/api/lifeboat/v1"
	"lifeboat/api/lifeboat/v1/lifeboatv1connect"
	"lifeboat/transport/memnet"
)

// slow makes a beat of ten seconds, of which an agent waits for half.
func (w *world) slow() {
	w.Helper()
	w.must(w.operator(w.leader(), func(ctx context.Context, c lifeboatv1connect.AdminServiceClient) error {
		_, err := c.SetPolicy(ctx, connect.NewRequest(&lifeboatv1.SetPolicyRequest{Settings: []*lifeboatv1.Setting{{Key: "beat", Value: "10s"}, {Key: "lease", Value: "2m"}, {Key: "takeover", Value: "190s"}}}))
		return err
	}))
}

// An agent that comes while nobody leads is not sent away: it waits, and is served by
// the next leader.
func TestAgentsWaitForALeader(t *testing.T) {
	run(t, 3, func(w *world) {
		w.slow()
		l := w.leader()
		f := w.others(l)[0]
		h1 := w.raw("h1", f)
		w.must(h1.register())
		l.crash(memnet.PowerLoss)
		w.within(5*time.Second, "the leader is missed", func() bool { addr, _ := f.n.raft.LeaderWithID(); return addr == "" })
		for _, n := range w.others(l) { // whether it leads itself or passes it on
			began := time.Now()
			if err := w.raw("h2", n).register(); err != nil {
				t.Errorf("at %s: %v after %s", n.id, err, time.Since(began))
			}
		}
		l.back()
	})
}

// Half a beat is what it waits. A node that stops keeps nobody.
func TestAgentsDoNotWaitForLong(t *testing.T) {
	run(t, 3, func(w *world) {
		w.slow()
		l := w.leader()
		f, third := w.others(l)[0], w.others(l)[1]
		w.within(5*time.Second, "the policy is known", func() bool { return f.n.fsm.State().Policy.Beat == 10*time.Second })
		h1 := w.raw("h1", f)
		w.net.Isolate(f.id, l.id, third.id)
		w.within(10*time.Second, "the leader is missed", func() bool { addr, _ := f.n.raft.LeaderWithID(); return addr == "" })
		began := time.Now()
		if err := h1.register(); !agent.NobodyLeads(err) {
			t.Errorf("without a leader: %v", err)
		}
		if took := time.Since(began).Round(100 * time.Millisecond); took != 5*time.Second {
			t.Errorf("it waited %s, want half a beat", took)
		}
		answered := make(chan error, 1)
		began = time.Now()
		go func() { answered <- h1.register() }()
		time.Sleep(time.Second)
		f.halt()
		f.n = nil
		if err := <-answered; connect.CodeOf(err) != connect.CodeUnavailable || agent.NobodyLeads(err) || time.Since(began) >= 5*time.Second {
			t.Errorf("a node that stops answered %v after %s", err, time.Since(began))
		}
		w.net.HealAll()
		f.back()
	})
}

// A leader that could not be reached is tried again a moment later, not by everybody.
func TestAbsentLeader(t *testing.T) {
	var l lobby
	l.missed("a:1")
	if !l.lately("a:1") || l.lately("b:1") {
		t.Error("a:1 could not be reached, and b:1 was not tried")
	}
	l.at = l.at.Add(-absentFor)
	if l.lately("a:1") {
		t.Error("it is not tried again")
	}
	changed := l.changed()
	l.open()
	select {
	case <-changed:
	default:
		t.Error("who waits is not told")
	}
}
