package fsm

import (
	"bytes"
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"

	"google.golang.org/protobuf/proto"
	"pgregory.net/rapid"

	"lifeboat/fsm/logpb"
)

// usageTruth knows what was taken, and reckons by counting minutes: it shares no code
// with the fold.
type usageTruth struct {
	facts   map[UsageKey][]UsageFact
	ids     map[string]bool
	removed map[string]int64 // accounts; 0 = it is there again
}

func newUsageTruth() *usageTruth {
	return &usageTruth{facts: map[UsageKey][]UsageFact{}, ids: map[string]bool{}, removed: map[string]int64{}}
}

func (u *usageTruth) clone() *usageTruth {
	n := &usageTruth{facts: map[UsageKey][]UsageFact{}, ids: maps.Clone(u.ids), removed: maps.Clone(u.removed)}
	for k, f := range u.facts {
		n.facts[k] = slices.Clone(f)
	}
	return n
}

// savedUsage is a snapshot, and what was true of it.
type savedUsage struct {
	raw    []byte
	truth  *usageTruth
	closed int64
	log    []Entry
}

// open reports for each minute whether the resource is open in it. At one minute, n
// creates and m deletes: a closed one is open afterwards if there are more creates, an
// open one stays so unless there are more deletes.
func (u *usageTruth) open(key UsageKey, zero int64, minutes int) []bool {
	creates, deletes := map[int64]int{}, map[int64]int{}
	var before []UsageFact
	for _, x := range u.facts[key] {
		if x.Time < zero {
			before = append(before, x)
		}
		if x.Kind == FactOpens {
			creates[x.Time]++
		} else {
			deletes[x.Time]++
		}
	}
	on := false
	step := func(at int64) {
		if on {
			on = creates[at] >= deletes[at]
		} else {
			on = creates[at] > deletes[at]
		}
	}
	slices.SortFunc(before, func(a, b UsageFact) int { return int((a.Time - b.Time) / minute) })
	last := int64(0)
	for _, x := range before {
		if x.Time != last {
			step(x.Time)
			last = x.Time
		}
	}
	out := make([]bool, minutes)
	for i := range out {
		if at := zero + int64(i)*minute; creates[at]+deletes[at] > 0 {
			step(at)
		}
		out[i] = on
	}
	return out
}

// everyRecord writes all records of a state, as an export would.
func everyRecord(s *State) []byte {
	var b bytes.Buffer
	for r := range s.Usage(UsageQuery{}) {
		fmt.Fprintln(&b, r.Window.Start, r.Window.End, r.Key, r.Owner, r.Detail, r.Used, r.Index, r.Corrects, r.First, r.Last)
	}
	return b.Bytes()
}

