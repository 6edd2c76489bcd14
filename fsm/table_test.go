package fsm

import (
	goflag "flag"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"google.golang.org/protobuf/proto"

	"lifeboat/fsm/logpb"
)

var update = goflag.Bool("update", false, "write testdata/ anew; read the diff before you commit it")

// golden compares text with a file of testdata, or writes it.
func golden(t *testing.T, name, got string) {
	t.Helper()
	path := filepath.Join("testdata", name)
	if *update {
		if err := os.WriteFile(path, []byte(got), 0o644); err != nil {
			t.Fatal(err)
		}
		return
	}
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(strings.Split(string(want), "\n"), strings.Split(got, "\n")); diff != "" {
		t.Fatalf("%s has changed; run `go test ./fsm -update` if that is meant:\n%s", name, diff)
	}
}

type scene struct {
	name string
	make func(l *lab)
}

type happening struct {
	name string
	body func(l *lab) proto.Message
	// echo: the same again is another event, and not a late copy of this one.
	again bool
}

// cross plays every happening in every scene, twice: nothing may panic, break
// an invariant or change anything the second time.
func cross(t *testing.T, start func(t *testing.T) *lab, scenes []scene, events []happening, look func(l *lab) string) string {
	var out strings.Builder
	for _, sc := range scenes {
		base := start(t)
		sc.make(base)
		fmt.Fprintf(&out, "%s: %s\n", sc.name, look(base))
		for _, ev := range events {
			l := start(t)
			sc.make(l)
			before, saw := essence(l.state()), look(l)
			body := ev.body(l)
			if body == nil {
				continue
			}
			no := l.do(body)
			after := essence(l.state())
			switch {
			case no != "" && after != before:
				t.Errorf("%s + %s was rejected (%s) and changed\n%s\nto\n%s", sc.name, ev.name, no, before, after)
			case no != "":
				fmt.Fprintf(&out, "  %-22s ! %s\n", ev.name, no)
			case look(l) != saw:
				fmt.Fprintf(&out, "  %-22s %s\n", ev.name, look(l))
			case after != before:
				fmt.Fprintf(&out, "  %-22s (noted)\n", ev.name)
			default:
				fmt.Fprintf(&out, "  %-22s -\n", ev.name)
			}
			if ev.again {
				continue
			}
			events := l.state().events.len()
			l.do(body)
			if got := essence(l.state()); got != after || l.state().events.len() != events {
				t.Errorf("%s + %s: the echo changed\n%s\nto\n%s", sc.name, ev.name, after, got)
			}
		}
	}
	return out.String()
}

func (l *lab) maintain(id HostID, action uint32) {
	l.ok(&logpb.HostControl{Host: string(id), Action: action})
}

func (l *lab) attempt(id HostID, number uint32) *logpb.FenceAttempt {
	return &logpb.FenceAttempt{Host: string(id), Epoch: l.host(id).Epoch, Attempt: number, DeadlineNs: int64(10 * time.Second), Executor: "n1 in term 1"}
}

