package fsm

import (
	"strings"
	"testing"
)

// S6: a host that was proven dead and comes back with its guests running is an
// incident, although what is to be destroyed there was ordered long before.
func TestS6HostThatWasNotDead(t *testing.T) {
	l := fleet(t, 2, 1)
	l.report("h1", booted(1))
	l.ok(l.hostDown("h1"))
	l.ok(l.fenced("h1", ProofOperator, "h2"))
	v := l.vm(1)
	l.report("h2", said{vm: 1, power: PowerOn, reason: ReasonBooted, inc: v.Incarnation})
	old := said{vm: 1, power: PowerOn, reason: ReasonBooted, inc: inc(1)}
	l.register("h1", l.host("h1").BootID, old)
	a := l.state().OpenAlert(copyAlert(l.vm(1), "h1"))
	if a == nil || a.Severity != Critical || !strings.Contains(a.Text, "was taken to be dead and was not") {
		t.Fatalf("alert %+v", a)
	}
	if o := l.host("h1").Orders; len(o) != 1 || o[0].Kind != OrderDestroy || o[0].Incarnation != inc(1) {
		t.Fatalf("orders %+v", o)
	}
	l.report("h1", said{vm: 1, power: PowerOff, refused: inc(1)})
	if h := l.host("h1"); len(h.Orders)+len(h.Copies) != 0 || l.state().OpenAlert(copyAlert(l.vm(1), "h1")) != nil {
		t.Errorf("orders %+v, copies %+v", h.Orders, h.Copies)
	}
	if v := l.vm(1); l.owner(1) != "h2" || v.Power != PowerOn {
		t.Error("the newer incarnation was touched")
	}
}

// One that stopped its guests itself, or booted, has kept its word.
func TestS6HostThatKeptItsWord(t *testing.T) {
	for name, back := range map[string]struct {
		boot string
		vm   said
	}{
		"its lease ran out": {"", said{vm: 1, power: PowerOff, reason: ReasonSelfFenced, inc: inc(1)}},
		"it has booted":     {"b2", said{vm: 1, power: PowerOff, inc: inc(1)}},
	} {
		t.Run(name, func(t *testing.T) {
			l := fleet(t, 2, 1)
			l.report("h1", booted(1))
			l.ok(l.hostDown("h1"))
			l.ok(l.fenced("h1", ProofLease, "h2"))
			if back.boot == "" {
				back.boot = l.host("h1").BootID
			}
			l.register("h1", back.boot, back.vm)
			if l.state().OpenAlert(copyAlert(l.vm(1), "h1")) != nil {
				t.Error("it is said to have run twice")
			}
		})
	}
}

// S6: a host that was not dead may not list all it runs when it registers, or
// not know of a VM yet whether it runs. It has run twice all the same.
func TestS6HostThatWasNotDeadAndDidNotSayAllAtOnce(t *testing.T) {
	old := said{vm: 1, power: PowerOn, reason: ReasonBooted, inc: inc(1)}
	for name, first := range map[string][]said{
		"not listed": nil,
		"unknown":    {{vm: 1, inc: inc(1)}},
	} {
		t.Run(name, func(t *testing.T) {
			l := fleet(t, 2, 1)
			l.report("h1", booted(1))
			l.ok(l.hostDown("h1"))
			l.ok(l.fenced("h1", ProofOperator, "h2"))
			l.report("h2", said{vm: 1, power: PowerOn, reason: ReasonBooted, inc: l.vm(1).Incarnation})
			l.register("h1", "b1", first...)
			l.register("h1", "b1", first...) // its agent was started again
			alert := copyAlert(l.vm(1), "h1")
			if l.state().OpenAlert(alert) != nil {
				t.Fatal("it was not seen to run")
			}
			if !l.state().Changes(l.host("h1"), testVM(1), old.power, old.reason, old.inc, 0, 0) {
				t.Fatal("it is no news")
			}
			l.report("h1", old)
			if a := l.state().OpenAlert(alert); a == nil || !strings.Contains(a.Text, "was taken to be dead and was not") {
				t.Fatalf("alert %+v", a)
			}
			if l.state().Changes(l.host("h1"), testVM(1), old.power, old.reason, old.inc, 0, 0) {
				t.Fatal("it is news in every report")
			}
			l.report("h1", said{vm: 1, power: PowerOff, refused: inc(1)})
			if l.state().OpenAlert(alert) != nil {
				t.Error("the alert does not end")
			}
		})
	}
}

// What a host is told to destroy after its return has other causes, and one that
// has booted since is another story.
func TestS6HostThatWasNotDeadIsNotBlamedForAllTimes(t *testing.T) {
	back := func(t *testing.T) *lab {
		l := fleet(t, 2, 2)
		l.report("h1", booted(1), booted(2))
		l.ok(l.hostDown("h1"))
		l.ok(l.fenced("h1", ProofOperator, "h2"))
		return l
	}
	t.Run("it has booted", func(t *testing.T) {
		l := back(t)
		l.register("h1", "b1")
		l.register("h1", "b2")
		l.report("h1", booted(1))
		if l.state().OpenAlert(copyAlert(l.vm(1), "h1")) != nil {
			t.Error("it is said to have run twice")
		}
	})
	t.Run("it was told later", func(t *testing.T) {
		l := back(t)
		l.ok(l.place(2, "h2"))
		l.report("h2", said{vm: 2, power: PowerOn, reason: ReasonBooted, inc: l.vm(2).Incarnation})
		l.register("h1", "b1", said{vm: 2, power: PowerOff, refused: inc(1)})
		l.report("h2", said{vm: 2, power: PowerOff, reason: ReasonMigrated, inc: l.vm(2).Incarnation})
		l.report("h1", said{vm: 2, power: PowerOn, reason: ReasonBooted})
		if l.owner(2) != "h1" {
			t.Fatal("not adopted")
		}
		first := l.vm(2).Incarnation
		l.report("h1", said{vm: 2, power: PowerOff, reason: ReasonMigrated, inc: first})
		l.report("h2", said{vm: 2, power: PowerOff, refused: first - 1})
		l.report("h2", said{vm: 2, power: PowerOn, reason: ReasonBooted})
		if l.owner(2) != "h2" || l.host("h1").order(OrderDestroy, testVM(2)) == nil {
			t.Fatalf("owner %s", l.owner(2))
		}
		l.report("h1", said{vm: 2, power: PowerOn, reason: ReasonBooted, inc: first})
		if a := l.state().OpenAlert(copyAlert(l.vm(2), "h1")); a != nil {
			t.Errorf("a death is blamed: %s", a.Text)
		}
	})
}
