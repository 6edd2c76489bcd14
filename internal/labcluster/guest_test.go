package labcluster

import (
	"context"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/digitalocean/go-libvirt"
)

// A guest that crashes is started again where it was, as a new incarnation.
func TestGuestCrash(t *testing.T) {
	s := begin(t, "ipmi")
	n := s.busy(false)
	guest := s.Lab.Guests(n)[0]
	defer s.watch()()
	before := s.look([]string{guest})
	s.signal(s.qemu(n, guest), syscall.SIGKILL)
	took := s.restarted(before, 30*time.Second, inPlace)
	t.Logf("%s beats again after %s", guest, took)
	s.never("HOST.SUSPECT", "HOST.DOWN")
	s.end()
}

// A guest that dies in every start on one host is started on another.
func TestGuestDiesAgainAndAgain(t *testing.T) {
	s := begin(t, "ipmi")
	n := s.busy(false)
	guest := s.Lab.Guests(n)[0]
	defer s.watch()()
	before := s.look([]string{guest})
	ctx, cancel := context.WithCancel(s.ctx)
	defer cancel()
	killed := make(chan int)
	go func() {
		deaths := 0
		for last := 0; ctx.Err() == nil; time.Sleep(2 * time.Millisecond) {
			if pid := s.qemu(n, guest); pid != 0 && syscall.Kill(pid, syscall.SIGKILL) == nil && pid != last {
				last = pid
				deaths++
			}
		}
		killed <- deaths
	}()
	var to int
	s.within(60*time.Second, guest+" beats elsewhere", func() bool {
		on := s.Lab.Copies(guest)
		if len(on) != 1 || on[0] == n {
			return false
		}
		b, ok, err := s.Lab.LastBeat(on[0], guest)
		to = on[0]
		return err == nil && ok && !strings.Contains(before[guest].past, b.Boot)
	})
	cancel()
	t.Logf("%s was killed %d times on h%d and runs on h%d", guest, <-killed, n, to)
	s.happened(time.Second, "VM.START.FAIL", guest, "failed")
	s.must(s.settled(s.ctx))
	s.end()
}

// What somebody stops by hand stays off, and is wanted on again when somebody
// starts it.
func TestStoppedByHandStaysOff(t *testing.T) {
	s := begin(t, "ipmi")
	n := s.busy(false)
	guest := s.Lab.Guests(n)[0]
	defer s.watch()()
	for _, stop := range []struct {
		name string
		by   func(*libvirt.Libvirt, libvirt.Domain) error
		text string
	}{
		{"destroy", func(c *libvirt.Libvirt, d libvirt.Domain) error { return c.DomainDestroy(d) }, "it stays off"},
		{"power off by the guest itself", func(c *libvirt.Libvirt, d libvirt.Domain) error { return c.DomainShutdown(d) }, "it stays off"},
	} {
		s.begin = s.lastEvent()
		boot := s.look([]string{guest})[guest].boot
		s.domain(n, guest, stop.by)
		s.happened(15*time.Second, "VM.STOP", guest, stop.text)
		s.during(4*time.Second, func() {
			if on := s.Lab.Copies(guest); len(on) > 0 {
				t.Fatalf("%s: %s runs again on %v", stop.name, guest, on)
			}
		})
		if v := s.vm(guest); v.Wanted || v.Power != "PowerOff" || v.WorkId != 0 {
			t.Errorf("%s: the state says %v; want it off, not wanted, no work", stop.name, v)
		}
		s.domain(n, guest, func(c *libvirt.Libvirt, d libvirt.Domain) error { return c.DomainCreate(d) })
		s.happened(15*time.Second, "VM.START", guest, "adopted")
		s.within(40*time.Second, guest+" beats", func() bool {
			b, ok, err := s.Lab.LastBeat(n, guest)
			return err == nil && ok && b.Boot != boot
		})
		if v := s.vm(guest); !v.Wanted || v.Power != "PowerOn" || v.Host != host(n) {
			t.Errorf("%s, then started: the state says %v; want it on and wanted on h%d", stop.name, v, n)
		}
		for _, e := range s.since("VM.START.ORDER", "WORK.OPEN") {
			if strings.Contains(e.Text, guest) {
				t.Errorf("%s: %s", stop.name, e.Text)
			}
		}
	}
	s.end()
}
