package node

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"strings"
	"testing"
	"time"

	"connectrpc.com/connect"

	lifeboatv1 "lifeboat/api/lifeboat/v1"
	"lifeboat/api/lifeboat/v1/lifeboatv1connect"
	"lifeboat/fsm"
	"lifeboat/fsm/archive"
	"lifeboat/transport/memnet"
)

// save reads an archive from a node, as the command line does.
func (w *world) save(at *testNode) []byte {
	w.Helper()
	var out []byte
	w.must(w.operator(at, func(ctx context.Context, c lifeboatv1connect.AdminServiceClient) error {
		q := &lifeboatv1.ReadSnapshotRequest{}
		for {
			r, err := c.ReadSnapshot(ctx, connect.NewRequest(q))
			if err != nil {
				return err
			}
			out = append(out, r.Msg.Data...)
			if int64(len(out)) == r.Msg.Size {
				return nil
			}
			q.Id, q.Offset = r.Msg.Id, int64(len(out))
		}
	}))
	return out
}

// ha changes what HA does.
func (w *world) ha(q *lifeboatv1.ControlHARequest) error {
	w.Helper()
	return w.operator(w.leader(), func(ctx context.Context, c lifeboatv1connect.AdminServiceClient) error {
		_, err := c.ControlHA(ctx, connect.NewRequest(q))
		return err
	})
}

// restore sends an archive to a node in small pieces and has it restored.
func (w *world) restore(at *testNode, raw []byte, q *lifeboatv1.RestoreSnapshotRequest) error {
	w.Helper()
	return w.operator(at, func(ctx context.Context, c lifeboatv1connect.AdminServiceClient) error {
		for begin := 0; begin < len(raw); {
			end := min(len(raw), begin+len(raw)/3+1)
			r, err := c.WriteSnapshot(ctx, connect.NewRequest(&lifeboatv1.WriteSnapshotRequest{Id: q.Id, Offset: int64(begin), Data: raw[begin:end]}))
			if err != nil {
				return err
			}
			q.Id, begin = r.Msg.Id, end
		}
		sum := sha256.Sum256(raw)
		q.Sha256 = sum[:]
		_, err := c.RestoreSnapshot(ctx, connect.NewRequest(q))
		return err
	})
}

// settled is every live node at one index with one digest.
func (w *world) settled() bool {
	first := w.live()[0].n.fsm.State()
	for _, n := range w.live() {
		if s := n.n.fsm.State(); s.Index != first.Index || s.Sum() != first.Sum() {
			return false
		}
	}
	return true
}

// noOrders reports whether no node's state has an order for any host.
func (w *world) noOrders() bool {
	for _, n := range w.live() {
		for _, h := range n.n.fsm.State().Hosts() {
			if len(h.Orders) > 0 {
				return false
			}
		}
	}
	return true
}

// begunAll counts how often any of the VMs began to run.
func (w *world) begunAll(vms int) (n int) {
	for i := range vms {
		n += len(w.starts(i + 1))
	}
	return n
}

const movers = 10

// moved is three hosts whose ten VMs have moved from h1 since the archive raw.
func (w *world) moved() (raw []byte, at map[int]string) {
	w.Helper()
	w.fleet(3, movers, "bmc")
	raw = w.save(w.others(w.leader())[0])
	w.hosts["h1"].powerOff()
	w.onceElsewhere(movers, 40*time.Second)
	w.hosts["h1"].powerOn()
	w.within(20*time.Second, "h1 is Up again", w.hostIs("h1", fsm.Up))
	w.within(20*time.Second, "h1 has nothing to do", w.noOrders)
	at = map[int]string{}
	for n := 1; n <= movers; n++ {
		_, at[n] = w.vm(n)
	}
	return raw, at
}

// S22: a snapshot taken before ten VMs moved is restored. None of them is touched,
// not before HA is armed and not after, and all are adopted where they run.
func TestS22RestoreTouchesNoMovedVM(t *testing.T) {
	run(t, 3, func(w *world) {
		raw, at := w.moved()
		err := w.restore(w.leader(), raw, &lifeboatv1.RestoreSnapshotRequest{})
		if connect.CodeOf(err) != connect.CodeFailedPrecondition || !strings.Contains(err.Error(), "ha disarm") {
			t.Fatalf("restored while HA is armed: %v", err)
		}
		w.must(w.ha(&lifeboatv1.ControlHARequest{Action: "disarm"}))
		begun, generation := w.begunAll(movers), w.state().Generation
		w.must(w.restore(w.others(w.leader())[0], raw, &lifeboatv1.RestoreSnapshotRequest{}))
		untouched := func() bool { return w.noOrders() && w.begunAll(movers) == begun }
		for id := range w.hosts {
			w.within(20*time.Second, id+" has registered again", func() bool { return untouched() && w.hostIs(id, fsm.Up)() })
		}
		w.stays(30*time.Second, "nothing is ordered before HA is armed", untouched)
		w.within(5*time.Second, "all nodes are equal", w.settled)
		if s := w.state(); s.Generation != generation+1 || s.Armed || !s.Waking {
			t.Fatalf("generation %d, armed %v", s.Generation, s.Armed)
		}
		w.must(w.ha(&lifeboatv1.ControlHARequest{Action: "arm"}))
		w.stays(60*time.Second, "nothing is ordered after HA is armed", untouched)
		for n := 1; n <= movers; n++ {
			if !w.vmOn(n, at[n])() {
				v, on := w.vm(n)
				t.Errorf("%s ran on %s, and is now %s on %s with work %d", v.Name, at[n], v.Power, on, v.Work)
			}
		}
		restored := false
		for _, e := range w.state().EventsDown() {
			restored = restored || e.Type == "CLUSTER.RESTORE" && e.Actor == "operator/alice"
		}
		if !restored {
			t.Error("the audit does not say who restored it")
		}
		// It is a cluster like before: a host that dies now is recovered, at an
		// incarnation above all that any host remembers.
		w.hosts[at[1]].powerOff()
		w.within(60*time.Second, "the VM runs elsewhere", func() bool {
			v, on := w.vm(1)
			return v.Power == fsm.PowerOn && on != at[1] && v.Work == 0 && v.Incarnation.Generation() == generation+1
		})
	})
}

