package fsm

import (
	"slices"
	"strings"
	"testing"
	"time"

	"lifeboat/fsm/logpb"
)

// silences are the silences by their states, and the events about them so far.
func (l *lab) silences() (states, events []string) {
	for _, x := range l.state().Silences() {
		states = append(states, x.StateAt(l.state().Time))
	}
	for _, e := range l.state().EventsAfter(0) {
		if what, ok := strings.CutPrefix(e.Type, "SILENCE."); ok {
			events = append(events, what)
		}
	}
	return states, events
}

func (l *lab) tick() { l.ok(&logpb.Canary{Node: "n1"}) }

// pass lets time go by with canaries: the clock makes no larger steps.
func (l *lab) pass(d time.Duration) {
	for ; d > 0; d -= time.Hour {
		l.wait(min(d, time.Hour))
		l.tick()
	}
}

// A silence keeps alerts from receivers; what is still open when it ends is told then.
func TestSilences(t *testing.T) {
	l := level4(t)
	l.ok(&logpb.NotifySet{Name: "hook", Kind: "webhook"})
	l.ok(&logpb.SilenceSet{Match: &logpb.AlertMatch{Subjects: []string{"h1", "x*"}}, Reason: "works", ForNs: int64(time.Minute)})
	l.ok(raised("h1", "hot"))
	l.ok(raised("x1", "hot"))
	l.ok(raised("h2", "hot"))
	l.ok(itEnded("x1", "hot"))
	if got := l.pending("hook"); !slices.Equal(got, []string{"opened h2"}) {
		t.Errorf("during the silence: %q", got)
	}
	l.wait(time.Minute)
	l.tick()
	l.tick()
	if got := l.pending("hook"); !slices.Equal(got, []string{"opened h2", "opened h1"}) {
		t.Errorf("after it: %q", got)
	}
	if states, events := l.silences(); !slices.Equal(states, []string{"ended"}) || !slices.Equal(events, []string{"START", "END"}) {
		t.Errorf("it is %q after %q", states, events)
	}
}

// One that is planned keeps nothing back before its time, all in it, and what is open
// at its end is told once. That goes by the times of entries: no canary says when.
func TestPlannedSilences(t *testing.T) {
	l := level4(t)
	l.ok(&logpb.NotifySet{Name: "hook", Kind: "webhook"})
	begin := l.now + int64(time.Hour)
	l.ok(&logpb.SilenceSet{Reason: "new memory", FromUnixNs: begin, ForNs: int64(time.Hour)})
	l.ok(raised("h1", "hot"))
	l.tick()
	if states, events := l.silences(); !slices.Equal(states, []string{"planned"}) || !slices.Equal(events, []string{"PLAN"}) {
		t.Errorf("before its time it is %q after %q", states, events)
	}
	l.wait(time.Duration(begin-l.now) - 1)
	l.ok(raised("h2", "hot"))
	l.wait(1)
	l.ok(raised("h3", "hot"))
	if got := l.pending("hook"); !slices.Equal(got, []string{"opened h1", "opened h2"}) {
		t.Errorf("raised a nanosecond before the begin and at the begin: %q", got)
	}
	l.tick()
	l.tick()
	l.ok(itEnded("h1", "hot")) // whoever was told of the begin is told of the end
	l.ok(raised("h4", "hot"))
	l.ok(itEnded("h4", "hot"))
	if states, events := l.silences(); !slices.Equal(states, []string{"active"}) || !slices.Equal(events, []string{"PLAN", "START"}) {
		t.Errorf("in its time it is %q after %q", states, events)
	}
	l.wait(time.Hour)
	l.ok(raised("h5", "hot"))
	for range 3 {
		l.tick()
	}
	if got := l.pending("hook"); !slices.Equal(got, []string{"opened h1", "opened h2", "resolved h1", "opened h5", "opened h3"}) {
		t.Errorf("at the end: %q", got)
	}
	if states, events := l.silences(); !slices.Equal(states, []string{"ended"}) || !slices.Equal(events, []string{"PLAN", "START", "END"}) {
		t.Errorf("then it is %q after %q", states, events)
	}
	l.pass(silencesKeptFor)
	if states, _ := l.silences(); len(states) != 0 {
		t.Errorf("after a week there are still %q", states)
	}
}

// Where one silence ends and another goes on, nobody is told in between.
func TestSilencesThatMeet(t *testing.T) {
	l := level4(t)
	l.ok(&logpb.NotifySet{Name: "hook", Kind: "webhook"})
	end := l.now + int64(time.Hour)
	l.ok(&logpb.SilenceSet{Reason: "one", UntilUnixNs: end})
	l.ok(&logpb.SilenceSet{Reason: "two", FromUnixNs: end, ForNs: int64(time.Hour)})
	l.ok(raised("h1", "hot"))
	l.wait(time.Duration(end - l.now))
	l.tick()
	if got := l.pending("hook"); len(got) != 0 {
		t.Errorf("told as the first ends: %q", got)
	}
	l.wait(time.Hour)
	l.tick()
	if got := l.pending("hook"); !slices.Equal(got, []string{"opened h1"}) {
		t.Errorf("told as the second ends: %q", got)
	}
}

