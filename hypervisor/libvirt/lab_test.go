package libvirt_test

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	golibvirt "github.com/digitalocean/go-libvirt"
	"golang.org/x/sys/unix"

	"lifeboat/hypervisor"
	"lifeboat/hypervisor/hvtest"
	"lifeboat/hypervisor/libvirt"
	"lifeboat/internal/lab"
)

// A system libvirtd with real guests, on a machine that can lose its power.
func TestLab(t *testing.T) {
	lab.Require(t)
	l, err := lab.New(t.Context(), lab.Options{Prefix: "hvtest", Hosts: 1, Managers: 1})
	must(t, err)
	t.Cleanup(func() {
		if err := l.Close(); err != nil {
			t.Error(err)
		}
	})
	t.Run("Conformance", func(t *testing.T) { conformInLab(t, l) })
	t.Run("S8RemoveKeepsNVRAM", func(t *testing.T) { removeKeepsNVRAM(t, l) })
	t.Run("FrozenGuest", func(t *testing.T) { frozenGuest(t, l) })
	t.Run("MachineVanishes", func(t *testing.T) { machineVanishes(t, l) })
}

func conformInLab(t *testing.T, l *lab.Lab) {
	hand := func(call func(*golibvirt.Libvirt) error) error {
		return byHand("unix", l.LibvirtSocket(1), "qemu:///system", call)
	}
	start := func() {
		must(t, l.StartLibvirtd(1))
		must(t, l.WaitLibvirtd(t.Context(), 1))
	}
	hvtest.Run(t, func(t *testing.T) hvtest.Fixture {
		start()
		return hvtest.Fixture{
			Hypervisor: open(t, l.ConnectURI(1)),
			Render:     render(t, "qemu"),
			Equipped:   equipped(t),
			Limit:      hastyLimit,
			Kill:       func(id hypervisor.UUID) error { return killQEMU(l.HostPIDs(1), id) },
			Pause: func(id hypervisor.UUID) error {
				return hand(func(lv *golibvirt.Libvirt) error { return pause(lv, id) })
			},
			Define: func(xml []byte) error {
				return hand(func(lv *golibvirt.Libvirt) error { return define(lv, xml) })
			},
			StopDaemon:  func() { must(t, l.StopLibvirtd(1)) },
			StartDaemon: start,
			KeepsGuests: true,
			Reboot: func(id hypervisor.UUID) error {
				return hand(func(lv *golibvirt.Libvirt) error { return reboot(lv, id) })
			},
			FireWatchdog: func(id hypervisor.UUID, action string) error {
				return hand(func(lv *golibvirt.Libvirt) error { return fireWatchdog(lv, id, action) })
			},
			Freeze: func(frozen bool) {
				sig := unix.SIGCONT
				if frozen {
					sig = unix.SIGSTOP
				}
				for _, pid := range l.HostPIDs(1) {
					if strings.Contains(cmdline(pid), "libvirtd") && !strings.Contains(cmdline(pid), "qemu-system") {
						must(t, unix.Kill(pid, sig))
					}
				}
			},
		}
	})
}

