package node

import (
	"context"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"connectrpc.com/connect"

	lifeboatv1 "lifeboat/api/lifeboat/v1"
	"lifeboat/api/lifeboat/v1/lifeboatv1connect"
	"lifeboat/fsm"
)

// saveOf has an operator read the state of a node as it is there.
func (w *world) saveOf(at *testNode) error {
	w.Helper()
	return w.operator(at, func(ctx context.Context, c lifeboatv1connect.AdminServiceClient) error {
		return ask(ctx, c.ReadSnapshot, &lifeboatv1.ReadSnapshotRequest{Stale: true})
	})
}

// level4 waits until every node knows the feature level of the audit.
func (w *world) level4() {
	w.Helper()
	w.within(20*time.Second, "all are at level 4", func() bool {
		return !slices.ContainsFunc(w.live(), func(n *testNode) bool { return n.n.fsm.State().Level < fsm.LevelPolicy })
	})
}

// alone is a follower that was cut off from the others for long enough to know.
func (w *world) alone() *testNode {
	w.Helper()
	w.level4()
	alone := w.others(w.leader())[0]
	for _, n := range w.others(alone) {
		w.net.CutBoth(alone.id, n.id)
	}
	w.stays(15*time.Second, "", func() bool { return true })
	return alone
}

// toldOnce checks that there is one event about a snapshot of a node, with who took it,
// and that none follows.
func (w *world) toldOnce(n *testNode) {
	w.Helper()
	w.within(time.Minute, "it is an event", func() bool { return w.events(n, "SNAPSHOT.SAVE", "was read from node "+n.id) == 1 })
	w.stays(10*time.Second, "it is one", func() bool { return w.events(n, "SNAPSHOT.SAVE", "") == 1 })
	for _, e := range w.state().EventsAfter(0) {
		if e.Type == "SNAPSHOT.SAVE" && e.Actor != "operator/alice" {
			w.Errorf("%s has it, says the event", e.Actor)
		}
	}
}

// With a leader at hand the event is in the log before the archive is given, whoever is
// asked for it.
func TestASnapshotIsAnEventBeforeItIsGiven(t *testing.T) {
	run(t, 3, func(w *world) {
		w.level4()
		for _, at := range []*testNode{w.others(w.leader())[0], w.leader()} {
			w.must(w.saveOf(at))
			if w.events(at, "SNAPSHOT.SAVE", "was read from node "+at.id) != 1 {
				t.Errorf("the state of %s was given, and is no event", at.id)
			}
		}
	})
}

// A node that gives out its state while no leader can be asked tells of it when there is
// one, once.
func TestASnapshotOfAFollowerIsAnEvent(t *testing.T) {
	run(t, 3, func(w *world) {
		alone := w.alone()
		w.must(w.saveOf(alone))
		if n := w.events(alone, "SNAPSHOT.SAVE", ""); n != 0 {
			t.Errorf("%d events before anybody can be told", n)
		}
		w.net.HealAll()
		w.toldOnce(alone)
	})
}

// A node that stops before it could tell anybody does so in its next run. When it does
// not know that it was heard, it tells again, and that is no second event.
func TestASnapshotIsAnEventAfterAStop(t *testing.T) {
	run(t, 3, func(w *world) {
		alone := w.alone()
		w.must(w.saveOf(alone))
		path := filepath.Join(alone.cfg.DataDir, "handed-out.json")
		note, err := os.ReadFile(path)
		w.must(err)
		alone.halt()
		w.net.HealAll()
		alone.start()
		w.toldOnce(alone)
		alone.halt()
		w.must(os.WriteFile(path, note, 0o600))
		alone.start()
		w.toldOnce(alone)
		if list := alone.n.handed.oldest(); len(list) != 0 {
			t.Errorf("it would go on to tell %v", list)
		}
	})
}

