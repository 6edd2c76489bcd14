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

func never() bool { return false }

var racks = foresee.Scope{Domains: true}

// prove is the outlook of a prover that has seen nothing before.
func prove(s *fsm.State) *foresee.Outlook {
	var p foresee.Prover
	return p.Outlook(s, racks)
}

// about is the verdict about "host h1" or "rack a".
func about(t *testing.T, o *foresee.Outlook, name string) foresee.Verdict {
	t.Helper()
	for _, v := range o.All {
		if v.Name() == name {
			return v
		}
	}
	t.Fatalf("nothing is said of %s", name)
	return foresee.Verdict{}
}

func TestProofNamesHostVMAndResource(t *testing.T) {
	w := newWorld(t)
	w.host("h1", 64*gib, 3, "ipmi")
	w.host("h2", 7*gib, 1, "ipmi")
	w.host("h3", 4*gib, 1, "ipmi")
	o := prove(w.state())
	h1 := about(t, o, "host h1")
	if h1.Unproven || len(h1.Down) != 3 || h1.Down[0].Why != "less than 4096 MiB of memory free (h2, h3)" {
		t.Errorf("%+v", h1)
	}
	for _, name := range []string{"host h2", "host h3"} {
		if v := about(t, o, name); !v.Safe() {
			t.Errorf("%s: %+v", name, v)
		}
	}
	if want := "host h1's failure would leave 3 VMs down: vm1, vm2, vm3 [less than 4096 MiB of memory free (h2, h3)]"; o.Sentence() != want {
		t.Errorf("it says %q", o.Sentence())
	}
	if unsafe, unproven, vms := o.Count(); unsafe != 1 || unproven != 0 || vms != 3 {
		t.Errorf("counted %d, %d, %d", unsafe, unproven, vms)
	}
	var p foresee.Prover
	for host, want := range map[fsm.HostID]string{
		"h1": "If it failed now, 3 of the 3 protected VMs that it runs would stay down: vm1, vm2, vm3 [less than 4096 MiB of memory free (h2, h3)].",
		"h2": "If it failed now, the protected VMs that it runs (1) would be started on other hosts.",
		"h9": "",
	} {
		if text := p.Explain(w.state(), host); text != want {
			t.Errorf("%s is explained by %q", host, text)
		}
	}
	w.do(&logpb.Command{Body: &logpb.Command_Arm{Arm: &logpb.Arm{}}})
	if text := p.Explain(w.state(), "h1"); !strings.Contains(text, "HA is disarmed") {
		t.Error(text)
	}
	if o = prove(w.state()); !strings.Contains(o.Sentence(), "HA is disarmed") {
		t.Error(o.Sentence())
	}
	if unsafe, _, vms := o.Count(); unsafe != 3 || vms != 5 {
		t.Errorf("disarmed: counted %d, %d", unsafe, vms)
	}
}

// A rack is as good as its hosts together.
func TestProofOfDomains(t *testing.T) {
	w := newWorld(t)
	w.host("a1", 12*gib, 1, "ipmi")
	w.host("b1", 12*gib, 1, "ipmi")
	w.host("c2", 12*gib, 1, "ipmi")
	o := prove(w.state())
	if v := about(t, o, "rack r1"); !v.Safe() || len(v.Hosts) != 2 {
		t.Errorf("%+v", v)
	}
	w.host("d1", 12*gib, 1, "ipmi") // three times 4 GiB on a host with room for two
	if v := about(t, prove(w.state()), "rack r1"); v.Safe() {
		t.Errorf("%+v", v)
	}
	var p foresee.Prover
	o = p.Outlook(w.state(), racks)
	p.Rehearse(w.state(), o, never)
	if v := about(t, o, "rack r1"); v.Unproven || len(v.Down) != 1 {
		t.Errorf("%+v", v)
	}
	if text := o.Sentence(); !strings.HasPrefix(text, "rack r1's failure would leave 1 VM down: vm4 [") {
		t.Error(text)
	}
	for _, v := range (&foresee.Prover{}).Outlook(w.state(), foresee.Scope{}).All {
		if v.Domain != "" {
			t.Errorf("nobody asked about %s", v.Name())
		}
	}
}

