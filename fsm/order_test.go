package fsm

import (
	"bytes"
	"slices"
	"strings"
	"testing"
	"time"

	"lifeboat/fsm/logpb"
)

func setVM(n int, keysAndValues ...string) *logpb.VMSet {
	c := &logpb.VMSet{Vm: idBytes(n)}
	for i := 0; i < len(keysAndValues); i += 2 {
		c.Settings = append(c.Settings, &logpb.Setting{Key: keysAndValues[i], Value: keysAndValues[i+1]})
	}
	return c
}

func uuids(ns ...int) string {
	var out []string
	for _, n := range ns {
		out = append(out, testVM(n).String())
	}
	return strings.Join(out, ",")
}

func TestVMSet(t *testing.T) {
	l := policyFleet(t, 2, 4)
	l.ok(setVM(1, "priority", "high", "max_restart", "3", "depends_on", uuids(2, 3, 2), "gate", "30s", "gate_timeout", "2m"))
	v := l.vm(1)
	if p, o := v.HAPolicy(), v.Order(); p.Priority != PriorityHigh || *p.MaxRestart != 3 || p.HA != HARestart ||
		!slices.Equal(o.DependsOn, []VMID{testVM(2), testVM(3)}) || o.Gate != GateAfter || o.After != 30*time.Second || o.Timeout != 2*time.Minute || o.GateText() != "30s" {
		t.Errorf("policy %+v, order %+v", p, o)
	}
	l.ok(setVM(1, "gate", "order"))
	if o := l.vm(1).Order(); o.Gate != GateOrder || len(o.DependsOn) != 2 || o.Timeout != 2*time.Minute {
		t.Errorf("another key was changed too: %+v", o)
	}
	s, err := ReadState(bytes.NewReader(snapshotOf(t, l.state())))
	if err != nil {
		t.Fatal(err)
	}
	if diff := sameState(l.state(), s); diff != "" {
		t.Error(diff)
	}
	l.ok(setVM(1, "depends_on", "none"))
	if o := l.vm(1).Order(); len(o.DependsOn) != 0 {
		t.Errorf("order %+v", o)
	}
	if o := l.vm(4).Order(); o.Gate != GateRunning || o.Timeout != DefaultGateTimeout {
		t.Errorf("by default %+v", o)
	}
	// What its domain's metadata says does not undo it.
	l.ok(setVM(4, "priority", "highest"))
	x := spec(4)
	x.Protect = &logpb.Protection{On: true, Priority: "low"}
	l.ok(&logpb.VMSpecs{Host: "h1", Epoch: l.host("h1").Epoch, Specs: []*logpb.Spec{x}})
	if p := l.vm(4).HAPolicy(); p.Priority != PriorityHighest {
		t.Errorf("it is %s", p.Priority)
	}
}

func TestVMSetRefuses(t *testing.T) {
	l := policyFleet(t, 2, 4)
	l.ok(setVM(1, "depends_on", uuids(2)))
	l.ok(setVM(2, "depends_on", uuids(3)))
	for want, c := range map[string]*logpb.VMSet{
		"vm3 cannot wait for vm1, which waits for it: vm1 → vm2 → vm3": setVM(3, "depends_on", uuids(1)),
		"cannot wait for itself": setVM(3, "depends_on", uuids(3)),
		"there is no VM":         setVM(3, "depends_on", uuids(99)),
		"is not a UUID":          setVM(3, "depends_on", "vm1"),
		"must be order, running": setVM(3, "gate", "soon"),
		"must be a time between": setVM(3, "gate_timeout", "0s"),
		"must be restart":        setVM(3, "ha", "sometimes"),
		"must be lowest":         setVM(3, "priority", "urgent"),
		"must be a whole number": setVM(3, "max_relocate", "-1"),
		`no setting "colour"`:    setVM(3, "colour", "red"),
		"nothing is to be set":   setVM(3),
	} {
		if no := l.rejected(c); !strings.Contains(no, want) {
			t.Errorf("refused with %q, want %q", no, want)
		}
	}
	l.ok(&logpb.VMProtect{Vm: idBytes(4)})
	if no := l.rejected(setVM(4, "priority", "high")); !strings.Contains(no, "is not protected") {
		t.Error(no)
	}
}

// The time of a gate runs from the first time that it is waited for.
func TestGatedWork(t *testing.T) {
	l := policyFleet(t, 2, 2)
	l.report("h1", crashed(1))
	gate := func(reason string) {
		l.ok(&logpb.WorkUpdate{Work: uint64(l.work(1).ID), Action: WorkGated, Reason: reason})
	}
	gate("it waits for vm2")
	began := l.state().Time
	l.wait(time.Minute)
	gate("it waits for vm2, still")
	if w := l.work(1); w.Gated != began || w.Reason != "it waits for vm2, still" {
		t.Errorf("gated since %d, want %d: %s", w.Gated, began, w.Reason)
	}
	l.ok(l.place(1, "h1"))
	if w := l.work(1); w.Gated != 0 {
		t.Errorf("gated since %d", w.Gated)
	}
	before := essence(l.state())
	l.ok(&logpb.WorkUpdate{Work: uint64(l.work(1).ID), Action: WorkGated, Reason: "late"})
	if after := essence(l.state()); after != before {
		t.Errorf("a late word changed\n%s\nto\n%s", before, after)
	}
}

func TestCapacity(t *testing.T) {
	inv := &Inventory{CPUs: 16, MemoryBytes: 64 << 30}
	for text, want := range map[string]struct {
		cpus   uint32
		memory uint64
	}{
		"":                                   {0, 64 << 30},
		"cpu_overcommit=1":                   {16, 64 << 30},
		"cpu_overcommit=2.5 reserved_cpus=4": {30, 64 << 30},
		"reserved_memory=8GiB":               {0, 56 << 30},
		"memory_overcommit=1.5":              {0, 96 << 30},
		"reserved_memory=100GiB":             {0, 0},
		"reserved_cpus=100 cpu_overcommit=1": {1, 64 << 30},
	} {
		var set []Setting
		for _, x := range strings.Fields(text) {
			k, v, _ := strings.Cut(x, "=")
			set = append(set, Setting{k, v})
		}
		p, err := DefaultPolicy().With(set)
		if err != nil {
			t.Fatal(err)
		}
		if cpus, memory := p.Capacity(inv); cpus != want.cpus || memory != want.memory {
			t.Errorf("%s: %d CPUs, %d bytes", text, cpus, memory)
		}
	}
	for _, bad := range []Setting{{"cpu_overcommit", "-1"}, {"cpu_overcommit", "NaN"}, {"memory_overcommit", "0"}, {"reserved_memory", "8"}, {"reserved_memory", "9999999999GiB"}} {
		if _, err := DefaultPolicy().With([]Setting{bad}); err == nil {
			t.Errorf("%v is accepted", bad)
		}
	}
}
