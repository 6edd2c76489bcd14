package agent

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"lifeboat/agent/session"
)

// Boottime reads the clock that runs during suspend (S13).
func Boottime() session.Instant {
	var ts unix.Timespec
	if err := unix.ClockGettime(unix.CLOCK_BOOTTIME, &ts); err != nil {
		// Cannot fail on Linux. Never is safe: every lease is over.
		return session.Never
	}
	return session.Instant(ts.Nano())
}

// maxID bounds what is read from a file that should hold one id.
const maxID = 256

// readID reads a file that holds one id, such as /etc/machine-id.
func readID(what, file string) (string, error) {
	b, err := os.ReadFile(file)
	if err != nil {
		return "", fmt.Errorf("read %s: %w", what, err)
	}
	id := strings.TrimSpace(string(b))
	if id == "" || len(id) > maxID || strings.ContainsAny(id, "\n\x00 ") {
		return "", fmt.Errorf("read %s: %s does not hold one id; for the machine id run systemd-machine-id-setup", what, file)
	}
	return id, nil
}

// guestsEnabled reports whether libvirt-guests, which suspends guests at
// shutdown and resumes them at boot behind everybody's back, is enabled (S8).
func guestsEnabled(root string) bool {
	for _, dir := range []string{"etc/systemd/system", "usr/lib/systemd/system", "lib/systemd/system"} {
		links, err := filepath.Glob(filepath.Join(root, dir, "*.wants", "libvirt-guests.service"))
		if err == nil && len(links) > 0 {
			return true
		}
	}
	return false
}

// rebooting asks systemd whether a machine that is on its way down comes back.
func rebooting(ctx context.Context) bool {
	ctx, cancel := context.WithTimeout(ctx, time.Second)
	defer cancel()
	out, _ := exec.CommandContext(ctx, "systemctl", "list-jobs", "--no-legend", "--plain").Output()
	for line := range strings.Lines(string(out)) {
		f := strings.Fields(line) // JOB UNIT TYPE STATE
		if len(f) > 2 && f[2] == "start" && (f[1] == "reboot.target" || f[1] == "kexec.target" || f[1] == "soft-reboot.target") {
			return true
		}
	}
	return false
}

// machineStopping asks systemd whether the machine is on its way down (S18).
func machineStopping(ctx context.Context) bool {
	if _, err := os.Stat("/run/systemd/system"); err != nil {
		return false
	}
	ctx, cancel := context.WithTimeout(ctx, time.Second)
	defer cancel()
	// It exits with an error for every state but "running".
	out, _ := exec.CommandContext(ctx, "systemctl", "is-system-running").Output()
	return strings.TrimSpace(string(out)) == "stopping"
}