// A cluster that never saw the hosts takes the archive of one that is lost.
func TestRestoreIntoANewCluster(t *testing.T) {
	var raw []byte
	run(t, 1, func(w *world) {
		w.fleet(1, 2, "bmc")
		raw = w.save(w.leader())
	})
	run(t, 3, func(w *world) {
		w.must(w.ha(&lifeboatv1.ControlHARequest{Action: "disarm"}))
		id := w.state().ClusterID
		if err := w.restore(w.leader(), raw, &lifeboatv1.RestoreSnapshotRequest{}); err == nil || !strings.Contains(err.Error(), "--other-cluster") {
			t.Fatalf("an archive of another cluster: %v", err)
		}
		w.must(w.restore(w.leader(), raw, &lifeboatv1.RestoreSnapshotRequest{OtherCluster: true}))
		s := w.state()
		if v, h := s.VM(vmid(1)); v == nil || h.ID != "h1" || !v.Protected() || s.ClusterID != id || s.Armed {
			t.Fatalf("VM %+v, cluster %s", v, s.ClusterID)
		}
		if err := w.ha(&lifeboatv1.ControlHARequest{Action: "arm"}); err == nil || !strings.Contains(err.Error(), "h1") {
			t.Errorf("armed before its host has registered: %v", err)
		}
		w.within(5*time.Second, "all nodes are equal", w.settled)
		old := w.leader()
		old.crash(memnet.PowerLoss)
		w.leader()
		old.back()
		w.within(10*time.Second, "all nodes are equal", w.settled)
	})
}

// Nothing that is damaged, incomplete or of a newer version changes anything.
func TestRestoreRefuses(t *testing.T) {
	run(t, 1, func(w *world) {
		w.must(w.ha(&lifeboatv1.ControlHARequest{Action: "disarm"}))
		raw := w.save(w.leader())
		bad := bytes.Clone(raw)
		bad[len(bad)/2] ^= 1
		before := w.state().Generation
		for name, raw := range map[string][]byte{"damaged": bad, "cut off": raw[:len(raw)-9], "something else": []byte("#!/bin/sh\n")} {
			if err := w.restore(w.leader(), raw, &lifeboatv1.RestoreSnapshotRequest{}); connect.CodeOf(err) != connect.CodeInvalidArgument || !strings.Contains(err.Error(), "nothing was changed") {
				t.Errorf("%s: %v", name, err)
			}
		}
		if w.state().Generation != before {
			t.Error("something was restored")
		}
		if _, _, err := archive.Read(bytes.NewReader(raw), FeatureLevel); err != nil {
			t.Error(err)
		}
	})
}

// A state that this cluster cannot have, or not now, is refused, and the leader leads
// on with the one it has.
func TestRestoreIsNotPossibleNow(t *testing.T) {
	forged := func(w *world, how func(*fsm.State)) []byte {
		s := *w.state()
		how(&s)
		var b bytes.Buffer
		w.must(archive.Write(&b, &s, "test", "n1", time.Now()))
		return b.Bytes()
	}
	refused := func(w *world, raw []byte, want string) {
		w.Helper()
		before := w.state().Generation
		err := w.restore(w.leader(), raw, &lifeboatv1.RestoreSnapshotRequest{})
		if err == nil || !strings.Contains(err.Error(), want) || !strings.Contains(err.Error(), "nothing was changed") {
			w.Errorf("%q is not said: %v", want, err)
		}
		if w.state().Generation != before {
			w.Errorf("%q: something was restored", want)
		}
	}
	run(t, 3, func(w *world) {
		w.fleet(2, 1, "bmc")
		w.allUp()
		w.must(w.ha(&lifeboatv1.ControlHARequest{Action: "disarm"}))
		refused(w, forged(w, func(s *fsm.State) { s.Level = FeatureLevel + 1 }), "upgrade first")
		refused(w, forged(w, func(s *fsm.State) { s.Time += int64(time.Minute) }), "set the clocks right")
		raw := w.save(w.leader())

		// What was proposed before and has no outcome may come after the restore.
		l := w.leader()
		l.n.gate.out.Add(1)
		refused(w, raw, "no outcome yet")
		l.n.gate.out.Done()
		w.within(10*time.Second, "it leads on", l.leads)

		// S10: the power of a host may still be cut.
		w.must(w.ha(&lifeboatv1.ControlHARequest{Action: "arm"}))
		for id := range w.nodes {
			w.net.CutBoth(id, bmcAddr("h1"))
		}
		w.hosts["h1"].powerOff()
		w.within(30*time.Second, "h1 is being fenced", func() bool { return w.state().Host("h1").Attempt.End() > time.Now().UnixNano()+int64(2*time.Second) })
		w.must(w.ha(&lifeboatv1.ControlHARequest{Action: "disarm"}))
		refused(w, raw, "may still be cut")
		w.within(60*time.Second, "the attempt has ended", func() bool { return w.state().Host("h1").Attempt.End() < time.Now().UnixNano() })
		w.must(w.restore(w.leader(), raw, &lifeboatv1.RestoreSnapshotRequest{}))
	})
}

