package node

import (
	"context"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/hashicorp/raft"
)

// listener is a supervisor that notes what it was told, and when.
type listener struct {
	mu     sync.Mutex
	ready  bool
	stops  bool
	status string
	last   time.Time // of Alive
}

func (l *listener) Every() time.Duration { return 2 * time.Second }
func (l *listener) Ready()               { l.mu.Lock(); defer l.mu.Unlock(); l.ready = true }
func (l *listener) Stopping()            { l.mu.Lock(); defer l.mu.Unlock(); l.stops = true }

func (l *listener) Alive(status string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.last, l.status = time.Now(), status
}

// told reports whether something was said in the last while.
func (l *listener) told(while time.Duration) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return time.Since(l.last) < while
}

func (l *listener) says() (ready, stops bool, status string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.ready, l.stops, l.status
}

// A node is well with or without a leader, with or without the others, and not
// when its disk hangs: then a restart is the only thing left to try.
func TestPulseFollowsRaftsLoop(t *testing.T) {
	ears := map[string]*listener{}
	var disks sync.Map
	runWith(t, 3, func(w *world) {
		for id, n := range w.nodes {
			ears[id] = &listener{}
			n.supervisor = ears[id]
			n.faults.logs = func(l raft.LogStore) raft.LogStore {
				d := &slowDisk{LogStore: l}
				disks.Store(id, d)
				return d
			}
		}
	}, func(w *world) {
		l := w.leader()
		time.Sleep(5 * time.Second)
		for id, e := range ears {
			ready, stops, status := e.says()
			want := "following " + l.id
			if id == l.id {
				want = "leading"
			}
			if !ready || stops || !e.told(4*time.Second) || status != want {
				t.Errorf("%s: ready %v, stopping %v, status %q", id, ready, stops, status)
			}
		}
		// Nobody left to talk to: well, and it says what is wrong.
		for _, o := range w.others(l) {
			w.net.Isolate(l.id, o.id)
		}
		time.Sleep(10 * time.Second)
		if _, _, status := ears[l.id].says(); !ears[l.id].told(4*time.Second) || status == "leading" {
			t.Errorf("cut off, it says %q", status)
		}
		w.net.HealAll()
		time.Sleep(10 * time.Second)
		l = w.leader()
		follower := w.others(l)[0]
		d, _ := disks.Load(follower.id)
		d.(*slowDisk).stall()
		time.Sleep(10 * time.Second)
		if ears[follower.id].told(5 * time.Second) {
			t.Error("with a stalled disk it says that it is well")
		}
		d.(*slowDisk).goOn()
		w.within(10*time.Second, "it is well again", func() bool { return ears[follower.id].told(time.Second) })
	})
}

// Who supervises is told of a stop before anything is stopped.
func TestStopIsAnnouncedFirst(t *testing.T) {
	ear := &listener{}
	var early bool
	var others []string
	runWith(t, 1, func(w *world) {
		n := w.nodes["n1"]
		n.supervisor = ear
		n.faults.stop = func(name string, real stopFunc) stopFunc {
			return func(ctx context.Context, why error) error {
				if _, stops, _ := ear.says(); !stops && name != "supervision" {
					early = true
				}
				others = append(others, name)
				return real(ctx, why)
			}
		}
	}, func(w *world) {
		w.leader()
		time.Sleep(time.Second)
		w.nodes["n1"].stop()
		w.must(w.nodes["n1"].wait())
		w.nodes["n1"].n = nil
	})
	if early || len(others) < 10 || !slices.Contains(others, "readiness") {
		t.Errorf("something was stopped before: %v", others)
	}
}
