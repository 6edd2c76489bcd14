package fsm

import (
	"bytes"
	"encoding/binary"
	"errors"
	"hash/crc32"
	"io"
	"math/rand/v2"
	"testing"
	"testing/iotest"
	"time"

	"google.golang.org/protobuf/proto"

	"lifeboat/fsm/logpb"
)

// grown is a machine with something in every table.
func grown(t testing.TB, steps int) *Machine {
	t.Helper()
	m, _ := story(t.Fatalf, rand.New(rand.NewPCG(11, 4)).IntN, steps)
	return m
}

func snapshotOf(t testing.TB, s *State) []byte {
	t.Helper()
	var b bytes.Buffer
	n, err := s.WriteTo(&b)
	if err != nil || n != int64(b.Len()) {
		t.Fatalf("wrote %d of %d bytes: %v", n, b.Len(), err)
	}
	return b.Bytes()
}

func TestSnapshotIsTheState(t *testing.T) {
	for _, steps := range []int{0, 50, 400} {
		m := grown(t, steps)
		raw := snapshotOf(t, m.State())
		s, err := ReadState(iotest.OneByteReader(bytes.NewReader(raw)))
		if err != nil {
			t.Fatal(err)
		}
		if diff := sameState(m.State(), s); diff != "" || s.Sum() != m.State().Sum() {
			t.Fatalf("after %d steps the snapshot is another state:\n%s", steps, diff)
		}
		if err := s.Check(); err != nil {
			t.Fatal(err)
		}
		if again := snapshotOf(t, s); !bytes.Equal(raw, again) {
			t.Fatal("the snapshot of a restored state has other bytes")
		}
	}
}

// A restored replica goes on like one that has read the whole log.
func TestRestoredReplicaStaysEqual(t *testing.T) {
	_, log := story(t.Fatalf, rand.New(rand.NewPCG(3, 9)).IntN, 300)
	for _, cut := range []int{0, 1, 20, 150, len(log) - 1, len(log)} {
		whole, restored := NewMachine(), NewMachine()
		whole.Apply(log[:cut])
		s, err := ReadState(bytes.NewReader(snapshotOf(t, whole.State())))
		if err != nil {
			t.Fatal(err)
		}
		restored.Apply(log[:min(5, len(log))]) // what was there before is replaced
		restored.Restore(s)
		whole.Apply(log[cut:])
		restored.Apply(log[cut:])
		if diff := sameState(whole.State(), restored.State()); diff != "" {
			t.Fatalf("cut at %d:\n%s", cut, diff)
		}
		if err := restored.Check(); err != nil {
			t.Fatalf("cut at %d: %v", cut, err)
		}
	}
}

// A State that somebody holds does not change, whatever is applied or restored
// after it.
func TestPublishedStatesAreImmutable(t *testing.T) {
	_, log := story(t.Fatalf, rand.New(rand.NewPCG(5, 5)).IntN, 200)
	m := NewMachine()
	type held struct {
		s   *State
		sum uint64
		raw []byte
	}
	var states []held
	for i, e := range log {
		m.Apply([]Entry{e})
		if i%20 == 0 {
			states = append(states, held{m.State(), m.State().Sum(), snapshotOf(t, m.State())})
		}
	}
	m.Restore(newState())
	for i, h := range states {
		if h.s.Sum() != h.sum || !bytes.Equal(snapshotOf(t, h.s), h.raw) {
			t.Fatalf("state %d has changed under its holder", i)
		}
	}
}

func TestTruncatedSnapshotsAreErrors(t *testing.T) {
	raw := snapshotOf(t, grown(t, 120).State())
	for n := range raw {
		if n > 2000 && n%37 != 0 && n < len(raw)-200 {
			continue
		}
		s, err := ReadState(bytes.NewReader(raw[:n]))
		if err == nil || s != nil || !errors.Is(err, ErrSnapshot) {
			t.Fatalf("the first %d of %d bytes: state %v, error %v", n, len(raw), s != nil, err)
		}
	}
}

func TestCorruptedSnapshotsAreErrors(t *testing.T) {
	raw := snapshotOf(t, grown(t, 120).State())
	r := rand.New(rand.NewPCG(1, 1))
	for range 1500 {
		bad := bytes.Clone(raw)
		i := r.IntN(len(bad))
		bad[i] ^= byte(1 << r.IntN(8))
		if s, err := ReadState(bytes.NewReader(bad)); err == nil || s != nil {
			t.Fatalf("a flipped bit in byte %d of %d was not noticed", i, len(raw))
		}
	}
	for i := 0; i < 40; i++ { // a hole, a repetition
		a, b := r.IntN(len(raw)), r.IntN(len(raw))
		a, b = min(a, b), max(a, b)
		for _, bad := range [][]byte{append(bytes.Clone(raw[:a]), raw[b:]...), append(bytes.Clone(raw[:b]), raw[a:]...)} {
			if _, err := ReadState(bytes.NewReader(bad)); err == nil && a != b {
				t.Fatalf("bytes %d to %d cut out or doubled were not noticed", a, b)
			}
		}
	}
}

// frames writes records as a snapshot does, with checksums that are right.
func frames(t testing.TB, records ...*logpb.Record) []byte {
	t.Helper()
	out := []byte(snapshotMagic)
	for _, r := range records {
		b, err := proto.Marshal(r)
		if err != nil {
			t.Fatal(err)
		}
		out = binary.BigEndian.AppendUint32(out, uint32(len(b)))
		out = binary.BigEndian.AppendUint32(out, crc32.Checksum(b, castagnoli()))
		out = append(out, b...)
	}
	return out
}

