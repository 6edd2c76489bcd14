package fsm

import (
	"strings"
	"testing"
	"time"

	"google.golang.org/protobuf/proto"

	"lifeboat/fsm/logpb"
)

// The tests of this file are named after the rule they hold: reading the world, time and definitions.

func TestS18PowerReasons(t *testing.T) {
	for reason, want := range map[Reason]struct {
		step   Step
		cause  Cause
		wanted bool
	}{
		ReasonCrashed:      {Scheduled, CauseCrash, true},
		ReasonNone:         {Scheduled, CauseCrash, true},
		ReasonShutdown:     {0, 0, false},
		ReasonDestroyed:    {0, 0, false},
		ReasonSaved:        {0, 0, false},
		ReasonMigrated:     {Investigating, CauseMigrated, true},
		ReasonSelfFenced:   {Scheduled, CauseSelfFenced, true},
		ReasonHostShutdown: {Scheduled, CauseHostShutdown, true},
		ReasonHostReboot:   {Scheduled, CauseHostReboot, true},
	} {
		l := fleet(t, 2, 1)
		l.report("h1", said{vm: 1, power: PowerOff, reason: reason, inc: inc(1)})
		v := l.vm(1)
		if v.Wanted != want.wanted || l.step(1) != want.step || v.Work != 0 && l.work(1).Cause != want.cause {
			t.Errorf("off (%s): wanted %v, step %s", reason, v.Wanted, l.step(1))
		}
		l = fleet(t, 2, 1)
		l.ok(&logpb.VMProtect{Vm: idBytes(1), Protect: &logpb.Protection{On: true, Ha: "always"}})
		l.report("h1", said{vm: 1, power: PowerOff, reason: reason, inc: inc(1)})
		if !l.vm(1).Wanted || l.vm(1).Work == 0 {
			t.Errorf("always, off (%s): wanted %v, step %s", reason, l.vm(1).Wanted, l.step(1))
		}
	}
	for reason, alert := range map[Reason]bool{ReasonUserPaused: false, ReasonIOError: true, ReasonCrashed: false} {
		l := fleet(t, 2, 1)
		l.report("h1", said{vm: 1, power: PowerOn, reason: reason, inc: inc(1)})
		if a := l.state().OpenAlert(VMAlert(l.vm(1), "I/O error")); (a != nil) != alert || l.vm(1).Work != 0 {
			t.Errorf("on (%s): alert %v, step %s", reason, a, l.step(1))
		}
	}
}

// A VM that has left, or is missing, is started nowhere before everybody was
// asked, whatever becomes of the host it was on.
func TestS18LostFromSight(t *testing.T) {
	left := said{vm: 1, power: PowerOff, reason: ReasonMigrated, inc: inc(1)}
	for name, lose := range map[string]func(l *lab){
		"migrated": func(l *lab) { l.report("h1", left) },
		"missing":  func(l *lab) { l.missing("h1", 1) },
		"absent":   func(l *lab) { l.report("h1", said{vm: 1, power: PowerReportMissing, inc: inc(1)}) },
		"after a fence that failed": func(l *lab) {
			l.ok(l.hostDown("h1"))
			l.register("h1", "b1", left)
		},
		"missing after a fence that failed": func(l *lab) {
			l.ok(l.hostDown("h1"))
			l.register("h1", "b1")
			l.missing("h1", 1)
		},
		"right after a start": func(l *lab) {
			l.report("h1", crashed(1))
			l.ok(l.place(1, "h1"))
			l.report("h1", said{vm: 1, power: PowerOff, reason: ReasonMigrated, inc: inc(2)})
		},
		"libvirt forgot why": func(l *lab) {
			l.report("h1", left)
			l.report("h1", said{vm: 1, power: PowerOff, reason: ReasonNone, inc: inc(1)})
		},
		"libvirt does not answer": func(l *lab) {
			l.report("h1", left)
			l.report("h1", said{vm: 1, power: PowerUnknown, inc: inc(1)})
		},
	} {
		for then, f := range map[string]func(l *lab){
			"":             func(*lab) {},
			"host dead":    func(l *lab) { l.kill("h1") },
			"rebooted":     func(l *lab) { l.register("h1", "b2") },
			"dead, back":   func(l *lab) { l.kill("h1"); l.register("h1", "b1") },
			"down, back":   func(l *lab) { l.ok(l.hostDown("h1")); l.register("h1", "b1", left) },
			"down, reboot": func(l *lab) { l.ok(l.hostDown("h1")); l.register("h1", "b2") },
		} {
			t.Run(name+"/"+then, func(t *testing.T) {
				l := fleet(t, 3, 1)
				lose(l)
				f(l)
				if l.step(1) != Investigating || l.state().CountOpenWork() != 1 {
					t.Fatalf("not looked for\n%s", essence(l.state()))
				}
				for _, h := range []HostID{"h1", "h2", "h3"} {
					l.do(l.place(1, h))
				}
				if l.step(1) != Investigating {
					t.Fatalf("started\n%s", essence(l.state()))
				}
				l.report("h2", said{vm: 1, power: PowerOn})
				if l.owner(1) != "h2" || l.vm(1).Work != 0 {
					t.Fatalf("not adopted\n%s", essence(l.state()))
				}
			})
		}
	}
}

