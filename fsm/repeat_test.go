package fsm

import (
	"fmt"
	"slices"
	"testing"
	"time"

	"lifeboat/fsm/logpb"
)

// What stays open is told again in time to who forgets it, and to nobody else; what is
// over, kept back by a silence or not for it is not.
func TestRepeats(t *testing.T) {
	l := level4(t)
	l.ok(&logpb.NotifySet{Name: "hook", Kind: "webhook"})
	l.ok(&logpb.NotifySet{Name: "prom", Kind: "alertmanager", Match: &logpb.AlertMatch{Subjects: []string{"h*"}}, RepeatNs: int64(time.Minute)})
	for _, subject := range []string{"h1", "h2", "x1"} {
		l.ok(raised(subject, "hot"))
	}
	l.ok(&logpb.SilenceSet{Reason: "works", Match: &logpb.AlertMatch{Subjects: []string{"h1", "h3"}}, ForNs: int64(24 * time.Hour)})
	l.ok(raised("h3", "hot"))
	l.deliver("prom", true)
	l.tick() // the first round: what was there before the receiver is for it, too
	if got := l.pending("prom"); !slices.Equal(got, []string{"still h1", "still h2"}) {
		t.Fatalf("in the first round: %q", got)
	}
	l.ok(itEnded("h2", "hot")) // its end comes behind
	l.wait(time.Hour)
	l.tick()
	if got := l.pending("prom"); !slices.Equal(got, []string{"still h1", "still h2", "resolved h2"}) {
		t.Errorf("as long as it has not taken them: %q", got)
	}
	l.deliver("prom", true)
	for i := range 3 {
		l.tick()
		if got := l.pending("prom"); !slices.Equal(got, []string{"still h1"}) {
			t.Fatalf("round %d: %q", i, got)
		}
		l.deliver("prom", true)
		l.wait(time.Minute - 1)
		l.tick()
		if got := l.pending("prom"); len(got) != 0 {
			t.Fatalf("before round %d: %q", i, got)
		}
		l.wait(1)
	}
	if got := l.pending("hook"); !slices.Equal(got, []string{"opened h1", "opened h2", "opened x1", "resolved h2"}) {
		t.Errorf("the other one waits for %q", got)
	}
	l.ok(&logpb.NotifySet{Name: "prom", Kind: "alertmanager", Off: true, RepeatNs: int64(time.Minute)})
	l.pass(10 * time.Minute)
	if got := l.pending("prom"); len(got) != 0 {
		t.Errorf("it is off, and waits for %q", got)
	}
	if no := l.rejected(&logpb.NotifySet{Name: "often", Kind: "alertmanager", RepeatNs: 1}); no == "" {
		t.Error("it is told every nanosecond")
	}
}

// A round over many alerts goes in pieces, tells each once, and leaves room for what is
// news, also when a receiver that hangs has filled the outbox.
func TestARoundOverManyAlerts(t *testing.T) {
	l := level4(t)
	l.ok(&logpb.PolicySet{Settings: []*logpb.Setting{{Key: "notify_keep", Value: "1000"}}})
	const alerts = 2*repeatAtOnce + 7
	for begin := 0; begin < alerts; begin += MaxRaised {
		c := &logpb.AlertRaise{}
		for i := begin; i < min(alerts, begin+MaxRaised); i++ {
			c.Alerts = append(c.Alerts, raised(fmt.Sprint("x", i), "hot").Alerts...)
		}
		l.ok(c)
	}
	for _, full := range []bool{false, true} {
		t.Run(fmt.Sprintf("full: %t", full), func(t *testing.T) {
			if full {
				l.ok(&logpb.NotifySet{Name: "stuck", Kind: "webhook"})
				for i := range 1100 {
					l.ok(raised(fmt.Sprint("y", i), "hot"))
				}
				c := &logpb.AlertControl{Action: alertResolve, Match: &logpb.AlertMatch{Subjects: []string{"y*"}}}
				l.ok(c)
			}
			l.ok(&logpb.NotifySet{Name: "prom", Kind: "alertmanager", RepeatNs: int64(time.Hour)})
			told := map[string]int{}
			steps := 0
			for l.tick(); len(l.pending("prom")) > 0; l.tick() {
				steps++
				got := l.pending("prom")
				if len(got) > repeatAtOnce {
					t.Fatalf("%d at once", len(got))
				}
				for _, x := range got {
					told[x]++
				}
				l.deliver("prom", true)
			}
			if len(told) != alerts || steps > 12 {
				t.Errorf("%d of %d alerts were told in %d steps", len(told), alerts, steps)
			}
			for x, n := range told {
				if n != 1 {
					t.Errorf("%s was told %d times", x, n)
				}
			}
			if full {
				if n := len(l.pending("stuck")); n < 800 {
					t.Errorf("of the news for the other one, %d are left", n)
				}
			}
			l.ok(&logpb.NotifyRemove{Name: "prom"})
		})
	}
}
