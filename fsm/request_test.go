package fsm

import (
	"bytes"
	"fmt"
	"strings"
	"testing"
	"time"

	"google.golang.org/protobuf/proto"
	"pgregory.net/rapid"

	"lifeboat/fsm/logpb"
)

// asked is a command under a request id. Its own bytes are its mark.
func asked(actor, id string, body proto.Message) *logpb.Command {
	c := command(body)
	mark, err := proto.MarshalOptions{Deterministic: true}.Marshal(c)
	if err != nil {
		panic(err)
	}
	c.Actor, c.RequestId, c.RequestMark = actor, id, mark
	return c
}

func limit(value string) *logpb.PolicySet {
	return &logpb.PolicySet{Settings: []*logpb.Setting{{Key: "max_restart", Value: value}}}
}

// level3 is a lab at the feature level that remembers requests.
func level3(t testing.TB) *lab {
	l := &lab{t: t, m: NewMachine(), now: epochStart, seqs: map[HostID]uint64{}}
	l.ok(&logpb.ClusterInit{ClusterId: "c1", FeatureLevel: LevelRequests})
	return l
}

// ask applies a command as it is and checks every invariant.
func (l *lab) ask(c *logpb.Command) Result {
	l.t.Helper()
	r := l.m.Apply([]Entry{l.entry(c)})[0]
	if err := l.m.Check(); err != nil {
		l.t.Fatalf("after %s:\n%v", c, err)
	}
	return r
}

func maxRestart(s *State) string {
	for _, x := range s.Policy.Settings(s.Level) {
		if x.Key == "max_restart" {
			return x.Value
		}
	}
	return ""
}

// What becomes of a command with a request id, in every state that the id can be in.
func TestRequestTable(t *testing.T) {
	scenes := []struct {
		name string
		make func(l *lab)
	}{
		{"nothing was asked", func(*lab) {}},
		{"done", func(l *lab) { l.ask(asked("operator/alice", "r1", limit("7"))) }},
		{"done, then changed by another", func(l *lab) {
			l.ask(asked("operator/alice", "r1", limit("7")))
			l.ok(limit("8"))
		}},
		{"rejected", func(l *lab) { l.ask(asked("operator/alice", "r1", limit("nonsense"))) }},
		{"done a day ago", func(l *lab) {
			l.ask(asked("operator/alice", "r1", limit("7")))
			for range 25 {
				l.wait(time.Hour)
				l.ok(&logpb.Canary{Node: "n1", Term: 1})
			}
		}},
		{"done, at feature level 2", func(l *lab) {
			l.m = NewMachine()
			l.index = 0
			l.ok(&logpb.ClusterInit{ClusterId: "c1", FeatureLevel: LevelRequests - 1})
			l.ask(asked("operator/alice", "r1", limit("7")))
		}},
	}
	events := []struct {
		name string
		c    func() *logpb.Command
	}{
		{"the same", func() *logpb.Command { return asked("operator/alice", "r1", limit("7")) }},
		{"the same nonsense", func() *logpb.Command { return asked("operator/alice", "r1", limit("nonsense")) }},
		{"something else under its id", func() *logpb.Command { return asked("operator/alice", "r1", limit("9")) }},
		{"the same under another id", func() *logpb.Command { return asked("operator/alice", "r2", limit("7")) }},
		{"another actor with that id", func() *logpb.Command { return asked("operator/bob", "r1", limit("9")) }},
		{"the same without an id", func() *logpb.Command { return asked("operator/alice", "", limit("7")) }},
		{"the same, decided in another term", func() *logpb.Command {
			c := asked("operator/alice", "r1", limit("7"))
			c.OnlyTerm = 9
			return c
		}},
	}
	var out strings.Builder
	for _, sc := range scenes {
		fmt.Fprintf(&out, "%s\n", sc.name)
		for _, ev := range events {
			l := level3(t)
			sc.make(l)
			before := l.state()
			r := l.ask(ev.c())
			what := "done"
			switch {
			case r.Void:
				what = "void"
			case r.Repeated:
				what = "repeated"
			case r.Rejected != "":
				what = "rejected"
			}
			ago := ""
			if n := l.index - r.Index; n > 0 {
				ago = fmt.Sprintf(" (of %d entries ago)", n)
			}
			fmt.Fprintf(&out, "  %-36s %s%s %s| limit %s → %s, events +%d, remembered %d\n", ev.name, what, ago, r.Rejected, maxRestart(before), maxRestart(l.state()),
				l.state().events.len()-before.events.len(), l.state().requests.len())
			if (r.Repeated || r.Void || r.Rejected != "") && essence(before) != essence(l.state()) {
				t.Errorf("%s: %s: it changed the state", sc.name, ev.name)
			}
		}
	}
	golden(t, "requests.table", out.String())
}

// A second opinion on what is remembered: who asked for what, at which entry.
type remembered struct {
	mark     string
	index    uint64
	rejected string
	at       int64
}

