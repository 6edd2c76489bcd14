package hook

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"lifeboat/agent/session"
	"lifeboat/hypervisor"
)

var (
	vm    = hypervisor.UUID{1}
	other = hypervisor.UUID{2}
)

const now = session.Instant(time.Hour)

// good is a host that owns vm, with a lease.
func good() State {
	return State{
		Boot: "b", Now: now,
		Ledger: session.Ledger{
			Boot: "b", Synced: true, HAArmed: true, Lease: session.LeaseMark{Armed: true, Boot: "b"},
			Protected: []session.Protected{{ID: vm, Incarnation: 8}},
			VMs:       map[hypervisor.UUID]session.Entry{vm: {Incarnation: 8, Phase: session.PhaseStarting, Boot: "b", Refused: 7}},
		},
		Held: session.Held{Boot: "b", Armed: true, Until: now.Add(time.Second)},
	}
}

func TestDecide(t *testing.T) {
	gone := func(s *State) { s.Ledger.VMs[vm] = session.Entry{Incarnation: 8, Refused: 8}; s.Ledger.Protected = nil }
	cases := []struct {
		name   string
		op     string
		id     hypervisor.UUID
		change func(*State)
		want   string // empty: allowed
	}{
		{"the agent's own start", "prepare", vm, func(*State) {}, ""},
		{"a stranger", "prepare", other, func(s *State) { s.Ledger.Synced = false; s.Held.Until = 0 }, ""},
		{"what ends is none of our business", "stopped", vm, func(s *State) { s.LedgerErr = errors.New("x") }, ""},
		{"before the first sync", "prepare", vm, func(s *State) { s.Ledger.Synced = false }, "has not heard"},
		{"a ledger of the last boot", "restore", vm, func(s *State) { s.Ledger.Boot = "a" }, "has not heard"},
		{"held once, protected no more", "start", vm, func(s *State) { s.Ledger.Boot = "a"; s.Ledger.Protected = nil }, "has not heard"},
		{"the lease ran out", "prepare", vm, func(s *State) { s.Held.Until = now }, "has run out"},
		{"the lease file is gone", "prepare", vm, func(s *State) { s.HeldErr = os.ErrNotExist }, "cannot be read"},
		{"the lease file is of another boot", "prepare", vm, func(s *State) { s.Held.Boot = "a" }, "not held"},
		{"no lease here", "prepare", vm, func(s *State) { s.Ledger.Lease, s.HeldErr = session.LeaseMark{}, os.ErrNotExist }, ""},
		{"lease withdrawn, mark not cleared yet", "prepare", vm, func(s *State) { s.Held = session.Held{Boot: "b"} }, ""},
		{"tombstone", "prepare", vm, gone, "given the VM up"},
		{"failed here", "start", vm, func(s *State) { s.Ledger.VMs[vm] = session.Entry{Incarnation: 8, Failed: 8} }, "given the VM up"},
		{"being removed", "restore", vm, func(s *State) { s.Ledger.VMs[vm] = session.Entry{Incarnation: 8, Refusing: 9} }, "given the VM up"},
		{"tombstone and an incoming migration", "prepare", vm, func(s *State) { gone(s); s.Incoming = true }, ""},
		{"a saved image is no migration", "restore", vm, func(s *State) { gone(s); s.Incoming = true }, "given the VM up"},
		{"a migration without a lease", "migrate", vm, func(s *State) { gone(s); s.Held.Until = 0 }, "has run out"},
		{"a damaged ledger", "prepare", other, func(s *State) { s.LedgerErr = errors.New("x") }, "cannot be read"},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			s := good()
			c.change(&s)
			err := Decide(c.op, c.id, s)
			if (err == nil) != (c.want == "") || err != nil && !strings.Contains(err.Error(), c.want) {
				t.Errorf("got %v, want %q", err, c.want)
			}
		})
	}
}

