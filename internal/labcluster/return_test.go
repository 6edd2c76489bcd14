package labcluster

import (
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/digitalocean/go-libvirt"

	"lifeboat/internal/lab"
)

// S8: a host that was fenced comes back with all that could start a guest: its
// definition, the autostart flag, a managed save, and somebody who asks for it
// as libvirt-guests and people do. Nothing starts, and all of it goes.
func TestS8ReturnOfTheDead(t *testing.T) {
	s := begin(t, "ipmi")
	n := s.busy(false)
	guests := s.Lab.Guests(n)
	before := s.look(guests)
	defer s.watch()()
	s.HoldAgent(n, true) // libvirtd is first at the next boot
	defer s.HoldAgent(n, false)
	s.must(s.Lab.Blackhole(s.ctx, n))
	// Of what happens there now, nobody hears.
	s.domain(n, guests[0], func(c *libvirt.Libvirt, d libvirt.Domain) error { return c.DomainManagedSave(d, 0) })
	definition := map[string]string{}
	for _, g := range guests {
		s.domain(n, g, func(c *libvirt.Libvirt, d libvirt.Domain) (err error) {
			definition[g], err = c.DomainGetXMLDesc(d, libvirt.DomainXMLInactive)
			return err
		})
	}
	s.restarted(before, 60*time.Second, elsewhere)
	now := s.look(guests)
	if s.Lab.Powered(n) {
		t.Fatal("the host was not fenced")
	}
	for _, g := range guests { // while it is off: its agent cannot clear them
		s.must(os.MkdirAll(s.onDisk(n, "etc/qemu/autostart"), 0o700))
		s.must(os.Symlink("/etc/libvirt/qemu/"+g+".xml", s.onDisk(n, "etc/qemu/autostart", g+".xml")))
	}
	s.must(s.Lab.Heal(s.ctx, n))
	s.must(s.Lab.PowerOn(s.ctx, n))
	s.must(s.Lab.WaitLibvirtd(s.ctx, n))
	for _, g := range guests {
		s.there(n, "etc/qemu", g+".xml")
		s.there(n, "etc/qemu/autostart", g+".xml")
		s.refused(n, g, "has not heard from the managers since this machine booted")
	}
	s.there(n, "lib/qemu/save", guests[0]+".save")
	s.during(3*time.Second, func() {
		if on := s.Lab.Guests(n); len(on) > 0 {
			t.Fatalf("%v run on the host that is back", on)
		}
	})
	log, err := os.ReadFile(s.onDisk(n, "log/libvirtd.log"))
	s.must(err)
	if !strings.Contains(string(log), "lifeboat refuses to prepare VM "+guests[0]) && !strings.Contains(string(log), "lifeboat refuses to restore VM "+guests[0]) {
		t.Error("libvirtd did not try to start what has the autostart flag; this test proves nothing about it")
	}

	s.HoldAgent(n, false)
	s.must(s.StartAgent(n))
	s.isUp(n, 30*time.Second)
	for _, g := range guests {
		s.within(15*time.Second, "the relics of "+g+" are gone", func() bool {
			return !s.exists(n, "etc/qemu", g+".xml") && !s.exists(n, "etc/qemu/autostart", g+".xml") && !s.exists(n, "lib/qemu/save", g+".save")
		})
	}
	s.untouched(now)

	// Somebody has kept the definition.
	g := guests[0]
	s.must(s.Lab.Libvirt(s.ctx, n, func(c *libvirt.Libvirt) error {
		_, err := c.DomainDefineXML(definition[g])
		return err
	}))
	s.refused(n, g, "has given the VM up")
	s.domain(n, g, func(c *libvirt.Libvirt, d libvirt.Domain) error { return c.DomainUndefine(d) })
	s.untouched(now)
	s.end()
}

// S8: the hook in a real libvirtd, with the agent's ledger and without.
func TestS8Hook(t *testing.T) {
	s := begin(t, "ipmi")
	n := s.busy(false)
	g := s.Lab.Guests(n)[0]
	defer s.watch()()
	boot := s.look([]string{g})[g].boot

	s.domain(n, g, func(c *libvirt.Libvirt, d libvirt.Domain) error { return c.DomainSetAutostart(d, 1) })
	s.within(10*time.Second, "the agent clears the autostart flag", func() bool { return !s.exists(n, "etc/qemu/autostart", g+".xml") })

	s.domain(n, g, func(c *libvirt.Libvirt, d libvirt.Domain) error { return c.DomainDestroy(d) })
	s.happened(15*time.Second, "VM.STOP", g, "it stays off")
	s.must(s.Agent(n).Signal(syscall.SIGTERM))
	<-s.Agent(n).Done()

	stranger, err := s.Lab.DomainXML(lab.GuestSpec{Name: "own", Kind: lab.BIOSGuest})
	s.must(err)
	s.must(s.Lab.Libvirt(s.ctx, n, func(c *libvirt.Libvirt) error {
		_, err := c.DomainDefineXML(stranger)
		return err
	}))
	ledger, aside := s.onDisk(n, "lifeboat/agent/ledger"), s.onDisk(n, "lifeboat/agent/aside")
	s.must(os.Rename(ledger, aside))
	s.refused(n, g, "the agent's ledger cannot be read")
	s.refused(n, "own", "the agent's ledger cannot be read") // nobody knows that it is not ours
	s.must(os.WriteFile(ledger, []byte("half a ledg"), 0o600))
	s.refused(n, g, "the agent's ledger cannot be read")
	s.must(os.Rename(aside, ledger))

	// With it, the host starts what it owns, and what is none of our business.
	for _, name := range []string{"own", g} {
		if out, err := s.Lab.Exec(s.ctx, n, "virsh", "start", name); err != nil {
			t.Errorf("start %s: %v: %s", name, err, out)
		}
	}
	for _, end := range []func(*libvirt.Libvirt, libvirt.Domain) error{
		func(c *libvirt.Libvirt, d libvirt.Domain) error { return c.DomainDestroy(d) },
		func(c *libvirt.Libvirt, d libvirt.Domain) error { return c.DomainUndefine(d) },
	} {
		s.domain(n, "own", end)
	}
	s.must(s.StartAgent(n))
	s.isUp(n, 15*time.Second)
	s.within(40*time.Second, g+" beats", func() bool {
		b, ok, err := s.Lab.LastBeat(n, g)
		return err == nil && ok && b.Boot != boot
	})
	s.within(10*time.Second, g+" is on and wanted", func() bool {
		v := s.vm(g)
		return v.Wanted && v.Power == "PowerOn" && v.Host == host(n)
	})
	s.never("VM.START.ORDER", "VM.DUPLICATE")
	s.end()
}

// refused checks that libvirt does not start a guest, and says why.
func (s *story) refused(n int, guest, why string) {
	s.Helper()
	out, err := s.Lab.Exec(s.ctx, n, "virsh", "start", guest)
	if err == nil || !strings.Contains(out, why) {
		s.Errorf("virsh start %s on h%d: %v: %s; want a refusal: %s", guest, n, err, out, why)
	}
}

// onDisk is a path below a host's own directories, which survive its power.
func (s *story) onDisk(n int, path ...string) string {
	return filepath.Join(append([]string{s.Lab.Dir(), host(n)}, path...)...)
}

func (s *story) exists(n int, path ...string) bool {
	_, err := os.Lstat(s.onDisk(n, path...))
	return err == nil
}

func (s *story) there(n int, path ...string) {
	s.Helper()
	if !s.exists(n, path...) {
		s.Errorf("%s does not exist on h%d: this test proves nothing about it", filepath.Join(path...), n)
	}
}
