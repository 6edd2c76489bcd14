package fsm

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"

	"google.golang.org/protobuf/proto"

	"lifeboat/fsm/logpb"
)

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

// pending are the notices that a receiver waits for: "opened h1".
func (l *lab) pending(receiver string) (out []string) {
	for n := range l.state().Pending(l.state().Receiver(receiver)) {
		out = append(out, n.Kind.String()+" "+n.Alert.About())
	}
	return out
}

func (l *lab) begin(receiver string) *Batch {
	l.t.Helper()
	r := l.state().Receiver(receiver)
	var upto NoticeID
	for n := range l.state().Pending(r) {
		upto = n.ID
	}
	l.ok(&logpb.NotifyStep{Receiver: receiver, Action: NotifyBegin, After: uint64(r.Done), Upto: uint64(upto)})
	return l.state().Receiver(receiver).Batch
}

// deliver sends all that a receiver waits for, as one delivery.
func (l *lab) deliver(receiver string, arrives bool) *Batch {
	l.t.Helper()
	b := l.begin(receiver)
	l.ended(receiver, b, arrives)
	return b
}

func (l *lab) ended(receiver string, b *Batch, arrives bool) {
	l.t.Helper()
	step := &logpb.NotifyStep{Receiver: receiver, Action: NotifyDelivered, Delivery: b.ID}
	if !arrives {
		step.Action, step.Failure, step.Attempt = NotifyFailed, "no answer", b.Attempts+1
	}
	l.ok(step)
}

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
	l.ok(&logpb.AlertControl{Action: alertAck, OlderNs: int64(time.Minute)})
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

// Those who want to know are told once of a beginning and once of an end, whatever
// the number of reporters.
func TestNotices(t *testing.T) {
	l := level4(t)
	l.ok(&logpb.NotifySet{Name: "all", Kind: "webhook"})
	l.ok(&logpb.NotifySet{Name: "nodes", Kind: "webhook", Match: &logpb.AlertMatch{Types: []string{"NODE"}}})
	for range 1000 {
		l.ok(raised("h1", "hot"))
	}
	if got := l.pending("all"); !slices.Equal(got, []string{"opened h1"}) || len(l.pending("nodes")) != 0 {
		t.Fatalf("waiting: %q, %q", got, l.pending("nodes"))
	}
	b := l.begin("all")
	if again := l.begin("all"); again.ID != b.ID {
		t.Errorf("begun twice: %s and %s", b.ID, again.ID)
	}
	l.ok(itEnded("h1", "hot")) // it is not of the delivery that is under way
	if b.Count != 1 {
		t.Errorf("it has %d notices", b.Count)
	}
	l.ended("all", b, false)
	if r := l.state().Receiver("all"); r.Batch == nil || r.Batch.ID != b.ID || r.Batch.Attempts != 1 || r.Batch.NotBefore <= l.now || r.Failing != l.now {
		t.Errorf("after a failure: %+v %+v", r, r.Batch)
	}
	l.ended("all", b, true)
	if got := l.pending("all"); !slices.Equal(got, []string{"resolved h1"}) {
		t.Errorf("then waiting: %q", got)
	}
	l.ended("all", b, true) // late
	if len(l.pending("all")) != 1 {
		t.Error("a late receipt took something else with it")
	}
	if c := l.deliver("all", true); c.ID == b.ID || l.state().CountNotices() != 0 {
		t.Errorf("delivery %s, then %d wait", c.ID, l.state().CountNotices())
	}
}

