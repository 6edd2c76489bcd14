package foresee_test

import (
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"lifeboat/fsm"
	"lifeboat/fsm/logpb"
	"lifeboat/ha/foresee"
)

const gib = uint64(1) << 30

// steps writes a plan's steps as "vm1 h1>h2 start".
func steps(p *foresee.Plan) (out []string) {
	for _, x := range p.Steps {
		out = append(out, fmt.Sprintf("%s %s>%s %s", x.Name, x.From, x.To, x.How))
	}
	return out
}

func stays(p *foresee.Plan) (out []string) {
	for _, x := range p.Stays {
		out = append(out, x.Name+": "+x.Why)
	}
	return out
}

func expect(t *testing.T, p *foresee.Plan, want []string, stay ...string) {
	t.Helper()
	if got := steps(p); !slices.Equal(got, want) {
		t.Errorf("steps %q, want %q", got, want)
	}
	got := stays(p)
	if len(got) != len(stay) {
		t.Fatalf("stays %q, want %q", got, stay)
	}
	for i := range stay {
		if !strings.Contains(got[i], stay[i]) {
			t.Errorf("stays %q, want %q", got[i], stay[i])
		}
	}
}

// What does not fit names the resource, and what is more important gets the room.
func TestFailNamesTheResource(t *testing.T) {
	w := newWorld(t)
	w.host("h1", 64*gib, 3, "ipmi")
	w.host("h2", 9*gib, 1, "ipmi")
	w.host("h3", 4*gib, 1, "ipmi")
	w.set(3, "priority", "highest")
	p := foresee.Fail(w.state(), []fsm.HostID{"h1"}, foresee.Assumed{})
	expect(t, p, []string{"vm3 h1>h2 start"},
		"vm1: it is Down (h1); less than 4096 MiB of memory free (h2, h3)", "vm2: it is Down (h1); less than 4096 MiB of memory free")
	if x := p.Steps[0]; x.Tier != fsm.PriorityHighest || x.Done-x.At != foresee.DefaultStart || x.At <= 0 || p.Took != x.Done || x.Why == "" {
		t.Errorf("step %+v, took %s", x, p.Took)
	}
}

// A rack that fails as a whole is held by a brake of its own, however large the cluster.
func TestFailNamesTheBrake(t *testing.T) {
	for want, dead := range map[string][]fsm.HostID{
		"4 of 4 hosts in rack r1 at once":  {"h1", "h11", "h21", "h31"},
		"":                                 {"h1", "h11", "h21", "h2"},
		"8 of 22 hosts in cluster at once": {"h1", "h11", "h2", "h12", "h3", "h13", "h4", "h14"},
	} {
		w := newWorld(t)
		for n := range 20 { // two in each of ten racks
			w.host(fmt.Sprintf("h%d", n+1), 64*gib, 0, "ipmi")
		}
		w.host("h21", 64*gib, 0, "ipmi")
		w.host("h31", 64*gib, 0, "ipmi")
		notes := foresee.Fail(w.state(), dead, foresee.Assumed{}).Notes
		if want == "" && len(notes) > 0 || want != "" && (len(notes) != 1 || !strings.Contains(notes[0], want)) {
			t.Errorf("%v: notes %q, want %q", dead, notes, want)
		}
	}
}

// A rule that stops a VM is named; a bundle goes as a whole or not at all.
func TestFailNamesTheRule(t *testing.T) {
	w := newWorld(t)
	w.host("h1", 64*gib, 1, "ipmi")
	w.host("h2", 64*gib, 1, "ipmi")
	w.rule(fsm.RuleApart, 1, 2)
	expect(t, foresee.Fail(w.state(), []fsm.HostID{"h1"}, foresee.Assumed{}), nil, "vm1: it is Down (h1); rule 1 keeps it apart from vm2 (h2)")

	w = newWorld(t)
	w.host("h1", 64*gib, 2, "ipmi")
	w.host("h2", 8*gib, 1, "ipmi") // room for one of them
	w.host("h3", 12*gib, 1, "ipmi")
	w.rule(fsm.RuleTogether, 1, 2)
	expect(t, foresee.Fail(w.state(), []fsm.HostID{"h1"}, foresee.Assumed{}), []string{"vm1 h1>h3 start", "vm2 h1>h3 start"})
	expect(t, foresee.Fail(w.state(), []fsm.HostID{"h1", "h3"}, foresee.Assumed{}), []string{"vm4 h3>h2 start"}, "vm1: ", "vm2: ")
}

