package ha_test

import (
	"slices"
	"strings"
	"testing"
	"time"

	"lifeboat/fsm"
	"lifeboat/fsm/logpb"
	"lifeboat/ha"
)

// sick is what an agent says of the guests that are watched there.
func (b *box) sick() (out []ha.Guest) {
	for id, g := range b.guests {
		x := ha.Guest{VM: id, Incarnation: g.inc, Heard: g.answers}
		if g.silent != 0 {
			x.Silent = time.Duration(b.w.now - g.silent)
		}
		if g.fired != 0 {
			x.Watchdog = time.Duration(b.w.now-g.fired) + time.Millisecond
		}
		if g.paused {
			x.Paused, x.Watchdog = true, time.Millisecond
		}
		if g.on && (x != ha.Guest{VM: id, Incarnation: g.inc, Heard: g.answers} || b.w.state().CountOpenAlerts() > 0) {
			out = append(out, x)
		}
	}
	slices.SortFunc(out, func(x, y ha.Guest) int { return slices.Compare(x.VM[:], y.VM[:]) })
	return out
}

func (w *world) guest(n int) *guest {
	_, h := w.state().VM(vmID(n))
	return w.boxes[h.ID].guests[vmID(n)]
}

// watch is a world in which the guests of VMs are watched, and have answered.
func watch(t teller, how string, vms []int, boxes ...*box) *world {
	w := newWorld(t, boxes...)
	w.apply(&logpb.FeatureRaise{Level: fsm.LevelPolicy, Version: "x"})
	for _, n := range vms {
		w.apply(&logpb.VMSet{Vm: vmBytes(n), Settings: []*logpb.Setting{{Key: "guest_health", Value: how}}})
		w.guest(n).answers = true
	}
	w.advance(5 * time.Minute)
	return w
}

// hang makes the agent inside a guest silent, until it is started anew.
func (w *world) hang(n int) {
	g := w.guest(n)
	g.silent, g.cured = w.now, true
	w.note("* the guest of vm%d hangs", n)
}

func (w *world) restarts(n int) (times int) {
	for _, x := range w.state().AllWork() {
		if x.VM == vmID(n) && x.Cause.Hang() {
			times++
		}
	}
	return times
}

func (w *world) left(n int) string {
	v, _ := w.vm(n)
	if a := w.state().GuestAlert(v); a != nil {
		return a.Text
	}
	return ""
}

// A guest whose agent falls silent is restarted where it is, once, after its patience.
func TestGuestFallsSilent(t *testing.T) {
	w := watch(t, "ping", []int{1}, newBox("h1", 1), newBox("h2"))
	w.hang(1)
	w.never(fsm.DefaultGuestTimeout-2*time.Second, "a restart", func() bool { return w.restarts(1) > 0 })
	w.must(10*time.Second, "a restart in place", func() bool { return w.runsOn(1, "h1")() && w.restarts(1) == 1 })
	if v, _ := w.vm(1); v.Incarnation.Counter() != 2 {
		w.fatal("it runs at %s", v.Incarnation)
	}
	w.never(time.Hour, "another one", func() bool { return w.restarts(1) > 1 })
}

// Who is not to be judged is not: an agent that has never answered in this run, or that
// nobody asks about; a guest that has only just started.
func TestGuestThatIsNotJudged(t *testing.T) {
	for name, set := range map[string]func(w *world){
		"never answered": func(w *world) {
			w.boxes["h1"].guests[vmID(1)].on = false
			w.must(20*time.Second, "it runs again", func() bool { return w.runsOn(1, "h1")() && w.guest(1).inc.Counter() == 2 })
		},
		"not watched":        func(w *world) { w.watched(1, "none") },
		"the watchdog only":  func(w *world) { w.watched(1, "watchdog") },
		"disarmed":           func(w *world) { w.apply(&logpb.Arm{}) },
		"disabled":           func(w *world) { w.apply(&logpb.HostControl{Host: "h1", Action: fsm.HostDisable}) },
		"paused by somebody": func(w *world) { w.guest(1).reason = fsm.ReasonUserPaused; w.advance(2 * time.Second) },
	} {
		t.Run(name, func(t *testing.T) {
			w := watch(t, "ping", []int{1}, newBox("h1", 1), newBox("h2"))
			set(w)
			w.hang(1)
			w.never(time.Hour, "a restart", func() bool { return w.restarts(1) > 0 || w.left(1) != "" })
		})
	}
}

