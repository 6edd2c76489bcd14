package fsm

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"google.golang.org/protobuf/proto"

	"lifeboat/fsm/logpb"
)

// Two VMs may have one name: what ends for one goes on for the other.
func TestAlertsOfVMsOfOneName(t *testing.T) {
	l := fleet(t, 2, 4)
	name := func(host HostID, vm int, name string, reason Reason) {
		r := l.reportOf(host, said{vm: vm, power: PowerOn, reason: reason, inc: inc(1)})
		r.Reports[0].Vms.Details[0].Name = name
		l.ok(r)
	}
	open := func(vm int) *AlertRecord { return l.state().OpenAlert(VMAlert(l.vm(vm), "I/O error")) }
	a, b := 1, 2
	name(l.owner(a), a, "web", ReasonIOError)
	name(l.owner(b), b, "web", ReasonIOError)
	if open(a) == nil || open(b) == nil || open(a).ID == open(b).ID || open(a).Count != 1 || open(a).About() != "web" || open(b).About() != "web" {
		t.Fatalf("two VMs stand still, the alerts are %+v and %+v", open(a), open(b))
	}

	// A new name neither ends an alert nor opens another.
	was, n := open(a), l.state().CountOpenAlerts()
	name(l.owner(a), a, "mail", ReasonIOError)
	if is := open(a); is == nil || is.ID != was.ID || is.About() != "mail" || !strings.HasPrefix(is.Text, "VM mail on") || l.state().CountOpenAlerts() != n {
		t.Errorf("after a new name it is %+v of %d", is, l.state().CountOpenAlerts())
	}
	if open(b).About() != "web" || !strings.HasPrefix(open(b).Text, "VM web on") {
		t.Errorf("the other one has a new name too: %+v", open(b))
	}

	name(l.owner(a), a, "mail", ReasonBooted)
	if open(a) != nil || open(b) == nil {
		t.Errorf("one runs again: its alert %v, the other's %v", open(a), open(b))
	}
}

// level4 is a cluster in which alerts live as from level 4 on, with hosts h1 and h2.
func level4(t testing.TB) *lab {
	t.Helper()
	l := fleet(t, 2, 2)
	l.ok(&logpb.FeatureRaise{Level: LevelPolicy, Version: "0.4"})
	return l
}

func raised(subject, cause string) *logpb.AlertRaise {
	return &logpb.AlertRaise{Alerts: []*logpb.Raised{{Type: "HOST", Subject: subject, Cause: cause, Severity: uint32(Critical), Text: "Host " + subject + " is " + cause + "."}}}
}

func itEnded(subject, cause string) *logpb.AlertRaise {
	return &logpb.AlertRaise{Alerts: []*logpb.Raised{{Type: "HOST", Subject: subject, Cause: cause, Resolved: true}}}
}

func hostAlert(subject, cause string) AlertKey { return AlertKey{AlertHost, subject, External + cause} }

