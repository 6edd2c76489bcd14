package lab

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"

	"golang.org/x/sys/unix"
)

// onThrowawayThread runs f on an operating system thread that ends with it, so
// f may change the thread's namespaces. It blocks until f returns.
func onThrowawayThread(f func()) {
	done := make(chan struct{})
	go func() {
		defer close(done)
		runtime.LockOSThread()
		if unix.Gettid() == unix.Getpid() {
			// The main thread never ends, and /proc/self shows its namespaces: hold it
			// here, so that the work lands on another thread, and give it back clean.
			onThrowawayThread(f)
			runtime.UnlockOSThread()
			return
		}
		f() // still locked on return: the runtime ends the thread
	}()
	<-done
}

// nsRef names one namespace to enter: a file and its CLONE_NEW… type.
type nsRef struct {
	path string
	kind int
}

// inNamespaces runs f in the given namespaces. Processes that f starts are
// born there, inside the PID namespace too when one is given.
func inNamespaces(refs []nsRef, f func() error) error {
	var err error
	onThrowawayThread(func() { err = enterAndRun(refs, f) })
	return err
}

func enterAndRun(refs []nsRef, f func() error) error {
	// All are opened first: after entering a mount namespace the paths mean something else.
	fds := make([]int, 0, len(refs))
	defer func() {
		for _, fd := range fds {
			unix.Close(fd)
		}
	}()
	for _, r := range refs {
		fd, err := unix.Open(r.path, unix.O_RDONLY|unix.O_CLOEXEC, 0)
		if err != nil {
			return fmt.Errorf("open namespace %s: %w", r.path, err)
		}
		fds = append(fds, fd)
	}
	for i, r := range refs {
		if r.kind == unix.CLONE_NEWNS {
			// Threads of a process share root and working directory; setns refuses those.
			if err := unix.Unshare(unix.CLONE_FS); err != nil {
				return fmt.Errorf("unshare file system state: %w", err)
			}
		}
		if err := unix.Setns(fds[i], r.kind); err != nil {
			return fmt.Errorf("enter namespace %s: %w", r.path, err)
		}
	}
	return f()
}

// startIn starts cmd inside the namespaces.
func startIn(refs []nsRef, cmd *exec.Cmd) error {
	if cmd.SysProcAttr != nil && cmd.SysProcAttr.Pdeathsig != 0 {
		return errors.New("start process in namespace: Pdeathsig would fire at once, because the starting thread ends; leave it unset")
	}
	return inNamespaces(refs, cmd.Start)
}

// netnsPath is where iproute2 keeps a named network namespace.
func netnsPath(name string) string { return filepath.Join("/run/netns", name) }

func netnsRef(name string) []nsRef {
	return []nsRef{{netnsPath(name), unix.CLONE_NEWNET}}
}

// hostRefs are the namespaces of the host whose init has this pid. The network
// namespace comes from the name so that a manager can share the machine but
// have its own address.
func hostRefs(initPID int, netns string) []nsRef {
	p := func(kind string) string { return fmt.Sprintf("/proc/%d/ns/%s", initPID, kind) }
	return []nsRef{
		{netnsPath(netns), unix.CLONE_NEWNET},
		{p("uts"), unix.CLONE_NEWUTS},
		{p("ipc"), unix.CLONE_NEWIPC},
		{p("pid"), unix.CLONE_NEWPID},
		{p("mnt"), unix.CLONE_NEWNS},
	}
}

// child is a started process and the moment it was reaped.
type child struct {
	cmd  *exec.Cmd
	done chan struct{} // closed once reaped; cmd.ProcessState is valid then
}

// reap waits for a started process in the background.
func reap(cmd *exec.Cmd) *child {
	c := &child{cmd: cmd, done: make(chan struct{})}
	go func() {
		defer close(c.done)
		_ = cmd.Wait() // how it ended is in ProcessState; daemons here are killed on purpose
	}()
	return c
}

// stop kills the process and waits until it is reaped. Nil-safe.
func (c *child) stop() {
	if c == nil {
		return
	}
	_ = c.cmd.Process.Kill() // fails only when it is gone already
	<-c.done
}

func (c *child) running() bool {
	if c == nil {
		return false
	}
	select {
	case <-c.done:
		return false
	default:
		return true
	}
}

// logFile opens a daemon's log for appending. The caller closes it after start.
func logFile(path string) (*os.File, error) {
	f, err := os.OpenFile(path, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o644)
	if err != nil {
		return nil, fmt.Errorf("open log: %w", err)
	}
	return f, nil
}
