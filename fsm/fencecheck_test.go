package fsm

import (
	"strings"
	"testing"
	"time"

	"lifeboat/fsm/logpb"
)

// check commits the outcome of a check of a level of h1.
func (l *lab) check(level int, failure string) {
	l.t.Helper()
	f := l.host("h1").Fence[level]
	l.ok(&logpb.FenceChecked{Host: "h1", Levels: []*logpb.LevelCheck{{Level: uint32(level), Driver: f.Driver, Address: f.Address, Identity: f.Identity, Failure: failure, By: "leader", LastUnixNs: f.Check.Checked}}})
	l.wait(time.Minute)
}

func (l *lab) pathAlert() *AlertRecord {
	return l.state().OpenAlert(AlertKey{AlertFence, "h1", "not proven"})
}

func TestFencePathAlert(t *testing.T) {
	for _, c := range []struct {
		name    string
		checks  func(*lab)
		alerted bool
	}{
		{"never tried", func(*lab) {}, false},
		{"two failures", func(l *lab) { l.check(0, "x"); l.check(0, "x") }, false},
		{"three failures", func(l *lab) { l.check(0, "x"); l.check(0, "x"); l.check(0, "x") }, true},
		{"not in a row", func(l *lab) { l.check(0, "x"); l.check(0, "x"); l.check(0, ""); l.check(0, "x") }, false},
		{"mended", func(l *lab) { l.check(0, "x"); l.check(0, "x"); l.check(0, "x"); l.check(0, "") }, false},
		{"not proven for a day", func(l *lab) { l.check(0, ""); l.hours(25); l.check(0, "x") }, true},
		{"new levels", func(l *lab) {
			l.check(0, "x")
			l.check(0, "x")
			l.check(0, "x")
			l.ok(&logpb.HostFenceLevels{Host: "h1", Levels: []*logpb.FenceLevel{{Driver: "redfish", Address: "b"}}})
		}, false},
		{"the same levels", func(l *lab) {
			for range 3 {
				l.check(0, "x")
			}
			l.ok(&logpb.HostFenceLevels{Host: "h1", Levels: fenceToLog(l.host("h1").Fence)})
		}, true},
	} {
		t.Run(c.name, func(t *testing.T) {
			l := fleet(t, 2, 1)
			c.checks(l)
			if got := l.pathAlert() != nil; got != c.alerted {
				t.Errorf("alert %v: %+v", got, l.host("h1").Fence)
			}
		})
	}
}

// What is found out when levels are set counts, although the same level was
// checked before.
func TestFenceSetAgainIsACheck(t *testing.T) {
	l := fleet(t, 2, 1)
	for range 3 {
		l.check(0, "no answer")
	}
	f := l.host("h1").Fence[0]
	l.wait(time.Minute)
	l.ok(&logpb.HostFenceLevels{Host: "h1", Levels: fenceToLog(l.host("h1").Fence),
		Checks: []*logpb.LevelCheck{{Driver: f.Driver, Address: f.Address, Identity: f.Identity, By: "leader"}}})
	if c := l.host("h1").Fence[0].Check; c.Failure != "" || c.Proven != l.now || l.pathAlert() != nil {
		t.Errorf("%+v, alert %v", c, l.pathAlert())
	}
}

func (l *lab) hours(n int) {
	for range 2 * n {
		l.wait(30 * time.Minute)
		l.ok(&logpb.Canary{Node: "n1", Term: 1})
	}
}

func TestFenceCheckOfReplacedLevelIsNotJudged(t *testing.T) {
	l := fleet(t, 2, 1)
	f := l.host("h1").Fence[0]
	l.ok(&logpb.HostFenceLevels{Host: "h1", Levels: []*logpb.FenceLevel{{Driver: f.Driver, Address: "another"}}})
	l.ok(&logpb.FenceChecked{Host: "h1", Levels: []*logpb.LevelCheck{{Driver: f.Driver, Address: f.Address, Identity: f.Identity}, {Level: 9}}})
	if c := l.host("h1").Fence[0].Check; c.Checked != 0 {
		t.Errorf("%+v", c)
	}
	if why := l.host("h1").PathProblem(l.state().Policy, l.state().Time); !strings.Contains(why, "not been tried") {
		t.Error(why)
	}
}

func TestExecutorsThatCannotBe(t *testing.T) {
	l := fleet(t, 2, 1)
	for executor, want := range map[string]string{"somebody": "no executor", "host:": "names no host", "host:h1": "cannot fence itself"} {
		no := l.rejected(&logpb.HostFenceLevels{Host: "h1", Levels: []*logpb.FenceLevel{{Driver: "ipmi", Executor: executor}}})
		if !strings.Contains(no, want) {
			t.Errorf("%s: %s", executor, no)
		}
	}
	if no := l.rejected(&logpb.HostFenceLevels{Host: "h1", Levels: []*logpb.FenceLevel{{Driver: "lease", Executor: "any"}}}); !strings.Contains(no, "nobody executes it") {
		t.Error(no)
	}
}
