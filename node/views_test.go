package node

import (
	"strings"
	"testing"
	"time"

	"lifeboat/fsm"
)

// What is missing until the VMs may start elsewhere, and when it becomes safe,
// is said by the clock.
func TestSafeWhen(t *testing.T) {
	silent := time.Date(2026, 3, 1, 14, 3, 4, 0, time.UTC).UnixNano()
	lease := &fsm.Lease{Armed: true, Watchdog: fsm.WatchdogHardware}
	levels := []fsm.FenceLevel{{Driver: "ipmi"}}
	for _, tc := range []struct {
		name string
		h    fsm.Host
		at   time.Duration // since the silence
		want []string
	}{
		{"a lease", fsm.Host{Lease: lease}, 5 * time.Second, []string{"lease expires 14:03:22 UTC, then safe", "confirm-dead h3"}},
		{"a lease and a BMC", fsm.Host{Lease: lease, Fence: levels, Attempt: &fsm.Attempt{Number: 2, Open: true, Until: silent + int64(9*time.Second)}}, 5 * time.Second,
			[]string{"fence attempt 2 by ipmi runs until 14:03:13 UTC", "lease expires 14:03:22 UTC"}},
		{"a BMC that failed", fsm.Host{Fence: levels, FenceFailure: "ipmi: no answer"}, 5 * time.Second, []string{"failed (ipmi: no answer), the next follows", "confirm-dead h3"}},
		{"a lease after an election", fsm.Host{Lease: lease}, time.Minute, []string{"waited for anew, 18s from when this leader began"}},
		{"nothing", fsm.Host{}, 5 * time.Second, []string{"nothing here can prove it dead", "confirm-dead h3"}},
		{"a lease under a soft watchdog", fsm.Host{Lease: &fsm.Lease{Armed: true, Watchdog: fsm.WatchdogSoft}}, 5 * time.Second, []string{"nothing here can prove it dead"}},
	} {
		tc.h.ID, tc.h.Status, tc.h.HA, tc.h.Silent = "h3", fsm.Down, fsm.HAFencing, silent
		s := &fsm.State{Armed: true, Policy: fsm.DefaultPolicy(), Time: silent + int64(tc.at)}
		got := safeWhen(s, &tc.h)
		for _, want := range tc.want {
			if !strings.Contains(got, want) {
				t.Errorf("%s: %q does not say %q", tc.name, got, want)
			}
		}
	}
}

// An alert about a VM says its name, and which VM of that name where there are two.
func TestAlertSubjects(t *testing.T) {
	a := &fsm.AlertRecord{Key: fsm.AlertKey{Type: fsm.AlertVM, Subject: "8d2c6f0e-1f5b-4c0e-9a54-0d3f2b1c7e60", Cause: "lost"}, Name: "web"}
	if got := alertView(a, nil).Subject; got != "web" {
		t.Errorf("subject %q", got)
	}
	if got := alertView(a, map[string]bool{"web": true}).Subject; got != "web (8d2c6f0e)" {
		t.Errorf("subject %q of a name that two have", got)
	}
	if got := alertView(&fsm.AlertRecord{Key: fsm.AlertKey{Type: fsm.AlertHost, Subject: "h1"}}, map[string]bool{"h1": true}).Subject; got != "h1" {
		t.Errorf("subject %q of a host", got)
	}
}
