package fsm

import (
	"encoding/binary"
	"strconv"

	"github.com/cespare/xxhash/v2"
	"google.golang.org/protobuf/proto"

	"lifeboat/fsm/logpb"
)

// The digest of a state is the XOR of the hashes of its records, so it can be
// kept up to date by hashing only what was touched. Replicas compare it.
type digester struct {
	sum    uint64
	hashes map[string]uint64
	buf    []byte
	dirty  *tracked

	policy      *Policy // whose hash is policySum, at policyLevel
	policyLevel uint32
	policySum   uint64
}

type tracked struct {
	nodes  map[NodeID]struct{}
	hosts  map[HostID]struct{}
	work   map[WorkID]struct{}
	alerts map[AlertID]struct{}
	events map[EventID]struct{}

	tokens, operators map[string]struct{}
	requests          map[uint64]struct{}
	rules             map[RuleID]struct{}

	receivers map[string]struct{}
	silences  map[SilenceID]struct{}
	outbox    map[NoticeID]struct{}
}

func newDigester(s *State) *digester {
	d := &digester{hashes: map[string]uint64{}}
	s.nodes.track()
	s.hosts.track()
	s.work.track()
	s.alerts.track()
	s.events.track()
	s.tokens.track()
	s.operators.track()
	s.requests.track()
	s.rules.track()
	s.receivers.track()
	s.silences.track()
	s.outbox.track()
	d.dirty = &tracked{s.nodes.dirty, s.hosts.dirty, s.work.dirty, s.alerts.dirty, s.events.dirty, s.tokens.dirty, s.operators.dirty, s.requests.dirty, s.rules.dirty,
		s.receivers.dirty, s.silences.dirty, s.outbox.dirty}
	d.each(s, d.put)
	return d
}

// track makes a writable state report what it touches.
func (d *digester) track(s *State) {
	s.nodes.dirty, s.hosts.dirty, s.work.dirty = d.dirty.nodes, d.dirty.hosts, d.dirty.work
	s.alerts.dirty, s.events.dirty = d.dirty.alerts, d.dirty.events
	s.tokens.dirty, s.operators.dirty = d.dirty.tokens, d.dirty.operators
	s.requests.dirty = d.dirty.requests
	s.rules.dirty = d.dirty.rules
	s.receivers.dirty, s.silences.dirty, s.outbox.dirty = d.dirty.receivers, d.dirty.silences, d.dirty.outbox
}

// put replaces the hash of a record; 0 means that there is none.
func (d *digester) put(key string, n uint64) {
	d.sum ^= d.hashes[key] ^ n
	if n == 0 {
		delete(d.hashes, key)
	} else {
		d.hashes[key] = n
	}
}

// host hashes a host and its VMs. It is what Apply does most, so VMs are written
// down by hand. Of a definition its size and its end count: it is sealed, and
// ends with a seal of the whole.
func (d *digester) host(h *Host) uint64 {
	bare := *h
	bare.VMs = nil
	b, err := proto.MarshalOptions{Deterministic: true}.MarshalAppend(d.buf[:0], hostRecord(&bare))
	if err != nil {
		panic("fsm: a record cannot be encoded: " + err.Error()) // not valid UTF-8; refused at the door
	}
	b = binary.LittleEndian.AppendUint64(b, uint64(len(b)))
	for i := range h.VMs {
		v := &h.VMs[i]
		b = appendVM(b, v)
	}
	d.buf = b
	return xxhash.Sum64(b)
}