// usageStory tells events at random: early, late, twice, in any order, through leaders
// whose terms end in between and whose clocks differ, while windows are closed and
// snapshots are restored, of which what came after them is gone; and holds all that must hold of usage against the result.
func usageStory(fail func(string, ...any), c chooser, steps int) {
	const before, resources = 200, 4
	m := NewMachine()
	truth := newUsageTruth()
	now, zero := epochStart, epochStart
	term, closed := uint64(1), zero
	var log []Entry
	var index uint64
	var saved []savedUsage
	var said []*logpb.UsageEvent
	apply := func(cmd *logpb.Command) Result {
		cmd.TimeUnixNs = now
		b, err := proto.MarshalOptions{Deterministic: true}.Marshal(cmd)
		if err != nil {
			fail("%v", err)
		}
		index++
		e := Entry{Index: index, Term: term, Data: b}
		log = append(log, e)
		r := m.Apply([]Entry{e})[0]
		if err := m.Check(); err != nil {
			fail("after %s (%s): %v", cmd, r.Rejected, err)
		}
		return r
	}
	apply(command(&logpb.ClusterInit{ClusterId: "c1", FeatureLevel: LevelPolicy}))
	sum := func() int64 {
		n := int64(0)
		for r := range m.State().Usage(UsageQuery{}) {
			n += r.Used
		}
		return n
	}
	seen := map[string]bool{}
	for range steps {
		if c.odds(10) {
			var b bytes.Buffer
			if _, err := m.State().WriteTo(&b); err != nil {
				fail("%v", err)
			}
			saved = append(saved, savedUsage{b.Bytes(), truth.clone(), closed, slices.Clone(log)})
		}
		if len(saved) > 0 && c.odds(25) {
			x := saved[c(len(saved))]
			s, err := ReadState(bytes.NewReader(x.raw))
			if err != nil {
				fail("%v", err)
			}
			m = NewMachine()
			m.Restore(s)
			truth, closed, log = x.truth.clone(), x.closed, slices.Clone(x.log)
			seen = map[string]bool{}
			apply(command(&logpb.AcceptTime{})) // its time stood still since
		}
		records := everyRecord(m.State())
		for line := range seen {
			if !bytes.Contains(records, []byte(line)) {
				fail("a record was changed after it had been made: %s", line)
			}
		}
		for line := range strings.Lines(string(records)) {
			seen[line] = true
		}
		switch c(10) {
		default:
			batch := &logpb.UsageEvents{}
			for range 1 + c(4) {
				if len(said) > 0 && c.odds(4) {
					batch.Events = append(batch.Events, said[c(len(said))]) // again
					continue
				}
				at := zero + int64(c(int((now-zero)/minute)+before)-before)*minute
				typ := pick(c, "LB.CREATE", "LB.DELETE")
				e := ev(fmt.Sprint("e", len(said)), typ, fmt.Sprint(c(resources)), at, map[string]string{"LB.CREATE": pick(c, "a", "b")}[typ])
				said = append(said, e)
				batch.Events = append(batch.Events, e)
			}
			cmd := command(batch)
			if c.odds(8) {
				cmd.OnlyTerm = term + 1 // decided by a leader of another term: void
			}
			r := apply(cmd)
			if r.Void {
				continue
			}
			var refused []string
			for _, e := range batch.Events {
				if truth.ids[e.Id] {
					continue
				}
				if at := truth.removed[e.Account.GetAccount()]; at != 0 && e.TimeUnixNs >= at {
					refused = append(refused, e.Id) // nothing begins for an account that is gone
					continue
				}
				truth.ids[e.Id] = true
				kind := FactOpens
				if e.Type == "LB.DELETE" {
					kind = FactCloses
				}
				key := UsageKey{lb, e.Resource}
				truth.facts[key] = append(truth.facts[key], UsageFact{Time: e.TimeUnixNs, Kind: kind})
			}
			var said []string
			for _, x := range r.Told.Refused {
				said = append(said, x.ID)
			}
			if !slices.Equal(said, refused) || (r.Rejected != "") != (len(refused) > 0) {
				fail("%s: refused are %v, expected %v; %q", batch, said, refused, r.Rejected)
			}
		case 4:
			at := int64(0) // it is there again
			if truth.removed["b"] == 0 {
				at = now - int64(c(30))*minute
			}
			if m.State().Account(Owner{Account: "b"}) == nil {
				continue
			}
			if r := apply(command(&logpb.UsageAccountSet{Account: &logpb.UsageAccount{Account: "b"}, RemovedUnixNs: at})); r.Rejected != "" {
				fail("%s", r.Rejected)
			}
			truth.removed["b"] = at
		case 0, 1:
			now += int64(1+c(50)) * minute
			apply(command(&logpb.Canary{Node: "n1", Term: term}))
		case 2:
			term++ // another leader, whose clock is behind
			was := now
			now -= int64(c(3)) * minute
			apply(command(&logpb.Canary{Node: "n2", Term: term}))
			now = was
		case 3:
			if end := closed + int64(1+c(120))*minute; end <= now {
				cmd := closing(closed, end)
				if !c.odds(3) || closed == zero {
					if r := apply(command(cmd)); r.Rejected != "" {
						fail("%s: %s", cmd, r.Rejected)
					}
					closed = end
				}
				if w := m.State().LastUsageWindow(); w != nil { // by two leaders
					n := sum()
					apply(command(closing(w.Start, w.End)))
					if sum() != n {
						fail("a window that was closed twice counts twice")
					}
				}
			}
		}
	}
	s := m.State()
	minutes := int((closed - zero) / minute)
	for i := range resources {
		key := UsageKey{lb, fmt.Sprint(i)}
		lives := truth.open(key, zero, minutes)
		r := s.UsageResource(key)
		if r == nil {
			r = &UsageResource{}
		}
		for start, w := range s.UsageWindows(0) {
			want, got := int64(0), int64(0)
			for k := (start - zero) / minute; k < (w.End-zero)/minute; k++ {
				if lives[k] {
					want += minute
				}
			}
			last := uint64(0)
			records := r.Records(w)
			for k, x := range records {
				got += x.Used
				whole := k+1 == len(records) || records[k+1].Index != x.Index // an entry may move time from one account to another
				if whole && (got < 0 || got > w.End-w.Start) {
					fail("%v holds %d of a window of %d after entry %d", key, got, w.End-w.Start, x.Index)
				}
				if !x.Corrects && x.Index != w.Index || x.Corrects && x.Index <= w.Index || x.Index < last {
					fail("records of %v in the wrong order", key)
				}
				last = x.Index
			}
			if got != want {
				fail("%v: window %d-%d holds %d minutes, it lived %d\n%s", key, (start-zero)/minute, (w.End-zero)/minute, got/minute, want/minute, spans(r, zero))
			}
		}
	}
	// What an export took after each entry is all there is, once.
	records := everyRecord(s)
	lines := map[string]int{}
	after := uint64(0)
	for after < s.Index {
		next := min(after+1+uint64(c(7)), s.Index)
		for x := range s.Usage(UsageQuery{After: after}) {
			if x.Index <= next {
				lines[fmt.Sprint(x.Window.Start, x.Key, x.Owner, x.Used, x.Index, x.Corrects)]++
			}
		}
		after = next
	}
	if n := strings.Count(string(records), "\n"); n != len(lines) {
		fail("%d records, taken bit by bit they are %d", n, len(lines))
	}
	for line, n := range lines {
		if n != 1 {
			fail("%s was taken %d times", line, n)
		}
	}
	other := replay(failer(fail), c, log)
	if again := everyRecord(other.State()); !bytes.Equal(again, records) {
		fail("replay makes other records:\n%s\nwere\n%s", again, records)
	}
}