func TestS18ReleasedStartsAgain(t *testing.T) {
	left := said{vm: 1, power: PowerOff, reason: ReasonMigrated, inc: inc(1)}
	released := func(l *lab) *logpb.VMReleased {
		return &logpb.VMReleased{Vm: idBytes(1), Work: uint64(l.vm(1).Work), Reason: "nobody has it"}
	}
	l := fleet(t, 2, 1)
	l.report("h1", left)
	work := l.vm(1).Work
	l.ok(released(l))
	for range 3 { // libvirt goes on saying why it is off
		l.report("h1", left)
		l.missing("h1", 1)
	}
	if l.step(1) != Scheduled || l.vm(1).Work != work {
		t.Fatalf("looked for again and again\n%s", essence(l.state()))
	}
	l.ok(l.place(1, "h1"))
	if l.step(1) != Restarting {
		t.Fatalf("%s", essence(l.state()))
	}

	l = fleet(t, 2, 1)
	l.report("h1", left)
	l.kill("h1")
	l.ok(released(l))
	l.ok(l.place(1, "h2"))
	if l.owner(1) != "h2" {
		t.Fatalf("its owner is proven dead, everybody was asked, and still it waits\n%s", essence(l.state()))
	}
}

func TestS19DisconnectedWithoutInvestigation(t *testing.T) {
	for name, f := range map[string]func(l *lab){
		"runs a protected VM":     func(*lab) {},
		"one may run":             func(l *lab) { l.report("h1", said{vm: 1, power: PowerUnknown, inc: inc(1)}) },
		"has an order to start":   func(l *lab) { l.report("h1", crashed(1)); l.ok(l.place(1, "h1")) },
		"owns one that is off":    nil,
		"its only VM is nobody's": nil,
	} {
		t.Run(name, func(t *testing.T) {
			l := fleet(t, 2, 1)
			if f != nil {
				f(l)
			} else if strings.HasSuffix(name, "off") {
				l.report("h1", said{vm: 1, power: PowerOff, reason: ReasonShutdown, inc: inc(1)})
			} else {
				l.ok(&logpb.VMProtect{Vm: idBytes(1)})
			}
			l.maintain("h1", 3)
			c := &logpb.HostLeave{Host: "h1", Epoch: 1, Reason: "silent"}
			if f != nil {
				l.rejected(c)
				l.ok(l.hostDown("h1")) // fails over like any other
				if l.step(1) != Fencing {
					t.Fatalf("%s", essence(l.state()))
				}
			} else {
				l.ok(c)
			}
		})
	}
	l := fleet(t, 2, 1)
	l.maintain("h2", 2)
	l.kill("h1", "h2")
	if l.owner(1) != "h1" || l.step(1) != Scheduled {
		t.Fatal("a Disabled host was given a VM")
	}
}

func TestS20UnknownNeverBecomesDead(t *testing.T) {
	l := fleet(t, 2, 1)
	l.ok(l.suspect("h1"))
	l.ok(&logpb.HostEvidence{Host: "h1", Epoch: 1, Evidence: []*logpb.Evidence{{Source: "x", Verdict: 0}, {Source: "y", Verdict: 1}}})
	for range 20 {
		l.wait(50 * time.Minute)
		l.ok(&logpb.Canary{})
	}
	if h := l.host("h1"); h.Status != Alert || h.Evidence[0].Verdict != Unknown || h.Evidence[1].Verdict != Alive {
		t.Fatalf("%s", essence(l.state()))
	}
}

func TestS21ApplyClampsTime(t *testing.T) {
	l := newLab(t)
	at := func(ns int64, body proto.Message) string {
		c := command(body)
		c.TimeUnixNs = ns
		return l.m.Apply([]Entry{l.entry(c)})[0].Rejected
	}
	start := l.state().Time
	for _, back := range []int64{start - int64(time.Second), 1, -1, -1 << 63} {
		if no := at(back, &logpb.NodeHello{Id: "n1", RunId: "r"}); no != "" || l.state().Time != start {
			t.Fatalf("a clock behind: %q, time %d", no, l.state().Time)
		}
	}
	hour := int64(time.Hour)
	if no := at(start+hour, &logpb.Canary{}); no != "" || l.state().Time != start+hour {
		t.Fatalf("one hour ahead: %q", no)
	}
	for _, far := range []int64{start + 2*hour + 1, 1 << 61, 1<<62 + 1, 1<<63 - 1} {
		before := essence(l.state())
		if no := at(far, &logpb.NodeHello{Id: "n2", RunId: "r"}); no == "" || l.state().Time != start+hour || essence(l.state()) != before {
			t.Fatalf("%d ahead: %q, time %d", far-start, no, l.state().Time)
		}
	}
	// A cluster that was off for a day is not stuck for ever.
	if no := at(start+24*hour, &logpb.AcceptTime{}); no != "" || l.state().Time != start+24*hour {
		t.Fatalf("accepted by the operator: %q", no)
	}
	if no := at(start+24*hour+1, &logpb.NodeHello{Id: "n2", RunId: "r"}); no != "" {
		t.Fatalf("and after that: %q", no)
	}
	if no := at(1<<62+1, &logpb.AcceptTime{}); no == "" {
		t.Fatal("a year that no clock shows was accepted")
	}
	if err := l.m.Check(); err != nil {
		t.Fatal(err)
	}
}

