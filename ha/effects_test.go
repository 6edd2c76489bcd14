package ha_test

import (
	"slices"
	"time"

	"lifeboat/fsm"
	"lifeboat/fsm/logpb"
	"lifeboat/ha"
)

// check reads the power twice, as power controllers answer, and commits it.
func (w *world) check(e ha.Check) {
	if w.soft.Checks == nil {
		w.soft.Checks = map[fsm.HostID]ha.CheckRun{}
	}
	w.soft.Checks[e.Host] = ha.CheckRun{Round: e.Round}
	c := &logpb.FenceChecked{Host: string(e.Host)}
	for _, l := range e.Levels {
		f := w.host(e.Host).Fence[l.Index]
		x := &logpb.LevelCheck{Level: uint32(l.Index), Driver: f.Driver, Address: f.Address, Identity: f.Identity, LastUnixNs: f.Check.Checked, By: "leader"}
		if b := w.boxes[e.Host]; b.bmc == "dead" {
			x.Failure = "no answer"
		}
		c.Levels = append(c.Levels, x)
	}
	w.within(1200*time.Millisecond, func() {
		w.apply(c)
		w.soft.Checks[e.Host] = ha.CheckRun{Round: e.Round, Ended: w.mono()}
	})
}

func (w *world) soften(id fsm.HostID, epoch uint64, f func(*ha.Contact)) {
	c := w.soft.Hosts.Of(id)
	if c.Epoch != epoch {
		if c.Epoch > epoch {
			return
		}
		c = ha.Contact{Epoch: epoch, Knocked: c.Knocked}
	}
	f(&c)
	w.soft.Hosts.Set(id, c)
}

// investigate: peers answer after 100 ms, power controllers after 200 ms, dead
// ones not at all.
func (w *world) investigate(e ha.Investigate) {
	w.soften(e.Host, e.Epoch, func(c *ha.Contact) { c.Check = &ha.Investigation{Round: e.Round, Started: w.mono()} })
	left, last := 0, time.Duration(0)
	ask := func(d time.Duration, find func() ha.Finding) {
		left++
		last = max(last, d)
		w.within(d, func() {
			w.soften(e.Host, e.Epoch, func(c *ha.Contact) {
				if left--; c.Check == nil || c.Check.Round != e.Round {
					return
				}
				i := *c.Check
				i.Findings = append(slices.Clone(i.Findings), find())
				i.Complete = left == 0
				c.Check = &i
			})
		})
	}
	target := w.boxes[e.Host]
	for _, p := range e.Peers {
		peer := w.boxes[p]
		ask(100*time.Millisecond, func() ha.Finding {
			f := ha.Finding{Source: "peer " + string(p), Detail: "it cannot reach it"}
			if target.power && target.seen && peer.power && peer.network {
				f.Verdict, f.Detail = fsm.Alive, "it reaches 10.0.0.1"
			}
			return f
		})
	}
	for _, l := range e.BMC {
		f := ha.Finding{Source: "power (" + target.levels[l.Index] + ")"}
		if target.bmc == "dead" {
			f.Detail = "no answer"
			ask(e.For, func() ha.Finding { return f })
			continue
		}
		ask(200*time.Millisecond, func() ha.Finding {
			f.Detail = "the power reads on"
			if !target.power {
				f.Verdict, f.Detail = fsm.Dead, "the power is off"
			}
			return f
		})
	}
	if left == 0 {
		w.soften(e.Host, e.Epoch, func(c *ha.Contact) { i := *c.Check; i.Complete = true; c.Check = &i })
	}
}

// fence: the power is cut after a second and read as off twice after that.
func (w *world) fence(e ha.Fence) {
	b := w.boxes[e.Host]
	w.note("fence %s by %s, attempt %d, within %s", e.Host, b.levels[e.Level], e.Attempt, e.Timeout)
	run := ha.FenceRun{Attempt: e.Attempt}
	set := func() { w.soften(e.Host, e.Epoch, func(c *ha.Contact) { r := run; c.Fence = &r }) }
	set()
	end := func(d time.Duration, failure string) {
		w.within(d, func() {
			run.Ended, run.Failure = w.mono(), failure
			if failure == "" {
				run.Proof = &ha.Finding{Source: b.levels[e.Level], Verdict: fsm.Dead, Detail: "power read as off twice"}
			}
			set()
		})
	}
	switch b.bmc {
	case "dead":
		end(e.Timeout, "no answer")
	case "errors":
		end(500*time.Millisecond, "it said no")
	case "ipmi errors":
		if b.levels[e.Level] == "ipmi" {
			end(500*time.Millisecond, "it said no")
			return
		}
		fallthrough
	default:
		w.within(time.Second, func() {
			if b.power {
				b.die()
			}
		})
		end(2500*time.Millisecond, "")
	}
}

func contacts(of map[fsm.HostID]ha.Contact) (c ha.Contacts) {
	for id, x := range of {
		c.Set(id, x)
	}
	return c
}
