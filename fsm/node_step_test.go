package fsm

import (
	"fmt"
	"testing"
	"time"

	"google.golang.org/protobuf/proto"

	"lifeboat/fsm/logpb"
)

// steer is a step of run r1 of node n1, with a minute of time.
func steer(step NodeStep) *logpb.NodeSteer {
	return &logpb.NodeSteer{Id: "n1", RunId: "r1", Step: uint32(step), WithinNs: int64(time.Minute)}
}

func helloOf(run string) *logpb.NodeHello {
	return &logpb.NodeHello{Id: "n1", RunId: run, Version: "1"}
}

// nodeScenes bring node n1 into each state.
func nodeScenes() []scene {
	steps := func(steps ...NodeStep) func(l *lab) {
		return func(l *lab) {
			l.ok(helloOf("r1"))
			for _, s := range steps {
				l.ok(steer(s))
			}
			l.wait(time.Second)
		}
	}
	timed := steer(StepMaintain)
	timed.ForNs = int64(time.Hour)
	return []scene{
		{"unknown", func(*lab) {}},
		{"Up", steps()},
		{"PreparingForMaintenance", steps(StepMaintain)},
		{"Maintenance", steps(StepMaintain, StepNothingLeft)},
		{"Maintenance, timed", func(l *lab) { l.ok(helloOf("r1")); l.ok(timed); l.ok(steer(StepNothingLeft)) }},
		{"PreparingForShutDown", steps(StepPrepareStop)},
		{"ReadyToShutDown", steps(StepPrepareStop, StepNothingLeft)},
		{"ShuttingDown", steps(StepPrepareStop, StepNothingLeft, StepStop)},
		{"Down", func(l *lab) { steps(StepMaintain)(l); l.ok(&logpb.NodeDown{Id: "n1", RunId: "r1", Reason: "silent"}) }},
	}
}

func lookNode(l *lab) string {
	n := l.state().Node("n1")
	if n == nil {
		return "unknown"
	}
	s := fmt.Sprintf("%s run %s", n.State, n.RunID)
	if n.Until != 0 {
		s += fmt.Sprintf(", ends after %s", time.Duration(n.Until-n.Since))
	}
	if n.For != 0 {
		s += fmt.Sprintf(", then for %s", time.Duration(n.For))
	}
	for _, a := range l.state().Alerts() {
		s += fmt.Sprintf(", alert %s ×%d (%s)", a.State, a.Count, a.Severity)
	}
	return s
}

