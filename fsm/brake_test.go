package fsm

import (
	"bytes"
	"slices"
	"testing"
	"time"

	"lifeboat/fsm/logpb"
)

// S17: a brake lets go of a host only when it has expired, and of so many only.
// Each is counted once, and is not forgotten by a snapshot.
func TestS17BrakeLetsGo(t *testing.T) {
	l := fleet(t, 5, 0)
	letGo := func(h string) *logpb.Brake { return &logpb.Brake{Domain: "cluster", LetGo: h} }
	l.rejected(letGo("h1"))
	l.ok(&logpb.Brake{Domain: "cluster", On: true, Reason: "4 of 5 hosts are silent together"})
	l.wait(time.Hour)
	l.rejected(letGo("h1")) // it does not expire by itself
	l.ok(&logpb.PolicySet{Settings: []*logpb.Setting{{Key: "brake_expiry", Value: "2h"}, {Key: "brake_min", Value: "2"}}})
	l.rejected(letGo("h1")) // not yet
	l.wait(time.Hour)
	l.rejected(letGo("nobody"))
	for _, h := range []string{"h1", "h1", "h2", "h1"} {
		l.ok(letGo(h))
	}
	l.rejected(letGo("h3"))
	l.wait(59 * time.Minute)
	l.ok(&logpb.Canary{Node: "n1", Term: 1, Seq: 1})
	l.wait(59 * time.Minute)
	l.ok(&logpb.Canary{Node: "n1", Term: 1, Seq: 2})
	l.wait(2 * time.Minute)
	l.ok(letGo("h3"))
	held := func(s *State) []HostID {
		for _, b := range s.Brakes() {
			return b.LetGo
		}
		return nil
	}
	restored, err := ReadState(bytes.NewReader(snapshotOf(t, l.state())))
	if err != nil {
		t.Fatal(err)
	}
	if want := []HostID{"h1", "h2", "h3"}; !slices.Equal(held(l.state()), want) || !slices.Equal(held(restored), want) {
		t.Errorf("it let go of %v, after a restart of %v, want %v", held(l.state()), held(restored), want)
	}
	l.ok(&logpb.Brake{Domain: "cluster", Reason: "they are back"})
	l.ok(&logpb.Brake{Domain: "cluster", On: true, Reason: "they are silent again"})
	l.rejected(letGo("h4")) // it counts anew
}
