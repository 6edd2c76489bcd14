package ha_test

import (
	"testing"
	"time"

	"lifeboat/fsm"
	"lifeboat/fsm/logpb"
)

// S18: paused on an I/O error while its host does not reach the storage.
func (w *world) loseStorage(id fsm.HostID) {
	b := w.boxes[id]
	b.storages["nfs"] = false
	for _, g := range b.guests {
		if g.on {
			g.reason = fsm.ReasonIOError
		}
	}
}

func TestS18StorageReturns(t *testing.T) {
	w := newWorld(t, newBox("h1", 1), newBox("h2"))
	w.loseStorage("h1")
	w.never(50*time.Second, "an order", func() bool { return len(w.host("h1").Orders) > 0 || w.ordered(1)() })
	w.boxes["h1"].storages["nfs"] = true
	w.must(3*time.Second, "resumed", func() bool { v, _ := w.vm(1); return v.Reason == fsm.ReasonBooted && len(w.host("h1").Orders) == 0 })
	if v, _ := w.vm(1); v.Incarnation.Counter() != 1 {
		w.fatal("%+v", v)
	}
}

func TestS18StorageLostIsRestartedElsewhere(t *testing.T) {
	w := newWorld(t, newBox("h1", 1, 2), newBox("h2"), newBox("h3"))
	w.loseStorage("h1")
	w.never(59*time.Second, "anything", func() bool { return w.state().CountOpenWork() > 0 })
	w.must(10*time.Second, "restarted elsewhere", func() bool { return w.runsOn(1, "h2")() && w.runsOn(2, "h3")() })
	if w.host("h1").Status != fsm.Up {
		w.fatal("h1 is %s", w.host("h1").Status)
	}
}

// Nobody else sees the storage: the guest's memory is not thrown away.
func TestS18StorageLostEverywhere(t *testing.T) {
	w := newWorld(t, newBox("h1", 1), newBox("h2"), newBox("h3"))
	for id := range w.boxes {
		w.loseStorage(id)
	}
	w.never(10*time.Minute, "given up", func() bool { return w.state().CountOpenWork() > 0 })
	w.told = nil
	w.advance(10 * time.Minute)
	if len(w.told) > 0 {
		w.fatal("%d entries without news", len(w.told))
	}
	w.boxes["h3"].storages["nfs"] = true
	w.must(10*time.Second, "restarted where it is seen", w.runsOn(1, "h3"))
}

// S18: a user's pause is a user's pause; so is an error on a storage that
// nobody can look at.
func TestS18OtherPausesAreLeftAlone(t *testing.T) {
	w := newWorld(t, newBox("h1", 1), newBox("h2"))
	w.boxes["h1"].guests[vmID(1)].reason = fsm.ReasonUserPaused
	w.never(10*time.Minute, "an order", func() bool { return len(w.host("h1").Orders) > 0 || w.state().CountOpenWork() > 0 })
	w.respec(1, func(x *logpb.Spec) { x.Disks[0].Storage, x.Disks[0].Network = "", true })
	w.boxes["h1"].guests[vmID(1)].reason = fsm.ReasonIOError
	w.boxes["h1"].deaf = true
	w.never(10*time.Minute, "given up", func() bool { return w.state().CountOpenWork() > 0 })
}

// An agent that comes back finds the order to resume, too.
func TestS18ResumedAfterTheAgentWasAway(t *testing.T) {
	w := newWorld(t, newBox("h1", 1), newBox("h2"))
	w.loseStorage("h1")
	w.advance(3 * time.Second)
	b := w.boxes["h1"]
	b.stop()
	w.advance(20 * time.Second)
	b.agent, b.storages["nfs"] = true, true
	b.session++
	w.must(15*time.Second, "resumed", func() bool { v, _ := w.vm(1); return v.Reason == fsm.ReasonBooted && len(w.host("h1").Orders) == 0 })
}
