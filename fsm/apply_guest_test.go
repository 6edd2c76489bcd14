package fsm

import (
	"strings"
	"testing"
	"time"

	"lifeboat/fsm/logpb"
)

// watched is a fleet with one protected VM on h1 whose guest is watched both ways.
func watched(t testing.TB, hosts int) *lab {
	t.Helper()
	l := movers(t, hosts, 1)
	l.ok(setVM(1, "guest_health", "both"))
	return l
}

func (l *lab) hangs(action uint32) *logpb.VMGuest {
	return &logpb.VMGuest{Vm: idBytes(1), Incarnation: uint64(l.vm(1).Incarnation), Action: action, Reason: "its agent has been silent for 1m0s"}
}

// stopped is its host's word that it has done what it was told.
func (l *lab) stopped() {
	l.t.Helper()
	l.report(l.owner(1), said{vm: 1, power: PowerOff, reason: ReasonOrdered, inc: l.vm(1).Incarnation})
}

// runsAgain starts the VM on a host, which reports that it runs.
func (l *lab) runsAgain(on HostID) {
	l.t.Helper()
	l.ok(l.place(1, on))
	l.report(on, said{vm: 1, power: PowerOn, reason: ReasonBooted, inc: l.vm(1).Incarnation})
}

// A guest that hangs is stopped and started where it is: the first time, and again as
// often as max_restart allows. Then its host gives it up and another one has it. When
// that is used up as well, it is left as it is, with an alert, and its host's death is
// still acted on.
func TestGuestThatHangs(t *testing.T) {
	l := watched(t, 3)
	restart := func(action uint32, cause Cause, tried uint32) {
		t.Helper()
		at, was := l.owner(1), l.vm(1).Incarnation
		l.ok(l.hangs(action))
		w := l.work(1)
		if w == nil || w.Type != WorkHA || w.Step != Stopping || w.Cause != cause || w.TriedOn(at) != tried || l.host(at).order(OrderStop, testVM(1)) == nil {
			t.Fatalf("work %+v, orders %v", w, l.host(at).Orders)
		}
		if l.state().OpenAlert(VMAlert(l.vm(1), "lost")) == nil {
			t.Fatal("nobody is told")
		}
		again := l.hangs(action)
		l.ok(again)
		l.report(at, said{vm: 1, power: PowerOn, reason: ReasonBooted, inc: was}) // not yet
		if l.work(1).ID != w.ID || l.work(1).Step != Stopping || len(l.host(at).Orders) != 1 {
			t.Fatalf("the same incident once more: %+v", l.work(1))
		}
		l.stopped()
		if v := l.vm(1); l.step(1) != Scheduled || v.Gone || v.Incarnation != was || l.owner(1) != at || len(l.host(at).Orders) != 0 {
			t.Fatalf("it is off: %s, %+v", l.step(1), v)
		}
	}
	restart(GuestSilent, CauseGuestSilent, 1)
	l.ok(l.place(1, "h2")) // S2: h1 has not given it up
	if l.owner(1) != "h1" || l.step(1) != Scheduled {
		t.Fatalf("it is started on h2 without a proof: %s on %s", l.step(1), l.owner(1))
	}
	l.runsAgain("h1")
	if v := l.vm(1); v.Work != 0 || v.Incarnation != inc(2) || v.Answers || l.state().OpenAlert(VMAlert(v, "lost")) != nil {
		t.Fatalf("it runs again: %+v", v)
	}
	l.wait(50 * time.Minute)
	restart(GuestWatchdog, CauseWatchdog, 2)
	l.ok(&logpb.WorkUpdate{Work: uint64(l.work(1).ID), Action: WorkWithdraw, Reason: "tried out"})
	l.report("h1", said{vm: 1, power: PowerOff, refused: inc(2)})
	if !l.vm(1).Gone {
		t.Fatal("h1 has given it up")
	}
	l.runsAgain("h2")
	restart(GuestSilent, CauseGuestSilent, 1)
	l.runsAgain("h2")

	l.ok(l.hangs(GuestSilent))
	v := l.vm(1)
	if v.Work != 0 || v.Error != "" || v.Power != PowerOn || l.state().GuestAlert(v) == nil || !l.state().GaveUpOnGuest(v) || len(l.host("h2").Orders) != 0 {
		t.Fatalf("it is left as it is: %+v", v)
	}
	l.ok(l.hangs(GuestSilent))
	if v := l.vm(1); v.Work != 0 {
		t.Fatalf("it is given up, and restarted: %+v", l.work(1))
	}
	l.ok(&logpb.VMControl{Vm: idBytes(1), Action: VMClear})
	if v := l.vm(1); l.state().GuestAlert(v) != nil || !l.state().ActsOnGuest(v, l.host("h2")) {
		t.Fatal("it is not cleared")
	}
	l.ok(l.hangs(GuestSilent))
	if w := l.work(1); w == nil || w.TriedOn("h2") != 1 {
		t.Fatalf("it begins anew: %+v", w)
	}
	l.kill("h2")
	if v, w := l.vm(1), l.work(1); !v.Gone || w == nil || w.Step != Scheduled {
		t.Fatalf("its host is dead: %+v %+v", v, w)
	}
}

