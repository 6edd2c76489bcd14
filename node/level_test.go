package node

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"connectrpc.com/connect"
	"github.com/hashicorp/go-hclog"

	lifeboatv1 "lifeboat/api/lifeboat/v1"
	"lifeboat/api/lifeboat/v1/lifeboatv1connect"
	"lifeboat/fence"
	"lifeboat/fsm"
	"lifeboat/transport"
	"lifeboat/transport/memnet"
)

// levels counts the entries that raised the level.
func (w *world) levels() (n int) {
	for _, e := range w.state().EventsAfter(0) {
		if e.Type == "CLUSTER.LEVEL" {
			n++
		}
	}
	return n
}

// notes are what the leader says an operator should read.
func (w *world) notes() (text string) {
	w.Helper()
	w.must(w.operator(w.leader(), func(ctx context.Context, c lifeboatv1connect.AdminServiceClient) error {
		r, err := c.Status(ctx, connect.NewRequest(&lifeboatv1.StatusRequest{}))
		text = strings.Join(r.Msg.GetNotes(), "\n")
		return err
	}))
	return text
}

// A cluster is upgraded node by node. The level stays while one of them is older,
// whoever leads, also while that one is Down; and rises once, when none is.
func TestLevelRisesOnceEveryNodeKnowsIt(t *testing.T) {
	runWith(t, 3, aged(2), func(w *world) {
		w.allUp()
		low := w.levelIs(2)
		for _, id := range []string{"n1", "n2"} {
			w.nodes[id].install(0)
			w.leader()
			w.stays(raiseAfter+2*time.Second, "the level", low)
		}
		if l := w.leader(); l.id != "n3" {
			if note := w.notes(); !strings.Contains(note, fmt.Sprintf("feature level 2, and could be at %d: node n3 runs version 0.2, which knows feature levels up to 2", FeatureLevel)) {
				t.Errorf("status says: %s", note)
			}
		}
		n3 := w.nodes["n3"]
		n3.crash(memnet.Crash)
		w.within(10*time.Second, "n3 is Down", w.nodeIs("n3", fsm.NodeDown))
		w.stays(raiseAfter+2*time.Second, "the level", low)
		if note := w.notes(); !strings.Contains(note, "node n3 is Down and last ran version 0.2") {
			t.Errorf("status says: %s", note)
		}
		n3.faults.level = 0
		n3.back()
		took := w.within(30*time.Second, "the level has risen", w.levelIs(FeatureLevel))
		if took < raiseAfter {
			t.Errorf("it rose after %s", took)
		}
		if n := w.levels(); n != 1 {
			t.Errorf("it was raised %d times", n)
		}
		if note := w.notes(); strings.Contains(note, "feature level") {
			t.Errorf("status says: %s", note)
		}
		w.leader().halt() // the next leader has nothing to raise
		w.leader()
		w.stays(raiseAfter+2*time.Second, "the level", w.levelIs(FeatureLevel))
		if n := w.levels(); n != 1 {
			t.Errorf("it was raised %d times", n)
		}
	})
}

// While nothing was heard of a member in this term, nobody knows what runs there; and
// of one that never was up, nobody has ever known.
func TestCeilingCountsWhatWasHeard(t *testing.T) {
	run(t, 3, func(w *world) {
		w.allUp()
		l := w.leader().n
		m := l.term.Load().members
		servers, err := l.servers()
		w.must(err)
		at := func() uint32 { x, _ := l.ceiling(m.t, servers, l.fsm.State()); return x }
		if at() != FeatureLevel {
			t.Fatalf("%d", at())
		}
		other := l.others()[0]
		m.mu.Lock()
		was := m.build[other]
		delete(m.build, other)
		m.mu.Unlock()
		if x, by := l.ceiling(m.t, servers, l.fsm.State()); x != 0 || by == nil || by.id != other {
			t.Errorf("unheard: %d, %v", x, by)
		}
		m.mu.Lock()
		m.build[other] = told{1, "0.1"}
		m.mu.Unlock()
		if x, by := l.ceiling(m.t, servers, l.fsm.State()); x != 1 || by == nil || by.id != other {
			t.Errorf("what it says now does not count: %d, %v", x, by)
		}
		m.mu.Lock()
		m.build[other] = was
		m.mu.Unlock()
		stranger := servers[0]
		stranger.ID = "n9"
		if x, by := l.ceiling(m.t, append(servers, stranger), l.fsm.State()); x != 0 || by == nil || by.id != "n9" {
			t.Errorf("never up: %d, %v", x, by)
		}
	})
}