// Random requests and repetitions: each is done once, and replicas that went through
// snapshots agree.
func TestRequestsAreDoneOnce(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		draw := rapid.IntRange(0, 1<<30)
		c := chooser(func(n int) int { return draw.Draw(t, "n") % n })
		m, known := NewMachine(), map[requestKey]remembered{}
		now := epochStart
		var log []Entry
		apply := func(cmd *logpb.Command) Result {
			cmd.TimeUnixNs = now
			b, err := proto.MarshalOptions{Deterministic: true}.Marshal(cmd)
			if err != nil {
				t.Fatal(err)
			}
			e := Entry{Index: uint64(len(log) + 1), Term: 1, Data: b}
			log = append(log, e)
			r := m.Apply([]Entry{e})[0]
			if err := m.Check(); err != nil {
				t.Fatalf("entry %d, %s: %v", e.Index, cmd, err)
			}
			return r
		}
		apply(command(&logpb.ClusterInit{ClusterId: "c1", FeatureLevel: LevelRequests}))
		for range 60 {
			if c.odds(3) {
				for range pick(c, 1, 1, 1, 1, 25) {
					now += int64(time.Duration(c(60)) * time.Minute)
					apply(command(&logpb.Canary{Node: "n1"}))
				}
			}
			body := pick[proto.Message](c, limit("1"), limit("2"), limit("bad"), &logpb.Arm{}, &logpb.Arm{Armed: true}, &logpb.Canary{Node: "n1"})
			cmd := asked(pick(c, "operator/alice", "operator/bob"), pick(c, "", "a", "b", "c", "d"), body)
			before := m.State()
			got := apply(cmd)
			k := requestKey{cmd.Actor, cmd.RequestId}
			was, again := known[k]
			again = again && cmd.RequestId != "" && max(before.Time, now)-was.at <= int64(RequestsFor)
			switch {
			case again && was.mark != string(cmd.RequestMark):
				if got.Rejected == "" || got.Repeated || !strings.Contains(got.Rejected, "was used for something else") {
					t.Fatalf("%s under the id of something else: %+v", cmd, got)
				}
			case again:
				if !got.Repeated || got.Index != was.index || got.Rejected != was.rejected {
					t.Fatalf("%s again: %+v, the first was %+v", cmd, got, was)
				}
			case got.Repeated || got.Index != uint64(len(log)):
				t.Fatalf("%s for the first time: %+v", cmd, got)
			case cmd.RequestId != "":
				known[k] = remembered{string(cmd.RequestMark), got.Index, got.Rejected, m.State().Time}
			}
			if again && essence(before) != essence(m.State()) {
				t.Fatalf("%s again changed the state", cmd)
			}
		}
		other := replay(t, c, log)
		if diff := sameState(m.State(), other.State()); diff != "" || m.State().Sum() != other.State().Sum() {
			t.Fatalf("replicas differ:\n%s", diff)
		}
	})
}

// However many requests come, what is remembered of them is bounded, and it is the
// newest.
func TestRequestsAreBounded(t *testing.T) {
	m := NewMachine()
	entries := make([]Entry, 0, RequestsKeep+101)
	add := func(c *logpb.Command) {
		c.TimeUnixNs = epochStart
		entries = append(entries, Entry{Index: uint64(len(entries) + 1), Term: 1, Data: encode(t, c)})
	}
	add(command(&logpb.ClusterInit{ClusterId: "c1", FeatureLevel: LevelRequests}))
	for i := range RequestsKeep + 100 {
		c := asked("operator/alice", fmt.Sprint(i), &logpb.AlertUpdate{Id: 1, Action: 9})
		if i == RequestsKeep+99 {
			c = asked("operator/alice", fmt.Sprint(i), limit(strings.Repeat("é", 1000)))
		}
		add(c)
	}
	m.Apply(entries)
	s := m.State()
	if n := s.requests.len(); n != RequestsKeep {
		t.Errorf("%d are remembered", n)
	}
	if err := m.Check(); err != nil {
		t.Error(err)
	}
	if s.Request("operator/alice", "99") != nil || s.Request("operator/alice", "100") == nil {
		t.Error("it is not the oldest that went")
	}
	if r := s.Request("operator/alice", fmt.Sprint(RequestsKeep+99)); len(r.Rejected) > requestText+len("…") || !strings.HasSuffix(r.Rejected, "é…") {
		t.Errorf("a long rejection is remembered as %d bytes: %s", len(r.Rejected), r.Rejected)
	}
	again, err := ReadState(bytes.NewReader(snapshotOf(t, s)))
	if err != nil {
		t.Fatal(err)
	}
	if diff := sameState(s, again); diff != "" {
		t.Error(diff)
	}
}

// A restore undoes what was done and keeps what is known of requests: none that was
// answered is done a second time because somebody asks again.
func TestRequestsOutliveARestore(t *testing.T) {
	l := level3(t)
	l.ask(asked("operator/alice", "old", limit("3")))
	snap := l.state()
	l.ask(asked("operator/alice", "new", limit("4")))
	woken := snap.Wake(l.state(), Waking{Index: l.index + 64, Term: 1, Now: l.now, Actor: "operator/alice"})
	if woken.Request("operator/alice", "new") == nil || woken.Request("operator/alice", "old") == nil {
		t.Error("requests were forgotten")
	}
	if err := woken.Check(); err != nil {
		t.Error(err)
	}
	l.m.Restore(woken)
	l.index += 64
	if r := l.ask(asked("operator/alice", "new", limit("4"))); !r.Repeated || maxRestart(l.state()) != "3" {
		t.Errorf("after the restore: %+v, limit %s", r, maxRestart(l.state()))
	}
}
