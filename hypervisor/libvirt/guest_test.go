package libvirt_test

import (
	"bytes"
	"fmt"
	"testing"

	golibvirt "github.com/digitalocean/go-libvirt"

	"lifeboat/hypervisor"
)

// equipped renders domains of qemu with a watchdog and the channel of a guest agent,
// which no guest here runs.
func equipped(t *testing.T) func(string, hypervisor.UUID) []byte {
	bare := render(t, "qemu")
	return func(name string, id hypervisor.UUID) []byte {
		return bytes.Replace(bare(name, id), []byte("</devices>"), []byte(`<watchdog model='ib700' action='none'/>`+
			`<channel type='unix'><target type='virtio' name='org.qemu.guest_agent.0'/></channel></devices>`), 1)
	}
}

// reboot presses the reset button, which libvirt tells of as it tells of a guest that
// boots again by itself.
func reboot(lv *golibvirt.Libvirt, id hypervisor.UUID) error {
	dom, err := lv.DomainLookupByUUID(golibvirt.UUID(id))
	if err != nil {
		return err
	}
	return lv.DomainReset(dom, 0)
}

// fireWatchdog lets the watchdog of a domain run out at once, as if its guest had set it
// and never come back: the last of its intervals is no time at all.
func fireWatchdog(lv *golibvirt.Libvirt, id hypervisor.UUID, action string) error {
	const port, none, hmp = 0x443, 0xf, 1
	dom, err := lv.DomainLookupByUUID(golibvirt.UUID(id))
	if err != nil {
		return err
	}
	if _, err := lv.QEMUDomainMonitorCommand(dom, fmt.Sprintf(`{"execute":"watchdog-set-action","arguments":{"action":%q}}`, action), 0); err != nil {
		return err
	}
	_, err = lv.QEMUDomainMonitorCommand(dom, fmt.Sprintf("o/b %#x %#x", port, none), hmp)
	return err
}
