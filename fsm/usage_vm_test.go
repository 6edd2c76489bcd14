package fsm

import (
	"bytes"
	"math/rand/v2"
	"strings"
	"testing"
	"time"

	"google.golang.org/protobuf/proto"

	"lifeboat/fsm/logpb"
)

// Whatever happens to VMs, after each entry their usage is what the state says: the
// way on which a VM changed cannot have been forgotten.
func TestUsageFollowsVMs(t *testing.T) {
	for seed := range uint64(6) {
		m := NewMachine()
		_, log := story(t.Fatalf, rand.New(rand.NewPCG(seed, 110)).IntN, 250)
		for _, e := range log {
			var c logpb.Command
			if err := proto.Unmarshal(e.Data, &c); err != nil {
				t.Fatal(err)
			}
			if b := c.GetClusterInit(); b != nil && b.ClusterId == "c1" {
				b.FeatureLevel = LevelPolicy
				e.Data = encode(t, &c)
			}
			if p := c.GetPolicySet(); p != nil && strings.HasPrefix(p.Settings[0].Key, "usage_") {
				continue // counted from the beginning to the end
			}
			m.Apply([]Entry{e})
			if c.GetClusterInit() != nil && e.Index == 1 {
				m.Apply([]Entry{{Index: 1, Term: 1, Data: encode(t, command(countVMs()))}})
			}
			s := m.State()
			if ids := s.UsageAstray(0, 10); ids != nil {
				t.Fatalf("seed %d: entry %d, %v: usage of %v is astray\n%s", seed, e.Index, &c, ids, essence(s))
			}
			for id := range s.owner.all() {
				v, _ := s.VM(id)
				r := s.UsageResource(UsageKey{UsageRunningVM, id.String()})
				if v.Power == PowerOn && !v.Gone && (r == nil || r.Open() == nil) {
					t.Fatalf("seed %d: entry %d: %s runs and is not counted", seed, e.Index, v.Name)
				}
			}
		}
		if err := m.Check(); err != nil {
			t.Fatal(err)
		}
	}
}

func vmSpans(l *lab, typ uint32) string {
	l.t.Helper()
	return spans(l.usage(typ, testVM(1).String()), epochStart)
}

func TestUsageOfAVM(t *testing.T) {
	l := usageLab(t)
	step := func(d time.Duration, say said) { l.later(d); l.report("h1", say) }
	step(10*time.Minute, said{vm: 1, power: PowerUnknown})
	step(10*time.Minute, said{vm: 1, power: PowerOff, reason: ReasonShutdown})
	step(10*time.Minute, said{vm: 1, power: PowerOn, reason: ReasonBooted})
	l.later(10 * time.Minute)
	l.ok(&logpb.UsageOwnerSet{Vm: idBytes(1), Account: &logpb.UsageAccount{Domain: "ROOT/sales", Account: "carol"}})
	l.later(10 * time.Minute)
	l.ok(&logpb.UsageOwnerSet{Vm: idBytes(1)})
	l.later(10 * time.Minute)
	l.missing("h1", 1) // unprotected: it is gone
	if got := vmSpans(l, UsageRunningVM); got != "0-20 default, 30-40 default, 40-50 ROOT/sales/carol, 50-60 default" {
		t.Error("running:", got)
	}
	if got := vmSpans(l, UsageAllocatedVM); got != "0-40 default, 40-50 ROOT/sales/carol, 50-60 default" {
		t.Error("allocated:", got)
	}
}

// What was there before usage was, the leader looks for.
func TestUsageOfVMsThatWereThereBefore(t *testing.T) {
	l := fleet(t, 2, 3)
	l.ok(&logpb.FeatureRaise{Level: LevelPolicy, Version: "0.4"})
	l.ok(countVMs())
	sync := func() {
		t.Helper()
		c := &logpb.UsageSync{}
		for _, id := range l.state().UsageAstray(0, 100) {
			c.Vms = append(c.Vms, id[:])
		}
		l.ok(c)
		if ids := l.state().UsageAstray(0, 100); ids != nil {
			t.Fatalf("still astray: %v", ids)
		}
	}
	if n := len(l.state().UsageAstray(0, 100)); n != 3 {
		t.Fatalf("%d VMs are astray, want 3", n)
	}
	l.later(time.Minute)
	sync()
	if got := vmSpans(l, UsageRunningVM); got != "1-… default" {
		t.Error(got)
	}
	l.ok(&logpb.PolicySet{Settings: []*logpb.Setting{{Key: "usage_vms", Value: "false"}}})
	l.later(time.Minute)
	sync()
	if got := vmSpans(l, UsageAllocatedVM); got != "1-2 default" {
		t.Error("switched off:", got)
	}
}

// A VM that starts and stops for ever takes a bounded place, and its sums stay exact.
func TestUsageOfARestlessVM(t *testing.T) {
	l := usageLab(t)
	hour := int64(time.Hour)
	want := int64(0)
	closed := l.now
	for range 12 {
		for range 30 {
			l.report("h1", said{vm: 1, power: PowerOff, reason: ReasonCrashed})
			l.wait(time.Minute)
			l.report("h1", said{vm: 1, power: PowerOn, reason: ReasonBooted})
			l.wait(time.Minute)
			want += minute
		}
		l.ok(closing(closed, closed+hour))
		closed += hour
	}
	got := int64(0)
	for r := range l.state().Usage(UsageQuery{Type: UsageRunningVM}) {
		got += r.Used
	}
	if got != want {
		t.Errorf("%s in the windows, it ran %s", time.Duration(got), time.Duration(want))
	}
	if n := len(l.usage(UsageRunningVM, testVM(1).String()).Facts); n > settleAfter+61 {
		t.Errorf("%d facts are kept", n)
	}
}

// A restore does not unsay what was billed; a cluster that was founded to be restored
// into takes what the snapshot knows.
func TestUsageOverARestore(t *testing.T) {
	l := usageLab(t)
	from := l.now
	l.ok(told(ev("e1", "LB.CREATE", "7", from, "alice")))
	old := snapshotOf(t, l.state())
	l.later(2 * time.Hour)
	l.ok(told(ev("e2", "LB.DELETE", "7", from+minute, "")))
	l.ok(closing(from, from+int64(time.Hour)))
	was, err := ReadState(bytes.NewReader(old))
	if err != nil {
		t.Fatal(err)
	}
	woken := was.Wake(l.state(), Waking{Index: l.index + 1, Term: 2, Now: l.now, Actor: "operator/x"})
	if err := woken.Check(); err != nil {
		t.Fatal(err)
	}
	if woken.usage.digest() != l.state().usage.digest() {
		t.Error("the restore has changed what was billed")
	}
	founded := &lab{t: t, m: NewMachine(), now: l.now, seqs: map[HostID]uint64{}}
	founded.ok(&logpb.ClusterInit{ClusterId: "c2", FeatureLevel: LevelPolicy})
	founded.ok(countVMs())
	founded.register("h1", "b1", said{vm: 1, power: PowerOn, reason: ReasonBooted})
	into := l.state().Wake(founded.state(), Waking{Index: l.index + 1, Term: 2, Now: l.now, Actor: "operator/x"})
	if err := into.Check(); err != nil {
		t.Fatal(err)
	}
	if into.UsageResource(UsageKey{lb, "7"}) == nil || into.LastUsageWindow() == nil {
		t.Error("a new cluster does not know what its backup knew")
	}
}
