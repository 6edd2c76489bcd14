package fsm

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"google.golang.org/protobuf/proto"
	"pgregory.net/rapid"

	"lifeboat/fsm/logpb"
)

// contents is everything that a state holds, for comparison field by field.
type contents struct {
	Meta   State
	Nodes  []*Node
	Hosts  []*Host
	Owner  []string
	Work   []*Work
	Open   []string
	Alerts []*AlertRecord
	Raised []string
	Events []*Event
	Brakes []string

	Requests []*Request
	Asked    []string
	Rules    []*Rule
	Usage    []string

	Closed, Settled []string
	Receivers       []*Receiver
	Silences        []*Silence
	Outbox          []*Notice
}

func contentsOf(s *State) contents {
	c := contents{Meta: State{Index: s.Index, Term: s.Term, Time: s.Time, ClusterID: s.ClusterID, Generation: s.Generation, Level: s.Level, LevelVersion: s.LevelVersion,
		Armed: s.Armed, ArmedIndex: s.ArmedIndex, Policy: s.Policy, Digest: s.Digest}}
	for _, n := range s.Nodes() {
		c.Nodes = append(c.Nodes, n)
	}
	for _, h := range s.Hosts() {
		n := *h
		n.Stalled = false // a hint that may linger; a snapshot works it out anew
		c.Hosts = append(c.Hosts, &n)
	}
	for v, h := range s.owner.all() {
		c.Owner = append(c.Owner, fmt.Sprint(v, h))
	}
	for _, w := range s.work.all() {
		c.Work = append(c.Work, w)
	}
	for v, w := range s.open.all() {
		c.Open = append(c.Open, fmt.Sprint(v, w))
	}
	for _, a := range s.alerts.all() {
		c.Alerts = append(c.Alerts, a)
	}
	for k, a := range s.raised.all() {
		c.Raised = append(c.Raised, fmt.Sprint(k, a))
	}
	for k, id := range s.closed.all() {
		c.Closed = append(c.Closed, fmt.Sprint(k, id))
	}
	for k, id := range s.settled.all() {
		c.Settled = append(c.Settled, fmt.Sprint(k, id))
	}
	for _, r := range s.receivers.all() {
		c.Receivers = append(c.Receivers, r)
	}
	for _, x := range s.silences.all() {
		c.Silences = append(c.Silences, x)
	}
	for _, n := range s.outbox.all() {
		c.Outbox = append(c.Outbox, n)
	}
	for _, e := range s.events.all() {
		c.Events = append(c.Events, e)
	}
	for d, r := range s.Brakes() {
		c.Brakes = append(c.Brakes, fmt.Sprint(d, r))
	}
	for _, r := range s.Requests() {
		c.Requests = append(c.Requests, r)
	}
	for k, index := range s.asked.all() {
		c.Asked = append(c.Asked, fmt.Sprint(k, index))
	}
	for _, r := range s.Rules() {
		c.Rules = append(c.Rules, r)
	}
	c.Usage = append(c.Usage, fmt.Sprint(s.usage.since, s.usage.kept, s.usage.troubled))
	s.usage.each(func(r *logpb.Record) { c.Usage = append(c.Usage, r.String()) })
	for k, x := range s.usage.tally.all() {
		c.Usage = append(c.Usage, fmt.Sprint(k, x))
	}
	return c
}

// sameState compares field by field; empty and nil slices are the same.
func sameState(a, b *State) string {
	return cmp.Diff(contentsOf(a), contentsOf(b), cmp.Comparer(func(a, b State) bool {
		return a.Index == b.Index && a.Term == b.Term && a.Time == b.Time && a.ClusterID == b.ClusterID && a.Generation == b.Generation &&
			a.Level == b.Level && a.LevelVersion == b.LevelVersion && a.Armed == b.Armed && a.Waking == b.Waking && a.ArmedIndex == b.ArmedIndex && *a.Policy == *b.Policy && a.Digest == b.Digest && a.seq == b.seq
	}), cmpopts.EquateEmpty(), cmp.AllowUnexported(Spec{}, Shape{}, VM{}, traits{}))
}

// timeless is a digest that does not see the clock.
func timeless(s *State) uint64 {
	c := *s
	c.Time = 0
	return c.Sum()
}

// repeatable are the commands whose repetition is a new event and not an echo.
func repeatable(body proto.Message) bool {
	switch b := body.(type) {
	case *logpb.HostRegister, *logpb.VMSpecs, *logpb.HostFenceLevels, *logpb.VMProtect, *logpb.NodeControl, *logpb.RuleAdd, *logpb.VMSet:
		return true
	case *logpb.AlertRaise, *logpb.NotifySet, *logpb.AlertControl, *logpb.EventPurge, *logpb.SilenceSet:
		return true
	case *logpb.NotifyStep:
		return b.Action == NotifyFailed
	case *logpb.WorkUpdate:
		return b.Action == WorkRetry || b.Action == WorkNoTarget
	case *logpb.HostReports:
		for _, r := range b.Reports {
			if r.Seq == 0 {
				return true // before the first report of an epoch nothing is late
			}
		}
	}
	return false
}

