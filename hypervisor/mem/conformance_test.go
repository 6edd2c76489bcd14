package mem_test

import (
	"testing"
	"time"

	"lifeboat/hypervisor"
	"lifeboat/hypervisor/domxml"
	"lifeboat/hypervisor/hvtest"
	"lifeboat/hypervisor/mem"
)

func render(t *testing.T, tmpl domxml.Template) []byte {
	t.Helper()
	b, err := tmpl.Render()
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func TestConformance(t *testing.T) {
	hvtest.RunVirtual(t, func(t *testing.T) hvtest.Fixture {
		shared := []*mem.Storage{mem.NewStorage(mem.StorageOptions{Name: "s", Dir: "/srv"})}
		other := mem.NewHost(mem.Options{Name: "h2", Storages: shared, Peer: func(string) *mem.Host { return nil }})
		h := mem.NewHost(mem.Options{
			Name: "h1", StartDelay: 300 * time.Millisecond, MigrateTime: 2 * time.Second, Storages: shared,
			Peer: func(uri string) *mem.Host {
				if uri == "mem://h2" {
					return other
				}
				return nil
			},
		})
		t.Cleanup(func() { _ = other.Close() })
		return hvtest.Fixture{
			Hypervisor:    h,
			Other:         other,
			Limit:         31 * time.Second,
			ObeysShutdown: true,
			KeepsGuests:   true,
			Render: func(name string, id hypervisor.UUID) []byte {
				return render(t, domxml.Template{Name: name, UUID: id})
			},
			Equipped: func(name string, id hypervisor.UUID) []byte {
				return render(t, domxml.Template{Name: name, UUID: id})
			},
			Kill:        h.Kill,
			Pause:       func(id hypervisor.UUID) error { return h.Pause(id, hypervisor.ReasonUser) },
			Define:      func(xml []byte) error { return h.Define(xml, true) },
			StopDaemon:  func() { h.SetDown(true) },
			StartDaemon: func() { h.SetDown(false) },
			Freeze:      h.SetFrozen,
			Reboot:      h.Reboot,
			FireWatchdog: func(id hypervisor.UUID, action string) error {
				return h.FireWatchdog(id, map[string]mem.WatchdogAction{"none": mem.WatchdogNone, "pause": mem.WatchdogPause, "reset": mem.WatchdogReset}[action])
			},
		}
	})
}
