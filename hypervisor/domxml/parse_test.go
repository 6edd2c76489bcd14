package domxml

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"lifeboat/hypervisor"
)

const full = `<?xml version="1.0"?>
<domain type='kvm' id='3' xmlns:qemu='http://libvirt.org/schemas/domain/qemu/1.0'>
  <name>db &amp; web</name>
  <uuid>8d2c6f0e-1f5b-4c0e-9a54-0d3f2b1c7e60</uuid>
  <metadata>
    <other:protect xmlns:other="urn:other" ha="nonsense"/>
    <lb:protect xmlns:lb="https://lifeboat.dev/xmlns/1" ha="always" priority="high" max_restart="0"/>
  </metadata>
  <memory unit='GiB'>4</memory>
  <currentMemory unit='GiB'>2</currentMemory>
  <vcpu placement='static' current='2'>8</vcpu>
  <os>
    <type arch='x86_64' machine='pc-q35-7.2'>hvm</type>
    <loader readonly='yes' type='pflash'>/usr/share/OVMF/OVMF_CODE.fd</loader>
    <nvram template='/x'>/var/lib/libvirt/qemu/nvram/db_VARS.fd</nvram>
  </os>
  <cpu mode='custom' match='exact'><model fallback='forbid'>Skylake-Server</model></cpu>
  <devices>
    <emulator>/usr/bin/qemu-system-x86_64</emulator>
    <disk type='file' device='disk'>
      <driver name='qemu' type='qcow2'/>
      <source file='/srv/vms/db.qcow2' index='2'/>
      <backingStore type='file' index='3'><format type='qcow2'/><source file='/srv/base.qcow2'/><backingStore/></backingStore>
      <target dev='vda'/>
    </disk>
    <disk type='block' device='disk'><source dev='/dev/mapper/lun1'/><target dev='vdb'/><shareable/></disk>
    <disk type='network' device='disk'><source protocol='rbd' name='pool/image'><host name='mon1' port='6789'/></source><target dev='vdc'/></disk>
    <disk type='network' device='disk'><source protocol='nbd'><host name='127.0.0.1'/></source><target dev='vdd'/></disk>
    <disk type='volume' device='disk'><source pool='default' volume='v1'/><target dev='vde'/></disk>
    <disk type='nvme' device='disk'><source type='pci' namespace='1'/><target dev='vdf'/></disk>
    <disk type='file' device='cdrom'><target dev='sda'/><readonly/></disk>
    <disk type='file' device='cdrom'><source file='/root/i.iso' startupPolicy='optional'/><target dev='sdb'/><readonly/></disk>
    <interface type='network'><source network='default' portid='x' bridge='virbr0'/></interface>
    <interface type='network'><source network='default'/></interface>
    <interface type='bridge'><source bridge='br0'/></interface>
    <interface type='direct'><source dev='eth0' mode='bridge'/></interface>
    <interface type='user'/>
    <interface type='hostdev'><source/></interface>
    <hostdev mode='subsystem' type='pci'><source/></hostdev>
    <tpm model='tpm-crb'><backend type='emulator' version='2.0'/></tpm>
    <filesystem type='mount'><source dir='/srv/share'/><target dir='tag'/></filesystem>
    <serial type='dev'><source path='/dev/ttyS0'/></serial>
    <future-device><knob/></future-device>
  </devices>
  <qemu:commandline><qemu:arg value='-x'/></qemu:commandline>
</domain>
`