// What is removed leaves its UEFI variables behind, which are data of the guest,
// and takes its managed save with it: started from that, it would go on with
// what its disk was before (S8).
func removeKeepsNVRAM(t *testing.T, l *lab.Lab) {
	must(t, l.StartLibvirtd(1))
	must(t, l.WaitLibvirtd(t.Context(), 1))
	d, err := libvirt.Open(l.ConnectURI(1), libvirt.Options{})
	must(t, err)
	defer d.Close()
	id, name := hypervisor.UUID{0xf1}, "uefi"
	firmware, vars := l.HostDir(1)+"/firmware.fd", l.HostDir(1)+"/vars.fd" // no firmware at all: nobody looks at what it does
	for file, size := range map[string]int{firmware: 256 << 10, vars: 64 << 10} {
		must(t, os.WriteFile(file, make([]byte, size), 0o600))
	}
	definition := strings.Replace(string(render(t, "qemu")(name, id)), "</os>",
		"<loader readonly='yes' type='pflash'>"+firmware+"</loader><nvram>"+vars+"</nvram></os>", 1)
	must(t, d.Start(t.Context(), hypervisor.StartRequest{UUID: id, XML: []byte(definition)}))
	hand := func(call func(*golibvirt.Libvirt, golibvirt.Domain) error) error {
		return byHand("unix", l.LibvirtSocket(1), "qemu:///system", func(lv *golibvirt.Libvirt) error {
			dom, err := lv.DomainLookupByName(name)
			if err != nil {
				return err
			}
			return call(lv, dom)
		})
	}
	must(t, hand(func(lv *golibvirt.Libvirt, dom golibvirt.Domain) error { return lv.DomainSetAutostart(dom, 1) }))
	must(t, hand(func(lv *golibvirt.Libvirt, dom golibvirt.Domain) error { return lv.DomainManagedSave(dom, 0) }))
	root := l.HostRoot(1)
	relics := []string{root + "/etc/libvirt/qemu/uefi.xml", root + "/etc/libvirt/qemu/autostart/uefi.xml", root + "/var/lib/libvirt/qemu/save/uefi.save"}
	for _, file := range relics {
		if _, err := os.Lstat(file); err != nil {
			t.Errorf("before: %v", err)
		}
	}
	must(t, d.Remove(t.Context(), id))
	for _, file := range relics {
		if _, err := os.Lstat(file); !errors.Is(err, os.ErrNotExist) {
			t.Errorf("after: %s is there (%v)", file, err)
		}
	}
	if _, err := os.Stat(vars); err != nil {
		t.Errorf("its UEFI variables are gone: %v", err)
	}
}

// A guest whose qemu hangs, and other clients that ask it until all of
// libvirtd's ordinary workers hang with it: power states are still seen, and
// the guest can be ended.
func frozenGuest(t *testing.T, l *lab.Lab) {
	must(t, l.StartLibvirtd(1))
	must(t, l.WaitLibvirtd(t.Context(), 1))
	d, err := libvirt.Open(l.ConnectURI(1), libvirt.Options{})
	must(t, err)
	defer d.Close()
	id := hypervisor.UUID{0xf0}
	must(t, d.Start(t.Context(), hypervisor.StartRequest{UUID: id, XML: render(t, "qemu")("frozen", id)}))
	for _, pid := range l.HostPIDs(1) {
		if strings.Contains(cmdline(pid), id.String()) {
			must(t, unix.Kill(pid, unix.SIGSTOP))
		}
	}
	askers, stop := context.WithCancel(t.Context())
	var asking sync.WaitGroup
	for range 3 {
		asking.Go(func() {
			_ = l.Libvirt(askers, 1, func(lv *golibvirt.Libvirt) error { // ends with its connection
				var calls sync.WaitGroup
				for range 19 {
					calls.Go(func() { _, _ = lv.ConnectGetAllDomainStats(nil, 0, 0) })
				}
				calls.Wait()
				return nil
			})
		})
	}
	time.Sleep(time.Second) // until they hang
	for range 5 {
		began := time.Now()
		ds, err := d.Domains(t.Context())
		must(t, err)
		if i := slices.IndexFunc(ds, func(d hypervisor.Domain) bool { return d.UUID == id }); i < 0 || ds[i].State != hypervisor.StateRunning {
			t.Fatalf("a frozen guest is reported as %+v", ds)
		}
		t.Logf("power states after %v", time.Since(began).Round(time.Millisecond))
	}
	began := time.Now()
	err = d.Stop(t.Context(), id, hypervisor.StopDestroy)
	t.Logf("ended after %v: %v", time.Since(began).Round(time.Millisecond), err)
	if err != nil && !errors.Is(err, hypervisor.ErrUnknownOutcome) && !errors.Is(err, hypervisor.ErrUnavailable) {
		t.Errorf("got %v", err)
	}
	stop()
	asking.Wait()
	must(t, d.Remove(t.Context(), id))
}