// changed makes one random change; what the state machine refuses changes nothing.
func (w *world) changed(r *rand.Rand) {
	vm := vmID(1 + r.IntN(w.vms))
	v, h := w.state().VM(vm)
	host := fmt.Sprintf("h%d", 1+r.IntN(w.state().CountHosts()))
	var c *logpb.Command
	switch r.IntN(12) {
	case 0, 1:
		e := &logpb.VMEntries{Ids: vm[:], Power: []byte{byte(fsm.PowerOff)}, Reason: []byte{byte(fsm.ReasonShutdown)}, Incarnations: []uint64{uint64(v.Incarnation)}}
		if v.Power == fsm.PowerOff {
			e.Power[0], e.Reason[0] = byte(fsm.PowerOn), byte(fsm.ReasonBooted)
		}
		c = &logpb.Command{Body: &logpb.Command_HostReports{HostReports: &logpb.HostReports{Reports: []*logpb.HostReport{{Host: string(h.ID), Epoch: h.Epoch, Seq: h.Seq + 1, Vms: e}}}}}
	case 2:
		c = &logpb.Command{Body: &logpb.Command_HostControl{HostControl: &logpb.HostControl{Host: host, Action: uint32(1 + r.IntN(4))}}}
	case 3:
		c = setCommand("placement", []string{"count", "spread", "pack", "load"}[r.IntN(4)])
	case 4:
		c = setCommand("cpu_overcommit", []string{"0", "1", "0.5"}[r.IntN(3)])
	case 5, 6:
		x := &logpb.Rule{Kind: uint32(1 + r.IntN(3)), Strict: r.IntN(4) > 0}
		for range 1 + r.IntN(3) {
			id := vmID(1 + r.IntN(w.vms))
			if !slices.ContainsFunc(x.Vms, func(b []byte) bool { return slices.Equal(b, id[:]) }) {
				x.Vms = append(x.Vms, id[:])
			}
		}
		if fsm.RuleKind(x.Kind) == fsm.RuleHosts {
			x.Hosts = []*logpb.HostChoice{{Host: host}, {Host: "rack=r1"}, {Host: "rack=r2"}}
		}
		c = &logpb.Command{Body: &logpb.Command_RuleAdd{RuleAdd: &logpb.RuleAdd{Rule: x}}}
	case 7, 8:
		for id := range w.state().Rules() {
			c = &logpb.Command{Body: &logpb.Command_RuleRemove{RuleRemove: &logpb.RuleRemove{Id: uint64(id)}}}
		}
	case 9:
		c = &logpb.Command{Body: &logpb.Command_VmSet{VmSet: &logpb.VMSet{Vm: vm[:], Settings: []*logpb.Setting{{Key: "priority", Value: []string{"lowest", "high"}[r.IntN(2)]}}}}}
	case 10:
		x := &logpb.HostFenceLevels{Host: host}
		if r.IntN(3) > 0 {
			x.Levels = []*logpb.FenceLevel{{Driver: "ipmi", Address: "bmc"}}
		}
		c = &logpb.Command{Body: &logpb.Command_HostFenceLevels{HostFenceLevels: x}}
	case 11:
		c = &logpb.Command{Body: &logpb.Command_HostFenced{HostFenced: &logpb.HostFenced{Host: host, Epoch: w.state().Host(fsm.HostID(host)).Epoch, Force: true,
			Proof: &logpb.Proof{Kind: uint32(fsm.ProofOperator), By: "test", Detail: "x"}}}}
		if r.IntN(4) > 0 {
			c = nil
		}
	}
	if c != nil {
		w.try(c)
	}
}

func setCommand(key, value string) *logpb.Command {
	return &logpb.Command{Body: &logpb.Command_PolicySet{PolicySet: &logpb.PolicySet{Settings: []*logpb.Setting{{Key: key, Value: value}}}}}
}

// random is a small cluster that is more or less full.
func random(t testing.TB, r *rand.Rand) *world {
	w := newWorld(t)
	w.shape = func(int) (uint64, uint32) { return uint64(1+r.IntN(4)) * gib, uint32(1 + r.IntN(4)) }
	for i := range 3 + r.IntN(5) {
		w.host(fmt.Sprintf("h%d", i+1), uint64(8+r.IntN(24))*gib, 1+r.IntN(4), "ipmi")
	}
	return w
}

func describe(o *foresee.Outlook) string {
	var b strings.Builder
	for _, v := range o.All {
		fmt.Fprintf(&b, "%s: %+v\n", v.Name(), v)
	}
	return b.String() + o.Sentence()
}

// What is found out step by step is what is found out from scratch; what is called safe
// is safe when it is played through with the real decisions, by whatever placement; what
// is said to stay down does.
func TestProofStepByStepAndTrue(t *testing.T) {
	var safe, down, open int
	for seed := range uint64(60) {
		r := rand.New(rand.NewPCG(seed, 5))
		w := random(t, r)
		var p foresee.Prover
		for step := range 25 {
			w.changed(r)
			s := w.state()
			o := p.Outlook(s, racks)
			if got, want := describe(o), describe(prove(s)); got != want {
				t.Fatalf("seed %d, step %d: step by step\n%s\nfrom scratch\n%s", seed, step, got, want)
			}
			if step%6 != 5 {
				continue
			}
			for _, v := range o.All {
				stays := foresee.Fail(s, v.Hosts, foresee.Assumed{}).Stays
				switch {
				case v.Safe():
					safe++
					if len(stays) > 0 {
						t.Fatalf("seed %d, step %d: %s is called safe, but %v", seed, step, v.Name(), stays)
					}
				case v.Unproven:
					open++
				default:
					down++
				}
				for _, x := range v.Down {
					if !slices.ContainsFunc(stays, func(y foresee.Stay) bool { return y.VM == x.VM }) {
						t.Fatalf("seed %d, step %d: %s: %s (%s) does not stay down; %v do", seed, step, v.Name(), x.Name, x.Why, stays)
					}
				}
				if !v.Unproven && len(stays) != len(v.Down) {
					t.Fatalf("seed %d, step %d: %s: %v, but %v", seed, step, v.Name(), v.Down, stays)
				}
			}
		}
	}
	t.Logf("%d safe, %d leave VMs down, %d open", safe, down, open)
	if safe < 200 || down < 50 || open < 20 {
		t.Errorf("too little was tried: %d safe, %d leave VMs down, %d open", safe, down, open)
	}
}