func TestSnapshotsThatContradictThemselves(t *testing.T) {
	meta := &logpb.Record{Body: &logpb.Record_Meta{Meta: metaRecord(newState())}}
	newer := metaRecord(newState())
	newer.Schema = snapshotSchema + 1
	unknown := metaRecord(newState())
	unknown.Policy = append(unknown.Policy, &logpb.Setting{Key: "from the future", Value: "1"})
	invalid := metaRecord(newState())
	invalid.Policy = append(invalid.Policy, &logpb.Setting{Key: "takeover", Value: "1s"})
	host := func(id string, vms ...int) *logpb.Record {
		h := &logpb.HostRecord{Id: id, Epoch: 1}
		for _, n := range vms {
			h.Vms = append(h.Vms, &logpb.VMRecord{Id: idBytes(n)})
		}
		return &logpb.Record{Body: &logpb.Record_Host{Host: h}}
	}
	work := func(id uint64, vm int) *logpb.Record {
		return &logpb.Record{Body: &logpb.Record_Work{Work: &logpb.WorkRecord{Id: id, Vm: idBytes(vm), Step: uint32(Scheduled)}}}
	}
	alert := func(id uint64) *logpb.Record {
		return &logpb.Record{Body: &logpb.Record_Alert{Alert: &logpb.AlertRecord{Id: id, Type: "X", State: 1}}}
	}
	event := &logpb.Record{Body: &logpb.Record_Event{Event: &logpb.EventRecord{Id: 4}}}
	node := &logpb.Record{Body: &logpb.Record_Node{Node: &logpb.NodeRecord{Id: "n1"}}}
	end := func(n, digest uint64) *logpb.Record {
		return &logpb.Record{Body: &logpb.Record_End{End: &logpb.EndRecord{Records: n, Digest: digest}}}
	}
	for name, raw := range map[string][]byte{
		"nothing":                      nil,
		"no meta, only an end":         frames(t, end(0, newState().Sum())),
		"no meta":                      frames(t, node, end(1, 0)),
		"two metas":                    frames(t, meta, meta),
		"newer schema":                 frames(t, &logpb.Record{Body: &logpb.Record_Meta{Meta: newer}}),
		"unknown policy":               frames(t, &logpb.Record{Body: &logpb.Record_Meta{Meta: unknown}}),
		"invalid policy":               frames(t, &logpb.Record{Body: &logpb.Record_Meta{Meta: invalid}}),
		"record without a body":        frames(t, meta, &logpb.Record{}),
		"VMs out of order":             frames(t, meta, host("h1", 2, 1)),
		"VM twice on a host":           frames(t, meta, host("h1", 1, 1)),
		"VM with two owners":           frames(t, meta, host("h1", 1), host("h2", 1)),
		"host twice":                   frames(t, meta, host("h1"), host("h1")),
		"node twice":                   frames(t, meta, node, node),
		"work twice":                   frames(t, meta, work(1, 1), work(1, 2)),
		"two open works for a VM":      frames(t, meta, work(1, 1), work(2, 1)),
		"alert twice":                  frames(t, meta, alert(1), alert(1)),
		"alert open under two ids":     frames(t, meta, alert(1), alert(2)),
		"event twice":                  frames(t, meta, event, event),
		"wrong count":                  frames(t, meta, end(2, newState().Sum())),
		"wrong digest":                 frames(t, meta, end(1, newState().Sum()+1)),
		"a frame of 4 GiB":             append([]byte(snapshotMagic), 0xff, 0xff, 0xff, 0xff, 0, 0, 0, 0),
		"a frame longer than the file": append([]byte(snapshotMagic), 0x10, 0, 0, 0, 0, 0, 0, 0),
	} {
		if s, err := ReadState(bytes.NewReader(raw)); err == nil || s != nil || !errors.Is(err, ErrSnapshot) {
			t.Errorf("%s: state %v, error %v", name, s != nil, err)
		}
	}
	if _, err := ReadState(bytes.NewReader(frames(t, meta, end(1, newState().Sum())))); err != nil {
		t.Errorf("the same without a fault: %v", err)
	}
}

type brokenWriter struct{ after int }

func (w *brokenWriter) Write(p []byte) (int, error) {
	if w.after -= len(p); w.after < 0 {
		return 0, io.ErrShortWrite
	}
	return len(p), nil
}

func TestSnapshotSaysWhenItCannotBeWritten(t *testing.T) {
	s := grown(t, 50).State()
	if _, err := s.WriteTo(&brokenWriter{after: 100}); !errors.Is(err, io.ErrShortWrite) {
		t.Fatal(err)
	}
	failing := errors.New("the disk is gone")
	if _, err := ReadState(io.MultiReader(bytes.NewReader(snapshotOf(t, s)[:300]), iotest.ErrReader(failing))); !errors.Is(err, failing) {
		t.Fatal(err)
	}
}

func TestDigestSeesEveryField(t *testing.T) {
	m := grown(t, 200)
	sum := m.State().Sum()
	s := m.State().clone()
	s.Armed = !s.Armed
	if s.Sum() == sum {
		t.Error("armed is not covered")
	}
	s = m.State().clone()
	p := *s.Policy
	p.Beat += time.Second
	s.Policy = &p
	if s.Sum() == sum {
		t.Error("the policy is not covered")
	}
	s = m.State().clone()
	s.seq++
	if s.Sum() == sum {
		t.Error("the id counter is not covered")
	}
	for id, h := range m.State().Hosts() {
		for i := range h.VMs {
			v := &h.VMs[i]
			s = m.State().clone()
			n, x := edit(h), *v
			x.Gone = !x.Gone
			n.VMs = append([]VM(nil), h.VMs...)
			n.VMs[i] = x
			s.hosts.set(id, n)
			if s.Sum() == sum {
				t.Errorf("whether %s is gone is not covered", v.Name)
			}
		}
	}
}
