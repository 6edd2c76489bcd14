package lab

import (
	"bytes"
	"fmt"
	"os"
	"strconv"
	"time"

	"golang.org/x/sys/unix"
)

// nsID identifies a namespace, e.g. "pid:[4026532201]".
func nsID(pid int, kind string) (string, error) {
	id, err := os.Readlink(fmt.Sprintf("/proc/%d/ns/%s", pid, kind))
	if err != nil {
		return "", fmt.Errorf("identify %s namespace of process %d: %w", kind, pid, err)
	}
	return id, nil
}

// netnsID identifies a named network namespace in the form of [nsID].
func netnsID(name string) (string, error) {
	var st unix.Stat_t
	if err := unix.Stat(netnsPath(name), &st); err != nil {
		return "", fmt.Errorf("identify network namespace %s: %w", name, err)
	}
	return fmt.Sprintf("net:[%d]", st.Ino), nil
}

// livePIDs lists the processes whose namespace of that kind is one of ids.
// Zombies do not count: they hold nothing any more.
func livePIDs(kind string, ids ...string) []int {
	entries, err := os.ReadDir("/proc")
	if err != nil {
		return nil
	}
	self := os.Getpid()
	var pids []int
	for _, e := range entries {
		pid, err := strconv.Atoi(e.Name())
		if err != nil || pid == self {
			continue
		}
		id, err := nsID(pid, kind)
		if err != nil {
			continue // gone, or a zombie
		}
		for _, want := range ids {
			if id == want && alive(pid) {
				pids = append(pids, pid)
				break
			}
		}
	}
	return pids
}

// alive says whether the process exists and still runs code. A process that
// has lost its memory is only waiting to be reaped.
func alive(pid int) bool {
	raw, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return false
	}
	i := bytes.LastIndexByte(raw, ')')
	if i < 0 || i+2 >= len(raw) || raw[i+2] == 'Z' || raw[i+2] == 'X' {
		return false
	}
	// The init of a PID namespace waits for its orphans after it has exited:
	// neither zombie nor alive. Its executable is gone by then.
	_, err = os.Readlink(fmt.Sprintf("/proc/%d/exe", pid))
	return err == nil
}

// killAll kills every process in those namespaces and waits until none runs.
func killAll(kind string, ids []string, patience time.Duration) error {
	deadline := time.Now().Add(patience)
	for {
		pids := livePIDs(kind, ids...)
		if len(pids) == 0 {
			return nil
		}
		if time.Now().After(deadline) {
			return fmt.Errorf("kill processes of the lab: %v still run after %v", pids, patience)
		}
		for _, pid := range pids {
			_ = unix.Kill(pid, unix.SIGKILL) // it may have ended meanwhile
		}
		time.Sleep(3 * time.Millisecond)
	}
}
