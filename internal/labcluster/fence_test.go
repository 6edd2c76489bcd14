package labcluster

import (
	"strings"
	"testing"
	"time"
)

// A dead BMC on a dead host does not hang the failover: the lease proves it.
func TestDeadBMC(t *testing.T) {
	s := begin(t, "ipmi", "lease")
	n := s.busy(false)
	before := s.look(s.Lab.Guests(n))
	defer s.watch()()
	s.must(s.Lab.BMCDown(s.ctx, n))
	s.must(s.Lab.PowerCut(s.ctx, n))
	took := s.restarted(before, barLease+20*time.Second, elsewhere)
	e := s.happened(time.Second, "HOST.FENCED", host(n), "lease")
	t.Logf("guests beat after %s: %s", took, e.Text)
	s.end()
}

// A BMC that says "done" and does nothing proves nothing.
func TestLyingBMC(t *testing.T) {
	s := begin(t, "ipmi")
	n := s.busy(false)
	guests := s.Lab.Guests(n)
	before := s.look(guests)
	defer s.watch()()
	s.must(s.Lab.BMCLie(n))
	s.must(s.Lab.Isolate(s.ctx, n)) // silent, with power, and nobody can see it
	e := s.happened(30*time.Second, "HOST.FENCE.FAIL", host(n), "")
	s.during(5*time.Second, func() { s.never("HOST.FENCED", "VM.START.ORDER") })
	for g, was := range before {
		if on := s.Lab.Copies(g); len(on) != 1 || on[0] != was.host {
			t.Errorf("%s has a process on %v while its BMC lies", g, on)
		}
	}
	t.Logf("the attempt failed: %s", e.Text)
	s.must(s.Lab.BMCHeal(n))
	took := s.restarted(before, 45*time.Second, elsewhere)
	t.Logf("guests beat %s after the BMC was repaired", took)
	s.end()
}

// A host that falls silent with its carrier up is fenced through its BMC.
func TestSilentDrop(t *testing.T) {
	s := begin(t, "ipmi")
	n := s.busy(false)
	guests := s.Lab.Guests(n)
	before, others := s.look(guests), s.look(s.without(guests))
	defer s.watch()()
	s.must(s.Lab.Blackhole(s.ctx, n))
	took := s.restarted(before, 45*time.Second, elsewhere)
	t.Logf("all guests beat after %s", took)
	if s.Lab.Powered(n) {
		t.Error("its guests run elsewhere, and the host has power")
	}
	s.untouched(others)
	s.end()
}

// A BMC that answers with errors proves nothing. The host was only cut off, and
// goes on with its guests.
func TestErringBMC(t *testing.T) {
	s := begin(t, "ipmi")
	n := s.busy(false)
	before := s.look(s.Guests)
	boot := s.Lab.BootID(n)
	defer s.watch()()
	s.must(s.Lab.BMCFail(n))
	s.must(s.Lab.Blackhole(s.ctx, n))
	e := s.happened(30*time.Second, "HOST.FENCE.FAIL", host(n), "")
	t.Logf("the attempt failed: %s", e.Text)
	s.must(s.Lab.Heal(s.ctx, n))
	s.isUp(n, 40*time.Second)
	s.never("HOST.FENCED", "VM.START.ORDER")
	if s.Lab.BootID(n) != boot {
		t.Error("the host was reset")
	}
	s.end()
	s.untouched(before)
}

// A BMC that nobody can reach proves nothing. An operator who has looked says
// that the host is dead; nothing is heard from it, so that needs no force (S24).
func TestUnreachableBMC(t *testing.T) {
	s := begin(t, "ipmi")
	n := s.busy(false)
	before := s.look(s.Lab.Guests(n))
	defer s.watch()()
	s.must(s.Lab.BMCDown(s.ctx, n))
	s.must(s.Lab.PowerCut(s.ctx, n))
	e := s.happened(45*time.Second, "HOST.FENCE.FAIL", host(n), "")
	t.Logf("the attempt failed: %s", e.Text)
	s.during(3*time.Second, func() { s.never("HOST.FENCED", "VM.START.ORDER") })
	s.must(s.ConfirmDead(s.ctx, n, false))
	took := s.restarted(before, 30*time.Second, elsewhere)
	t.Logf("all guests beat %s after the operator's word", took)
	s.end()
}

