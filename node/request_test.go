package node

import (
	"context"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"connectrpc.com/connect"
	"github.com/hashicorp/raft"
	"google.golang.org/protobuf/proto"

	lifeboatv1 "lifeboat/api/lifeboat/v1"
	"lifeboat/api/lifeboat/v1/lifeboatv1connect"
	"lifeboat/fsm"
	"lifeboat/fsm/logpb"
	"lifeboat/fsm/raftfsm"
	"lifeboat/transport"
	"lifeboat/transport/memnet"
)

// alice is an operator who asks one node, from as many goroutines as she likes.
type alice struct{ client }

func (w *world) alice(at *testNode) alice {
	w.Helper()
	c, done := w.client("desk", transport.KindOperator, "alice")
	w.closers = append(w.closers, done)
	return alice{lifeboatv1connect.NewAdminServiceClient(c, "https://"+at.cfg.Listen)}
}

// set sets a limit, under a request id.
func (a alice) set(id, value string) (*lifeboatv1.WriteResponse, error) {
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	defer cancel()
	req := connect.NewRequest(&lifeboatv1.SetPolicyRequest{Settings: []*lifeboatv1.Setting{{Key: "max_restart", Value: value}}})
	if id != "" {
		req.Header().Set(lifeboatv1.HeaderRequestID, id)
	}
	r, err := a.SetPolicy(ctx, req)
	if err != nil {
		return nil, err
	}
	return r.Msg, nil
}

// control asks for an action on a node, under a request id.
func (a alice) control(id string, q *lifeboatv1.ControlNodeRequest) (*lifeboatv1.WriteResponse, error) {
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	defer cancel()
	req := connect.NewRequest(q)
	req.Header().Set(lifeboatv1.HeaderRequestID, id)
	r, err := a.ControlNode(ctx, req)
	if err != nil {
		return nil, err
	}
	return r.Msg, nil
}

// status asks for the status.
func (a alice) status(q *lifeboatv1.StatusRequest) (*lifeboatv1.StatusResponse, error) {
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	defer cancel()
	r, err := a.Status(ctx, connect.NewRequest(q))
	if err != nil {
		return nil, err
	}
	return r.Msg, nil
}

// times is how often a limit was set to a value, by the audit.
func (w *world) times(value string) (n int) {
	for _, e := range w.state().EventsAfter(0) {
		if e.Type == "POLICY.SET" && strings.HasSuffix(e.Text, "→ "+value) {
			n++
		}
	}
	return n
}

// The same write with the same id is done once, whichever node is asked and whoever
// leads by then.
func TestRequestIsDoneOnce(t *testing.T) {
	run(t, 3, func(w *world) {
		w.allUp()
		l := w.leader()
		first, err := w.alice(l).set("a", "71")
		w.must(err)
		_, err = w.alice(l).set("", "72")
		w.must(err)
		again := func(what string) {
			for _, n := range w.live() {
				r, err := w.alice(n).set("a", "71")
				if err != nil || !r.DoneBefore || r.Index != first.Index || !strings.Contains(r.Message, fmt.Sprint("index ", first.Index)) {
					t.Errorf("%s, at %s: %v, %v; want that it was done at index %d", what, n.id, r, err, first.Index)
				}
			}
		}
		again("under the same leader")
		_, err = w.alice(l).set("a", "73")
		wantCode(t, "something else under the id", err, connect.CodeFailedPrecondition, "was used for something else")
		_, err = w.alice(l).set("b", "nonsense")
		wantCode(t, "nonsense", err, connect.CodeFailedPrecondition, "whole number")
		_, err = w.alice(w.others(l)[0]).set("b", "nonsense")
		wantCode(t, "the same nonsense", err, connect.CodeFailedPrecondition, "whole number")
		for _, bad := range []string{"with space", strings.Repeat("x", fsm.MaxRequestID+1), "ü"} {
			_, err = w.alice(w.others(l)[0]).set(bad, "74")
			wantCode(t, bad, err, connect.CodeInvalidArgument, "request id")
		}
		l.crash(memnet.Crash)
		w.leader()
		again("under the next leader")
		for _, n := range w.live() {
			w.must(n.n.raft.Snapshot().Error())
		}
		for _, n := range w.live() {
			n.crash(memnet.Crash)
		}
		for _, n := range w.nodes {
			n.back()
		}
		w.leader()
		again("after a restart of all")
		if n := w.times("71"); n != 1 || w.state().Policy.MaxRestart != 72 {
			t.Errorf("it was done %d times, the limit is %d", n, w.state().Policy.MaxRestart)
		}
	})
}

