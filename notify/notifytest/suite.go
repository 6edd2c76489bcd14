package notifytest

import (
	"context"
	"errors"
	"strings"
	"testing"
	"time"

	"lifeboat/notify"
)

// Rig is a real receiver on this machine and the target that reaches it.
type Rig struct {
	Target notify.Target
	// Got returns what has arrived since it was made, each as one text.
	Got func() []string
	// Refuse makes the receiver refuse what comes; Hang makes it not answer. Each lasts
	// until the test ends.
	Refuse, Hang func()
}

// Run holds a driver against the rules. rig makes a fresh receiver.
func Run(t *testing.T, kind notify.Kind, rig func(t *testing.T) *Rig) {
	t.Helper()
	open := func(t *testing.T, r *Rig) notify.Driver {
		t.Helper()
		r.Target.Kind = kind.Name
		d, err := notify.NewRegistry(kind).Open(r.Target)
		if err != nil {
			t.Fatal(err)
		}
		return d
	}
	t.Run("it arrives, whole", func(t *testing.T) {
		r := rig(t)
		if err := open(t, r).Send(t.Context(), Message("d-1")); err != nil {
			t.Fatal(err)
		}
		got := r.Got()
		if len(got) != 1 {
			t.Fatalf("%d messages have arrived", len(got))
		}
		for _, want := range []string{"d-1", "h2", "Host h2 is Down", "confirm-dead h2"} {
			if !strings.Contains(got[0], want) {
				t.Errorf("%q is not in it:\n%s", want, got[0])
			}
		}
		if s := r.Target.Secret; s != "" && strings.Contains(got[0], s) {
			t.Error("its secret is in it")
		}
	})
	t.Run("again has the same id", func(t *testing.T) {
		r := rig(t)
		d := open(t, r)
		for range 2 {
			if err := d.Send(t.Context(), Message("d-7")); err != nil {
				t.Fatal(err)
			}
		}
		got := r.Got()
		if len(got) != 2 || !strings.Contains(got[0], "d-7") || !strings.Contains(got[1], "d-7") {
			t.Errorf("got %q", got)
		}
	})
	t.Run("a digest and a test", func(t *testing.T) {
		r := rig(t)
		d := open(t, r)
		m := Message("d-2")
		m.Total = 500
		for range 60 {
			m.Notices = append(m.Notices, m.Notices[0])
		}
		test := Message("t-1")
		test.Test = true
		for _, x := range []*notify.Message{m, test} {
			if err := d.Send(t.Context(), x); err != nil {
				t.Fatal(err)
			}
		}
		if got := r.Got(); len(got) != 2 || !strings.Contains(strings.ToLower(got[1]), "test") {
			t.Errorf("%d messages have arrived", len(got))
		}
	})
	t.Run("a refusal is an error that says why, without the secret", func(t *testing.T) {
		r := rig(t)
		d := open(t, r)
		r.Refuse()
		err := d.Send(t.Context(), Message("d-3"))
		if err == nil || r.Target.Secret != "" && strings.Contains(err.Error(), r.Target.Secret) {
			t.Errorf("it says %v", err)
		}
	})
	t.Run("it ends with its context", func(t *testing.T) {
		r := rig(t)
		d := open(t, r)
		r.Hang()
		ctx, cancel := context.WithTimeout(t.Context(), 300*time.Millisecond)
		defer cancel()
		began := time.Now()
		err := d.Send(ctx, Message("d-4"))
		if took := time.Since(began); err == nil || took > 5*time.Second || took < 200*time.Millisecond {
			t.Errorf("after %s: %v", took, err)
		} else if !errors.Is(err, context.DeadlineExceeded) && !strings.Contains(err.Error(), "deadline") && !strings.Contains(err.Error(), "timeout") {
			t.Errorf("it says %v, and not that the time was over", err)
		}
	})
	t.Run("nonsense is refused before anything is sent", func(t *testing.T) {
		r := rig(t)
		for _, x := range []notify.Target{{Kind: kind.Name}, {Kind: kind.Name, Address: "../../bin/sh"},
			{Kind: kind.Name, Address: r.Target.Address, Options: map[string]string{"nonsense": "1"}}, {Kind: "nonsense"}} {
			if _, err := notify.NewRegistry(kind).Open(x); err == nil {
				t.Errorf("%+v is let pass", x)
			}
		}
	})
}

// Message is one about host h2.
func Message(id string) *notify.Message {
	at := time.Date(2026, 11, 22, 1, 2, 3, 0, time.UTC)
	return &notify.Message{ID: id, Cluster: "c1", Node: "n1", Time: at, Total: 1, Notices: []notify.Notice{{Kind: "opened", Alert: 7, Type: "HOST", Code: "ALERT.COMPUTE.HOST", TypeID: 7,
		Severity: "critical", Subject: "h2", Name: "h2", Cause: "down", Text: "Host h2 is Down: silent. Run `lifeboat host confirm-dead h2`.", Count: 3, First: at, Since: at,
		Labels: map[string]string{"rack": "r1"}}}}
}
