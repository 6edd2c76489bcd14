// Package child runs the helper programs of fence drivers: bounded in time and
// output, with nothing secret on the command line, and nothing left running
// behind a cancelled context. Only fence's drivers use it.
package child

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"runtime"
	"strings"
	"syscall"
	"time"
)

// maxOutput bounds what is kept of each output stream.
const maxOutput = 64 << 10

// Command is a program to run. It gets only the environment named here (and a
// PATH), so that nothing of ours leaks into it.
type Command struct {
	Path  string
	Args  []string
	Env   []string // secrets go here (or to Stdin), never to Args
	Stdin string
}

// Result is what a program that ended by itself left behind.
type Result struct {
	Stdout, Stderr string
	Code           int
}

// Run runs c in a session of its own and waits. When ctx ends the whole process
// group is killed and ctx's error is returned; a program that ends by itself,
// with whatever code, is no error.
func Run(ctx context.Context, c Command) (Result, error) {
	// The kernel sends Pdeathsig when the *thread* that forked ends, so the
	// thread is held until the child is gone.
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()

	var stdout, stderr bounded
	cmd := exec.CommandContext(ctx, c.Path, c.Args...)
	cmd.Env = append([]string{"PATH=" + searchPath(), "LC_ALL=C", "HOME=/"}, c.Env...)
	cmd.Stdin = strings.NewReader(c.Stdin)
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	cmd.Dir = "/"
	// A new session: no terminal to ask for passwords on, and a group to kill.
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true, Pdeathsig: syscall.SIGKILL}
	cmd.Cancel = func() error { return syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL) }
	cmd.WaitDelay = time.Second

	err := cmd.Run()
	result := Result{Stdout: stdout.String(), Stderr: stderr.String()}
	if cmd.ProcessState != nil {
		result.Code = cmd.ProcessState.ExitCode()
	}
	var exit *exec.ExitError
	switch {
	case ctx.Err() != nil:
		return result, ctx.Err()
	case err == nil:
		return result, nil
	case errors.As(err, &exit):
		if exit.ExitCode() < 0 {
			return result, fmt.Errorf("run %s: %s", c.Path, exit.String())
		}
		return result, nil
	default:
		return result, fmt.Errorf("run %s: %w", c.Path, err)
	}
}

func searchPath() string {
	if p := os.Getenv("PATH"); p != "" {
		return p
	}
	return "/usr/sbin:/usr/bin:/sbin:/bin"
}

// bounded keeps the first maxOutput bytes and swallows the rest, so that a
// chatty program is neither stopped nor stored. The buffer is not embedded: its
// ReadFrom would let io.Copy go past Write.
type bounded struct{ kept bytes.Buffer }

func (b *bounded) Write(p []byte) (int, error) {
	if room := maxOutput - b.kept.Len(); room > 0 {
		b.kept.Write(p[:min(room, len(p))])
	}
	return len(p), nil
}

func (b *bounded) String() string { return b.kept.String() }