// What a request did makes it impossible to do again: it is answered all the same as
// the first time, and not by what the state is now.
func TestRequestIsAnsweredFromMemory(t *testing.T) {
	run(t, 3, func(w *world) {
		w.allUp()
		l := w.leader()
		h := w.raw("h1", l)
		w.must(h.register())
		w.within(10*time.Second, "h1 is not Up any more", func() bool { return w.state().Host("h1").Status != fsm.Up })
		who := w.alice(l)
		remove := func(id string) (*lifeboatv1.WriteResponse, error) {
			ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
			defer cancel()
			req := connect.NewRequest(&lifeboatv1.ControlHostRequest{Host: "h1", Action: "remove"})
			req.Header().Set(lifeboatv1.HeaderRequestID, id)
			r, err := who.ControlHost(ctx, req)
			if err != nil {
				return nil, err
			}
			return r.Msg, nil
		}
		var first *lifeboatv1.WriteResponse
		tries := 0 // a refusal that was committed is remembered, too
		w.within(time.Minute, "h1 can be removed", func() (ok bool) {
			var err error
			tries++
			first, err = remove(fmt.Sprint("a", tries))
			return err == nil
		})
		r, err := remove(fmt.Sprint("a", tries))
		if err != nil || !r.DoneBefore || r.Index != first.Index {
			t.Errorf("removed at %v; the same again: %v, %v", first, r, err)
		}
		_, err = remove("b")
		wantCode(t, "another removal", err, connect.CodeNotFound, "there is no host h1")
	})
}

// Two of the same request are on their way to the log at once.
func TestRequestInFlightTwice(t *testing.T) {
	disks := map[string]*slowDisk{}
	runWith(t, 3, func(w *world) {
		for id, n := range w.nodes {
			n.faults.logs = func(l raft.LogStore) raft.LogStore {
				disks[id] = &slowDisk{LogStore: l}
				return disks[id]
			}
		}
	}, func(w *world) {
		w.allUp()
		l := w.leader()
		disks[l.id].stall()
		var all sync.WaitGroup
		var mu sync.Mutex
		var got []*lifeboatv1.WriteResponse
		for _, at := range []*testNode{l, w.others(l)[0], l} {
			who := w.alice(at)
			all.Go(func() {
				r, err := who.set("a", "71")
				mu.Lock()
				defer mu.Unlock()
				if err != nil {
					t.Error(err)
				}
				got = append(got, r)
			})
		}
		time.Sleep(time.Second)
		disks[l.id].goOn()
		all.Wait()
		before := 0
		for _, r := range got {
			if r.GetDoneBefore() {
				before++
			}
			if r.GetIndex() != got[0].GetIndex() {
				t.Errorf("two indexes: %v", got)
			}
		}
		if n := w.times("71"); n != 1 || before != 2 {
			t.Errorf("done %d times, %d of 3 were told that it was done before", n, before)
		}
	})
}

// The leader is cut off with a write in its log: the caller does not know, asks the
// others with the same id, and when the old leader is back it was done once.
func TestUnknownOutcomeIsAskedAgain(t *testing.T) {
	run(t, 3, func(w *world) {
		w.allUp()
		old := w.leader()
		for _, n := range w.others(old) {
			w.net.Cut(old.id, n.id)
		}
		_, err := w.alice(old).set("a", "71")
		wantCode(t, "a write at a leader that is not heard", err, connect.CodeUnknown, "not known")
		w.net.HealAll()
		w.leader()
		r, err := w.alice(old).set("a", "71")
		w.must(err)
		t.Logf("the second time: %v", r)
		time.Sleep(3 * time.Second)
		if n := w.times("71"); n != 1 {
			t.Errorf("it was done %d times", n)
		}
	})
}

