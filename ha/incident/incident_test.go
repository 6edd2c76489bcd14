package incident_test

import (
	"encoding/hex"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"google.golang.org/protobuf/proto"

	"lifeboat/fsm"
	"lifeboat/fsm/logpb"
	"lifeboat/ha/incident"
)

// state is what a golden log of fsm makes, after which come further commands.
func state(t *testing.T, log string, more ...*logpb.Command) *fsm.State {
	t.Helper()
	raw, err := os.ReadFile(filepath.Join("../../fsm/testdata", log))
	if err != nil {
		t.Fatal(err)
	}
	m := fsm.NewMachine()
	for line := range strings.Lines(string(raw)) {
		var e fsm.Entry
		var body string
		if _, err := fmt.Sscan(line, &e.Index, &e.Term, &body); err != nil {
			continue // a comment
		}
		if e.Data, err = hex.DecodeString(body); err != nil {
			t.Fatal(err)
		}
		m.Apply([]fsm.Entry{e})
	}
	for i, c := range more {
		c.TimeUnixNs = m.State().Time + int64(time.Second)
		data, err := proto.Marshal(c)
		if err != nil {
			t.Fatal(err)
		}
		if r := m.Apply([]fsm.Entry{{Index: m.State().Index + 1, Term: 1, Data: data}})[0]; r.Rejected != "" {
			t.Fatalf("command %d: %s", i, r.Rejected)
		}
	}
	return m.State()
}

// one is the only incident about a subject.
func one(t *testing.T, s *fsm.State, about string) *incident.Incident {
	t.Helper()
	var found []*incident.Incident
	for _, i := range incident.All(s) {
		if i.About == about {
			found = append(found, i)
		}
	}
	if len(found) != 1 {
		t.Fatalf("%d incidents about %s", len(found), about)
	}
	return found[0]
}

// A host dies, its BMC fails, its lease proves the death; a start fails and another
// follows; the host comes back.
func TestADeadHost(t *testing.T) {
	s := state(t, "logs/host-death.log")
	i := one(t, s, "host h1")
	if i.Host != "h1" || i.What != "dead" || i.Ended == 0 || len(i.VMs) != 3 || !strings.Contains(i.Proof, "lease") {
		t.Fatalf("%+v", i)
	}
	slow, ok := i.Slowest()
	if !ok || slow.Phase != incident.Proof || slow.VM != "" || slow.For < 20*time.Second || slow.For > 21*time.Second {
		t.Errorf("the slowest step is %+v of %+v", slow, i.Steps)
	}
	failed := i.VMs[1]
	var phases []incident.Phase
	for _, x := range failed.Spans {
		phases = append(phases, x.Phase)
	}
	// In this log no time passes while a start runs.
	if want := []incident.Phase{incident.Detection, incident.Evidence, incident.Proof, incident.Placement}; !slices.Equal(phases, want) {
		t.Errorf("%s waited for %v", failed.Name, phases)
	}
	if len(failed.Waits) != 1 || !strings.Contains(failed.Waits[0], "failed") || failed.Starts != 2 || failed.Down != time.Duration(failed.Back-failed.Lost) {
		t.Errorf("%+v", failed)
	}
	var types []string
	for _, e := range i.Events {
		types = append(types, e.Type)
	}
	for _, want := range []string{"HOST.SUSPECT", "HOST.EVIDENCE", "HOST.DOWN", "HOST.FENCE.ATTEMPT", "HOST.FENCE.FAIL", "HOST.FENCED", "VM.START.ORDER", "VM.START.FAIL", "WORK.DONE", "HOST.UP"} {
		if !slices.Contains(types, want) {
			t.Errorf("no %s in the timeline %v", want, types)
		}
	}
	if len(i.Alerts) == 0 {
		t.Error("no alert")
	}
}

// Numbers that are none are refused, each with what to do.
func TestWhatIsNoIncident(t *testing.T) {
	purge := &logpb.Command{Body: &logpb.Command_EventPurge{EventPurge: &logpb.EventPurge{BeforeUnixNs: 1 << 61}}}
	s := state(t, "logs/host-death.log")
	i := one(t, s, "host h1")
	for want, id := range map[string]fsm.EventID{
		"there is no event 999999":                  999999,
		fmt.Sprintf("is part of incident %d", i.ID): i.Events[2].ID,
		"began no incident":                         1,
	} {
		_, err := incident.Find(s, id)
		var unknown *incident.ErrUnknown
		if !errors.As(err, &unknown) || !strings.Contains(err.Error(), want) || !strings.Contains(err.Error(), "`lifeboat incident") {
			t.Errorf("event %d: %v", id, err)
		}
	}
	s = state(t, "levels/4/story1.log", purge)
	if all := incident.All(s); len(all) > 1 {
		t.Errorf("%d incidents are told of what is forgotten", len(all))
	}
	if _, err := incident.Find(s, 3); err == nil || !strings.Contains(err.Error(), "forgotten") {
		t.Errorf("what is forgotten: %v", err)
	}
}

// VMs that are lost while their host lives are incidents of their own.
func TestLossesWithoutAHost(t *testing.T) {
	s := state(t, "logs/vm-trouble.log")
	found := map[string]int{}
	for _, i := range incident.All(s) {
		if i.Host != "" {
			t.Errorf("no host has failed: %+v", i)
		}
		found[i.About+" "+i.What]++
	}
	for want, n := range map[string]int{"vm vm1 crashed": 2, "vm vm2 migrated away": 1, "vm vm3 missing": 1} {
		if found[want] != n {
			t.Errorf("%q is told %d times: %v", want, found[want], found)
		}
	}
}

// A suspicion that is not followed by a death is one as well, and ends when the host
// is heard.
func TestASilence(t *testing.T) {
	suspect := &logpb.Command{Body: &logpb.Command_HostSuspect{HostSuspect: &logpb.HostSuspect{Host: "h2", Epoch: 1, Reason: "nothing heard for 3s", SilentNs: int64(3 * time.Second)}}}
	seen := &logpb.Command{Body: &logpb.Command_HostSeen{HostSeen: &logpb.HostSeen{Host: "h2", Epoch: 1}}}
	for what, more := range map[string][]*logpb.Command{"silent": {suspect}, "silent, and heard again": {suspect, seen}} {
		i := one(t, state(t, "logs/host-death.log", more...), "host h2")
		if i.What != what || (i.Ended == 0) != (len(more) == 1) || len(i.VMs) != 0 {
			t.Errorf("%s: %+v", what, i)
		}
		if what == "silent" && i.Noticed-i.Begun != int64(3*time.Second) {
			t.Errorf("it is silent since %d, and was noticed at %d", i.Begun, i.Noticed)
		}
	}
}

// Whatever an older build has written down is told without what it did not write.
func TestEveryGoldenLogIsTold(t *testing.T) {
	logs, _ := filepath.Glob("../../fsm/testdata/logs/*.log")
	old, _ := filepath.Glob("../../fsm/testdata/levels/*/*.log")
	told := 0
	for _, path := range append(logs, old...) {
		rel, _ := filepath.Rel("../../fsm/testdata", path)
		s := state(t, rel)
		for _, i := range incident.All(s) {
			told++
			for _, v := range i.VMs {
				if v.Step == fsm.Done && v.Starts > 0 && (v.Down < 0 || v.Open || v.Back == 0) {
					t.Errorf("%s: %+v", rel, v)
				}
			}
		}
	}
	if len(logs) < 10 || len(old) < 8 || told < 20 {
		t.Errorf("%d logs, %d old ones, %d incidents", len(logs), len(old), told)
	}
}
