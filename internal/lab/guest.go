package lab

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"

	"libvirt.org/go/libvirtxml"
)

// GuestKind is what a guest runs.
type GuestKind int

const (
	// LinuxGuest boots a Linux that beats on its console and on its disk, in about 3 s.
	LinuxGuest GuestKind = iota
	// BIOSGuest is a machine without an operating system: cheap, up at once, deaf to ACPI.
	BIOSGuest
)

// GuestSpec describes a guest of a lab.
type GuestSpec struct {
	Name string
	UUID string // empty: derived from the name
	Kind GuestKind
	Disk string // from AddDisk or AddLUN; empty: none
	// Tick is the time between heartbeats of a LinuxGuest, in whole seconds. 0: 1 s.
	Tick time.Duration
	// Shareable lets qemu start the disk although another qemu has it.
	Shareable bool
	// Metadata is XML for the domain's metadata element.
	Metadata string
}

// DomainXML is the libvirt definition of a guest, emulated without KVM. It is
// the same for every host.
func (l *Lab) DomainXML(g GuestSpec) (string, error) {
	if !validName.MatchString(g.Name) {
		return "", fmt.Errorf("define guest %q: want a name of at most 40 characters A-Z, a-z, 0-9, dot, dash and underscore", g.Name)
	}
	if g.UUID == "" {
		g.UUID = nameUUID(g.Name)
	}
	d := libvirtxml.Domain{
		Type:   "qemu",
		Name:   g.Name,
		UUID:   g.UUID,
		Memory: &libvirtxml.DomainMemory{Value: 1, Unit: "MiB"},
		VCPU:   &libvirtxml.DomainVCPU{Value: 1},
		OS:     &libvirtxml.DomainOS{Type: &libvirtxml.DomainOSType{Arch: "x86_64", Machine: "pc", Type: "hvm"}},
		Features: &libvirtxml.DomainFeatureList{
			ACPI: &libvirtxml.DomainFeature{},
			// qemu reserves up to a quarter of memory for translated code by default.
			TCG: &libvirtxml.DomainFeatureTCG{TBCache: &libvirtxml.DomainFeatureTCGTBCache{Unit: "MiB", Size: 32}},
		},
		OnPoweroff: "destroy", OnReboot: "restart", OnCrash: "destroy",
		Devices: &libvirtxml.DomainDeviceList{
			Emulator:    tool("qemu-system-x86_64"),
			Controllers: []libvirtxml.DomainController{{Type: "usb", Model: "none"}},
			MemBalloon:  &libvirtxml.DomainMemBalloon{Model: "none"},
		},
	}
	if g.Metadata != "" {
		d.Metadata = &libvirtxml.DomainMetadata{XML: g.Metadata}
	}
	if g.Disk != "" {
		d.Devices.Disks = []libvirtxml.DomainDisk{guestDisk(g)}
	}
	if g.Kind == LinuxGuest {
		d.Memory.Value = 80 // Debian's kernel does not boot with 64
		d.OS.Kernel, d.OS.Initrd = l.image.kernel, l.image.initrd
		d.OS.Cmdline = fmt.Sprintf("console=ttyS0 quiet guest=%s tick=%d", g.Name, max(1, int(g.Tick/time.Second)))
		d.Devices.Serials = []libvirtxml.DomainSerial{{
			Source: &libvirtxml.DomainChardevSource{File: &libvirtxml.DomainChardevSourceFile{
				Path: "/var/log/libvirt/qemu/" + g.Name + ".console", Append: "on",
			}},
			Target: &libvirtxml.DomainSerialTarget{Port: new(uint)},
		}}
	}
	text, err := d.Marshal()
	if err != nil {
		return "", fmt.Errorf("define guest %s: %w", g.Name, err)
	}
	return text, nil
}

func guestDisk(g GuestSpec) libvirtxml.DomainDisk {
	disk := libvirtxml.DomainDisk{
		Device: "disk",
		Driver: &libvirtxml.DomainDiskDriver{Name: "qemu", Type: "raw", Cache: "none"},
		Source: &libvirtxml.DomainDiskSource{File: &libvirtxml.DomainDiskSourceFile{File: g.Disk}},
		Target: &libvirtxml.DomainDiskTarget{Dev: "vda", Bus: "virtio"},
	}
	if strings.HasPrefix(g.Disk, "/dev/") {
		disk.Source = &libvirtxml.DomainDiskSource{Block: &libvirtxml.DomainDiskSourceBlock{Dev: g.Disk}}
	}
	if g.Shareable {
		disk.Shareable = &libvirtxml.DomainDiskShareable{}
	}
	return disk
}

// GuestLog is what a guest has written to its serial console on that host, over
// all its lives there. A guest that never ran there has written nothing.
func (l *Lab) GuestLog(n int, name string) (string, error) {
	raw, err := os.ReadFile(l.consolePath(n, name))
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		return "", fmt.Errorf("read console of %s on h%d: %w", name, n, err)
	}
	return strings.ReplaceAll(string(raw), "\r", ""), nil
}

// Where guests write on their disks; see guest-init.sh.
const (
	sector        = 512
	findingsStart = 2048 * sector
	findingsEnd   = 3072 * sector
)

// SplitBrain begins the line of a guest that has met another copy of itself.
const SplitBrain = "SPLIT-BRAIN "

// SplitBrains are the findings of guests whose disk was written by another copy
// of themselves: every line on every console, and every record on every disk
// (the same finding is normally in both). Empty means that no guest ever ran
// twice at once, as far as the guests can tell.
func (l *Lab) SplitBrains() ([]string, error) {
	var found []string
	consoles, err := filepath.Glob(filepath.Join(l.opts.Dir, "h[0-9]*/log/qemu/*.console"))
	if err != nil {
		return nil, fmt.Errorf("list consoles: %w", err)
	}
	for _, path := range consoles {
		raw, err := os.ReadFile(path)
		if err != nil {
			return nil, fmt.Errorf("read console: %w", err)
		}
		host, _, _ := strings.Cut(strings.TrimPrefix(path, l.opts.Dir+"/"), "/")
		for line := range strings.Lines(string(raw)) {
			if i := strings.Index(line, SplitBrain); i >= 0 {
				found = append(found, host+": "+strings.TrimSpace(line[i:]))
			}
		}
	}
	l.diskMu.Lock()
	defer l.diskMu.Unlock()
	for shown, backing := range l.disks {
		raw, err := os.ReadFile(backing)
		if err != nil {
			return nil, fmt.Errorf("read disk: %w", err)
		}
		if len(raw) < findingsEnd {
			return nil, fmt.Errorf("read disk %s: it shrank to %d bytes", backing, len(raw))
		}
		for at := findingsStart; at < findingsEnd; at += sector {
			if rec := raw[at : at+sector]; bytes.HasPrefix(rec, []byte(SplitBrain)) {
				found = append(found, shown+": "+string(bytes.TrimSpace(rec)))
			}
		}
	}
	return found, nil
}
