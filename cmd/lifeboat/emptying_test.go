package main

import (
	"strings"
	"testing"
)

// TestWaitForMaintenanceNamesWhoStays: who waits for an empty host is told what runs there.
func TestWaitForMaintenanceNamesWhoStays(t *testing.T) {
	w := newWorld(t, busyState())
	const note = "1 VM that is not protected still runs on host h1, which is Maintenance: a. It is not moved; stop it before the host goes down"
	w.admin.state.hosts[0].Resource, w.admin.state.hosts[0].Staying = "Maintenance", note
	r := w.run("host", "maintenance", "on", "h1", "--wait")
	if r.code != 0 || !strings.Contains(r.stderr, "host h1 is in maintenance\n"+note+"\n") {
		t.Errorf("%d: %s", r.code, r.stderr)
	}
	w.admin.state.hosts[0].Staying = ""
	if r := w.run("host", "maintenance", "on", "h1", "--wait"); !strings.HasSuffix(r.stderr, "host h1 is in maintenance\n") {
		t.Errorf("%d: %s", r.code, r.stderr)
	}
}
