package labcluster

import (
	"fmt"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/digitalocean/go-libvirt"

	lifeboatv1 "lifeboat/api/lifeboat/v1"
)

// A guest is migrated to another host and back. It never stops: the boot and the
// count of its heartbeats go on, on the console of the other host.
func TestLiveMigration(t *testing.T) {
	s := begin(t, "ipmi")
	from := s.busy(false)
	guest := s.Lab.Guests(from)[0]
	others := s.look(s.without([]string{guest}))
	to := s.another(from)
	for _, way := range [][2]int{{from, to}, {to, from}} {
		before, gap := s.look([]string{guest}), s.pulse(way[0], guest)
		s.lifeboat("vm", "migrate", guest, host(way[1]))
		took := s.migrated(before, way[1], "operator")
		t.Logf("%s has migrated from h%d to h%d within %s; between two heartbeats it took %s at most", guest, way[0], way[1], took, gap(way[1]))
	}
	s.never("VM.START.ORDER", "VM.START", "VM.DUPLICATE", "VM.CONTRADICTION", "VM.STOP", "HOST.SUSPECT")
	s.unalarmed(guest)
	s.untouched(others)
	s.end()
}

// A migration that comes to nothing leaves the guest where it was, and the alert
// says why.
func TestLiveMigrationFails(t *testing.T) {
	s := begin(t, "ipmi")
	from := s.busy(false)
	guest := s.Lab.Guests(from)[0]
	to := s.another(from)
	before := s.look(s.Guests)

	// qemu on the target lacks something: the console is no file there.
	console := s.onDisk(to, "log/qemu", guest+".console")
	aside := console + ".aside"
	if s.exists(to, "log/qemu", guest+".console") {
		s.must(os.Rename(console, aside))
	}
	s.must(os.Mkdir(console, 0o700))
	s.lifeboat("vm", "migrate", guest, host(to))
	a := s.notMoved(guest, "Is a directory")
	t.Logf("the target cannot start it: %s", a.Text)
	s.settles(guest)
	s.untouched(before)
	s.must(os.Remove(console))
	if _, err := os.Lstat(aside); err == nil {
		s.must(os.Rename(aside, console))
	}

	// It takes long, and an operator calls it off.
	s.speed(from, guest, slow)
	s.lifeboat("vm", "migrate", guest, host(to))
	s.underWay(from, to, guest)
	s.lifeboat("work", "cancel", fmt.Sprint(s.vm(guest).WorkId))
	e := s.happened(30*time.Second, "WORK.CANCEL", guest, "called off")
	t.Logf("called off: %s", e.Text)
	s.settles(guest)
	s.untouched(before)
	s.speed(from, guest, fast)

	// The hosts do not reach each other; all else does. libvirt would wait for long.
	s.must(s.Lab.Partition(s.ctx, host(from), host(to)))
	s.lifeboat("vm", "migrate", guest, host(to))
	s.happened(15*time.Second, "VM.MOVE.ORDER", guest, host(to))
	s.during(3*time.Second, func() { s.never("HOST.DOWN") })
	s.lifeboat("work", "cancel", fmt.Sprint(s.vm(guest).WorkId))
	s.during(3*time.Second, func() { s.never("HOST.DOWN") })
	s.must(s.Lab.HealPartition(s.ctx, host(from), host(to)))
	s.settles(guest)
	s.untouched(before)

	// The reason is gone, and so is the alert when it has moved.
	s.begin = s.lastEvent()
	s.lifeboat("vm", "migrate", guest, host(to))
	s.migrated(pick(before, guest), to, "operator")
	s.within(5*time.Second, "the alert is resolved", func() bool {
		alerts, err := s.Alerts(s.ctx, "")
		return err == nil && !slices.ContainsFunc(alerts, func(a *lifeboatv1.AlertView) bool {
			return strings.Contains(a.Text, guest) && a.State != "resolved"
		})
	})
	s.never("VM.START.ORDER", "VM.DUPLICATE", "VM.CONTRADICTION")
	s.end()
}

// slow is a speed of migration in MiB/s at which a guest takes most of a minute;
// fast has no limit.
const (
	slow = 1
	fast = 8 << 20
)

// another is the host with the fewest guests among the others.
func (s *story) another(not int) int {
	best := 0
	for n := 1; n <= hosts; n++ {
		if n != not && (best == 0 || len(s.Lab.Guests(n)) < len(s.Lab.Guests(best))) {
			best = n
		}
	}
	return best
}

