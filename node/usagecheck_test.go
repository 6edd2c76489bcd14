package node

import (
	"context"
	"fmt"
	"strings"
	"testing"
	"time"

	"connectrpc.com/connect"

	lifeboatv1 "lifeboat/api/lifeboat/v1"
	"lifeboat/fsm"
	"lifeboat/fsm/logpb"
)

const rules = "LOAD_BALANCER_POLICY"

func (a alice) verify(q *lifeboatv1.VerifyUsageRequest) (*lifeboatv1.VerifyUsageResponse, error) {
	r, err := a.VerifyUsage(context.Background(), connect.NewRequest(q))
	if err != nil {
		return nil, err
	}
	return r.Msg, nil
}

func (a alice) repair(q *lifeboatv1.VerifyUsageRequest) (*lifeboatv1.VerifyUsageResponse, error) {
	r, err := a.RepairUsage(context.Background(), connect.NewRequest(q))
	if err != nil {
		return nil, err
	}
	return r.Msg, nil
}

func (w *world) usageOpen(typ uint32, id string) bool {
	r := w.state().UsageResource(fsm.UsageKey{Type: typ, Resource: id})
	return r != nil && r.Open() != nil
}

// A list of what lives that is empty closes nothing unless that is said, and a list never
// closes what began after it was made.
func TestUsageRepairClosesOnlyWhatIsMeant(t *testing.T) {
	run(t, 1, func(w *world) {
		a, now := w.alice(w.leader()), time.Now()
		_, err := a.tell(usageEvent("1", "LB.CREATE", "old", "bob", now.Add(-2*time.Hour)), usageEvent("2", "LB.CREATE", "young", "bob", now))
		w.must(err)
		q := &lifeboatv1.VerifyUsageRequest{Type: rules, Given: true, EndedUnixNs: now.Add(-time.Hour).UnixNano()}
		for _, ask := range []func(*lifeboatv1.VerifyUsageRequest) (*lifeboatv1.VerifyUsageResponse, error){a.verify, a.repair} {
			_, err = ask(q)
			wantCode(t, "an empty list", err, connect.CodeInvalidArgument, "--live-none")
		}
		if !w.usageOpen(11, "old") {
			t.Fatal("an empty list has closed something")
		}
		q.NoneLives = true
		r, err := a.repair(q)
		w.must(err)
		if r.Repaired != 1 || len(r.Findings) != 2 || w.usageOpen(11, "old") {
			t.Errorf("none lives: repaired %d of %v", r.Repaired, r.Findings)
		}
		if f := r.Findings[1]; f.Resource != "young" || f.Repair != "" || !strings.Contains(f.Text, "after") || !w.usageOpen(11, "young") {
			t.Errorf("what began after the list was made: %v", f)
		}
		_, err = a.repair(&lifeboatv1.VerifyUsageRequest{Type: "RUNNING_VM", Given: true, Live: []string{"x"}})
		wantCode(t, "a list of VMs", err, connect.CodeInvalidArgument, "follows from the VMs")
	})
}

// With a type, a check speaks of that type, and a repair changes only that.
func TestUsageRepairKeepsToItsType(t *testing.T) {
	run(t, 1, func(w *world) {
		w.fleet(1, 2)
		a, now := w.alice(w.leader()), time.Now()
		ctx := context.Background()
		_, err := a.tell(usageEvent("1", "LB.CREATE", "rule", "carol", now.Add(-2*time.Hour)), usageEvent("2", "VOLUME.CREATE", "v", "carol", now.Add(-2*time.Hour)))
		w.must(err)
		_, err = a.SetUsage(ctx, connect.NewRequest(&lifeboatv1.SetUsageRequest{Action: "account-remove", Account: "carol", RemovedUnixNs: now.UnixNano()}))
		w.must(err)
		_, err = a.SetPolicy(ctx, connect.NewRequest(&lifeboatv1.SetPolicyRequest{Settings: []*lifeboatv1.Setting{{Key: "usage_vms", Value: "true"}}}))
		w.must(err)
		for typ, want := range map[string]int{rules: 1, "VOLUME": 1, "RUNNING_VM": 2, "ALLOCATED_VM": 2, "SNAPSHOT": 0, "": 4} {
			r, err := a.verify(&lifeboatv1.VerifyUsageRequest{Type: typ})
			w.must(err)
			if len(r.Findings) != want {
				t.Errorf("verify of %q found %v", typ, r.Findings)
			}
		}
		r, err := a.repair(&lifeboatv1.VerifyUsageRequest{Type: rules})
		w.must(err)
		if r.Repaired != 1 || w.usageOpen(11, "rule") || !w.usageOpen(6, "v") || w.usageOpen(fsm.UsageRunningVM, vmid(1).String()) {
			t.Errorf("a repair of rules: repaired %d of %v", r.Repaired, r.Findings)
		}
		r, err = a.repair(&lifeboatv1.VerifyUsageRequest{Type: "RUNNING_VM"})
		w.must(err)
		if r.Repaired != 2 || !w.usageOpen(fsm.UsageRunningVM, vmid(2).String()) || w.usageOpen(fsm.UsageAllocatedVM, vmid(2).String()) {
			t.Errorf("a repair of VMs that run: repaired %d of %v", r.Repaired, r.Findings)
		}
	})
}

