package fsm

import (
	"testing"

	"lifeboat/fsm/logpb"
)

func (l *lab) control(n int, action uint32) *logpb.VMControl {
	return &logpb.VMControl{Vm: idBytes(n), Action: action}
}

// A VM on a host that cannot be told is wanted off all the same: the host is
// told when it is heard again, or it is off because the host is dead.
func TestStopOnASilentHost(t *testing.T) {
	silent := func(t *testing.T) *lab {
		l := fleet(t, 2, 1)
		l.ok(l.hostDown("h1"))
		l.ok(l.control(1, VMStop))
		v := l.vm(1)
		if w := l.state().Work(v.Work); v.Wanted || w == nil || w.Type != WorkCheckStop || w.Step != Stopping {
			t.Fatalf("wanted %v, work %+v", v.Wanted, w)
		}
		return l
	}
	t.Run("the host is back", func(t *testing.T) {
		l := silent(t)
		l.register("h1", "b1")
		h := l.state().Host("h1")
		o := h.order(OrderStop, testVM(1))
		if o == nil || o.Epoch != h.Epoch {
			t.Fatalf("the host is back and is not told: %+v", o)
		}
		l.report("h1", said{vm: 1, power: PowerOn, inc: inc(1)})
		if l.vm(1).Work == 0 {
			t.Fatal("it still runs, and the work has ended")
		}
		l.report("h1", said{vm: 1, power: PowerOff, reason: ReasonOrdered, inc: inc(1)})
		if v := l.vm(1); v.Work != 0 || v.Wanted || l.state().Host("h1").order(OrderStop, testVM(1)) != nil {
			t.Errorf("it is off, and yet: %+v", v)
		}
	})
	t.Run("the host is dead", func(t *testing.T) {
		l := silent(t)
		l.kill("h1")
		if v := l.vm(1); v.Work != 0 || v.Wanted || !v.Gone {
			t.Errorf("its host is dead, and yet: %+v", v)
		}
	})
	t.Run("it is wanted on again when the host is dead", func(t *testing.T) {
		l := silent(t)
		l.kill("h1")
		l.ok(l.control(1, VMStart))
		if v := l.vm(1); v.Work == 0 || !v.Wanted {
			t.Errorf("a start opens no work: %+v", v)
		}
	})
}

// Whoever cannot wait for the guest takes over the stop that is under way, with
// a new order: the agent begins anew, without a grace.
func TestForceStopTakesOver(t *testing.T) {
	l := fleet(t, 2, 1)
	l.ok(l.control(1, VMStop))
	first := l.state().Host("h1").order(OrderStop, testVM(1)).ID
	l.rejected(l.control(1, VMStop))
	l.ok(l.control(1, VMForceStop))
	w := l.state().Work(l.vm(1).Work)
	if o := l.state().Host("h1").order(OrderStop, testVM(1)); w == nil || w.Type != WorkForceStop || o == nil || o.ID == first || o.Work != w.ID {
		t.Fatalf("work %+v, order %+v", w, o)
	}
	l.rejected(l.control(1, VMForceStop))
	l.report("h1", said{vm: 1, power: PowerOff, reason: ReasonOrdered, inc: inc(1)})
	if v := l.vm(1); v.Work != 0 || v.Wanted {
		t.Errorf("it is off, and yet: %+v", v)
	}
}

// A start that may be under way is not stopped half-way, by force or not (S4).
func TestForceStopWaitsForAStart(t *testing.T) {
	l := fleet(t, 2, 1)
	l.kill("h1")
	l.ok(l.place(1, "h2"))
	l.rejected(l.control(1, VMForceStop))
}

// What hangs has another name when it ends: nobody is to look for an alert of
// the old one, or of the new one, for ever.
func TestStuckAlertEndsWithARename(t *testing.T) {
	l := fleet(t, 2, 1)
	l.report("h1", booted(1))
	l.ok(l.control(1, VMStop))
	l.ok(&logpb.WorkUpdate{Work: uint64(l.vm(1).Work), Action: WorkStuck, Reason: "nothing is heard of it"})
	if !l.state().Stuck(l.vm(1)) {
		t.Fatal("no alert")
	}
	r := l.reportOf("h1", said{vm: 1, power: PowerOff, reason: ReasonOrdered, inc: inc(1)})
	r.Reports[0].Vms.Details[0].Name = "web1"
	l.ok(r)
	if v := l.vm(1); v.Name != "web1" || v.Work != 0 {
		t.Fatalf("%+v", v)
	}
	for k := range l.state().raised.all() {
		t.Errorf("%v is still open", k)
	}
}

// A VM that is being stopped is not wanted on because it is protected again meanwhile.
func TestProtectedAgainWhileItStops(t *testing.T) {
	l := fleet(t, 2, 1)
	l.ok(&logpb.FeatureRaise{Level: LevelPolicy})
	l.report("h1", booted(1))
	l.ok(l.control(1, VMForceStop))
	bare := spec(1)
	bare.Protect = nil
	l.ok(&logpb.VMSpecs{Host: "h1", Epoch: l.host("h1").Epoch, Specs: []*logpb.Spec{bare}})
	l.ok(&logpb.VMProtect{Vm: idBytes(1), Protect: &logpb.Protection{On: true, Ha: "always"}})
	if w := l.work(1); w == nil || !w.Type.Stops() || l.vm(1).Wanted {
		t.Fatalf("%+v, work %+v", l.vm(1), w)
	}
	l.report("h1", said{vm: 1, power: PowerOff, reason: ReasonOrdered, inc: inc(1)})
	if v := l.vm(1); v.Power != PowerOff || v.Wanted || v.Work != 0 {
		t.Fatalf("%+v", v)
	}
}
