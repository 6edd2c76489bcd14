package fsm

import "testing"

// What a guest's agent said holds while the guest runs, and is told when it changes.
func TestGuestAnswers(t *testing.T) {
	on := said{vm: 1, power: PowerOn, reason: ReasonBooted, inc: inc(1)}
	answers := on
	answers.answers = true
	for name, c := range map[string]struct {
		then  func(l *lab)
		keeps bool
	}{
		"it runs on":          {func(l *lab) { l.report("h1", answers) }, true},
		"its host is silent":  {func(l *lab) { l.ok(l.suspect("h1")) }, true},
		"the agent is new":    {func(l *lab) { l.report("h1", on) }, true},
		"it crashes":          {func(l *lab) { l.report("h1", said{vm: 1, power: PowerOff, reason: ReasonCrashed, inc: inc(1)}) }, false},
		"nobody knows of it":  {func(l *lab) { l.report("h1", said{vm: 1, power: PowerUnknown, inc: inc(1)}) }, false},
		"another incarnation": {func(l *lab) { l.report("h1", said{vm: 1, power: PowerOn, reason: ReasonBooted, inc: 0}) }, true},
	} {
		l := movers(t, 2, 1)
		l.report("h1", on)
		if v := l.vm(1); v.Answers || !l.state().GuestChanges(v, PowerOn, v.Incarnation, true) || l.state().GuestChanges(v, PowerOn, v.Incarnation, false) {
			t.Fatalf("%s: before, %+v", name, v)
		}
		l.report("h1", answers)
		if v := l.vm(1); !v.Answers || l.state().GuestChanges(v, PowerOn, v.Incarnation, true) {
			t.Fatalf("%s: when it answers, %+v", name, v)
		}
		c.then(l)
		if v := l.vm(1); v.Answers != c.keeps {
			t.Errorf("%s: answers %v, want %v", name, v.Answers, c.keeps)
		}
	}
}

// Before level 4 nobody asked.
func TestGuestAnswersOfOlderLevels(t *testing.T) {
	l := fleet(t, 2, 1)
	x := booted(1)
	x.answers = true
	l.report("h1", x)
	if v := l.vm(1); v.Answers || l.state().GuestChanges(v, PowerOn, v.Incarnation, true) {
		t.Errorf("%+v", v)
	}
}

// Of a VM that is not ours only the bare entry is committed: its end unsays the answer,
// too, and nothing else does.
func TestGuestAnswersOfAnUnprotectedVM(t *testing.T) {
	for power, keeps := range map[Power]bool{PowerOn: true, PowerOff: false, PowerUnknown: false} {
		l := movers(t, 2, 0)
		x := said{vm: 1, power: PowerOn, reason: ReasonBooted, answers: true}
		l.report("h1", x) // it is new
		l.report("h1", x)
		if v := l.vm(1); !v.Answers || v.Protected() || v.Incarnation != 0 {
			t.Fatalf("%+v", v)
		}
		r := l.reportOf("h1", said{vm: 1, power: power, reason: ReasonUserPaused})
		r.Reports[0].Vms.Details = nil
		l.ok(r)
		if v := l.vm(1); v.Answers != keeps {
			t.Errorf("%s: answers %v, want %v", power, v.Answers, keeps)
		}
	}
}