// A host that is cut off stops its guests itself before they start elsewhere,
// and is Up again when the cable is back.
func TestIsolatedHost(t *testing.T) { isolated(t, false) }

// The same when the leader is cut off with it: it fences nobody.
func TestIsolatedLeader(t *testing.T) { isolated(t, true) }

func isolated(t *testing.T, leader bool) {
	s := begin(t, "lease")
	n := s.busy(leader)
	guests := s.Lab.Guests(n)
	before := s.look(guests)
	others := s.look(s.without(guests))
	boot := s.Lab.BootID(n)
	defer s.watch()()
	began := time.Now()
	s.must(s.Lab.Isolate(s.ctx, n))
	s.within(20*time.Second, "the guests are stopped by their host", func() bool { return len(s.Lab.Guests(n)) == 0 })
	t.Logf("stopped by their host after %s", time.Since(began))
	s.restarted(before, 60*time.Second, elsewhere)
	t.Logf("all guests beat elsewhere after %s", time.Since(began))
	s.must(s.Lab.Heal(s.ctx, n))
	s.isUp(n, 30*time.Second)
	if s.Lab.BootID(n) != boot {
		t.Error("the host was reset, although it had stopped its guests in time")
	}
	s.during(3*time.Second, func() {
		if on := s.Lab.Guests(n); len(on) > 0 {
			t.Fatalf("%v run on the host again", on)
		}
	})
	s.untouched(others)
	s.never("VM.DUPLICATE", "VM.CONTRADICTION")
	s.end()
}

// A host that freezes and goes on when its guests run elsewhere is the nastiest
// case: the watchdog resets it before.
func TestFrozenHost(t *testing.T) {
	s := begin(t, "lease")
	n := s.busy(false)
	before := s.look(s.Lab.Guests(n))
	boot := s.Lab.BootID(n)
	defer s.watch()()
	s.must(s.Lab.Freeze(n))
	s.within(10*time.Second, "the watchdog resets the host", func() bool { return s.Lab.BootID(n) != boot })
	took := s.restarted(before, 60*time.Second, anywhere)
	t.Logf("all guests beat again %s after the reset", took)
	_ = s.Lab.Thaw(n)
	s.end()
}

// Without a lease, a host that freezes is not dead as long as its kernel
// answers: nobody fences it, and it goes on with its guests.
func TestFrozenHostWithoutLease(t *testing.T) {
	s := begin(t, "ipmi")
	n := s.busy(false)
	before := s.look(s.Guests)
	defer s.watch()()
	s.must(s.Lab.Freeze(n))
	s.within(15*time.Second, host(n)+" is Degraded", func() bool { return s.hostView(n).Ha == "Degraded" })
	s.during(5*time.Second, func() { s.never("HOST.DOWN", "HOST.FENCE.ATTEMPT", "VM.START.ORDER") })
	s.must(s.Lab.Thaw(n))
	s.isUp(n, 20*time.Second)
	s.end()
	s.untouched(before)
}

// A host that is frozen for a moment only, again and again, is nobody's death.
func TestShortFreezes(t *testing.T) {
	s := begin(t, "ipmi", "lease")
	n := s.busy(false)
	before := s.look(s.Guests)
	defer s.watch()()
	for range 3 {
		s.must(s.Lab.Freeze(n))
		time.Sleep(1500 * time.Millisecond)
		s.must(s.Lab.Thaw(n))
		time.Sleep(1500 * time.Millisecond)
	}
	s.never("HOST.DOWN", "HOST.FENCE.ATTEMPT", "VM.START.ORDER")
	s.end()
	s.untouched(before)
}

// without lists the guests that are not among these.
func (s *story) without(guests []string) (out []string) {
	for _, g := range s.Guests {
		if !strings.Contains(" "+strings.Join(guests, " ")+" ", " "+g+" ") {
			out = append(out, g)
		}
	}
	return out
}
