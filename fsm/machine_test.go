package fsm

import (
	"bytes"
	"testing"
)

func TestEmptySnapshotRoundTrip(t *testing.T) {
	m := NewMachine()
	var b bytes.Buffer
	if _, err := m.State().WriteTo(&b); err != nil {
		t.Fatal(err)
	}
	s, err := ReadState(&b)
	if err != nil {
		t.Fatal(err)
	}
	if s.Sum() != m.State().Sum() {
		t.Fatalf("digest %x, want %x", s.Sum(), m.State().Sum())
	}
}
