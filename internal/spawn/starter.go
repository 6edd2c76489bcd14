package spawn

import (
	"os/exec"
	"runtime"
	"syscall"
)

// Starter starts processes that die with this one. The kernel sends the signal
// when the thread that started them ends, so they are all started from one
// thread that lives as long as it. Safe for concurrent use.
type Starter struct {
	orders chan startOrder
}

type startOrder struct {
	cmd    *exec.Cmd
	answer chan error
}

// New makes a Starter. Close it.
func New() *Starter {
	s := &Starter{orders: make(chan startOrder)}
	go func() {
		// Never unlocked: the thread ends with this goroutine.
		runtime.LockOSThread()
		for o := range s.orders {
			o.answer <- o.cmd.Start()
		}
	}()
	return s
}

// Start starts cmd in a process group of its own: Ctrl-C on the terminal is for
// whoever started it, who then ends the processes in order.
func (s *Starter) Start(cmd *exec.Cmd) error {
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGKILL}
	o := startOrder{cmd, make(chan error, 1)}
	s.orders <- o
	return <-o.answer
}

// Close ends the thread, and with it whatever still runs.
func (s *Starter) Close() { close(s.orders) }
