package node

import (
	"context"
	"strings"
	"testing"
	"time"

	"connectrpc.com/connect"

	lifeboatv1 "lifeboat/api/lifeboat/v1"
	"lifeboat/api/lifeboat/v1/lifeboatv1connect"
	"lifeboat/fsm"
	"lifeboat/transport/memnet"
)

// aged makes every node of a world one of a build of a feature level.
func aged(level uint32) func(*world) {
	return func(w *world) {
		for _, n := range w.nodes {
			n.faults.level = level
		}
	}
}

// install stops a node and starts it with a build of another feature level; 0 = this
// one.
func (n *testNode) install(level uint32) {
	n.w.Helper()
	n.halt()
	n.faults.level = level
	n.start()
	n.w.within(10*time.Second, n.id+" is Up with another version", func() bool {
		for _, l := range n.w.serving() {
			x := l.n.fsm.State().Node(fsm.NodeID(n.id))
			return x != nil && x.State == fsm.NodeUp && x.Level == n.n.level()
		}
		return false
	})
}

// levelIs reports whether the cluster is at a feature level.
func (w *world) levelIs(level uint32) func() bool {
	return func() bool {
		l := w.serving()
		return len(l) == 1 && l[0].n.fsm.State().Level == level
	}
}

// While a member would pass over why snapshots fail, the log does not say it, or
// states would differ; the leader knows and shows it all the same.
func TestOlderMemberHearsOfNoSnapshotFailure(t *testing.T) {
	runWith(t, 5, aged(1), func(w *world) {
		w.allUp()
		for _, id := range []string{"n1", "n2", "n3", "n4"} {
			w.nodes[id].install(0)
		}
		n, old := w.others(w.leader())[0], w.nodes["n5"]
		if n == old {
			n = w.others(w.leader())[1]
		}
		x := w.state().Node(fsm.NodeID(n.id))
		fails := func(why string) {
			w.Helper()
			w.must(w.leader().n.term.Load().members.hello(w.Context(), &lifeboatv1.HelloRequest{Id: n.id, Addr: x.Addr, HttpAddr: x.HTTPAddr, RunId: x.RunID, Version: x.Version,
				FeatureLevel: x.Level, StartedUnixNs: x.Started, TimeUnixNs: time.Now().UnixNano(), SnapshotFailure: why}))
		}
		said := func() string { return w.state().Node(fsm.NodeID(n.id)).SnapshotFailure }
		alert := func() bool {
			return w.state().OpenAlert(fsm.AlertKey{Type: fsm.AlertNode, Subject: n.id, Cause: "snapshot"}) != nil
		}
		n.crash(memnet.Crash) // or it would say that nothing fails
		fails("no space left")
		if said() != "" || alert() {
			t.Errorf("the log says %q while a member is older", said())
		}
		r, err := w.leader().n.readNodes(w.leader().n.term.Load(), t.Context(), nil)
		w.must(err)
		shown := ""
		for _, v := range r.Nodes {
			if v.Id == n.id {
				shown = v.SnapshotFailure
			}
		}
		if shown != "no space left" {
			t.Errorf("the list of nodes shows %q", shown)
		}
		old.install(0)
		w.within(30*time.Second, "the level has risen", w.levelIs(FeatureLevel))
		fails("no space left")
		if said() == "" || !alert() {
			t.Error("the log does not say it although every member knows it")
		}
		fails("")
		if said() != "" || alert() {
			t.Error("it is not over")
		}
	})
}

// Two dead nodes of an older version can be removed one after the other, by force,
// and a leader that cannot leave because of one keeps its leadership. Once they are
// gone, the level rises.
func TestOlderDeadNodesCanBeRemoved(t *testing.T) {
	runWith(t, 5, aged(1), func(w *world) {
		w.allUp()
		for _, id := range []string{"n1", "n2", "n3"} {
			w.nodes[id].install(0)
		}
		dead := []*testNode{w.nodes["n4"], w.nodes["n5"]}
		for _, n := range dead {
			n.crash(memnet.Crash)
		}
		l := w.leader()
		remove := &lifeboatv1.ControlNodeRequest{Id: dead[0].id, Action: "remove"}
		for _, n := range dead {
			w.within(10*time.Second, n.id+" is Down", w.nodeIs(n.id, fsm.NodeDown))
		}
		if err := w.control(l, &lifeboatv1.ControlNodeRequest{Id: l.id, Action: "leave"}); err == nil {
			t.Error("the leader has left")
		}
		if !l.leads() {
			t.Error("it gave leadership away and is still a member")
		}
		if err := w.control(l, remove); err == nil || !strings.Contains(err.Error(), "runs version 0.1") {
			t.Errorf("removed without force: %v", err)
		}
		w.stays(raiseAfter+2*time.Second, "the level", w.levelIs(1))
		remove.Force = true
		w.must(w.operator(l, func(ctx context.Context, c lifeboatv1connect.AdminServiceClient) error {
			r, err := c.ControlNode(ctx, connect.NewRequest(remove))
			if err == nil && !strings.Contains(r.Msg.Message, "Node "+dead[1].id+" is Down and runs a version") {
				t.Errorf("the other one is not spoken of: %s", r.Msg.Message)
			}
			return err
		}))
		w.stays(raiseAfter+2*time.Second, "the level", w.levelIs(1))
		w.must(w.control(l, &lifeboatv1.ControlNodeRequest{Id: dead[1].id, Action: "remove"}))
		if got := len(l.n.others()); got != 2 {
			t.Errorf("%d others are left", got)
		}
		w.within(raiseAfter+2*time.Second, "the level has risen", w.levelIs(FeatureLevel))
	})
}

// S22: an older node would give orders after a restore, so none begins before the
// cluster is at the level that knows it. Nor are nodes steered.
func TestRestoreNeedsTheLevelOfEveryNode(t *testing.T) {
	runWith(t, 3, aged(1), func(w *world) {
		w.allUp()
		w.nodes["n1"].install(0)
		w.nodes["n2"].install(0)
		w.must(w.ha(&lifeboatv1.ControlHARequest{Action: "disarm"}))
		raw, before := w.save(w.leader()), w.state().Generation
		err := w.restore(w.leader(), raw, &lifeboatv1.RestoreSnapshotRequest{})
		if err == nil || !strings.Contains(err.Error(), "node n3 runs version 0.1, which knows feature levels up to 1") || !strings.Contains(err.Error(), "nothing was changed") {
			t.Errorf("restored: %v", err)
		}
		if w.state().Generation != before {
			t.Error("something was restored")
		}
		maintain := &lifeboatv1.ControlNodeRequest{Id: "n1", Action: "maintenance-on", Force: true}
		if err := w.control(w.leader(), maintain); err == nil || !strings.Contains(err.Error(), "this needs feature level 2, and the cluster is at level 1: node n3") {
			t.Errorf("steered: %v", err)
		}
		w.nodes["n3"].install(0)
		if err := w.control(w.leader(), maintain); err == nil || !strings.Contains(err.Error(), "in a few seconds") {
			t.Errorf("steered before it has risen: %v", err)
		}
		w.within(raiseAfter+2*time.Second, "the level has risen", w.levelIs(FeatureLevel))
		w.must(w.restore(w.leader(), raw, &lifeboatv1.RestoreSnapshotRequest{}))
		w.must(w.control(w.leader(), maintain))
	})
}
