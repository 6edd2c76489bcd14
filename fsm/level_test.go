package fsm

import (
	"bytes"
	"errors"
	"slices"
	"strings"
	"testing"

	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"

	"lifeboat/fsm/logpb"
)

// The level rises and never falls, and each rise is one event.
func TestFeatureRaise(t *testing.T) {
	l := newLab(t)
	count := func() (n int) {
		for _, e := range l.m.State().EventsAfter(0) {
			if e.Type == "CLUSTER.LEVEL" {
				n++
			}
		}
		return n
	}
	for _, c := range []struct{ raise, level, events uint32 }{{1, 1, 0}, {2, 2, 1}, {2, 2, 1}, {1, 2, 1}, {3, 3, 2}, {0, 3, 2}} {
		l.ok(&logpb.FeatureRaise{Level: c.raise, Version: "0.3"})
		if s := l.m.State(); s.Level != c.level || count() != int(c.events) {
			t.Errorf("raised to %d: it is at %d, after %d events", c.raise, s.Level, count())
		}
	}
	if v := l.m.State().LevelVersion; v != "0.3" {
		t.Errorf("raised by %q", v)
	}
	m := NewMachine()
	if r := m.Apply([]Entry{{Index: 1, Term: 1, Data: wire(t, &logpb.FeatureRaise{Level: 2})}})[0]; r.Rejected == "" || m.State().Level != 1 {
		t.Errorf("a cluster that was not founded is at level %d: %v", m.State().Level, r)
	}
}

func wire(t testing.TB, body proto.Message) []byte {
	b, err := proto.Marshal(command(body))
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// What a build does not know is refused as such, and Apply does not go past it.
func TestNewerEntriesStopAnOlderBuild(t *testing.T) {
	canary := wire(t, &logpb.Canary{Node: "n1"})
	cases := map[string]struct {
		data  []byte
		level uint32
		want  string // "" = the build may go on
	}{
		"what it knows":            {canary, 1, ""},
		"a node is steered":        {wire(t, &logpb.NodeSteer{Id: "n1"}), 2, ""},
		"to a build before that":   {wire(t, &logpb.NodeSteer{Id: "n1"}), 1, "knows feature levels up to 1"},
		"a level that it knows":    {wire(t, &logpb.FeatureRaise{Level: 3}), 3, ""},
		"one that it does not":     {wire(t, &logpb.FeatureRaise{Level: 4, Version: "9.9"}), 3, "level 4, raised by version 9.9, and this version knows levels up to 3"},
		"a rise at all":            {wire(t, &logpb.FeatureRaise{Level: 2}), 2, "command 65"},
		"a cluster founded later":  {wire(t, &logpb.ClusterInit{ClusterId: "c", FeatureLevel: 4, Version: "9.9"}), 3, "level 4, raised by version 9.9"},
		"a cluster founded then":   {wire(t, &logpb.ClusterInit{ClusterId: "c", FeatureLevel: 3}), 3, ""},
		"an unknown command":       {protowire.AppendBytes(protowire.AppendTag(nil, 900, protowire.BytesType), nil), 3, "field 900"},
		"one behind a known one":   {protowire.AppendBytes(protowire.AppendTag(slices.Clone(canary), 900, protowire.BytesType), nil), 3, "field 900"},
		"an unknown word to all":   {protowire.AppendVarint(protowire.AppendTag(slices.Clone(canary), 9, protowire.VarintType), 1), 3, "field 9"},
		"nothing":                  {nil, 3, "holds nothing"},
		"what is no entry":         {[]byte{0xff}, 3, "damaged"},
		"a rise that is cut short": {append(protowire.AppendTag(nil, 65, protowire.BytesType), 2, 8, 0xff), 3, "damaged"},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			m := NewMachineOf(c.level)
			err := CheckEntry(c.data, c.level)
			stopped := func() (why any) {
				defer func() { why = recover() }()
				m.Apply([]Entry{{Index: 1, Term: 1, Data: c.data}})
				return nil
			}()
			if c.want == "" {
				if err != nil || stopped != nil {
					t.Errorf("refused: %v, %v", err, stopped)
				}
				return
			}
			if !errors.Is(err, ErrNewer) || !strings.Contains(err.Error(), c.want) {
				t.Errorf("CheckEntry says %v", err)
			}
			if m.State().Index != 0 {
				t.Error("it was applied")
			}
			if stopped == nil {
				t.Error("Apply went past it")
			}
		})
	}
}

// Every command has a level, and none that is above this build's.
func TestEveryCommandHasALevel(t *testing.T) {
	fields := (&logpb.Command{}).ProtoReflect().Descriptor().Oneofs().ByName("body").Fields()
	for i := range fields.Len() {
		if l := levelOf(fields.Get(i).Number()); l == 0 || l > FeatureLevel {
			t.Errorf("%s is of level %d", fields.Get(i).Name(), l)
		}
	}
}