// ends starts a node and waits for the error that it ends with. It says no hello, or
// the answer to that might end it first.
func (n *testNode) ends() error {
	n.w.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	return Run(ctx, n.cfg, Deps{
		Log: hclog.New(&hclog.LoggerOptions{Output: io.Discard}), Creds: n.creds, Version: n.version(), Fences: fence.NewRegistry(),
		Listen: func(_ context.Context, addr string) (net.Listener, error) { return n.w.net.Listen(addr) },
		Dial:   transport.DialFunc(n.w.net.Dialer(n.id)), faults: n.faults,
		started: func(x *Node) { x.hushed.Store(true) },
	})
}

// sum is a checksum of every file below a directory, with its name and time.
func sum(t *testing.T, dir string) string {
	t.Helper()
	h := sha256.New()
	err := filepath.Walk(dir, func(path string, fi os.FileInfo, err error) error {
		if err != nil {
			return err
		}
		fmt.Fprintln(h, path, fi.Size(), fi.ModTime().UnixNano())
		if fi.IsDir() {
			return nil
		}
		b, err := os.ReadFile(path)
		h.Write(b)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return fmt.Sprintf("%x", h.Sum(nil))
}

// An older build that is put back after the level has risen refuses before it
// touches its data, whether the level stands in its log or in its snapshot.
func TestOlderBuildRefusesItsDataDirectory(t *testing.T) {
	for _, where := range []string{"log", "snapshot"} {
		t.Run(where, func(t *testing.T) {
			runWith(t, 3, aged(2), func(w *world) {
				w.allUp()
				for _, id := range []string{"n1", "n2", "n3"} {
					w.nodes[id].install(0)
				}
				w.within(30*time.Second, "the level has risen", w.levelIs(FeatureLevel))
				n := follower(w)
				w.within(5*time.Second, "all nodes are equal", w.settled)
				if where == "snapshot" {
					w.must(n.n.raft.Snapshot().Error())
				}
				n.halt()
				n.faults.level = 2
				before := sum(t, n.cfg.DataDir)
				err := n.ends()
				if !errors.Is(err, fsm.ErrNewer) {
					t.Fatalf("it ended with %v", err)
				}
				for _, text := range []string{"version 0.2 cannot be run here", "is as it was", where, "install the version of the other nodes"} {
					if !strings.Contains(err.Error(), text) {
						t.Errorf("%q is not said: %v", text, err)
					}
				}
				if sum(t, n.cfg.DataDir) != before {
					t.Error("its data was touched")
				}
				n.faults.level = 0
				n.start()
				w.within(5*time.Second, n.id+" is Up", w.nodeIs(n.id, fsm.NodeUp))
			})
		})
	}
}

// An older build with an empty disk in a cluster of a newer level takes neither
// entries nor a snapshot of the others: it ends, and has stored nothing of them.
func TestOlderBuildTakesNothingNewer(t *testing.T) {
	for what, said := range map[string]string{"entries": "log index", "snapshot": fmt.Sprintf("a snapshot is of feature level %d", FeatureLevel)} {
		t.Run(what, func(t *testing.T) {
			run(t, 3, func(w *world) {
				w.allUp()
				n := follower(w)
				n.halt()
				if what == "snapshot" { // the log before it is gone
					w.must(w.ha(&lifeboatv1.ControlHARequest{Action: "disarm"}))
					n.start()
					w.allUp()
					w.must(w.restore(w.leader(), w.save(w.leader()), &lifeboatv1.RestoreSnapshotRequest{}))
					n = follower(w)
					n.halt()
				}
				w.must(os.RemoveAll(n.cfg.DataDir))
				n.faults.level = 2
				err := n.ends()
				if !errors.Is(err, fsm.ErrNewer) || !strings.Contains(err.Error(), said) || !strings.Contains(err.Error(), "install the version of the other nodes") {
					t.Fatalf("it ended with %v", err)
				}
				if list, _ := filepath.Glob(filepath.Join(n.cfg.DataDir, "snapshots", "*", "state.bin")); len(list) > 0 {
					t.Errorf("it has stored %v", list)
				}
				w.must(checkLog(filepath.Join(n.cfg.DataDir, "raft.db"), 2))
				n.faults.level = 0
				w.must(os.RemoveAll(n.cfg.DataDir)) // without it, it is not the node any more
				if err := n.startFails(); !strings.Contains(err.Error(), "another data directory") {
					t.Errorf("a new build with an empty disk: %v", err)
				}
			})
		})
	}
}

// A hello of a version that is too old is refused with a sentence, and that node
// ends; a goodbye is heard from everybody.
func TestHelloOfAnOlderBuildIsRefused(t *testing.T) {
	run(t, 3, func(w *world) {
		w.allUp()
		n := follower(w)
		q := &lifeboatv1.HelloRequest{Id: n.id, Addr: n.cfg.Advertise, RunId: newID(), Version: "0.2", FeatureLevel: 2,
			StartedUnixNs: time.Now().UnixNano(), TimeUnixNs: time.Now().UnixNano()}
		err := w.leader().n.term.Load().members.hello(w.Context(), q)
		if err == nil || !strings.Contains(err.Error(), fmt.Sprintf("node %s runs version 0.2, which knows feature levels up to 2, and the cluster is at level %d", n.id, FeatureLevel)) {
			t.Fatalf("%v", err)
		}
		if x := w.state().Node(fsm.NodeID(n.id)); x.RunID == q.RunId {
			t.Error("it counts as a run")
		}
		older := &Node{}
		older.deps.faults.level = 2
		if end := older.outgrown(err); !errors.Is(end, fsm.ErrNewer) {
			t.Errorf("the older node goes on: %v", end)
		}
		if end := n.n.outgrown(err); end != nil {
			t.Errorf("this build ends of it: %v", end)
		}
		if end := n.n.outgrown(errors.New("nobody answers")); end != nil {
			t.Errorf("it ends of another error: %v", end)
		}
		q.Leaving, q.RunId = true, w.state().Node(fsm.NodeID(n.id)).RunID
		w.must(w.leader().n.term.Load().members.hello(w.Context(), q))
	})
}

// A snapshot on its way is looked at before a byte of it is handed on, and whole
// when it is let pass.
func TestInspected(t *testing.T) {
	var b bytes.Buffer
	s := *fsm.NewMachine().State()
	s.Level = FeatureLevel
	if _, err := s.WriteTo(&b); err != nil {
		t.Fatal(err)
	}
	for level, pass := range map[uint32]bool{FeatureLevel: true, FeatureLevel - 1: false} {
		var refused error
		got, err := io.ReadAll(&inspected{from: bytes.NewReader(b.Bytes()), level: level, refused: func(e error) { refused = e }})
		if pass && (err != nil || refused != nil || !bytes.Equal(got, b.Bytes())) {
			t.Errorf("level %d: %d of %d bytes, %v, %v", level, len(got), b.Len(), err, refused)
		}
		if !pass && (!errors.Is(err, fsm.ErrNewer) || !errors.Is(refused, fsm.ErrNewer) || len(got) > 0) {
			t.Errorf("level %d: %d bytes, %v, %v", level, len(got), err, refused)
		}
	}
	junk := []byte("something else")
	if got, err := io.ReadAll(&inspected{from: bytes.NewReader(junk), level: 3}); err != nil || !bytes.Equal(got, junk) {
		t.Errorf("what is no snapshot is for Raft to judge: %q, %v", got, err)
	}
}

// A data directory that is new, or was begun and never written to, is none to refuse.
func TestPreflightOfNothing(t *testing.T) {
	dir := t.TempDir()
	if err := preflight(filepath.Join(dir, "none"), 1); err != nil {
		t.Error(err)
	}
	if err := os.WriteFile(filepath.Join(dir, "raft.db"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := preflight(dir, 1); err != nil {
		t.Error(err)
	}
	store, err := openStorage(filepath.Join(dir, "new"), hclog.NewNullLogger())
	if err != nil {
		t.Fatal(err)
	}
	if err := preflight(filepath.Join(dir, "new"), 1); err == nil || !strings.Contains(err.Error(), "already running") {
		t.Errorf("while another has it open: %v", err)
	}
	if err := store.Close(); err != nil {
		t.Fatal(err)
	}
	if err := preflight(filepath.Join(dir, "new"), 1); err != nil {
		t.Error(err)
	}
}

// What a newer build has left is refused by whoever opens a data directory.
func TestNewerDataDirectoryIsRefused(t *testing.T) {
	cfg := Config{ID: "n1", Advertise: "10.0.0.1:7400", DataDir: t.TempDir()}
	store, err := openStorage(cfg.DataDir, hclog.NewNullLogger())
	if err != nil {
		t.Fatal(err)
	}
	if err := store.Close(); err != nil {
		t.Fatal(err)
	}
	s := *fsm.NewMachine().State()
	s.Level, s.LevelVersion = FeatureLevel+1, "9.9"
	var b bytes.Buffer
	if _, err := s.WriteTo(&b); err != nil {
		t.Fatal(err)
	}
	dir := filepath.Join(cfg.DataDir, "snapshots", "1-10-1")
	if err := os.MkdirAll(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, "state.bin"), b.Bytes(), 0o600); err != nil {
		t.Fatal(err)
	}
	before := sum(t, cfg.DataDir)
	_, err = Recover(cfg, map[string]string{"n1": cfg.Advertise}, false, hclog.NewNullLogger(), func(Recovery) error { return nil })
	if !errors.Is(err, fsm.ErrNewer) || !strings.Contains(err.Error(), fmt.Sprintf("level %d, raised by version 9.9", FeatureLevel+1)) {
		t.Errorf("recovered: %v", err)
	}
	if sum(t, cfg.DataDir) != before {
		t.Error("it was touched")
	}
}
