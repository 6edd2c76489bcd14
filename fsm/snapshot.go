package fsm

import (
	"bufio"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io"

	"google.golang.org/protobuf/proto"

	"lifeboat/fsm/logpb"
)

// A snapshot is a magic line followed by frames: length (4 bytes, big endian),
// CRC-32C of the payload (4 bytes), payload (one logpb.Record). The first
// record is the meta record, the last one counts the others and carries the
// digest of the whole state. A snapshot without its last frame is no snapshot.
const (
	snapshotMagic = "lifeboat snapshot 1\n"
	maxFrame      = 512 << 20 // a host with its VMs is one frame
	// snapshotSchema is the newest schema of the meta record. Schema 1 is read by
	// builds that do not look at the feature level; schema 2, by those that do.
	snapshotSchema = 2
)

// schemaOf is the schema of a snapshot of a feature level. A cluster that is half
// way through its upgrade still writes what its older nodes read.
func schemaOf(level uint32) uint32 {
	if level < levelRaise {
		return 1
	}
	return snapshotSchema
}

func castagnoli() *crc32.Table { return crc32.MakeTable(crc32.Castagnoli) }

// WriteTo writes a snapshot of s. It only reads s and may run while newer
// states are made.
func (s *State) WriteTo(w io.Writer) (int64, error) {
	fw := &frameWriter{w: bufio.NewWriterSize(w, 1<<20), table: castagnoli()}
	fw.raw([]byte(snapshotMagic))
	fw.record(&logpb.Record{Body: &logpb.Record_Meta{Meta: metaRecord(s)}})
	eachRecord(s, fw.record)
	fw.record(&logpb.Record{Body: &logpb.Record_End{End: &logpb.EndRecord{Records: fw.records, Digest: s.Sum()}}})
	if fw.err == nil {
		fw.err = fw.w.Flush()
	}
	if fw.err != nil {
		return fw.n, fmt.Errorf("write snapshot: %w", fw.err)
	}
	return fw.n, nil
}

type frameWriter struct {
	w       *bufio.Writer
	table   *crc32.Table
	buf     []byte
	n       int64
	records uint64
	err     error
}

func (f *frameWriter) raw(b []byte) {
	if f.err == nil {
		var n int
		n, f.err = f.w.Write(b)
		f.n += int64(n)
	}
}

func (f *frameWriter) record(r *logpb.Record) {
	if f.err != nil {
		return
	}
	b, err := proto.MarshalOptions{Deterministic: true}.MarshalAppend(f.buf[:0], r)
	if err != nil {
		f.err = err
		return
	}
	f.buf = b
	var head [8]byte
	binary.BigEndian.PutUint32(head[0:], uint32(len(b)))
	binary.BigEndian.PutUint32(head[4:], crc32.Checksum(b, f.table))
	f.raw(head[:])
	f.raw(b)
	f.records++
}

// ErrSnapshot marks a snapshot that cannot be used; the text says why.
var ErrSnapshot = errors.New("not a usable snapshot")

// ReadState reads a snapshot into a fresh state and checks every CRC, the
// count and the digest. Nothing of a running state is touched. One of a feature
// level that this build does not know is an ErrNewer.
func ReadState(r io.Reader) (*State, error) { return readState(r, FeatureLevel) }

// Read is ReadState with the feature levels that m knows.
func (m *Machine) Read(r io.Reader) (*State, error) { return readState(r, m.level) }

// CheckSnapshot reads the beginning of a snapshot and refuses one that a build which
// knows feature levels up to level cannot use, as an ErrNewer. It takes no more than
// that beginning out of r.
func CheckSnapshot(r io.Reader, level uint32) error {
	magic := make([]byte, len(snapshotMagic))
	if _, err := io.ReadFull(r, magic); err != nil || string(magic) != snapshotMagic {
		return fmt.Errorf("%w: it does not begin like one", ErrSnapshot)
	}
	rec, err := readFrame(r, castagnoli())
	if err != nil {
		return fmt.Errorf("%w: record 0: %w", ErrSnapshot, err)
	}
	return usable(rec.GetMeta(), level)
}