// migrated waits until guests beat on a host without having booted, and checks
// that they were granted one incarnation for it and left nothing behind.
func (s *story) migrated(before snapshot, to int, cause string) time.Duration {
	s.Helper()
	began := time.Now()
	for g, was := range before {
		s.happened(90*time.Second, "VM.MOVE", g, fmt.Sprintf("was migrated live from host h%d to host h%d (%s)", was.host, to, cause))
		s.within(15*time.Second, g+" has one process, and it beats", func() bool {
			b, ok, err := s.Lab.LastBeat(to, g)
			return slices.Equal(s.Lab.Copies(g), []int{to}) && err == nil && ok && b.Boot == was.boot
		})
	}
	took := time.Since(began)
	s.must(s.settled(s.ctx))
	for g, now := range s.look(keys(before)) {
		was := before[g]
		if now.host != to || now.boot != was.boot || now.incarnation != raised(was.incarnation) {
			s.Errorf("%s is on h%d in boot %s, incarnation %s; it was on h%d in %s, %s: want the same boot on h%d, one incarnation more",
				g, now.host, now.boot, now.incarnation, was.host, was.boot, was.incarnation, to)
		}
		if v := s.vm(g); v.Host != host(to) || v.Power != "PowerOn" || !v.Wanted {
			s.Errorf("%s runs on h%d, the state says %v", g, to, v)
		}
		s.within(15*time.Second, "its definition on the source is gone", func() bool { return !s.exists(was.host, "etc/qemu", g+".xml") })
		if out, err := s.Lab.Exec(s.ctx, to, "virsh", "domstate", "--reason", g); err != nil || !strings.HasPrefix(out, "running (migrated)") {
			s.Errorf("virsh domstate --reason %s on h%d: %v: %s; want running (migrated)", g, to, err, out)
		}
	}
	return took
}

// pulse follows a guest's heartbeats on two hosts. What it returns says how long it
// was between two, and checks that none is missing.
func (s *story) pulse(from int, guest string) func(to int) time.Duration {
	s.Helper()
	first, _, err := s.Lab.LastBeat(from, guest)
	s.must(err)
	return func(to int) (most time.Duration) {
		s.Helper()
		last, _, err := s.Lab.LastBeat(to, guest)
		s.must(err)
		seen := map[int]bool{}
		for _, n := range []int{from, to} {
			text, err := s.Lab.GuestLog(n, guest)
			s.must(err)
			for line := range strings.Lines(text) {
				count := 0
				if _, err := fmt.Sscanf(line, "HB vm="+guest+" boot="+first.Boot+" n=%d", &count); err == nil {
					seen[count] = true
				}
			}
		}
		for i := first.Count; i <= last.Count; i++ {
			if !seen[i] {
				s.Errorf("heartbeat %d of %s is missing between %d and %d", i, guest, first.Count, last.Count)
			}
		}
		beats := max(1, last.Count-first.Count)
		return (last.At.Sub(first.At) / time.Duration(beats)).Round(time.Millisecond)
	}
}

// unalarmed checks that nobody was bothered about a guest.
func (s *story) unalarmed(guest string) {
	s.Helper()
	alerts, err := s.Alerts(s.ctx, "")
	s.must(err)
	for _, a := range alerts {
		if strings.Contains(a.Text, guest) && a.Index > s.begin {
			s.Errorf("alert: %s", a.Text)
		}
	}
}

// notMoved waits for the alert that a guest could not be migrated.
func (s *story) notMoved(guest, why string) (found *lifeboatv1.AlertView) {
	s.Helper()
	s.within(60*time.Second, "an alert that "+guest+" could not be migrated: "+why, func() bool {
		alerts, err := s.Alerts(s.ctx, "")
		for _, a := range alerts {
			if strings.Contains(a.Text, guest+" could not be migrated live") && strings.Contains(a.Text, why) && a.State != "resolved" {
				found = a
			}
		}
		return err == nil && found != nil
	})
	return found
}

// settles waits until no work of a guest is open, and it has one process.
func (s *story) settles(guest string) {
	s.Helper()
	s.within(60*time.Second, "the work of "+guest+" has ended", func() bool { return s.vm(guest).WorkId == 0 && len(s.Lab.Copies(guest)) == 1 })
}

// speed limits migrations of a guest, by hand.
func (s *story) speed(n int, guest string, mib uint64) {
	s.Helper()
	s.domain(n, guest, func(c *libvirt.Libvirt, d libvirt.Domain) error { return c.DomainMigrateSetMaxSpeed(d, mib, 0) })
}

// underWay waits until qemu is copying a guest to another host.
func (s *story) underWay(from, to int, guest string) {
	s.Helper()
	s.within(30*time.Second, guest+" is on its way", func() bool {
		out, err := s.Lab.Exec(s.ctx, from, "virsh", "domjobinfo", guest)
		return len(s.Lab.Copies(guest)) == 2 && err == nil && strings.Contains(out, "Unbounded") && !strings.Contains(out, "Data processed:   0")
	})
}

func pick(all snapshot, guest string) snapshot { return snapshot{guest: all[guest]} }

func keys(all snapshot) (guests []string) {
	for g := range all {
		guests = append(guests, g)
	}
	slices.Sort(guests)
	return guests
}
