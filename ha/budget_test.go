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

// manyVMs are the numbers 1..n.
func manyVMs(n int) (out []int) {
	for i := range n {
		out = append(out, i+1)
	}
	return out
}

// starts counts the standing start orders.
func (w *world) starts() (byHost map[fsm.HostID]int, all int) {
	byHost = map[fsm.HostID]int{}
	for id, h := range w.state().Hosts() {
		for _, o := range h.Orders {
			if o.Kind == fsm.OrderStart && h.Status == fsm.Up {
				byHost[id]++
				all++
			}
		}
	}
	return byHost, all
}

func TestBudgetsAndPriorities(t *testing.T) {
	w := newWorld(t, newBox("h1", manyVMs(20)...), newBox("h2"), newBox("h3"), newBox("h4"))
	w.set("starts_per_host", "3")
	w.set("starts_per_cluster", "5")
	for n, p := range map[int]string{20: "highest", 19: "high", 1: "low", 2: "lowest"} {
		w.apply(&logpb.VMProtect{Vm: vmBytes(n), Protect: &logpb.Protection{On: true, Priority: p}})
	}
	w.boxes["h1"].die()
	var order []int
	w.must(2*time.Minute, "all run", func() bool {
		byHost, all := w.starts()
		for id, n := range byHost {
			if n > 3 {
				w.fatal("%d starts on %s", n, id)
			}
		}
		if all > 5 {
			w.fatal("%d starts", all)
		}
		return w.state().CountOpenWork() == 0 && w.host("h1").HA == fsm.HAFenced
	})
	for _, x := range w.told {
		for _, p := range x.cmd.GetPlace().GetPlacements() {
			order = append(order, int(p.Vm[15]))
		}
		for _, p := range x.cmd.GetHostFenced().GetPlacements() {
			order = append(order, int(p.Vm[15]))
		}
	}
	if len(order) != 20 || order[0] != 20 || order[1] != 19 || order[18] != 1 || order[19] != 2 {
		w.fatal("order %v", order)
	}
}

// Who waits for its turn is told who comes first, without an entry in the log about it.
func TestWhoWaitsForItsTurnIsTold(t *testing.T) {
	w := newWorld(t, newBox("h1", manyVMs(6)...), newBox("h2"))
	w.set("starts_per_host", "2")
	for n, p := range map[int]string{6: "high", 5: "high", 4: "highest", 1: "low"} {
		w.apply(&logpb.VMProtect{Vm: vmBytes(n), Protect: &logpb.Protection{On: true, Priority: p}})
	}
	told := func(n int, text string) bool {
		return slices.ContainsFunc(ha.ExplainVM(w.state(), vmID(n)), func(l ha.Line) bool { return strings.Contains(l.Text, text) })
	}
	turn := "waits for its turn"
	w.boxes["h1"].die()
	w.must(time.Minute, "two of them start", func() bool { _, all := w.starts(); return all == 2 })
	for n, text := range map[int]string{
		1: "Its priority is low, and it waits for its turn: 3 VMs of a higher priority come first; starts under way: 2, of at most 2 on a host",
		3: "Its priority is medium, and it waits for its turn: 1 VM of a higher priority and 1 VM of the same that waited before it come first; ",
	} {
		if !told(n, text) {
			t.Errorf("VM %d: it is not said: %s\n%v", n, text, ha.ExplainVM(w.state(), vmID(n)))
		}
	}
	if told(4, turn) {
		t.Errorf("it starts, and is said to wait: %v", ha.ExplainVM(w.state(), vmID(4)))
	}
	w.must(2*time.Minute, "all run", func() bool { return w.state().CountOpenWork() == 0 })
	if told(1, turn) {
		t.Error("it runs, and is said to wait")
	}
}

