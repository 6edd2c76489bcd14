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

// usageLab is a cluster of level 4 with a host and a VM that runs.
func usageLab(t testing.TB) *lab {
	t.Helper()
	l := &lab{t: t, m: NewMachine(), now: epochStart, seqs: map[HostID]uint64{}}
	l.ok(&logpb.ClusterInit{ClusterId: "c1", FeatureLevel: LevelPolicy})
	l.ok(countVMs())
	l.register("h1", "b1", said{vm: 1, power: PowerOn, reason: ReasonBooted})
	l.register("h2", "b1")
	return l
}

func countVMs() *logpb.PolicySet {
	return &logpb.PolicySet{Settings: []*logpb.Setting{{Key: "usage_vms", Value: "true"}}}
}

func ev(id, typ, resource string, at int64, account string) *logpb.UsageEvent {
	e := &logpb.UsageEvent{Id: id, Type: typ, Resource: resource, TimeUnixNs: at}
	if account != "" {
		e.Account = &logpb.UsageAccount{Account: account}
	}
	return e
}

func told(events ...*logpb.UsageEvent) *logpb.UsageEvents { return &logpb.UsageEvents{Events: events} }

// closing closes windows with these borders.
func closing(at ...int64) *logpb.UsageClose {
	c := &logpb.UsageClose{Zone: "UTC", Unit: "hour"}
	for i := range at[1:] {
		c.Windows = append(c.Windows, &logpb.UsageSpan{StartUnixNs: at[i], EndUnixNs: at[i+1]})
	}
	return c
}

// later moves the clock on in steps that the cluster takes.
func (l *lab) later(d time.Duration) {
	for ; d > 0; d -= 30 * time.Minute {
		l.wait(min(d, 30*time.Minute))
		l.ok(&logpb.Canary{Node: "n1", Term: 1})
	}
}

const (
	minute = int64(time.Minute)
	lb     = 11
)

func (l *lab) usage(typ uint32, id string) *UsageResource {
	l.t.Helper()
	r := l.state().UsageResource(UsageKey{typ, id})
	if r == nil {
		return &UsageResource{}
	}
	return r
}

// spans writes the intervals of a resource in minutes since zero.
func spans(r *UsageResource, zero int64) string {
	list, wrong := r.Intervals()
	var out []string
	for _, v := range list {
		end := "…"
		if v.End != 0 {
			end = fmt.Sprint((v.End - zero) / minute)
		}
		out = append(out, fmt.Sprintf("%d-%s %s", (v.Start-zero)/minute, end, v.Owner))
	}
	if len(wrong) > 0 {
		out = append(out, fmt.Sprintf("wrong %d", len(wrong)))
	}
	return strings.Join(out, ", ")
}

// Every fact in every state, in every order in which it can be told.
func TestUsageFactsInEveryOrder(t *testing.T) {
	at := func(m int64) int64 { return epochStart - 1000*minute + m*minute }
	type event struct {
		typ string
		at  int64
	}
	c := func(m int64) event { return event{"VOLUME.CREATE", at(m)} }
	d := func(m int64) event { return event{"VOLUME.DELETE", at(m)} }
	x := func(m int64) event { return event{"VOLUME.RESIZE", at(m)} }
	for want, events := range map[string][]event{
		"10-… a":                   {c(10)},
		"10-20 a":                  {c(10), d(20)},
		"wrong 1":                  {d(20)},
		"10-20 a, 20-… a":          {c(10), x(20)},
		"10-20 a, 20-30 a":         {c(10), x(20), d(30)},
		"10-20 a, wrong 1":         {c(10), d(20), x(30)},
		"wrong 2":                  {x(5), d(20)},
		"10-… a, wrong 1":          {c(10), c(20)},
		"10-30 a, wrong 1":         {c(10), c(20), d(30)},
		"10-20 a, wrong 2":         {c(10), d(20), d(30), d(40)},
		"10-20 a, 30-… a":          {c(10), d(20), c(30)},
		"10-20 a, 30-40 a":         {c(10), d(20), c(30), d(40)},
		"20-30 a, wrong 1":         {d(10), c(20), d(30)},
		"":                         {c(10), d(10)},
		"10-… a, wrong 2":          {c(10), c(10), c(10)},
		"10-20 a, 20-… a, wrong 1": {c(10), d(20), c(20), c(20)},
		"10-20 a, 20-30 a, 30-… a": {c(10), d(20), c(20), x(30)},
	} {
		permute(len(events), func(order []int) {
			l := usageLab(t)
			for _, i := range order {
				e := ev(fmt.Sprint("e", i), events[i].typ, "v", events[i].at, "")
				if events[i].typ == "VOLUME.CREATE" {
					e.Account = &logpb.UsageAccount{Account: "a"}
				}
				l.ok(told(e))
			}
			if got := spans(l.usage(6, "v"), at(0)); got != want {
				t.Errorf("%v told in the order %v: %q, want %q", events, order, got, want)
			}
			alert := l.state().OpenAlert(usageAlert("VOLUME v", "facts"))
			if (alert != nil) != strings.Contains(want, "wrong") {
				t.Errorf("%v told in the order %v: alert %v", events, order, alert)
			}
		})
	}
}

