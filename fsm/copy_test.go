package fsm

import (
	"strings"
	"testing"
	"time"

	"google.golang.org/protobuf/proto"

	"lifeboat/fsm/logpb"
)

func booted(n int) said { return said{vm: n, power: PowerOn, reason: ReasonBooted, inc: inc(1)} }

func byHand(n int) said { return said{vm: n, power: PowerOn, reason: ReasonBooted} }

func (l *lab) copy(n int, host HostID, action uint32) *logpb.VMCopy {
	return &logpb.VMCopy{Vm: idBytes(n), Incarnation: uint64(l.vm(n).Incarnation), Host: string(host), Epoch: l.host(host).Epoch,
		Action: action, Reason: "both write to nas:/vms/vm.img"}
}

// twice is a VM that runs on h1, which owns it, and on h2 by hand.
func twice(t *testing.T) *lab {
	l := fleet(t, 3, 1)
	l.report("h1", booted(1))
	l.report("h2", byHand(1))
	if c := l.host("h2").Copy(testVM(1)); c == nil || c.Since != l.now {
		t.Fatalf("copies %+v", l.host("h2").Copies)
	}
	if len(l.host("h2").Orders) != 0 {
		t.Fatal("it is destroyed before anybody has looked whether it is the only one")
	}
	return l
}

// S6: the newer incarnation wins, and only the other copy is destroyed.
func TestS6CopyByHandIsDestroyed(t *testing.T) {
	l := twice(t)
	l.ok(l.copy(1, "h2", CopyDestroy))
	l.ok(l.copy(1, "h2", CopyDestroy)) // the second one is no news
	if o := l.host("h2").Orders; len(o) != 1 || o[0].Kind != OrderDestroy || o[0].Incarnation >= l.vm(1).Incarnation {
		t.Fatalf("orders %+v", o)
	}
	if a := l.state().OpenAlert(copyAlert(l.vm(1), "h2")); a == nil || !strings.Contains(a.Text, "nas:/vms/vm.img") {
		t.Fatalf("alert %+v", a)
	}
	if len(l.host("h1").Orders) != 0 || l.work(1) != nil || l.owner(1) != "h1" {
		t.Fatalf("the owner's was touched: %s", essence(l.state()))
	}
	l.report("h2", byHand(1)) // not yet
	if len(l.host("h2").Orders) != 1 || len(l.host("h2").Copies) != 1 {
		t.Fatal("the order is gone before the copy is")
	}
	l.report("h2", said{vm: 1, power: PowerOff, refused: inc(0)})
	if h := l.host("h2"); len(h.Orders)+len(h.Copies) != 0 || l.state().OpenAlert(copyAlert(l.vm(1), "h2")) != nil {
		t.Fatalf("orders %+v, copies %+v", h.Orders, h.Copies)
	}
	if l.vm(1).Power != PowerOn || l.owner(1) != "h1" {
		t.Fatal("the owner's does not run any more")
	}
}

// S6: whatever casts doubt on "both run" saves the copy.
func TestS6CopyThatMayBeTheOnlyOne(t *testing.T) {
	for name, doubt := range map[string]func(l *lab){
		"the owner is paused, as at the end of a migration": func(l *lab) { l.report("h1", said{vm: 1, power: PowerOn, inc: inc(1)}) },
		"the owner cannot say":                              func(l *lab) { l.report("h1", said{vm: 1, power: PowerUnknown, inc: inc(1)}) },
		"it has left the owner":                             func(l *lab) { l.report("h1", said{vm: 1, power: PowerOff, reason: ReasonMigrated, inc: inc(1)}) },
		"it is off there":                                   func(l *lab) { l.report("h1", said{vm: 1, power: PowerOff, reason: ReasonCrashed, inc: inc(1)}) },
		"the owner is silent":                               func(l *lab) { l.ok(l.suspect("h1")) },
		"the owner is down":                                 func(l *lab) { l.ok(l.suspect("h1")); l.ok(l.hostDown("h1")) },
		"the copy's host is silent":                         func(l *lab) { l.ok(l.suspect("h2")) },
		"the copy has ended":                                func(l *lab) { l.report("h2", said{vm: 1, power: PowerOff, reason: ReasonDestroyed}) },
		"it is being stopped":                               func(l *lab) { l.ok(&logpb.VMControl{Vm: idBytes(1), Action: VMStop}) },
		"it is not protected any more":                      func(l *lab) { l.ok(&logpb.VMProtect{Vm: idBytes(1)}) },
		"HA is disarmed":                                    func(l *lab) { l.ok(&logpb.Arm{}) },
		"the copy's host has registered again": func(l *lab) {
			l.register("h2", "b1", byHand(1))
		},
		"a new incarnation was granted meanwhile": func(l *lab) {
			l.report("h2", said{vm: 1, power: PowerOff})
			l.kill("h1", "h3")
			l.report("h3", said{vm: 1, power: PowerOn, reason: ReasonBooted, inc: inc(2)})
			l.report("h2", byHand(1))
		},
	} {
		t.Run(name, func(t *testing.T) {
			l := twice(t)
			c := l.copy(1, "h2", CopyDestroy)
			doubt(l)
			l.do(c)
			if o := l.host("h2").order(OrderDestroy, testVM(1)); o != nil {
				t.Fatalf("it is destroyed: %+v", o)
			}
		})
	}
}