// Dependencies hold in a plan, and what waits starts when what it waits for runs.
func TestFailHeedsDependencies(t *testing.T) {
	w := newWorld(t)
	w.host("h1", 64*gib, 2, "ipmi")
	w.host("h2", 64*gib, 0, "ipmi")
	w.set(1, "depends_on", vmID(2).String())
	w.set(2, "gate", "20s")
	p := foresee.Fail(w.state(), []fsm.HostID{"h1"}, foresee.Assumed{Start: 3 * time.Second})
	expect(t, p, []string{"vm2 h1>h2 start", "vm1 h1>h2 start"})
	if first, second := p.Steps[0], p.Steps[1]; first.Done != first.At+3*time.Second || second.At != first.Done+20*time.Second {
		t.Errorf("steps %+v", p.Steps)
	}
}

// Budgets spread starts over time.
func TestFailHeedsBudgets(t *testing.T) {
	w := newWorld(t)
	w.host("h1", 64*gib, 6, "ipmi")
	w.host("h2", 64*gib, 0, "ipmi")
	w.policy("starts_per_host", "2")
	p := foresee.Fail(w.state(), []fsm.HostID{"h1"}, foresee.Assumed{})
	if n := len(p.Steps); n != 6 || p.Steps[5].At != p.Steps[0].At+2*foresee.DefaultStart {
		t.Errorf("%d steps: %+v", n, p.Steps)
	}
}

// Nobody restarts what nobody can prove to be gone.
func TestFailWithoutProof(t *testing.T) {
	w := newWorld(t)
	w.host("h1", 64*gib, 1)
	w.host("h2", 64*gib, 1, "lease")
	w.host("h3", 64*gib, 1, "ipmi")
	expect(t, foresee.Fail(w.state(), []fsm.HostID{"h1"}, foresee.Assumed{}), nil, "nothing could prove host h1 dead but an operator")
	expect(t, foresee.Fail(w.state(), []fsm.HostID{"h2"}, foresee.Assumed{}), nil, "its self-fence lease is not armed")
	w.do(&logpb.Command{Body: &logpb.Command_HostLease{HostLease: &logpb.HostLease{Host: "h2", Epoch: 1, Armed: true, BootId: "1", DurationNs: int64(12 * time.Second), Watchdog: 1, BoundNs: int64(5 * time.Second)}}})
	p := foresee.Fail(w.state(), []fsm.HostID{"h2", "h3"}, foresee.Assumed{})
	expect(t, p, nil, "vm2: ", "vm3: ") // h1 takes nobody else's (S25)
	w.policy("place_unfenced", "true")
	p = foresee.Fail(w.state(), []fsm.HostID{"h2", "h3"}, foresee.Assumed{})
	expect(t, p, []string{"vm3 h3>h1 start", "vm2 h2>h1 start"}) // the controller answers before the lease has run out
	w.do(&logpb.Command{Body: &logpb.Command_Arm{Arm: &logpb.Arm{}}})
	expect(t, foresee.Fail(w.state(), []fsm.HostID{"h3"}, foresee.Assumed{}), nil, "HA is disarmed")
}