type failer func(string, ...any)

func (f failer) Fatalf(format string, args ...any) { f(format, args...) }

func TestUsageStories(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		draw := rapid.IntRange(0, 1<<30)
		usageStory(t.Fatalf, func(n int) int { return draw.Draw(t, "n") % n }, 30)
	})
}

func TestSeededUsageStories(t *testing.T) {
	for seed := range uint64(20) {
		usageStory(func(f string, args ...any) {
			t.Helper()
			t.Fatalf("seed %d: "+f, slices.Insert(args, 0, any(seed))...)
		}, rand.New(rand.NewPCG(seed, 110)).IntN, 150)
	}
}

// Whatever bytes events hold, Apply takes or refuses them, and the state can be kept.
func FuzzUsageEvents(f *testing.F) {
	f.Add("e1", "LB.CREATE", "7", int64(epochStart), "alice", "ROOT", uint64(3))
	f.Add("", "VOLUME.RESIZE", "", int64(-1), "", "", uint64(0))
	f.Fuzz(func(t *testing.T, id, typ, resource string, at int64, account, domain string, size uint64) {
		e := &logpb.UsageEvent{Id: id, Type: typ, Resource: resource, TimeUnixNs: at, Account: &logpb.UsageAccount{Account: account, Domain: domain}, Detail: &logpb.UsageDetail{Size: size}}
		cmd := command(told(e, ev("x", "LB.DELETE", resource, at, "")))
		cmd.TimeUnixNs = epochStart
		if _, err := proto.Marshal(cmd); err != nil {
			t.Skip() // not valid UTF-8
		}
		l := &lab{t: t, m: NewMachine(), now: epochStart, seqs: map[HostID]uint64{}}
		l.ok(&logpb.ClusterInit{ClusterId: "c1", FeatureLevel: LevelPolicy})
		l.m.Apply([]Entry{l.entry(cmd), l.entry(command(closing(epochStart-int64(time.Hour), epochStart)))})
		if err := l.m.Check(); err != nil {
			t.Fatal(err)
		}
		s, err := ReadState(bytes.NewReader(snapshotOf(t, l.state())))
		if err != nil {
			t.Fatal(err)
		}
		if !bytes.Equal(everyRecord(s), everyRecord(l.state())) {
			t.Error("a snapshot has other records")
		}
	})
}