// A list of findings that is cut says how many there are beyond.
func TestUsageFindingsAreCounted(t *testing.T) {
	run(t, 1, func(w *world) {
		a, now := w.alice(w.leader()), time.Now()
		var events []*lifeboatv1.UsageEvent
		for i := range maxFindings + 30 {
			events = append(events, usageEvent("c", "LB.CREATE", fmt.Sprint(i), "bob", now))
		}
		_, err := a.tell(events...)
		w.must(err)
		r, err := a.verify(&lifeboatv1.VerifyUsageRequest{Type: rules, Given: true, NoneLives: true, EndedUnixNs: now.UnixNano()})
		w.must(err)
		if len(r.Findings) != maxFindings || r.More != 30 {
			t.Errorf("%d findings, and %d more", len(r.Findings), r.More)
		}
		r, err = a.verify(&lifeboatv1.VerifyUsageRequest{Type: "VOLUME", Given: true, Live: []string{"a", "b"}})
		w.must(err)
		if len(r.Findings) != 2 || r.More != 0 {
			t.Errorf("what nobody has told: %v, and %d more", r.Findings, r.More)
		}
	})
}

// What began before usage was heard of is in the records from its begin on; once the first
// window is closed, who tells of a time before it is told so.
func TestUsageBeforeTheFirstWindow(t *testing.T) {
	run(t, 1, func(w *world) {
		w.within(20*time.Second, "the cluster is at level 4", func() bool { return w.state().Level >= fsm.LevelPolicy })
		a, begin := w.alice(w.leader()), time.Now().Add(-36*time.Hour)
		_, err := a.SetPolicy(context.Background(), connect.NewRequest(&lifeboatv1.SetPolicyRequest{Settings: []*lifeboatv1.Setting{{Key: "usage_window", Value: "hour"}}}))
		w.must(err)
		r, err := a.tell(usageEvent("1", "LB.CREATE", "7", "bob", begin))
		w.must(err)
		if r.Early != 0 {
			t.Errorf("nothing is closed, and it is too early: %s", r.EarlyText)
		}
		for range 80 {
			time.Sleep(time.Minute)
		}
		sum := int64(0)
		for _, x := range w.records(w.leader(), 0) {
			sum += x.UsedNs
		}
		if want := w.state().LastUsageWindow().End - begin.UnixNano(); sum != want || windows(w.state()) < 36 {
			t.Errorf("%s are charged in %d windows, it has lived %s", time.Duration(sum), windows(w.state()), time.Duration(want))
		}
		r, err = a.tell(usageEvent("2", "LB.CREATE", "8", "bob", begin.Add(-2*time.Hour)), usageEvent("3", "LB.CREATE", "9", "bob", begin))
		w.must(err)
		first := begin.UTC().Truncate(time.Hour).Format(time.RFC3339)
		if r.Early != 1 || !strings.Contains(r.EarlyText, first) || !strings.Contains(r.EarlyText, "usage_from") {
			t.Errorf("%d are too early: %s", r.Early, r.EarlyText)
		}
	})
}

// Who tells the first of all is told so as well.
func TestTheFirstUsageIsBeforeUsageFrom(t *testing.T) {
	run(t, 1, func(w *world) {
		w.within(20*time.Second, "the cluster is at level 4", func() bool { return w.state().Level >= fsm.LevelPolicy })
		a, from := w.alice(w.leader()), time.Now().Add(-24*time.Hour).UTC().Truncate(24*time.Hour)
		_, err := a.SetPolicy(context.Background(), connect.NewRequest(&lifeboatv1.SetPolicyRequest{Settings: []*lifeboatv1.Setting{{Key: "usage_from", Value: from.Format(time.RFC3339)}}}))
		w.must(err)
		if w.state().UsageSince() != 0 {
			t.Fatal("something was heard of usage")
		}
		r, err := a.tell(usageEvent("1", "LB.CREATE", "7", "bob", from.Add(-time.Hour)), usageEvent("2", "LB.CREATE", "8", "bob", from))
		w.must(err)
		if r.Early != 1 || !strings.Contains(r.EarlyText, from.Format(time.RFC3339)) || !strings.Contains(r.EarlyText, "usage_from") {
			t.Errorf("%d are too early: %s", r.Early, r.EarlyText)
		}
	})
}

