package dev

import (
	"context"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"sync"
	"syscall"
	"time"
)

// process is one child: a management node or an agent.
type process struct {
	name  string
	cmd   *exec.Cmd
	stdin io.WriteCloser
	pid   string        // file that names it, for the next room
	done  chan struct{} // closed when it has ended

	mu     sync.Mutex
	wanted bool  // its end was asked for
	err    error // how it ended
}

// launch starts this program with args; what it says goes to the end of the log.
func (r *Room) launch(name string, args ...string) (*process, error) {
	log, err := os.OpenFile(r.path("log", name+".log"), os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o600)
	if err != nil {
		return nil, fmt.Errorf("open log of %s: %w", name, err)
	}
	defer log.Close()
	cmd := exec.Command(r.opts.Program, args...)
	cmd.Args[0] = "lifeboat" // whatever its file is called, in ps and to itself
	cmd.Dir, cmd.Stdout, cmd.Stderr = r.opts.Dir, log, log
	in, err := cmd.StdinPipe()
	if err != nil {
		return nil, fmt.Errorf("start %s: %w", name, err)
	}
	if err := r.starter.Start(cmd); err != nil {
		return nil, fmt.Errorf("start %s: %w", name, err)
	}
	p := &process{name: name, cmd: cmd, stdin: in, pid: r.path("pids", name), done: make(chan struct{})}
	// Losing this file costs nothing as long as the kernel kills the children.
	_ = os.WriteFile(p.pid, []byte(strconv.Itoa(cmd.Process.Pid)+"\n"), 0o600)
	go func() {
		err := cmd.Wait()
		p.mu.Lock()
		p.err = err
		wanted := p.wanted
		p.mu.Unlock()
		_ = os.Remove(p.pid)
		close(p.done)
		if !wanted {
			r.surprised(p, err)
		}
	}()
	return p, nil
}

func (p *process) running() bool {
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

// signal sends s and notes that the end is ours.
func (p *process) signal(s syscall.Signal) {
	p.mu.Lock()
	p.wanted = true
	p.mu.Unlock()
	_ = p.cmd.Process.Signal(s) // it may be gone already
}

// kill ends it at once, and waits until it has ended.
func (p *process) kill() {
	if p == nil {
		return
	}
	p.signal(syscall.SIGKILL)
	<-p.done
}

// stop asks it to end, and kills it when it has not within the time.
func (p *process) stop(within time.Duration) {
	if p == nil {
		return
	}
	p.signal(syscall.SIGTERM)
	ctx, cancel := context.WithTimeout(context.Background(), within)
	defer cancel()
	select {
	case <-p.done:
	case <-ctx.Done():
		p.kill()
	}
}

// stopAll stops several at once.
func stopAll(ps []*process, within time.Duration) {
	var all sync.WaitGroup
	for _, p := range ps {
		all.Go(func() { p.stop(within) })
	}
	all.Wait()
}

// killLeftovers ends processes of an earlier room in this directory. A number
// in a file may belong to another process by now: only those that run one of
// our configuration files are ours.
func killLeftovers(dir string) {
	files, _ := filepath.Glob(filepath.Join(dir, "pids", "*"))
	for _, f := range files {
		text, err := os.ReadFile(f)
		if err != nil {
			continue
		}
		pid, err := strconv.Atoi(string(trimSpace(text)))
		if err != nil || pid <= 1 {
			continue
		}
		if runs(pid, filepath.Join(dir, filepath.Base(f)+".yaml")) {
			_ = syscall.Kill(pid, syscall.SIGKILL)
		}
	}
}
