package heartbeat

import (
	"bytes"
	"context"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"
)

const fast = 20 * time.Millisecond

func open(t *testing.T, path string) *Dir {
	d := New(path)
	d.every = fast
	return d
}

// beats writes as a host until the test, or stop, ends it.
func beats(t *testing.T, path, host, boot string) (d *Dir, stop func()) {
	t.Helper()
	d = open(t, path)
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan struct{})
	go func() { defer close(done); d.Write(ctx, host, boot, 7) }()
	stop = func() { cancel(); <-done }
	t.Cleanup(stop)
	deadline := time.Now().Add(5 * time.Second)
	for !d.State().Up {
		if time.Now().After(deadline) {
			t.Fatalf("no beat: %+v", d.State())
		}
		time.Sleep(fast)
	}
	return d, stop
}

func watch(t *testing.T, path, host, boot string) (bool, string) {
	ctx, cancel := context.WithTimeout(t.Context(), 3*pause+pause/2)
	defer cancel()
	return New(path).Watch(ctx, host, boot)
}

// S20: only a heartbeat that goes on, in the boot that was asked about, is a sign
// of life.
func TestS20OnlyChangeIsASignOfLife(t *testing.T) {
	dir := t.TempDir()
	_, stop := beats(t, dir, "h1", "boot1")
	if moved, why := watch(t, dir, "h1", "boot1"); !moved {
		t.Errorf("it goes on, and is taken for %q", why)
	}
	if moved, why := watch(t, dir, "h1", "boot0"); moved || !strings.Contains(why, "restarted") {
		t.Errorf("another boot: %v, %q", moved, why)
	}
	if moved, why := watch(t, dir, "h2", "boot1"); moved || !strings.Contains(why, "no heartbeat") {
		t.Errorf("no such host: %v, %q", moved, why)
	}
	if moved, why := watch(t, filepath.Join(dir, "unmounted"), "h1", "boot1"); moved || !strings.Contains(why, "cannot be read") {
		t.Errorf("no such directory: %v, %q", moved, why)
	}
	stop()
	if moved, why := watch(t, dir, "h1", "boot1"); moved || !strings.Contains(why, "stands still") {
		t.Errorf("it stands still: %v, %q", moved, why)
	}
	// An agent that is started again goes on in the same file.
	_, _ = beats(t, dir, "h1", "boot2")
	if moved, why := watch(t, dir, "h1", "boot2"); !moved {
		t.Errorf("started again: %q", why)
	}
}

// A directory that hangs blocks nobody, and is told of. A pipe hangs like a dead
// file server: opening it for writing waits for a reader.
func TestHungDirectoryBlocksNobody(t *testing.T) {
	dir := t.TempDir()
	if err := os.Mkdir(filepath.Join(dir, folder), 0o755); err != nil {
		t.Fatal(err)
	}
	pipe := filepath.Join(dir, folder, "h1.beat")
	if err := syscall.Mkfifo(pipe, 0o600); err != nil {
		t.Fatal(err)
	}
	d := open(t, dir)
	go d.Write(t.Context(), "h1", "b", 1)
	deadline := time.Now().Add(5 * time.Second)
	for s := d.State(); s.Up || s.Failure != "it does not answer"; s = d.State() {
		if time.Now().After(deadline) {
			t.Fatalf("%+v", s)
		}
		time.Sleep(fast)
	}
	if r, err := os.OpenFile(pipe, os.O_RDONLY|syscall.O_NONBLOCK, 0); err == nil {
		r.Close() // lets the writer go
	}

	d.reading <- struct{}{} // a read that never comes back
	began := time.Now()
	ctx, cancel := context.WithTimeout(t.Context(), pause)
	defer cancel()
	if moved, why := d.Watch(ctx, "h2", "b"); moved || !strings.Contains(why, "does not answer") {
		t.Errorf("%v, %q", moved, why)
	}
	if took := time.Since(began); took > 10*pause {
		t.Errorf("it took %s", took)
	}
}

// What others put into a shared directory leads nowhere.
func TestForeignFilesAreNotFollowed(t *testing.T) {
	dir, outside := t.TempDir(), t.TempDir()
	victim := filepath.Join(outside, "victim")
	if err := os.WriteFile(victim, []byte("precious"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Mkdir(filepath.Join(dir, folder), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink(victim, filepath.Join(dir, folder, "h1.beat")); err != nil {
		t.Fatal(err)
	}
	if err := open(t, dir).write(beat{"h1", "b", 1}); err == nil {
		t.Error("it was written through a link")
	}
	if b, err := os.ReadFile(victim); err != nil || string(b) != "precious" {
		t.Errorf("%q, %v", b, err)
	}
	for _, host := range []string{"../../etc/passwd", "", "..", "a/b", ".hidden", "a b", strings.Repeat("x", 500)} {
		if moved, why := watch(t, dir, host, "b"); moved || !strings.Contains(why, "not the name of a host") {
			t.Errorf("%q: %v, %q", host, moved, why)
		}
	}
}

func TestFilesThatAreNoBeats(t *testing.T) {
	dir := t.TempDir()
	if err := os.Mkdir(filepath.Join(dir, folder), 0o755); err != nil {
		t.Fatal(err)
	}
	good, err := beat{"h1", "b", 1}.encode()
	if err != nil {
		t.Fatal(err)
	}
	torn := bytes.Replace(good, []byte(" 1 "), []byte(" 2 "), 1)
	for name, b := range map[string][]byte{"empty": nil, "half": good[:size/2], "torn": torn, "long": append(good, 'x'), "huge": make([]byte, 1<<20)} {
		if err := os.WriteFile(filepath.Join(dir, folder, "h1.beat"), b, 0o600); err != nil {
			t.Fatal(err)
		}
		if moved, why := watch(t, dir, "h1", "b"); moved || !strings.Contains(why, "not a heartbeat") {
			t.Errorf("%s: %v, %q", name, moved, why)
		}
	}
}

func FuzzDecode(f *testing.F) {
	good, _ := beat{"h1", "b", 1}.encode()
	f.Add(good)
	f.Add([]byte("lifeboat-beat"))
	f.Fuzz(func(t *testing.T, b []byte) {
		x, err := decode(b)
		if err != nil {
			return
		}
		again, err := x.encode()
		if err != nil {
			t.Fatalf("%+v was read and cannot be written: %v", x, err)
		}
		if y, err := decode(again); err != nil || y != x {
			t.Fatalf("%+v became %+v: %v", x, y, err)
		}
	})
}
