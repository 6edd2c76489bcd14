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
		before, unbroken := s.look([]string{guest}), s.pulse(way[0], guest)
		s.lifeboat("vm", "migrate", guest, host(way[1]))
		took := s.migrated(before, func(_, to int) bool { return to == way[1] }, "operator")
		t.Logf("%s has migrated from h%d to h%d within %s; its %d heartbeats meanwhile are all there", guest, way[0], way[1], took, unbroken(way[1]))
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
	s.must(os.Remove(console))
	if _, err := os.Lstat(aside); err == nil {
		s.must(os.Rename(aside, console))
	}
	s.settles(guest)
	s.untouched(before)

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
	s.migrated(s.look([]string{guest}), func(_, at int) bool { return at == to }, "operator")
	s.within(5*time.Second, "the alert is resolved", func() bool {
		alerts, err := s.Alerts(s.ctx, "")
		return err == nil && !slices.ContainsFunc(alerts, func(a *lifeboatv1.AlertView) bool {
			return strings.Contains(a.Text, guest) && a.State != "resolved"
		})
	})
	s.never("VM.START.ORDER", "VM.DUPLICATE", "VM.CONTRADICTION")
	s.end()
}

// A host is emptied live for its maintenance, and its guests go home afterwards.
func TestMaintenanceMigratesLive(t *testing.T) {
	s := begin(t, "ipmi")
	n := s.busy(false)
	guests := s.Lab.Guests(n)
	before, others := s.look(guests), s.look(s.without(guests))
	s.lifeboat("host", "maintenance", "on", host(n), "--wait")
	if on := s.Lab.Guests(n); len(on) > 0 {
		t.Errorf("h%d is in maintenance, and %v run there", n, on)
	}
	s.migrated(before, elsewhere, "maintenance")
	if h := s.hostView(n); h.Resource != "Maintenance" {
		t.Errorf("h%d is %s", n, h.Resource)
	}
	away := s.look(guests)
	s.during(2*time.Second, func() {
		if on := s.Lab.Guests(n); len(on) > 0 {
			t.Fatalf("%v came to h%d, which is in maintenance", on, n)
		}
	})
	s.lifeboat("host", "maintenance", "off", host(n))
	s.migrated(away, func(_, to int) bool { return to == n }, "failback")
	s.never("VM.START.ORDER", "VM.START", "VM.DUPLICATE", "VM.CONTRADICTION", "WORK.ERROR", "HOST.SUSPECT")
	s.untouched(others)
	s.end()
}

// The host that a guest is leaving loses its power: the guest is started elsewhere,
// once (S7).
func TestSourceDiesDuringMigration(t *testing.T) {
	s := begin(t, "ipmi")
	n := s.alone()
	guests := s.Lab.Guests(n)
	before, others := s.look(guests), s.look(s.without(guests))
	to := s.another(n)
	s.speed(n, guests[0], slow)
	s.lifeboat("vm", "migrate", guests[0], host(to))
	s.underWay(n, to, guests[0])
	cut := time.Now()
	s.must(s.Lab.PowerCut(s.ctx, n))
	took := s.restarted(before, 100*time.Second, elsewhere)
	t.Logf("%s was on its way from h%d to h%d: all guests beat again after %s", guests[0], n, to, took)
	for _, e := range s.since("HOST.DOWN", "HOST.FENCED", "WORK.WAIT", "VM.MOVE.LOST", "VM.START.ORDER", "VM.START") {
		t.Logf("%5.1f s %s", time.Unix(0, e.TimeUnixNs).Sub(cut).Seconds(), e.Text)
	}
	s.untouched(others)
	s.never("VM.DUPLICATE", "VM.CONTRADICTION")
	s.end()
}

