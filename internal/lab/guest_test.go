package lab

import (
	"fmt"
	"os"
	"slices"
	"strings"
	"testing"
	"time"
)

// The positive control of every fencing test: without a control plane the same
// guest does start twice on a LUN, and the guests say so.
func TestDoubleStartShowsSplitBrain(t *testing.T) {
	l := theLab(t)
	dev, err := l.AddLUN("lun1")
	must(t, err)
	g := GuestSpec{Name: "twice", Disk: dev}
	must(t, startGuest(t, l, 1, g))
	heartbeats(t, l, 1, "twice", 3)
	if found, err := l.SplitBrains(); err != nil || len(found) != 0 {
		t.Fatalf("one copy alone reports %v, %v", found, err)
	}
	must(t, startGuest(t, l, 2, g))
	heartbeats(t, l, 2, "twice", 2)
	onConsole, onDisk := 0, 0
	eventually(t, 60*time.Second, "both consoles and the disk tell of the split brain", func() bool {
		found, err := l.SplitBrains()
		must(t, err)
		onConsole, onDisk = 0, 0
		hosts := make(map[string]bool)
		for _, f := range found {
			where, _, _ := strings.Cut(f, ":")
			if hosts[where] = true; where == dev {
				onDisk++
			} else {
				onConsole++
			}
		}
		return hosts["h1"] && hosts["h2"] && hosts[dev]
	})
	t.Logf("%d findings on consoles, %d on the disk", onConsole, onDisk)
	stopGuest(t, l, 1, "twice")
	stopGuest(t, l, 2, "twice")
}

// Two halves of a live migration share their boot id: one tells the other by its
// count.
func TestAnotherCountOfTheSameBootIsASplitBrain(t *testing.T) {
	l := theLab(t)
	dev, err := l.AddLUN("lun-half")
	must(t, err)
	must(t, startGuest(t, l, 1, GuestSpec{Name: "half", Disk: dev}))
	heartbeats(t, l, 1, "half", 3)
	told := func() bool {
		found, err := l.SplitBrains()
		must(t, err)
		return slices.ContainsFunc(found, func(f string) bool { return strings.Contains(f, "vm=half") })
	}
	if told() {
		t.Fatal("one copy alone reports a split brain")
	}
	b, _, err := l.LastBeat(1, "half")
	must(t, err)
	eventually(t, 60*time.Second, "it tells of the other half", func() bool {
		disk, err := os.OpenFile(l.disks[dev], os.O_WRONLY, 0)
		must(t, err)
		defer disk.Close()
		_, err = fmt.Fprintf(disk, "%-511s\n", fmt.Sprintf("%s %d half", b.Boot, b.Count+1000))
		must(t, err)
		time.Sleep(100 * time.Millisecond)
		return told()
	})
	stopGuest(t, l, 1, "half")
}

// A guest that moves by power loss and restart is no split brain, and a shared
// file is guarded by qemu's own lock.
func TestFailoverIsNoSplitBrain(t *testing.T) {
	l := theLab(t)
	before, err := l.SplitBrains()
	must(t, err)
	disk, err := l.AddDisk("moving")
	must(t, err)
	g := GuestSpec{Name: "moving", Disk: disk}
	must(t, startGuest(t, l, 3, g))
	heartbeats(t, l, 3, "moving", 2)
	if err := startGuest(t, l, 2, g); err == nil || !strings.Contains(err.Error(), "lock") {
		t.Fatalf("second start on a locked file: %v", err)
	}
	must(t, l.PowerCut(t.Context(), 3))
	must(t, startGuest(t, l, 2, g))
	heartbeats(t, l, 2, "moving", 3)
	after, err := l.SplitBrains()
	must(t, err)
	if len(after) != len(before) {
		t.Errorf("split brain findings: %v", after[len(before):])
	}
	stopGuest(t, l, 2, "moving")
	bootHost(t, l, 3)
}

// heartbeats waits until the guest has beaten n times on that host.
func heartbeats(t *testing.T, l *Lab, host int, name string, n int) {
	t.Helper()
	eventually(t, 90*time.Second, "heartbeats of "+name, func() bool {
		text, err := l.GuestLog(host, name)
		must(t, err)
		if strings.Contains(text, "DISK-ERROR") {
			t.Fatalf("the guest cannot write its disk:\n%s", text)
		}
		return strings.Count(text, "HB vm="+name+" ") >= n
	})
}

func TestDomainXMLRefusesNames(t *testing.T) {
	var l Lab
	for _, name := range []string{"", "../x", "a b", strings.Repeat("x", 41), "x tick=0"} {
		if _, err := l.DomainXML(GuestSpec{Name: name}); err == nil {
			t.Errorf("name %q was accepted", name)
		}
	}
}
