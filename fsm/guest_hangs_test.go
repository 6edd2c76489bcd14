package fsm

import (
	"strings"
	"testing"
	"time"

	"google.golang.org/protobuf/proto"

	"lifeboat/fsm/logpb"
)

// storm is more work of another VM than is kept once it has ended.
func (l *lab) storm() {
	l.t.Helper()
	l.ok(&logpb.PolicySet{Settings: []*logpb.Setting{{Key: "work_keep", Value: "100"}}})
	for range 120 {
		l.report("h1", said{vm: 2, power: PowerOff, reason: ReasonCrashed, inc: l.vm(2).Incarnation})
		l.ok(l.place(2, "h1"))
		l.report("h1", said{vm: 2, power: PowerOn, reason: ReasonBooted, inc: l.vm(2).Incarnation})
	}
	for _, w := range l.state().AllWork() {
		if w.VM == testVM(1) && w.Step.Ended() {
			l.t.Fatalf("work %d is kept", w.ID)
		}
	}
}

// passes lets time pass that the log knows of.
func (l *lab) passes(d time.Duration) {
	l.t.Helper()
	for range 2 { // a jump of an hour is refused
		l.wait(d / 2)
		l.ok(&logpb.Canary{Node: "n1", Term: 1, Seq: uint64(l.state().Time)})
	}
}

// stormy is a watched VM beside another one on h1.
func stormy(t *testing.T) *lab {
	l := movers(t, 3, 2)
	l.ok(setVM(1, "guest_health", "both"))
	return l
}

// restarted is a restart of VM 1 where it is.
func (l *lab) restarted() {
	l.t.Helper()
	at := l.owner(1)
	l.ok(l.hangs(GuestSilent))
	l.stopped()
	l.runsAgain(at)
}

// Work that is forgotten takes with it neither how often a VM was restarted nor that it was
// given up.
func TestGuestOutlastsItsWork(t *testing.T) {
	l := stormy(t)
	l.restarted()
	l.storm()
	if n, tried := l.state().HungTimes(l.vm(1)), l.state().TriedGuest(l.vm(1), "h1"); n != 1 || len(tried) != 1 || tried[0].Count != 2 {
		t.Fatalf("it hung %d times, %v", n, tried)
	}
	l.ok(setVM(1, "max_restart", "0", "max_relocate", "0"))
	l.ok(l.hangs(GuestSilent))
	if !l.state().GaveUpOnGuest(l.vm(1)) {
		t.Fatal("it is not given up")
	}
	l.storm()
	if v := l.vm(1); !l.state().GaveUpOnGuest(v) || l.state().ActsOnGuest(v, l.host("h1")) {
		t.Fatalf("it is forgotten that it was given up: %+v", v.Hangs)
	}
	l.ok(l.hangs(GuestWatchdog))
	if l.vm(1).Work != 0 {
		t.Error("it is restarted all the same")
	}
}

// A host that is silent for a moment on the way gives the work another cause, and a restart
// is one nevertheless.
func TestGuestRestartWithAnotherCause(t *testing.T) {
	l := stormy(t)
	l.ok(l.hangs(GuestSilent))
	l.ok(l.suspect("h1"))
	l.ok(l.hostDown("h1"))
	l.comesBack("h1", "b1", said{vm: 1, power: PowerOn, reason: ReasonBooted, inc: inc(1)}, said{vm: 2, power: PowerOn, reason: ReasonBooted, inc: inc(1)})
	if w := l.work(1); w == nil || w.Cause.Hang() || w.Step != Stopping {
		t.Fatalf("%+v", w)
	}
	l.stopped()
	l.runsAgain("h1")
	if n, tried := l.state().HungTimes(l.vm(1)), l.state().TriedGuest(l.vm(1), "h1"); n != 1 || tried[0].Count != 2 {
		t.Errorf("it hung %d times, %v", n, tried)
	}
}

