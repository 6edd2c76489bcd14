package sim

import (
	"fmt"
	"strconv"
	"time"

	lifeboatv1 "lifeboat/api/lifeboat/v1"
	"lifeboat/fsm"
	"lifeboat/ha"
)

// ensure starts the effects that have not been started in this term.
func (t *term) ensure(effects []ha.Effect) {
	for _, e := range effects {
		switch e := e.(type) {
		case ha.Investigate:
			if key := fmt.Sprintf("investigate %s/%d/%d", e.Host, e.Epoch, e.Round); !t.running[key] {
				t.running[key] = true
				t.investigate(e)
			}
		case ha.Fence:
			if key := fmt.Sprintf("fence %s/%d/%d", e.Host, e.Epoch, e.Attempt); !t.running[key] {
				t.running[key] = true
				t.fence(e)
			}
		case ha.Check:
			if key := fmt.Sprintf("check %s/%d", e.Host, e.Round); !t.running[key] {
				t.running[key] = true
				delete(t.running, fmt.Sprintf("check %s/%d", e.Host, e.Round-1))
				t.checkFence(e)
			}
		}
	}
}

// probeWait is who waits for a peer's answer.
type probeWait struct {
	peer fsm.HostID
	done func(*lifeboatv1.ProbeResult)
}

// investigate asks peers and power controllers about a silent host, all at
// once.
func (t *term) investigate(e ha.Investigate) {
	x := t.contact(e.Host, e.Epoch)
	x.changed()
	x.check = &ha.Investigation{Round: e.Round, Started: t.mono()}
	h := t.state().Host(e.Host)
	if h == nil || h.Epoch != e.Epoch {
		return
	}
	left := len(e.Peers) + len(e.BMC)
	mine := func() bool { return x.check != nil && x.check.Round == e.Round }
	found := func(f ha.Finding) {
		if !mine() {
			return
		}
		n := *x.check
		n.Findings = append(append([]ha.Finding(nil), n.Findings...), f)
		if left--; left == 0 {
			n.Complete = true
		}
		x.changed()
		x.check = &n
		t.again()
	}
	if left == 0 {
		n := *x.check
		n.Complete = true
		x.changed()
		x.check = &n
		t.again()
	}
	for _, peer := range e.Peers {
		t.askPeer(peer, h, e.Beats, e.For, func(f []ha.Finding) {
			if n := *x.check; mine() {
				n.Findings = append(append([]ha.Finding(nil), n.Findings...), f...)
				x.changed()
				x.check = &n
			}
		}, once(found))
	}
	for _, level := range e.BMC {
		t.readPower(h, h.Fence[level.Index], e.For, once(found))
	}
}

// once drops all but the first.
func once(do func(ha.Finding)) func(ha.Finding) {
	done := false
	return func(f ha.Finding) {
		if !done {
			done = true
			do(f)
		}
	}
}

// askPeer has another host try to reach the silent one, and look for its
// heartbeat.
func (t *term) askPeer(peer fsm.HostID, h *fsm.Host, beats []string, limit time.Duration, seen func([]ha.Finding), found func(ha.Finding)) {
	source := "peer " + string(peer)
	x := t.hosts[peer]
	if x == nil || x.heard == 0 {
		t.later(0, func() { found(ha.Finding{Source: source, Detail: "it could not be asked"}) })
		return
	}
	t.nonce++
	nonce := t.nonce
	t.probes[nonce] = probeWait{peer, func(r *lifeboatv1.ProbeResult) {
		f := ha.Finding{Source: source, Detail: "it cannot reach it: " + r.Detail}
		if r.Verdict != lifeboatv1.ProbeVerdict_PROBE_VERDICT_UNSPECIFIED {
			f.Verdict, f.Detail = fsm.Alive, "it reaches "+r.Detail
		}
		var more []ha.Finding
		for _, b := range r.Beats {
			m := ha.Finding{Source: "storage " + b.Storage + " seen by " + string(peer), Detail: b.Detail}
			if b.Moved {
				m.Verdict = fsm.Alive
			}
			more = append(more, m)
		}
		seen(more)
		found(f)
	}}
	t.later(limit, func() {
		delete(t.probes, nonce)
		found(ha.Finding{Source: source, Detail: "it gave no answer in time"})
	})
	x.probes = append(x.probes, &lifeboatv1.Probe{HostId: string(h.ID), Addrs: h.ProbeAddrs, Nonce: nonce, Beats: beats, BootId: h.BootID})
	x.wake()
}

func (t *term) deliver(from fsm.HostID, r *lifeboatv1.ProbeResult) {
	if p, ok := t.probes[r.Nonce]; ok && p.peer == from {
		delete(t.probes, r.Nonce)
		p.done(r)
	}
}

