package lab

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
)

// Program is a long-running process that [Lab.Start] or [Lab.StartInManager]
// has started. Its pid is that of the real machine's process table.
type Program struct {
	child *child
	log   string
}

// Start starts cmd inside the host, as [Lab.RunIn] does, with its output
// appended to logName.log in [Lab.HostDir]. The program dies with the host and
// is not started again; [Lab.OnBoot] is the place for that.
func (l *Lab) Start(n int, logName string, cmd *exec.Cmd) (*Program, error) {
	return startProgram(filepath.Join(l.HostDir(n), logName+".log"), cmd, func() error { return l.RunIn(n, cmd) })
}

// StartInManager does the same on a manager, as [Lab.RunInManager] does, with
// its output in [Lab.ManagerDir].
func (l *Lab) StartInManager(n int, logName string, cmd *exec.Cmd) (*Program, error) {
	return startProgram(filepath.Join(l.ManagerDir(n), logName+".log"), cmd, func() error { return l.RunInManager(n, cmd) })
}

func startProgram(path string, cmd *exec.Cmd, start func() error) (*Program, error) {
	out, err := logFile(path)
	if err != nil {
		return nil, fmt.Errorf("start %s: %w", cmd.Path, err)
	}
	defer out.Close()
	cmd.Stdout, cmd.Stderr = out, out
	if err := start(); err != nil {
		return nil, err
	}
	return &Program{child: reap(cmd), log: path}, nil
}

// Done is closed once the program has ended, however it ended.
func (p *Program) Done() <-chan struct{} { return p.child.done }

// State is how the program ended; nil while it runs.
func (p *Program) State() *os.ProcessState {
	if p.child.running() {
		return nil
	}
	return p.child.cmd.ProcessState
}

// Pid is the program's process id, outside the lab.
func (p *Program) Pid() int { return p.child.cmd.Process.Pid }

// Signal sends a signal; to a program that has ended it is an error.
func (p *Program) Signal(sig os.Signal) error {
	if err := p.child.cmd.Process.Signal(sig); err != nil {
		return fmt.Errorf("signal %s: %w", p.child.cmd.Path, err)
	}
	return nil
}

// Kill is kill -9; it returns when the program is gone.
func (p *Program) Kill() { p.child.stop() }

// LogPath is the file with the program's output, over all its lives.
func (p *Program) LogPath() string { return p.log }

// Exec runs a program inside the host to its end and returns its output, stdout
// and stderr together. When ctx ends first, the program is killed. The error
// holds the last line of the output.
func (l *Lab) Exec(ctx context.Context, n int, name string, args ...string) (string, error) {
	return execute(ctx, name, args, func(cmd *exec.Cmd) error { return l.RunIn(n, cmd) })
}

// ExecInManager does the same on a manager.
func (l *Lab) ExecInManager(ctx context.Context, n int, name string, args ...string) (string, error) {
	return execute(ctx, name, args, func(cmd *exec.Cmd) error { return l.RunInManager(n, cmd) })
}

func execute(ctx context.Context, name string, args []string, start func(*exec.Cmd) error) (string, error) {
	cmd := exec.CommandContext(ctx, tool(name), args...)
	var out strings.Builder
	cmd.Stdout, cmd.Stderr = &out, &out
	if err := start(cmd); err != nil {
		return "", err
	}
	err := cmd.Wait()
	text := strings.TrimSpace(out.String())
	if err != nil {
		if ctx.Err() != nil {
			err = ctx.Err()
		}
		return text, fmt.Errorf("run %s: %w: %s", name, err, lastLine([]byte(text)))
	}
	return text, nil
}
