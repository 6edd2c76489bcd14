package sim

import (
	"time"

	"lifeboat/fsm"
	"lifeboat/fsm/logpb"
	"lifeboat/ha"
)

// checkTimeout is when a check of a fence level gives up.
const checkTimeout = 10 * time.Second

// checkFence reads the power of a host twice through each of its levels, and
// commits what was found.
func (t *term) checkFence(e ha.Check) {
	t.checks[e.Host] = ha.CheckRun{Round: e.Round}
	h := t.state().Host(e.Host)
	if h == nil {
		t.checked(e)
		return
	}
	b := t.m.w.byHost[string(h.ID)]
	c := &logpb.FenceChecked{Host: string(h.ID)}
	_, _, wait := b.power()
	for _, l := range e.Levels {
		f := h.Fence[l.Index]
		c.Levels = append(c.Levels, &logpb.LevelCheck{Level: uint32(l.Index), Driver: f.Driver, Address: f.Address, Identity: f.Identity,
			By: fsm.ViaLeader, LastUnixNs: f.Check.Checked})
	}
	t.later(min(2*wait+minGap, checkTimeout), func() {
		on, failure, again := b.power()
		switch {
		case again > checkTimeout && failure == "":
			failure = "no answer in time"
		case failure == "" && !on:
			t.checked(e) // it has just died: that says nothing about the level
			return
		}
		for _, x := range c.Levels {
			x.Failure = failure
		}
		t.propose("", &logpb.Command{Body: &logpb.Command_FenceChecked{FenceChecked: c}}, func(fsm.Result, error) { t.checked(e) })
	})
}

func (t *term) checked(e ha.Check) {
	t.checks[e.Host] = ha.CheckRun{Round: e.Round, Ended: max(t.mono(), 1)}
	t.again()
}
