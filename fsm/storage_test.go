package fsm

import (
	"testing"
	"time"

	"lifeboat/fsm/logpb"
)

func stalledVM(n int) said { return said{vm: n, power: PowerOn, reason: ReasonIOError, inc: inc(1)} }

func (l *lab) storage(n int, action uint32) *logpb.VMStorage {
	return &logpb.VMStorage{Vm: idBytes(n), Incarnation: uint64(l.vm(n).Incarnation), Action: action, Reason: "test"}
}

// S18: a VM that is paused on an I/O error goes on when its storage is back.
func TestS18ResumedWhenStorageReturns(t *testing.T) {
	l := fleet(t, 2, 1)
	l.wait(time.Hour)
	l.report("h1", stalledVM(1))
	if v := l.vm(1); !v.Stalled() || v.Since != l.now || !l.host("h1").Stalled {
		t.Fatalf("%+v", v)
	}
	l.ok(l.storage(1, StorageBack))
	l.ok(l.storage(1, StorageBack)) // the second one is no news
	if o := l.host("h1").Orders; len(o) != 1 || o[0].Kind != OrderResume || o[0].Incarnation != inc(1) {
		t.Fatalf("orders %+v", o)
	}
	l.report("h1", said{vm: 1, power: PowerOn, reason: ReasonBooted, inc: inc(1)})
	if h := l.host("h1"); len(h.Orders) != 0 || h.Stalled || l.work(1) != nil {
		t.Fatalf("orders %+v, stalled %v", h.Orders, h.Stalled)
	}
}

// S18, S4: it starts elsewhere only after its host has said that it gave it up.
func TestS18GivenUpWhenStorageIsLost(t *testing.T) {
	l := fleet(t, 2, 1)
	l.report("h1", stalledVM(1))
	l.ok(l.storage(1, StorageBack))
	l.ok(l.storage(1, StorageLost))
	if w := l.work(1); w.Step != Stopping || w.Cause != CauseStorage {
		t.Fatalf("%+v", w)
	}
	l.ok(l.place(1, "h2"))
	if l.owner(1) != "h1" {
		t.Fatal("placed before the tombstone")
	}
	l.report("h1", said{vm: 1, power: PowerOff, refused: inc(1)})
	if w := l.work(1); w.Step != Scheduled || !l.vm(1).Gone {
		t.Fatalf("%+v", w)
	}
	l.ok(l.place(1, "h2"))
	if l.owner(1) != "h2" || l.host("h1").Stalled {
		t.Fatal("not placed")
	}
}

func TestS18LateWordAboutStorage(t *testing.T) {
	l := fleet(t, 2, 1)
	for _, action := range []uint32{StorageBack, StorageLost} {
		l.ok(l.storage(1, action)) // it runs
		if len(l.host("h1").Orders) != 0 || l.work(1) != nil {
			t.Fatal("a running VM was touched")
		}
	}
	l.report("h1", stalledVM(1))
	c := l.storage(1, StorageLost)
	c.Incarnation++
	l.ok(c)
	if l.work(1) != nil {
		t.Fatal("another incarnation was touched")
	}
	l.ok(&logpb.Arm{})
	l.rejected(l.storage(1, StorageLost))
}

// A host that does not get a VM started in time is not asked again, and one VM
// does not wander for ever.
func TestWithdrawnStartCountsAsFailed(t *testing.T) {
	l := fleet(t, 3, 1)
	l.report("h1", crashed(1))
	for i, host := range []string{"h1", "h2"} {
		n := uint64(2 + i)
		l.ok(l.place(1, HostID(host)))
		l.ok(&logpb.WorkUpdate{Work: uint64(l.work(1).ID), Action: WorkWithdraw, Reason: "too slow"})
		if w := l.work(1); w.Step != Stopping || w.TriedOn(HostID(host)) != 2 {
			t.Fatalf("%+v", w)
		}
		l.report(HostID(host), said{vm: 1, power: PowerOff, inc: inc(n), refused: inc(n)})
	}
	if l.work(1) != nil || l.vm(1).Error == "" {
		t.Fatalf("work %+v, error %q", l.work(1), l.vm(1).Error)
	}
}
