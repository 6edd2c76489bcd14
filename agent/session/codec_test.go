package session

import (
	"bytes"
	"errors"
	"reflect"
	"strings"
	"testing"

	lifeboatv1 "lifeboat/api/lifeboat/v1"
	"lifeboat/hypervisor"
)

var fullLedger = Ledger{
	Boot: "b", Synced: true, Term: 3, HAArmed: true,
	Lease:     LeaseMark{Armed: true, Boot: "b", Duration: 10e9},
	Managers:  []Manager{{ID: "n1", Addr: "10.0.0.1:7000"}, {Addr: "x:1"}},
	Protected: []Protected{{ID: vm1, Incarnation: 1 << 60, Wanted: true}},
	VMs: map[hypervisor.UUID]Entry{
		vm1: {Incarnation: 1 << 60, Phase: PhaseEnded, Boot: "b", Refusing: 1, Refused: 1, Failed: 2, Failure: "no \"disk\"\n", Ended: lifeboatv1.PowerReason_POWER_REASON_CRASHED, Fenced: true, Stopping: true},
		vm2: {},
	},
}

func TestLedgerRoundTrip(t *testing.T) {
	b, err := EncodeLedger(fullLedger)
	if err != nil {
		t.Fatal(err)
	}
	got, err := DecodeLedger(b)
	if err != nil || !reflect.DeepEqual(got, fullLedger) {
		t.Errorf("got %+v, %v", got, err)
	}
	again, err := EncodeLedger(got)
	if err != nil || !bytes.Equal(again, b) {
		t.Error("equal ledgers have other bytes")
	}
}

func TestDamageIsNoticed(t *testing.T) {
	good, err := EncodeLedger(fullLedger)
	if err != nil {
		t.Fatal(err)
	}
	for i := range good {
		bad := bytes.Clone(good)
		bad[i] ^= 1
		if _, err := DecodeLedger(bad); err == nil {
			t.Fatalf("bit flip in byte %d of %d is not noticed", i, len(good))
		}
		if _, err := DecodeLedger(good[:i]); err == nil {
			t.Fatalf("a file torn after byte %d is accepted", i)
		}
	}
	held, err := EncodeHeld(Held{Boot: "b"})
	if err != nil {
		t.Fatal(err)
	}
	_, err = DecodeLedger(held)
	if d := (*DamagedError)(nil); !errors.As(err, &d) || !strings.Contains(d.Why, "another file") {
		t.Errorf("a lease file as ledger: %v", err)
	}
	// A newer agent wrote what this one does not know: it may be a refusal.
	body := []byte(`{"boot":"b","forbidden":true}` + "\n")
	if _, err := DecodeLedger(append([]byte(header(ledgerKind, body)+"\n"), body...)); err == nil {
		t.Error("an unknown key is skipped")
	}
	body = []byte(`{"vms":{"00000000-0000-0000-0000-000000000001":{"phase":"paused"}}}` + "\n")
	if _, err := DecodeLedger(append([]byte(header(ledgerKind, body)+"\n"), body...)); err == nil {
		t.Error("an unknown phase is accepted")
	}
}

func FuzzDecodeLedger(f *testing.F) {
	b, err := EncodeLedger(fullLedger)
	if err != nil {
		f.Fatal(err)
	}
	_, body, _ := bytes.Cut(b, []byte("\n"))
	f.Add(body)
	f.Add([]byte("{}"))
	f.Add([]byte("null"))
	f.Fuzz(func(t *testing.T, body []byte) {
		// The checksum keeps a fuzzer out: give every body the right one.
		for _, b := range [][]byte{body, append([]byte(header(ledgerKind, body)+"\n"), body...)} {
			l, err := DecodeLedger(b)
			if d := (*DamagedError)(nil); err != nil && !errors.As(err, &d) {
				t.Fatalf("%v is no DamagedError", err)
			}
			if err != nil {
				continue
			}
			again, err := EncodeLedger(l)
			if err != nil {
				t.Fatalf("encode what was decoded: %v", err)
			}
			if l2, err := DecodeLedger(again); err != nil || !reflect.DeepEqual(l, l2) {
				t.Fatalf("%+v comes back as %+v, %v", l, l2, err)
			}
		}
	})
}

