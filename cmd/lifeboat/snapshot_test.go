package main

import (
	"bytes"
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"connectrpc.com/connect"
	"filippo.io/age"

	pb "lifeboat/api/lifeboat/v1"
	"lifeboat/internal/cli"
	"lifeboat/node"
)

// goldenArchive is the state that the fake cluster has.
func goldenArchive() ([]byte, error) {
	return os.ReadFile(filepath.Join("..", "..", "fsm", "archive", "testdata", "format1.lifeboat"))
}

// ReadSnapshot answers in small pieces.
func (f *fakeAdmin) ReadSnapshot(_ context.Context, q *connect.Request[pb.ReadSnapshotRequest]) (*connect.Response[pb.ReadSnapshotResponse], error) {
	raw, err := goldenArchive()
	if err != nil {
		return nil, err
	}
	end := min(int64(len(raw)), q.Msg.Offset+500)
	return connect.NewResponse(&pb.ReadSnapshotResponse{Id: "s1", NodeId: "n1", Size: int64(len(raw)), Data: raw[q.Msg.Offset:end]}), nil
}

func (f *fakeAdmin) WriteSnapshot(_ context.Context, q *connect.Request[pb.WriteSnapshotRequest]) (*connect.Response[pb.WriteSnapshotResponse], error) {
	return connect.NewResponse(&pb.WriteSnapshotResponse{Id: "up1", Size: q.Msg.Offset + int64(len(q.Msg.Data))}), nil
}

func (f *fakeAdmin) RestoreSnapshot(_ context.Context, q *connect.Request[pb.RestoreSnapshotRequest]) (*connect.Response[pb.WriteResponse], error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.wrote("RestoreSnapshot", "CLUSTER.RESTORE", "cluster", "restored", &pb.RestoreSnapshotRequest{Id: q.Msg.Id, OtherCluster: q.Msg.OtherCluster})
}

func TestSnapshotSaveAndVerify(t *testing.T) {
	w := newWorld(t, busyState())
	file := filepath.Join(t.TempDir(), "backup")
	if r := w.run("snapshot", "save", file); r.code != 0 || !strings.Contains(r.stdout, "2 VMs") {
		t.Fatalf("exit %d: %s%s", r.code, r.stdout, r.stderr)
	}
	if i, err := os.Stat(file); err != nil || i.Mode().Perm() != 0o600 {
		t.Fatalf("%v, %v", i, err)
	}
	raw, _ := os.ReadFile(file)
	if want, _ := goldenArchive(); !bytes.Equal(raw, want) {
		t.Error("the file is not what the cluster sent")
	}
	if left, _ := filepath.Glob(filepath.Join(filepath.Dir(file), ".*")); len(left) > 0 {
		t.Errorf("left behind: %v", left)
	}
	for _, verb := range []string{"inspect", "verify"} {
		if r := w.run("snapshot", verb, file); r.code != 0 || !strings.Contains(r.stdout, "2 VMs") {
			t.Errorf("%s: exit %d: %s%s", verb, r.code, r.stdout, r.stderr)
		}
	}
	raw[len(raw)/2] ^= 4
	if err := os.WriteFile(file, raw, 0o600); err != nil {
		t.Fatal(err)
	}
	for _, verb := range []string{"inspect", "verify", "restore"} {
		if r := w.run("snapshot", verb, file); r.code != cli.ExitFailed || !strings.Contains(r.stderr, "not a usable snapshot") {
			t.Errorf("%s of a damaged file: exit %d: %s%s", verb, r.code, r.stdout, r.stderr)
		}
	}
	if got := w.sent(); got != "" {
		t.Errorf("sent %q", got)
	}
}

// A node that has lost it in between is asked for another one, once.
func TestSnapshotSaveBeginsAgain(t *testing.T) {
	for lost, ok := range map[int]bool{1: true, 2: false} {
		w := newWorld(t, busyState())
		calls := 0
		w.admin.before = func(_ context.Context, procedure string) error {
			if !strings.HasSuffix(procedure, "ReadSnapshot") {
				return nil
			}
			if calls++; calls%2 == 0 && calls <= 2*lost {
				return connect.NewError(connect.CodeNotFound, errors.New("this node does not keep that snapshot any more"))
			}
			return nil
		}
		file := filepath.Join(t.TempDir(), "backup")
		r := w.run("snapshot", "save", file)
		if (r.code == 0) != ok {
			t.Fatalf("lost %d times: exit %d: %s%s", lost, r.code, r.stdout, r.stderr)
		}
		raw, _ := os.ReadFile(file)
		if want, _ := goldenArchive(); ok && !bytes.Equal(raw, want) {
			t.Error("the file is not what the cluster sent")
		}
	}
}