const watcherEnv = "LIBVIRT_TEST_WATCH"

// watchMain polls the daemon at the given address for ever, in a process of its
// own because a driver cannot choose its network namespace, and prints a line
// whenever what it sees changes.
func watchMain(uri string) {
	ctx, stop := signal.NotifyContext(context.Background(), unix.SIGTERM)
	defer stop()
	d, err := libvirt.Open(uri, libvirt.Options{})
	if err != nil {
		fmt.Println(err)
		return
	}
	last := ""
	for ; ctx.Err() == nil; time.Sleep(100 * time.Millisecond) {
		now, began := "answers", time.Now()
		if _, err := d.Domains(ctx); errors.Is(err, hypervisor.ErrUnavailable) {
			now = "unavailable"
		} else if err != nil {
			now = err.Error()
		}
		if now != last {
			fmt.Printf("%s (the call took %v)\n", now, time.Since(began).Round(time.Millisecond))
		}
		last = now
	}
	began := time.Now()
	err = d.Close()
	fmt.Printf("closed (%v, %v)\n", err, time.Since(began).Round(time.Millisecond))
}

// A machine whose packets vanish, or that loses its power, sends no goodbye:
// both are noticed with the production limits, and so is its return.
func machineVanishes(t *testing.T, l *lab.Lab) {
	cmd := exec.Command("/proc/self/exe")
	cmd.Env = append(os.Environ(), watcherEnv+"=qemu+tcp://"+l.LibvirtTCP(1)+"/system")
	out, err := cmd.StdoutPipe()
	must(t, err)
	cmd.Stderr = os.Stderr
	must(t, l.RunInManager(1, cmd))
	defer cmd.Wait()
	defer cmd.Process.Kill()
	lines := make(chan string, 100)
	go func() {
		defer close(lines)
		for s := bufio.NewScanner(out); s.Scan(); {
			lines <- s.Text()
		}
	}()
	want := func(what string, within time.Duration) {
		t.Helper()
		began := time.Now()
		select {
		case line := <-lines:
			t.Logf("after %v: %s", time.Since(began).Round(time.Millisecond), line)
			if !strings.HasPrefix(line, what) {
				t.Fatalf("got %q, want %q", line, what)
			}
		case <-time.After(within):
			t.Fatalf("not %q within %v", what, within)
		}
	}
	want("answers", 5*time.Second)
	must(t, l.Blackhole(t.Context(), 1))
	want("unavailable", 7*time.Second)
	must(t, l.Heal(t.Context(), 1))
	want("answers", 12*time.Second)
	must(t, l.PowerCut(t.Context(), 1))
	want("unavailable", 7*time.Second)
	must(t, l.PowerOn(t.Context(), 1))
	want("answers", 15*time.Second)
	must(t, l.Freeze(1))
	want("unavailable", 7*time.Second)
	must(t, cmd.Process.Signal(unix.SIGTERM))
	want("closed (<nil>", 2*time.Second)
	must(t, l.Thaw(1))
}

// The other direction of S4: a driver that is closed in the middle of a start
// does not wait for it, and the caller learns that the outcome is unknown.
func TestCloseDuringAStart(t *testing.T) {
	d := newDaemon(t, "test", "")
	driver := open(t, d.testURI())
	defer driver.Close()
	if _, err := driver.Domains(t.Context()); err != nil {
		t.Fatal(err)
	}
	d.freeze(true)
	defer d.freeze(false)
	id := hypervisor.UUID{9}
	got := make(chan error, 1)
	go func() {
		got <- driver.Start(t.Context(), hypervisor.StartRequest{UUID: id, XML: render(t, "test")("c", id)})
	}()
	must(t, driver.Close())
	select {
	case err := <-got:
		if !errors.Is(err, hypervisor.ErrUnavailable) && !errors.Is(err, hypervisor.ErrUnknownOutcome) {
			t.Errorf("got %v", err)
		}
	case <-time.After(2 * time.Second):
		t.Error("the start still waits")
	}
}