// Planned ones can be called off, and what ended cannot be ended again.
func TestSilencesAreEnded(t *testing.T) {
	l := level4(t)
	l.ok(&logpb.NotifySet{Name: "hook", Kind: "webhook"})
	l.ok(&logpb.SilenceSet{Reason: "works", FromUnixNs: l.now + int64(time.Hour), ForNs: int64(time.Hour)})
	var id SilenceID
	for id = range l.state().Silences() {
	}
	l.ok(&logpb.SilenceSet{Id: uint64(id)})
	l.wait(time.Hour)
	l.tick()
	l.ok(raised("h1", "hot"))
	if got := l.pending("hook"); !slices.Equal(got, []string{"opened h1"}) {
		t.Errorf("it was called off, and %q were told", got)
	}
	if no := l.rejected(&logpb.SilenceSet{Id: uint64(id)}); !strings.Contains(no, "has ended already") {
		t.Errorf("ended again: %q", no)
	}
	if _, events := l.silences(); !slices.Equal(events, []string{"PLAN", "END"}) {
		t.Errorf("events %q", events)
	}
}

// Who was told of an alert before a silence is told after it that it is more severe.
func TestMoreSevereInASilence(t *testing.T) {
	l := level4(t)
	l.ok(&logpb.NotifySet{Name: "hook", Kind: "webhook"})
	l.ok(&logpb.NotifySet{Name: "pager", Kind: "webhook", Match: &logpb.AlertMatch{Severity: uint32(Critical)}})
	severity := func(subject string, s Severity) {
		c := raised(subject, "hot")
		c.Alerts[0].Severity = uint32(s)
		l.ok(c)
	}
	severity("h1", Warning)
	l.ok(&logpb.SilenceSet{Reason: "works", ForNs: int64(time.Minute)})
	severity("h2", Warning)
	severity("h1", Critical)
	severity("h2", Critical)
	l.wait(time.Minute)
	l.tick()
	l.tick()
	if got := l.pending("hook"); !slices.Equal(got, []string{"opened h1", "worse h1", "opened h2"}) {
		t.Errorf("told were %q", got)
	}
	if got := l.pending("pager"); !slices.Equal(got, []string{"worse h1", "opened h2"}) {
		t.Errorf("who only wants critical ones was told %q", got)
	}
}

func TestSilencesThatAreRefused(t *testing.T) {
	l := level4(t)
	hour := int64(time.Hour)
	most := int64(MaxSilence)
	for want, c := range map[string]*logpb.SilenceSet{
		"say either for how long":        {Reason: "x"},
		"has a reason":                   {ForNs: 1},
		"there is no silence 4242":       {Id: 4242},
		"lasts up to 8760h0m0s: say":     {Reason: "x", ForNs: most + 1},
		"or until when":                  {Reason: "x", ForNs: hour, UntilUnixNs: l.now + hour},
		"would be over before it begins": {Reason: "x", UntilUnixNs: l.now},
		"cannot begin in the past":       {Reason: "x", FromUnixNs: l.now - 1, ForNs: hour},
		"before it begins at":            {Reason: "x", FromUnixNs: l.now + 2*hour, UntilUnixNs: l.now + hour},
		"at most 8760h0m0s ahead":        {Reason: "x", FromUnixNs: l.now + most + 1, ForNs: hour},
		"would last 8760h0m0.000000001s": {Reason: "x", FromUnixNs: l.now + hour, UntilUnixNs: l.now + hour + most + 1},
		"ahead; plan it when":            {Reason: "x", FromUnixNs: 1<<63 - 1, ForNs: hour},
		"leave the begin away":           {Reason: "x", FromUnixNs: -1 << 63, ForNs: hour},
		"let it end earlier":             {Reason: "x", UntilUnixNs: 1<<63 - 1},
		"or until":                       {Reason: "x", ForNs: -1},
	} {
		if no := l.rejected(c); !strings.Contains(no, want) {
			t.Errorf("%v: refused with %q, and not with %q", c, no, want)
		}
	}
	for range maxSilences {
		l.ok(&logpb.SilenceSet{Reason: "x", FromUnixNs: l.now + hour, ForNs: hour})
	}
	if no := l.rejected(&logpb.SilenceSet{Reason: "x", ForNs: hour}); !strings.Contains(no, "there can be no more") {
		t.Errorf("one too many: %q", no)
	}
	l.pass(2 * time.Hour) // those that are over make room
	l.ok(&logpb.SilenceSet{Reason: "x", ForNs: hour})
	if states, _ := l.silences(); len(states) != silencesKept+1 {
		t.Errorf("%d are kept", len(states))
	}
}