func appendVM(b []byte, v *VM) []byte {
	b = append(b, v.ID[:]...)
	b = append(b, byte(v.Power), byte(v.Reason), byte(v.ProtectedBy), bit(v.Wanted)|bit(v.Gone)<<1|bit(v.Spec != nil)<<2|bit(v.Policy != nil)<<3|bit(v.Answers)<<4|bit(v.Hangs != nil)<<5)
	b = binary.LittleEndian.AppendUint64(b, uint64(v.Incarnation))
	b = binary.LittleEndian.AppendUint64(b, uint64(v.Since))
	b = binary.LittleEndian.AppendUint64(b, uint64(v.Work))
	b = appendText(appendText(b, v.Name), v.Error)
	if v.Home() != "" { // of level 4
		b = appendText(append(b, 0xff), v.Home())
	}
	if v.Hangs != nil { // of level 4
		b = v.Hangs.append(b)
	}
	if p := v.Policy; p != nil {
		b = append(b, byte(p.HA), byte(p.Priority))
		for _, limit := range []*uint32{p.MaxRestart, p.MaxRelocate} {
			if limit == nil {
				b = append(b, 0)
			} else {
				b = binary.LittleEndian.AppendUint32(append(b, 1), *limit)
			}
		}
		if o := p.Order; o != nil { // from LevelPolicy on
			b = append(b, byte(o.Gate), byte(len(o.DependsOn)))
			b = binary.LittleEndian.AppendUint64(b, uint64(o.After))
			b = binary.LittleEndian.AppendUint64(b, uint64(o.Timeout))
			for _, id := range o.DependsOn {
				b = append(b, id[:]...)
			}
		}
		if p.Stays || p.NoLive { // of level 4
			b = append(b, 2, bit(p.Stays)|bit(p.NoLive)<<1)
		}
		if p.Guest != nil { // of level 4
			b = p.Guest.append(append(b, 3))
		}
	}
	if s := v.Spec; s != nil {
		b = binary.LittleEndian.AppendUint64(b, s.Shape.sum)
		b = append(b, s.Hash[:]...)
		b = binary.LittleEndian.AppendUint64(b, uint64(s.Defined))
		definition, paths := s.parts()
		b = binary.LittleEndian.AppendUint32(b, uint32(len(definition)))
		b = appendText(b, s.packed[len(s.packed)-len(paths)-min(sealSize, len(definition)):])
	}
	return b
}

// sealSize is how many bytes at the end of a sealed text depend on all of it.
const sealSize = 16

func appendText[T ~string | []byte](b []byte, s T) []byte {
	return append(binary.AppendUvarint(b, uint64(len(s))), s...)
}

func (d *digester) hash(r *logpb.Record) uint64 {
	b, err := proto.MarshalOptions{Deterministic: true}.MarshalAppend(d.buf[:0], r)
	if err != nil {
		panic("fsm: a record cannot be encoded: " + err.Error()) // not valid UTF-8; refused at the door
	}
	d.buf = b
	return xxhash.Sum64(b)
}

// fold brings the digest up to date with s and returns it, the cluster-wide
// part included.
func (d *digester) fold(s *State) uint64 {
	for id := range d.dirty.nodes {
		d.put(nodeKey(id), d.record(orNil(s.Node(id), nodeRecord)))
	}
	for id := range d.dirty.hosts {
		var sum uint64
		if h := s.Host(id); h != nil {
			sum = d.host(h)
		}
		d.put(hostKey(id), sum)
	}
	for id := range d.dirty.work {
		d.put(workKey(id), d.record(orNil(s.Work(id), workRecord)))
	}
	for id := range d.dirty.alerts {
		d.put(alertKey(id), d.record(orNil(s.Alert(id), alertRecord)))
	}
	for id := range d.dirty.events {
		e, _ := s.events.get(id)
		d.put(eventKey(id), d.record(orNil(e, eventRecord)))
	}
	for id := range d.dirty.tokens {
		d.put(tokenKey(id), d.record(orNil(s.Token(id), tokenRecord)))
	}
	for id := range d.dirty.operators {
		d.put(operatorKey(id), d.record(orNil(s.Operator(id), operatorRecord)))
	}
	clear(d.dirty.tokens)
	clear(d.dirty.operators)
	for index := range d.dirty.requests {
		r, _ := s.requests.get(index)
		d.put(requestHashKey(index), d.record(orNil(r, requestRecord)))
	}
	for name := range d.dirty.receivers {
		d.put(receiverKey(name), d.record(orNil(s.Receiver(name), receiverRecord)))
	}
	for id := range d.dirty.silences {
		x, _ := s.silences.get(id)
		d.put(silenceKey(id), d.record(orNil(x, silenceRecord)))
	}
	for id := range d.dirty.outbox {
		x, _ := s.outbox.get(id)
		d.put(noticeKey(id), d.record(orNil(x, noticeRecord)))
	}
	clear(d.dirty.receivers)
	clear(d.dirty.silences)
	clear(d.dirty.outbox)
	clear(d.dirty.nodes)
	clear(d.dirty.hosts)
	clear(d.dirty.work)
	clear(d.dirty.alerts)
	clear(d.dirty.events)
	clear(d.dirty.requests)
	for id := range d.dirty.rules {
		d.put(ruleKey(id), d.record(orNil(s.Rule(id), ruleRecord)))
	}
	clear(d.dirty.rules)
	return d.sum ^ s.usage.digest() ^ d.metaHash(s)
}