// What is remembered ends with what it is about.
func TestGuestHangsAreForgotten(t *testing.T) {
	resolve := func(l *lab) {
		l.ok(&logpb.AlertControl{Action: alertResolve, Ids: []uint64{uint64(l.state().GuestAlert(l.vm(1)).ID)}})
	}
	clear := func(l *lab) { l.ok(&logpb.VMControl{Vm: idBytes(1), Action: VMClear}) }
	gaveUp := func(l *lab) { l.ok(setVM(1, "max_restart", "0", "max_relocate", "0")); l.ok(l.hangs(GuestSilent)) }
	heldBack := func(l *lab) { l.ok(l.hangs(GuestLeft)) }
	for name, c := range map[string]struct {
		first, then func(l *lab)
		times       int
		settled     bool
	}{
		"within the window":            {func(*lab) {}, func(l *lab) { l.passes(59 * time.Minute) }, 1, false},
		"the window is over":           {func(*lab) {}, func(l *lab) { l.passes(61 * time.Minute) }, 0, false},
		"given up, and resolved":       {gaveUp, resolve, 0, true},
		"given up, and cleared":        {gaveUp, clear, 0, true},
		"given up, and it answers":     {gaveUp, func(l *lab) { l.ok(l.hangs(GuestWell)) }, 0, true},
		"given up, and nobody watches": {gaveUp, func(l *lab) { l.ok(setVM(1, "guest_health", "none")) }, 0, true},
		"held back, and resolved":      {heldBack, resolve, 1, true},
		"held back, and cleared":       {heldBack, clear, 0, true},
		"held back, and it answers":    {heldBack, func(l *lab) { l.ok(l.hangs(GuestWell)) }, 1, true},
		"well all the time":            {func(*lab) {}, func(l *lab) { l.ok(l.hangs(GuestWell)) }, 1, false},
		"a restart that is cancelled": {func(l *lab) { l.ok(l.hangs(GuestSilent)); l.stopped() }, func(l *lab) {
			l.ok(&logpb.WorkUpdate{Work: uint64(l.vm(1).Work), Action: WorkCancel})
		}, 0, false},
	} {
		t.Run(name, func(t *testing.T) {
			l := stormy(t)
			l.restarted()
			c.first(l)
			c.then(l)
			v := l.vm(1)
			if n := l.state().HungTimes(v); n != c.times {
				t.Errorf("it hung %d times, want %d", n, c.times)
			}
			if l.state().GaveUpOnGuest(v) || l.state().GuestAlert(v) != nil {
				t.Error("it is given up, or an alert is open")
			}
			if settled := v.Hangs.Settled == l.state().Time; settled != c.settled {
				t.Errorf("settled: %v, want %v", settled, c.settled)
			}
		})
	}
}

// It goes where the VM goes, and is in a snapshot; those of older levels have none.
func TestGuestHangsAreKept(t *testing.T) {
	l := stormy(t)
	l.restarted()
	l.ok(l.hangs(GuestLeft))
	l.ok(l.hangs(GuestWell))
	was := l.vm(1).Hangs
	l.kill("h1")
	l.ok(l.place(1, "h2"))
	if l.owner(1) != "h2" || l.vm(1).Hangs != was {
		t.Fatalf("on %s, %+v", l.owner(1), l.vm(1).Hangs)
	}
	r := vmRecord(l.vm(1))
	v := vmFromLog(newShapes(), r)
	if !proto.Equal(vmRecord(v), r) || v.Hangs == nil || v.Hangs.Count != 1 || len(v.Hangs.Tried) != 1 || v.Hangs.Settled == 0 {
		t.Errorf("a snapshot makes %+v of it", v.Hangs)
	}
	r.Hangs = nil
	if v := vmFromLog(newShapes(), r); v.Hangs != nil || l.state().GaveUpOnGuest(v) {
		t.Errorf("an older snapshot makes %+v of it", v.Hangs)
	}
}

// What cannot be is found.
func TestGuestHangsAreChecked(t *testing.T) {
	for name, c := range map[string]struct {
		hangs Hangs
		want  string
	}{
		"given up in silence": {Hangs{GaveUp: 1}, "no alert says so"},
		"work of nobody":      {Hangs{Work: 1 << 60}, "never minted"},
		"the future":          {Hangs{Last: 1 << 62}, "lies in the future"},
		"twice":               {Hangs{Tried: []Tried{{"h1", 1}, {"h1", 1}}}, "said twice"},
		"none":                {Hangs{Tried: []Tried{{"h1", 0}}}, "is none"},
	} {
		l := stormy(t)
		s := l.state().clone()
		h := edit(s.Host("h1"))
		v := *h.VM(testVM(1))
		v.setHangs(&c.hangs)
		i, _ := h.find(v.ID)
		h.VMs = append([]VM(nil), h.VMs...)
		h.VMs[i] = v
		s.hosts.set(h.ID, h)
		if err := s.Check(); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v", name, err)
		}
	}
}