// What was played through counts for as long as nothing changes, and no longer.
func TestRehearsalsAreRemembered(t *testing.T) {
	w := newWorld(t)
	w.host("h1", 12*gib, 2, "ipmi")
	w.host("h2", 12*gib, 2, "ipmi")
	var p foresee.Prover
	o := p.Outlook(w.state(), foresee.Scope{})
	if v := about(t, o, "host h1"); !v.Unproven || v.Short == "" {
		t.Fatalf("%+v", v)
	}
	p.Rehearse(w.state(), o, never)
	if v := about(t, o, "host h1"); v.Unproven || len(v.Down) != 1 {
		t.Fatalf("%+v", v)
	}
	w.do(&logpb.Command{Body: &logpb.Command_Canary{Canary: &logpb.Canary{Node: "n1", Term: 1, Seq: 1}}})
	n := 0
	if o = p.Outlook(w.state(), foresee.Scope{}); about(t, o, "host h1").Unproven {
		t.Error("it is forgotten although nothing has changed")
	}
	w.set(1, "priority", "lowest")
	if o = p.Outlook(w.state(), foresee.Scope{}); !about(t, o, "host h1").Unproven {
		t.Error("it is remembered although the order of starts has changed")
	}
	p.Rehearse(w.state(), o, func() bool { n++; return n > 1 })
	if a, b := about(t, o, "host h1"), about(t, o, "host h2"); a.Unproven || !b.Unproven || a.Down[0].Name != "vm1" {
		t.Errorf("%+v, %+v", a, b)
	}
}

func fleet(tb testing.TB, hosts, vms int) *world {
	w := newWorld(tb)
	w.shape = func(n int) (uint64, uint32) { return uint64(1+n%8) * gib, uint32(1 + n%4) }
	for i := range hosts {
		w.host(fmt.Sprintf("h%d", i+1), uint64(vms)*6*gib, vms, "ipmi")
	}
	for i := 0; i < 1000 && i < hosts*vms/2; i++ {
		w.rule(fsm.RuleApart, 1+i, 1+i+vms*(hosts/2))
	}
	return w
}

func BenchmarkProofFromScratch(b *testing.B) {
	w := fleet(b, 1000, 100)
	s := w.state()
	for b.Loop() {
		if unsafe, unproven, _ := prove(s).Count(); unsafe+unproven > 0 {
			b.Fatal(unsafe, unproven)
		}
	}
}

func BenchmarkProofAfterChange(b *testing.B) {
	w := fleet(b, 1000, 100)
	var p foresee.Prover
	p.Outlook(w.state(), racks)
	r := rand.New(rand.NewPCG(1, 1))
	var longest, all time.Duration
	for b.Loop() {
		for before := w.state(); before == w.state() || w.state().Policy != before.Policy; {
			before = w.state()
			w.changedOne(r)
		}
		began := time.Now()
		p.Outlook(w.state(), racks)
		took := time.Since(began)
		all, longest = all+took, max(longest, took)
	}
	b.ReportMetric(float64(all.Microseconds())/1000/float64(b.N), "ms/change")
	b.ReportMetric(float64(longest.Microseconds())/1000, "ms-longest")
}

// changedOne changes the power of a VM, a rule, or whether a host takes VMs.
func (w *world) changedOne(r *rand.Rand) {
	vm := vmID(1 + r.IntN(w.vms))
	v, h := w.state().VM(vm)
	switch r.IntN(4) {
	case 0:
		x := &logpb.Rule{Kind: uint32(fsm.RuleApart), Strict: true}
		for _, n := range []int{1 + r.IntN(w.vms/2), 1 + w.vms/2 + r.IntN(w.vms/2)} {
			id := vmID(n)
			x.Vms = append(x.Vms, id[:])
		}
		w.try(&logpb.Command{Body: &logpb.Command_RuleAdd{RuleAdd: &logpb.RuleAdd{Rule: x}}})
	case 1:
		w.try(&logpb.Command{Body: &logpb.Command_HostControl{HostControl: &logpb.HostControl{Host: string(h.ID), Action: uint32(1 + r.IntN(2))}}})
	default:
		e := &logpb.VMEntries{Ids: vm[:], Power: []byte{byte(fsm.PowerOff)}, Reason: []byte{byte(fsm.ReasonShutdown)}, Incarnations: []uint64{uint64(v.Incarnation)}}
		if v.Power == fsm.PowerOff {
			e.Power[0], e.Reason[0] = byte(fsm.PowerOn), byte(fsm.ReasonBooted)
		}
		w.try(&logpb.Command{Body: &logpb.Command_HostReports{HostReports: &logpb.HostReports{Reports: []*logpb.HostReport{{Host: string(h.ID), Epoch: h.Epoch, Seq: h.Seq + 1, Vms: e}}}}})
	}
}
