package fsm

import (
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"lifeboat/fsm/logpb"
)

// wake restores a snapshot into the lab's machine, as a cluster does.
func (l *lab) wake(s *State) {
	l.t.Helper()
	l.index += 64
	n := s.Wake(l.state(), Waking{Index: l.index, Term: 1, Now: l.now, Actor: "operator/alice"})
	read, err := ReadState(strings.NewReader(string(snapshotOf(l.t, n))))
	if err != nil {
		l.t.Fatal(err)
	}
	l.m.Restore(read)
	if err := l.m.Check(); err != nil {
		l.t.Fatalf("the state that wakes: %v", err)
	}
}

// untouched fails when any host has an order.
func (l *lab) untouched(when string) {
	l.t.Helper()
	for id, h := range l.state().Hosts() {
		for _, o := range h.Orders {
			l.t.Fatalf("%s: host %s is ordered to %s %s", when, id, o.Kind, o.Name)
		}
	}
}

// moved is a fleet whose ten VMs have moved from h1 to h2 after the snapshot s.
func moved(t *testing.T) (l *lab, s *State) {
	l = fleet(t, 3, 10)
	s = l.state()
	l.kill("h1")
	for n := 1; n <= 10; n++ {
		l.ok(l.place(n, "h2"))
	}
	for n := 1; n <= 10; n++ {
		l.report("h2", said{vm: n, power: PowerOn, reason: ReasonBooted, inc: l.vm(n).Incarnation})
	}
	return l, s
}

// on are the ten VMs as a host reports them at what it holds.
func on(inc Incarnation) (out []said) {
	for n := 1; n <= 10; n++ {
		out = append(out, said{vm: n, power: PowerOn, reason: ReasonBooted, inc: inc})
	}
	return out
}

// given are the ten VMs as a host reports them that has given them up.
func given(inc Incarnation) (out []said) {
	for n := 1; n <= 10; n++ {
		out = append(out, said{vm: n, power: PowerStarting, inc: inc, refused: inc})
	}
	return out
}

// S22: ten VMs have moved since the snapshot. Whoever registers first, whatever
// the hosts remember, and in which boot they are: none is touched, before and
// after HA is armed, and all are adopted where they run.
func TestS22MovedVMsAreNotTouched(t *testing.T) {
	held := NewIncarnation(1, 2)
	for name, order := range map[string][]HostID{"old owner first": {"h1", "h3", "h2"}, "new owner first": {"h2", "h1", "h3"}} {
		for _, boot := range []string{"b1", "b2"} {
			for _, memory := range []string{"knows nothing", "has given them up"} {
				t.Run(name+", boot "+boot+", "+memory, func(t *testing.T) {
					l, s := moved(t)
					l.wake(s)
					l.untouched("restored")
					if got := l.rejected(&logpb.Arm{Armed: true}); !strings.Contains(got, "h1, h2, h3") {
						t.Errorf("arming says %q", got)
					}
					for _, id := range order {
						var vms []said
						switch {
						case id == "h2":
							vms = on(held)
						case id == "h1" && memory != "knows nothing":
							vms = given(NewIncarnation(1, 1))
						}
						l.register(id, boot, vms...)
						l.untouched("registered " + string(id))
						if l.state().Changes(l.host(id), testVM(1), PowerOn, ReasonBooted, held, 0, 0) && id == "h2" {
							t.Error("what was said is still news")
						}
					}
					if id := HostID("h1"); memory == "knows nothing" {
						for n := 1; n <= 10 && l.owner(n) == id; n++ {
							l.missing(id, n)
						}
					}
					l.untouched("reported")
					l.ok(&logpb.Arm{Armed: true})
					l.untouched("armed")
					l.report("h2", on(held)...)
					l.untouched("reported again")
					for n := 1; n <= 10; n++ {
						if v := l.vm(n); l.owner(n) != "h2" || v.Power != PowerOn || v.Incarnation != held || v.Work != 0 {
							t.Fatalf("%s is %s on host %s at %s with work %d", v.Name, v.Power, l.owner(n), v.Incarnation, v.Work)
						}
					}
					if l.state().Generation != generationAt(l.now) {
						t.Errorf("the generation is %d", l.state().Generation)
					}
				})
			}
		}
	}
}