// permute calls f with every order of n things.
func permute(n int, f func([]int)) {
	order := make([]int, n)
	for i := range order {
		order[i] = i
	}
	var rec func(k int)
	rec = func(k int) {
		if k == n {
			f(slices.Clone(order))
			return
		}
		for i := k; i < n; i++ {
			order[k], order[i] = order[i], order[k]
			rec(k + 1)
			order[k], order[i] = order[i], order[k]
		}
	}
	rec(0)
}

func TestUsageRefusals(t *testing.T) {
	l := usageLab(t)
	at := l.now
	l.ok(told(ev("e1", "LB.CREATE", "7", at, "alice")))
	l.ok(&logpb.UsageAccountSet{Account: &logpb.UsageAccount{Account: "alice"}, RemovedUnixNs: at + 1})
	for want, e := range map[string]*logpb.UsageEvent{
		"no usage type knows":    ev("x", "LB.CREATED", "1", at, "bob"),
		"an id of its own":       ev("", "LB.CREATE", "1", at, "bob"),
		"the id of its resource": ev("x", "LB.CREATE", "", at, "bob"),
		"to which account":       ev("x", "LB.CREATE", "1", at, ""),
		"the time at which":      ev("x", "LB.CREATE", "1", 0, "bob"),
		"when it has happened":   ev("x", "LB.CREATE", "1", at+int64(2*time.Hour), "bob"),
		"something else":         ev("e1", "LB.CREATE", "7", at+1, "alice"),
		"was removed at":         ev("x", "LB.CREATE", "1", at+1, "alice"),
		"longer than 256 bytes":  ev("x", "LB.CREATE", strings.Repeat("x", 257), at, "bob"),
	} {
		before := snapshotOf(t, l.state())
		r := l.m.Apply([]Entry{l.entry(command(told(e)))})[0]
		if !strings.Contains(r.Rejected, want) || len(r.Told.Refused) != 1 || r.Told.Taken+r.Told.Known != 0 {
			t.Errorf("%s: got %q, %+v", want, r.Rejected, r.Told)
		}
		if u, _ := ReadState(strings.NewReader(string(before))); u.usage.sum != l.state().usage.sum {
			t.Errorf("%s was refused, and usage is another", want)
		}
	}
	// The others of a batch count; what is known is said to be.
	r := l.m.Apply([]Entry{l.entry(command(told(ev("e1", "LB.CREATE", "7", at, "alice"), ev("x", "NONSENSE", "1", at, "bob"), ev("e9", "LB.CREATE", "9", at, "bob"))))})[0]
	if r.Told.Known != 1 || r.Told.Taken != 1 || len(r.Told.Refused) != 1 || r.Told.Refused[0].At != 1 || l.usage(lb, "9").Open() == nil {
		t.Errorf("a mixed batch: %q %+v", r.Rejected, r.Told)
	}
	// A removed account with something open is an alert, until it is closed.
	key := usageAlert("account alice", "removed")
	if l.state().OpenAlert(key) == nil {
		t.Error("an account was removed with a rule that is open, and there is no alert")
	}
	l.ok(told(ev("e2", "LB.DELETE", "7", at+2, "")))
	if l.state().OpenAlert(key) != nil {
		t.Error("nothing of the account is open any more, and the alert is")
	}
}

// What is refused leaves no trace, not even that it was heard of.
func TestUsageThatIsRefusedIsNotHeardOf(t *testing.T) {
	l := &lab{t: t, m: NewMachine(), now: epochStart, seqs: map[HostID]uint64{}}
	l.ok(&logpb.ClusterInit{ClusterId: "c1", FeatureLevel: LevelPolicy})
	before := l.state().Sum()
	l.rejected(told(ev("x", "NONSENSE", "1", l.now, "bob")))
	if l.state().Sum() != before || l.state().UsageSince() != 0 || l.state().Account(Owner{Account: "bob"}) != nil {
		t.Error("an event that was refused has changed the state")
	}
}

