package program

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"lifeboat/notify"
	"lifeboat/notify/notifytest"
)

func TestConformance(t *testing.T) {
	dir := t.TempDir()
	notifytest.Run(t, Kind(dir), func(t *testing.T) *notifytest.Rig {
		in := t.TempDir()
		write := func(body string) {
			if err := os.WriteFile(filepath.Join(dir, "tell"), []byte("#!/bin/sh\n"+body), 0o700); err != nil {
				t.Fatal(err)
			}
		}
		write("cat > " + in + "/$$\n")
		return &notifytest.Rig{Target: notify.Target{Address: "tell", Secret: "much-secret"}, Got: func() (out []string) {
			files, _ := os.ReadDir(in)
			for _, f := range files {
				b, _ := os.ReadFile(filepath.Join(in, f.Name()))
				out = append(out, string(b))
			}
			// A test comes after a digest, whatever the processes' numbers are.
			if len(out) == 2 && len(out[0]) < len(out[1]) {
				out[0], out[1] = out[1], out[0]
			}
			return out
		}, Refuse: func() { write("echo \"no: $LIFEBOAT_SECRET\" >&2; exit 3\n") },
			Hang: func() { write("sleep 1000 & sleep 1000\n") }}
	})
}

// There is no shell, and no way out of the directory.
func TestOnlyWhatLiesThere(t *testing.T) {
	dir := t.TempDir()
	for _, address := range []string{"/bin/sh", "../sh", "a/b", ".", "..", ".hidden", ""} {
		if _, err := Kind(dir).Open(notify.Target{Address: address}); err == nil {
			t.Errorf("%q can be run", address)
		}
	}
	if err := os.WriteFile(filepath.Join(dir, "args"), []byte("#!/bin/sh\necho \"$#:$1\" >&2; exit 1\n"), 0o700); err != nil {
		t.Fatal(err)
	}
	d, err := Kind(dir).Open(notify.Target{Address: "args", Options: map[string]string{"args": "$(id);x y"}})
	if err != nil {
		t.Fatal(err)
	}
	if err := d.Send(t.Context(), notifytest.Message("d")); err == nil || !strings.Contains(err.Error(), "2:$(id);x") {
		t.Errorf("its arguments were %v", err)
	}
}

func FuzzOpen(f *testing.F) {
	notifytest.FuzzOpen(f, Kind("/etc/lifeboat/notify.d"), [2]string{"page-somebody", "args=a b"}, [2]string{"../sh", ""}, [2]string{"a/b", "args=\"x"})
}
