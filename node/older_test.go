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

// older stops a node and has its machine come back with a version of a feature
// level, of which nothing is heard but this.
func (w *world) older(n *testNode, level uint32) {
	w.Helper()
	if n.done != nil {
		n.halt()
	}
	w.must(w.leader().n.term.Load().members.hello(w.Context(), &lifeboatv1.HelloRequest{Id: n.id, Addr: n.cfg.Advertise, RunId: newID(), Version: "0.1",
		FeatureLevel: level, StartedUnixNs: time.Now().UnixNano(), TimeUnixNs: time.Now().UnixNano()}))
}

// While a member passes over why snapshots fail, the log does not
// say it, or states would differ; the leader knows and shows it all the same. What
// the log said before stays as it is.
func TestOlderMemberHearsOfNoSnapshotFailure(t *testing.T) {
	run(t, 5, func(w *world) {
		w.allUp()
		old, n := w.others(w.leader())[0], w.others(w.leader())[1]
		x := w.state().Node(fsm.NodeID(n.id))
		fails := func(why string) {
			w.must(w.leader().n.term.Load().members.hello(w.Context(), &lifeboatv1.HelloRequest{Id: n.id, Addr: x.Addr, HttpAddr: x.HTTPAddr, RunId: x.RunID, Version: x.Version,
				FeatureLevel: x.Level, StartedUnixNs: x.Started, TimeUnixNs: time.Now().UnixNano(), SnapshotFailure: why}))
		}
		said := func() string { return w.state().Node(fsm.NodeID(n.id)).SnapshotFailure }
		alert := func() bool {
			return w.state().OpenAlert(fsm.AlertKey{Type: fsm.AlertNode, Subject: n.id, Cause: "snapshot"}) != nil
		}
		n.crash(memnet.Crash) // or it would say that nothing fails
		w.older(old, 1)
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
		w.older(old, levelNodes)
		fails("no space left")
		if said() == "" || !alert() {
			t.Error("the log does not say it although every member knows it")
		}
		w.older(old, 1)
		fails("")
		if said() == "" || !alert() {
			t.Error("an older member is told that it is over")
		}
		w.older(old, levelNodes)
		fails("")
		if said() != "" || alert() {
			t.Error("it is not over")
		}
	})
}

// Two dead nodes of an older version can be removed one after the other, by force,
// and a leader that cannot leave because of one keeps its leadership.
func TestOlderDeadNodesCanBeRemoved(t *testing.T) {
	run(t, 5, func(w *world) {
		w.allUp()
		l := w.leader()
		dead := w.others(l)[:2]
		for _, n := range dead {
			w.older(n, 1)
		}
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
		remove.Force = true
		w.must(w.operator(l, func(ctx context.Context, c lifeboatv1connect.AdminServiceClient) error {
			r, err := c.ControlNode(ctx, connect.NewRequest(remove))
			if err == nil && !strings.Contains(r.Msg.Message, "Node "+dead[1].id+" is Down and runs a version") {
				t.Errorf("the other one is not spoken of: %s", r.Msg.Message)
			}
			return err
		}))
		w.must(w.control(l, &lifeboatv1.ControlNodeRequest{Id: dead[1].id, Action: "remove"}))
		if got := len(l.n.others()); got != 2 {
			t.Errorf("%d others are left", got)
		}
	})
}
