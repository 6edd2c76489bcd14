package domxml

import (
	"bytes"
	"encoding/xml"
	"errors"
	"fmt"
	"io"
	"math"
	"math/bits"
	"net"
	"net/netip"
	"slices"
	"strconv"
	"strings"

	"lifeboat/hypervisor"
)

// Parse reads a definition. Its errors say what is wrong in words for the
// operator who wrote the definition; they do not repeat secrets from it.
func Parse(definition []byte) (Needs, error) {
	n, err := parse(definition)
	if err != nil {
		return Needs{}, fmt.Errorf("read domain definition: %w", err)
	}
	return n, nil
}

func parse(definition []byte) (Needs, error) {
	if len(definition) > MaxSize {
		return Needs{}, fmt.Errorf("it is %d bytes long, at most %d are read", len(definition), MaxSize)
	}
	d, err := decode(definition)
	if err != nil {
		return Needs{}, err
	}
	n := Needs{
		Name: d.Name, DomainType: d.Type,
		Arch: d.OS.Type.Arch, Machine: d.OS.Type.Machine, Emulator: d.Devices.Emulator,
	}
	if n.Name == "" {
		return Needs{}, errors.New("it has no <name>")
	}
	if uuid := strings.TrimSpace(d.UUID); uuid != "" {
		if n.UUID, err = hypervisor.ParseUUID(uuid); err != nil {
			return Needs{}, err
		}
	}
	if n.MemoryBytes, err = d.Memory.bytes(); err != nil {
		return Needs{}, err
	}
	if n.VCPUs, err = d.VCPU.count(); err != nil {
		return Needs{}, err
	}
	if d.CPU.Mode == "" || d.CPU.Mode == "custom" {
		n.CPUModel = strings.TrimSpace(d.CPU.Model)
	}
	switch len(d.Metadata.Protect) {
	case 0:
	case 1:
		n.Protect = &d.Metadata.Protect[0]
	default:
		return Needs{}, errors.New("it has more than one lifeboat:protect element; keep one")
	}
	n.addBoot(d.OS)
	for _, k := range d.Devices.Disks {
		n.addDisk(k)
	}
	for _, f := range d.Devices.Filesystems {
		n.addFilesystem(f)
	}
	for _, i := range d.Devices.Interfaces {
		n.addInterface(i)
	}
	n.addLocalDevices(d.Devices)
	return n, nil
}

func decode(definition []byte) (domain, error) {
	var d domain
	dec := xml.NewDecoder(bytes.NewReader(definition))
	if err := dec.Decode(&d); err != nil {
		if errors.Is(err, io.EOF) {
			return domain{}, errors.New("it is empty")
		}
		return domain{}, err
	}
	for {
		t, err := dec.Token()
		switch t := t.(type) {
		case nil:
			if errors.Is(err, io.EOF) {
				return d, nil
			}
			return domain{}, err
		case xml.Comment, xml.ProcInst:
		case xml.CharData:
			if len(bytes.TrimSpace(t)) > 0 {
				return domain{}, errors.New("text follows after </domain>")
			}
		default:
			return domain{}, errors.New("something follows after </domain>")
		}
	}
}

func (s scaled) bytes() (uint64, error) {
	v, err := strconv.ParseUint(strings.TrimSpace(s.Value), 10, 64)
	if err != nil || v == 0 {
		return 0, fmt.Errorf("<memory> is %.40q, want a positive number", s.Value)
	}
	unit, ok := unitBytes(s.Unit)
	if !ok {
		return 0, fmt.Errorf("<memory> has the unknown unit %.40q", s.Unit)
	}
	hi, lo := bits.Mul64(v, unit)
	if hi != 0 || lo > math.MaxInt64 {
		return 0, fmt.Errorf("<memory> of %d %s is more than any host has", v, s.Unit)
	}
	return lo, nil
}

// unitBytes follows libvirt: KiB when nothing is said, K = KiB, KB = 1000.
func unitBytes(unit string) (uint64, bool) {
	switch strings.ToLower(unit) {
	case "b", "byte", "bytes":
		return 1, true
	case "":
		unit = "k"
	}
	exp := strings.Index("kmgtpe", strings.ToLower(unit[:1])) + 1
	if exp == 0 {
		return 0, false
	}
	step := uint64(1024)
	switch strings.ToLower(unit[1:]) {
	case "", "ib":
	case "b":
		step = 1000
	default:
		return 0, false
	}
	v := uint64(1)
	for range exp {
		v *= step
	}
	return v, true
}

