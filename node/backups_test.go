package node

import (
	"bytes"
	"context"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"filippo.io/age"

	"lifeboat/fsm"
	"lifeboat/fsm/archive"
)

// snapshotAlert is the open alert about a node's own snapshots, or nil.
func (w *world) snapshotAlert(id string) *fsm.AlertRecord {
	return w.state().OpenAlert(fsm.AlertKey{Type: fsm.AlertNode, Subject: id, Cause: "snapshot"})
}

// Every node takes its snapshots on time and keeps the newest; a restart takes none
// before its time; what fails raises an alert until it works again, and nothing is
// removed meanwhile.
func TestScheduledSnapshots(t *testing.T) {
	const keep = 3
	folder := map[string]string{}
	prepare := func(w *world) {
		for id, n := range w.nodes {
			folder[id] = filepath.Join(w.dir, "backups") // shared
			if id == "n2" {
				folder[id] = filepath.Join(w.dir, "n2-backups")
			}
			n.cfg.Snapshots = SnapshotsConfig{Every: time.Minute, Keep: keep, Dir: folder[id]}
		}
		w.must(os.MkdirAll(folder["n1"], 0o700))
		w.must(os.WriteFile(filepath.Join(folder["n1"], "lifeboat-other-n1-20000101T000000Z.lifeboat"), nil, 0o600))
	}
	taken := func(w *world, id string) []backup {
		list, err := w.nodes[id].n.backups.list(w.state().ClusterID, time.Now())
		w.must(err)
		return list
	}
	runWith(t, 3, prepare, func(w *world) {
		w.stays(5*time.Minute+30*time.Second, "nobody complains", func() bool { return w.snapshotAlert("n2") == nil })
		for id := range w.nodes {
			list := taken(w, id)
			told := map[string]int{}
			for _, e := range w.state().EventsAfter(0) {
				if e.Type == "SNAPSHOT.SCHEDULE" && e.Subject == "node "+id && e.Actor == "node/"+id {
					told[e.Text]++
				}
			}
			for text, n := range told {
				if n != 1 {
					t.Errorf("%q is an event %d times", text, n)
				}
			}
			if len(told) < keep || len(told) > 6 {
				t.Errorf("snapshots of %s are %d events: %v", id, len(told), told)
			}
			if len(list) != keep {
				t.Fatalf("%s has %d snapshots", id, len(list))
			}
			for i, x := range list {
				raw, err := os.ReadFile(filepath.Join(folder[id], x.name))
				w.must(err)
				if m, _, err := archive.Read(bytes.NewReader(raw), FeatureLevel); err != nil || m.Node != id || m.ClusterID != w.state().ClusterID {
					t.Errorf("%s: %+v, %v", x.name, m, err)
				}
				if i > 0 && x.taken.Sub(list[i-1].taken).Round(5*time.Second) != time.Minute {
					t.Errorf("%s was taken %s after the one before", x.name, x.taken.Sub(list[i-1].taken))
				}
			}
		}
		if _, err := os.Stat(filepath.Join(folder["n1"], "lifeboat-other-n1-20000101T000000Z.lifeboat")); err != nil {
			t.Error("a snapshot of another cluster was removed")
		}
		newest := func(id string) string { return taken(w, id)[keep-1].name }
		before := newest("n1")
		w.nodes["n1"].halt()
		w.nodes["n1"].start()
		w.stays(10*time.Second, "no snapshot before its time", func() bool { return newest("n1") == before })

		aside := folder["n2"] + ".aside"
		w.must(os.Rename(folder["n2"], aside))
		w.must(os.WriteFile(folder["n2"], nil, 0o600)) // no folder
		w.within(2*time.Minute, "an alert says that n2 takes none", func() bool {
			a := w.snapshotAlert("n2")
			return a != nil && strings.Contains(a.Text, folder["n2"]) && w.snapshotAlert("n1") == nil
		})
		w.must(os.Remove(folder["n2"]))
		w.must(os.Rename(aside, folder["n2"]))
		w.within(2*time.Minute, "the alert is resolved", func() bool { return w.snapshotAlert("n2") == nil })
		if len(taken(w, "n2")) != keep {
			t.Errorf("n2 has %d snapshots", len(taken(w, "n2")))
		}
	})
}

