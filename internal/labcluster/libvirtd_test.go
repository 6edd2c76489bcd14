package labcluster

import (
	"syscall"
	"testing"
	"time"
)

// Without libvirtd a host lives, and so do its guests.
func TestLibvirtdStops(t *testing.T) {
	s := begin(t, "ipmi", "lease")
	n := s.busy(false)
	before := s.look(s.Guests)
	defer s.watch()()
	s.must(s.Lab.StopLibvirtd(n))
	s.during(12*time.Second, func() { s.never("HOST.SUSPECT", "HOST.DOWN", "VM.START.ORDER") })
	s.untouched(before)
	s.must(s.Lab.StartLibvirtd(n))
	s.must(s.Lab.WaitLibvirtd(s.ctx, n))
	s.isUp(n, 5*time.Second)
	s.end()
	s.untouched(before)
}

// Nor does it die when libvirtd hangs, which takes its answers but no
// connection.
func TestLibvirtdHangs(t *testing.T) {
	s := begin(t, "ipmi", "lease")
	n := s.busy(false)
	before := s.look(s.Guests)
	defer s.watch()()
	pid := s.process(n, "libvirtd", "--listen")
	s.signal(pid, syscall.SIGSTOP)
	defer syscall.Kill(pid, syscall.SIGCONT)
	s.during(15*time.Second, func() { s.never("HOST.SUSPECT", "HOST.DOWN", "VM.START.ORDER") })
	s.untouched(before)
	s.signal(pid, syscall.SIGCONT)
	s.isUp(n, 5*time.Second)
	s.end()
	s.untouched(before)
}
