package fsm

import (
	"encoding/hex"
	"fmt"
)

// HostID names a libvirt host, NodeID a management node.
type (
	HostID string
	NodeID string
)

// WorkID, AlertID, OrderID and EventID are minted from one counter in the
// state: unique, ordered, the same on every replica.
type (
	WorkID  uint64
	AlertID uint64
	OrderID uint64
	EventID uint64
)

// VMID is the UUID of a libvirt domain.
type VMID [16]byte

// String writes the id as libvirt does.
func (id VMID) String() string {
	var b [36]byte
	hex.Encode(b[0:8], id[0:4])
	b[8] = '-'
	hex.Encode(b[9:13], id[4:6])
	b[13] = '-'
	hex.Encode(b[14:18], id[6:8])
	b[18] = '-'
	hex.Encode(b[19:23], id[8:10])
	b[23] = '-'
	hex.Encode(b[24:36], id[10:16])
	return string(b[:])
}

// ParseVMID reads the 36-character form.
func ParseVMID(s string) (VMID, error) {
	var id VMID
	if len(s) != 36 || s[8] != '-' || s[13] != '-' || s[18] != '-' || s[23] != '-' {
		return id, fmt.Errorf("parse VM id: %q is not a UUID", s)
	}
	plain := s[0:8] + s[9:13] + s[14:18] + s[19:23] + s[24:36]
	if _, err := hex.Decode(id[:], []byte(plain)); err != nil {
		return VMID{}, fmt.Errorf("parse VM id: %q is not a UUID", s)
	}
	return id, nil
}

// vmID copies 16 bytes; ok is false for any other length.
func vmID(b []byte) (id VMID, ok bool) {
	if len(b) != len(id) {
		return id, false
	}
	copy(id[:], b)
	return id, true
}

// Incarnation is the fencing token of a VM: (cluster generation, counter) in
// one number, so that what a restored cluster grants beats anything an agent
// has persisted (S1). Zero means never granted.
type Incarnation uint64

const incarnationCounterBits = 40

// NewIncarnation builds an incarnation from its parts.
func NewIncarnation(generation uint32, counter uint64) Incarnation {
	return Incarnation(uint64(generation)<<incarnationCounterBits | counter&(1<<incarnationCounterBits-1))
}

// Generation is the cluster generation that granted it.
func (i Incarnation) Generation() uint32 { return uint32(i >> incarnationCounterBits) }

// Counter counts the grants within a VM's life.
func (i Incarnation) Counter() uint64 { return uint64(i) & (1<<incarnationCounterBits - 1) }

// Next is the incarnation to grant after i in the given generation. It is
// greater than i even where i is of a later generation, which an agent may hold
// after a restore; only the very last number has no next and stays.
func (i Incarnation) Next(generation uint32) Incarnation {
	n := NewIncarnation(max(generation, i.Generation()), i.Counter()+1)
	if n <= i {
		n = max(i, i+1) // the counter is full: one more generation
	}
	return n
}

// String writes generation.counter, e.g. "1.8"; "-" for none.
func (i Incarnation) String() string {
	if i == 0 {
		return "-"
	}
	return fmt.Sprintf("%d.%d", i.Generation(), i.Counter())
}