func hostScenes() []scene {
	down := func(l *lab) { l.ok(l.suspect("h1")); l.ok(l.hostDown("h1")) }
	held := func(l *lab) { down(l); l.ok(l.attempt("h1", 1)); l.wait(time.Second); l.register("h1", "b1") }
	return []scene{
		{"Up", func(*lab) {}},
		{"Up, Disabled", func(l *lab) { l.maintain("h1", 2) }},
		{"Up, Maintenance", func(l *lab) { l.maintain("h1", 3) }},
		{"Up, no VM", func(l *lab) { l.report("h1", said{vm: 1, power: PowerOff, reason: ReasonShutdown, inc: 1<<40 + 1}) }},
		{"Alert, Suspect", func(l *lab) { l.ok(l.suspect("h1")) }},
		{"Alert, Checking", func(l *lab) {
			l.ok(l.suspect("h1"))
			l.ok(&logpb.HostEvidence{Host: "h1", Epoch: 1, Evidence: []*logpb.Evidence{{Source: "bmc", Detail: "no answer"}}})
		}},
		{"Alert, Degraded", func(l *lab) {
			l.ok(l.suspect("h1"))
			l.ok(&logpb.HostUnproven{Host: "h1", Epoch: 1, Reason: "seen alive"})
		}},
		{"Disconnected", func(l *lab) { l.ok(&logpb.HostLeave{Host: "h1", Epoch: 1, Session: "s1", Reason: "stopped"}) }},
		{"Down, Fencing", down},
		{"Down, attempt open", func(l *lab) { down(l); l.ok(l.attempt("h1", 1)) }},
		{"Down, Fenced", func(l *lab) { down(l); l.ok(l.fenced("h1", ProofPower)) }},
		{"Connecting", held},
		{"Connecting, silent", func(l *lab) { held(l); l.ok(&logpb.HostUnproven{Host: "h1", Epoch: 2, Reason: "silent again"}) }},
		{"Connecting, over", func(l *lab) { held(l); l.wait(time.Minute) }},
		{"Removed", func(l *lab) {
			l.ok(&logpb.VMProtect{Vm: idBytes(1), Protect: &logpb.Protection{}})
			down(l)
			l.maintain("h1", 5)
		}},
	}
}

func hostEvents() []happening {
	ev := func(name string, f func(l *lab) proto.Message) happening { return happening{name: name, body: f} }
	fenced := func(k ProofKind, force bool) func(l *lab) proto.Message {
		return func(l *lab) proto.Message { c := l.fenced("h1", k); c.Force = force; return c }
	}
	control := func(a uint32) func(l *lab) proto.Message {
		return func(*lab) proto.Message { return &logpb.HostControl{Host: "h1", Action: a} }
	}
	on := said{vm: 1, power: PowerOn, reason: ReasonBooted, inc: NewIncarnation(1, 1)}
	return []happening{
		{"register", func(*lab) proto.Message { return registration("h1", "b1", on) }, true},
		{"register, rebooted", func(*lab) proto.Message { return registration("h1", "b2") }, true},
		{"register, other machine", func(*lab) proto.Message {
			r := registration("h1", "b1")
			r.MachineId = "x"
			return r
		}, true},
		ev("report on", func(l *lab) proto.Message { return l.reportOf("h1", on) }),
		ev("suspect", func(l *lab) proto.Message { return l.suspect("h1") }),
		ev("evidence", func(l *lab) proto.Message {
			return &logpb.HostEvidence{Host: "h1", Epoch: l.host("h1").Epoch, Evidence: []*logpb.Evidence{{Source: "peer h2", Verdict: 2, Detail: "no answer"}}}
		}),
		ev("seen", func(l *lab) proto.Message { return &logpb.HostSeen{Host: "h1", Epoch: l.host("h1").Epoch} }),
		ev("unproven", func(l *lab) proto.Message {
			return &logpb.HostUnproven{Host: "h1", Epoch: l.host("h1").Epoch, Reason: "seen alive"}
		}),
		ev("down", func(l *lab) proto.Message { return l.hostDown("h1") }),
		ev("attempt 1", func(l *lab) proto.Message { return l.attempt("h1", 1) }),
		ev("attempt 2", func(l *lab) proto.Message { return l.attempt("h1", 2) }),
		ev("attempt failed", func(l *lab) proto.Message {
			return &logpb.FenceResult{Host: "h1", Epoch: l.host("h1").Epoch, Attempt: 1, Failure: "timeout"}
		}),
		ev("old attempt failed", func(l *lab) proto.Message {
			return &logpb.FenceResult{Host: "h1", Epoch: l.host("h1").Epoch - 1, Attempt: 1, Failure: "timeout"}
		}),
		ev("fenced, no proof", fenced(0, false)),
		ev("fenced by power", fenced(ProofPower, false)),
		ev("fenced by lease", fenced(ProofLease, false)),
		ev("confirm-dead", fenced(ProofOperator, false)),
		ev("confirm-dead --force", fenced(ProofOperator, true)),
		ev("leave", func(l *lab) proto.Message {
			return &logpb.HostLeave{Host: "h1", Epoch: l.host("h1").Epoch, Session: "s1", Reason: "stopped"}
		}),
		ev("leave, other session", func(l *lab) proto.Message {
			return &logpb.HostLeave{Host: "h1", Epoch: l.host("h1").Epoch, Session: "s0", Reason: "stopped"}
		}),
		ev("look no further", func(l *lab) proto.Message {
			return &logpb.HostLeave{Host: "h1", Epoch: l.host("h1").Epoch, Reason: "silent"}
		}),
		ev("lease", func(l *lab) proto.Message { return leaseOf(l.host("h1")) }),
		ev("lease withdrawn", func(l *lab) proto.Message { c := leaseOf(l.host("h1")); c.Armed = false; return c }),
		ev("enable", control(1)), ev("disable", control(2)), ev("maintenance", control(3)), ev("maintenance off", control(4)),
		ev("remove", control(5)), ev("nonsense", control(9)),
	}
}