// The host to which a guest is going loses its power: the guest runs on where it was.
func TestTargetDiesDuringMigration(t *testing.T) {
	s := begin(t, "ipmi")
	to := s.alone()
	from := s.busiest(func(n, _ int) bool { return n != to })
	guest, lost := s.Lab.Guests(from)[0], s.Lab.Guests(to)
	before, others := s.look(lost), s.look(s.without(lost))
	s.speed(from, guest, slow)
	s.lifeboat("vm", "migrate", guest, host(to))
	s.underWay(from, to, guest)
	s.must(s.Lab.PowerCut(s.ctx, to))
	a := s.notMoved(guest, "")
	t.Logf("%s was on its way from h%d to h%d: %s", guest, from, to, a.Text)
	s.restarted(before, 100*time.Second, elsewhere)
	s.untouched(others)
	s.speed(from, guest, fast)
	s.never("VM.DUPLICATE", "VM.CONTRADICTION")
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

// migrated waits until guests beat on hosts that are allowed without having booted,
// and checks that they were granted one incarnation for it and left nothing behind.
func (s *story) migrated(before snapshot, allowed func(from, to int) bool, cause string) time.Duration {
	s.Helper()
	began := time.Now()
	for g, was := range before {
		var to int
		s.within(90*time.Second-time.Since(began), fmt.Sprintf("%s has been migrated live from h%d (%s)", g, was.host, cause), func() bool {
			for _, e := range s.since("VM.MOVE") {
				if strings.Contains(e.Text, fmt.Sprintf("VM %s was migrated live from host h%d to host h", g, was.host)) && strings.Contains(e.Text, "("+cause+")") {
					on := s.Lab.Copies(g)
					to = on[0]
					return len(on) == 1
				}
			}
			return false
		})
		if !allowed(was.host, to) {
			s.Errorf("%s has been migrated from h%d to h%d", g, was.host, to)
		}
		if b, err := s.Lab.WaitBeat(s.ctx, to, g); err != nil || b.Boot != was.boot {
			s.Errorf("%s beats on h%d in boot %s (%v); it was %s", g, to, b.Boot, err, was.boot)
		}
	}
	took := time.Since(began)
	s.must(s.settled(s.ctx))
	for g, now := range s.look(keys(before)) {
		was := before[g]
		if now.boot != was.boot || now.incarnation != raised(was.incarnation) {
			s.Errorf("%s is in boot %s, incarnation %s; it was in %s, %s: want the same boot, one incarnation more", g, now.boot, now.incarnation, was.boot, was.incarnation)
		}
		if v := s.vm(g); v.Host != host(now.host) || v.Power != "PowerOn" || !v.Wanted {
			s.Errorf("%s runs on h%d, the state says %v", g, now.host, v)
		}
		s.within(15*time.Second, "its definition on the source is gone", func() bool { return !s.exists(was.host, "etc/qemu", g+".xml") })
		if out, err := s.Lab.Exec(s.ctx, now.host, "virsh", "domstate", "--reason", g); err != nil || !strings.HasPrefix(out, "running (migrated)") {
			s.Errorf("virsh domstate --reason %s on h%d: %v: %s; want running (migrated)", g, now.host, err, out)
		}
	}
	return took
}

// pulse follows a guest's heartbeats on two hosts. What it returns checks that none
// is missing until now.
func (s *story) pulse(from int, guest string) (unbroken func(to int) int) {
	s.Helper()
	first, _, err := s.Lab.LastBeat(from, guest)
	s.must(err)
	return func(to int) int {
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
		if last.Count <= first.Count {
			s.Errorf("%s has beaten %d times on h%d, and %d on h%d before", guest, last.Count, to, first.Count, from)
		}
		return last.Count - first.Count
	}
}

// unalarmed checks that nobody was bothered about a guest: alerts and events are
// numbered together.
func (s *story) unalarmed(guest string) {
	s.Helper()
	alerts, err := s.Alerts(s.ctx, "")
	s.must(err)
	for _, a := range alerts {
		if strings.Contains(a.Text, guest) && (a.Id > s.begin || a.State == "open") {
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

func keys(all snapshot) (guests []string) {
	for g := range all {
		guests = append(guests, g)
	}
	slices.Sort(guests)
	return guests
}
