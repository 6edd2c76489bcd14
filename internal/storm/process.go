package storm

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"syscall"
	"time"

	"lifeboat/internal/spawn"
)

// Process is a child that dies with this process.
type Process struct {
	Log  string // file with all it said
	cmd  *exec.Cmd
	done chan struct{}
}

// start runs a command; what it says goes to the end of a file.
func start(s *spawn.Starter, logPath string, cmd *exec.Cmd) (*Process, error) {
	log, err := os.OpenFile(logPath, os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o600)
	if err != nil {
		return nil, fmt.Errorf("open log: %w", err)
	}
	defer log.Close()
	if cmd.Stdout == nil {
		cmd.Stdout = log
	}
	cmd.Stderr = log
	if err := s.Start(cmd); err != nil {
		return nil, fmt.Errorf("start %s: %w", cmd.Path, err)
	}
	p := &Process{Log: logPath, cmd: cmd, done: make(chan struct{})}
	go func() {
		_ = cmd.Wait() // how it ended is in ProcessState
		close(p.done)
	}()
	return p, nil
}

// PID is the number of the process.
func (p *Process) PID() int { return p.cmd.Process.Pid }

// Runs says whether it has not ended.
func (p *Process) Runs() bool {
	if p == nil {
		return false
	}
	select {
	case <-p.done:
		return false
	default:
		return true
	}
}

// kill is kill -9; it returns when the process is gone.
func (p *Process) kill() {
	if p == nil {
		return
	}
	_ = p.cmd.Process.Kill() // it may be gone already
	<-p.done
}

// errStuck is a process that does not stop.
var errStuck = errors.New("it has not stopped")

// stop asks the process to end and waits.
func (p *Process) stop(ctx context.Context, within time.Duration) error {
	if err := p.cmd.Process.Signal(syscall.SIGTERM); err != nil {
		return fmt.Errorf("stop process: %w", err)
	}
	late := time.NewTimer(within)
	defer late.Stop()
	select {
	case <-p.done:
		if code := p.cmd.ProcessState.ExitCode(); code != 0 {
			return fmt.Errorf("stop process: it ended with exit code %d:\n%s", code, p.Said(1500))
		}
		return nil
	case <-late.C:
		return errStuck
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

// Said is the end of what it said, for people.
func (p *Process) Said(n int) string {
	raw, _ := os.ReadFile(p.Log) // "" when there is none
	return string(raw[max(0, len(raw)-n):])
}
