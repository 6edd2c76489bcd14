package fsm

import (
	"fmt"
	"math/rand/v2"
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

// busy is a cluster in which alerts flap all the time, with two receivers that forget,
// one of them stuck, and one that is stuck and wants all news.
type busy struct {
	*lab
	c      chooser
	steady int // alerts that stay open
	flaps  int // others
	open   map[int]bool
	fresh  int
}

const busyKeep = 100 // notices; the smallest notify_keep

func newBusy(t *testing.T, seed uint64) *busy {
	b := &busy{lab: level4(t), c: chooser(rand.New(rand.NewPCG(seed, 16)).IntN), open: map[int]bool{}}
	b.steady, b.flaps = 1+b.c(60), 1+b.c(20)
	b.ok(&logpb.PolicySet{Settings: []*logpb.Setting{{Key: "notify_keep", Value: fmt.Sprint(busyKeep)}}})
	c := &logpb.AlertRaise{}
	for i := range b.steady {
		c.Alerts = append(c.Alerts, raised(fmt.Sprint("s", i), "hot").Alerts...)
	}
	b.ok(c)
	b.ok(&logpb.NotifySet{Name: "stuck", Kind: "webhook"})
	for _, name := range []string{"prom", "stuckprom"} {
		b.ok(&logpb.NotifySet{Name: name, Kind: "alertmanager", RepeatNs: int64(20 * time.Second)})
	}
	return b
}

// flap lets a few alerts begin or end, and now and then raises one that is new.
func (b *busy) flap() {
	c := &logpb.AlertRaise{}
	for range 1 + b.c(12) {
		i := b.c(b.flaps)
		a := raised(fmt.Sprint("f", i), "hot").Alerts[0]
		a.Resolved = b.open[i]
		b.open[i] = !b.open[i]
		c.Alerts = append(c.Alerts, a)
	}
	for range b.c(3) {
		b.fresh++
		c.Alerts = append(c.Alerts, raised(fmt.Sprint("n", b.fresh), "hot").Alerts...)
	}
	b.ok(c)
}

// take delivers the oldest of what a receiver waits for, and returns what was repeated.
func (b *busy) take(receiver string, most int) (repeated []string) {
	r := b.state().Receiver(receiver)
	var upto NoticeID
	for n := range b.state().Pending(r) {
		if upto = n.ID; n.Kind == NoticeStill {
			repeated = append(repeated, n.Alert.About())
		}
		if most--; most == 0 {
			break
		}
	}
	if upto == 0 {
		return nil
	}
	b.ok(&logpb.NotifyStep{Receiver: receiver, Action: NotifyBegin, After: uint64(r.Done), Upto: uint64(upto)})
	b.ended(receiver, b.state().Receiver(receiver).Batch, true)
	return repeated
}

// However alerts flap and whoever hangs: repeats cost nobody any news, and each round
// comes to its end, and has told all that stayed open, within a number of deliveries that
// is known beforehand. Of a piece of a round, each delivery takes up to a hundred of the
// notices before and in it, and there are never more than notify_keep and a share.
func TestRoundsEndAndCostNoNews(t *testing.T) {
	const atOnce = 100
	for seed := range uint64(4) {
		b := newBusy(t, seed)
		share := b.state().Policy.repeatShare()
		round, steps, rounds := int64(0), 0, 0
		told := map[string]int{}
		for step := range 200 {
			b.wait(time.Second)
			b.flap() // so that the receiver waits for something at each canary
			b.tick()
			r := b.state().Receiver("prom")
			if r.Round != round {
				round, steps = r.Round, 0
				clear(told)
			}
			for _, x := range b.take("prom", atOnce) {
				told[x]++
			}
			steps++
			open := b.state().CountOpenAlerts()
			if most := (open/share + 1) * ((busyKeep+share)/atOnce + 2); (b.state().Receiver("prom").Cursor != 0 || b.state().repeating(b.state().Receiver("prom"))) && steps > most {
				t.Fatalf("seed %d, step %d: a round over %d alerts has taken %d deliveries and is not over", seed, step, open, steps)
			}
			if r := b.state().Receiver("prom"); r.Cursor == 0 && !b.state().repeating(r) && len(told) > 0 {
				rounds++
				for i := range b.steady {
					if n := told[fmt.Sprint("s", i)]; n != 1 {
						t.Fatalf("seed %d, step %d: in a round, s%d was told %d times", seed, step, i, n)
					}
				}
				clear(told)
			}
			if lost, left := b.state().Receiver("stuck").Lost, len(b.pending("stuck")); lost > 0 && left != busyKeep {
				t.Fatalf("seed %d, step %d: %d notices were lost where %d of %d are kept", seed, step, lost, left, busyKeep)
			}
			if lost := b.state().Receiver("prom").Lost; lost > 0 {
				t.Fatalf("seed %d, step %d: who takes all has lost %d", seed, step, lost)
			}
		}
		if rounds < 2 {
			t.Errorf("seed %d: %d rounds in 200 s", seed, rounds)
		}
		if n := b.state().CountNotices(); n > busyKeep+2*share {
			t.Errorf("seed %d: %d notices are kept", seed, n)
		}
	}
}

// What is given up and would come again is not counted as lost.
func TestRepeatsThatAreGivenUpAreNotLost(t *testing.T) {
	l := level4(t)
	l.ok(&logpb.PolicySet{Settings: []*logpb.Setting{{Key: "notify_give_up", Value: "20s"}}})
	l.ok(raised("h1", "hot"))
	l.ok(&logpb.NotifySet{Name: "prom", Kind: "alertmanager", RepeatNs: int64(time.Minute)})
	l.tick()
	l.ok(raised("h2", "hot"))
	l.begin("prom")
	l.wait(time.Minute)
	l.ended("prom", l.state().Receiver("prom").Batch, false)
	if r := l.state().Receiver("prom"); r.Batch != nil || r.Lost != 1 {
		t.Errorf("lost are %d: %+v", r.Lost, r.Batch)
	}
	l.tick()
	if got := l.pending("prom"); !slices.Equal(got, []string{"still h1", "still h2"}) {
		t.Errorf("in the next round: %q", got)
	}
}

// A round over what keeps coming has an end: what is new was told as news.
func TestARoundEndsWhereAlertsKeepComing(t *testing.T) {
	l := level4(t)
	l.ok(&logpb.PolicySet{Settings: []*logpb.Setting{{Key: "notify_keep", Value: "100"}}})
	share := l.state().Policy.repeatShare()
	more := func(n int) {
		c := &logpb.AlertRaise{}
		for range n {
			c.Alerts = append(c.Alerts, raised(fmt.Sprint("x", l.index, "-", len(c.Alerts)), "hot").Alerts...)
		}
		l.ok(c)
	}
	more(3 * share)
	l.ok(&logpb.NotifySet{Name: "prom", Kind: "alertmanager", RepeatNs: int64(time.Minute)})
	for range 5 {
		l.tick()
		l.deliver("prom", true)
		l.wait(time.Second)
		more(share + 5)
	}
	if r := l.state().Receiver("prom"); r.Cursor != 0 {
		t.Errorf("the round is not over, and would never be: it is at alert %d of %d", r.Cursor, l.state().seq)
	}
}