// Below feature level 4 nothing of it exists.
func TestUsageNeedsTheLevel(t *testing.T) {
	l := level3(t)
	l.register("h1", "b1", said{vm: 1, power: PowerOn, reason: ReasonBooted})
	for _, c := range []proto.Message{told(ev("1", "LB.CREATE", "7", l.now, "a")), closing(l.now-1, l.now), countVMs(), &logpb.UsageSync{Vms: [][]byte{idBytes(1)}},
		&logpb.UsageTypeSet{Id: 1000, Name: "GPU", Opens: []string{"A"}, Closes: []string{"B"}}, &logpb.UsageTrim{BeforeUnixNs: 1}, &logpb.UsageAccountSet{Account: &logpb.UsageAccount{Account: "a"}},
		&logpb.UsageOwnerSet{Vm: idBytes(1), Account: &logpb.UsageAccount{Account: "a"}}} {
		if no := l.rejected(c); !strings.Contains(no, "feature level 4") {
			t.Errorf("%T: %s", c, no)
		}
	}
}

func TestUsageWindowsJoin(t *testing.T) {
	l := usageLab(t)
	from := l.now
	l.later(3 * time.Hour)
	hour := int64(time.Hour)
	for _, bad := range []*logpb.UsageClose{{}, closing(from, from+4*hour), closing(from+hour, from), closing(from, from), closing(-hour, from),
		closing(from-40*24*hour, from)} {
		l.rejected(bad)
	}
	l.ok(closing(from, from+hour))
	sum := l.state().usage.sum
	l.ok(closing(from, from+hour)) // again, by the next leader
	if l.state().usage.sum != sum {
		t.Error("closing a window again has changed something")
	}
	for _, bad := range []*logpb.UsageClose{closing(from, from+2*hour), closing(from+hour+1, from+2*hour), closing(from+hour-1, from+2*hour)} {
		l.rejected(bad)
	}
	l.ok(closing(from, from+hour, from+2*hour)) // half of it is known
	if n := l.state().usage.windows.len(); n != 2 {
		t.Errorf("%d windows", n)
	}
}

// records of a resource as text: minutes, and + for a correction.
func (l *lab) records(typ uint32, id string) string {
	var out []string
	for r := range l.state().Usage(UsageQuery{Type: typ, Resource: id}) {
		s := fmt.Sprint(r.Used / minute)
		if r.Corrects {
			s = fmt.Sprintf("%+d", r.Used/minute)
		}
		out = append(out, s+" "+r.Owner.Account)
	}
	return strings.Join(out, ", ")
}

func TestUsageCorrections(t *testing.T) {
	l := usageLab(t)
	from := l.now
	hour := int64(time.Hour)
	l.ok(told(ev("e1", "LB.CREATE", "7", from+10*minute, "alice")))
	l.later(3 * time.Hour)
	l.ok(closing(from, from+hour, from+2*hour))
	if got := l.records(lb, "7"); got != "50 alice, 60 alice" {
		t.Fatalf("as closed: %s", got)
	}
	index := l.state().Index
	l.ok(told(ev("e2", "LB.DELETE", "7", from+30*minute, "")))
	if got := l.records(lb, "7"); got != "50 alice, -30 alice, 60 alice, -60 alice" {
		t.Errorf("deleted late: %s", got)
	}
	// Another create, earlier, by somebody else: it takes over from the beginning.
	l.ok(told(ev("e0", "LB.CREATE", "7", from, "bob")))
	if got := l.records(lb, "7"); got != "50 alice, -30 alice, +30 bob, -20 alice, 60 alice, -60 alice" {
		t.Errorf("created earlier: %s", got)
	}
	var after int
	for r := range l.state().Usage(UsageQuery{After: index}) {
		if !r.Corrects || r.Index <= index {
			t.Errorf("after index %d came %+v", index, r)
		}
		after++
	}
	if after != 4 {
		t.Errorf("%d records were made after index %d, want 4", after, index)
	}
	// In the same entry nothing is corrected in between.
	l.ok(told(ev("f1", "LB.CREATE", "8", from, "bob"), ev("f2", "LB.DELETE", "8", from+minute, "")))
	if got := l.records(lb, "8"); got != "+1 bob" {
		t.Errorf("told late, all at once: %s", got)
	}
}

func TestUsageIsGivenUpByWindow(t *testing.T) {
	l := usageLab(t)
	from := l.now
	hour := int64(time.Hour)
	l.ok(told(ev("a1", "LB.CREATE", "old", from, "alice"), ev("a2", "LB.DELETE", "old", from+minute, ""),
		ev("b1", "LB.CREATE", "on", from, "alice"), ev("c1", "LB.CREATE", "late", from, "alice")))
	l.later(2 * time.Hour)
	l.ok(closing(from, from+hour, from+2*hour))
	l.ok(told(ev("c2", "LB.DELETE", "late", from+minute, "")))
	l.later(24 * time.Hour)
	all := &logpb.UsageTrim{BeforeUnixNs: from + hour, Keys: []*logpb.UsageKey{{Type: lb, Resource: "old"}, {Type: lb, Resource: "on"}, {Type: lb, Resource: "late"}}}
	l.rejected(all) // 100 days are kept
	l.ok(&logpb.PolicySet{Settings: []*logpb.Setting{{Key: "usage_keep", Value: "24h"}}})
	l.rejected(&logpb.UsageTrim{BeforeUnixNs: from + 1})
	late := l.records(lb, "late")
	l.ok(all)
	if l.usage(lb, "old").Facts != nil {
		t.Error("what ended before was not given up")
	}
	if l.usage(lb, "on").Open() == nil {
		t.Error("what is open was given up")
	}
	if got := l.records(lb, "late"); !strings.HasSuffix(late, got) || got != "60 alice, -60 alice" {
		t.Errorf("a resource of which a kept window has a correction: %q, was %q", got, late)
	}
	// What was given up is not told again; the end of what is open is.
	l.rejected(told(ev("a1", "LB.CREATE", "old", from, "alice")))
	l.ok(told(ev("b2", "LB.DELETE", "on", from+2*minute, "")))
	if got := l.records(lb, "on"); got != "60 alice, -60 alice" {
		t.Errorf("deleted before what is kept: %s", got)
	}
}