// usable refuses the meta record of a snapshot of a newer version.
func usable(m *logpb.MetaRecord, level uint32) error {
	switch {
	case m == nil:
		return fmt.Errorf("%w: the first record is not the meta record", ErrSnapshot)
	case m.FeatureLevel > level:
		return newer("a snapshot", m.FeatureLevel, m.LevelVersion, level)
	case m.Schema > snapshotSchema:
		return fmt.Errorf("%w: a snapshot has schema %d, this version of lifeboat reads up to %d; install the version of the other nodes", ErrNewer, m.Schema, snapshotSchema)
	}
	return nil
}

func readState(r io.Reader, level uint32) (*State, error) {
	br := bufio.NewReaderSize(r, 1<<20)
	magic := make([]byte, len(snapshotMagic))
	if _, err := io.ReadFull(br, magic); err != nil || string(magic) != snapshotMagic {
		return nil, fmt.Errorf("%w: it does not begin like one", ErrSnapshot)
	}
	s := newState()
	table := castagnoli()
	var records uint64
	for {
		rec, err := readFrame(br, table)
		if err != nil {
			return nil, fmt.Errorf("%w: record %d: %w", ErrSnapshot, records, err)
		}
		if records == 0 {
			if err := usable(rec.GetMeta(), level); errors.Is(err, ErrSnapshot) {
				return nil, err
			} else if err != nil {
				return nil, fmt.Errorf("%w: %w", ErrSnapshot, err)
			}
		}
		if end := rec.GetEnd(); end != nil {
			if end.Records != records {
				return nil, fmt.Errorf("%w: it should hold %d records and holds %d", ErrSnapshot, end.Records, records)
			}
			if got := s.Sum(); got != end.Digest {
				return nil, fmt.Errorf("%w: its digest is %016x, its contents give %016x", ErrSnapshot, end.Digest, got)
			}
			s.book = newRuleBook(s.rules.all())
			return s, nil
		}
		if err := s.load(rec, records == 0); err != nil {
			return nil, fmt.Errorf("%w: record %d: %w", ErrSnapshot, records, err)
		}
		records++
	}
}

func readFrame(r io.Reader, table *crc32.Table) (*logpb.Record, error) {
	var head [8]byte
	if _, err := io.ReadFull(r, head[:]); err != nil {
		return nil, fmt.Errorf("it ends too early: %w", err)
	}
	n := binary.BigEndian.Uint32(head[0:])
	if n > maxFrame {
		return nil, fmt.Errorf("a frame of %d bytes is too large", n)
	}
	b, err := readN(r, int(n))
	if err != nil {
		return nil, fmt.Errorf("it ends too early: %w", err)
	}
	if crc32.Checksum(b, table) != binary.BigEndian.Uint32(head[4:]) {
		return nil, errors.New("its checksum is wrong")
	}
	rec := &logpb.Record{}
	if err := proto.Unmarshal(b, rec); err != nil {
		return nil, err
	}
	if rec.Body == nil {
		return nil, errors.New("it was written by a newer version of lifeboat")
	}
	return rec, nil
}

// readN reads n bytes without trusting n: memory grows only with what is
// really there.
func readN(r io.Reader, n int) ([]byte, error) {
	const step = 1 << 20
	b := make([]byte, 0, min(n, step))
	for len(b) < n {
		k := min(n-len(b), step)
		b = append(b, make([]byte, k)...)
		if _, err := io.ReadFull(r, b[len(b)-k:]); err != nil {
			return nil, err
		}
	}
	return b, nil
}