// S22: what a host holds at a later incarnation than the snapshot counts where it
// runs, and what was off then may run now.
func TestS22RestartedInPlaceIsAdopted(t *testing.T) {
	l := fleet(t, 2, 2)
	s := l.state()
	l.wake(s)
	l.register("h1", "b1", said{vm: 1, power: PowerOn, reason: ReasonBooted, inc: NewIncarnation(1, 7)}, said{vm: 2, power: PowerOff, reason: ReasonCrashed, inc: NewIncarnation(1, 3)})
	l.register("h2", "b1")
	if v := l.vm(1); v.Power != PowerOn || v.Incarnation != NewIncarnation(1, 7) {
		t.Errorf("it is %s at %s", v.Power, v.Incarnation)
	}
	if w := l.work(2); w == nil || w.Step != Investigating {
		t.Errorf("the one that crashed has work %+v", w)
	}
	l.untouched("registered")
	w := l.work(2)
	if no := l.do(&logpb.VMReleased{Vm: idBytes(2), Work: uint64(w.ID)}); no == "" {
		t.Error("it is released before HA is armed")
	}
	if no := l.do(&logpb.VMControl{Vm: idBytes(2), Action: VMStart}); no == "" {
		t.Error("it can be started before HA is armed")
	}
	l.ok(&logpb.Arm{Armed: true})
	l.ok(&logpb.VMReleased{Vm: idBytes(2), Work: uint64(w.ID)})
	l.ok(l.place(2, "h1"))
	if v := l.vm(2); v.Incarnation.Generation() != generationAt(l.now) || v.Incarnation <= NewIncarnation(1, 3) {
		t.Errorf("what is granted is %s: the host may hold more", v.Incarnation)
	}
}

// S22: of two running copies the one that was granted last is the VM, and the
// other is touched only when HA is armed.
func TestS22NewestOfTwoCopiesOwns(t *testing.T) {
	for _, order := range [][]HostID{{"h2", "h3"}, {"h3", "h2"}} {
		l := fleet(t, 3, 1)
		l.wake(l.state())
		held := map[HostID]Incarnation{"h2": NewIncarnation(1, 2), "h3": NewIncarnation(1, 3)}
		l.register("h1", "b1")
		for _, id := range order {
			l.register(id, "b1", said{vm: 1, power: PowerOn, reason: ReasonBooted, inc: held[id]})
		}
		l.untouched("registered")
		if l.owner(1) != "h3" {
			t.Errorf("in order %v host %s owns it", order, l.owner(1))
		}
		l.ok(&logpb.Arm{Armed: true})
		l.report("h2", said{vm: 1, power: PowerOn, reason: ReasonBooted, inc: held["h2"]})
		if o := l.host("h2").order(OrderDestroy, testVM(1)); o == nil || len(l.host("h3").Orders) > 0 {
			t.Errorf("in order %v: h2 %v, h3 %v", order, l.host("h2").Orders, l.host("h3").Orders)
		}
	}
}

// A VM that no host shows is looked for when HA is armed, not before.
func TestS22LostVMIsLookedForWhenArmed(t *testing.T) {
	l := fleet(t, 2, 1)
	l.wake(l.state())
	l.register("h1", "b2")
	l.register("h2", "b1")
	if l.work(1) != nil {
		t.Fatalf("work %+v before HA is armed", l.work(1))
	}
	l.ok(&logpb.Arm{Armed: true})
	if l.step(1) != Investigating {
		t.Fatalf("it is %s", l.step(1))
	}
	l.untouched("armed")
}

// A new cluster learns the hosts of the snapshot; one that the snapshot does not
// know keeps its place, and must register again as well.
func TestWakeTakesHostsFromBoth(t *testing.T) {
	s := fleet(t, 2, 1).state()
	l := newLab(t)
	l.register("h9", "b1", said{vm: 7, power: PowerOn, reason: ReasonBooted})
	epoch := l.host("h9").Epoch
	l.wake(s)
	if h := l.host("h9"); h.Status != Disconnected || h.Epoch <= epoch || len(h.VMs) != 0 {
		t.Errorf("h9 is %s in epoch %d with %d VMs", h.Status, h.Epoch, len(h.VMs))
	}
	if l.owner(1) != "h1" || l.state().CountVMs() != 1 {
		t.Errorf("%d VMs, the first on %s", l.state().CountVMs(), l.owner(1))
	}
	if got := l.state().Awaited(); len(got) != 3 {
		t.Errorf("awaited: %v", got)
	}
	l.ok(&logpb.Arm{Armed: true, Force: true})
}

