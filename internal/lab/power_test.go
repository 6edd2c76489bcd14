package lab

import (
	"context"
	"errors"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/digitalocean/go-libvirt"
)

func TestHostsAnswerSeparately(t *testing.T) {
	l := theLab(t)
	seen := make(map[string]int)
	for n := 1; n <= 3; n++ {
		ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
		var got string
		err := l.Libvirt(ctx, n, func(c *libvirt.Libvirt) (err error) {
			got, err = c.ConnectGetHostname()
			return err
		})
		cancel()
		must(t, err)
		if got != l.hosts[n-1].name {
			t.Errorf("h%d says it is %q", n, got)
		}
		conn, err := l.ManagerDial(t.Context(), 1, "tcp", l.LibvirtTCP(n))
		if err != nil {
			t.Errorf("libvirtd of h%d is not reachable from manager 1: %v", n, err)
		} else {
			conn.Close()
		}
		for _, id := range []string{l.BootID(n), inHost(t, l, n, "cat", "/etc/machine-id"), l.BMCGUID(n)} {
			if id == "" || seen[id] != 0 {
				t.Errorf("identity %q of h%d was seen on h%d before", id, n, seen[id])
			}
			seen[id] = n
		}
	}
	for _, dangerous := range []string{"/dev/kvm", "/proc/sysrq-trigger"} {
		st, err := os.Stat(l.HostRoot(1) + dangerous)
		if err == nil && st.Mode()&os.ModeCharDevice == 0 {
			t.Errorf("%s of the real machine is visible in a host", dangerous)
		}
	}
	if out, _ := exec.Command(tool("ip"), "-o", "addr").Output(); strings.Contains(string(out), l.HostAddr(1)) {
		t.Errorf("the root namespace has an address of the lab:\n%s", out)
	}
}

// A power loss takes everything at once and tells nobody; the next boot is
// recognisable as one (S11).
func TestPowerLoss(t *testing.T) {
	l := theLab(t)
	boot, machine := l.BootID(1), inHost(t, l, 1, "cat", "/etc/machine-id")
	must(t, startGuest(t, l, 1, GuestSpec{Name: "bios1", Kind: BIOSGuest}))
	pids := l.HostPIDs(1)
	if !slices.ContainsFunc(pids, isQEMU) {
		t.Fatalf("no qemu among the host's processes %v", pids)
	}
	conn, err := l.ManagerDial(t.Context(), 1, "tcp", l.LibvirtTCP(1))
	must(t, err)
	defer conn.Close()

	must(t, l.PowerCut(t.Context(), 1))
	for _, pid := range pids {
		if alive(pid) {
			t.Errorf("process %d of the host outlived the power loss", pid)
		}
	}
	if l.Powered(1) || l.BootID(1) != "" || l.LibvirtSocket(1) != "" {
		t.Error("a host without power still shows signs of life")
	}
	must(t, conn.SetReadDeadline(time.Now().Add(300*time.Millisecond)))
	if _, err := conn.Read(make([]byte, 1)); !errors.Is(err, os.ErrDeadlineExceeded) {
		t.Errorf("the peer learned of the power loss: %v", err)
	}
	must(t, l.PowerCut(t.Context(), 1)) // off stays off

	bootHost(t, l, 1)
	if now := l.BootID(1); now == boot || now == "" {
		t.Errorf("boot id %q after %q", now, boot)
	}
	for _, file := range []string{BootIDFile, "/proc/sys/kernel/random/boot_id"} {
		if got := inHost(t, l, 1, "cat", file); got != l.BootID(1) {
			t.Errorf("%s says %q, the lab says %q", file, got, l.BootID(1))
		}
	}
	if now := inHost(t, l, 1, "cat", "/etc/machine-id"); now != machine {
		t.Errorf("machine id changed from %s to %s", machine, now)
	}
	if left := guests(t, l, 1); len(left) != 0 {
		t.Errorf("guests after the reboot: %v", left)
	}
	// The rebooted kernel knows nothing of the old connection and must say so, not finish it politely.
	must(t, conn.SetDeadline(time.Now().Add(5*time.Second)))
	_, _ = conn.Write([]byte("x"))
	if _, err := conn.Read(make([]byte, 1)); err == nil || errors.Is(err, io.EOF) || errors.Is(err, os.ErrDeadlineExceeded) {
		t.Errorf("the old connection ended with %v, want a reset", err)
	}
}

func isQEMU(pid int) bool {
	exe, err := os.Readlink(filepath.Join("/proc", strconv.Itoa(pid), "exe"))
	return err == nil && strings.Contains(exe, "qemu-system")
}

func TestLibvirtdDeathIsNotHostDeath(t *testing.T) {
	l := theLab(t)
	must(t, startGuest(t, l, 2, GuestSpec{Name: "bios2", Kind: BIOSGuest}))
	must(t, l.StopLibvirtd(2))
	if !slices.ContainsFunc(l.HostPIDs(2), isQEMU) {
		t.Error("the guest died with libvirtd")
	}
	must(t, l.StartLibvirtd(2))
	must(t, l.WaitLibvirtd(t.Context(), 2))
	if got := guests(t, l, 2); !slices.Equal(got, []string{"bios2"}) {
		t.Errorf("libvirtd came back with guests %v", got)
	}
	stopGuest(t, l, 2, "bios2")
}

