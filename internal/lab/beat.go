package lab

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/digitalocean/go-libvirt"
)

// StartGuest defines a guest on a host and starts it, as a user with virsh does
// before Lifeboat knows the guest. An agent starts guests by itself, from the
// definition that was committed.
func (l *Lab) StartGuest(ctx context.Context, n int, g GuestSpec) error {
	text, err := l.DomainXML(g)
	if err != nil {
		return err
	}
	return l.Libvirt(ctx, n, func(c *libvirt.Libvirt) error {
		d, err := c.DomainDefineXML(text)
		if err != nil {
			return fmt.Errorf("define guest %s: %w", g.Name, err)
		}
		if err := c.DomainCreate(d); err != nil {
			return fmt.Errorf("start guest %s: %w", g.Name, err)
		}
		return nil
	})
}

// Guests lists the guests that have a process on the host, by name, sorted. It
// asks the kernel and not libvirtd, so it is right whatever libvirtd and the
// agent believe; a paused guest has a process too. Nil while the host is off.
func (l *Lab) Guests(n int) []string {
	var names []string
	for _, pid := range l.HostPIDs(n) {
		if name := guestOf(pid); name != "" {
			names = append(names, name)
		}
	}
	slices.Sort(names)
	return names
}

// Copies are the hosts that have a process of the guest. More than one outside
// a migration is what a cluster exists to prevent.
func (l *Lab) Copies(guest string) []int { return l.AllGuests()[guest] }

// AllGuests are the guests that have a process, with the host of each process.
// It goes through the machine's processes once, so a guest that moves meanwhile
// may be found on both hosts.
func (l *Lab) AllGuests() map[string][]int {
	of := make(map[string]int)
	var spaces []string
	for n := 1; n <= len(l.hosts); n++ {
		if v := l.lifeOf(n); v != nil {
			of[v.pidns] = n
			spaces = append(spaces, v.pidns)
		}
	}
	found := make(map[string][]int)
	for _, pid := range livePIDs("pid", spaces...) {
		name := guestOf(pid)
		if name == "" {
			continue
		}
		if ns, err := nsID(pid, "pid"); err == nil {
			found[name] = append(found[name], of[ns])
		}
	}
	for _, hosts := range found {
		slices.Sort(hosts)
	}
	return found
}

// guestOf is the name of the guest that a process runs, "" if it is no qemu.
// libvirt passes it as "-name guest=NAME,debug-threads=on". While libvirt asks
// a qemu what it can do, that has no guest.
func guestOf(pid int) string {
	raw, err := os.ReadFile(fmt.Sprintf("/proc/%d/cmdline", pid))
	if err != nil {
		return ""
	}
	args := bytes.Split(raw, []byte{0})
	if !bytes.Contains(args[0], []byte("qemu-system")) {
		return ""
	}
	for i := 1; i < len(args); i++ {
		if string(args[i-1]) == "-name" {
			name, _, _ := strings.Cut(strings.TrimPrefix(string(args[i]), "guest="), ",")
			return name
		}
	}
	return ""
}

// Beat is a heartbeat of a LinuxGuest.
type Beat struct {
	Boot  string    // of the guest's kernel: new whenever it boots
	Count int       // since that boot, from 1
	At    time.Time // when its console was last written to
}

var beatLine = regexp.MustCompile(`(?m)^HB vm=\S+ boot=(\S+) n=(\d+)$`)

// LastBeat is the guest's newest heartbeat on a host; false when there was none
// yet. A guest may have beaten on several hosts, one after the other.
func (l *Lab) LastBeat(n int, guest string) (Beat, bool, error) {
	text, err := l.GuestLog(n, guest)
	if err != nil {
		return Beat{}, false, err
	}
	all := beatLine.FindAllStringSubmatch(text, -1)
	if len(all) == 0 {
		return Beat{}, false, nil
	}
	last := all[len(all)-1]
	b := Beat{Boot: last[1]}
	fmt.Sscan(last[2], &b.Count) // digits, by the expression
	if st, err := os.Stat(l.consolePath(n, guest)); err == nil {
		b.At = st.ModTime()
	}
	return b, true, nil
}

// WaitBeat blocks until the guest beats on the host once more, from now on.
func (l *Lab) WaitBeat(ctx context.Context, n int, guest string) (Beat, error) {
	before, _, err := l.LastBeat(n, guest)
	for err == nil {
		var now Beat
		if now, _, err = l.LastBeat(n, guest); err == nil && (now.Boot != before.Boot || now.Count != before.Count) {
			return now, nil
		}
		select {
		case <-ctx.Done():
			err = ctx.Err()
		case <-time.After(pollEvery):
		}
	}
	return Beat{}, fmt.Errorf("wait for heartbeat of %s on h%d: %w", guest, n, err)
}

func (l *Lab) consolePath(n int, guest string) string {
	return filepath.Join(l.opts.Dir, fmt.Sprintf("h%d/log/qemu/%s.console", n, guest))
}
