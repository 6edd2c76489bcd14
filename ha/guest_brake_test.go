package ha_test

import (
	"strings"
	"testing"
	"time"
)

// Guests that were given up hang of causes of their own: another one that hangs beside them
// is restarted.
func TestGuestsGivenUpHoldNobody(t *testing.T) {
	w := watch(t, "ping", []int{1, 2, 3, 4, 5}, newBox("h1", 1, 2, 3, 4, 5), newBox("h2"))
	w.set("max_restart", "0")
	w.set("max_relocate", "0")
	for n := 1; n <= 4; n++ {
		w.hang(n)
		w.must(3*time.Minute, "it is given up", func() bool { return w.left(n) != "" })
	}
	w.set("max_restart", "1")
	w.hang(5)
	w.must(2*time.Minute, "a restart", func() bool { return w.restarts(5) == 1 && w.runsOn(5, "h1")() })
}

// One that was given up once, and was well since, is not given up for ever: what the brake
// held it restarts when that is over.
func TestGuestGivenUpOnce(t *testing.T) {
	w := watch(t, "ping", []int{1, 2, 3, 4}, newBox("h1", 1, 2, 3, 4), newBox("h2"))
	w.set("max_restart", "0")
	w.set("max_relocate", "0")
	w.hang(1)
	w.must(3*time.Minute, "it is given up", func() bool { return w.left(1) != "" })
	was := w.restarts(1)
	w.guest(1).silent = 0
	w.must(10*time.Second, "the end of the alert", func() bool { return w.left(1) == "" })
	w.set("max_restart", "1")
	w.advance(2 * time.Hour)
	for n := 1; n <= 4; n++ {
		w.hang(n)
	}
	w.must(3*time.Minute, "the brake", func() bool { return strings.Contains(w.left(1), "too many") })
	for n := 2; n <= 4; n++ {
		w.guest(n).silent = 0
	}
	w.must(time.Minute, "a restart", func() bool { return w.restarts(1) == was+1 })
}

// A guest that nobody asks has not answered: the alert that its watchdog has fired stays.
func TestWatchdogAlertStays(t *testing.T) {
	w := watch(t, "watchdog", []int{1, 2, 3, 4}, newBox("h1", 1, 2, 3, 4), newBox("h2"))
	for n := 1; n <= 4; n++ {
		w.guest(n).fired = w.now
	}
	w.must(10*time.Second, "the brake", func() bool { return strings.Contains(w.left(1), "too many") })
	w.never(time.Hour, "an end of the alert", func() bool { return w.left(1) == "" })
}

// One that is being restarted hangs once, not twice.
func TestGuestsInRestartCountOnce(t *testing.T) {
	w := watch(t, "ping", []int{1, 2, 3}, newBox("h1", 1, 2, 3), newBox("h2"))
	w.boxes["h1"].deaf = true // what it is told to stop goes on
	w.hang(1)
	w.hang(2)
	w.must(2*time.Minute, "two are told to stop", func() bool { return w.restarts(1)+w.restarts(2) == 2 })
	w.hang(3)
	w.must(2*time.Minute, "the third, too", func() bool { return w.restarts(3) == 1 })
}
