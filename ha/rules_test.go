package ha_test

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"lifeboat/fsm"
	"lifeboat/fsm/logpb"
	"lifeboat/ha"
)

// rule writes a rule; hosts are those of a rule about hosts.
func (w *world) rule(kind fsm.RuleKind, strict bool, vms []int, hosts ...string) {
	if w.state().Level < fsm.LevelPolicy {
		w.apply(&logpb.FeatureRaise{Level: fsm.LevelPolicy, Version: "0.4"})
	}
	r := &logpb.Rule{Kind: uint32(kind), Strict: strict}
	for _, n := range vms {
		r.Vms = append(r.Vms, vmBytes(n))
	}
	for _, h := range hosts {
		r.Hosts = append(r.Hosts, &logpb.HostChoice{Host: h})
	}
	w.apply(&logpb.RuleAdd{Rule: r})
}

// What a start is told to heed, a move and an explanation heed as well.
func TestMayRunAndMove(t *testing.T) {
	w := newWorld(t, newBox("h1", 1, 2, 3), newBox("h2", 4), newBox("h3"), newBox("h4"))
	w.rule(fsm.RuleTogether, true, []int{1, 2})
	w.rule(fsm.RuleApart, true, []int{2, 4})
	w.rule(fsm.RuleHosts, true, []int{1}, "h1", "h2", "h3")
	s := w.state()
	for _, c := range []struct {
		vm    int
		to    fsm.HostID
		want  string // in the refusal; "" = it may
		moves int
	}{
		{1, "h3", "", 2}, // with its bundle
		{2, "h3", "", 2},
		{1, "h2", "rule 2 keeps it apart from", 2}, // because of the other one
		{1, "h4", "rule 3 keeps it on", 2},
		{3, "h4", "", 1}, {3, "h2", "", 1},
		{3, "h1", "runs there", 1},
		{3, "h9", "there is no host", 1},
		{4, "h1", "rule 2 keeps it apart from", 1},
		{4, "h3", "", 1},
	} {
		moves, why := ha.MayMove(s, vmID(c.vm), c.to)
		if (why == "") != (c.want == "") || !strings.Contains(why, c.want) {
			t.Errorf("VM %d to %s: %q, want %q", c.vm, c.to, why, c.want)
		}
		if len(moves) != c.moves || moves[0] != vmID(c.vm) {
			t.Errorf("VM %d to %s: %d VMs move, want %d", c.vm, c.to, len(moves), c.moves)
		}
	}
	if why := ha.MayRun(s, vmID(1), "h3"); !strings.Contains(why, "rule 1 keeps it with") {
		t.Errorf("by itself it may start on h3: %q", why)
	}
	lines := fmt.Sprint(ha.ExplainVM(s, vmID(1)))
	for _, want := range []string{"Rule 1 (together, strict: ", " is kept.", "Other hosts that could take it now: h3.", "rule 2 keeps it apart from"} {
		if !strings.Contains(lines, want) {
			t.Errorf("the explanation does not say %q: %s", want, lines)
		}
	}
}

// A rule that is broken as it is written names the moves that would mend it.
func TestRepairs(t *testing.T) {
	for name, c := range map[string]struct {
		kind  fsm.RuleKind
		vms   []int
		hosts []string
		want  string
	}{
		"apart: the first by name stays":   {fsm.RuleApart, []int{1, 2}, nil, "2: h1 → h3"},
		"together: the smaller part moves": {fsm.RuleTogether, []int{1, 2, 4}, nil, "4: h2 → h1"},
		"on certain hosts":                 {fsm.RuleHosts, []int{4}, []string{"h3", "h1"}, "4: h2 → h3"},
		"kept":                             {fsm.RuleApart, []int{1, 4}, nil, ""},
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t, newBox("h1", 1, 2, 3), newBox("h2", 4), newBox("h3"))
			w.rule(c.kind, true, c.vms, c.hosts...)
			var got []string
			for _, r := range ha.Repairs(w.state()) {
				v, _ := w.state().VM(r.VM)
				got = append(got, fmt.Sprintf("%d: %s → %s", v.ID[15], r.From, r.To))
				if r.Rule != 1 || !strings.Contains(r.Why, "rule 1") {
					t.Errorf("why: rule %d, %q", r.Rule, r.Why)
				}
			}
			if strings.Join(got, ", ") != c.want {
				t.Errorf("repairs %v, want %s", got, c.want)
			}
		})
	}
	w := newWorld(t, newBox("h1", 1, 2), newBox("h2", 4).fenced())
	w.rule(fsm.RuleApart, true, []int{1, 2})
	if r := ha.Repairs(w.state()); len(r) != 1 || r[0].To != "" || !strings.Contains(r[0].Why, "no host can take it") {
		t.Errorf("without a host: %+v", r)
	}
}

// Each strategy, and ties.
func TestPlacementByLoad(t *testing.T) {
	w := newWorld(t, newBox("h1", 1), newBox("h2", 2), newBox("h3", 3, 4), newBox("h4", 5))
	w.apply(&logpb.FeatureRaise{Level: fsm.LevelPolicy, Version: "0.4"})
	w.set("placement", "load")
	w.respec(2, func(x *logpb.Spec) { x.MemoryBytes = 200 << 30 })
	w.respec(5, func(x *logpb.Spec) { x.Cpus, x.MemoryBytes = 60, 64<<30 })
	w.boxes["h1"].die()
	w.must(20*time.Second, "placed", w.ordered(1))
	if _, h := w.vm(1); h.ID != "h3" || !strings.Contains(w.work(1).Why, "least load") {
		w.fatal("placed on %s: %s", h.ID, w.work(1).Why)
	}
}

// A VM starts when what it depends on is ready, whatever its own tier; and what it
// depends on is as important as it is itself.
func TestOrderOfStarts(t *testing.T) {
	w := newWorld(t, newBox("h1", 1, 2, 3, 4), newBox("h2"))
	w.apply(&logpb.FeatureRaise{Level: fsm.LevelPolicy, Version: "0.4"})
	w.set("starts_per_host", "1")
	w.apply(&logpb.VMSet{Vm: vmBytes(1), Settings: []*logpb.Setting{{Key: "priority", Value: "highest"}, {Key: "depends_on", Value: vmID(4).String()}}})
	w.apply(&logpb.VMSet{Vm: vmBytes(4), Settings: []*logpb.Setting{{Key: "priority", Value: "lowest"}, {Key: "gate", Value: "20s"}}})
	w.boxes["h1"].die()
	w.must(3*time.Minute, "all run", func() bool { return w.state().CountOpenWork() == 0 && w.host("h1").HA == fsm.HAFenced })
	var order []int
	at := map[int]int64{}
	for _, x := range w.told {
		var vms [][]byte
		for _, p := range x.cmd.GetPlace().GetPlacements() {
			vms = append(vms, p.Vm)
		}
		for _, p := range x.cmd.GetHostFenced().GetPlacements() {
			vms = append(vms, p.Vm)
		}
		for _, id := range vms {
			order = append(order, int(id[15]))
			at[int(id[15])] = x.at
		}
	}
	if !slices.Equal(order, []int{4, 2, 3, 1}) {
		w.fatal("order %v", order)
	}
	if wait := time.Duration(at[1] - at[4]); wait < 20*time.Second || wait > 30*time.Second {
		w.fatal("it waited %s", wait)
	}
}
