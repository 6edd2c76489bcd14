package raftfsm

import (
	"bytes"
	"errors"
	"io"
	"testing"

	"github.com/hashicorp/raft"
	"google.golang.org/protobuf/proto"

	"lifeboat/fsm"
	"lifeboat/fsm/logpb"
)

func entry(t *testing.T, index uint64, c *logpb.Command) *raft.Log {
	t.Helper()
	b, err := proto.Marshal(c)
	if err != nil {
		t.Fatal(err)
	}
	return &raft.Log{Index: index, Term: 1, Type: raft.LogCommand, Data: b}
}

// From an entry on that the build does not know, nothing is applied, answered as if
// it had been, written down or replaced.
func TestNewerEntryBreaksIt(t *testing.T) {
	f := Of(2)
	canary := &logpb.Command{Body: &logpb.Command_Canary{Canary: &logpb.Canary{Node: "n1"}}}
	whole, err := f.Snapshot()
	if err != nil || whole == nil {
		t.Fatal(err)
	}
	out := f.ApplyBatch([]*raft.Log{
		entry(t, 1, &logpb.Command{Body: &logpb.Command_ClusterInit{ClusterInit: &logpb.ClusterInit{ClusterId: "c", FeatureLevel: 2}}}),
		{Index: 2, Term: 1, Type: raft.LogNoop},
		entry(t, 3, canary),
		entry(t, 4, &logpb.Command{Body: &logpb.Command_FeatureRaise{FeatureRaise: &logpb.FeatureRaise{Level: 3}}}),
		entry(t, 5, canary),
		{Index: 6, Term: 1, Type: raft.LogConfiguration, Data: raft.EncodeConfiguration(raft.Configuration{})},
	})
	for i, r := range out {
		if _, ok := r.(fsm.Result); ok != (i < 3) {
			t.Errorf("entry %d is answered with %v", i+1, r)
		}
	}
	select {
	case <-f.Broken():
	default:
		t.Error("nobody is told")
	}
	if !errors.Is(f.Err(), fsm.ErrNewer) {
		t.Errorf("it says %v", f.Err())
	}
	sum := f.State().Sum()
	f.Apply(entry(t, 7, canary))
	f.StoreConfiguration(8, raft.Configuration{})
	if s := f.State(); s.Index != 3 || s.Sum() != sum {
		t.Errorf("the state went on to index %d", s.Index)
	}
	if _, err := f.Snapshot(); !errors.Is(err, fsm.ErrNewer) {
		t.Errorf("a snapshot can be taken: %v", err)
	}
	var b bytes.Buffer
	if _, err := fsm.NewMachine().State().WriteTo(&b); err != nil {
		t.Fatal(err)
	}
	if err := f.Restore(io.NopCloser(&b)); !errors.Is(err, fsm.ErrNewer) {
		t.Errorf("it can be restored: %v", err)
	}
}
