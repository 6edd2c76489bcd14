package fsm

import (
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
}

type tracked struct {
	nodes  map[NodeID]struct{}
	hosts  map[HostID]struct{}
	work   map[WorkID]struct{}
	alerts map[AlertID]struct{}
	events map[EventID]struct{}
}

func newDigester(s *State) *digester {
	d := &digester{hashes: map[string]uint64{}}
	s.nodes.track()
	s.hosts.track()
	s.work.track()
	s.alerts.track()
	s.events.track()
	d.dirty = &tracked{s.nodes.dirty, s.hosts.dirty, s.work.dirty, s.alerts.dirty, s.events.dirty}
	eachRecord(s, func(key string, r *logpb.Record) { d.put(key, r) })
	return d
}

// track makes a writable state report what it touches.
func (d *digester) track(s *State) {
	s.nodes.dirty, s.hosts.dirty, s.work.dirty = d.dirty.nodes, d.dirty.hosts, d.dirty.work
	s.alerts.dirty, s.events.dirty = d.dirty.alerts, d.dirty.events
}

func (d *digester) put(key string, r *logpb.Record) {
	var n uint64
	if r != nil {
		n = d.hash(r)
	}
	d.sum ^= d.hashes[key] ^ n
	if n == 0 {
		delete(d.hashes, key)
	} else {
		d.hashes[key] = n
	}
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
		d.put(nodeKey(id), orNil(s.Node(id), nodeRecord))
	}
	for id := range d.dirty.hosts {
		d.put(hostKey(id), orNil(s.Host(id), hostRecord))
	}
	for id := range d.dirty.work {
		d.put(workKey(id), orNil(s.Work(id), workRecord))
	}
	for id := range d.dirty.alerts {
		d.put(alertKey(id), orNil(s.Alert(id), alertRecord))
	}
	for id := range d.dirty.events {
		e, _ := s.events.get(id)
		d.put(eventKey(id), orNil(e, eventRecord))
	}
	clear(d.dirty.nodes)
	clear(d.dirty.hosts)
	clear(d.dirty.work)
	clear(d.dirty.alerts)
	clear(d.dirty.events)
	return d.sum ^ d.metaHash(s)
}

// metaHash covers what is replicated but not a record of its own. Index and
// term are left out: a digest says what is true, not when it was asked.
func (d *digester) metaHash(s *State) uint64 {
	m := metaRecord(s)
	m.Index, m.Term, m.Digest, m.DigestIndex = 0, 0, 0, 0
	return d.hash(&logpb.Record{Body: &logpb.Record_Meta{Meta: m}})
}

// Sum computes the digest of s from scratch. It equals the rolling one of a
// Canary applied right after s.
func (s *State) Sum() uint64 {
	d := &digester{hashes: map[string]uint64{}}
	eachRecord(s, func(key string, r *logpb.Record) { d.put(key, r) })
	return d.sum ^ d.metaHash(s)
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

// eachRecord walks every record of a snapshot but the first and the last.
func eachRecord(s *State, f func(key string, r *logpb.Record)) {
	for id, n := range s.nodes.all() {
		f(nodeKey(id), nodeRecord(n))
	}
	for id, h := range s.hosts.all() {
		f(hostKey(id), hostRecord(h))
	}
	for id, w := range s.work.all() {
		f(workKey(id), workRecord(w))
	}
	for id, a := range s.alerts.all() {
		f(alertKey(id), alertRecord(a))
	}
	for id, e := range s.events.all() {
		f(eventKey(id), eventRecord(e))
	}
}
