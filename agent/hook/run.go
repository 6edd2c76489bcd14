package hook

import (
	"encoding/xml"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"lifeboat/agent/session"
	"lifeboat/hypervisor"
)

// Options say where the agent's files are.
type Options struct {
	StateDir, RunDir, BootIDFile string
	Now                          session.Instant // CLOCK_BOOTTIME
}

const (
	// maxDefinition bounds what is read from libvirt, in bytes.
	maxDefinition = 8 << 20
	// incomingFor is how long an announced migration may take to begin.
	incomingFor = time.Minute
)

// Run is the hook: args are libvirt's (name, operation, sub-operation, extra)
// and the definition comes on in. An error refuses.
func Run(o Options, args []string, in io.Reader) error {
	if len(args) < 2 {
		return errors.New("the qemu hook is called by libvirt, with the name of a domain and an operation")
	}
	name, op := args[0], args[1]
	if !guarded(op) {
		return nil
	}
	id, err := readUUID(in)
	if err == nil {
		s := o.state(id)
		if err = Decide(op, id, s); err == nil && op == "migrate" {
			err = o.announce(id)
		}
	}
	if err != nil {
		return fmt.Errorf("lifeboat refuses to %s VM %s: %w", op, name, err)
	}
	return nil
}

// readUUID reads the one thing it needs and nothing else: a definition with
// parts that this version has never heard of must not be refused for them.
func readUUID(in io.Reader) (hypervisor.UUID, error) {
	var d struct {
		XMLName xml.Name `xml:"domain"`
		UUID    string   `xml:"uuid"`
	}
	if err := xml.NewDecoder(io.LimitReader(in, maxDefinition)).Decode(&d); err != nil {
		return hypervisor.UUID{}, fmt.Errorf("read the definition that libvirt hands to its hook: %w", err)
	}
	return hypervisor.ParseUUID(strings.TrimSpace(d.UUID))
}

func (o Options) state(id hypervisor.UUID) State {
	s := State{Now: o.Now}
	b, err := os.ReadFile(o.BootIDFile)
	if err != nil {
		s.LedgerErr = err
		return s
	}
	s.Boot = strings.TrimSpace(string(b))
	if b, s.LedgerErr = os.ReadFile(filepath.Join(o.StateDir, session.LedgerFile)); s.LedgerErr == nil {
		s.Ledger, s.LedgerErr = session.DecodeLedger(b)
	}
	if b, s.HeldErr = os.ReadFile(filepath.Join(o.RunDir, session.LeaseFile)); s.HeldErr == nil {
		s.Held, s.HeldErr = session.DecodeHeld(b)
	}
	s.Incoming = o.announced(id)
	return s
}

func (o Options) incomingFile(id hypervisor.UUID) string {
	return filepath.Join(o.RunDir, "incoming-"+id.String())
}

// announce remembers that the domain comes by migration: libvirt says so only
// once, before it asks to prepare it.
func (o Options) announce(id hypervisor.UUID) error {
	err := os.WriteFile(o.incomingFile(id), []byte(strconv.FormatInt(int64(o.Now), 10)), 0o600)
	if err != nil {
		return fmt.Errorf("note the incoming migration: %w", err)
	}
	return nil
}

func (o Options) announced(id hypervisor.UUID) bool {
	b, err := os.ReadFile(o.incomingFile(id))
	if err != nil {
		return false
	}
	n, err := strconv.ParseInt(strings.TrimSpace(string(b)), 10, 64)
	at := session.Instant(n)
	if err != nil || at > o.Now || o.Now.Sub(at) > incomingFor {
		_ = os.Remove(o.incomingFile(id))
		return false
	}
	return true
}

// DefaultPath is where libvirt 6.5 and later look for more than one qemu hook.
const DefaultPath = "/etc/libvirt/hooks/qemu.d/lifeboat"

const mark = "# Installed by lifeboat; removed with: rm"

// Install makes libvirt call "binary hook qemu args… NAME OPERATION …". It
// reports whether something changed: libvirtd must be restarted then to see the
// hook. A hook of somebody else is never replaced.
func Install(path, binary string, args ...string) (changed bool, err error) {
	words := []string{quote(binary), "hook", "qemu"}
	for _, a := range args {
		words = append(words, quote(a))
	}
	// A program that is gone must not keep every VM of the host off.
	script := "#!/bin/sh\n" + mark + " " + path + "\n" +
		"[ -x " + quote(binary) + " ] || exit 0\n" +
		"exec " + strings.Join(words, " ") + " \"$@\"\n"
	old, err := os.ReadFile(path)
	switch {
	case err == nil && string(old) == script:
		return false, nil
	case err == nil && !strings.Contains(string(old), mark):
		return false, fmt.Errorf("install qemu hook: %s is somebody else's; move it to another name in %s", path, DefaultPath)
	case err != nil && !errors.Is(err, fs.ErrNotExist):
		return false, fmt.Errorf("install qemu hook: %w", err)
	}
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return false, fmt.Errorf("install qemu hook: %w", err)
	}
	tmp := filepath.Join(filepath.Dir(path), ".lifeboat.tmp")
	if err := os.WriteFile(tmp, []byte(script), 0o755); err != nil {
		return false, fmt.Errorf("install qemu hook: %w", err)
	}
	if err := os.Rename(tmp, path); err != nil {
		return false, fmt.Errorf("install qemu hook: %w", err)
	}
	return true, nil
}

func quote(s string) string { return "'" + strings.ReplaceAll(s, "'", `'\''`) + "'" }
