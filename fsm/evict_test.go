package fsm

import (
	"strings"
	"testing"
	"time"

	"lifeboat/fsm/logpb"
)

// stubborn is a VM that runs on h1, which owns it, and on h2, which is told to
// destroy its copy.
func stubborn(t *testing.T) *lab {
	l := twice(t)
	l.wait(time.Second)
	l.ok(l.copy(1, "h2", CopyDestroy))
	if k := l.host("h2").Copy(testVM(1)); k == nil || k.Told != l.now {
		t.Fatalf("copies %+v", l.host("h2").Copies)
	}
	return l
}

// S6: the other copy is destroyed, or its host fenced.
func TestS6HostThatDoesNotDestroyItsCopyIsFenced(t *testing.T) {
	evicted := func(t *testing.T) *lab {
		l := stubborn(t)
		l.report("h2", byHand(1))
		l.ok(l.copy(1, "h2", CopyFence))
		l.ok(l.copy(1, "h2", CopyFence)) // the second one is no news
		h := l.host("h2")
		if h.Status != Down || h.HA != HAFencing || !h.Evicted || !strings.Contains(h.Reason, "nas:/vms/vm.img") || h.Copy(testVM(1)) == nil {
			t.Fatalf("%+v", h)
		}
		if l.owner(1) != "h1" || l.work(1) != nil {
			t.Fatal("the owner's was touched")
		}
		return l
	}
	again := func(l *lab, boot string, vms ...said) string { return l.do(registration("h2", boot, vms...)) }
	t.Run("it is not let in again meanwhile", func(t *testing.T) {
		l := evicted(t)
		for name, vms := range map[string][]said{"": nil, "running": {byHand(1)}, "unknown": {{vm: 1}}, "refusing too little": {{vm: 1, power: PowerStarting}}} {
			if no := again(l, "b1", vms...); !strings.Contains(no, "is being fenced") {
				t.Fatalf("%s: %q", name, no)
			}
		}
		l.ok(l.fenced("h2", ProofPower))
		if h := l.host("h2"); h.Evicted || len(h.Copies) != 0 || l.state().OpenAlert(copyAlert(l.vm(1), "h2")) != nil {
			t.Fatalf("%+v", h)
		}
		if no := again(l, "b1"); no != "" {
			t.Fatal(no)
		}
	})
	t.Run("it has destroyed the copy", func(t *testing.T) {
		l := evicted(t)
		if no := again(l, "b1", said{vm: 1, power: PowerOff, refused: inc(0)}); no != "" {
			t.Fatal(no)
		}
		if h := l.host("h2"); h.Evicted || h.Status != Up || len(h.Orders)+len(h.Copies) != 0 {
			t.Fatalf("%+v", h)
		}
	})
	t.Run("it has booted", func(t *testing.T) {
		l := evicted(t)
		if no := again(l, "b2"); no != "" || l.host("h2").Evicted || l.host("h2").Status != Up {
			t.Fatalf("%q, %+v", no, l.host("h2"))
		}
	})
	t.Run("it is removed", func(t *testing.T) {
		l := evicted(t)
		l.ok(&logpb.HostControl{Host: "h2", Action: HostRemove})
	})
	t.Run("it is in a snapshot", func(t *testing.T) {
		h := evicted(t).host("h2")
		n := hostFromLog(newShapes(), hostRecord(h).GetHost())
		if !n.Evicted || *n.Copy(testVM(1)) != *h.Copy(testVM(1)) {
			t.Errorf("%+v", n)
		}
	})
}

// S6: whatever casts doubt on it saves the host.
func TestS6HostThatMayDestroyItsCopyIsNotFenced(t *testing.T) {
	for name, doubt := range map[string]func(l *lab){
		"it was not told":          nil,
		"it is gone":               func(l *lab) { l.report("h2", said{vm: 1, power: PowerOff, refused: inc(0)}) },
		"it is not listed":         func(l *lab) { l.missing("h2", 1) },
		"the owner is silent":      func(l *lab) { l.ok(l.suspect("h1")) },
		"the owner's has ended":    func(l *lab) { l.report("h1", said{vm: 1, power: PowerOff, reason: ReasonMigrated, inc: inc(1)}) },
		"the owner's may be going": func(l *lab) { l.report("h1", said{vm: 1, power: PowerOn, inc: inc(1)}) },
		"it is not protected":      func(l *lab) { l.ok(&logpb.VMProtect{Vm: idBytes(1)}) },
		"HA is disarmed":           func(l *lab) { l.ok(&logpb.Arm{}) },
		"nothing proves it dead":   func(l *lab) { l.ok(&logpb.HostFenceLevels{Host: "h2"}) },
	} {
		t.Run(name, func(t *testing.T) {
			l := twice(t)
			if doubt != nil {
				l = stubborn(t)
				doubt(l)
			}
			l.do(l.copy(1, "h2", CopyFence))
			if h := l.host("h2"); h.Status != Up || h.Evicted {
				t.Errorf("%+v", h)
			}
		})
	}
}

// Nobody destroys anything while HA is disarmed (S22): that time does not count.
func TestS6TimeToDestroyBeginsWhenArmed(t *testing.T) {
	l := stubborn(t)
	l.ok(&logpb.Arm{})
	l.wait(time.Hour / 2)
	l.ok(&logpb.Arm{Armed: true})
	if k := l.host("h2").Copy(testVM(1)); k.Told != l.now {
		t.Errorf("told %s ago", time.Duration(l.now-k.Told))
	}
}