func (v vcpu) count() (int, error) {
	s := strings.TrimSpace(v.Value)
	if v.Current != "" {
		s = v.Current
	}
	if s == "" {
		return 1, nil // libvirt's default
	}
	n, err := strconv.ParseUint(s, 10, 16)
	if err != nil || n == 0 {
		return 0, fmt.Errorf("<vcpu> is %.40q, want a number from 1 to 65535", s)
	}
	return int(n), nil
}

func (n *Needs) local(format string, args ...any) {
	n.LocalReasons = append(n.LocalReasons, fmt.Sprintf(format, args...))
}

func (n *Needs) addBoot(b osboot) {
	for _, f := range []struct{ device, path string }{{"kernel", b.Kernel}, {"initrd", b.Initrd}, {"dtb", b.DTB}} {
		if f.path != "" {
			n.Disks = append(n.Disks, Disk{Kind: SourceFile, Device: f.device, Path: f.path, ReadOnly: true})
		}
	}
	uefi := b.Firmware == "efi" || b.Loader != nil && b.Loader.Type == "pflash"
	switch {
	case b.NVRAM != nil && b.NVRAM.Source != nil:
		kind := b.NVRAM.Type
		if kind == "" {
			kind = "file"
		}
		n.addSource(Disk{Device: "nvram"}, kind, b.NVRAM.Source)
	case b.NVRAM != nil && strings.TrimSpace(b.NVRAM.Path) != "":
		n.Disks = append(n.Disks, Disk{Kind: SourceFile, Device: "nvram", Path: strings.TrimSpace(b.NVRAM.Path)})
	case uefi && (b.Loader == nil || b.Loader.Stateless != "yes"):
		// libvirt makes the file up below its own state directory.
		n.local("its UEFI variables (NVRAM) are kept on this host")
	}
}

func (n *Needs) addDisk(k disk) {
	d := Disk{
		Device: k.Device, Target: k.Target.Dev, Shareable: k.Shareable != nil,
		ReadOnly: k.ReadOnly != nil || k.Device == "cdrom",
	}
	if d.Device == "" {
		d.Device = "disk"
	}
	if k.Source == nil {
		if k.Device != "cdrom" && k.Device != "floppy" { // those may be empty
			n.local("its disk %s has no source that another host could open", d.Target)
		}
		return
	}
	if !n.addSource(d, k.Type, k.Source) {
		return
	}
	if m := k.Mirror; m != nil && m.Source != nil {
		n.addSource(Disk{Device: "mirror", Target: d.Target}, m.Type, m.Source)
	}
	for b := k.BackingStore; b != nil && b.Source != nil; b = b.BackingStore {
		n.addSource(Disk{Device: "backing", Target: d.Target, ReadOnly: true}, b.Type, b.Source)
	}
}

// addSource completes d from a source of the given type and reports whether
// there was anything in it.
func (n *Needs) addSource(d Disk, kind string, s *source) bool {
	d.Kind = SourceKind(kind)
	d.Optional = s.StartupPolicy == "optional"
	switch d.Kind {
	case SourceFile, "":
		d.Kind, d.Path = SourceFile, s.File
	case SourceBlock:
		d.Path = s.Dev
	case SourceDir:
		d.Path = s.Dir
	case SourceVolume:
		d.Pool, d.Path = s.Pool, s.Volume
	case SourceNetwork:
		d.Protocol, d.Path = s.Protocol, s.Name
		var own bool
		if d.Servers, own = s.servers(); own {
			n.local("its disk %s is served by this host itself (%s)", d.Target, s.Protocol)
		}
		n.Disks = append(n.Disks, d) // some protocols have no name
		return true
	default: // nvme, vhostuser, vhostvdpa, …
		n.local("its disk %s is a device of this host (type %.40s)", d.Target, kind)
		return false
	}
	if d.Path == "" {
		return false // an empty tray
	}
	n.Disks = append(n.Disks, d)
	return true
}