// readTime is how long a healthy power controller takes to answer.
const readTime = 50 * time.Millisecond

// power asks a host's power controller. on: what it reads; err: why there is
// no answer; wait: how long that takes.
func (h *host) power() (on bool, err string, wait time.Duration) {
	switch h.bmc {
	case bmcOff:
		return false, "no answer from the power controller", unanswered
	case bmcErrors:
		return false, "the power controller answers: internal error", readTime
	case bmcSlow:
		return h.state != machineOff, "", h.bmcDelay
	}
	return h.state != machineOff, "", readTime
}

const unanswered = time.Hour

// readPower reads a host's power state. Power that is on says nothing about
// what runs on it.
func (t *term) readPower(h *fsm.Host, l fsm.FenceLevel, limit time.Duration, found func(ha.Finding)) {
	source := "power (" + l.Driver + ")"
	b := t.m.w.byHost[string(h.ID)]
	_, _, wait := b.power()
	if wait > limit {
		t.later(limit, func() { found(ha.Finding{Source: source, Detail: "no answer in time"}) })
		return
	}
	t.later(wait, func() {
		on, err, _ := b.power()
		switch {
		case err != "":
			found(ha.Finding{Source: source, Detail: err})
		case !on:
			found(ha.Finding{Source: source, Verdict: fsm.Dead, Detail: "the power is off"})
		default:
			found(ha.Finding{Source: source, Detail: "the power reads on"})
		}
	})
}

// Intervals of package fence.
const (
	minGap    = time.Second // between the two readings of off (S9)
	pollPower = 250 * time.Millisecond
)

// cut is one committed attempt to fence a host (S10).
type cut struct {
	t        *term
	h        *host
	e        ha.Fence
	x        *contact
	end      time.Duration
	ordered  bool
	errors   int
	firstOff time.Duration // -1: not read as off
}

func (t *term) fence(e ha.Fence) {
	x := t.contact(e.Host, e.Epoch)
	x.changed()
	x.fence = &ha.FenceRun{Attempt: e.Attempt}
	c := &cut{t: t, h: t.m.w.byHost[string(e.Host)], e: e, x: x, end: t.mono() + e.Timeout, firstOff: -1}
	t.later(e.Timeout, func() { c.over("the power did not read off in time", nil) })
	c.look()
}

// over ends the attempt.
func (c *cut) over(failure string, proof *ha.Finding) {
	if r := c.x.fence; r == nil || r.Attempt != c.e.Attempt || r.Ended > 0 {
		return
	}
	c.x.changed()
	c.x.fence = &ha.FenceRun{Attempt: c.e.Attempt, Ended: max(c.t.mono(), 1), Proof: proof, Failure: failure}
	c.t.again()
}

// look reads the power, orders it off when it is on, and looks again until it
// was read as off twice.
func (c *cut) look() {
	_, _, wait := c.h.power()
	if wait >= unanswered {
		return // the deadline ends it
	}
	c.t.later(wait, func() {
		if c.x.fence == nil || c.x.fence.Ended > 0 || c.x.fence.Attempt != c.e.Attempt {
			return
		}
		on, err, _ := c.h.power()
		switch {
		case err != "":
			if c.errors++; c.errors >= 3 {
				c.over(err, nil)
				return
			}
			c.firstOff = -1
		case on:
			c.firstOff = -1
			if !c.ordered {
				c.ordered = true
				c.h.orderOff(c.t.m.name)
			}
		case c.firstOff < 0:
			c.firstOff = c.t.mono()
			c.again(minGap)
			return
		case c.t.mono()-c.firstOff >= minGap:
			how := "without an order of ours"
			if c.ordered {
				how = "after an order to switch off"
			}
			c.over("", &ha.Finding{Source: bmcDriver + " at bmc-" + c.h.name, Verdict: fsm.Dead, Detail: "power read as off twice, " + how})
			return
		}
		c.again(pollPower)
	})
}

func (c *cut) again(d time.Duration) { c.t.later(d, c.look) }

// orderOff is an order to the power controller. Once sent it happens, whatever
// becomes of the sender.
func (h *host) orderOff(by string) {
	h.note("%s orders the power of %s off (attempt on boot %s)", by, h.name, strconv.Itoa(h.boot))
	wait := h.w.file.World.BMC
	if h.bmc == bmcSlow {
		wait += h.bmcDelay
	}
	if h.bmc == bmcLies || h.bmc == bmcOff || h.bmc == bmcErrors {
		return
	}
	h.w.after(wait, func() { h.powerOff("switched off by its power controller") })
}
