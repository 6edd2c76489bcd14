package fsm

import (
	"strings"
	"testing"

	"google.golang.org/protobuf/proto"

	"lifeboat/fsm/logpb"
)

// A hello may be late: neither one of an earlier run nor one from before the end
// of this run says what is now.
func TestLateHellos(t *testing.T) {
	hello := func(run string, started int64) *logpb.NodeHello {
		return &logpb.NodeHello{Id: "n1", RunId: run, Version: run, StartedUnixNs: started}
	}
	down := func(run string, left bool) *logpb.NodeDown {
		return &logpb.NodeDown{Id: "n1", RunId: run, Reason: "it was stopped", Left: left}
	}
	for name, c := range map[string]struct {
		before []proto.Message
		late   *logpb.NodeHello
		run    string
		state  NodeState
	}{
		"of the run before":              {[]proto.Message{hello("r1", 10), hello("r2", 20)}, hello("r1", 10), "r2", NodeUp},
		"of one that was never heard":    {[]proto.Message{hello("r3", 30)}, hello("r2", 20), "r3", NodeUp},
		"of a run that was stopped":      {[]proto.Message{hello("r1", 10), down("r1", true)}, hello("r1", 10), "r1", NodeDown},
		"of one that is back":            {[]proto.Message{hello("r1", 10), down("r1", false)}, hello("r1", 10), "r1", NodeUp},
		"of a newer one":                 {[]proto.Message{hello("r1", 10)}, hello("r2", 20), "r2", NodeUp},
		"of a newer one after a stop":    {[]proto.Message{hello("r1", 10), down("r1", true)}, hello("r2", 20), "r2", NodeUp},
		"after its clock was set back":   {[]proto.Message{hello("r1", 20), down("r1", true)}, hello("r2", 10), "r2", NodeUp},
		"of a version that does not say": {[]proto.Message{hello("r1", 20)}, hello("r2", 0), "r2", NodeUp},
	} {
		t.Run(name, func(t *testing.T) {
			l := newLab(t)
			for _, m := range c.before {
				l.ok(m)
			}
			_ = l.do(c.late)
			n := l.state().Node("n1")
			if n.RunID != c.run || n.State != c.state {
				t.Errorf("it is %s in run %s, want %s in %s", n.State, n.RunID, c.state, c.run)
			}
		})
	}
}

// A node says why it takes no snapshots; the alert follows its word, survives the
// node's death and a restore, and ends with its membership.
func TestNodeWithoutSnapshots(t *testing.T) {
	l := newLab(t)
	hello := func(run, failure string) {
		t.Helper()
		l.ok(&logpb.NodeHello{Id: "n1", RunId: run, Version: "1", SnapshotFailure: failure})
	}
	expect := func(when, text string) {
		t.Helper()
		a := l.state().OpenAlert(AlertKey{AlertNode, "n1", "snapshot"})
		if text == "" && a != nil || text != "" && (a == nil || !strings.Contains(a.Text, text)) {
			t.Errorf("%s: %+v", when, a)
		}
	}
	hello("r1", "")
	expect("it takes them", "")
	hello("r1", "/b: no space left on device")
	expect("it fails", "no space left")
	hello("r1", "/b: is not a directory")
	expect("it fails otherwise", "not a directory")
	l.ok(&logpb.NodeDown{Id: "n1", RunId: "r1", Reason: "it was killed"})
	expect("it died", "not a directory")
	l.wake(l.state())
	expect("restored", "not a directory")
	hello("r2", "")
	expect("it is back and takes them", "")
	hello("r2", "/b: no space left on device")
	l.ok(&logpb.NodeControl{Id: "n1", Action: uint32(GoingRemove)})
	l.index++
	l.m.Members(l.index, []NodeID{"n2"})
	expect("it was removed", "")
}