// What is given up ends with the guest's end, with its word, or when nobody watches it.
func TestGuestThatWasGivenUp(t *testing.T) {
	for name, end := range map[string]func(l *lab){
		"it answers":        func(l *lab) { l.ok(l.hangs(GuestWell)) },
		"it is off":         func(l *lab) { l.report("h1", said{vm: 1, power: PowerOff, reason: ReasonShutdown, inc: inc(1)}) },
		"nobody watches it": func(l *lab) { l.ok(setVM(1, "guest_health", "none")) },
		"nobody cares":      func(l *lab) { l.ok(&logpb.VMProtect{Vm: idBytes(1)}) },
		"its host is dead":  func(l *lab) { l.kill("h1"); l.ok(l.place(1, "h2")) },
	} {
		l := watched(t, 2)
		l.ok(setVM(1, "max_restart", "0", "max_relocate", "0"))
		l.ok(l.hangs(GuestSilent))
		if a := l.state().GuestAlert(l.vm(1)); !l.state().GaveUpOnGuest(l.vm(1)) || !a.Key.indispensable() {
			t.Fatalf("%s: it may not be restarted at all, and is not given up for good", name)
		}
		end(l)
		if l.state().GuestAlert(l.vm(1)) != nil {
			t.Errorf("%s, and the alert is open", name)
		}
	}
}

// Restarts that are far apart do not count together.
func TestGuestRestartsAreForgotten(t *testing.T) {
	l := watched(t, 2)
	for range 5 {
		l.ok(l.hangs(GuestSilent))
		if w := l.work(1); w == nil || w.TriedOn("h1") != 1 {
			t.Fatalf("%+v", w)
		}
		l.stopped()
		l.runsAgain("h1")
		l.wait(time.Hour)
	}
}

// Nobody touches a guest that somebody else is at work on, or wants otherwise.
func TestGuestIsLeftAlone(t *testing.T) {
	wrong := func(l *lab) *logpb.VMGuest {
		c := l.hangs(GuestSilent)
		c.Incarnation++
		return c
	}
	for name, c := range map[string]struct {
		first func(l *lab)
		say   func(l *lab) *logpb.VMGuest
	}{
		"disarmed":            {func(l *lab) { l.ok(&logpb.Arm{}) }, nil},
		"as if unmanaged":     {func(l *lab) { l.ok(&logpb.Arm{Ignore: true}) }, nil},
		"maintenance":         {func(l *lab) { l.ok(&logpb.HostControl{Host: "h1", Action: HostMaintenanceOn}) }, nil},
		"disabled":            {func(l *lab) { l.ok(&logpb.HostControl{Host: "h1", Action: HostDisable}) }, nil},
		"its host goes down":  {func(l *lab) { l.ok(&logpb.HostStopping{Host: "h1", Epoch: l.host("h1").Epoch, Reboot: true}) }, nil},
		"its host is silent":  {func(l *lab) { l.ok(l.suspect("h1")) }, nil},
		"it migrates":         {func(l *lab) { l.ok(migrate(1, "h2")) }, nil},
		"it relocates":        {func(l *lab) { l.ok(relocate(1, "h2")) }, nil},
		"an operator's stop":  {func(l *lab) { l.ok(&logpb.VMControl{Vm: idBytes(1), Action: VMStop}) }, nil},
		"it is off":           {func(l *lab) { l.report("h1", said{vm: 1, power: PowerOff, reason: ReasonShutdown, inc: inc(1)}) }, nil},
		"nobody knows":        {func(l *lab) { l.report("h1", said{vm: 1, power: PowerUnknown, inc: inc(1)}) }, nil},
		"paused by a user":    {func(l *lab) { l.report("h1", said{vm: 1, power: PowerOn, reason: ReasonUserPaused, inc: inc(1)}) }, nil},
		"an I/O error":        {func(l *lab) { l.report("h1", said{vm: 1, power: PowerOn, reason: ReasonIOError, inc: inc(1)}) }, nil},
		"unprotected":         {func(l *lab) { l.ok(&logpb.VMProtect{Vm: idBytes(1)}) }, nil},
		"not watched":         {func(l *lab) { l.ok(setVM(1, "guest_health", "none")) }, nil},
		"watched otherwise":   {func(l *lab) { l.ok(setVM(1, "guest_health", "watchdog")) }, nil},
		"a second copy":       {func(l *lab) { l.report("h2", said{vm: 1, power: PowerOn, reason: ReasonBooted}) }, nil},
		"another incarnation": {func(l *lab) {}, wrong},
		"an unknown action":   {func(l *lab) {}, func(l *lab) *logpb.VMGuest { return l.hangs(9) }},
	} {
		t.Run(name, func(t *testing.T) {
			l := watched(t, 3)
			c.first(l)
			say := l.hangs(GuestSilent)
			if c.say != nil {
				say = c.say(l)
			}
			work, orders := l.vm(1).Work, len(l.host("h1").Orders)
			l.do(say)
			for _, w := range l.state().AllWork() {
				if w.Cause.Hang() {
					t.Errorf("work %+v", w)
				}
			}
			if l.vm(1).Work != work || len(l.host("h1").Orders) != orders {
				t.Errorf("it is touched: %+v", l.host("h1").Orders)
			}
		})
	}
}

