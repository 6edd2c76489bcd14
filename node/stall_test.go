package node

import (
	"context"
	"errors"
	"strings"
	"sync"
	"testing"
	"time"

	"connectrpc.com/connect"
	"github.com/hashicorp/raft"

	lifeboatv1 "lifeboat/api/lifeboat/v1"
	"lifeboat/api/lifeboat/v1/lifeboatv1connect"
	"lifeboat/fsm"
)

// slowDisk is a log whose writes hang while it is stalled.
type slowDisk struct {
	raft.LogStore
	mu   sync.Mutex
	hang chan struct{} // not nil: writes wait for its end
	noop bool          // the first entry of the next term makes it stall
}

func (d *slowDisk) stall() {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.hang = make(chan struct{})
}

func (d *slowDisk) goOn() {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.hang == nil {
		return
	}
	close(d.hang)
	d.hang = nil
}

func (d *slowDisk) wait() {
	d.mu.Lock()
	hang := d.hang
	d.mu.Unlock()
	if hang != nil {
		<-hang
	}
}

// stallAtNoop has the first entry of the next term make it stall.
func (d *slowDisk) stallAtNoop() {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.noop = true
}

func (d *slowDisk) StoreLog(l *raft.Log) error { d.wait(); return d.LogStore.StoreLog(l) }
func (d *slowDisk) StoreLogs(l []*raft.Log) error {
	d.mu.Lock()
	now := d.noop && l[0].Type == raft.LogNoop
	d.noop = d.noop && !now
	d.mu.Unlock()
	if now {
		d.stall()
	}
	d.wait()
	return d.LogStore.StoreLogs(l)
}

// onSlowDisks runs a story of three nodes whose disks it can stall.
func onSlowDisks(t *testing.T, story func(w *world, disk func(*testNode) *slowDisk)) {
	var disks sync.Map // id → of the newest run
	runWith(t, 3, func(w *world) {
		for id, n := range w.nodes {
			n.faults.logs = func(l raft.LogStore) raft.LogStore {
				d := &slowDisk{LogStore: l}
				disks.Store(id, d)
				return d
			}
		}
	}, func(w *world) {
		story(w, func(n *testNode) *slowDisk {
			d, _ := disks.Load(n.id)
			return d.(*slowDisk)
		})
	})
}

// A leader whose disk stalls goes on heartbeating; the canary deposes it. The
// process ends although its disk never answers, and another node leads.
func TestStalledDiskDeposes(t *testing.T) {
	onSlowDisks(t, func(w *world, disk func(*testNode) *slowDisk) {
		w.fleet(3, 1, "bmc")
		old := w.leader()
		stalled := disk(old)
		stalled.stall()
		defer stalled.goOn()
		took := w.within(15*time.Second, "the stalled leader has ended", func() bool { return len(old.done) == 1 })
		if err := old.wait(); !errors.Is(err, ErrStalled) {
			t.Errorf("it ended with %v, want %v", err, ErrStalled)
		}
		old.n = nil
		t.Logf("it ended after %s", took)
		w.within(time.Second, "another leads", func() bool { return len(w.serving()) == 1 })
		w.within(5*time.Second, "the stalled one is Down", w.nodeIs(old.id, fsm.NodeDown))
		w.stays(5*time.Second, "h1 is Up", w.hostIs("h1", fsm.Up))
		stalled.goOn()
		time.Sleep(time.Second)
		old.back()
		w.within(5*time.Second, "it is Up again", w.nodeIs(old.id, fsm.NodeUp))
	})
}

// A follower whose disk stalls costs nothing.
func TestStalledFollowerIsNoHarm(t *testing.T) {
	onSlowDisks(t, func(w *world, disk func(*testNode) *slowDisk) {
		w.fleet(3, 1, "bmc")
		l := w.leader()
		slow := w.others(l)[0]
		disk(slow).stall()
		defer disk(slow).goOn()
		w.hosts["h1"].powerOff()
		w.onceElsewhere(1, 12*time.Second)
		if !l.leads() {
			t.Error("a stalled follower cost the leader its leadership")
		}
	})
}