// What runs on a shared machine loses power with it; a manager elsewhere does not.
func TestManagerOnHost(t *testing.T) {
	l := theLab(t)
	there, elsewhere := exec.Command(tool("sleep"), "600"), exec.Command(tool("sleep"), "600")
	must(t, l.RunInManager(3, there))
	must(t, l.RunInManager(1, elsewhere))
	ended := make(chan error, 1)
	go func() { ended <- there.Wait() }()

	conn, err := l.ManagerDial(t.Context(), 3, "tcp", l.LibvirtTCP(1))
	must(t, err)
	conn.Close()
	must(t, l.PowerCut(t.Context(), 3))
	select {
	case <-ended:
	case <-time.After(5 * time.Second):
		t.Error("a process on the dead machine runs on")
	}
	if err := l.RunInManager(3, exec.Command(tool("true"))); err == nil {
		t.Error("a process started on a machine without power")
	}
	if !alive(elsewhere.Process.Pid) {
		t.Error("another machine's process died too")
	}
	must(t, elsewhere.Process.Kill())
	_ = elsewhere.Wait()
	bootHost(t, l, 3)
	must(t, l.Isolate(t.Context(), 3))
	if err := reach(t, l, 3, l.LibvirtTCP(1)); err == nil {
		t.Error("the manager on an isolated machine is not isolated")
	}
	must(t, l.Heal(t.Context(), 3))
	must(t, reachSoon(t, l, 3, l.LibvirtTCP(1)))
}

// reach tries once, briefly, to open a connection from a manager.
func reach(t *testing.T, l *Lab, manager int, addr string) error {
	ctx, cancel := context.WithTimeout(t.Context(), 300*time.Millisecond)
	defer cancel()
	conn, err := l.ManagerDial(ctx, manager, "tcp", addr)
	if err == nil {
		conn.Close()
	}
	return err
}

func reachSoon(t *testing.T, l *Lab, manager int, addr string) (err error) {
	for range 20 {
		if err = reach(t, l, manager, addr); err == nil {
			return nil
		}
	}
	return err
}

func TestNetworkFaults(t *testing.T) {
	l := theLab(t)
	ctx := t.Context()
	faults := []struct {
		name            string
		make, heal      func() error
		others, carrier bool // manager 2 reaches h2; h2 sees its carrier
	}{
		{"isolate", func() error { return l.Isolate(ctx, 2) }, func() error { return l.Heal(ctx, 2) }, false, false},
		{"blackhole", func() error { return l.Blackhole(ctx, 2) }, func() error { return l.Heal(ctx, 2) }, false, true},
		{"partition", func() error { return l.Partition(ctx, "m1", "h2") }, func() error { return l.HealPartition(ctx, "h2", "m1") }, true, true},
	}
	for _, f := range faults {
		t.Run(f.name, func(t *testing.T) {
			conn, err := l.ManagerDial(ctx, 1, "tcp", l.LibvirtTCP(2))
			must(t, err)
			defer conn.Close()
			must(t, f.make())
			if err := reach(t, l, 1, l.LibvirtTCP(2)); !errors.Is(err, context.DeadlineExceeded) && !isTimeout(err) {
				t.Errorf("manager 1 to h2: %v, want silence", err)
			}
			if err := reach(t, l, 2, l.LibvirtTCP(2)); (err == nil) != f.others {
				t.Errorf("manager 2 to h2: %v", err)
			}
			if got := inHost(t, l, 2, "cat", "/sys/class/net/eth0/carrier") == "1"; got != f.carrier {
				t.Errorf("h2 sees a carrier: %t", got)
			}
			must(t, f.heal())
			must(t, reachSoon(t, l, 1, l.LibvirtTCP(2)))
		})
	}
	if err := l.Partition(ctx, "h1", "b1"); err == nil {
		t.Error("a BMC is not on the data network, and was partitioned from it")
	}
}

func isTimeout(err error) bool {
	var e net.Error
	return errors.As(err, &e) && e.Timeout()
}

// A partition belongs to the network, not to the machine's memory.
func TestPartitionOutlivesReboot(t *testing.T) {
	l := theLab(t)
	must(t, l.Partition(t.Context(), "h1", "m2"))
	must(t, l.Reset(t.Context(), 1))
	must(t, l.WaitLibvirtd(t.Context(), 1))
	if err := reach(t, l, 2, l.LibvirtTCP(1)); err == nil {
		t.Error("the partition ended with the reboot")
	}
	must(t, l.HealPartition(t.Context(), "h1", "m2"))
	must(t, reachSoon(t, l, 2, l.LibvirtTCP(1)))
}

func TestFreeze(t *testing.T) {
	l := theLab(t)
	must(t, l.Freeze(2))
	if err := reach(t, l, 1, l.LibvirtTCP(2)); err != nil {
		t.Errorf("the kernel of a frozen host no longer accepts: %v", err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 300*time.Millisecond)
	defer cancel()
	if err := l.Libvirt(ctx, 2, nil); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("a frozen libvirtd: %v, want no answer", err)
	}
	boot := l.BootID(2)
	must(t, l.Thaw(2))
	must(t, l.WaitLibvirtd(t.Context(), 2))
	if l.BootID(2) != boot {
		t.Error("thawing rebooted the host")
	}
}
