package node

import (
	"sync"
	"testing"
	"time"

	"connectrpc.com/connect"
	"github.com/hashicorp/raft"

	lifeboatv1 "lifeboat/api/lifeboat/v1"
)

const (
	stale        = lifeboatv1.Consistency_CONSISTENCY_STALE
	linearizable = lifeboatv1.Consistency_CONSISTENCY_LINEARIZABLE
)

// Who answers, from which state, and how old it may be.
func TestReadsSayWhereTheyComeFrom(t *testing.T) {
	run(t, 3, func(w *world) {
		w.allUp()
		l := w.leader()
		f := w.others(l)[0]
		for _, c := range []struct {
			q    *lifeboatv1.StatusRequest
			want lifeboatv1.Consistency
			from *testNode
		}{
			{&lifeboatv1.StatusRequest{}, lifeboatv1.Consistency_CONSISTENCY_LEADER, l},
			{&lifeboatv1.StatusRequest{Stale: true}, stale, f},
			{&lifeboatv1.StatusRequest{Consistency: stale}, stale, f},
			{&lifeboatv1.StatusRequest{Consistency: linearizable}, linearizable, l},
		} {
			r, err := w.alice(f).status(c.q)
			if err != nil || r.Answered.GetNodeId() != c.from.id || r.NodeId != c.from.id || r.Answered.Consistency != c.want || r.Answered.Index != r.AppliedIndex {
				t.Errorf("%v: %v, %v", c.q, r, err)
			}
		}
		_, err := w.alice(f).status(&lifeboatv1.StatusRequest{Consistency: 9})
		wantCode(t, "an unknown consistency", err, connect.CodeInvalidArgument, "consistency 9")
		_, err = w.alice(f).status(&lifeboatv1.StatusRequest{Stale: true, Consistency: linearizable})
		wantCode(t, "both", err, connect.CodeInvalidArgument, "not both")

		w.net.Isolate(f.id, l.id, w.others(l)[1].id)
		time.Sleep(20 * time.Second)
		r, err := w.alice(f).status(&lifeboatv1.StatusRequest{Stale: true})
		if err != nil || r.Answered.LastContactMs < 19_000 || r.Answered.LastContactMs > 21_000 {
			t.Errorf("cut off for 20 s: %v, %v", r.GetAnswered(), err)
		}
		_, err = w.alice(f).status(&lifeboatv1.StatusRequest{Consistency: linearizable})
		wantCode(t, "a linearizable read without a majority", err, connect.CodeUnavailable, "no leader")
		w.net.HealAll()
		w.leader()
	})
}

// A leader that cannot commit does not answer a linearizable read, though it still
// takes itself for the leader; any other read it answers. Reads that wait share
// entries, and none takes one that was proposed before it came.
func TestLinearizableReadsWaitForACommit(t *testing.T) {
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
		time.Sleep(time.Second)
		disks[l.id].stall()
		before := l.n.fsm.State().Index
		const readers = 100
		who := w.alice(l)
		var all sync.WaitGroup
		var mu sync.Mutex
		answered := 0
		waiting := func() (next, busy bool) {
			c := &l.n.term.Load().confirmations
			c.mu.Lock()
			defer c.mu.Unlock()
			return c.next != nil, c.busy
		}
		for i := range readers {
			if i == 1 {
				// The first one's entry is proposed: it may be acknowledged already by
				// nodes that have a later leader by now, and proves nothing to the others.
				w.within(time.Second, "an entry is under way", func() bool { next, busy := waiting(); return busy && !next })
			}
			all.Go(func() {
				r, err := who.status(&lifeboatv1.StatusRequest{Consistency: linearizable})
				mu.Lock()
				defer mu.Unlock()
				if err != nil || r.Answered.Index <= before {
					t.Errorf("answered %v, %v; the index before was %d", r.GetAnswered(), err, before)
				}
				answered++
			})
		}
		time.Sleep(2 * time.Second)
		if next, _ := waiting(); !next {
			t.Error("the others wait for the entry that was proposed before they came")
		}
		mu.Lock()
		if answered > 0 {
			t.Errorf("%d were answered while nothing could be committed", answered)
		}
		mu.Unlock()
		if _, err := who.status(&lifeboatv1.StatusRequest{}); err != nil || !l.leads() {
			t.Errorf("a leader read: %v", err)
		}
		disks[l.id].goOn()
		all.Wait()
		if n := l.n.fsm.State().Index - before; n > 12 {
			t.Errorf("%d reads took %d entries", readers, n)
		}
	})
}
