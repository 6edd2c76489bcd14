package fsm

import (
	"bytes"
	"math/rand/v2"
	"testing"

	"google.golang.org/protobuf/proto"

	"lifeboat/fsm/logpb"
)

// readable reports whether data is a command of this version: only such bytes
// are ever committed. Others stop a replica on purpose, see Apply.
func readable(data []byte) bool {
	var c logpb.Command
	return proto.Unmarshal(data, &c) == nil && c.Body != nil && CheckEntry(data, FeatureLevel) == nil
}

// FuzzApply applies arbitrary commands to a grown state: no panic, no broken
// invariant, equal replicas.
func FuzzApply(f *testing.F) {
	_, log := story(f.Fatalf, rand.New(rand.NewPCG(2, 2)).IntN, 60)
	for _, e := range log {
		f.Add(e.Data)
	}
	f.Add([]byte{})
	f.Fuzz(func(t *testing.T, data []byte) {
		if !readable(data) {
			return
		}
		a, b := NewMachine(), NewMachine()
		a.Apply(log)
		b.Apply(log)
		last := log[len(log)-1].Index
		entries := []Entry{{Index: last + 1, Term: 1, Data: data}, {Index: last + 2, Term: 1, Data: data}}
		a.Apply(entries)
		b.Apply(entries[:1])
		b.Apply(entries[1:])
		if err := a.Check(); err != nil {
			t.Fatal(err)
		}
		if a.State().Sum() != b.State().Sum() {
			t.Fatal("replicas differ")
		}
		s, err := ReadState(bytes.NewReader(snapshotOf(t, a.State())))
		if err != nil {
			t.Fatal(err)
		}
		if diff := sameState(a.State(), s); diff != "" {
			t.Fatal(diff)
		}
	})
}

// FuzzStory lets the fuzzer choose the story.
func FuzzStory(f *testing.F) {
	for seed := range uint64(4) {
		r := rand.New(rand.NewPCG(seed, 8))
		b := make([]byte, 400)
		for i := range b {
			b[i] = byte(r.Uint32())
		}
		f.Add(b)
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		next := func(n int) int {
			if len(data) == 0 {
				return 0
			}
			x := int(data[0])
			data = data[1:]
			return x % n
		}
		story(t.Fatalf, next, min(len(data)/8, 80))
	})
}

// FuzzReadState feeds the snapshot decoder: no panic, no memory beyond what is
// there, and what it accepts is a state that round-trips.
func FuzzReadState(f *testing.F) {
	f.Add(snapshotOf(f, newState()))
	f.Add(snapshotOf(f, grown(f, 40).State()))
	f.Add(frames(f, &logpb.Record{Body: &logpb.Record_Meta{Meta: metaRecord(newState())}}))
	f.Fuzz(func(t *testing.T, data []byte) {
		s, err := ReadState(bytes.NewReader(data))
		if err != nil {
			if s != nil {
				t.Fatal("an error and a state")
			}
			return
		}
		_ = s.Check() // may complain, must not panic
		again, err := ReadState(bytes.NewReader(snapshotOf(t, s)))
		if err != nil || again.Sum() != s.Sum() {
			t.Fatalf("does not round-trip: %v", err)
		}
	})
}

// FuzzRecord feeds records that no Apply has written, behind right checksums.
func FuzzRecord(f *testing.F) {
	eachRecord(grown(f, 60).State(), func(r *logpb.Record) {
		b, err := proto.Marshal(r)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(b)
	})
	f.Fuzz(func(t *testing.T, data []byte) {
		rec := &logpb.Record{}
		if proto.Unmarshal(data, rec) != nil || rec.Body == nil {
			return
		}
		s := newState()
		if s.load(rec, false) != nil {
			return
		}
		_ = s.Check()
		m := &Machine{}
		m.Restore(s)
		cmd := command(&logpb.Canary{})
		m.Apply([]Entry{{Index: 1, Term: 1, Data: encode(t, cmd)}})
	})
}

func TestApplyRefusesToGuess(t *testing.T) {
	for name, data := range map[string][]byte{
		"nothing":          {},
		"not a command":    {0xff, 0xff},
		"a newer one":      {0xfa, 0x7f, 0x01, 0x00}, // a field this version does not know
		"time and no body": func() []byte { b, _ := proto.Marshal(&logpb.Command{TimeUnixNs: 5}); return b }(),
	} {
		t.Run(name, func(t *testing.T) {
			m := NewMachine()
			before := m.State()
			defer func() {
				if recover() == nil {
					t.Fatal("it was applied")
				}
				if m.State() != before {
					t.Fatal("a part of the batch was published")
				}
			}()
			ok := encode(t, command(&logpb.ClusterInit{ClusterId: "c"}))
			m.Apply([]Entry{{Index: 1, Term: 1, Data: ok}, {Index: 2, Term: 1, Data: data}})
		})
	}
}