func FuzzDecodeHeld(f *testing.F) {
	b, err := EncodeHeld(Held{Boot: "b", Armed: true, Until: 5})
	if err != nil {
		f.Fatal(err)
	}
	_, body, _ := bytes.Cut(b, []byte("\n"))
	f.Add(body)
	f.Fuzz(func(t *testing.T, body []byte) {
		h, err := DecodeHeld(append([]byte(header(leaseKind, body)+"\n"), body...))
		if err == nil && h.Armed && h.Valid(h.Boot, h.Until) {
			t.Errorf("%+v is valid at its end", h)
		}
		_, _ = DecodeHeld(body)
	})
}

func TestSpecOfDisks(t *testing.T) {
	const xml = `<domain type='kvm'><name>a</name><uuid>00000000-0000-0000-0000-000000000001</uuid>
<memory unit='GiB'>2</memory><vcpu>4</vcpu>
<os><type arch='x86_64' machine='q35'>hvm</type><nvram>/var/lib/libvirt/qemu/nvram/a.fd</nvram></os>
<devices>
<disk type='file' device='disk'><source file='/mnt/vms/a.qcow2'/><target dev='vda'/></disk>
<disk type='file' device='disk'><source file='/mnt/vms/deep/b.qcow2'/><target dev='vdb'/></disk>
<disk type='volume' device='disk'><source pool='rbd' volume='c'/><target dev='vdc'/></disk>
<disk type='network' device='disk'><source protocol='rbd' name='pool/d'><host name='mon2' port='6789'/><host name='mon1'/></source><target dev='vdd'/></disk>
<disk type='file' device='cdrom'><source file='/iso/x.iso' startupPolicy='optional'/><target dev='sda'/></disk>
<interface type='bridge'><source bridge='br0'/></interface>
</devices></domain>`
	s := Spec(hypervisor.NewDefinition(vm1, []byte(xml), true), []hypervisor.Storage{
		{Name: "vms", Kind: "netfs", Path: "/mnt/vms", Source: "nfs:/vms", Shared: true},
		{Name: "deep", Kind: "netfs", Path: "/mnt/vms/deep/", Source: "nfs:/deep", Shared: true},
		{Name: "rbd", Kind: "rbd", Source: "ceph/vms", Shared: true},
		{Name: "local", Kind: "dir", Path: "/var/lib/libvirt"},
	})
	var got []string
	for _, d := range s.Disks {
		got = append(got, d.Path+" on "+d.Storage)
	}
	want := []string{
		"/var/lib/libvirt/qemu/nvram/a.fd on ", "/mnt/vms/a.qcow2 on nfs:/vms@/mnt/vms",
		"/mnt/vms/deep/b.qcow2 on nfs:/deep@/mnt/vms/deep", "rbd/c on ceph/vms#rbd", "rbd://mon1,mon2:6789/pool/d on ",
	}
	if !reflect.DeepEqual(got, want) {
		t.Errorf("disks\n%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
	if len(s.Local) != 1 || !strings.Contains(s.Local[0], "UEFI") || s.MemoryBytes != 2<<30 || s.Cpus != 4 || s.Networks[0] != "bridge:br0" {
		t.Errorf("spec %v", s)
	}
	local := strings.NewReplacer("<nvram>/var/lib/libvirt/qemu/nvram/a.fd</nvram>", "<kernel>/boot/vmlinuz</kernel>", "/mnt/vms/a.qcow2", "/srv/a.qcow2").Replace(xml)
	s = Spec(hypervisor.NewDefinition(vm1, []byte(local), true), []hypervisor.Storage{{Name: "vms", Kind: "netfs", Path: "/mnt/vms", Source: "nfs:/vms", Shared: true}})
	if len(s.Local) != 1 || !strings.Contains(s.Local[0], "/srv/a.qcow2") {
		t.Errorf("a kernel is no data, a disk on no shared storage is: %q", s.Local)
	}
	if bad := Spec(hypervisor.NewDefinition(vm1, []byte("<domain"), true), nil); bad.Problem == "" || len(bad.Hash) != 32 || len(bad.Definition) != 0 {
		t.Errorf("of half a definition: %v", bad)
	}
}
