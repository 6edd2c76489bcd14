package node

import (
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"
)

// benchTemplate is how one kind of VM is defined. There are a hundred of them,
// as in a fleet with several generations of images and tools.
type benchTemplate struct {
	machine, cpu, os, flavour, tool string
	bus, format, cache, pool        string
	disks, nics, ports              int
	hyperv, uefi, spice, tpm, numa  bool
	iothreads, queues               int
	memoryMiB, cpus                 int
	owner, project                  string
}

func pick[T any](r *rand.Rand, of ...T) T { return of[r.IntN(len(of))] }

// word is text that no dictionary knows.
func word(r *rand.Rand, n int) string {
	const letters = "abcdefghijklmnopqrstuvwxyz"
	var b strings.Builder
	for range n {
		b.WriteByte(letters[r.IntN(len(letters))])
	}
	return b.String()
}

func hexText(r *rand.Rand, n int) string {
	var b strings.Builder
	for range n {
		b.WriteByte("0123456789abcdef"[r.IntN(16)])
	}
	return b.String()
}

func uuidText(r *rand.Rand) string {
	h := hexText(r, 32)
	return h[:8] + "-" + h[8:12] + "-4" + h[13:16] + "-a" + h[17:20] + "-" + h[20:]
}

func benchTemplates() []benchTemplate {
	r := rand.New(rand.NewPCG(1, 2))
	var all []benchTemplate
	for range 100 {
		all = append(all, benchTemplate{
			machine: pick(r, "pc-q35-7.2", "pc-q35-8.2", "pc-q35-rhel9.4.0", "pc-i440fx-7.2", "pc-i440fx-focal"),
			cpu:     pick(r, "Cascadelake-Server-noTSX", "EPYC-Milan", "Icelake-Server", "Skylake-Server-IBRS", "host-model", "host-passthrough", "x86-64-v3"),
			os:      pick(r, "http://debian.org/debian/12", "http://ubuntu.com/ubuntu/24.04", "http://microsoft.com/win/2k22", "http://redhat.com/rhel/9.4", "http://rockylinux.org/rocky/9"),
			flavour: pick(r, "m1.small", "m1.large", "c5.xlarge", "db.16", "web.2") + word(r, 3), tool: pick(r, "nova", "virt-manager", "cloudstack", "ovirt"),
			bus: pick(r, "virtio", "virtio", "scsi", "sata"), format: pick(r, "qcow2", "qcow2", "raw"), cache: pick(r, "none", "writeback", "directsync"),
			pool: pick(r, "/srv/vms", "/mnt/nfs-", "/var/lib/libvirt/images/", "/gfs2/") + word(r, 6), disks: 1 + r.IntN(3), nics: 1 + r.IntN(3), ports: 4 + r.IntN(6),
			hyperv: r.IntN(4) == 0, uefi: r.IntN(3) == 0, spice: r.IntN(2) == 0, tpm: r.IntN(4) == 0, numa: r.IntN(5) == 0,
			iothreads: r.IntN(4), queues: pick(r, 0, 2, 4, 8), memoryMiB: 1024 << r.IntN(6), cpus: 1 << r.IntN(5), owner: word(r, 9), project: word(r, 12)})
	}
	return all
}