// Every state × event: the table of docs/decisions/node-states.md.
func TestNodeStates(t *testing.T) {
	step := func(name string, s NodeStep, change func(*logpb.NodeSteer)) happening {
		return happening{name: name, body: func(*lab) proto.Message {
			c := steer(s)
			if change != nil {
				change(c)
			}
			return c
		}}
	}
	forced := func(c *logpb.NodeSteer) { c.Force = true }
	events := []happening{
		step("maintenance on", StepMaintain, nil),
		step("maintenance on --for", StepMaintain, func(c *logpb.NodeSteer) { c.ForNs = int64(2 * time.Hour) }),
		step("maintenance off", StepResume, nil),
		step("shutdown prepare", StepPrepareStop, nil),
		step("shutdown cancel", StepCancelStop, nil),
		step("shutdown trigger", StepStop, nil),
		step("shutdown trigger -f", StepStop, forced),
		step("nothing left", StepNothingLeft, nil),
		step("deadline, too early", StepDeadline, nil),
		{name: "deadline", body: func(l *lab) proto.Message {
			l.wait(2 * time.Minute)
			c := steer(StepDeadline)
			c.Reason = "2 agents still come to it"
			return c
		}},
		{name: "deadline, hours later", body: func(l *lab) proto.Message {
			for range 2 {
				l.wait(59 * time.Minute)
				l.ok(&logpb.Canary{Node: "n2"})
			}
			return steer(StepDeadline)
		}},
		step("of another run", StepMaintain, func(c *logpb.NodeSteer) { c.RunId = "r0" }),
		step("nothing left, r0", StepNothingLeft, func(c *logpb.NodeSteer) { c.RunId = "r0" }),
		step("without a deadline", StepPrepareStop, func(c *logpb.NodeSteer) { c.WithinNs = 0 }),
		step("a deadline in years", StepPrepareStop, func(c *logpb.NodeSteer) { c.WithinNs = int64(MaxNodeWithin) + 1 }),
		step("--for -1", StepMaintain, func(c *logpb.NodeSteer) { c.ForNs = -1 }),
		step("nonsense", 99, nil),
		{name: "hello r1", body: func(*lab) proto.Message { return helloOf("r1") }},
		{name: "hello r1, elsewhere", body: func(*lab) proto.Message { h := helloOf("r1"); h.Addr = "elsewhere"; return h }},
		{name: "hello r2", body: func(*lab) proto.Message { return helloOf("r2") }},
		{name: "stopped", body: func(*lab) proto.Message { return &logpb.NodeDown{Id: "n1", RunId: "r1", Reason: "stopped", Left: true} }},
		{name: "silent", body: func(*lab) proto.Message { return &logpb.NodeDown{Id: "n1", RunId: "r1", Reason: "silent"} }},
		{name: "silent r0", body: func(*lab) proto.Message { return &logpb.NodeDown{Id: "n1", RunId: "r0", Reason: "silent"} }},
	}
	golden(t, "nodestates.table", cross(t, func(t *testing.T) *lab { return newLab(t) }, nodeScenes(), events, lookNode))
}

// Down follows from every state: at the index of the configuration that takes the
// node out, with one alert, once, however often it is said.
func TestDownFromEveryState(t *testing.T) {
	for _, sc := range nodeScenes()[1:] {
		for name, gone := range map[string]func(l *lab){
			"taken out": func(l *lab) { l.index++; l.m.Members(l.index, []NodeID{"n2"}) },
			"silent":    func(l *lab) { l.do(&logpb.NodeDown{Id: "n1", RunId: "r1", Reason: "silent"}) },
			"stopped":   func(l *lab) { l.do(&logpb.NodeDown{Id: "n1", RunId: "r1", Reason: "stopped", Left: true}) },
		} {
			l := newLab(t)
			sc.make(l)
			was := l.state().Node("n1").State
			gone(l)
			index := l.index
			gone(l)
			n := l.state().Node("n1")
			if n.State != NodeDown || n.Until != 0 || n.For != 0 || was != NodeDown && n.Index != index {
				t.Errorf("%s, %s: %+v at %d", sc.name, name, n, index)
			}
			alerts := 0
			for _, a := range l.state().Alerts() {
				alerts += int(a.Count)
			}
			if alerts != 1 {
				t.Errorf("%s, %s: %d alerts were raised", sc.name, name, alerts)
			}
			if err := l.m.Check(); err != nil {
				t.Errorf("%s, %s: %v", sc.name, name, err)
			}
		}
	}
}

// An older run's hello that comes late ends no preparation of the newer one.
func TestOldHelloEndsNoPreparation(t *testing.T) {
	for _, sc := range nodeScenes()[1:8] {
		l := newLab(t)
		first := helloOf("r0")
		first.StartedUnixNs = 10
		l.ok(first)
		l.ok(&logpb.NodeDown{Id: "n1", RunId: "r0", Reason: "silent"})
		second := helloOf("r1")
		second.StartedUnixNs = 20
		l.ok(second)
		sc.make(l)
		l.ok(second) // the scene's own hello does not say when it began
		l.rejected(first)
		if n := l.state().Node("n1"); n.RunID != "r1" || n.State == NodeDown {
			t.Errorf("%s: it is %+v", sc.name, n)
		}
	}
}
