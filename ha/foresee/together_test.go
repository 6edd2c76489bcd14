package foresee_test

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"

	"lifeboat/fsm"
	"lifeboat/fsm/logpb"
	"lifeboat/ha/foresee"
)

// Any one of three hosts may fail, and no two that run something: the sentence names
// them, and what they would leave down.
func TestProofOfTwoHosts(t *testing.T) {
	w := newWorld(t)
	w.host("h1", 13*gib, 1, "ipmi")
	w.host("h2", 13*gib, 1, "ipmi")
	w.host("h3", 9*gib, 2, "ipmi")
	w.host("h4", 10*gib, 0, "ipmi")
	two := foresee.Scope{Hosts: 2}
	var p foresee.Prover
	o := p.Outlook(w.state(), two)
	p.Rehearse(w.state(), o, never)
	var names []string
	for _, v := range o.Together {
		names = append(names, fmt.Sprintf("%s: %d", v.Name(), len(v.Down)))
	}
	if got := strings.Join(names, "; "); got != "" {
		t.Errorf("there is room for what any two hosts run: %s", got)
	}
	if text := o.Sentence(); text != "any 2 hosts may fail together: their protected VMs would be started again" {
		t.Errorf("it says %q", text)
	}
	w.do(&logpb.Command{Body: &logpb.Command_HostControl{HostControl: &logpb.HostControl{Host: "h4", Action: fsm.HostDisable}}}) // disabled
	o = p.Outlook(w.state(), two)
	p.Rehearse(w.state(), o, never)
	if unsafe, unproven := o.CountTogether(); unsafe == 0 || unproven != 0 {
		t.Errorf("%d sets are unsafe, %d unproven", unsafe, unproven)
	}
	text := o.Sentence()
	if want := "hosts h1 and h2 failing together would leave 2 VMs down: "; !strings.Contains(text, want) {
		t.Errorf("it says %q, without %q", text, want)
	}
	if one := p.Outlook(w.state(), foresee.Scope{}); len(one.Together) > 0 || strings.Contains(one.Sentence(), "together") {
		t.Errorf("nobody asked about two hosts: %s", one.Sentence())
	}
}

// What is not listed is safe: when it is played through with the real decisions, so many
// hosts that fail at once leave down only what one of them leaves down by itself. What is
// listed and was played through is what comes out again.
func TestProofOfSetsIsTrue(t *testing.T) {
	var quiet, listed, down int
	for seed := range uint64(50) {
		r := rand.New(rand.NewPCG(seed, 9))
		w := random(t, r)
		scope := foresee.Scope{Hosts: 2 + int(seed%5)/4}
		var p foresee.Prover
		for step := range 12 {
			w.changed(r)
			if step%4 != 3 {
				continue
			}
			s := w.state()
			o := p.Outlook(s, scope)
			p.Rehearse(s, o, never)
			alone := map[fsm.VMID]bool{}
			for _, v := range o.All {
				for _, x := range v.Down {
					alone[x.VM] = true
				}
			}
			for set := range sets(s, scope.Hosts) {
				var more, why []string
				for _, x := range foresee.Fail(s, set, foresee.Assumed{}).Stays {
					if !alone[x.VM] {
						more, why = append(more, x.Name), append(why, x.Name+": "+x.Why)
					}
				}
				i := slices.IndexFunc(o.Together, func(v foresee.Verdict) bool { return slices.Equal(v.Hosts, set) })
				if i < 0 {
					if quiet++; len(more) > 0 {
						t.Fatalf("seed %d, step %d: nothing is said of %v, and they leave down %v", seed, step, set, why)
					}
					continue
				}
				listed++
				var said []string
				for _, x := range o.Together[i].Down {
					said = append(said, x.Name)
				}
				if slices.Sort(said); len(more) > 0 {
					down++
				}
				if slices.Sort(more); !slices.Equal(more, said) {
					t.Fatalf("seed %d, step %d: %v leave down %v, and it says %v", seed, step, set, more, said)
				}
			}
		}
	}
	t.Logf("%d sets without a word, %d listed, %d leave VMs down", quiet, listed, down)
	if quiet < 300 || down < 30 {
		t.Errorf("too little was tried: %d without a word, %d leave VMs down", quiet, down)
	}
}