// A maintenance moves what it can, says what keeps the rest, and with force stops it.
func TestMaintain(t *testing.T) {
	w := newWorld(t)
	w.host("h1", 64*gib, 3, "ipmi")
	w.host("h2", 9*gib, 0, "ipmi")
	no, id := false, vmID(1)
	w.do(&logpb.Command{Body: &logpb.Command_VmProtect{VmProtect: &logpb.VMProtect{Vm: id[:], Protect: &logpb.Protection{On: true, LiveMigration: &no}}}})
	p := foresee.Maintain(w.state(), []fsm.HostID{"h1"}, false, foresee.Assumed{Move: 7 * time.Second})
	expect(t, p, []string{"vm2 h1>h2 migrate", "vm3 h1>h2 migrate"}, "may not be migrated live")
	if p.Took != 7*time.Second {
		t.Errorf("took %s", p.Took)
	}
	p = foresee.Maintain(w.state(), []fsm.HostID{"h1"}, true, foresee.Assumed{})
	expect(t, p, []string{"vm1 h1>h2 relocate", "vm2 h1>h2 migrate"}, "less than 4096 MiB of memory free")
	if x := p.Steps[0]; x.Done < foresee.DefaultStop+foresee.DefaultStart {
		t.Errorf("relocated within %s", x.Done)
	}
}

func TestSingles(t *testing.T) {
	w := newWorld(t)
	w.host("h1", 64*gib, 3, "ipmi")
	w.host("h2", 9*gib, 1, "ipmi")
	w.host("h3", 64*gib, 0)
	var all []foresee.Loss
	for x := range foresee.Singles(w.state(), foresee.Assumed{}) {
		all = append(all, x)
	}
	if len(all) != 3 || all[0].Starts != 1 || len(all[0].Down) != 2 || all[1].Starts != 1 || len(all[1].Down) != 0 || all[2].Starts != 0 {
		t.Fatalf("%+v", all)
	}
	if s, want := foresee.Sentence(all), "host h1's failure would leave 2 VMs down: vm2, vm3 [it is Down (h1); less than 4096 MiB of memory free (h2); nothing could prove it dead (give it a fence level, or set the policy place_unfenced) (h3)]"; s != want {
		t.Errorf("%q, want %q", s, want)
	}
	if s := foresee.Sentence(all[1:]); !strings.HasPrefix(s, "any one host may fail") {
		t.Errorf("%q", s)
	}
}

// Plans are made while the state goes on, by several at once; none touches it. Of use
// with -race.
func TestPlansTouchNothing(t *testing.T) {
	w := newWorld(t)
	w.host("h1", 64*gib, 20, "ipmi")
	w.host("h2", 640*gib, 5, "ipmi")
	s := w.state()
	sum, want := s.Sum(), steps(foresee.Fail(s, []fsm.HostID{"h1"}, foresee.Assumed{}))
	var wg sync.WaitGroup
	for range 4 {
		wg.Go(func() {
			if got := steps(foresee.Fail(s, []fsm.HostID{"h1"}, foresee.Assumed{})); !slices.Equal(got, want) {
				t.Errorf("%q, want %q", got, want)
			}
			foresee.Maintain(s, []fsm.HostID{"h1"}, true, foresee.Assumed{})
		})
	}
	for i := range 50 {
		w.policy("starts_per_host", fmt.Sprint(2+i%2))
	}
	wg.Wait()
	if s.Sum() != sum {
		t.Error("a plan has changed the state that it was made of")
	}
	if err := w.state().Check(); err != nil {
		t.Error(err)
	}
}

// 32 hosts with 40 VMs each, one of which dies: `lifeboat plan --fail`.
func BenchmarkFail(b *testing.B) {
	w := newWorld(b)
	for i := range 32 {
		w.host(fmt.Sprintf("h%d", i+1), 512*gib, 40, "ipmi")
	}
	s := w.state()
	b.ReportAllocs()
	for b.Loop() {
		if p := foresee.Fail(s, []fsm.HostID{"h7"}, foresee.Assumed{}); len(p.Steps) != 40 || len(p.Stays) != 0 {
			b.Fatalf("%d steps, %d stay", len(p.Steps), len(p.Stays))
		}
	}
}

// The same cluster, each host by itself: the line N+1 of `lifeboat status`.
func BenchmarkSingles(b *testing.B) {
	w := newWorld(b)
	for i := range 32 {
		w.host(fmt.Sprintf("h%d", i+1), 512*gib, 40, "ipmi")
	}
	s := w.state()
	for b.Loop() {
		n := 0
		for x := range foresee.Singles(s, foresee.Assumed{}) {
			n += x.Starts
		}
		if n != 1280 {
			b.Fatal(n)
		}
	}
}