func (w *world) watched(n int, how string) {
	w.apply(&logpb.VMSet{Vm: vmBytes(n), Settings: []*logpb.Setting{{Key: "guest_health", Value: how}}})
}

// What is over when it may be acted on is not acted on: a watchdog that fired while HA
// was disarmed. What goes on is.
func TestGuestThatHungWhileDisarmed(t *testing.T) {
	w := watch(t, "both", []int{1, 2}, newBox("h1", 1, 2), newBox("h2"))
	w.apply(&logpb.Arm{})
	w.hang(1)
	w.guest(2).fired = w.now
	w.advance(10 * time.Minute)
	w.apply(&logpb.Arm{Armed: true})
	w.must(20*time.Second, "a restart of the one that is silent still", func() bool { return w.restarts(1) == 1 && w.runsOn(1, "h1")() })
	w.never(time.Hour, "one of the other", func() bool { return w.restarts(2) > 0 })
}

// The watchdog of a guest is believed at once.
func TestGuestWatchdog(t *testing.T) {
	w := watch(t, "watchdog", []int{1}, newBox("h1", 1), newBox("h2"))
	w.guest(1).fired = w.now
	w.must(10*time.Second, "a restart", func() bool { return w.restarts(1) == 1 && w.runsOn(1, "h1")() })
	w.never(time.Hour, "another one", func() bool { return w.restarts(1) > 1 })
}

// A guest that its watchdog has paused stands still: where nobody watches it people are told,
// until it runs on. Where its agent alone is watched it is restarted, heard before or not.
func TestGuestPausedByItsWatchdog(t *testing.T) {
	w := watch(t, "none", []int{1}, newBox("h1", 1), newBox("h2"))
	w.guest(1).answers, w.guest(1).paused = false, true
	w.must(5*time.Second, "an alert", func() bool { return strings.Contains(w.left(1), "guest_health is none") })
	w.never(time.Hour, "a restart", func() bool { return w.restarts(1) > 0 || w.left(1) == "" })
	w.guest(1).paused = false
	w.must(5*time.Second, "its end", func() bool { return w.left(1) == "" })
	w.guest(1).paused = true
	w.must(5*time.Second, "another alert", func() bool { return w.left(1) != "" })
	w.guest(1).paused = false
	w.watched(1, "watchdog")
	w.must(5*time.Second, "its end, though it is watched otherwise by now", func() bool { return w.left(1) == "" })
	w.guest(1).paused = true
	w.watched(1, "ping")
	w.must(20*time.Second, "a restart", func() bool { return w.restarts(1) == 1 && w.runsOn(1, "h1")() && w.left(1) == "" })
}

// Where many are paused at once they are left as they are, and the alerts end when they
// run on, also of guests of which nothing was ever heard.
func TestGuestsPausedTogether(t *testing.T) {
	for _, how := range []string{"ping", "watchdog", "both"} {
		vms := []int{1, 2, 3, 4, 5, 6}
		w := watch(t, how, vms, newBox("h1", vms...), newBox("h2"))
		all := func(what string, is func(n int) bool) {
			w.must(10*time.Second, what, func() bool {
				return !slices.ContainsFunc(vms, func(n int) bool { return !is(n) })
			})
		}
		for _, n := range vms {
			w.guest(n).answers, w.guest(n).paused = false, true
		}
		all("alerts", func(n int) bool {
			return strings.Contains(w.left(n), "brake_min") && strings.Contains(w.left(n), "its watchdog has paused it")
		})
		for _, n := range vms {
			w.guest(n).paused = false
		}
		all("their end", func(n int) bool { return w.left(n) == "" && w.restarts(n) == 0 })
	}
}

// A new leader knows nothing, and acts on what the reports say; a new agent of the host
// has not heard the guest, and is believed later. Neither makes a healthy guest sick.
func TestGuestForANewLeaderAndAgent(t *testing.T) {
	w := watch(t, "ping", []int{1, 2}, newBox("h1", 1, 2), newBox("h2"))
	w.elect("n2")
	w.guest(1).answers, w.guest(2).answers = false, false // a new agent
	w.never(10*time.Minute, "a restart", func() bool { return w.restarts(1)+w.restarts(2) > 0 })
	w.hang(1)
	w.advance(50 * time.Second)
	w.elect("n3")
	w.never(fsm.DefaultGuestGrace, "a restart", func() bool { return w.restarts(1) > 0 })
	w.must(20*time.Second, "a restart", func() bool { return w.restarts(1) == 1 && w.runsOn(1, "h1")() })
	if w.restarts(2) > 0 {
		w.fatal("the other one is restarted")
	}
}