func lookHost(l *lab) string {
	h := l.host("h1")
	s := fmt.Sprintf("%s/%s %s", h.Status, h.HA, h.Resource)
	if h.Lease != nil {
		s += " lease"
	}
	if h.Attempt != nil {
		s += fmt.Sprintf(" attempt %d", h.Attempt.Number)
		if h.Attempt.Open {
			s += " open"
		}
	}
	if v, _ := l.state().VM(testVM(1)); v != nil {
		s += fmt.Sprintf("; vm1 %s", v.Power)
		if v.Gone {
			s += " gone"
		}
		if w := l.work(1); w != nil {
			s += fmt.Sprintf(" %s %s", w.Type, w.Step)
		}
	}
	return s
}

func TestHostTable(t *testing.T) {
	start := func(t *testing.T) *lab { return fleet(t, 2, 1) }
	golden(t, "hosts.table", cross(t, start, hostScenes(), hostEvents(), lookHost))
}

// Commands of another epoch are late, whatever state the host is in: they are
// rejected with a reason and change nothing (S4, S10).
func TestHostTableOfAnotherEpoch(t *testing.T) {
	for _, sc := range hostScenes() {
		for _, ev := range hostEvents() {
			if ev.name == "old attempt failed" {
				continue
			}
			for _, off := range []uint64{1, ^uint64(0), ^uint64(1)} {
				l := fleet(t, 2, 1)
				sc.make(l)
				body := ev.body(l)
				if r, ok := body.(*logpb.HostReports); ok {
					r.Reports[0].Epoch += off
				} else if f := body.ProtoReflect().Descriptor().Fields().ByName("epoch"); f != nil {
					m := body.ProtoReflect()
					set := m.Get(f).Uint() + off
					if _, result := body.(*logpb.FenceResult); result && set+1 == l.host("h1").Epoch {
						continue // the end of an attempt of the epoch before counts
					}
					m.Set(f, protoUint(set))
				} else {
					continue
				}
				l.rejected(body)
			}
		}
	}
}