// S6: two machines with one UUID are told of, and never taken for one another.
func TestS6SameUUIDOnDisksOfItsOwn(t *testing.T) {
	l := twice(t)
	l.ok(l.copy(1, "h2", CopyApart))
	l.ok(l.copy(1, "h2", CopyApart))
	l.ok(l.copy(1, "h2", CopyDestroy)) // late
	if len(l.host("h2").Orders) != 0 || l.state().OpenAlert(copyAlert(l.vm(1), "h2")) != nil || l.state().OpenAlert(sameUUIDAlert(l.vm(1), "h2")) == nil {
		t.Fatalf("%s", essence(l.state()))
	}
	if h := l.host("h2"); l.state().Changes(h, testVM(1), PowerOn, ReasonBooted, 0, 0, 0) {
		t.Fatal("it is news in every report")
	}
	// Its own host dies: it is not adopted where the other one is, and not
	// started there.
	l.ok(l.suspect("h1"))
	l.ok(l.hostDown("h1"))
	l.ok(l.fenced("h1", ProofPower))
	l.report("h2", byHand(1))
	if l.owner(1) != "h1" || l.step(1) != Scheduled {
		t.Fatalf("owner %s, %s", l.owner(1), l.step(1))
	}
	l.ok(l.place(1, "h2"))
	if l.owner(1) != "h1" {
		t.Fatal("placed where its UUID is taken")
	}
	l.ok(l.place(1, "h3"))
	if l.owner(1) != "h3" {
		t.Fatal("not placed")
	}
	l.report("h2", said{vm: 1, power: PowerOff, reason: ReasonShutdown})
	if len(l.host("h2").Copies) != 0 || l.state().OpenAlert(sameUUIDAlert(l.vm(1), "h2")) != nil {
		t.Fatal("it is still told of")
	}
}

// A copy that its host does not list any more, and one on a host that is proven
// dead, are gone.
func TestS6CopyIsGone(t *testing.T) {
	for name, end := range map[string]func(l *lab){
		"not listed": func(l *lab) {
			r := l.reportOf("h2")
			r.Reports[0].Missing = idBytes(1)
			l.ok(r)
		},
		"rebooted": func(l *lab) { l.register("h2", "b2") },
		"fenced":   func(l *lab) { l.ok(l.suspect("h2")); l.ok(l.hostDown("h2")); l.ok(l.fenced("h2", ProofPower)) },
		"a migration comes in": func(l *lab) {
			l.report("h2", said{vm: 1, power: PowerOn, reason: ReasonMigratingIn})
		},
		"another machine gave way to a migration": func(l *lab) {
			l.ok(l.copy(1, "h2", CopyApart))
			l.report("h2", said{vm: 1, power: PowerOn, reason: ReasonMigratingIn})
			l.report("h1", said{vm: 1, power: PowerOff, reason: ReasonMigrated, inc: inc(1)})
			l.report("h2", byHand(1))
			if l.owner(1) != "h2" {
				l.t.Errorf("it runs on h2, and %s owns it", l.owner(1))
			}
		},
		"adopted": func(l *lab) {
			l.report("h1", said{vm: 1, power: PowerOff, reason: ReasonMigrated, inc: inc(1)})
			l.report("h2", byHand(1))
		},
	} {
		t.Run(name, func(t *testing.T) {
			l := twice(t)
			l.wait(time.Second)
			end(l)
			if len(l.host("h2").Copies) != 0 || l.state().OpenAlert(copyAlert(l.vm(1), "h2")) != nil {
				t.Fatalf("%s", essence(l.state()))
			}
		})
	}
}