// metaHash covers what is replicated but not a record of its own. Index and
// term are left out: a digest says what is true, not when it was asked.
func (d *digester) metaHash(s *State) uint64 {
	m := bareMeta(s)
	m.Index, m.Term, m.Digest, m.DigestIndex = 0, 0, 0, 0
	if d.policy != s.Policy || d.policyLevel != s.Level { // it is replaced as a whole
		b := d.buf[:0]
		for _, x := range s.Policy.Settings(s.Level) {
			b = appendText(appendText(b, x.Key), x.Value)
		}
		d.policy, d.policyLevel, d.policySum, d.buf = s.Policy, s.Level, xxhash.Sum64(b), b
	}
	return d.hash(&logpb.Record{Body: &logpb.Record_Meta{Meta: m}}) ^ d.policySum
}

// Sum computes the digest of s from scratch. It equals the rolling one of a
// Canary applied right after s.
func (s *State) Sum() uint64 {
	d := &digester{hashes: map[string]uint64{}}
	d.each(s, func(_ string, n uint64) { d.sum ^= n })
	return d.sum ^ s.usage.digest() ^ d.metaHash(s)
}

// each walks the hashes of all records.
func (d *digester) each(s *State, f func(key string, n uint64)) {
	for id, n := range s.nodes.all() {
		f(nodeKey(id), d.hash(nodeRecord(n)))
	}
	for id, h := range s.hosts.all() {
		f(hostKey(id), d.host(h))
	}
	for id, w := range s.work.all() {
		f(workKey(id), d.hash(workRecord(w)))
	}
	for id, a := range s.alerts.all() {
		f(alertKey(id), d.hash(alertRecord(a)))
	}
	for id, e := range s.events.all() {
		f(eventKey(id), d.hash(eventRecord(e)))
	}
	for id, k := range s.tokens.all() {
		f(tokenKey(id), d.hash(tokenRecord(k)))
	}
	for id, o := range s.operators.all() {
		f(operatorKey(id), d.hash(operatorRecord(o)))
	}
	for index, r := range s.requests.all() {
		f(requestHashKey(index), d.hash(requestRecord(r)))
	}
	for id, r := range s.rules.all() {
		f(ruleKey(id), d.hash(ruleRecord(r)))
	}
	for name, r := range s.receivers.all() {
		f(receiverKey(name), d.hash(receiverRecord(r)))
	}
	for id, x := range s.silences.all() {
		f(silenceKey(id), d.hash(silenceRecord(x)))
	}
	for id, x := range s.outbox.all() {
		f(noticeKey(id), d.hash(noticeRecord(x)))
	}
}

// record is hash, 0 for none.
func (d *digester) record(r *logpb.Record) uint64 {
	if r == nil {
		return 0
	}
	return d.hash(r)
}

func orNil[T any](v *T, f func(*T) *logpb.Record) *logpb.Record {
	if v == nil {
		return nil
	}
	return f(v)
}

func nodeKey(id NodeID) string   { return "n" + string(id) }
func hostKey(id HostID) string   { return "h" + string(id) }
func workKey(id WorkID) string   { return "w" + strconv.FormatUint(uint64(id), 36) }
func alertKey(id AlertID) string { return "a" + strconv.FormatUint(uint64(id), 36) }
func eventKey(id EventID) string { return "e" + strconv.FormatUint(uint64(id), 36) }
func tokenKey(id string) string  { return "t" + id }

func receiverKey(name string) string { return "m" + name }
func silenceKey(id SilenceID) string { return "s" + strconv.FormatUint(uint64(id), 36) }
func noticeKey(id NoticeID) string   { return "c" + strconv.FormatUint(uint64(id), 36) }

func operatorKey(name string) string { return "o" + name }

func requestHashKey(index uint64) string { return "r" + strconv.FormatUint(index, 36) }

func ruleKey(id RuleID) string { return "u" + strconv.FormatUint(uint64(id), 36) }

// eachRecord walks every record of a snapshot but the first and the last.
func eachRecord(s *State, f func(*logpb.Record)) {
	for _, n := range s.nodes.all() {
		f(nodeRecord(n))
	}
	for _, h := range s.hosts.all() {
		f(hostRecord(h))
	}
	for _, w := range s.work.all() {
		f(workRecord(w))
	}
	for _, a := range s.alerts.all() {
		f(alertRecord(a))
	}
	for _, e := range s.events.all() {
		f(eventRecord(e))
	}
	for _, k := range s.tokens.all() {
		f(tokenRecord(k))
	}
	for _, o := range s.operators.all() {
		f(operatorRecord(o))
	}
	for _, r := range s.requests.all() {
		f(requestRecord(r))
	}
	for _, r := range s.rules.all() {
		f(ruleRecord(r))
	}
	s.usage.each(f)
	for _, r := range s.receivers.all() {
		f(receiverRecord(r))
	}
	for _, x := range s.silences.all() {
		f(silenceRecord(x))
	}
	for _, x := range s.outbox.all() {
		f(noticeRecord(x))
	}
}