// A receiver that fails is an alert for the others, not for itself, and it ends.
func TestAFailingReceiverDoesNotLoop(t *testing.T) {
	l := level4(t)
	l.ok(&logpb.NotifySet{Name: "bad", Kind: "webhook"})
	l.ok(&logpb.NotifySet{Name: "good", Kind: "webhook"})
	l.ok(raised("h1", "hot"))
	l.deliver("good", true)
	b := l.begin("bad")
	for range 20 {
		l.ended("bad", l.state().Receiver("bad").Batch, false)
		l.wait(5 * time.Minute)
	}
	if got := l.pending("good"); !slices.Equal(got, []string{"opened bad"}) {
		t.Errorf("the good one waits for %q", got)
	}
	if got := l.pending("bad"); !slices.Equal(got, []string{"opened h1"}) {
		t.Errorf("the bad one waits for %q", got)
	}
	l.ended("bad", b, true)
	if l.state().OpenAlert(receiverAlert("bad")) != nil || l.state().Receiver("bad").Failing != 0 {
		t.Error("it arrives, and the alert stays")
	}
	// One that never takes it is given up, and what comes next is tried.
	l.ok(raised("h2", "hot"))
	l.begin("bad")
	for range 30 {
		l.wait(50 * time.Minute)
		if b := l.state().Receiver("bad").Batch; b != nil {
			l.ended("bad", b, false)
		}
	}
	if r := l.state().Receiver("bad"); r.Batch != nil || r.Lost != 1 {
		t.Errorf("it is not given up: %+v", r)
	}
}

// A silence keeps alerts from receivers; what is still open when it ends is told then.
func TestSilences(t *testing.T) {
	l := level4(t)
	l.ok(&logpb.NotifySet{Name: "hook", Kind: "webhook"})
	for what, c := range map[string]*logpb.SilenceSet{"no end": {Reason: "x"}, "no reason": {ForNs: 1}, "none": {Id: 4242}, "too long": {Reason: "x", ForNs: int64(MaxSilence) + 1}} {
		if no := l.rejected(c); no == "" {
			t.Errorf("%s: not refused", what)
		}
	}
	l.ok(&logpb.SilenceSet{Match: &logpb.AlertMatch{Subjects: []string{"h1", "x*"}}, Reason: "works", ForNs: int64(time.Minute)})
	l.ok(raised("h1", "hot"))
	l.ok(raised("x1", "hot"))
	l.ok(raised("h2", "hot"))
	l.ok(itEnded("x1", "hot"))
	if got := l.pending("hook"); !slices.Equal(got, []string{"opened h2"}) {
		t.Errorf("during the silence: %q", got)
	}
	l.wait(time.Minute)
	l.ok(&logpb.Canary{Node: "n1"})
	if got := l.pending("hook"); !slices.Equal(got, []string{"opened h2", "opened h1"}) {
		t.Errorf("after it: %q", got)
	}
	for range l.state().Silences() {
		t.Error("it is still there")
	}
}

// Random commands about alerts keep every rule, and a snapshot of each state is it.
func TestNotifyStories(t *testing.T) {
	for seed := range uint64(8) {
		l := level4(t)
		c := chooser(rand.New(rand.NewPCG(seed, 6)).IntN)
		l.ok(&logpb.PolicySet{Settings: []*logpb.Setting{{Key: "alerts_archive_after", Value: "10s"}, {Key: "alerts_keep_for", Value: "30s"}, {Key: "notify_give_up", Value: "20s"}}})
		for i := range 400 {
			l.wait(time.Duration(c(2000)) * time.Millisecond)
			switch {
			case c.odds(6):
				l.do(&logpb.Canary{Node: "n1"})
			case c.odds(12):
				id := pick(c, HostID("h1"), "h2")
				l.do(l.suspect(id))
				l.do(l.hostDown(id))
			case c.odds(12):
				l.do(registration("h2", fmt.Sprint("b", i)))
			default:
				l.do(randomNotify(c, l.state()))
			}
			if i%20 == 0 {
				s, err := ReadState(strings.NewReader(string(snapshotOf(t, l.state()))))
				if err != nil {
					t.Fatal(err)
				}
				if diff := sameState(l.state(), s); diff != "" {
					t.Fatalf("seed %d: a snapshot is another state:\n%s", seed, diff)
				}
			}
		}
		m := NewMachine()
		m.Apply(l.log)
		if diff := sameState(l.state(), m.State()); diff != "" {
			t.Fatalf("seed %d: a replay makes another state:\n%s", seed, diff)
		}
	}
}

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