func TestNodeTable(t *testing.T) {
	hello := func(run string) happening {
		return happening{name: "hello " + run, body: func(*lab) proto.Message { return &logpb.NodeHello{Id: "n1", RunId: run, Version: "1"} }}
	}
	gone := func(run string, left bool) happening {
		return happening{name: fmt.Sprintf("down %s left=%v", run, left), body: func(*lab) proto.Message {
			return &logpb.NodeDown{Id: "n1", RunId: run, Reason: "silent", Left: left}
		}}
	}
	control := func(g Going) happening {
		return happening{name: fmt.Sprintf("control %d", g), body: func(*lab) proto.Message { return &logpb.NodeControl{Id: "n1", Action: uint32(g)} }, again: true}
	}
	expel := func(l *lab) {
		l.index++
		l.m.Members(l.index, []NodeID{"n2"})
	}
	look := func(l *lab) string {
		n := l.state().Node("n1")
		if n == nil {
			return "unknown"
		}
		s := fmt.Sprintf("%s run %s", n.State, n.RunID)
		if n.Going != 0 {
			s += fmt.Sprintf(", going %d left=%v", n.Going, n.Left)
		}
		if a := l.state().OpenAlert(AlertKey{AlertNode, "n1", "down"}); a != nil {
			s += fmt.Sprintf(", alert (%s)", a.Severity)
		}
		return s
	}
	scenes := []scene{
		{"unknown", func(*lab) {}},
		{"Up", func(l *lab) { l.ok(hello("r1").body(l)) }},
		{"Down", func(l *lab) { l.ok(hello("r1").body(l)); l.ok(gone("r1", false).body(l)) }},
		{"left", func(l *lab) {
			l.ok(hello("r1").body(l))
			l.index++
			l.m.Members(l.index, []NodeID{"n2"})
		}},
		{"restarted", func(l *lab) { l.ok(hello("r1").body(l)); l.ok(hello("r2").body(l)) }},
		{"about to leave", func(l *lab) { l.ok(hello("r1").body(l)); l.ok(control(GoingLeave).body(l)) }},
		{"left for good", func(l *lab) { l.ok(hello("r1").body(l)); l.ok(control(GoingLeave).body(l)); expel(l); expel(l) }},
		{"removed", func(l *lab) {
			l.ok(hello("r1").body(l))
			l.ok(gone("r1", false).body(l))
			l.ok(control(GoingRemove).body(l))
			expel(l)
		}},
	}
	events := []happening{hello("r1"), hello("r2"), control(GoingLeave), control(GoingRemove), control(7), gone("r1", false), gone("r1", true), gone("r2", false),
		{name: "hello without id", body: func(*lab) proto.Message { return &logpb.NodeHello{} }}}
	golden(t, "nodes.table", cross(t, func(t *testing.T) *lab { return newLab(t) }, scenes, events, look))
}

func TestAlertTable(t *testing.T) {
	alert := func(l *lab) *AlertRecord {
		for _, a := range l.state().Alerts() {
			if a.Key == (AlertKey{AlertHost, "h1", "down"}) {
				return a
			}
		}
		return nil
	}
	act := func(name string, a uint32) happening {
		return happening{name: name, body: func(l *lab) proto.Message {
			if alert(l) == nil {
				return &logpb.AlertUpdate{Id: 1 << 30, Action: a}
			}
			return &logpb.AlertUpdate{Id: uint64(alert(l).ID), Action: a}
		}}
	}
	look := func(l *lab) string {
		a := alert(l)
		if a == nil {
			return "none"
		}
		return fmt.Sprintf("%s ×%d, %d open", a.State, a.Count, l.state().CountOpenAlerts())
	}
	down := func(l *lab) { l.ok(l.hostDown("h1")) }
	again := func(l *lab) { l.register("h1", "b1"); down(l) }
	scenes := []scene{
		{"none", func(*lab) {}},
		{"open", down},
		{"acknowledged", func(l *lab) { down(l); l.ok(act("", 1).body(l)) }},
		{"resolved", func(l *lab) { down(l); l.ok(act("", 2).body(l)) }},
		{"resolved by return", func(l *lab) { down(l); l.register("h1", "b1") }},
		{"open again", func(l *lab) { down(l); again(l) }},
	}
	events := []happening{act("acknowledge", 1), act("resolve", 2), act("nonsense", 7),
		{name: "host down", body: func(l *lab) proto.Message { return l.hostDown("h1") }},
		{name: "host back", body: func(*lab) proto.Message { return registration("h1", "b1") }, again: true}}
	golden(t, "alerts.table", cross(t, func(t *testing.T) *lab { return fleet(t, 2, 0) }, scenes, events, look))
}
