package node

import (
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/hashicorp/go-hclog"

	lifeboatv1 "lifeboat/api/lifeboat/v1"
	"lifeboat/fsm"
	"lifeboat/transport/memnet"
)

// recover runs the recovery of a node that does not run.
func (n *testNode) recover(peers map[string]string, ok func(Recovery) error) (Recovery, error) {
	return Recover(n.cfg, peers, false, hclog.NewNullLogger(), ok)
}

func yes(Recovery) error { return nil }

// S22: two of three nodes are lost for ever. The third goes on alone, disarmed: what
// runs is not touched, the lost ones are missed by nobody and let in by nobody, and
// the cluster is one as before once it is armed.
func TestS22LostQuorumIsRecovered(t *testing.T) {
	run(t, 3, func(w *world) {
		w.fleet(2, 3, "bmc")
		w.allUp()
		keep := w.others(w.leader())[0]
		lost := w.others(keep)
		alone := map[string]string{keep.id: keep.cfg.Advertise}
		if _, err := keep.recover(alone, yes); err == nil || !strings.Contains(err.Error(), "already running") {
			t.Fatalf("recovered while it runs: %v", err)
		}
		begun, before := w.begunAll(3), w.state()
		for _, n := range lost {
			n.crash(memnet.PowerLoss)
		}
		w.stays(20*time.Second, "nobody leads", func() bool { return len(w.serving()) == 0 })
		keep.halt()
		had := keep.n.fsm.State()

		no := errors.New("no")
		if _, err := keep.recover(alone, func(Recovery) error { return no }); !errors.Is(err, no) {
			t.Fatalf("after a no: %v", err)
		}
		keep.start()
		w.stays(5*time.Second, "nothing was changed", func() bool { return len(w.serving()) == 0 && keep.n.fsm.State().Generation == had.Generation })
		keep.halt()

		r, err := keep.recover(alone, yes)
		w.must(err)
		if r.Index < had.Index || r.Hosts != 2 || r.VMs != 3 || !slices.Equal(r.Members, []string{keep.id}) || len(r.Lost) != 2 || r.Generation != before.Generation+1 {
			t.Errorf("it says %+v", r)
		}
		keep.start()
		w.within(10*time.Second, "it leads", keep.leads)
		for _, id := range []string{"h1", "h2"} {
			w.within(20*time.Second, id+" has registered again", w.hostIs(id, fsm.Up))
		}
		untouched := func() bool { return w.noOrders() && w.begunAll(3) == begun }
		w.stays(20*time.Second, "nothing is ordered", untouched)
		s := w.state()
		if s.Generation != before.Generation+1 || s.Armed || !s.Waking || s.ClusterID != before.ClusterID || s.Index <= had.Index+recoverGap {
			t.Errorf("generation %d, armed %v, index %d after %d", s.Generation, s.Armed, s.Index, had.Index)
		}
		recovered := 0
		for _, e := range s.EventsDown() {
			if e.Type == "CLUSTER.RECOVER" {
				recovered++
			}
		}
		if recovered != 1 {
			t.Errorf("the audit has %d recoveries", recovered)
		}
		for _, n := range lost {
			if x := s.Node(fsm.NodeID(n.id)); x == nil || !x.Gone() {
				t.Errorf("%s is %+v", n.id, x)
			}
			if a := s.OpenAlert(fsm.AlertKey{Type: fsm.AlertNode, Subject: n.id, Cause: "down"}); a != nil {
				t.Errorf("%s is missed: %s", n.id, a.Text)
			}
		}
		w.must(w.ha(&lifeboatv1.ControlHARequest{Action: "arm"}))
		w.stays(30*time.Second, "nothing is ordered after HA is armed", untouched)

		// The lost ones come back with what they had, against all advice: they are two
		// of three to themselves, and nobody to the one that was recovered.
		for _, n := range lost {
			n.back()
		}
		w.stays(20*time.Second, "it goes on", func() bool { return keep.leads() && keep.n.fsm.State().Generation == s.Generation })
		for _, n := range lost {
			n.halt()
		}
		// It survives a restart like any other.
		keep.halt()
		keep.start()
		w.within(10*time.Second, "it leads again", func() bool { return keep.leads() && w.state().Generation == s.Generation })
	})
}