// One that cannot be finished removes nothing, and one that is encrypted is kept
// like any other.
func TestBackupsKeepWhatTheyHave(t *testing.T) {
	k, err := age.GenerateX25519Identity()
	if err != nil {
		t.Fatal(err)
	}
	b := &backups{cfg: SnapshotsConfig{Every: time.Minute, Keep: 2, Dir: filepath.Join(t.TempDir(), "new", "folder")}, node: "n1"}
	s := fsm.NewMachine().State()
	at := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	names := func() (out []string) {
		list, err := b.list("", at.Add(24*time.Hour))
		if err != nil {
			t.Fatal(err)
		}
		for _, x := range list {
			out = append(out, x.name)
		}
		return out
	}
	due := func(now time.Time) time.Duration {
		t.Helper()
		wait, err := b.due(now, "")
		if err != nil {
			t.Fatal(err)
		}
		return wait
	}
	if due(at) != 0 {
		t.Error("the first one is not due at once")
	}
	for i := range 3 {
		if i == 2 {
			b.to = []age.Recipient{k.Recipient()}
		}
		if _, err := b.take(context.Background(), s, "test", at.Add(time.Duration(i)*time.Minute)); err != nil {
			t.Fatal(err)
		}
	}
	before := names()
	if len(before) != 2 || !strings.HasSuffix(before[1], ".lifeboat.age") {
		t.Fatalf("kept: %v", before)
	}
	raw, _ := os.ReadFile(filepath.Join(b.cfg.Dir, before[1]))
	if raw, err = archive.Open(raw, []age.Identity{k}); err != nil {
		t.Fatal(err)
	}
	if _, _, err := archive.Read(bytes.NewReader(raw), FeatureLevel); err != nil {
		t.Error(err)
	}
	if got := due(at.Add(2*time.Minute + 20*time.Second)); got != 40*time.Second {
		t.Errorf("the next one is due in %s", got)
	}
	if got := due(at); got != 0 {
		t.Errorf("after the clock was set back it is due in %s", got)
	}
	past := at.Add(-time.Hour)
	for i := range 3 {
		if _, err := b.take(context.Background(), s, "test", past.Add(time.Duration(i)*time.Second)); err != nil {
			t.Fatal(err)
		}
	}
	if got := names(); len(got) != 4 || strings.Join(got[2:], " ") != strings.Join(before, " ") {
		t.Errorf("after the clock was set back are kept: %v", got)
	}
	before = names()
	later := at.Add(time.Hour)
	if err := os.Mkdir(filepath.Join(b.cfg.Dir, b.prefix("")+later.Format(backupTime)+b.suffix()), 0o700); err != nil {
		t.Fatal(err) // in the way of the next one
	}
	_, err = b.take(context.Background(), s, "test", later)
	if after := names(); err == nil || strings.Join(after, " ") != strings.Join(before, " ") {
		t.Errorf("%v; kept: %v", err, after)
	}
	b.ended(later, err)
	first := b.reason(err)
	_, err = b.take(context.Background(), s, "test", later)
	if again := b.reason(err); again != first || strings.Contains(again, archive.Temporary) {
		t.Errorf("the same reason reads %q, then %q", first, again)
	}
	b.began(later)
	if _, failure := b.report(later.Add(backupHangs + 1)); !strings.Contains(failure, "hangs") {
		t.Errorf("one that hangs: %q", failure)
	}
	b.rested()
	if _, failure := b.report(later.Add(backupHangs + 1)); strings.Contains(failure, "hangs") {
		t.Errorf("one that had nothing to do: %q", failure)
	}
	b.cfg.Dir = filepath.Join(b.cfg.Dir, before[0]) // a file
	if _, err := b.due(later, ""); err == nil {
		t.Error("a folder that cannot be read has a snapshot that is due")
	}
}