// What a more important VM depends on is as important, and is told so.
func TestWhoIsWaitedForIsToldItsTier(t *testing.T) {
	w := newWorld(t, newBox("h1", manyVMs(5)...), newBox("h2"))
	w.apply(&logpb.FeatureRaise{Level: fsm.LevelPolicy, Version: "0.4"})
	w.set("starts_per_host", "1")
	for n, p := range map[int]string{5: "highest", 4: "low", 3: "high", 2: "high", 1: "highest"} {
		w.apply(&logpb.VMProtect{Vm: vmBytes(n), Protect: &logpb.Protection{On: true, Priority: p}})
	}
	w.apply(&logpb.VMSet{Vm: vmBytes(5), Settings: []*logpb.Setting{{Key: "depends_on", Value: vmID(4).String()}}})
	w.boxes["h1"].die()
	w.must(time.Minute, "one of them starts", func() bool { _, all := w.starts(); return all == 1 })
	for n, text := range map[int]string{
		4: "Its priority is low (highest, since a VM of that priority waits for it), and it waits for its turn: starts under way: 1,",
		2: "Its priority is high, and it waits for its turn: 1 VM of a higher priority comes first; ",
	} {
		if !slices.ContainsFunc(ha.ExplainVM(w.state(), vmID(n)), func(l ha.Line) bool { return strings.Contains(l.Text, text) }) {
			t.Errorf("VM %d: it is not said: %s\n%v", n, text, ha.ExplainVM(w.state(), vmID(n)))
		}
	}
}

// The most important VM comes first, though another host's proof is newer.
func TestPriorityAcrossHosts(t *testing.T) {
	w := newWorld(t, newBox("h1", 1, 2).fenced("ipmi"), newBox("h2", 3, 4).fenced("ipmi"), newBox("h3"))
	w.set("starts_per_cluster", "1")
	w.apply(&logpb.VMProtect{Vm: vmBytes(4), Protect: &logpb.Protection{On: true, Priority: "highest"}})
	w.boxes["h1"].die()
	w.boxes["h2"].die()
	w.batch = true // both proofs come before the leader looks
	first := fsm.VMID{}
	w.must(20*time.Second, "a first order", func() bool {
		for _, o := range w.host("h3").Orders {
			first = o.VM
		}
		return first != fsm.VMID{}
	})
	if first != vmID(4) {
		w.fatal("%s is started first", first)
	}
	w.must(2*time.Minute, "all run", func() bool { return w.state().CountOpenWork() == 0 })
}

// Orders on a host that is gone do not use up what others may start.
func TestBudgetOfADeadHost(t *testing.T) {
	w := newWorld(t, newBox("h1", 1, 2, 3), newBox("h2", 4), newBox("h3"))
	w.set("starts_per_cluster", "3")
	b := w.boxes["h1"]
	b.fenced()
	w.apply(b.fenceLevels())
	b.hangs = true
	for n := range 3 {
		w.crash(n + 1)
	}
	w.must(5*time.Second, "three orders", func() bool { _, all := w.starts(); return all == 3 })
	b.die()
	w.must(20*time.Second, "Down", func() bool { return w.host("h1").Status == fsm.Down })
	w.crash(4)
	w.must(10*time.Second, "restart", func() bool { v, _ := w.vm(4); return v.Incarnation.Counter() == 2 && v.Power == fsm.PowerOn })
}

func TestPlacementPolicies(t *testing.T) {
	for policy, want := range map[string]fsm.HostID{"count": "h10", "spread": "h3", "pack": "h2"} {
		big := newBox("h3", 20, 21)
		big.memory = 1 << 40
		w := newWorld(t, newBox("h1", 1), newBox("h2", 10, 11, 12), big, newBox("h10", 30), newBox("h11", 31))
		w.set("placement", policy)
		w.boxes["h1"].die()
		w.must(20*time.Second, policy, w.ordered(1))
		if _, h := w.vm(1); h.ID != want {
			t.Errorf("%s: placed on %s, want %s (%s)", policy, h.ID, want, w.work(1).Why)
		}
	}
}

func TestManyReasonsAreSummedUp(t *testing.T) {
	var boxes []*box
	for i := range 12 {
		boxes = append(boxes, newBox(fmt.Sprintf("h%02d", i+1)))
	}
	boxes[0].guests[vmID(1)] = &guest{on: true}
	w := newWorld(t, boxes...)
	w.respec(1, func(x *logpb.Spec) { x.Disks[0].Storage = "san" })
	boxes[0].die()
	w.must(20*time.Second, "fenced", w.is("h01", fsm.HAFenced))
	w.advance(2 * time.Second)
	want := "no host can take it: it is Down (h01); no storage san (h02, h03, h04 and 8 more)"
	if r := w.work(1).Reason; r != want {
		w.fatal("reason %q, want %q", r, want)
	}
}