// inParts: what is refused of it does not hold up the rest.
func inParts(body proto.Message) bool {
	switch body.(type) {
	case *logpb.HostReports, *logpb.UsageEvents:
		return true
	}
	return false
}

// checkedNow: a check that says it follows one made at the very same instant.
func checkedNow(body proto.Message, now int64) bool {
	b, ok := body.(*logpb.FenceChecked)
	return ok && slices.ContainsFunc(b.Levels, func(l *logpb.LevelCheck) bool { return l.LastUnixNs >= now })
}

// story applies random commands to one machine and holds every rule against
// each; it returns the log.
func story(fail func(format string, args ...any), c chooser, steps int) (*Machine, []Entry) {
	m, mod := NewMachine(), newModel()
	now := epochStart
	var log []Entry
	apply := func(body proto.Message) string {
		cmd := command(body)
		cmd.TimeUnixNs = now
		b, err := proto.MarshalOptions{Deterministic: true}.Marshal(cmd)
		if err != nil {
			fail("encode %s: %v", cmd, err)
		}
		e := Entry{Index: uint64(len(log) + 1), Term: 1, Data: b}
		log = append(log, e)
		before := m.State()
		sum := timeless(before)
		no := m.Apply([]Entry{e})[0].Rejected
		after := m.State()
		if err := m.Check(); err != nil {
			fail("entry %d, %s (%q):\n%v\nbefore:\n%s\nafter:\n%s", e.Index, cmd, no, err, essence(before), essence(after))
		}
		if err := mod.step(before, after, body, no); err != nil {
			fail("entry %d, %s (%q): %v\nbefore:\n%s\nafter:\n%s", e.Index, cmd, no, err, essence(before), essence(after))
		}
		if err := usageFollows(before, after, body); err != nil {
			fail("entry %d, %s (%q): %v", e.Index, cmd, no, err)
		}
		if no != "" && !inParts(body) && timeless(after) != sum {
			fail("entry %d, %s was rejected (%s) and changed\n%s\nto\n%s", e.Index, cmd, no, essence(before), essence(after))
		}
		return no
	}
	for _, body := range c.setup() {
		apply(body)
	}
	for range steps {
		switch c(6) {
		case 0:
			now += int64(time.Duration(c(100)) * 100 * time.Millisecond)
		case 1:
			now -= int64(c(5)) * int64(time.Second) // another leader's clock
		}
		body := c.command(m.State())
		apply(body)
		if c.odds(4) && !repeatable(body) && !checkedNow(body, now) {
			before := essence(m.State())
			events := m.State().events.len()
			apply(body)
			if after := essence(m.State()); after != before || m.State().events.len() > events {
				fail("the echo of %s changed\n%s\nto\n%s", body, before, after)
			}
		}
	}
	return m, log
}

// replay applies a log in batches of random size, through snapshots now and
// then.
func replay(t interface {
	Fatalf(string, ...any)
}, c chooser, log []Entry) *Machine {
	m := NewMachine()
	for rest := log; len(rest) > 0; {
		n := 1 + c(min(len(rest), 12))
		m.Apply(rest[:n])
		rest = rest[n:]
		if c.odds(10) {
			var b bytes.Buffer
			if _, err := m.State().WriteTo(&b); err != nil {
				t.Fatalf("%v", err)
			}
			s, err := ReadState(&b)
			if err != nil {
				t.Fatalf("%v", err)
			}
			if diff := sameState(m.State(), s); diff != "" {
				t.Fatalf("a snapshot lost something:\n%s", diff)
			}
			m = NewMachine()
			m.Restore(s)
		}
	}
	return m
}

func TestRandomStories(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		draw := rapid.IntRange(0, 1<<30)
		c := chooser(func(n int) int { return draw.Draw(t, "n") % n })
		one, log := story(t.Fatalf, c, 60)
		other := replay(t, c, log)
		if one.State().Sum() != other.State().Sum() {
			t.Fatalf("replicas differ:\n%s", sameState(one.State(), other.State()))
		}
		if diff := sameState(one.State(), other.State()); diff != "" {
			t.Fatalf("replicas of equal digest differ:\n%s", diff)
		}
		if err := other.Check(); err != nil {
			t.Fatalf("%v", err)
		}
	})
}

// TestSeededStories goes deeper than rapid does in the same time, without
// shrinking: long stories of a plain generator.
func TestSeededStories(t *testing.T) {
	const stories, steps = 15, 300
	for seed := range stories {
		r := rand.New(rand.NewPCG(uint64(seed), 21))
		one, log := story(func(f string, args ...any) {
			t.Helper()
			t.Fatalf("seed %d: "+f, slices.Insert(args, 0, any(seed))...)
		}, r.IntN, steps)
		other := replay(t, r.IntN, log)
		if diff := sameState(one.State(), other.State()); diff != "" || one.State().Sum() != other.State().Sum() {
			t.Fatalf("seed %d: replicas differ:\n%s", seed, diff)
		}
	}
}