func TestRun(t *testing.T) {
	dir := t.TempDir()
	write := func(name string, b []byte, err error) {
		if err == nil {
			err = os.WriteFile(filepath.Join(dir, name), b, 0o600)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	o := Options{StateDir: dir, RunDir: dir, BootIDFile: filepath.Join(dir, "boot"), Now: now}
	call := func(op string) error {
		x := fmt.Sprintf("<domain type='kvm' id='3'><name>a</name><uuid>%s</uuid><strange/></domain>", vm)
		return Run(o, []string{"a", op, "begin", "-"}, strings.NewReader(x))
	}
	if err := call("prepare"); err == nil {
		t.Error("allowed without any file")
	}
	if err := call("release"); err != nil {
		t.Errorf("release: %v", err)
	}
	s := good()
	write("boot", []byte("b\n"), nil)
	b, err := session.EncodeLedger(s.Ledger)
	write(session.LedgerFile, b, err)
	if err := call("prepare"); err == nil {
		t.Error("allowed without the lease file")
	}
	b, err = session.EncodeHeld(s.Held)
	write(session.LeaseFile, b, err)
	if err := call("prepare"); err != nil {
		t.Errorf("prepare: %v", err)
	}
	s.Ledger.VMs[vm] = session.Entry{Incarnation: 8, Refused: 8}
	b, err = session.EncodeLedger(s.Ledger)
	write(session.LedgerFile, b, err)
	if err := call("prepare"); err == nil || strings.Contains(err.Error(), "\n") {
		t.Errorf("a tombstoned VM: %v", err)
	}
	if err := call("migrate"); err != nil {
		t.Errorf("migrate: %v", err)
	}
	if err := call("prepare"); err != nil {
		t.Errorf("prepare of an incoming migration: %v", err)
	}
	o.Now = now.Add(2 * time.Minute)
	s.Held.Until = session.Never
	b, err = session.EncodeHeld(s.Held)
	write(session.LeaseFile, b, err)
	if err := call("prepare"); err == nil {
		t.Error("an announced migration counts for ever")
	}
	if err := Run(o, []string{"a", "prepare"}, strings.NewReader("<domain>")); err == nil {
		t.Error("half a definition was accepted")
	}
	if err := Run(o, nil, nil); err == nil {
		t.Error("no arguments were accepted")
	}
}

func FuzzRun(f *testing.F) {
	f.Add("prepare", []byte("<domain><uuid>8d2c6f0e-1f5b-4c0e-9a54-0d3f2b1c7e60</uuid></domain>"))
	f.Fuzz(func(t *testing.T, op string, b []byte) {
		o := Options{StateDir: "/nonexistent", RunDir: "/nonexistent", BootIDFile: "/nonexistent"}
		if err := Run(o, []string{"a", op}, strings.NewReader(string(b))); err == nil && guarded(op) {
			t.Error("allowed without a ledger")
		}
	})
}

func TestInstall(t *testing.T) {
	dir := t.TempDir()
	binary := filepath.Join(dir, "life boat's")
	if err := os.WriteFile(binary, []byte("#!/bin/sh\necho \"$@\"\nexit 7\n"), 0o755); err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(dir, "hooks", "qemu.d", "lifeboat")
	for i, want := range []bool{true, false} {
		if changed, err := Install(path, binary, "--config", "a b"); err != nil || changed != want {
			t.Errorf("install %d: changed %v, %v", i, changed, err)
		}
	}
	out, err := exec.Command(path, "vm 1", "prepare", "begin", "-").Output()
	var exit *exec.ExitError
	if !errors.As(err, &exit) || exit.ExitCode() != 7 || string(out) != "hook qemu --config a b vm 1 prepare begin -\n" {
		t.Errorf("the script: %q, %v", out, err)
	}
	if err := os.Remove(binary); err != nil {
		t.Fatal(err)
	}
	if err := exec.Command(path, "vm 1", "prepare").Run(); err != nil {
		t.Errorf("without the program: %v", err)
	}
	if err := os.WriteFile(path, []byte("#!/bin/sh\n"), 0o755); err != nil {
		t.Fatal(err)
	}
	if _, err := Install(path, binary); err == nil {
		t.Error("somebody else's hook was replaced")
	}
}
