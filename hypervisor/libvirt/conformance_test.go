package libvirt_test

import (
	"os"
	"testing"
	"time"

	golibvirt "github.com/digitalocean/go-libvirt"

	"lifeboat/hypervisor"
	"lifeboat/hypervisor/domxml"
	"lifeboat/hypervisor/hvtest"
	"lifeboat/hypervisor/libvirt"
	"lifeboat/internal/lab"
)

func TestMain(m *testing.M) {
	lab.MaybeInit()
	if os.Getenv(reaperEnv) != "" {
		reap()
	}
	if uri := os.Getenv(watcherEnv); uri != "" {
		watchMain(uri)
		return
	}
	m.Run()
}

// hasty is what a test waits for; production's limits are longer.
var hasty = libvirt.Options{
	DialTimeout: time.Second, CallTimeout: 3 * time.Second, BulkTimeout: time.Second,
	StartTimeout: 20 * time.Second, DestroyTimeout: 15 * time.Second, RetryMax: 300 * time.Millisecond,
}

// hastyLimit is more than any call may take with a frozen daemon: connecting,
// and one call.
const hastyLimit = 5 * time.Second

func open(t *testing.T, uri string) *libvirt.Driver {
	t.Helper()
	d, err := libvirt.Open(uri, hasty)
	must(t, err)
	return d
}

func render(t *testing.T, driver string) func(string, hypervisor.UUID) []byte {
	return func(name string, id hypervisor.UUID) []byte {
		xml, err := domxml.Template{Type: driver, Name: name, UUID: id}.Render()
		must(t, err)
		return xml
	}
}

// The driver built into libvirt's client library, over TCP: nothing runs, and
// everything of the protocol is real.
func TestConformanceTestDriver(t *testing.T) {
	d := newDaemon(t, "test", "")
	hand := func(call func(*golibvirt.Libvirt) error) error {
		return byHand("unix", d.socket(), "test:///default", call)
	}
	hvtest.Run(t, func(t *testing.T) hvtest.Fixture {
		d.start()
		return hvtest.Fixture{
			Hypervisor:    open(t, d.testURI()),
			Render:        render(t, "test"),
			Limit:         hastyLimit,
			ObeysShutdown: true,
			Pause: func(id hypervisor.UUID) error {
				return hand(func(lv *golibvirt.Libvirt) error { return pause(lv, id) })
			},
			Define: func(xml []byte) error {
				return hand(func(lv *golibvirt.Libvirt) error { return define(lv, xml) })
			},
			StopDaemon:  d.stop,
			StartDaemon: d.start,
			Freeze:      d.freeze,
		}
	})
}

// Real emulated guests under an unprivileged libvirtd, over a unix socket.
func TestConformanceQEMUSession(t *testing.T) {
	if testing.Short() {
		t.Skip("starts real guests")
	}
	d := newDaemon(t, "qemu", "")
	hand := func(call func(*golibvirt.Libvirt) error) error {
		return byHand("unix", d.socket(), "qemu:///session", call)
	}
	hvtest.Run(t, func(t *testing.T) hvtest.Fixture {
		d.start()
		return hvtest.Fixture{
			Hypervisor: open(t, d.qemuURI()),
			Render:     render(t, "qemu"),
			Equipped:   equipped(t),
			Limit:      hastyLimit,
			Kill:       d.kill,
			Pause: func(id hypervisor.UUID) error {
				return hand(func(lv *golibvirt.Libvirt) error { return pause(lv, id) })
			},
			Define: func(xml []byte) error {
				return hand(func(lv *golibvirt.Libvirt) error { return define(lv, xml) })
			},
			StopDaemon:  d.stop,
			StartDaemon: d.start,
			KeepsGuests: true,
			Freeze:      d.freeze,
			Reboot: func(id hypervisor.UUID) error {
				return hand(func(lv *golibvirt.Libvirt) error { return reboot(lv, id) })
			},
			FireWatchdog: func(id hypervisor.UUID, action string) error {
				return hand(func(lv *golibvirt.Libvirt) error { return fireWatchdog(lv, id, action) })
			},
		}
	})
}
