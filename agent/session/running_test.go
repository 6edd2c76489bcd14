package session

import (
	"fmt"
	"reflect"
	"strings"
	"testing"

	"lifeboat/hypervisor"
)

// S6: whether two domains write to one disk is judged by what runs; S23: what is
// started elsewhere is the definition.
func TestS6SpecOfARunningDomain(t *testing.T) {
	xml := func(disks ...string) []byte {
		return []byte("<domain type='kvm'><name>a</name><uuid>00000000-0000-0000-0000-000000000001</uuid><memory>1</memory><devices>" + strings.Join(disks, "") + "</devices></domain>")
	}
	file := func(path, more string) string {
		return "<disk type='file' device='disk'><source file='/mnt/vms/" + path + "'/>" + more + "<target dev='vda'/></disk>"
	}
	below := func(path string) string {
		return "<backingStore type='file'><source file='/mnt/vms/" + path + "'/></backingStore>"
	}
	medium := "<disk type='file' device='cdrom'><source file='/iso/x.iso' startupPolicy='optional'/><target dev='sda'/><readonly/></disk>"
	for name, c := range map[string]struct {
		running []byte
		want    []string // path, only, backing
		same    bool     // the hash is the definition's
	}{
		"off":                      {nil, []string{"a 0 false"}, true},
		"as it is defined":         {xml(file("a", ""), medium), []string{"a 0 false"}, true},
		"edited since":             {xml(file("old", "")), []string{"a 1 false", "old 2 false"}, false},
		"a snapshot was taken":     {xml(file("a.snap", below("a"))), []string{"a 1 false", "a.snap 2 false", "a 2 true"}, false},
		"with an image below":      {xml(file("a", below("base"))), []string{"a 0 false", "base 2 true"}, false},
		"while it is copied":       {xml(file("a", "<mirror type='file' job='copy'><source file='/mnt/vms/new'/></mirror>")), []string{"a 0 false", "new 2 false"}, false},
		"a disk was taken from it": {xml(), []string{"a 1 false"}, false},
		"unreadable":               {[]byte("<domain"), []string{"a 0 false", " 2 false"}, false},
	} {
		def := hypervisor.NewDefinition(vm1, xml(file("a", ""), medium), true)
		def.Running = c.running
		s := Spec(def, []hypervisor.Storage{{Name: "vms", Kind: "netfs", Path: "/mnt/vms", Source: "nfs:/vms", Shared: true}})
		var got []string
		for _, d := range s.Disks {
			got = append(got, fmt.Sprintf("%s %d %v", strings.TrimPrefix(d.Path, "/mnt/vms/"), d.Only, d.Backing))
			if d.Path != "" && d.Storage == "" {
				t.Errorf("%s: %s is on no storage", name, d.Path)
			}
		}
		if !reflect.DeepEqual(got, c.want) {
			t.Errorf("%s: disks %q, want %q", name, got, c.want)
		}
		if hash := SpecHash(def); (hash == def.Hash) != c.same || string(s.Hash) != string(hash[:]) || string(s.Definition) != string(def.XML) || len(s.Local) != 0 {
			t.Errorf("%s: hash %x, of the definition %x; local %q", name, s.Hash, def.Hash, s.Local)
		}
	}
	// Another disk that runs is another hash.
	hashes := map[[32]byte]bool{}
	for _, path := range []string{"a", "b", "c"} {
		def := hypervisor.NewDefinition(vm1, xml(file("a", "")), true)
		def.Running = xml(file(path, ""))
		hashes[SpecHash(def)] = true
	}
	if len(hashes) != 3 {
		t.Errorf("%d hashes of three", len(hashes))
	}
}