// S6, S18: where another machine with its UUID was, the VM itself may run by now.
// That copy is judged anew, in the very report that tells of it: or the search for
// the VM would find that it runs nowhere.
func TestS6AnotherMachineGaveWayBetweenTwoLooks(t *testing.T) {
	apart := func(t *testing.T) *lab {
		l := twice(t)
		c := l.copy(1, "h2", CopyApart)
		c.Name, c.Hash = "other", []byte("its hash")
		l.ok(c)
		if k := l.host("h2").Copy(testVM(1)); k.Name != "other" || k.Hash != "its hash" {
			t.Fatalf("%+v", k)
		}
		return l
	}
	replaced := func(l *lab) {
		r := l.reportOf("h2", byHand(1))
		r.Reports[0].Missing = idBytes(1)
		l.ok(r)
		if l.state().OpenAlert(sameUUIDAlert(l.vm(1), "h2")) != nil {
			l.t.Error("the other machine is still told of")
		}
	}
	t.Run("the VM has left its owner", func(t *testing.T) {
		l := apart(t)
		l.report("h1", said{vm: 1, power: PowerOff, reason: ReasonMigrated, inc: inc(1)})
		replaced(l)
		if v := l.vm(1); l.owner(1) != "h2" || v.Power != PowerOn || v.Work != 0 {
			t.Errorf("%s has it, %+v", l.owner(1), v)
		}
	})
	t.Run("the owner is proven dead", func(t *testing.T) {
		l := apart(t)
		l.kill("h1")
		replaced(l)
		if v := l.vm(1); l.owner(1) != "h2" || v.Power != PowerOn || v.Work != 0 {
			t.Errorf("%s has it, %+v", l.owner(1), v)
		}
	})
	t.Run("it runs on its owner", func(t *testing.T) {
		l := apart(t)
		l.wait(time.Minute)
		replaced(l)
		if k := l.host("h2").Copy(testVM(1)); k == nil || k.Apart || k.Since != l.now || l.state().OpenAlert(copyAlert(l.vm(1), "h2")) == nil {
			t.Errorf("%+v", k)
		}
	})
}

// S6: with a host its unprotected VMs are forgotten, and so is what others were told
// about them. A VM that appears again is a new one: nobody destroys it by an order of old.
func TestS6WhatIsForgottenIsNotDestroyed(t *testing.T) {
	for name, at := range map[string]HostID{"where it was destroyed": "h1", "elsewhere": "h3"} {
		l := fleet(t, 3, 1)
		l.ok(&logpb.FeatureRaise{Level: LevelPolicy})
		l.report("h1", booted(1))
		l.kill("h1", "h2")
		l.report("h2", said{vm: 1, power: PowerOn, reason: ReasonBooted, inc: inc(2)})
		if o := l.host("h1").Orders; len(o) != 1 || o[0].Kind != OrderDestroy {
			t.Fatalf("orders %+v", o)
		}
		l.ok(&logpb.VMProtect{Vm: idBytes(1)})
		l.ok(l.hostDown("h2"))
		l.ok(&logpb.HostControl{Host: "h2", Action: HostRemove})
		l.register("h1", "b2")
		l.report(at, byHand(1))
		if v := l.vm(1); l.owner(1) != at || v.Incarnation != 0 || len(l.host("h1").Orders) != 0 {
			t.Errorf("%s: %+v on %s, orders %+v", name, v, l.owner(1), l.host("h1").Orders)
		}
	}
}

// S2: a VM that was looked for although its owner had it off, because a copy was seen,
// is gone when the owner is proven dead and nobody wants it any more.
func TestS2OffOnADeadHostIsGone(t *testing.T) {
	for name, end := range map[string]func(l *lab) proto.Message{
		"stopped":   func(l *lab) proto.Message { return l.control(1, VMForceStop) },
		"cancelled": func(l *lab) proto.Message { return &logpb.WorkUpdate{Work: uint64(l.vm(1).Work), Action: WorkCancel} },
	} {
		l := stubborn(t)
		l.ok(&logpb.FeatureRaise{Level: LevelPolicy})
		l.report("h1", said{vm: 1, power: PowerOff, reason: ReasonDestroyed, inc: inc(1)})
		l.ok(l.hostDown("h1"))
		l.ok(l.control(1, VMStart))
		l.ok(l.fenced("h1", ProofPower))
		if w := l.work(1); w == nil || w.Step != Investigating || l.vm(1).Gone {
			t.Fatalf("%s: %+v, %+v", name, l.vm(1), w)
		}
		l.ok(end(l))
		if v := l.vm(1); !v.Gone || v.Wanted || v.Work != 0 {
			t.Errorf("%s: %+v", name, v)
		}
		l.ok(l.control(1, VMStart))
		if w := l.work(1); w == nil || w.Step != Investigating {
			t.Errorf("%s, and started again: the copy is forgotten, %+v", name, w)
		}
	}
}