// A registration that was asked for before the restore lay somewhere since: it must
// not pass for the first one, or the true one would look like a reboot (S5, S9).
func TestS22LateRegistrationIsRefused(t *testing.T) {
	l, s := moved(t)
	late := registration("h2", "b0")
	late.Ticket = l.state().Index
	l.wake(s)
	if got := l.rejected(late); !strings.Contains(got, "late") {
		t.Errorf("it is answered with %q", got)
	}
	late.Ticket = l.state().Index
	l.ok(late)
}

// A node that is down is missed again, one that was removed is not.
func TestWakeMissesNodes(t *testing.T) {
	l := newLab(t)
	for _, id := range []string{"n1", "n2", "n3"} {
		l.ok(&logpb.NodeHello{Id: id, RunId: "r-" + id, Version: "1"})
	}
	l.ok(&logpb.NodeControl{Id: "n3", Action: uint32(GoingRemove)})
	l.index++
	l.m.Members(l.index, []NodeID{"n1", "n2"})
	l.ok(&logpb.NodeDown{Id: "n2", RunId: "r-n2", Reason: "it was not heard of"})
	l.wake(l.state())
	var missed []string
	for k := range l.state().raised.all() {
		missed = append(missed, k.Subject)
	}
	if !slices.Equal(missed, []string{"n2"}) {
		t.Errorf("alerts about %v", missed)
	}
}

// Whatever was going on, the state that wakes keeps the invariants, and goes on to.
func TestWakeInAnyStory(t *testing.T) {
	for seed := range uint64(12) {
		l := &lab{t: t, seqs: map[HostID]uint64{}}
		r := rand.New(rand.NewPCG(seed, 5))
		old, _ := story(t.Fatalf, r.IntN, 150)
		l.m, _ = story(t.Fatalf, r.IntN, 60)
		l.index, l.now = max(old.State().Index, l.state().Index), max(old.State().Time, l.state().Time)
		l.wake(old.State())
		s := l.state()
		if s.Armed || s.CountOpenWork() != 0 || s.Generation <= max(old.State().Generation, 1) {
			t.Fatalf("seed %d: armed %v, %d open work, generation %d", seed, s.Armed, s.CountOpenWork(), s.Generation)
		}
		for id, h := range s.Hosts() {
			if h.Lease != nil || h.Attempt != nil || h.Status == Up {
				t.Fatalf("seed %d: host %s: %+v", seed, id, h)
			}
			if o := old.State().Host(id); o != nil && h.Epoch <= o.Epoch {
				t.Fatalf("seed %d: host %s is in epoch %d again", seed, id, h.Epoch)
			}
		}
		l.do(&logpb.Arm{Armed: true, Force: true})
	}
}

// S1: two clusters that know nothing of one another are made of one state. What one
// grants is never of the generation of the other, nor is any number given by both;
// and one that wakes twice at the same time is of another generation each time.
func TestWakingsOfOneStateDiffer(t *testing.T) {
	l, s := moved(t)
	now := l.now
	wake := func(of *State, minutes int64, w Waking) *State {
		w.Now = now + minutes*60_000_000_000
		return of.Wake(of, w)
	}
	first, second := wake(s, 1, Waking{Members: []NodeID{"n3"}}), wake(s, 2, Waking{Members: []NodeID{"n2"}})
	if first.Generation == second.Generation || first.Generation <= s.Generation {
		t.Errorf("generations %d and %d of %d", first.Generation, second.Generation, s.Generation)
	}
	if again := wake(second, 2, Waking{}); again.Generation <= second.Generation {
		t.Errorf("generation %d after %d", again.Generation, second.Generation)
	}
	wrong := wake(s, 60*24*365*100, Waking{})
	if wrong.Generation != s.Generation+1 {
		t.Errorf("a clock a hundred years ahead gives generation %d of %d", wrong.Generation, MaxGeneration)
	}
	if first.seq < s.seq+seqLeap {
		t.Error("ids of those who are lost may be given again")
	}
	other := newLab(t).state()
	other.ClusterID = "c2"
	if got := s.Wake(other, Waking{}); got.seq < s.seq+seqLeap {
		t.Error("ids of the other cluster may be given again")
	}
	if first.Level != levelWaking {
		t.Errorf("it has feature level %d", first.Level)
	}
}