// defaultPort is what libvirt adds to the definition of a domain that it starts.
func defaultPort(protocol string) string {
	switch protocol {
	case "nbd":
		return "10809"
	case "iscsi":
		return "3260"
	case "gluster":
		return "24007"
	case "sheepdog":
		return "7000"
	case "ssh":
		return "22"
	case "http":
		return "80"
	case "https":
		return "443"
	}
	return ""
}

// servers are those of a network source. own: one of them is this host itself,
// by a name that means another on every host; then there are none.
func (s *source) servers() (list []string, own bool) {
	for _, h := range s.Hosts {
		name := strings.ToLower(strings.TrimSpace(h.Name))
		switch {
		case h.Transport == "unix" || isLoopback(name):
			return nil, true
		case name == "":
			continue
		case h.Port != "" && h.Port != defaultPort(s.Protocol):
			name = net.JoinHostPort(name, h.Port)
		}
		list = append(list, name)
	}
	slices.Sort(list)
	return slices.Compact(list), false
}

func isLoopback(host string) bool {
	if host == "localhost" {
		return true
	}
	a, err := netip.ParseAddr(host)
	return err == nil && a.IsLoopback()
}

func (n *Needs) addFilesystem(f filesystem) {
	d := Disk{Device: "filesystem", Target: f.Target.Dir, ReadOnly: f.ReadOnly != nil, Shareable: true}
	switch f.Type {
	case "mount", "bind", "":
		d.Kind, d.Path = SourceDir, f.Source.Dir
	case "file":
		d.Kind, d.Path = SourceFile, f.Source.File
	case "block":
		d.Kind, d.Path = SourceBlock, f.Source.Dev
	case "volume":
		d.Kind, d.Pool, d.Path = SourceVolume, f.Source.Pool, f.Source.Volume
	case "ram":
		return
	}
	if d.Path == "" {
		n.local("its file system %s comes from this host", f.Target.Dir)
		return
	}
	n.Disks = append(n.Disks, d)
}

func (n *Needs) addInterface(i iface) {
	var w Network
	switch i.Type {
	case "network":
		w = Network{hypervisor.NetworkVirtual, i.Source.Network}
	case "bridge":
		w = Network{hypervisor.NetworkBridge, i.Source.Bridge}
	case "direct":
		w = Network{NetworkDirect, i.Source.Dev}
	case "user", "null", "server", "client", "mcast", "udp":
		return // qemu brings its own
	default: // hostdev, vdpa, vhostuser, ethernet, internal, …
		n.local("one of its network cards belongs to this host (type %.40s)", i.Type)
		return
	}
	for _, have := range n.Networks {
		if have == w {
			return
		}
	}
	n.Networks = append(n.Networks, w)
}

func (n *Needs) addLocalDevices(d devices) {
	for _, h := range d.Hostdevs {
		n.local("it uses a device of this host (%.40s)", strings.TrimSpace(h.Mode+" "+h.Type))
	}
	for _, t := range d.TPMs {
		switch t.Backend.Type {
		case "emulator":
			n.local("the state of its virtual TPM is kept on this host")
		default:
			n.local("it uses a TPM of this host (%.40s)", t.Backend.Type)
		}
	}
	for _, i := range d.Inputs {
		if i.Type == "passthrough" || i.Type == "evdev" {
			n.local("it uses an input device of this host")
		}
	}
	for _, s := range d.Smartcards {
		if s.Mode == "host" || s.Mode == "host-certificates" {
			n.local("it uses a smart card of this host")
		}
	}
	for _, s := range d.Shmems {
		n.local("it shares memory with this host (%.40s)", s.Name)
	}
	for _, m := range d.Memories {
		if p := strings.TrimSpace(m.Source.Path); p != "" {
			n.Disks = append(n.Disks, Disk{Kind: SourceFile, Device: "nvdimm", Path: p})
		}
	}
	for _, list := range [][]chardev{d.Serials, d.Parallels, d.Consoles, d.Channels} {
		for _, c := range list {
			if c.Type == "dev" {
				n.local("it uses the device %.100s of this host", c.Source.Path)
			}
		}
	}
}
