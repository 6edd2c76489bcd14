package agent

import (
	"context"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"lifeboat/agent/heartbeat"
	lifeboatv1 "lifeboat/api/lifeboat/v1"
)

// S20: a peer sees a heartbeat only in directories that it was given too,
// whatever a manager asks for.
func TestHeartbeatsAreReadWhereBothWereTold(t *testing.T) {
	shared, other := t.TempDir(), t.TempDir()
	writer := heartbeat.New(shared)
	done := make(chan struct{})
	ctx, stop := context.WithCancel(t.Context())
	go func() { defer close(done); writer.Write(ctx, "h2", "boot2", 1) }()
	defer func() { stop(); <-done }()
	for begun := time.NewTicker(time.Millisecond); !writer.State().Up; <-begun.C {
		if t.Context().Err() != nil {
			t.Fatal("nothing is written")
		}
	}

	a := &agent{beats: []*heartbeat.Dir{heartbeat.New(shared)}}
	look, enough := context.WithTimeout(t.Context(), 2*heartbeat.Every)
	defer enough()
	seen := a.readBeats(look, &lifeboatv1.Probe{HostId: "h2", BootId: "boot2", Beats: []string{shared, other, filepath.Join(shared, "..")}})
	if len(seen) != 1 || seen[0].Storage != shared || !seen[0].Moved {
		t.Fatalf("seen %v", seen)
	}
	began := time.Now()
	if seen := a.readBeats(look, &lifeboatv1.Probe{HostId: "h2", BootId: "boot2"}); len(seen) != 0 || time.Since(began) > time.Second {
		t.Fatalf("seen %v, and nobody asked", seen)
	}
}

func TestHeartbeatDirsAreChecked(t *testing.T) {
	for text, want := range map[string]string{
		"heartbeat_dirs: [/srv/a, /srv/b]": "",
		"heartbeat_dirs: [srv/a]":          "whole path",
		"heartbeat_dirs: [/srv/a, /srv/a]": "there already",
	} {
		_, err := parseFile("agent.yaml", []byte("host_id: h1\nmanagers: [\"n1:7400\"]\ncert: a\nkey: b\nca: c\n"+text+"\n"))
		if (err == nil) != (want == "") || err != nil && !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v, want %q", text, err, want)
		}
	}
}