// A node that does not reach the leader says that nothing was done, and not that the
// outcome is unknown.
func TestUnreachableLeaderWasSentNothing(t *testing.T) {
	run(t, 3, func(w *world) {
		w.allUp()
		l := w.leader()
		who := w.alice(w.others(l)[0])
		if _, err := who.set("", "70"); err != nil {
			t.Fatal(err)
		}
		l.crash(memnet.Crash)
		time.Sleep(10 * time.Millisecond)
		_, err := who.set("", "71")
		wantCode(t, "a write while the leader has just died", err, connect.CodeUnavailable, "nothing was done")
		w.leader()
		if n := w.times("71"); n != 0 {
			t.Errorf("it was done %d times", n)
		}
	})
}

// A removal goes on after its entry: asked again, it does what is left, and says so
// when nothing is.
func TestRemovalIsAskedAgain(t *testing.T) {
	run(t, 5, func(w *world) {
		w.allUp()
		l := w.leader()
		gone := w.others(l)[0]
		gone.crash(memnet.PowerLoss)
		w.within(10*time.Second, gone.id+" is Down", w.nodeIs(gone.id, fsm.NodeDown))
		who := w.alice(l)
		remove := func(id string) (*lifeboatv1.WriteResponse, error) {
			return who.control(id, &lifeboatv1.ControlNodeRequest{Id: gone.id, Action: "remove", Force: true})
		}
		// As if the leader had died between the entry and the change of the members.
		q := &lifeboatv1.ControlNodeRequest{Id: gone.id, Action: "remove", Force: true}
		cmd := &logpb.Command{Body: &logpb.Command_NodeControl{NodeControl: &logpb.NodeControl{Id: gone.id, Action: uint32(fsm.GoingRemove)}}}
		(&asked{id: "a", mark: l.n.sealer.mark(lifeboatv1connect.AdminServiceControlNodeProcedure, q)}).under(cmd)
		_, err := l.n.term.Load().propose(w.Context(), "operator/alice", cmd)
		w.must(err)
		r, err := remove("a")
		if err != nil || r.DoneBefore || l.n.isMember(fsm.NodeID(gone.id)) {
			t.Fatalf("the rest of the removal: %v, %v", r, err)
		}
		if r, err = remove("a"); err != nil || !r.DoneBefore {
			t.Errorf("once more: %v, %v", r, err)
		}
		_, err = remove("b")
		wantCode(t, "another removal", err, connect.CodeNotFound, "is not a member")
		_, err = who.control("c", &lifeboatv1.ControlNodeRequest{Action: "transfer-leadership"})
		wantCode(t, "a transfer with an id", err, connect.CodeInvalidArgument, "takes no request id")
	})
}

// A cluster of an older feature level would pass over the id: it is refused there.
func TestRequestIDNeedsTheLevel(t *testing.T) {
	m := raftfsm.New()
	init, err := proto.Marshal(&logpb.Command{TimeUnixNs: 1, Body: &logpb.Command_ClusterInit{ClusterInit: &logpb.ClusterInit{ClusterId: "c", FeatureLevel: fsm.LevelRequests - 1}}})
	if err != nil {
		t.Fatal(err)
	}
	tm := &term{node: &Node{fsm: m}}
	done := 0
	ask := remembered("p", func(*term, context.Context, *lifeboatv1.SetPolicyRequest) (*lifeboatv1.WriteResponse, error) {
		done++
		return &lifeboatv1.WriteResponse{}, nil
	})
	ctx := context.WithValue(t.Context(), requestIDKey{}, "a")
	_, err = ask(tm, ctx, &lifeboatv1.SetPolicyRequest{})
	wantCode(t, "in a cluster that is being founded", err, connect.CodeUnavailable, "no leader")
	m.ApplyBatch([]*raft.Log{{Index: 1, Term: 1, Type: raft.LogCommand, Data: init}})
	_, err = ask(tm, ctx, &lifeboatv1.SetPolicyRequest{})
	wantCode(t, "at level 2", err, connect.CodeUnimplemented, "feature level is 2")
	if done != 0 {
		t.Error("it was done all the same")
	}
	if _, err = ask(tm, t.Context(), &lifeboatv1.SetPolicyRequest{}); err != nil || done != 1 {
		t.Errorf("without an id: %v", err)
	}
}