// One that no node would take is told of when it is saved, and refused before HA is
// disarmed for it.
func TestSnapshotTooLarge(t *testing.T) {
	if why := tooLarge(node.MaxArchive, node.MaxArchive); why != "" {
		t.Error(why)
	}
	if why := tooLarge(node.MaxArchive+1, node.MaxArchive); !strings.Contains(why, "at most 512 MiB") {
		t.Error(why)
	}
}

// An encrypted snapshot is read with the secret key of its recipient only.
func TestSnapshotRecipient(t *testing.T) {
	k, err := age.GenerateX25519Identity()
	if err != nil {
		t.Fatal(err)
	}
	w, dir := newWorld(t, busyState()), t.TempDir()
	file, keys := filepath.Join(dir, "backup"), filepath.Join(dir, "keys")
	if err := os.WriteFile(keys, []byte(k.String()+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if r := w.run("snapshot", "save", "--recipient", "alice", file); r.code != cli.ExitUsage || !strings.Contains(r.stderr, "age1") {
		t.Errorf("no key: exit %d: %s%s", r.code, r.stdout, r.stderr)
	}
	if r := w.run("snapshot", "save", "--recipient", k.Recipient().String(), file); r.code != 0 || !strings.Contains(r.stdout, "2 VMs") {
		t.Fatalf("exit %d: %s%s", r.code, r.stdout, r.stderr)
	}
	raw, _ := os.ReadFile(file)
	if i, err := os.Stat(file); err != nil || i.Mode().Perm() != 0o600 || !bytes.HasPrefix(raw, []byte("age-encryption.org/")) {
		t.Fatalf("%v, %v, %.30q", i, err, raw)
	}
	for _, verb := range []string{"inspect", "verify"} {
		if r := w.run("snapshot", verb, "--identity", keys, file); r.code != 0 || !strings.Contains(r.stdout, "2 VMs") {
			t.Errorf("%s: exit %d: %s%s", verb, r.code, r.stdout, r.stderr)
		}
	}
	for _, verb := range []string{"inspect", "verify", "restore"} {
		if r := w.run("snapshot", verb, file); r.code != cli.ExitUsage || !strings.Contains(r.stderr, "--identity") {
			t.Errorf("%s without a key: exit %d: %s%s", verb, r.code, r.stdout, r.stderr)
		}
	}
	if r := w.run("snapshot", "restore", "--yes", "--identity", keys, file); r.code != 0 {
		t.Errorf("exit %d: %s%s", r.code, r.stdout, r.stderr)
	}
	if got := w.sent(); !strings.Contains(got, "RestoreSnapshot") {
		t.Errorf("sent %q", got)
	}
}

// Only the id of the cluster is a yes, and HA is disarmed before anything else.
func TestSnapshotRestoreAsks(t *testing.T) {
	file := filepath.Join(t.TempDir(), "backup")
	raw, err := goldenArchive()
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(file, raw, 0o600); err != nil {
		t.Fatal(err)
	}
	const sent = "ControlHA {\"action\":\"disarm\"}\nRestoreSnapshot {\"id\":\"up1\"}"
	for name, tc := range map[string]struct {
		stdin string
		args  []string
		code  int
		sent  string
	}{
		"yes is not enough": {stdin: "yes\n", code: cli.ExitFailed},
		"no answer":         {code: cli.ExitFailed},
		"the id":            {stdin: "c1\n", sent: sent},
		"a script":          {args: []string{"--yes"}, sent: sent},
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t, busyState())
			w.stdin = tc.stdin
			r := w.run(append([]string{"snapshot", "restore", file}, tc.args...)...)
			if r.code != tc.code || !strings.Contains(r.stderr, "A restore changes:") {
				t.Errorf("exit %d: %s%s", r.code, r.stdout, r.stderr)
			}
			if got := w.sent(); got != tc.sent {
				t.Errorf("sent %q, want %q", got, tc.sent)
			}
		})
	}
}