// Its host is used up: another one has it; when there is none, it is not stopped for
// nothing, and people are told. Used up altogether, it is left as it is until it is well.
func TestGuestThatHangsAgain(t *testing.T) {
	again := func(w *world, on fsm.HostID) {
		w.t.Helper()
		n := w.restarts(1)
		w.guest(1).answers = true
		w.advance(3 * time.Minute)
		w.hang(1)
		w.must(2*time.Minute, "a restart on "+string(on), func() bool { return w.restarts(1) == n+1 && w.runsOn(1, on)() })
	}
	w := watch(t, "ping", []int{1}, newBox("h1", 1), newBox("h2"))
	again(w, "h1")
	again(w, "h2")
	again(w, "h2")
	w.guest(1).answers = true
	w.advance(3 * time.Minute)
	w.hang(1)
	w.must(2*time.Minute, "an alert", func() bool { return w.left(1) != "" })
	w.never(3*time.Hour, "an end of it", func() bool { return !w.runsOn(1, "h2")() || w.restarts(1) > 4 })
	w.guest(1).silent = 0
	w.must(10*time.Second, "the end of the alert", func() bool { return w.left(1) == "" })

	w = watch(t, "ping", []int{1}, newBox("h1", 1), newBox("h2"))
	again(w, "h1")
	w.boxes["h2"].storages["nfs"] = false
	w.guest(1).answers = true
	w.advance(3 * time.Minute)
	w.hang(1)
	w.must(2*time.Minute, "an alert", func() bool { return strings.Contains(w.left(1), "no other host") })
	w.never(5*time.Minute, "an end of it", func() bool { return !w.runsOn(1, "h1")() })
	w.boxes["h2"].storages["nfs"] = true
	w.must(20*time.Second, "a start where there is room", w.runsOn(1, "h2"))
	if w.left(1) != "" {
		w.fatal("%s", w.left(1))
	}
}

// Where too many guests hang at once nobody is restarted: on a host, and in the cluster.
func TestGuestsThatHangTogether(t *testing.T) {
	for name, boxes := range map[string][]*box{
		"on one host": {newBox("h1", 1, 2, 3, 4), newBox("h2")},
		"everywhere":  {newBox("h1", 1, 2), newBox("h2", 3, 4)},
	} {
		t.Run(name, func(t *testing.T) {
			w := watch(t, "ping", []int{1, 2, 3, 4}, boxes...)
			for n := range 4 {
				w.hang(n + 1)
			}
			w.never(time.Hour, "a restart", func() bool { return w.restarts(1)+w.restarts(2)+w.restarts(3)+w.restarts(4) > 0 })
			if !strings.Contains(w.left(4), "too many") {
				w.fatal("nobody is told")
			}
			w.guest(4).silent = 0
			w.must(10*time.Second, "the three that are left are restarted", func() bool { return w.restarts(1)+w.restarts(2)+w.restarts(3) == 3 })
			w.must(10*time.Second, "the fourth is well", func() bool { return w.left(4) == "" })
		})
	}
}

// A VM whose guest hangs is explained.
func TestGuestIsExplained(t *testing.T) {
	w := watch(t, "both", []int{1}, newBox("h1", 1), newBox("h2"))
	says := func(text string) {
		t.Helper()
		if !slices.ContainsFunc(ha.ExplainVM(w.state(), vmID(1)), func(l ha.Line) bool { return strings.Contains(l.Text, text) }) {
			t.Errorf("it is not said: %s\n%v", text, ha.ExplainVM(w.state(), vmID(1)))
		}
	}
	says("restarted when its agent (which has answered since it runs) is silent for 1m0s, not within 2m0s of a start, or when its watchdog fires")
	w.hang(1)
	w.must(2*time.Minute, "a restart", func() bool { return w.restarts(1) == 1 && w.runsOn(1, "h1")() })
	says("It has hung 1 times, less than 1h0m0s (guest_window) apart")
	says("its agent has been silent for")
	w.watched(1, "none")
	for _, l := range ha.ExplainVM(w.state(), vmID(1)) {
		if strings.Contains(l.Text, "Its guest is watched") {
			t.Error("nobody watches it")
		}
	}
}
