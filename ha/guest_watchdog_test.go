package ha_test

import (
	"strings"
	"testing"
	"time"

	"lifeboat/fsm"
	"lifeboat/fsm/logpb"
)

// fire makes watchdogs fire whose guests are left as they are by that.
func (w *world) fire(vms ...int) {
	for _, n := range vms {
		w.guest(n).fired = w.now
		w.note("* the watchdog of vm%d fires", n)
	}
}

// What the brake held back is restarted when that is over, whoever leads then.
func TestWatchdogHeldBack(t *testing.T) {
	for name, then := range map[string]func(w *world){
		"the same leader": func(*world) {},
		"another leader":  func(w *world) { w.elect("n2") },
		"disarmed between": func(w *world) {
			w.apply(&logpb.Arm{})
			w.advance(10 * time.Minute)
			w.apply(&logpb.Arm{Armed: true})
		},
	} {
		t.Run(name, func(t *testing.T) {
			w := watch(t, "watchdog", []int{1, 2, 3, 4}, newBox("h1", 1, 2, 3, 4), newBox("h2"))
			w.fire(1, 2, 3, 4)
			w.must(10*time.Second, "the brake", func() bool { return strings.Contains(w.left(1), "too many") })
			w.never(20*time.Minute, "a restart", func() bool { return w.restarts(1)+w.restarts(2)+w.restarts(3)+w.restarts(4) > 0 })
			then(w)
			w.guest(3).fired, w.guest(4).fired = 0, 0 // they have booted
			w.must(time.Minute, "the two that are left are restarted", func() bool { return w.runsOn(1, "h1")() && w.runsOn(2, "h1")() && w.restarts(1)*w.restarts(2) == 1 })
			if w.left(1)+w.left(2) != "" {
				w.fatal("the alert stays: %s", w.left(1)+w.left(2))
			}
			w.never(2*time.Hour, "another restart", func() bool { return w.restarts(1)+w.restarts(2)+w.restarts(3)+w.restarts(4) > 2 })
		})
	}
}

// Evidence holds nobody for ever: a guest that may be well again by now is not restarted,
// nor does it hold back others, and people are told to look.
func TestWatchdogHeldBackTooLong(t *testing.T) {
	w := watch(t, "watchdog", []int{1, 2, 3, 4, 5}, newBox("h1", 1, 2, 3, 4, 5), newBox("h2"))
	w.fire(1, 2, 3, 4)
	w.must(10*time.Second, "the brake", func() bool { return strings.Contains(w.left(1), "too many") })
	w.advance(w.state().Policy.GuestWindow)
	w.must(time.Minute, "people are told to look", func() bool { return strings.Contains(w.left(1), "look at its console") })
	w.guest(3).fired, w.guest(4).fired = 0, 0
	w.never(time.Hour, "a restart", func() bool { return w.restarts(1)+w.restarts(2) > 0 || w.left(1) == "" })
	w.fire(5)
	w.must(20*time.Second, "a restart of one that hangs now", func() bool { return w.restarts(5) == 1 })
}

// A watchdog that fires while for a moment nobody may act, or nobody leads, is acted on
// after it. Later on the guest may be well again: people are told, and nobody restarts it.
func TestWatchdogFiresWhileNobodyActs(t *testing.T) {
	for name, between := range map[string][2]func(w *world){
		"disarmed":                     {func(w *world) { w.apply(&logpb.Arm{}) }, func(w *world) { w.apply(&logpb.Arm{Armed: true}) }},
		"disabled":                     {func(w *world) { w.apply(&logpb.HostControl{Host: "h1", Action: fsm.HostDisable}) }, func(w *world) { w.apply(&logpb.HostControl{Host: "h1", Action: fsm.HostEnable}) }},
		"disarmed, and another leader": {func(w *world) { w.apply(&logpb.Arm{}) }, func(w *world) { w.apply(&logpb.Arm{Armed: true}); w.elect("n2") }},
	} {
		t.Run(name, func(t *testing.T) {
			for _, c := range []struct {
				after   time.Duration
				restart bool
			}{{2 * time.Minute, true}, {10 * time.Minute, false}} {
				w := watch(t, "watchdog", []int{1}, newBox("h1", 1), newBox("h2"))
				between[0](w)
				w.fire(1)
				w.never(c.after, "a restart", func() bool { return w.restarts(1) > 0 })
				between[1](w)
				if c.restart {
					w.must(30*time.Second, "a restart", func() bool { return w.restarts(1) == 1 && w.runsOn(1, "h1")() })
					continue
				}
				w.must(30*time.Second, "an alert", func() bool { return strings.Contains(w.left(1), "fired too long ago") })
				w.never(2*time.Hour, "a restart", func() bool { return w.restarts(1) > 0 || w.left(1) == "" })
				w.fire(1)
				w.must(30*time.Second, "a restart when it fires again", func() bool { return w.restarts(1) == 1 })
			}
		})
	}
}

// Who has looked knows better than what the watchdog said before.
func TestWatchdogSettled(t *testing.T) {
	for name, settle := range map[string]func(w *world){
		"cleared": func(w *world) { w.apply(&logpb.VMControl{Vm: vmBytes(1), Action: fsm.VMClear}) },
		"resolved": func(w *world) {
			v, _ := w.vm(1)
			w.apply(&logpb.AlertControl{Action: 2, Ids: []uint64{uint64(w.state().GuestAlert(v).ID)}})
		},
	} {
		t.Run(name, func(t *testing.T) {
			w := watch(t, "watchdog", []int{1, 2, 3, 4}, newBox("h1", 1, 2, 3, 4), newBox("h2"))
			w.fire(1, 2, 3, 4)
			w.must(10*time.Second, "the brake", func() bool { return strings.Contains(w.left(1), "too many") })
			w.advance(time.Minute)
			settle(w)
			w.must(time.Minute, "the others are restarted", func() bool { return w.restarts(2) == 1 && w.restarts(3) == 1 && w.restarts(4) == 1 })
			w.never(2*time.Hour, "an alert, or a restart", func() bool { return w.left(1) != "" || w.restarts(1) > 0 })
			w.fire(1)
			w.must(20*time.Second, "a restart when it fires again", func() bool { return w.restarts(1) == 1 })
		})
	}
}

// With an agent there is no need to wait for people: who answers is well.
func TestWatchdogOfAGuestThatAnswers(t *testing.T) {
	w := watch(t, "both", []int{1}, newBox("h1", 1), newBox("h2"))
	w.apply(&logpb.Arm{})
	w.fire(1)
	w.advance(10 * time.Minute)
	w.apply(&logpb.Arm{Armed: true})
	w.must(30*time.Second, "an alert", func() bool { return w.left(1) != "" })
	w.guest(1).fired = 0
	w.must(30*time.Second, "its end", func() bool { return w.left(1) == "" })
	w.never(time.Hour, "a restart", func() bool { return w.restarts(1) > 0 })
	if v, _ := w.vm(1); v.Power != fsm.PowerOn {
		w.fatal("it does not run")
	}
}
