package sim

import (
	"slices"
	"strings"
	"testing"
	"time"

	"lifeboat/fsm"
	"lifeboat/ha/foresee"
	"lifeboat/sim/scenario"
)

// A plan says where VMs go and in which order: what the simulator then does, in every
// scenario in which hosts lose their power and nothing else happens, is just that.
func TestAPlanIsWhatHappens(t *testing.T) {
	var ran int
	for name, f := range scenarioFiles(t, 300) {
		hosts := onlyLosesPower(f)
		if len(hosts) == 0 {
			continue
		}
		ran++
		t.Run(name, func(t *testing.T) { comparePlan(t, f, hosts) })
	}
	if ran < 20 {
		t.Fatalf("only %d scenarios were compared", ran)
	}
}

// onlyLosesPower are the hosts that lose their power at one moment, when nothing
// else happens in a scenario.
func onlyLosesPower(f *scenario.File) (hosts []fsm.HostID) {
	if len(f.Steps) != 1 || len(f.Steps[0].Commands) == 0 {
		return nil
	}
	for _, c := range f.Steps[0].Commands {
		text := strings.Fields(c.Text)
		if len(text) != 3 || text[0] != "power" || text[2] != "off" {
			return nil
		}
		hosts = append(hosts, fsm.HostID(text[1]))
	}
	for _, v := range f.VMs {
		if v.Faults != (scenario.Faults{}) || v.Gate == "agent" {
			return nil // a plan takes starts to work, and agents to answer at once
		}
	}
	for m, h := range f.ManagersOn {
		if slices.Contains(hosts, fsm.HostID(h)) {
			t := slices.Index(f.Managers, m)
			if t >= 0 {
				return nil
			}
		}
	}
	return hosts
}

func comparePlan(t *testing.T, f *scenario.File, hosts []fsm.HostID) {
	w := newWorld(f, 1)
	if !w.settle() {
		t.Fatal("the world does not settle")
	}
	w.run(w.now + f.Steps[0].After)
	s := w.truth.State()
	sum, newest := s.Sum(), fsm.EventID(0)
	for id := range s.EventsDown() {
		newest = id
		break
	}
	plan := foresee.Fail(s, hosts, foresee.Assumed{Start: f.World.Start + time.Second})
	if s.Sum() != sum {
		t.Fatal("the plan has changed the state")
	}
	zero := s.Time
	for _, c := range f.Steps[0].Commands {
		w.do(c)
	}
	w.run(w.now + f.Until)
	end := w.truth.State()

	var want, got []string // VM → host, in the order of the start orders
	for _, e := range end.EventsAfter(newest) {
		if e.Type == "VM.START.ORDER" {
			words := strings.Fields(e.Text)
			want = append(want, words[2]+" "+words[6])
			if at, bound := time.Duration(e.Time-zero), bounds(plan, words[2]); at > bound+2*time.Second {
				t.Errorf("%s was to start after %s, and was ordered after %s", words[2], bound, at)
			}
		}
	}
	for _, x := range plan.Steps {
		got = append(got, x.Name+" "+string(x.To))
		if x.Done == 0 {
			t.Errorf("%s is not seen running in the plan", x.Name)
		}
	}
	if len(hosts) > 1 || len(want) > fsm.DefaultPolicy().StartsPerHost*(len(f.Hosts)-len(hosts)) {
		// Who is proven dead first, and whose start ends first, is chance.
		for _, list := range [][]string{want, got} {
			for i := range list {
				list[i], _, _ = strings.Cut(list[i], " ")
			}
			slices.Sort(list)
		}
	}
	if f.Until < plan.Took {
		got = slices.DeleteFunc(got, func(x string) bool {
			name, _, _ := strings.Cut(x, " ")
			return bounds(plan, name) > f.Until
		})
	}
	if !slices.Equal(want, got) {
		t.Errorf("planned: %v\nordered: %v\nnotes: %v stays: %v", got, want, plan.Notes, plan.Stays)
	}
	for _, x := range plan.Stays {
		if v, _ := end.VM(x.VM); v.Power == fsm.PowerOn {
			t.Errorf("%s was to stay down (%s), and runs", x.Name, x.Why)
		}
		if x.Why == "" {
			t.Errorf("nothing says why %s stays down", x.Name)
		}
	}
	for _, id := range hosts {
		h := s.Host(id)
		for i := range h.VMs {
			v := &h.VMs[i]
			now, at := end.VM(v.ID)
			down := slices.ContainsFunc(plan.Stays, func(x foresee.Stay) bool { return x.VM == v.ID })
			if v.Protected() && v.Wanted && now.Power != fsm.PowerOn && !down && bounds(plan, v.Name) < f.Until {
				t.Errorf("%s is down on %s at the end, which was not foreseen", v.Name, at.ID)
			}
		}
	}
}

func bounds(p *foresee.Plan, name string) time.Duration {
	for _, x := range p.Steps {
		if x.Name == name {
			return x.At
		}
	}
	return 0
}

// A plan does not know how long the agent of a guest takes, and says so.
func TestAPlanTakesAgentsToAnswer(t *testing.T) {
	f := readScenario(t, "../testdata/scenarios/order/gate-agent.yaml")
	w := newWorld(f, 1)
	if !w.settle() {
		t.Fatal("the world does not settle")
	}
	w.run(w.now + f.Steps[0].After)
	plan := foresee.Fail(w.truth.State(), []fsm.HostID{"n1"}, foresee.Assumed{Start: f.World.Start})
	if len(plan.Steps) != 2 || plan.Steps[0].Name != "db" || plan.Steps[1].Name != "app" || plan.Steps[1].At < plan.Steps[0].Done {
		t.Errorf("%+v", plan.Steps)
	}
	if len(plan.Notes) != 1 || !strings.Contains(plan.Notes[0], "agent") {
		t.Errorf("notes %v", plan.Notes)
	}
}
