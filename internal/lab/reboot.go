package lab

import (
	"errors"
	"fmt"
	"os"
	"strings"

	"golang.org/x/sys/unix"
)

// ErrNotLabHost means that the calling process is not inside a host of a lab.
var ErrNotLabHost = errors.New("this process is not inside a lab host; reboot(2) would reboot the real machine")

// RebootSelf calls reboot(2) in a lab host, which kills that host's PID
// namespace and nothing else; the lab then boots it again. Anywhere else it
// returns [ErrNotLabHost] and does nothing. It does not return on success.
func RebootSelf() error {
	if err := inLabHost(markerFile); err != nil {
		return fmt.Errorf("reboot host: %w", err)
	}
	if err := unix.Reboot(unix.LINUX_REBOOT_CMD_RESTART); err != nil {
		return fmt.Errorf("reboot host: %w", err)
	}
	return nil
}

// inLabHost compares the caller's PID namespace, the one thing that decides
// what reboot(2) kills, with the one that the host's init wrote down.
func inLabHost(marker string) error {
	want, err := os.ReadFile(marker)
	if err != nil {
		return ErrNotLabHost
	}
	have, err := os.Readlink("/proc/self/ns/pid")
	if err != nil || have == "" || have != strings.TrimSpace(string(want)) {
		return ErrNotLabHost
	}
	return nil
}
