package dev

import (
	"context"
	"errors"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"testing"
	"time"

	"lifeboat/hypervisor/domxml"
)

// A wrong --dir must not cost anybody's files.
func TestForeignDirectoriesAreNotEmptied(t *testing.T) {
	t.Run("files of somebody", func(t *testing.T) {
		dir := t.TempDir()
		file := filepath.Join(dir, "thesis.txt")
		if err := os.WriteFile(file, []byte("x"), 0o600); err != nil {
			t.Fatal(err)
		}
		if _, err := takeDir(dir); err == nil {
			t.Error("it was taken")
		}
		if _, err := os.Stat(file); err != nil {
			t.Error(err)
		}
	})
	t.Run("a link", func(t *testing.T) {
		link := filepath.Join(t.TempDir(), "link")
		if err := os.Symlink(t.TempDir(), link); err != nil {
			t.Fatal(err)
		}
		if _, err := takeDir(link); err == nil {
			t.Error("it was taken")
		}
	})
	t.Run("one that others may write to", func(t *testing.T) {
		dir := filepath.Join(t.TempDir(), "open")
		if err := os.Mkdir(dir, 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.Chmod(dir, 0o777); err != nil {
			t.Fatal(err)
		}
		if _, err := takeDir(dir); err == nil {
			t.Error("it was taken")
		}
	})
	t.Run("ours, of an earlier run", func(t *testing.T) {
		dir := filepath.Join(t.TempDir(), "new")
		lock, err := takeDir(dir)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := takeDir(dir); !errors.Is(err, errBusy) {
			t.Errorf("taken twice: %v", err)
		}
		if err := os.WriteFile(filepath.Join(dir, "old"), nil, 0o600); err != nil {
			t.Fatal(err)
		}
		lock.Close()
		lock, err = takeDir(dir)
		if err != nil {
			t.Fatal(err)
		}
		defer lock.Close()
		if entries, _ := os.ReadDir(dir); len(entries) != 1 || entries[0].Name() != mark {
			t.Errorf("it still holds %v", entries)
		}
	})
}

// A pid in a file may be anybody's by now.
func TestOnlyOurLeftoversAreKilled(t *testing.T) {
	dir := t.TempDir()
	if err := os.Mkdir(filepath.Join(dir, "pids"), 0o700); err != nil {
		t.Fatal(err)
	}
	ends := map[string]<-chan error{}
	for name, script := range map[string]string{
		"h1": filepath.Join(dir, "h1.yaml"), // runs our configuration
		"h2": filepath.Join(dir, "h1.yaml"), // another's
		"h3": "/etc/h3.yaml",
	} {
		cmd := exec.Command("sh", "-c", "read line", "sh", "-c", script)
		in, err := cmd.StdinPipe()
		if err != nil {
			t.Fatal(err)
		}
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		end := make(chan error, 1)
		go func() { end <- cmd.Wait() }()
		ends[name] = end
		t.Cleanup(func() { _ = in.Close() })
		if err := os.WriteFile(filepath.Join(dir, "pids", name), []byte(strconv.Itoa(cmd.Process.Pid)), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	for name, text := range map[string]string{"h4": "1", "n1": "-1", "n2": "x", "n3": ""} {
		if err := os.WriteFile(filepath.Join(dir, "pids", name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	// Between fork and exec a child still shows our own command line.
	deadline := time.Now().Add(10 * time.Second)
	for killed := false; !killed; {
		killLeftovers(dir)
		select {
		case <-ends["h1"]:
			killed = true
		case <-time.After(20 * time.Millisecond):
			if time.Now().After(deadline) {
				t.Fatal("our own leftover lives")
			}
		}
	}
	for _, name := range []string{"h2", "h3"} {
		select {
		case <-ends[name]:
			t.Errorf("%s was killed; it is not ours", name)
		default:
		}
	}
}

// A dead machine does not even refuse: refusing is a sign of life.
func TestDoorOfADeadMachineDoesNotAnswer(t *testing.T) {
	d, err := newDoor()
	if err != nil {
		t.Fatal(err)
	}
	defer d.close()
	knock := func() error {
		ctx, cancel := context.WithTimeout(t.Context(), 300*time.Millisecond)
		defer cancel()
		c, err := (&net.Dialer{}).DialContext(ctx, "tcp", d.addr())
		if err == nil {
			c.Close()
		}
		return err
	}
	for range 2 {
		d.open()
		for range 5 {
			if err := knock(); err != nil {
				t.Fatalf("a machine that is on: %v", err)
			}
		}
		d.shut()
		var timeout net.Error
		if err := knock(); !errors.As(err, &timeout) || !timeout.Timeout() {
			t.Fatalf("a dead machine: %v, want no answer at all", err)
		}
	}
}

func TestAddressesAreFreeAndDifferent(t *testing.T) {
	addrs, err := freeAddrs(6)
	if err != nil {
		t.Fatal(err)
	}
	seen := map[string]bool{}
	for _, a := range addrs {
		if seen[a] {
			t.Errorf("%s twice", a)
		}
		seen[a] = true
		l, err := net.Listen("tcp", a)
		if err != nil {
			t.Fatal(err)
		}
		defer l.Close()
	}
}

func TestGuestsAreTwelveThatCanStartAnywhere(t *testing.T) {
	seen := map[string]bool{}
	list := guests([]string{"h1", "h2", "h3", "h4"})
	for _, g := range list {
		needs, err := domxml.Parse([]byte(g.xml))
		if err != nil {
			t.Fatalf("%s: %v", g.name, err)
		}
		if needs.UUID != g.id || needs.Name != g.name || (needs.Protect != nil) != g.asked {
			t.Errorf("%s is read as %+v", g.name, needs)
		}
		seen[g.name], seen[g.id.String()] = true, true
	}
	if len(list) != 12 || len(seen) != 24 {
		t.Errorf("%d guests, %d names and ids", len(list), len(seen))
	}
}