// A snapshot of a newer level is refused by its beginning, and by who reads all of
// it; one of a level that is known is not. Older builds, which look at the schema
// alone, refuse it by that.
func TestNewerSnapshotsAreRefused(t *testing.T) {
	l := fleet(t, 2, 2)
	for _, level := range []uint32{1, 2, 3} {
		l.ok(&logpb.FeatureRaise{Level: level, Version: "0.3"})
		raw := snapshotOf(t, l.m.State())
		if want := min(max(level, 2)-1, 2); metaRecord(l.m.State()).Schema != want {
			t.Errorf("a snapshot of level %d has schema %d, not %d", level, metaRecord(l.m.State()).Schema, want)
		}
		for build := uint32(1); build <= 3; build++ {
			m := NewMachineOf(build)
			_, err := m.Read(bytes.NewReader(raw))
			begin := CheckSnapshot(bytes.NewReader(raw), build)
			if build >= level {
				if err != nil || begin != nil {
					t.Errorf("a build of level %d refuses a snapshot of level %d: %v, %v", build, level, err, begin)
				}
				continue
			}
			for _, err := range []error{err, begin} {
				if !errors.Is(err, ErrNewer) || !strings.Contains(err.Error(), "install the version of the other nodes") {
					t.Errorf("a build of level %d reads a snapshot of level %d: %v", build, level, err)
				}
			}
		}
	}
	meta := metaRecord(l.m.State())
	meta.Schema = 3
	if err := usable(meta, FeatureLevel); !errors.Is(err, ErrNewer) {
		t.Errorf("a newer schema: %v", err)
	}
	if err := CheckSnapshot(strings.NewReader("something else, long enough to be one"), 3); !errors.Is(err, ErrSnapshot) {
		t.Errorf("no snapshot: %v", err)
	}
}

// FuzzCheckEntry: no panic; and what it lets pass, a machine of that level applies,
// if it can be decoded at all.
func FuzzCheckEntry(f *testing.F) {
	f.Add(wire(f, &logpb.Canary{Node: "n1"}), uint32(3))
	f.Add(wire(f, &logpb.FeatureRaise{Level: 4}), uint32(3))
	f.Add(wire(f, &logpb.NodeSteer{Id: "n"}), uint32(1))
	f.Add([]byte("X0\"\x0200"), uint32(0)) // a command's number, and not its type
	f.Fuzz(func(t *testing.T, data []byte, level uint32) {
		level = 1 + level%FeatureLevel
		var c logpb.Command
		if CheckEntry(data, level) != nil || proto.Unmarshal(data, &c) != nil {
			return
		}
		NewMachineOf(level).Apply([]Entry{{Index: 1, Term: 1, Data: data}})
	})
}

// FuzzCheckSnapshot: no panic, and nothing is let pass that Read refuses as newer.
func FuzzCheckSnapshot(f *testing.F) {
	f.Add(snapshotOf(f, newState()))
	f.Fuzz(func(t *testing.T, data []byte) {
		err := CheckSnapshot(bytes.NewReader(data), 1)
		if _, all := NewMachineOf(1).Read(bytes.NewReader(data)); errors.Is(all, ErrNewer) && err == nil {
			t.Fatal(all)
		}
	})
}

// A build goes on with every field of an entry that it can write itself.
func TestABuildKnowsItsOwnEntries(t *testing.T) {
	fields := (&logpb.Command{}).ProtoReflect().Descriptor().Fields()
	for i := range fields.Len() {
		f := fields.Get(i)
		m := command(&logpb.Canary{Node: "n1"}).ProtoReflect()
		switch f.Kind() {
		case protoreflect.MessageKind:
			m.Set(f, m.NewField(f))
		case protoreflect.StringKind:
			m.Set(f, protoreflect.ValueOfString("x"))
		case protoreflect.BytesKind:
			m.Set(f, protoreflect.ValueOfBytes([]byte("x")))
		case protoreflect.Uint64Kind:
			m.Set(f, protoreflect.ValueOfUint64(1))
		case protoreflect.Uint32Kind:
			m.Set(f, protoreflect.ValueOfUint32(1))
		case protoreflect.Int64Kind:
			m.Set(f, protoreflect.ValueOfInt64(1))
		case protoreflect.BoolKind:
			m.Set(f, protoreflect.ValueOfBool(true))
		default:
			t.Fatalf("%s is of kind %s: say here how it is filled", f.Name(), f.Kind())
		}
		data, err := proto.Marshal(m.Interface())
		if err != nil {
			t.Fatal(err)
		}
		if err := CheckEntry(data, FeatureLevel); err != nil {
			t.Errorf("%s: %v", f.Name(), err)
		}
	}
}