func (b *book) must(t *testing.T, refused string) {
	t.Helper()
	if refused != "" {
		t.Fatal(refused)
	}
}

func (b *book) init() string {
	return b.do(&logpb.Command{Body: &logpb.Command_ClusterInit{ClusterInit: &logpb.ClusterInit{ClusterId: "c1", FeatureLevel: FeatureLevel}}})
}

func (b *book) tell(id, typ, resource string, at time.Time) string {
	return b.do(&logpb.Command{Body: &logpb.Command_UsageEvents{UsageEvents: &logpb.UsageEvents{Events: []*logpb.UsageEvent{
		{Id: id, Type: typ, Resource: resource, TimeUnixNs: at.UnixNano(), Account: &logpb.UsageAccount{Account: "bob"}}}}}})
}

// Where usage_from says where the first window begins, that counts.
func TestUsageBeforeUsageFrom(t *testing.T) {
	b := newBook()
	b.now = time.Date(2026, 2, 10, 12, 0, 0, 0, time.UTC).UnixNano()
	b.must(t, b.init())
	b.must(t, b.do(benchPolicy("usage_from", "2026-02-01T00:00:00Z")))
	b.must(t, b.tell("1", "LB.CREATE", "7", time.Date(2026, 1, 5, 0, 0, 0, 0, time.UTC)))
	if at, text := earliestCharged(b.m.State()); at != time.Date(2026, 2, 1, 0, 0, 0, 0, time.UTC).UnixNano() || !strings.Contains(text, "usage_from") {
		t.Errorf("charged from %d on: %s", at, text)
	}
	c := dueWindows(b.m.State(), time.Unix(0, b.now), 100)
	if got := time.Unix(0, c.Windows[0].StartUnixNs).UTC(); !got.Equal(time.Date(2026, 2, 1, 0, 0, 0, 0, time.UTC)) || len(c.Windows) != 9 {
		t.Errorf("%d windows from %s on", len(c.Windows), got)
	}
	b.must(t, b.do(benchPolicy("usage_from", "-")))
	if got := time.Unix(0, dueWindows(b.m.State(), time.Unix(0, b.now).Add(24*time.Hour), 100).Windows[0].StartUnixNs).UTC(); !got.Equal(time.Date(2026, 1, 5, 0, 0, 0, 0, time.UTC)) {
		t.Errorf("without usage_from, windows from %s on", got)
	}
	b.must(t, b.tell("2", "LB.CREATE", "8", time.Date(1999, 1, 5, 0, 0, 0, 0, time.UTC))) // nobody is charged for more than is kept
	if got := time.Unix(0, dueWindows(b.m.State(), time.Unix(0, b.now).Add(24*time.Hour), 100).Windows[0].StartUnixNs).UTC(); !got.Equal(time.Date(2025, 11, 2, 0, 0, 0, 0, time.UTC)) {
		t.Errorf("of what began long ago, windows from %s on", got)
	}
}

// What cannot be repaired does not keep a repair from what can be, and one repair mends a
// bounded number.
func TestUsageRepairGetsToWhatItCanMend(t *testing.T) {
	b := newBook()
	b.must(t, b.init())
	c := &logpb.UsageEvents{}
	for i := range maxFindings + 2 {
		c.Events = append(c.Events, &logpb.UsageEvent{Id: "c", Type: "LB.CREATE", Resource: fmt.Sprintf("%06d", i), TimeUnixNs: b.now, Account: &logpb.UsageAccount{Account: "bob"}})
	}
	c.Events = append(c.Events, &logpb.UsageEvent{Id: "c", Type: "LB.CREATE", Resource: "last", TimeUnixNs: b.now, Account: &logpb.UsageAccount{Account: "carol"}})
	b.must(t, b.do(&logpb.Command{Body: &logpb.Command_UsageEvents{UsageEvents: c}}))
	b.must(t, b.do(&logpb.Command{Body: &logpb.Command_UsageAccountSet{UsageAccountSet: &logpb.UsageAccountSet{Account: &logpb.UsageAccount{Account: "carol"}, RemovedUnixNs: b.now}}}))
	q := &lifeboatv1.VerifyUsageRequest{Type: rules, Given: true, NoneLives: true}
	f, err := findUsage(b.m.State(), q)
	if err != nil || len(f.events) != 1 || f.events[0].Resource != "last" || f.left != 0 || len(f.findings) != maxFindings || f.more != 3 {
		t.Errorf("it would mend %v (%v), %d are left to mend, %d are not listed", f.events, err, f.left, f.more)
	}
	q.EndedUnixNs = b.now
	if f, err = findUsage(b.m.State(), q); err != nil || len(f.events) != maxRepairs || f.left != 3 {
		t.Errorf("it would mend %d (%v), %d are left to mend", len(f.events), err, f.left)
	}
}