// Whatever comes between the order to stop a VM and its end, the VM is not forgotten
// and not started twice.
func TestGuestRestartIsInterrupted(t *testing.T) {
	on := said{vm: 1, power: PowerOn, reason: ReasonBooted, inc: inc(1)}
	for name, c := range map[string]struct {
		then func(l *lab)
		want string
	}{
		"its host dies":               {func(l *lab) { l.kill("h1") }, "h1 1.1 PowerOff gone, HA Scheduled"},
		"its host comes back":         {func(l *lab) { l.ok(l.hostDown("h1")); l.comesBack("h1", "b1", on) }, "h1 1.1 PowerOn, HA Stopping, stop"},
		"its host comes back without": {func(l *lab) { l.ok(l.hostDown("h1")); l.comesBack("h1", "b1"); l.missing("h1", 1) }, "h1 1.1 PowerReportMissing, HA Investigating"},
		"its host reboots":            {func(l *lab) { l.comesBack("h1", "b2") }, "h1 1.1 PowerOff gone, HA Scheduled"},
		"it has left":                 {func(l *lab) { l.report("h1", left(1)) }, "h1 1.1 PowerOff, HA Investigating"},
		"it is missing":               {func(l *lab) { l.missing("h1", 1) }, "h1 1.1 PowerReportMissing, HA Investigating"},
		"it crashes":                  {func(l *lab) { l.report("h1", crashed(1)) }, "h1 1.1 PowerOff, HA Scheduled"},
		"its host gives it up":        {func(l *lab) { l.report("h1", said{vm: 1, power: PowerOff, refused: inc(1)}) }, "h1 1.1 PowerOff gone, HA Scheduled"},
		"it is not protected any more": {func(l *lab) {
			s := spec(1)
			s.Protect = nil
			l.ok(&logpb.VMSpecs{Host: "h1", Epoch: l.host("h1").Epoch, Specs: []*logpb.Spec{s}})
			l.stopped()
		}, "h1 1.1 PowerOff, HA Scheduled"}, // by an operator's word it is
		"HA is disarmed": {func(l *lab) { l.ok(&logpb.Arm{}); l.stopped(); l.ok(l.place(1, "h1")) }, "h1 1.1 PowerOff, HA Scheduled"},
	} {
		t.Run(name, func(t *testing.T) {
			l := watched(t, 2)
			l.ok(l.hangs(GuestSilent))
			c.then(l)
			if got := l.outcome(); got != c.want {
				t.Errorf("%s\nwant %s", got, c.want)
			}
		})
	}
}

// The settings of a VM are checked, and are in a snapshot.
func TestGuestSettings(t *testing.T) {
	l := watched(t, 1)
	before := l.host("h1").Assigned
	l.ok(setVM(1, "guest_health", "ping", "guest_timeout", "30s", "guest_grace", "5m"))
	if g := l.vm(1).Guest(); g != (GuestHealth{WatchPing, 30 * time.Second, 5 * time.Minute}) || l.host("h1").Assigned == before {
		t.Fatalf("%+v, or its host is not told", g)
	}
	if v := vmFromLog(newShapes(), vmRecord(l.vm(1))); v.Guest() != l.vm(1).Guest() {
		t.Errorf("a snapshot makes %+v of it", v.Guest())
	}
	for _, c := range [][2]string{{"guest_health", "often"}, {"guest_timeout", "14s"}, {"guest_timeout", "soon"}, {"guest_grace", "25h"}} {
		if no := l.rejected(setVM(1, c[0], c[1])); !strings.HasPrefix(no, c[0]) {
			t.Errorf("%v: %q", c, no)
		}
	}
	if g := movers(t, 1, 1).vm(1).Guest(); g != (GuestHealth{0, DefaultGuestTimeout, DefaultGuestGrace}) {
		t.Errorf("by default %+v", g)
	}
}

// Before level 4 there is no such command.
func TestGuestOfOlderLevels(t *testing.T) {
	l := fleet(t, 1, 1)
	l.rejected(&logpb.VMGuest{Vm: idBytes(1), Incarnation: uint64(l.vm(1).Incarnation), Action: GuestSilent})
	if n := LevelOf(&logpb.Command{Body: &logpb.Command_VmGuest{VmGuest: &logpb.VMGuest{}}}); n != LevelPolicy {
		t.Errorf("it is of level %d", n)
	}
}