// The leader is cut off as it restores: it has the new state, and nobody else has.
// The others go on with the old one; it drops the new one when it hears of them,
// and no node ever puts entries of one on the other.
func TestLeaderIsCutOffInARestore(t *testing.T) {
	run(t, 3, func(w *world) {
		w.host("h1")
		w.within(10*time.Second, "h1 is Up", w.hostIs("h1", fsm.Up))
		w.must(w.ha(&lifeboatv1.ControlHARequest{Action: "disarm"}))
		raw := w.save(w.leader())
		old := w.leader()
		old.n.deps.faults.restoring = func() { w.net.Kill(old.id, memnet.PowerLoss) }
		generation := w.state().Generation
		if err := w.restore(old, raw, &lifeboatv1.RestoreSnapshotRequest{}); err == nil {
			t.Fatal("it says that it was restored")
		}
		if err := old.wait(); !errors.Is(err, ErrRestore) {
			t.Fatalf("the node that was cut off ended with %v", err)
		}
		if w.state().Generation != generation {
			t.Fatal("the others have the new state")
		}
		old.back()
		if err := old.wait(); !errors.Is(err, ErrContradicted) {
			t.Fatalf("the node that came back ended with %v", err)
		}
		old.start()
		w.within(20*time.Second, "it has the state of the others", func() bool {
			return old.n.fsm.State().Generation == generation && w.settled()
		})
		// And the restore can be repeated.
		w.must(w.restore(w.leader(), raw, &lifeboatv1.RestoreSnapshotRequest{}))
		w.within(10*time.Second, "all have the new state", func() bool { return w.settled() && w.live()[0].n.fsm.State().Generation == generation+1 })
	})
}

// Raft ends in the middle of a restore: what the state machine has got by then is not
// known, so it is not said that nothing was changed, and the node learns it anew.
func TestRaftEndsInARestore(t *testing.T) {
	run(t, 3, func(w *world) {
		w.must(w.ha(&lifeboatv1.ControlHARequest{Action: "disarm"}))
		raw, old := w.save(w.leader()), w.leader()
		old.n.deps.faults.restoring = func() { _ = old.n.raft.Shutdown().Error() }
		if err := w.restore(old, raw, &lifeboatv1.RestoreSnapshotRequest{}); err == nil || strings.Contains(err.Error(), "nothing was changed") {
			t.Fatalf("it says %v", err)
		}
		if err := old.wait(); !errors.Is(err, ErrRestore) {
			t.Fatalf("the node ended with %v", err)
		}
		old.start()
		w.within(20*time.Second, "all nodes are equal", func() bool { return len(w.live()) == 3 && w.settled() })
	})
}

// The leader dies when it has restored: the others have the new state, or the old
// one, and so has it when it is back.
func TestLeaderDiesAfterARestore(t *testing.T) {
	for _, after := range []time.Duration{0, time.Millisecond, 5 * time.Millisecond, 20 * time.Millisecond, 100 * time.Millisecond} {
		t.Run(after.String(), func(t *testing.T) {
			run(t, 3, func(w *world) {
				w.must(w.ha(&lifeboatv1.ControlHARequest{Action: "disarm"}))
				raw := w.save(w.leader())
				old := w.leader()
				old.n.deps.faults.restoring = func() {
					time.AfterFunc(after, func() { w.net.Kill(old.id, memnet.Crash); old.stop() })
				}
				_ = w.restore(old, raw, &lifeboatv1.RestoreSnapshotRequest{})
				_ = old.wait()
				generation := w.state().Generation
				old.back()
				time.Sleep(5 * time.Second)
				if old.n.fsm.State().Generation != generation {
					if err := old.wait(); !errors.Is(err, ErrContradicted) {
						t.Fatalf("it keeps a state of its own and ends with %v", err)
					}
					old.start()
				}
				w.within(20*time.Second, "all nodes are equal", func() bool { return len(w.live()) == 3 && w.settled() && w.state().Generation == generation })
			})
		})
	}
}