// An alert lives through every state, and what is asked of it in each does what the
// table says.
func TestAlertStates(t *testing.T) {
	prepare := map[AlertState][]proto.Message{
		AlertOpen:         {},
		AlertAcknowledged: {&logpb.AlertControl{Action: alertAck}},
		AlertResolved:     {itEnded("h1", "hot")},
		AlertArchived:     {itEnded("h1", "hot"), &logpb.AlertControl{Action: alertArchive}},
	}
	const gone, fresh = AlertState(0), AlertState(99) // fresh: another alert is opened beside it
	table := map[AlertState]map[string]AlertState{
		AlertOpen:         {"ack": AlertAcknowledged, "resolve": AlertResolved, "archive": AlertOpen, "delete": AlertOpen, "raise": AlertOpen, "end": AlertResolved},
		AlertAcknowledged: {"ack": AlertAcknowledged, "resolve": AlertResolved, "archive": AlertAcknowledged, "delete": AlertAcknowledged, "raise": AlertAcknowledged, "end": AlertResolved},
		AlertResolved:     {"ack": AlertResolved, "resolve": AlertResolved, "archive": AlertArchived, "delete": gone, "raise": AlertOpen, "end": AlertResolved},
		AlertArchived:     {"ack": AlertArchived, "resolve": AlertArchived, "archive": AlertArchived, "delete": gone, "raise": fresh, "end": AlertArchived},
	}
	events := map[string]proto.Message{"ack": &logpb.AlertControl{Action: alertAck}, "resolve": &logpb.AlertControl{Action: alertResolve},
		"archive": &logpb.AlertControl{Action: alertArchive}, "delete": &logpb.AlertControl{Action: alertDelete}, "raise": raised("h1", "hot"), "end": itEnded("h1", "hot")}
	for from, row := range table {
		if len(row) != len(events) {
			t.Fatalf("the row of %s has %d events of %d", from, len(row), len(events))
		}
		for event, want := range row {
			t.Run(from.String()+"/"+event, func(t *testing.T) {
				l := level4(t)
				l.ok(raised("h1", "hot"))
				id := l.state().OpenAlert(hostAlert("h1", "hot")).ID
				for _, c := range prepare[from] {
					l.ok(c)
				}
				if is := l.state().Alert(id).State; is != from {
					t.Fatalf("it is %s before", is)
				}
				l.wait(time.Second)
				l.ok(events[event])
				a, n := l.state().Alert(id), l.state().OpenAlert(hostAlert("h1", "hot"))
				switch {
				case want == gone:
					if a != nil {
						t.Errorf("it is still there: %+v", a)
					}
				case want == fresh:
					if a.State != AlertArchived || n == nil || n.ID == id || n.Count != 1 {
						t.Errorf("it is %+v, the new one %+v", a, n)
					}
				case a.State != want:
					t.Errorf("it is %s, want %s", a.State, want)
				}
			})
		}
	}
}

// What comes back after it was resolved is the same alert, counted; below level 4 it
// is another one, as it always was.
func TestAlertsReopen(t *testing.T) {
	l := fleet(t, 2, 1)
	suspectAndBack := func() {
		l.wait(time.Second)
		l.ok(l.suspect("h2"))
		l.ok(l.hostDown("h2"))
		l.register("h2", "b"+fmt.Sprint(l.index))
	}
	count := func() (n int) {
		for _, a := range l.state().Alerts() {
			if a.Key == (AlertKey{AlertHost, "h2", "down"}) {
				n++
			}
		}
		return n
	}
	suspectAndBack()
	suspectAndBack()
	if count() != 2 {
		t.Fatalf("at level 1 two failures are %d alerts", count())
	}
	l.ok(&logpb.FeatureRaise{Level: LevelPolicy})
	suspectAndBack()
	suspectAndBack()
	if count() != 2 {
		t.Fatalf("two failures at level 4 made it %d alerts", count())
	}
	for _, a := range l.state().Alerts() {
		if a.Key.Cause == "down" && a.Reopened == 2 {
			if a.Count != 3 || a.Since <= a.First && a.Since != l.now || a.State != AlertResolved {
				t.Errorf("it was reopened as %+v", a)
			}
			return
		}
	}
	t.Error("none was reopened")
}