// sets are all sets of k hosts that can fail.
func sets(s *fsm.State, k int) func(func([]fsm.HostID) bool) {
	return func(yield func([]fsm.HostID) bool) {
		var all []fsm.HostID
		for _, v := range prove(s).All {
			if v.Domain == "" {
				all = append(all, v.Hosts[0])
			}
		}
		var pick func(from int, set []fsm.HostID) bool
		pick = func(from int, set []fsm.HostID) bool {
			if len(set) == k {
				return yield(slices.Clone(set))
			}
			for i := from; i < len(all); i++ {
				if !pick(i+1, append(slices.Clone(set), all[i])) {
					return false
				}
			}
			return true
		}
		pick(0, nil)
	}
}

// In a fleet too large to look at every pair, what is left out is counted: all pairs that
// contain a host which nothing can be said of.
func TestSetsOfALargeFleet(t *testing.T) {
	w := fleet(t, 120, 4)
	o := (&foresee.Prover{}).Outlook(w.state(), foresee.Scope{Hosts: 2})
	if len(o.Together)+o.Unlisted > 0 {
		t.Fatalf("there is room for two hosts: %s", o.Sentence())
	}
	w.rule(fsm.RuleTogether, 1, 2) // a bundle: the proof does not judge it
	o = (&foresee.Prover{}).Outlook(w.state(), foresee.Scope{Hosts: 2})
	if unsafe, unproven := o.CountTogether(); unsafe != 0 || unproven != 119 {
		t.Errorf("%d unsafe, %d of 119 pairs with that host unproven", unsafe, unproven)
	}
	if text := o.Sentence(); !strings.Contains(text, "; of 119 sets of 2 hosts it is not known yet") {
		t.Error(text)
	}
}

// With two hosts in the scope, a command is refused that only two failures at once make
// felt, by their names.
func TestGateOfTwoHosts(t *testing.T) {
	w := newWorld(t)
	for _, id := range []string{"h1", "h2", "h3", "h4"} {
		w.host(id, 13*gib, 1, "ipmi")
	}
	disable := func(host string) *logpb.Command {
		return &logpb.Command{Body: &logpb.Command_HostControl{HostControl: &logpb.HostControl{Host: host, Action: fsm.HostDisable}}}
	}
	w.do(disable("h4"))
	if got := foresee.Gate(w.state(), disable("h3"), foresee.Scope{}, never); len(got) > 0 {
		t.Errorf("one host may fail still: %v", got)
	}
	got := foresee.Gate(w.state(), disable("h3"), foresee.Scope{Hosts: 2}, never)
	if len(got) != 1 || got[0].Name != "hosts h1 and h2" || len(got[0].Down) != 2 {
		t.Errorf("%v", got)
	}
}

// What one host leaves down by itself is no news of a set, however often the proof is asked
// for, and however little time there is to play things through; nor does a command break
// what is broken already.
func TestSetsAreSettled(t *testing.T) {
	w := newWorld(t)
	w.host("h1", 30*gib, 2, "ipmi")
	w.host("h2", 9*gib, 1, "ipmi")
	w.host("h3", 9*gib, 1, "ipmi")
	w.host("h4", 7*gib, 0, "ipmi")
	w.rule(fsm.RuleTogether, 1, 2) // a bundle that fits nowhere else is played through
	two := foresee.Scope{Hosts: 2}
	for plays := range 12 {
		var p foresee.Prover
		o := p.Outlook(w.state(), two)
		n := plays
		p.Rehearse(w.state(), o, func() bool { n--; return n < 0 })
		for _, v := range o.Together {
			for _, x := range v.Down {
				for _, one := range o.All {
					if len(one.Hosts) == 1 && one.Hosts[0] == x.From && slices.ContainsFunc(one.Down, func(y foresee.Stay) bool { return y.VM == x.VM }) {
						t.Errorf("after %d plays %s is said of %s, and it is %s's alone", plays, x.Name, v.Name(), x.From)
					}
				}
			}
		}
	}
	if got := foresee.Gate(w.state(), setCommand("beat", "2s"), two, never); len(got) > 0 {
		t.Errorf("it changes nothing: %v", got)
	}
}

func BenchmarkProofOfTwoAfterChange(b *testing.B) {
	w := fleet(b, 1000, 100)
	two := foresee.Scope{Domains: true, Hosts: 2}
	var p foresee.Prover
	p.Outlook(w.state(), two)
	r := rand.New(rand.NewPCG(1, 1))
	var all time.Duration
	for b.Loop() {
		for before := w.state(); before == w.state() || w.state().Policy != before.Policy; {
			before = w.state()
			w.changedOne(r)
		}
		began := time.Now()
		if o := p.Outlook(w.state(), two); len(o.Together)+o.Unlisted > 0 {
			b.Fatal(o.Sentence())
		}
		all += time.Since(began)
	}
	b.ReportMetric(float64(all.Microseconds())/1000/float64(b.N), "ms/change")
}
