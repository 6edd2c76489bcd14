package archive

import (
	"bytes"
	"errors"
	"flag"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"google.golang.org/protobuf/proto"

	"lifeboat/fsm"
	"lifeboat/fsm/logpb"
)

var update = flag.Bool("update", false, "write the golden archive")

const level = 1

// small is a state with a host and two VMs, one of them protected.
func small(t testing.TB) *fsm.State {
	t.Helper()
	m := fsm.NewMachine()
	id := func(n byte) []byte { return append(make([]byte, 15), n) }
	for i, c := range []*logpb.Command{
		{Body: &logpb.Command_ClusterInit{ClusterInit: &logpb.ClusterInit{ClusterId: "c1", FeatureLevel: 1}}},
		{Body: &logpb.Command_HostRegister{HostRegister: &logpb.HostRegister{Id: "h1", MachineId: "m1", BootId: "b1", Session: "s1", Inventory: &logpb.Inventory{Cpus: 4, MemoryBytes: 8 << 30},
			Vms: &logpb.VMEntries{Ids: append(id(1), id(2)...), Power: []byte{1, 1}, Reason: []byte{1, 1}, Details: []*logpb.VMDetail{{Name: "web"}, {Pos: 1, Name: "db"}}}}}},
		{Body: &logpb.Command_VmProtect{VmProtect: &logpb.VMProtect{Vm: id(1), Protect: &logpb.Protection{On: true}}}},
	} {
		c.TimeUnixNs = int64(1_700_000_000_000_000_000) + int64(i)
		data, err := proto.Marshal(c)
		if err != nil {
			t.Fatal(err)
		}
		if r := m.Apply([]fsm.Entry{{Index: uint64(i + 1), Term: 1, Data: data}}); r[0].Rejected != "" {
			t.Fatal(r[0].Rejected)
		}
	}
	return m.State()
}

func packed(t testing.TB, s *fsm.State) []byte {
	t.Helper()
	var b bytes.Buffer
	if err := Write(&b, s, "test", "n1", time.Unix(1_700_000_001, 0)); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

func TestArchiveIsTheState(t *testing.T) {
	s := small(t)
	m, got, err := Read(bytes.NewReader(packed(t, s)), level)
	if err != nil {
		t.Fatal(err)
	}
	if got.Sum() != s.Sum() || m.VMs != 2 || m.Protected != 1 || m.Hosts != 1 || m.ClusterID != "c1" || m.Index != 3 {
		t.Errorf("read %+v", m)
	}
}

// An archive of the first release is read for ever.
func TestGoldenArchive(t *testing.T) {
	path := filepath.Join("testdata", "format1.lifeboat")
	if *update {
		if err := os.WriteFile(path, packed(t, small(t)), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	raw, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	m, s, err := Read(bytes.NewReader(raw), level)
	if err != nil {
		t.Fatal(err)
	}
	if s.Sum() != small(t).Sum() || m.Digest == "" || m.Node != "n1" || !m.Taken.Equal(time.Unix(1_700_000_001, 0)) {
		t.Errorf("read %+v", m)
	}
}

// Every truncation and every flipped bit is refused, or changes nothing.
func TestDamageIsRefused(t *testing.T) {
	s := small(t)
	raw := packed(t, s)
	for n := range raw {
		if _, _, err := Read(bytes.NewReader(raw[:n]), level); !errors.Is(err, ErrArchive) {
			t.Fatalf("the first %d of %d bytes: %v", n, len(raw), err)
		}
	}
	for n := range raw {
		for bit := range 8 {
			bad := bytes.Clone(raw)
			bad[n] ^= 1 << bit
			if _, got, err := Read(bytes.NewReader(bad), level); err == nil && got.Sum() != s.Sum() {
				t.Fatalf("bit %d of byte %d makes another state", bit, n)
			}
		}
	}
	if _, _, err := Read(bytes.NewReader(append(bytes.Clone(raw), 'x')), level); err == nil {
		t.Error("something after its end is not noticed")
	}
}

func TestNewerIsRefused(t *testing.T) {
	_, _, err := Read(bytes.NewReader(packed(t, small(t))), 0)
	if err == nil || !strings.Contains(err.Error(), "upgrade first") {
		t.Errorf("a newer feature level: %v", err)
	}
}

func FuzzRead(f *testing.F) {
	f.Add(packed(f, small(f)))
	f.Fuzz(func(t *testing.T, raw []byte) {
		if _, s, err := Read(bytes.NewReader(raw), level); err == nil && s.Check() != nil {
			t.Error("it is read and contradicts itself")
		}
	})
}
