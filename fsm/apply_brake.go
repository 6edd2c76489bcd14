package fsm

import (
	"fmt"
	"time"

	"lifeboat/fsm/logpb"
)

// Brake holds back active fencing in a failure domain (S17).
type Brake struct {
	Reason string
	Since  int64 // unix ns
}

// Until is when the brake begins to let go of hosts one at a time, unix ns; 0 =
// never by itself.
func (b Brake) Until(p *Policy) int64 {
	if p.BrakeExpiry == 0 {
		return 0
	}
	return b.Since + int64(p.BrakeExpiry)
}

// Sentence says since when, why, until when, and what an operator can do.
func (b Brake) Sentence(domain string, p *Policy) string {
	until := "It does not expire by itself"
	if at := b.Until(p); at != 0 {
		until = fmt.Sprintf("From %s on it lets go of one host at a time, at most %d in %s", clock(at), p.BrakeMin, p.BrakeExpiry)
	}
	return fmt.Sprintf("Active fencing is held back in %s since %s: %s. %s; it ends when the hosts are back, and for each host whose power is read as off. Hosts proven dead by other means are recovered all the same. If a host really is dead, run `lifeboat host confirm-dead HOST`.",
		domain, clock(b.Since), b.Reason, until)
}

func clock(ns int64) string { return time.Unix(0, ns).UTC().Format("2006-01-02 15:04:05 UTC") }

func (t *tx) brake(c *logpb.Brake) string {
	if c.On && c.Reason == "" {
		return "the brake needs a reason"
	}
	was := t.s.Brake(c.Domain)
	key := AlertKey{AlertBrake, c.Domain, "held"}
	switch {
	case c.On && was == "":
		b := Brake{Reason: c.Reason, Since: t.now}
		t.s.brakes.set(c.Domain, b)
		t.event("BRAKE.ON", Critical, "brake "+c.Domain, "active fencing is held back: %s", c.Reason)
		t.raise(key, Critical, "%s", b.Sentence(c.Domain, t.s.Policy))
	case !c.On && was != "":
		t.s.brakes.delete(c.Domain)
		t.event("BRAKE.OFF", Info, "brake "+c.Domain, "active fencing is allowed again: %s", c.Reason)
		t.resolve(key, "%s", c.Reason)
	}
	return ""
}
