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
		h := mem.NewHost(mem.Options{
			Name: "h1", StartDelay: 300 * time.Millisecond,
			Storages: []*mem.Storage{mem.NewStorage(mem.StorageOptions{Name: "s", Dir: "/srv"})},
		})
		return hvtest.Fixture{
			Hypervisor:    h,
			Limit:         31 * time.Second,
			ObeysShutdown: true,
			KeepsGuests:   true,
			Render: func(name string, id hypervisor.UUID) []byte {
				return render(t, domxml.Template{Name: name, UUID: id})
			},
			Kill:        h.Kill,
			Pause:       func(id hypervisor.UUID) error { return h.Pause(id, hypervisor.ReasonUser) },
			Define:      func(xml []byte) error { return h.Define(xml, true) },
			StopDaemon:  func() { h.SetDown(true) },
			StartDaemon: func() { h.SetDown(false) },
			Freeze:      h.SetFrozen,
		}
	})
}
