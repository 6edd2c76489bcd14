package fsm

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"

	"lifeboat/fsm/logpb"
)

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