func TestS21TheFirstTimeIsAnyTimeButNonsense(t *testing.T) {
	m := NewMachine()
	c := command(&logpb.ClusterInit{ClusterId: "c"})
	c.TimeUnixNs = 1<<63 - 1
	if no := m.Apply([]Entry{{Index: 1, Term: 1, Data: encode(t, c)}})[0].Rejected; no == "" {
		t.Fatal("the end of time was accepted: no later command would be")
	}
	c.TimeUnixNs = epochStart
	if no := m.Apply([]Entry{{Index: 2, Term: 1, Data: encode(t, c)}})[0].Rejected; no != "" {
		t.Fatal(no)
	}
}

func TestS23InvalidPlacementLeavesTheVMScheduled(t *testing.T) {
	for name, f := range map[string]func(l *lab){
		"unknown host":        nil,
		"host is not Up":      func(l *lab) { l.ok(l.suspect("h2")) },
		"host is disabled":    func(l *lab) { l.maintain("h2", 2) },
		"host in maintenance": func(l *lab) { l.maintain("h2", 3) },
		"host left":           func(l *lab) { l.ok(&logpb.HostLeave{Host: "h2", Epoch: 1, Session: "s1"}) },
		"host is Down":        func(l *lab) { l.ok(l.hostDown("h2")) },
		"disarmed meanwhile":  func(l *lab) { l.ok(&logpb.Arm{}) },
		"local disk": func(l *lab) {
			x := spec(1)
			x.Local = []string{"disk /var/lib/a.img"}
			l.ok(&logpb.VMSpecs{Host: "h1", Epoch: 1, Specs: []*logpb.Spec{x}})
		},
	} {
		t.Run(name, func(t *testing.T) {
			l := fleet(t, 2, 1)
			l.ok(l.hostDown("h1"))
			target := "h2"
			if f == nil {
				target = "h9"
			} else if name != "local disk" {
				f(l)
			} else {
				l = fleet(t, 2, 1)
				f(l)
				l.ok(l.hostDown("h1"))
			}
			l.ok(l.fenced("h1", ProofPower, target))
			w := l.work(1)
			if w == nil || w.Step != Scheduled || !strings.Contains(w.Reason, "refused") || l.vm(1).Incarnation != inc(1) || !l.vm(1).Gone {
				t.Fatalf("%+v\n%s", w, essence(l.state()))
			}
		})
	}
	t.Run("no definition", func(t *testing.T) {
		l := fleet(t, 2, 0)
		l.report("h1", said{vm: 1, power: PowerOn})
		l.ok(&logpb.VMProtect{Vm: idBytes(1), Protect: &logpb.Protection{On: true}})
		l.kill("h1", "h2")
		if l.step(1) != Scheduled || l.owner(1) != "h1" {
			t.Fatalf("%s", essence(l.state()))
		}
	})
}

func TestS23OnlyProtectedDefinitionsAreKept(t *testing.T) {
	l := fleet(t, 1, 1)
	x := spec(1)
	x.Problem, x.Definition = "broken XML", nil
	l.ok(&logpb.VMSpecs{Host: "h1", Epoch: 1, Specs: []*logpb.Spec{x}})
	if v := l.vm(1); string(v.Spec.Definition()) != "<domain/>" || v.Spec.Problem == "" {
		t.Fatalf("a definition that cannot be read replaced the last good one: %+v", v.Spec)
	}
	x = spec(1)
	x.Protect = nil
	l.ok(&logpb.VMSpecs{Host: "h1", Epoch: 1, Specs: []*logpb.Spec{x}})
	if v := l.vm(1); v.Protected() || v.Spec.Definition() != nil {
		t.Fatalf("%+v", v)
	}
}

func TestS24ConfirmDeadNeedsForceWhileAnythingIsHeard(t *testing.T) {
	l := fleet(t, 2, 1)
	l.rejected(l.fenced("h1", ProofOperator))
	l.ok(l.hostDown("h1"))
	l.ok(l.attempt("h1", 1))
	l.register("h1", "b1")
	l.rejected(l.fenced("h1", ProofOperator)) // Connecting
	c := l.fenced("h1", ProofOperator)
	c.Force = true
	l.ok(c)
	if !l.vm(1).Gone {
		t.Fatal("forced, and nothing happened")
	}
}
