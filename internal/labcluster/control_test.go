package labcluster

import (
	"strings"
	"syscall"
	"testing"
	"time"

	"lifeboat/internal/lab"
)

// The positive controls: what must never happen is made to happen, by settings
// that warn of it, and the guests must report it. A silent one would mean that
// the other tests prove nothing.

// An operator declares a host dead that is only cut off, with its BMC out of
// reach and no lease.
func TestControlFencingForcedOff(t *testing.T) {
	s := begin(t, "ipmi")
	n := s.busy(false)
	before := s.look(s.Lab.Guests(n))
	s.must(s.Lab.BMCDown(s.ctx, n))
	s.must(s.Lab.Isolate(s.ctx, n))
	s.happened(15*time.Second, "HOST.DOWN", host(n), "")
	s.must(s.ConfirmDead(s.ctx, n, true))
	newer := s.splitBrain(before, n, 60*time.Second)
	s.must(s.Lab.Heal(s.ctx, n))
	for g := range before {
		s.happened(30*time.Second, "VM.DUPLICATE", g, "is told to destroy its copy")
	}
	s.oneLeft(newer, n)
	for g := range before {
		alerts, err := s.Alerts(s.ctx, g)
		s.must(err)
		told := false
		for _, a := range alerts {
			told = told || a.Severity == "critical" && strings.Contains(a.Text, "ran twice")
		}
		if !told {
			t.Errorf("no alert tells of the two copies of %s: %v", g, alerts)
		}
	}
	s.end()
}

// A host hangs with its network, and its lease counts as proof without a
// watchdog that fires without the agent's help. When it goes on, its guests are
// first.
func TestControlSoftLease(t *testing.T) {
	s := begin(t, "ipmi") // and the lease only when the policy accepts it
	n := s.alone()
	s.must(s.SetPolicy(s.ctx, "accept_soft_watchdog", "true"))
	s.exchange(n, "soft")
	s.must(s.SetLevels(s.ctx, "lease"))
	s.must(s.Ready(s.ctx))
	before := s.look(s.Lab.Guests(n))
	boot := s.Lab.BootID(n)
	s.must(s.Lab.Freeze(n))
	s.must(s.Lab.Blackhole(s.ctx, n))
	s.happened(60*time.Second, "HOST.FENCED", host(n), "lease")
	for g := range before {
		s.signal(s.qemu(n, g), syscall.SIGCONT)
	}
	newer := s.splitBrain(before, n, 60*time.Second)
	s.must(s.Lab.Thaw(n))
	s.must(s.Lab.Heal(s.ctx, n))
	s.oneLeft(newer, n)
	s.isUp(n, 30*time.Second)
	if s.Lab.BootID(n) != boot {
		t.Error("the host was reset; who did that, without a watchdog?")
	}
	s.exchange(n, "external")
	s.must(s.SetPolicy(s.ctx, "accept_soft_watchdog", "false"))
	s.end()
}

// exchange gives the agent of a host another watchdog.
func (s *story) exchange(n int, kind string) {
	s.Helper()
	s.must(s.SetWatchdog(n, kind))
	s.must(s.Agent(n).Signal(syscall.SIGTERM))
	<-s.Agent(n).Done()
	s.must(s.StartAgent(n))
	s.isUp(n, 15*time.Second)
}

// splitBrain waits until every one of these guests runs elsewhere too and a
// guest has met its copy, and returns the newer copies.
func (s *story) splitBrain(older snapshot, n int, most time.Duration) snapshot {
	s.Helper()
	newer := snapshot{}
	began := time.Now()
	for g := range older {
		s.within(most-time.Since(began), g+" beats elsewhere too", func() bool {
			for _, on := range s.Lab.Copies(g) {
				if b, ok, err := s.Lab.LastBeat(on, g); on != n && err == nil && ok && !strings.Contains(older[g].past, b.Boot) {
					past, err := s.lastBoots(g)
					s.must(err)
					newer[g] = seen{host: on, boot: b.Boot, incarnation: raised(older[g].incarnation), past: past}
					return true
				}
			}
			return false
		})
	}
	var found []string
	s.within(20*time.Second, "a guest says "+lab.SplitBrain, func() bool {
		var err error
		found, err = s.SplitBrains()
		s.must(err)
		return len(found) > 0
	})
	s.Logf("as it must be: %s", found[0])
	return newer
}

// oneLeft waits until the older copies on a host are gone, checks that the newer
// ones are as they were, and forgets what they have found meanwhile.
func (s *story) oneLeft(newer snapshot, n int) {
	s.Helper()
	s.within(30*time.Second, "the older copies are gone", func() bool { return len(s.Lab.Guests(n)) == 0 })
	s.must(s.settled(s.ctx))
	s.untouched(newer)
	time.Sleep(2 * time.Second) // the newer ones look at their disks once more
	s.must(s.AcceptSplitBrains())
}