// Where the disks of a leader's followers stall no other node could commit either. If
// leases allow it, it goes on for a while, decides nothing meanwhile (S14), and does
// afterwards what is due. Then it ends: the trouble may be its own way to them.
func TestStalledFollowersKeepTheirLeader(t *testing.T) {
	for _, c := range []struct {
		name  string
		slow  bool // the policy has a lease of two minutes
		stall time.Duration
		ends  bool
	}{
		{"short leases, for a moment", false, 4 * time.Second, false},
		{"short leases", false, 10 * time.Second, true},
		{"long leases", true, 20 * time.Second, false},
		{"long leases, for too long", true, 40 * time.Second, true},
	} {
		t.Run(c.name, func(t *testing.T) {
			onSlowDisks(t, func(w *world, disk func(*testNode) *slowDisk) {
				w.fleet(3, 1, "bmc")
				if c.slow {
					w.must(w.operator(w.leader(), func(ctx context.Context, a lifeboatv1connect.AdminServiceClient) error {
						_, err := a.SetPolicy(ctx, connect.NewRequest(&lifeboatv1.SetPolicyRequest{Settings: []*lifeboatv1.Setting{{Key: "lease", Value: "2m"}, {Key: "takeover", Value: "190s"}}}))
						return err
					}))
				}
				l := w.leader()
				for _, f := range w.others(l) {
					disk(f).stall()
				}
				w.hosts["h1"].powerOff()
				began := time.Now()
				for time.Since(began) < c.stall && len(l.done) == 0 {
					time.Sleep(100 * time.Millisecond)
				}
				if got := w.starts(1); len(got) != 1 {
					t.Errorf("a restart was decided while nothing could be committed: %v", got)
				}
				proven := time.Duration(0)
				if x := l.n.term.Load(); x != nil {
					proven = x.contacts.soft().Proven
				}
				for _, f := range w.others(l) {
					disk(f).goOn()
				}
				if ended := len(l.done) == 1; ended != c.ends {
					t.Fatalf("after %s it has ended: %v, want %v", time.Since(began), ended, c.ends)
				}
				if c.ends {
					if err := l.wait(); !errors.Is(err, ErrStalled) || !strings.Contains(err.Error(), "other nodes") {
						t.Errorf("it ended with %v", err)
					}
					l.n = nil
				} else {
					time.Sleep(300 * time.Millisecond)
					if x := l.n.term.Load(); x == nil || x.contacts.soft().Proven <= proven {
						t.Error("the canary that was out when they stalled proves nothing, although it has committed")
					}
				}
				w.onceElsewhere(1, 20*time.Second)
				if c.ends {
					l.back()
				}
			})
		})
	}
}

// elect makes a node the leader in Raft's eyes.
func (w *world) elect(n *testNode) {
	_ = w.leader().n.raft.LeadershipTransferToServer(raft.ServerID(n.id), raft.ServerAddress(n.cfg.Advertise)) // it may hang with the node
	w.within(5*time.Second, n.id+" is elected", func() bool { return n.n.raft.State() == raft.Leader })
}

// A node whose disk stalls as it is elected has nothing to prove yet, and hangs before its
// first entry: it ends as well, and another one leads.
func TestStalledAtItsElection(t *testing.T) {
	onSlowDisks(t, func(w *world, disk func(*testNode) *slowDisk) {
		w.fleet(3, 1, "bmc")
		next := w.others(w.leader())[0]
		d := disk(next)
		defer d.goOn()
		d.stallAtNoop()
		w.elect(next)
		w.within(15*time.Second, "it has ended", func() bool { return len(next.done) == 1 })
		if err := next.wait(); !errors.Is(err, ErrStalled) {
			t.Errorf("it ended with %v", err)
		}
		next.n = nil
		w.within(5*time.Second, "another leads", func() bool { return len(w.serving()) == 1 })
		d.goOn()
		next.back()
	})
}

// A node that is elected and finds that the others take nothing yet, since they are given a
// snapshot or their disks are slow, waits for as long as that takes: were it to end, the
// next one would have to begin anew, if there is one.
func TestTheOthersAreLateAtAnElection(t *testing.T) {
	onSlowDisks(t, func(w *world, disk func(*testNode) *slowDisk) {
		w.fleet(3, 1, "bmc")
		next := w.others(w.leader())[0]
		for _, f := range w.others(next) {
			d := disk(f)
			defer d.goOn()
			d.stallAtNoop()
		}
		w.elect(next)
		w.stays(20*time.Second, "it waits", func() bool {
			return len(next.done) == 0 && next.n.term.Load() == nil && next.n.raft.State() == raft.Leader
		})
		for _, f := range w.others(next) {
			disk(f).goOn()
		}
		w.within(5*time.Second, "it leads", func() bool { return next.n.term.Load() != nil })
		w.hosts["h1"].powerOff()
		w.onceElsewhere(1, 20*time.Second)
	})
}
