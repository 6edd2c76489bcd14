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
