package sim

import (
	"strings"
	"testing"

	"google.golang.org/protobuf/proto"

	"lifeboat/fsm"
	"lifeboat/fsm/logpb"
	"lifeboat/ha/replay"
	"lifeboat/sim/scenario"
)

// What leaders have placed in the scenarios is decided again from their logs alone; and
// a placement that is altered by hand afterwards is noticed.
func TestReplayDecidesAgain(t *testing.T) {
	same, other, noticed := 0, 0, 0
	for name, f := range scenarioFiles(t, 40) {
		if len(f.Hosts) > 20 {
			continue
		}
		w := newWorld(f, 1)
		w.live()
		log := longest(w)
		for _, x := range replayed(t, log, nil, nil) {
			switch x.Kind {
			case replay.Reproduced:
				same++
			case replay.Refused:
			default:
				other++
				t.Logf("%s: %s", name, x.Text)
			}
		}
		if noticed > 0 || len(f.Hosts) < 4 {
			continue
		}
		was, elsewhere := "", ""
		all := replayed(t, log, nil, func(c *logpb.Command) { // the first placement goes elsewhere
			for _, p := range c.GetHostFenced().GetPlacements() {
				for _, other := range []string{"n1", "n2", "n3", "n4"} {
					if was == "" && other != p.Target && other != c.GetHostFenced().Host {
						was, elsewhere, p.Target = p.Target, other, other
					}
				}
			}
		})
		if was == "" {
			continue
		}
		for _, x := range all {
			if x.Kind == replay.Differs && x.Host == elsewhere && strings.Contains(x.Text, "on host "+was) {
				noticed++
			}
		}
		if noticed == 0 {
			t.Logf("%s: a VM was altered to be placed on host %s, which cannot take it", name, elsewhere)
		}
	}
	t.Logf("%d placements are decided again, %d are not", same, other)
	if same < 200 || other > 3 || noticed == 0 {
		t.Errorf("%d placements are decided again, %d are not, %d altered ones were noticed", same, other, noticed)
	}
}

// Another policy makes other decisions of the same log, and other times.
func TestReplayWithAnotherPolicy(t *testing.T) {
	f, err := scenario.Parse("x.yaml", []byte(`
hosts: {n1: {fence: [lease]}, n2: {}, n3: {}}
vms:
  a: {host: n1}
  b: {host: n2}
steps:
  - 10s: [power n1 off]
until: 1m
`))
	if err != nil {
		t.Fatal(err)
	}
	w := newWorld(f, 1)
	w.live()
	for _, c := range []struct {
		key, value string
		kind       replay.Kind
		says       []string
	}{
		{"placement", "pack", replay.Changed, []string{"a would have been placed: on host n2 instead of on host n3"}},
		{"placement", "count", "", nil},
		{"suspect_beats", "5", replay.Shifted, []string{"n1 would have been suspect 5s after its last sign of life instead of 3s"}},
		{"takeover", "30s", replay.Shifted, []string{"with takeover 30s instead of 18s", "about 30s"}},
		{"fence_timeout", "1m", "", nil},
	} {
		var found []string
		for _, x := range replayed(t, longest(w), []fsm.Setting{{Key: c.key, Value: c.value}}, nil) {
			switch x.Kind {
			case replay.Reproduced, replay.Refused:
			case c.kind:
				found = append(found, x.Text)
			default:
				t.Errorf("%s %s: %s: %s", c.key, c.value, x.Kind, x.Text)
			}
		}
		if len(c.says) == 0 && len(found) == 0 {
			continue
		}
		for _, want := range c.says {
			if len(found) != 1 || !strings.Contains(found[0], want) {
				t.Errorf("%s %s: %q, want %q", c.key, c.value, found, want)
			}
		}
		if len(c.says) == 0 {
			t.Errorf("%s %s changes nothing, and says %q", c.key, c.value, found)
		}
	}
}

// longest is the log of who has applied most.
func longest(w *World) []entry {
	var log []entry
	for _, m := range w.managers {
		if m.raft.applied > len(log) {
			log = m.raft.log[:m.raft.applied]
		}
	}
	return log
}

func replayed(t *testing.T, log []entry, set []fsm.Setting, alter func(*logpb.Command)) (out []replay.Finding) {
	t.Helper()
	m := fsm.NewMachine()
	r, err := replay.New(m.State(), set)
	if err != nil {
		t.Fatal(err)
	}
	for i, e := range log {
		if e.data == nil {
			continue
		}
		c := &logpb.Command{}
		if err := proto.Unmarshal(e.data, c); err != nil {
			t.Fatal(err)
		}
		data := e.data
		if alter != nil {
			alter(c)
			if data, err = proto.Marshal(c); err != nil {
				t.Fatal(err)
			}
		}
		x := m.Apply([]fsm.Entry{{Index: uint64(i + 1), Term: e.term, Data: data}})[0]
		out = append(out, r.Step(c, m.State(), x.Rejected == "" && !x.Void)...)
	}
	return out
}
