package fsm

import (
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"lifeboat/fsm/logpb"
)

// What began and what ended it are linked.
func TestEventsAreLinked(t *testing.T) {
	l := level4(t)
	l.ok(l.suspect("h1"))
	l.ok(l.hostDown("h1"))
	byID := map[EventID]*Event{}
	var ends int
	l.ok(raised("h2", "hot"))
	l.ok(itEnded("h2", "hot"))
	for _, w := range slices.Collect(func(yield func(*Work) bool) {
		for w := range l.state().OpenWork() {
			if !yield(w) {
				return
			}
		}
	}) {
		l.ok(&logpb.WorkUpdate{Work: uint64(w.ID), Action: WorkCancel})
	}
	for id, e := range l.state().EventsAfter(0) {
		byID[id] = e
		if want := map[string]string{"ALERT.RESOLVE": "ALERT.GENERATE", "WORK.CANCEL": "WORK.OPEN"}[e.Type]; want != "" {
			ends++
			if s := byID[e.Start]; s == nil || s.Type != want || s.Cause == "" || s.Cause != e.Cause {
				t.Errorf("%+v begins with %+v", e, s)
			}
		}
	}
	if ends < 3 {
		t.Errorf("only %d ends", ends)
	}
	first := uint64(0)
	for id := range l.state().EventsAfter(0) {
		first = uint64(id) + 3
		break
	}
	n := l.state().events.len()
	l.ok(&logpb.EventPurge{BeforeId: first, BeforeUnixNs: l.now + 1})
	if got := l.state().events.len(); got >= n {
		t.Errorf("%d events were purged to %d", n, got)
	}
}

// links are the newest events of a cluster that have a begin: "TYPE: text of its begin".
func (l *lab) links() map[string]string {
	out := map[string]string{}
	byID := map[EventID]*Event{}
	for id, e := range l.state().EventsAfter(0) {
		byID[id] = e
		if s := byID[e.Start]; s != nil {
			out[e.Type] = s.Type + ": " + s.Text
		}
	}
	return out
}

// A VM that moves, a maintenance and a node's preparation are followed from their begin.
func TestWhatTakesLongIsLinked(t *testing.T) {
	l := movers(t, 3, 1)
	l.ok(&logpb.HostControl{Host: "h1", Action: HostMaintenanceOn})
	l.ok(migrate(1, "h2"))
	l.report("h1", left(1))
	l.report("h2", said{vm: 1, power: PowerOn, reason: ReasonBooted})
	l.ok(&logpb.HostDrained{Host: "h1", State: DrainDone})
	if r := l.host("h1").Resource; r != Maintenance {
		t.Fatalf("h1 is %s", r)
	}
	got := l.links()
	for _, typ := range []string{"VM.MOVE.ORDER", "VM.MOVE", "WORK.DONE"} {
		if !strings.HasPrefix(got[typ], "WORK.OPEN: Migration") {
			t.Errorf("%s began with %q", typ, got[typ])
		}
	}
	if want := "HOST.RESOURCE: host h1: Enabled → PrepareForMaintenance"; got["HOST.RESOURCE"] != want {
		t.Errorf("the maintenance began with %q", got["HOST.RESOURCE"])
	}

	l.ok(&logpb.NodeHello{Id: "n1", RunId: "r1", Version: "1"})
	step := func(s NodeStep) {
		t.Helper()
		l.ok(&logpb.NodeSteer{Id: "n1", RunId: "r1", Step: uint32(s), WithinNs: int64(time.Minute), Reason: fmt.Sprint("step ", s)})
	}
	for range 2 { // the second time is linked to its own begin
		step(StepMaintain)
		begin := fmt.Sprint("step ", StepMaintain)
		step(StepNothingLeft)
		if got := l.links()["NODE.STATE"]; !strings.HasSuffix(got, begin) {
			t.Errorf("it is ready since %q", got)
		}
		n := l.state().Node("n1").Begun
		step(StepResume)
		var last *Event
		for _, e := range l.state().EventsAfter(0) {
			last = e
		}
		if last.Type != "NODE.STATE" || last.Start != n {
			t.Errorf("its end is %+v, it began with %d", last, n)
		}
	}
	if diff := sameState(l.state(), replay(t, func(int) int { return 0 }, l.log).State()); diff != "" {
		t.Errorf("through snapshots it is another:\n%s", diff)
	}
}

// docs/alerts.md lists every type of event, and no other.
func TestEveryEventIsDocumented(t *testing.T) {
	files, err := filepath.Glob("*.go")
	if err != nil {
		t.Fatal(err)
	}
	// Chosen by a condition.
	made := map[string]bool{"ALERT.REOPEN": true, "ALERT.GENERATE": true, "CLUSTER.RECOVER": true, "CLUSTER.RESTORE": true}
	call := regexp.MustCompile(`\.(?:event|linked)\((?:[^\n]*?, )?"([A-Z]+(?:\.[A-Z]+)+)"`)
	for _, name := range files {
		raw, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		if !strings.HasSuffix(name, "_test.go") {
			for _, m := range call.FindAllSubmatch(raw, -1) {
				made[string(m[1])] = true
			}
		}
	}
	page, err := os.ReadFile("../docs/alerts.md")
	if err != nil {
		t.Fatal(err)
	}
	told := map[string]bool{}
	for _, m := range regexp.MustCompile("(?m)^\\| `([A-Z]+(?:\\.[A-Z]+)+)` \\|").FindAllSubmatch(page, -1) {
		told[string(m[1])] = true
	}
	for typ := range made {
		if !told[typ] {
			t.Errorf("docs/alerts.md does not say what %s is", typ)
		}
	}
	for typ := range told {
		if !made[typ] {
			t.Errorf("docs/alerts.md has %s, which never happens", typ)
		}
	}
}