// Two of five nodes are left: both get what one of them had, as a copy of its data.
func TestRecoveredDataIsCopied(t *testing.T) {
	run(t, 5, func(w *world) {
		w.must(w.ha(&lifeboatv1.ControlHARequest{Action: "disarm"}))
		left := w.live()[3:]
		for _, n := range w.live()[:3] {
			n.crash(memnet.PowerLoss)
		}
		peers := map[string]string{}
		for _, n := range left {
			n.halt()
			peers[n.id] = n.cfg.Advertise
		}
		// S21: after so long its clock may as well be wrong.
		time.Sleep(2 * time.Hour)
		now := time.Now().UTC().Format(time.RFC3339)
		if _, err := left[0].recover(peers, yes); err == nil || !strings.Contains(err.Error(), "clock says "+now) || !strings.Contains(err.Error(), "--accept-time") {
			t.Fatalf("recovered two hours later: %v", err)
		}
		r, err := Recover(left[0].cfg, peers, true, hclog.NewNullLogger(), yes)
		w.must(err)
		if r.Clock != now || r.Time >= now {
			t.Errorf("the clock says %s, the state %s; it is %s", r.Clock, r.Time, now)
		}
		w.must(os.RemoveAll(left[1].cfg.DataDir))
		w.must(os.CopyFS(left[1].cfg.DataDir, os.DirFS(left[0].cfg.DataDir)))
		for _, n := range left {
			n.start()
		}
		w.within(10*time.Second, "one of them leads, and both are equal", func() bool {
			return len(w.serving()) == 1 && w.settled() && w.state().Generation == 2 && len(w.leader().n.others()) == 1
		})
		w.must(w.ha(&lifeboatv1.ControlHARequest{Action: "arm"}))
	})
}

// Whoever would recover the wrong thing is told before anything is changed.
func TestRecoverRefuses(t *testing.T) {
	dir := t.TempDir()
	cfg := Config{ID: "n1", Advertise: "10.0.0.1:7400", DataDir: filepath.Join(dir, "data"), RaftTimeout: defaultRaftTimeout}
	for name, c := range map[string]struct {
		peers map[string]string
		want  string
	}{
		"another node":    {map[string]string{"n2": "10.0.0.2:7400"}, "n1, is not among them"},
		"another address": {map[string]string{"n1": "10.0.0.9:7400"}, "configuration says 10.0.0.1:7400"},
		"no address":      {map[string]string{"n1": "10.0.0.1"}, "not host:port"},
		"one address":     {map[string]string{"n1": "10.0.0.1:7400", "n2": "10.0.0.1:7400"}, "the same address"},
		"nothing there":   {map[string]string{"n1": "10.0.0.1:7400"}, "nothing to recover"},
	} {
		if _, err := Recover(cfg, c.peers, false, hclog.NewNullLogger(), yes); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if _, err := os.Stat(cfg.DataDir); !errors.Is(err, os.ErrNotExist) {
		t.Error("a data directory was made")
	}
	store, err := openStorage(cfg.DataDir, hclog.NewNullLogger())
	if err != nil {
		t.Fatal(err)
	}
	if err := store.Close(); err != nil {
		t.Fatal(err)
	}
	if _, err := Recover(cfg, map[string]string{"n1": "10.0.0.1:7400"}, false, hclog.NewNullLogger(), yes); err == nil || !strings.Contains(err.Error(), "no initial state") {
		t.Errorf("a data directory without state: %v", err)
	}
}

func TestReadPeers(t *testing.T) {
	file := filepath.Join(t.TempDir(), "peers")
	for text, want := range map[string]int{
		"n3: 10.0.0.3:7400\n":                          1,
		"# who is left\nn3: \"[::1]:7400\"\nn4: h:1\n": 2,
		`{"n3": "10.0.0.3:7400"}`:                      1,
		"":                                             0,
		"- n3\n":                                       0,
		"n3: [a, b]\n":                                 0,
		"n3: a:1\nn3: b:1\n":                           0,
	} {
		if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		got, err := ReadPeers(file)
		if len(got) != want || (err == nil) != (want > 0) || err != nil && !strings.Contains(err.Error(), file) {
			t.Errorf("%q: %v, %v", text, got, err)
		}
	}
}