func TestUsageTypesAreOpen(t *testing.T) {
	l := usageLab(t)
	gpu := &logpb.UsageTypeSet{Id: 1000, Name: "GPU", Opens: []string{"GPU.ASSIGN"}, Closes: []string{"GPU.RELEASE"}}
	l.rejected(told(ev("1", "GPU.ASSIGN", "g", l.now, "alice")))
	l.ok(gpu)
	events := l.state().events.len()
	if l.ok(gpu); l.state().events.len() != events {
		t.Error("a type that is set again is an event again")
	}
	l.ok(told(ev("1", "GPU.ASSIGN", "g", l.now, "alice")))
	if l.usage(1000, "g").Open() == nil {
		t.Error("an added type does not count")
	}
	for want, change := range map[string]func(*logpb.UsageTypeSet){
		"called GPU already": func(x *logpb.UsageTypeSet) { x.Id, x.Opens, x.Closes = 1001, []string{"A"}, []string{"B"} },
		"belongs to":         func(x *logpb.UsageTypeSet) { x.Opens = []string{"LB.CREATE"} },
		"there twice":        func(x *logpb.UsageTypeSet) { x.Closes = x.Opens },
		"needs an event":     func(x *logpb.UsageTypeSet) { x.Closes = nil },
		"has a number":       func(x *logpb.UsageTypeSet) { x.Id = 0 },
		"capital letters":    func(x *logpb.UsageTypeSet) { x.Name = "gpu" },
		"no name of an":      func(x *logpb.UsageTypeSet) { x.Opens = []string{"gpu assign"} },
		"follows from":       func(x *logpb.UsageTypeSet) { x.Id = 1 },
		"nobody has added":   func(x *logpb.UsageTypeSet) { x.Id, x.Remove = 11, true },
	} {
		x := proto.Clone(gpu).(*logpb.UsageTypeSet)
		change(x)
		if no := l.rejected(x); !strings.Contains(no, want) {
			t.Errorf("want %q, got %q", want, no)
		}
	}
	l.rejected(&logpb.UsageTypeSet{Id: 1000, Remove: true})
	l.ok(told(ev("2", "GPU.RELEASE", "g", l.now+1, "")))
	l.ok(&logpb.UsageTypeSet{Id: 1000, Remove: true})
	l.rejected(told(ev("3", "GPU.ASSIGN", "g", l.now+2, "alice")))
	if len(l.usage(1000, "g").Facts) != 2 {
		t.Error("what was told of a type is gone with it")
	}
	l.ok(&logpb.UsageTypeSet{Id: 11, Name: "LOAD_BALANCER_POLICY", Opens: []string{"LB.CREATE", "GLOBAL.LB.CREATE"}, Closes: []string{"LB.DELETE", "GLOBAL.LB.DELETE"}})
	l.ok(told(ev("3", "GLOBAL.LB.CREATE", "1", l.now, "alice")))
}

// A storm of what does not fit makes a bounded number of alerts.
func TestUsageTroubleIsBounded(t *testing.T) {
	l := usageLab(t)
	tell := func(typ, account string) {
		c := &logpb.UsageEvents{}
		for i := range maxUsageAlerts + 200 {
			c.Events = append(c.Events, ev(typ, typ, fmt.Sprint(i), l.now, account))
		}
		l.ok(c)
	}
	tell("LB.DELETE", "")
	if n := l.state().CountOpenAlerts(); n > maxUsageAlerts+1 {
		t.Errorf("%d alerts are open", n)
	}
	if l.state().OpenAlert(usageAlert("usage", "many")) == nil {
		t.Error("nobody says that there are more")
	}
	l.now--
	tell("LB.CREATE", "alice")
	if n := l.state().CountOpenAlerts(); n != 0 {
		t.Errorf("all fits now, and %d alerts are open", n)
	}
}
