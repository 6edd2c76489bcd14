package labcluster

import (
	"syscall"
	"testing"
	"time"
)

// A host whose agent has crashed is seen alive: nothing is done to it or its
// guests.
func TestAgentCrashWithoutLease(t *testing.T) {
	s := begin(t, "ipmi")
	n := s.busy(false)
	before := s.look(s.Guests)
	defer s.watch()()
	s.Agent(n).Kill()
	s.within(15*time.Second, host(n)+" is Degraded", func() bool { return s.hostView(n).Ha == "Degraded" })
	s.during(12*time.Second, func() { s.never("HOST.DOWN", "HOST.FENCE.ATTEMPT", "VM.START.ORDER") })
	s.untouched(before)
	s.must(s.StartAgent(n))
	s.isUp(n, 10*time.Second)
	s.end()
	s.untouched(before)
}

// With a lease the watchdog resets the host when nobody pets it any more.
func TestAgentCrashWithLease(t *testing.T) {
	s := begin(t, "lease")
	n := s.busy(false)
	boot := s.Lab.BootID(n)
	before := s.look(s.Lab.Guests(n))
	others := s.look(s.without(s.Lab.Guests(n)))
	defer s.watch()()
	s.Agent(n).Kill()
	s.within(8*time.Second, "the watchdog resets the host", func() bool { return s.Lab.BootID(n) != boot })
	took := s.restarted(before, 60*time.Second, anywhere)
	t.Logf("all guests beat again %s after the reset", took)
	s.untouched(others)
	s.end()
}

// An agent that is stopped cleanly leaves its guests alone, also under a lease.
func TestAgentStops(t *testing.T) {
	s := begin(t, "ipmi", "lease")
	n := s.busy(false)
	before := s.look(s.Guests)
	defer s.watch()()
	s.must(s.Agent(n).Signal(syscall.SIGTERM))
	select {
	case <-s.Agent(n).Done():
	case <-time.After(10 * time.Second):
		t.Fatal("the agent does not end")
	}
	if st := s.Agent(n).State(); !st.Success() {
		t.Errorf("the agent ended with %v", st)
	}
	s.within(3*time.Second, host(n)+" is Disconnected, without a lease", func() bool {
		h := s.hostView(n)
		return h.Status == "Disconnected" && !h.GetLease().GetArmed()
	})
	s.during(15*time.Second, func() { s.never("HOST.DOWN", "HOST.FENCE.ATTEMPT", "VM.START.ORDER") })
	s.untouched(before)
	s.must(s.StartAgent(n))
	s.isUp(n, 10*time.Second)
	s.end()
	s.untouched(before)
}