func TestParseFull(t *testing.T) {
	got, err := Parse([]byte(full))
	if err != nil {
		t.Fatal(err)
	}
	zero := 0
	id, _ := hypervisor.ParseUUID("8d2c6f0e-1f5b-4c0e-9a54-0d3f2b1c7e60")
	want := Needs{
		Name: "db & web", UUID: id, DomainType: "kvm", VCPUs: 2, MemoryBytes: 4 << 30,
		Arch: "x86_64", Machine: "pc-q35-7.2", CPUModel: "Skylake-Server", Emulator: "/usr/bin/qemu-system-x86_64",
		Disks: []Disk{
			{Kind: SourceFile, Device: "nvram", Path: "/var/lib/libvirt/qemu/nvram/db_VARS.fd"},
			{Kind: SourceFile, Device: "disk", Target: "vda", Path: "/srv/vms/db.qcow2"},
			{Kind: SourceFile, Device: "backing", Target: "vda", Path: "/srv/base.qcow2", ReadOnly: true},
			{Kind: SourceBlock, Device: "disk", Target: "vdb", Path: "/dev/mapper/lun1", Shareable: true},
			{Kind: SourceNetwork, Device: "disk", Target: "vdc", Path: "pool/image", Protocol: "rbd", Servers: []string{"mon1:6789"}},
			{Kind: SourceNetwork, Device: "disk", Target: "vdd", Protocol: "nbd"},
			{Kind: SourceVolume, Device: "disk", Target: "vde", Path: "v1", Pool: "default"},
			{Kind: SourceFile, Device: "cdrom", Target: "sdb", Path: "/root/i.iso", ReadOnly: true, Optional: true},
			{Kind: SourceDir, Device: "filesystem", Target: "tag", Path: "/srv/share", Shareable: true},
		},
		Networks: []Network{{"network", "default"}, {"bridge", "br0"}, {"direct", "eth0"}},
		LocalReasons: []string{
			"its disk vdd is served by this host itself (nbd)",
			"its disk vdf is a device of this host (type nvme)",
			"one of its network cards belongs to this host (type hostdev)",
			"it uses a device of this host (subsystem pci)",
			"the state of its virtual TPM is kept on this host",
			"it uses the device /dev/ttyS0 of this host",
		},
		Protect: &Protect{HA: "always", Priority: "high", MaxRestart: &zero},
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
}

// Two clusters may both have pool/image.
func TestNetworkDisksNameTheirServers(t *testing.T) {
	for in, want := range map[string]string{
		`protocol='rbd' name='p/i'><host name='B'/><host name='a' port='6789'/><host name='b'/>`: "rbd://a:6789,b/p/i",
		`protocol='rbd' name='p/i'>`: "rbd:///p/i",
		`protocol='iscsi' name='iqn.x:y/1'><host name='fd00::1' port='3261'/>`: "iscsi://[fd00::1]:3261/iqn.x:y/1",
		`protocol='iscsi' name='iqn.x:y/1'><host name='s' port='3260'/>`:       "iscsi://s/iqn.x:y/1",
		`protocol='nbd' name='root'><host name='localhost'/>`:                  "nbd:///root",
		`protocol='nbd'><host transport='unix' socket='/run/nbd'/>`:            "nbd:///",
		`protocol='nbd'><host name='s' port='10809'/>`:                         "nbd://s/",
	} {
		n, err := Parse([]byte(`<domain><name>a</name><memory>1</memory><devices><disk type='network'><source ` + in + `</source></disk></devices></domain>`))
		if err != nil || len(n.Disks) != 1 || n.Disks[0].URL() != want {
			t.Errorf("%s: got %v, %v, want %s", in, n.Disks, err, want)
		}
	}
}

func TestUEFIWithoutAPathIsLocal(t *testing.T) {
	n, err := Parse([]byte(`<domain><name>a</name><memory>1</memory><os firmware='efi'/></domain>`))
	if err != nil || len(n.LocalReasons) != 1 || !strings.Contains(n.LocalReasons[0], "NVRAM") {
		t.Errorf("got %v, %v", n.LocalReasons, err)
	}
}

func TestMemoryUnits(t *testing.T) {
	for in, want := range map[string]uint64{
		`<memory>1</memory>`: 1024, `<memory unit='b'>7</memory>`: 7, `<memory unit='KB'>1</memory>`: 1000,
		`<memory unit='M'>1</memory>`: 1 << 20, `<memory unit='MiB'> 2 </memory>`: 2 << 20, `<memory unit='TB'>1</memory>`: 1e12,
	} {
		n, err := Parse([]byte("<domain><name>a</name>" + in + "</domain>"))
		if err != nil || n.MemoryBytes != want {
			t.Errorf("%s = %d, %v, want %d", in, n.MemoryBytes, err, want)
		}
	}
}

func TestParseRefuses(t *testing.T) {
	ok := "<name>a</name><memory>1</memory>"
	for name, tc := range map[string]struct{ in, want string }{
		"nothing":       {"", "empty"},
		"not a domain":  {"<network/>", "expected element type <domain>"},
		"cut off":       {"<domain><name>a", "unexpected EOF"},
		"no name":       {"<domain><memory>1</memory></domain>", "no <name>"},
		"bad uuid":      {"<domain><uuid>7</uuid>" + ok + "</domain>", "want 32 hex digits"},
		"bad memory":    {"<domain><name>a</name><memory>-5</memory></domain>", "want a positive number"},
		"huge memory":   {"<domain><name>a</name><memory unit='EiB'>99999</memory></domain>", "more than any host"},
		"bad unit":      {"<domain><name>a</name><memory unit='MBit'>1</memory></domain>", "unknown unit"},
		"bad vcpu":      {"<domain>" + ok + "<vcpu>0</vcpu></domain>", "<vcpu>"},
		"two documents": {"<domain>" + ok + "</domain><domain/>", "follows"},
		"too long":      {strings.Repeat(" ", MaxSize+1), "at most"},
		"misspelt":      {"<domain>" + ok + `<metadata><p:protect xmlns:p="https://lifeboat.dev/xmlns/1" max_restrat="1"/></metadata></domain>`, "no such attribute"},
		"bad ha":        {"<domain>" + ok + `<metadata><p:protect xmlns:p="https://lifeboat.dev/xmlns/1" ha="yes"/></metadata></domain>`, "want one of restart, always, none"},
		"entity":        {`<!DOCTYPE d [<!ENTITY e SYSTEM "file:///etc/passwd">]><domain><name>&e;</name><memory>1</memory></domain>`, "invalid character entity"},
	} {
		_, err := Parse([]byte(tc.in))
		if err == nil || !strings.Contains(err.Error(), tc.want) {
			t.Errorf("%s: got %v, want an error with %q", name, err, tc.want)
		}
	}
}

func TestTemplateReadsBack(t *testing.T) {
	id, _ := hypervisor.ParseUUID("8d2c6f0e-1f5b-4c0e-9a54-0d3f2b1c7e60")
	b, err := Template{Name: "a<b>'&", UUID: id, VCPUs: 3, MemoryBytes: 5 << 20, Disk: "/srv/a b'.img", Network: "net", Protect: "always"}.Render()
	if err != nil {
		t.Fatal(err)
	}
	n, err := Parse(b)
	if err != nil {
		t.Fatalf("%v in\n%s", err, b)
	}
	if n.Name != "a<b>'&" || n.UUID != id || n.VCPUs != 3 || n.MemoryBytes != 5<<20 || len(n.Disks) != 1 ||
		n.Disks[0].Path != "/srv/a b'.img" || len(n.Networks) != 1 || n.Protect == nil || n.Protect.HA != "always" || n.LocalReasons != nil {
		t.Errorf("read back as %+v", n)
	}
}

func FuzzParse(f *testing.F) {
	f.Add([]byte(full))
	f.Add([]byte(`<domain><name>a</name><memory unit=''>1</memory><os><nvram type='network'><source/></nvram></os></domain>`))
	f.Fuzz(func(t *testing.T, b []byte) {
		n, err := Parse(b)
		if err != nil {
			return
		}
		if n.Name == "" || n.MemoryBytes == 0 || n.VCPUs <= 0 {
			t.Fatalf("accepted without essentials: %+v", n)
		}
		for _, d := range n.Disks {
			if d.Kind == "" || d.Path == "" && d.Kind != SourceNetwork {
				t.Fatalf("a disk that nobody can look for: %+v", d)
			}
		}
	})
}
