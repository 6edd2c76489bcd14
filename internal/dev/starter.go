package dev

import (
	"os/exec"
	"runtime"
	"syscall"
)

// starter starts processes that die with this one. The kernel sends the signal
// when the thread that started them ends, so they are all started from one
// thread that lives as long as the room.
type starter struct {
	orders chan startOrder
}

type startOrder struct {
	cmd    *exec.Cmd
	answer chan error
}

func newStarter() *starter {
	s := &starter{orders: make(chan startOrder)}
	go func() {
		// Never unlocked: the thread ends with this goroutine.
		runtime.LockOSThread()
		for o := range s.orders {
			o.answer <- o.cmd.Start()
		}
	}()
	return s
}

// start starts cmd in a process group of its own: Ctrl-C on the terminal is for
// the room, which then ends the processes in order.
func (s *starter) start(cmd *exec.Cmd) error {
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGKILL}
	o := startOrder{cmd, make(chan error, 1)}
	s.orders <- o
	return <-o.answer
}

// close ends the thread, and with it whatever still runs.
func (s *starter) close() { close(s.orders) }