// A filter takes what it says and nothing else; a name that is wrong changes nothing.
func TestAlertControlByFilter(t *testing.T) {
	l := level4(t)
	l.ok(raised("h1", "hot"))
	l.ok(raised("h2", "hot"))
	l.wait(time.Hour)
	l.ok(raised("h1", "loud"))
	open := func() (out []string) {
		for k := range l.state().raised.all() {
			if a := l.state().OpenAlert(k); a.State == AlertOpen {
				out = append(out, k.Subject+" "+strings.TrimPrefix(k.Cause, External))
			}
		}
		return out
	}
	l.ok(&logpb.AlertControl{Action: alertAck, Match: &logpb.AlertMatch{Subjects: []string{"h2"}, Types: []string{"alert.compute.host"}}})
	if got := open(); !slices.Equal(got, []string{"h1 hot", "h1 loud"}) {
		t.Errorf("by subject: %q", got)
	}
	older := &logpb.AlertControl{Action: alertAck, OlderNs: int64(time.Minute)}
	counts := func() int { return l.state().CountControlled(older, l.state().Time) }
	if n := counts(); n != 1 { // the other one is acknowledged already
		t.Errorf("%d would be acknowledged", n)
	}
	l.ok(older)
	if n := counts(); n != 0 {
		t.Errorf("%d would be acknowledged again", n)
	}
	if got := open(); !slices.Equal(got, []string{"h1 loud"}) {
		t.Errorf("by age: %q", got)
	}
	l.ok(&logpb.AlertControl{Action: alertResolve, State: uint32(AlertAcknowledged)})
	if n := l.state().CountOpenAlerts(); n != 1 {
		t.Errorf("by state: %d are open", n)
	}
	id := uint64(l.state().OpenAlert(hostAlert("h1", "loud")).ID)
	for what, c := range map[string]*logpb.AlertControl{
		"an open one": {Action: alertDelete, Ids: []uint64{id}}, "none": {Action: alertAck, Ids: []uint64{id, 99999}}, "no type": {Action: alertAck, Match: &logpb.AlertMatch{Types: []string{"NONE"}}},
		"no action": {}, "negative": {Action: alertAck, OlderNs: -1},
	} {
		if no := l.rejected(c); no == "" {
			t.Errorf("%s: not refused", what)
		}
	}
	old := fleet(t, 1, 1)
	for _, c := range []proto.Message{&logpb.AlertControl{Action: 1}, raised("h1", "hot"), &logpb.NotifySet{Name: "x", Kind: "y"}, &logpb.SilenceSet{Reason: "x", ForNs: 1}, &logpb.EventPurge{BeforeId: 9}} {
		if no := old.rejected(c); !strings.Contains(no, "feature level 4") {
			t.Errorf("at level 1: %s", no)
		}
	}
}

// What is raised from outside is never taken for what lifeboat has seen itself.
func TestExternalAlertsCannotPose(t *testing.T) {
	l := level4(t)
	v := l.vm(1)
	l.ok(&logpb.AlertRaise{Alerts: []*logpb.Raised{{Type: "VM", Subject: v.ID.String(), Cause: duplicateOn + "h2", Severity: 3, Text: "x"}}})
	if l.state().copied(l.vm(1)) {
		t.Error("a VM counts as running twice because somebody said so")
	}
	for _, typ := range []string{AlertBrake, AlertReceiver, AlertAlerts, "NONE"} {
		l.rejected(&logpb.AlertRaise{Alerts: []*logpb.Raised{{Type: typ, Subject: "x", Cause: "y", Severity: 3, Text: "x"}}})
	}
}

// Memory is bounded: of open alerts, of closed ones by number and age, and of the outbox.
func TestAlertsAreBounded(t *testing.T) {
	l := level4(t)
	l.ok(&logpb.PolicySet{Settings: []*logpb.Setting{{Key: "alerts_open_max", Value: "100"}, {Key: "alerts_keep", Value: "100"}, {Key: "notify_keep", Value: "100"},
		{Key: "alerts_archive_after", Value: "1h"}, {Key: "alerts_keep_for", Value: "2h"}}})
	l.ok(&logpb.NotifySet{Name: "hook", Kind: "webhook"})
	for i := range 300 {
		l.ok(raised(fmt.Sprintf("x%d", i), "hot"))
	}
	s := l.state()
	over := s.OpenAlert(overflowKey())
	if s.CountOpenAlerts() != 101 || over == nil || over.Count != 200 || s.CountNotices() != 100 {
		t.Fatalf("%d are open, %d notices wait, the rest is %+v", s.CountOpenAlerts(), s.CountNotices(), over)
	}
	if r := s.Receiver("hook"); r.Lost != 1 {
		t.Errorf("it has lost %d", r.Lost)
	}
	for range 3 {
		l.ok(&logpb.AlertControl{Action: alertResolve})
	}
	l.ok(&logpb.Canary{Node: "n1"})
	if s := l.state(); s.CountOpenAlerts() != 0 || s.CountClosedAlerts() != 100 {
		t.Errorf("%d are open and %d closed", s.CountOpenAlerts(), s.CountClosedAlerts())
	}
	l.wait(time.Hour)
	l.ok(&logpb.Canary{Node: "n1"})
	if k, ok := l.state().oldest(AlertResolved); ok {
		t.Errorf("after an hour %v is not archived", k)
	}
	for range 2 {
		l.wait(time.Hour)
		l.ok(&logpb.Canary{Node: "n1"})
	}
	if n := l.state().CountClosedAlerts(); n != 0 {
		t.Errorf("after two more %d are kept", n)
	}
}