// define writes the definition of one VM: about 4 KiB as libvirt prints it.
func (t benchTemplate) define(r *rand.Rand, uuid, name string) string {
	var b strings.Builder
	w := func(format string, args ...any) { fmt.Fprintf(&b, format, args...) }
	w("<domain type='kvm'>\n  <name>%s</name>\n  <uuid>%s</uuid>\n  <title>%s for %s</title>\n  <metadata>\n", name, uuid, name, t.project)
	switch t.tool {
	case "nova":
		w("    <nova:instance xmlns:nova=\"http://openstack.org/xmlns/libvirt/nova/1.1\">\n      <nova:package version=\"27.1.0\"/>\n      <nova:name>%s</nova:name>\n      <nova:creationTime>2026-%02d-%02d %02d:%02d:%02d</nova:creationTime>\n", name, 1+r.IntN(11), 1+r.IntN(28), r.IntN(24), r.IntN(60), r.IntN(60))
		w("      <nova:flavor name=%q>\n        <nova:memory>%d</nova:memory>\n        <nova:vcpus>%d</nova:vcpus>\n      </nova:flavor>\n      <nova:owner>\n        <nova:user uuid=\"%s\">%s</nova:user>\n        <nova:project uuid=\"%s\">%s</nova:project>\n      </nova:owner>\n    </nova:instance>\n",
			t.flavour, t.memoryMiB, t.cpus, hexText(r, 32), t.owner, hexText(r, 32), t.project)
	case "ovirt":
		w("    <ovirt-vm:vm xmlns:ovirt-vm=\"http://ovirt.org/vm/1.0\">\n      <ovirt-vm:clusterVersion>4.7</ovirt-vm:clusterVersion>\n      <ovirt-vm:destroy_on_reboot type=\"bool\">False</ovirt-vm:destroy_on_reboot>\n      <ovirt-vm:startTime type=\"float\">17%08d.%06d</ovirt-vm:startTime>\n    </ovirt-vm:vm>\n", r.IntN(1e8), r.IntN(1e6))
	default:
		w("    <libosinfo:libosinfo xmlns:libosinfo=\"http://libosinfo.org/xmlns/libvirt/domain/1.0\">\n      <libosinfo:os id=%q/>\n    </libosinfo:libosinfo>\n    <%s:tag xmlns:%s=\"http://example.org/%s\">%s %s</%s:tag>\n", t.os, t.owner, t.owner, t.owner, t.project, hexText(r, 8), t.owner)
	}
	w("  </metadata>\n  <memory unit='KiB'>%d</memory>\n  <currentMemory unit='KiB'>%d</currentMemory>\n  <vcpu placement='static'>%d</vcpu>\n", t.memoryMiB<<10, t.memoryMiB<<10, t.cpus)
	if t.iothreads > 0 {
		w("  <iothreads>%d</iothreads>\n", t.iothreads)
	}
	w("  <os>\n    <type arch='x86_64' machine='%s'>hvm</type>\n", t.machine)
	if t.uefi {
		w("    <loader readonly='yes' secure='yes' type='pflash'>/usr/share/OVMF/OVMF_CODE_4M.ms.fd</loader>\n    <nvram template='/usr/share/OVMF/OVMF_VARS_4M.ms.fd'>%s/%s_VARS.fd</nvram>\n", t.pool, name)
	}
	w("    <boot dev='hd'/>\n  </os>\n  <features>\n    <acpi/>\n    <apic/>\n")
	if t.hyperv {
		w("    <hyperv mode='custom'>\n      <relaxed state='on'/>\n      <vapic state='on'/>\n      <spinlocks state='on' retries='8191'/>\n    </hyperv>\n")
	}
	w("  </features>\n")
	if strings.HasPrefix(t.cpu, "host-") {
		w("  <cpu mode='%s' check='partial'/>\n", t.cpu)
	} else {
		w("  <cpu mode='custom' match='exact' check='partial'>\n    <model fallback='allow'>%s</model>\n    <topology sockets='1' dies='1' cores='%d' threads='1'/>\n  </cpu>\n", t.cpu, t.cpus)
	}
	w("  <clock offset='%s'/>\n  <on_poweroff>destroy</on_poweroff>\n  <on_reboot>restart</on_reboot>\n  <on_crash>destroy</on_crash>\n  <devices>\n    <emulator>/usr/bin/qemu-system-x86_64</emulator>\n", pick(r, "utc", "utc", "utc", "localtime"))
	for i := range t.disks {
		w("    <disk type='file' device='disk'>\n      <driver name='qemu' type='%s' cache='%s' discard='unmap'/>\n      <source file='%s/%s-%d.%s'/>\n      <target dev='%s%c' bus='%s'/>\n      <serial>%s</serial>\n", t.format, t.cache, t.pool, uuid, i, t.format, map[bool]string{true: "vd", false: "sd"}[t.bus == "virtio"], 'a'+i, t.bus, uuidText(r)[:20])
		w("      <address type='pci' domain='0x0000' bus='0x%02x' slot='0x00' function='0x0'/>\n    </disk>\n", 4+i)
	}
	for i := range t.ports {
		w("    <controller type='pci' index='%d' model='pcie-root-port'>\n      <model name='pcie-root-port'/>\n      <target chassis='%d' port='0x%x'/>\n      <address type='pci' domain='0x0000' bus='0x00' slot='0x02' function='0x%x'/>\n    </controller>\n", i+1, i+1, 16+i, i%8)
		if b.Len() > 3400 {
			break
		}
	}
	for i := range t.nics {
		w("    <interface type='bridge'>\n      <mac address='52:54:00:%s:%s:%s'/>\n      <source bridge='br%d'/>\n      <target dev='vnet%d'/>\n      <model type='virtio'/>\n", hexText(r, 2), hexText(r, 2), hexText(r, 2), i, r.IntN(200))
		if t.queues > 0 {
			w("      <driver name='vhost' queues='%d'/>\n", t.queues)
		}
		w("      <address type='pci' domain='0x0000' bus='0x%02x' slot='0x00' function='0x0'/>\n    </interface>\n", 1+i)
	}
	if t.tpm {
		w("    <tpm model='tpm-crb'>\n      <backend type='emulator' version='2.0'/>\n    </tpm>\n")
	}
	w("    <channel type='unix'>\n      <source mode='bind' path='/var/lib/libvirt/qemu/channel/target/%s.agent'/>\n      <target type='virtio' name='org.qemu.guest_agent.0'/>\n    </channel>\n", name)
	if t.spice {
		w("    <graphics type='spice' autoport='yes' passwd='%s'>\n      <listen type='address'/>\n    </graphics>\n", hexText(r, 8))
	} else {
		w("    <graphics type='vnc' port='%d' autoport='yes' listen='127.0.0.1'/>\n", 5900+r.IntN(200))
	}
	// The rest is what tools add up to the size that is asked for.
	for i := 0; b.Len() < 4096-240; i++ {
		w("    <controller type='usb' index='%d' model='%s'>\n      <alias name='usb%d'/>\n      <address type='pci' domain='0x0000' bus='0x00' slot='0x%02x' function='0x%d'/>\n    </controller>\n", i, pick(r, "ich9-ehci1", "ich9-uhci1", "ich9-uhci2", "qemu-xhci"), i, 3+r.IntN(28), i%8)
	}
	w("    <memballoon model='virtio'>\n      <address type='pci' domain='0x0000' bus='0x0%d' slot='0x00' function='0x0'/>\n    </memballoon>\n    <rng model='virtio'>\n      <backend model='random'>/dev/urandom</backend>\n    </rng>\n  </devices>\n</domain>\n", 6+r.IntN(3))
	return b.String()
}

// BenchmarkSeal compresses and seals definitions of 4 KiB.
func BenchmarkSeal(b *testing.B) {
	s, err := newSealer(benchKey())
	if err != nil {
		b.Fatal(err)
	}
	templates := benchTemplates()
	r := rand.New(rand.NewPCG(3, 4))
	var texts [][]byte
	size := 0
	for i := range 1000 {
		text := templates[i%100].define(r, uuidText(r), fmt.Sprintf("vm-%05d-%03d", i, i))
		texts, size = append(texts, []byte(text)), size+len(text)
	}
	sealed, n := 0, 0
	for b.Loop() {
		sealed += len(s.seal(texts[n%1000], []byte("about")))
		n++
	}
	b.ReportMetric(float64(size)/1000, "bytes/definition")
	b.ReportMetric(float64(sealed)/float64(n), "bytes/sealed")
}
