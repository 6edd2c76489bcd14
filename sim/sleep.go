package sim

import (
	"time"

	"lifeboat/exchange"
	"lifeboat/fsm"
	"lifeboat/hypervisor"
)

// A host on which nothing has changed for a while sleeps: its clock stands
// still, nothing that is planned for it happens, and the leader takes it for
// one that was heard just now. Whatever touches it wakes it, and its clock goes
// on as if it had beaten all the time: what it and the leader remember of each
// other is as old as it was. Ten thousand hosts that only beat cost nothing.

// sleepAfter is how long nothing must have happened: longer than every pause
// after which somebody tries again. In a large world, in which no message is
// lost but by a fault, some beats.
const (
	sleepAfter = 11 * time.Second
	sleepSoon  = 2 * time.Second
)

func (w *World) sleepAfter() time.Duration {
	if w.small() {
		return sleepAfter
	}
	return sleepSoon
}

// clock is the time on the host: that of the world without the time it slept.
func (h *host) clock() time.Duration {
	if h.asleep {
		return h.since - h.slept
	}
	return h.w.now - h.slept
}

// plan has something happen on the host's clock.
func (h *host) plan(d time.Duration, routine bool, do func()) {
	h.rouse()
	if !routine {
		h.news = h.w.now
	}
	h.w.seq++
	h.queue.add(event{h.clock() + max(d, 0), h.w.seq, routine, do})
	h.w.agenda.fix(h)
}

// drift is how long the host has been asleep by now.
func (h *host) drift() time.Duration {
	if h == nil || !h.asleep {
		return 0
	}
	return h.w.now - h.since
}

// rouse wakes the host. What the leader knows of it has not become older.
func (h *host) rouse() {
	if !h.asleep {
		return
	}
	d := h.drift()
	h.asleep = false
	h.slept += d
	h.news = h.w.now
	h.w.agenda.fix(h)
	if x := h.sleeper; x != nil {
		x.shift(d)
		x.term.again() // nobody looks for as long as all sleep
		h.sleeper = nil
	}
}

// rouseAll: something has happened that every host may notice.
func (w *World) rouseAll() {
	for _, h := range w.hosts {
		h.rouse()
	}
}

// touch is rouseAll when the machine is one of a manager.
func (h *host) touch() {
	h.rouse()
	h.news = h.w.now
	for _, m := range h.w.managers {
		if m.on == h {
			h.w.rouseAll()
			return
		}
	}
}

// freshProof is how old the newest committed canary may be for a host to sleep.
const freshProof = 1500 * time.Millisecond

// maySleep looks when a report was out for a whole beat and the leader has
// nothing to say.
func (t *term) maySleep(x *contact, h *host) bool {
	switch {
	case h == nil || h.asleep || h.w.now-h.news < h.w.sleepAfter():
		return false
	case !h.running() || h.frozen || h.stopping || !h.network || !h.storage || !h.libvirt || !h.agent.runs || !h.w.talk(h, t.m):
		return false
	case t.over || !t.m.works() || !t.m.raft.leads || t.m.disk != diskOK || t.mono()-t.proven > freshProof:
		return false
	case x.busy || len(x.queue) > 0 || len(x.probes) > 0 || x.fence != nil:
		return false
	}
	f := t.state().Host(x.id)
	if f == nil || f.Epoch != x.epoch || f.Status != fsm.Up || f.HA != fsm.HAAvailable || len(f.Orders) > 0 || len(f.Copies) > 0 || exchange.WantsLease(t.state(), f) != (f.Lease != nil) {
		return false
	}
	for i := range h.queue {
		if !h.queue[i].routine {
			return false
		}
	}
	for _, id := range h.ids {
		d := h.domains[id]
		aging := d.fired > 0 && d.g.hung // its agent says how long ago that was
		if d.state == hypervisor.StatePaused || d.g.crashLoop || aging || f.VM(fsm.VMID(id)) == nil {
			return false
		}
	}
	return true
}

// sleep stops the host's clock.
func (t *term) sleep(x *contact, h *host) {
	h.asleep, h.since, h.sleeper = true, h.w.now, x
	x.changed()
	s := t.state()
	x.seen, x.policy = s.Host(x.id), s.Policy
	h.w.agenda.fix(h)
}

// roused wakes a sleeping host when the state has changed about it: its next
// report, though the same, may mean something else by now.
func (x *contact) roused(s *fsm.State, f *fsm.Host) {
	if !x.host.asleep || f == x.seen && s.Policy == x.policy {
		return
	}
	if s.Policy == x.policy && sameToAgent(f, x.seen) {
		x.seen = f
		return
	}
	x.host.rouse()
}

// sameToAgent reports whether a host's report, and what it is told, mean the same
// by both: what else is noted of a host does not concern its agent.
func sameToAgent(a, b *fsm.Host) bool {
	return a != nil && b != nil && a.Epoch == b.Epoch && a.Status == b.Status && a.HA == b.HA && a.Assigned == b.Assigned && a.Lease == b.Lease &&
		a.Inventory == b.Inventory && len(a.Orders) == 0 && len(b.Orders) == 0 && len(a.Copies) == 0 &&
		len(a.VMs) == len(b.VMs) && (len(a.VMs) == 0 || &a.VMs[0] == &b.VMs[0])
}

// shift makes what is remembered of a host younger.
func (x *contact) shift(d time.Duration) {
	x.changed()
	x.heard += d
	x.absorbed += int64(d)
	x.arrivals.Shift(d)
	x.memory.Shift(d)
	for i := range x.marks {
		x.marks[i].at += d
	}
}

// glance wakes all hosts for some beats: what is done to one may be seen by
// others. Where something comes of it they stay awake.
func (w *World) glance() {
	for _, h := range w.hosts {
		if h.asleep {
			h.rouse()
			h.news = w.now - w.sleepAfter() + sleepSoon
		}
	}
}

// rouse wakes whom a step is about; in a small world all others take a look.
func (x *step) rouse() {
	if x.m != nil || x.h == nil && x.g == nil {
		x.rouseAll()
		return
	}
	if x.small() {
		x.glance()
	}
	if x.h != nil {
		x.h.touch()
	}
	if x.g != nil {
		for _, h := range x.g.on {
			h.touch()
		}
	}
}