// The last word of a node that leaves says it, too: there may be no next run.
func TestTheGoodbyeTellsOfASnapshot(t *testing.T) {
	run(t, 3, func(w *world) {
		alone := w.alone()
		w.must(w.saveOf(alone))
		alone.n.hushed.Store(true) // but for the goodbye
		w.net.HealAll()
		w.within(20*time.Second, "it follows the leader", func() bool {
			_, id := alone.n.raft.LeaderWithID()
			return string(id) == w.leader().id
		})
		if err := w.saveOf(alone); connect.CodeOf(err) != connect.CodeUnavailable {
			t.Errorf("a node that tells nobody any more gives its state: %v", err)
		}
		alone.halt()
		w.toldOnce(alone)
	})
}

// Without a quorum the state can be saved, from a node that led, too: a cluster is
// recovered from that. What cannot be noted is not handed out.
func TestASnapshotWithoutAQuorum(t *testing.T) {
	run(t, 3, func(w *world) {
		w.level4()
		last := w.leader()
		rest := w.others(last)
		for _, n := range rest {
			n.halt()
		}
		w.must(w.saveOf(last))
		move := func(to string) (from string) {
			last.n.handed.mu.Lock()
			defer last.n.handed.mu.Unlock()
			from, last.n.handed.path = last.n.handed.path, to
			return from
		}
		path := move(filepath.Join(last.cfg.DataDir, "none", "x"))
		if err := w.saveOf(last); err == nil {
			t.Error("it is handed out, and noted nowhere")
		}
		move(path)
		for _, n := range rest {
			n.start()
		}
		w.toldOnce(last)
	})
}

// A node that was cut off before it knew of the audit tells all the same.
func TestASnapshotOfANodeThatIsBehind(t *testing.T) {
	cut := func(w *world) {
		w.net.CutBoth("n3", "n1")
		w.net.CutBoth("n3", "n2")
	}
	runWith(t, 3, cut, func(w *world) {
		behind := w.nodes["n3"]
		if l := behind.n.fsm.State().Level; l >= fsm.LevelPolicy {
			t.Fatalf("it is at level %d", l)
		}
		w.must(w.saveOf(behind))
		w.net.HealAll()
		w.toldOnce(behind)
	})
}

// A file that cannot be read keeps no node from running, and is kept for who looks.
func TestNotesThatCannotBeRead(t *testing.T) {
	for _, text := range []string{"", "[null]", "{", "[{\"id\":1}]"} {
		dir := t.TempDir()
		path := filepath.Join(dir, "handed-out.json")
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		var h handedOut
		if err := h.open(dir); err == nil || len(h.waiting) != 0 {
			t.Errorf("%q: %v, %v", text, h.waiting, err)
		}
		if raw, err := os.ReadFile(path + ".unreadable"); err != nil || string(raw) != text {
			t.Errorf("%q is put aside as %q, %v", text, raw, err)
		}
		x := &lifeboatv1.HandedOut{Id: "a", Actor: "operator/alice", Index: 7, Bytes: 8}
		if err := h.add(x, true); err != nil {
			t.Fatal(err)
		}
		var next handedOut
		if err := next.open(dir); err != nil || len(next.waiting) != 1 || next.waiting[0].Id != "a" || next.waiting[0].Actor != x.Actor || next.waiting[0].Index != 7 || next.waiting[0].Bytes != 8 {
			t.Errorf("the next run reads %v, %v", next.waiting, err)
		}
	}
}

// Snapshots that nobody hears of are bounded: the first are not forgotten for the last.
func TestTooManyNotes(t *testing.T) {
	var h handedOut
	if err := h.open(t.TempDir()); err != nil {
		t.Fatal(err)
	}
	for range maxHandedOut {
		h.waiting = append(h.waiting, &lifeboatv1.HandedOut{Id: newID()})
	}
	first := h.oldest()
	if err := h.add(&lifeboatv1.HandedOut{}, true); err == nil || len(first) != toldAtOnce {
		t.Errorf("one more is taken: %v; %d are told at once", err, len(first))
	}
	if err := h.add(&lifeboatv1.HandedOut{}, false); err != nil || len(h.waiting) != maxHandedOut || h.has(first[0]) {
		t.Errorf("where there is no audit, %d wait: %v", len(h.waiting), err)
	}
	first = h.oldest()
	if err := h.noted(first); err != nil || len(h.waiting) != maxHandedOut-toldAtOnce || h.has(first[0]) {
		t.Errorf("after they were told, %d wait: %v", len(h.waiting), err)
	}
}