// load adds one record to a state that is being read.
func (s *State) load(rec *logpb.Record, first bool) error {
	switch b := rec.Body.(type) {
	case *logpb.Record_Meta:
		if !first {
			return errors.New("a second meta record")
		}
		return s.loadMeta(b.Meta)
	case *logpb.Record_Node:
		n := nodeFromLog(b.Node)
		if s.Node(n.ID) != nil {
			return fmt.Errorf("node %s is there twice", n.ID)
		}
		s.nodes.set(n.ID, n)
	case *logpb.Record_Host:
		h := hostFromLog(s.shapes, b.Host)
		if s.Host(h.ID) != nil {
			return fmt.Errorf("host %s is there twice", h.ID)
		}
		for i := range h.VMs {
			v := &h.VMs[i]
			if i > 0 && !lessVM(h.VMs[i-1].ID, v.ID) {
				return fmt.Errorf("the VMs of host %s are out of order", h.ID)
			}
			if o, ok := s.owner.get(v.ID); ok {
				return fmt.Errorf("VM %s has two owners, %s and %s", v.ID, o, h.ID)
			}
			s.owner.set(v.ID, h.ID)
		}
		s.hosts.set(h.ID, h)
	case *logpb.Record_Work:
		w := workFromLog(b.Work)
		if s.Work(w.ID) != nil {
			return fmt.Errorf("work %d is there twice", w.ID)
		}
		s.work.set(w.ID, w)
		if !w.Step.Ended() {
			if _, ok := s.open.get(w.VM); ok {
				return fmt.Errorf("VM %s has two open work items", w.VM)
			}
			s.open.set(w.VM, w.ID)
		}
	case *logpb.Record_Alert:
		a := alertFromLog(b.Alert)
		if s.Alert(a.ID) != nil {
			return fmt.Errorf("alert %d is there twice", a.ID)
		}
		if !a.State.Closed() && s.OpenAlert(a.Key) != nil {
			return fmt.Errorf("the alert %v is open twice", a.Key)
		}
		s.putAlert(a)
	case *logpb.Record_Event:
		e := eventFromLog(b.Event)
		if _, ok := s.events.get(e.ID); ok {
			return fmt.Errorf("event %d is there twice", e.ID)
		}
		s.events.set(e.ID, e)
	case *logpb.Record_Token:
		k, err := tokenFromLog(b.Token)
		switch {
		case err != nil:
			return err
		case s.Token(k.ID) != nil:
			return fmt.Errorf("token %s is there twice", k.ID)
		}
		s.tokens.set(k.ID, k)
	case *logpb.Record_Operator:
		o := operatorFromLog(b.Operator)
		if s.Operator(o.Name) != nil {
			return fmt.Errorf("operator %s is there twice", o.Name)
		}
		s.operators.set(o.Name, o)
	case *logpb.Record_Rule:
		return s.loadRule(b.Rule)
	case *logpb.Record_Receiver:
		r := receiverFromLog(b.Receiver)
		if s.Receiver(r.Name) != nil {
			return fmt.Errorf("receiver %s is there twice", r.Name)
		}
		s.receivers.set(r.Name, r)
	case *logpb.Record_Silence:
		x := silenceFromLog(b.Silence)
		if _, ok := s.silences.get(x.ID); ok {
			return fmt.Errorf("silence %d is there twice", x.ID)
		}
		s.silences.set(x.ID, x)
	case *logpb.Record_Notice:
		x := noticeFromLog(b.Notice)
		if _, ok := s.outbox.get(x.ID); ok {
			return fmt.Errorf("notice %d is there twice", x.ID)
		}
		s.putNotice(x)
	case *logpb.Record_Request:
		return s.loadRequest(requestFromLog(b.Request))
	default:
		return s.loadUsage(rec)
	}
	return nil
}

func (s *State) loadMeta(m *logpb.MetaRecord) error {
	p, err := s.Policy.With(settingsFromLog(m.Policy))
	if err != nil {
		return fmt.Errorf("its policy: %w", err)
	}
	s.Policy = p
	s.Index, s.Term, s.Time, s.ClusterID, s.Generation = m.Index, m.Term, m.TimeUnixNs, m.ClusterId, m.Generation
	s.Level, s.LevelVersion, s.Armed, s.ArmedIndex, s.seq, s.Waking = m.FeatureLevel, m.LevelVersion, m.Armed, m.ArmedIndex, m.Seq, m.Waking
	s.lastRule = m.Rules
	s.Ignoring, s.ArmedAt = m.Ignoring, m.ArmedUnixNs
	s.Digest = DigestAt{Index: m.DigestIndex, Sum: m.Digest}
	s.usage.since, s.usage.kept = m.UsageSinceUnixNs, m.UsageKeptUnixNs
	if len(m.CaCert) > 0 {
		s.CA = &Authority{Cert: m.CaCert, Key: m.CaKey}
	}
	for _, b := range m.Brakes {
		was := Brake{Reason: b.Reason, Since: b.SinceUnixNs}
		for _, id := range b.Gone {
			was.LetGo = append(was.LetGo, HostID(id))
		}
		s.brakes.set(b.Domain, was)
	}
	return nil
}

// Restore replaces the state by one that ReadState returned.
func (m *Machine) Restore(s *State) { m.load(s) }
