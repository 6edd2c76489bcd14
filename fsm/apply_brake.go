package fsm

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"lifeboat/fsm/logpb"
)

// Brake holds back active fencing in a failure domain (S17).
type Brake struct {
	Reason string
	Since  int64 // unix ns
	// LetGo are the hosts that it does not hold any more, because it has lasted for
	// brake_expiry; in the order in which it let go of them. Never changed.
	LetGo []HostID
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
	if len(b.LetGo) > 0 {
		until += fmt.Sprintf("; it has let go of %s", strings.Join(names(b.LetGo), ", "))
	}
	return fmt.Sprintf("Active fencing is held back in %s since %s: %s. %s; it ends when the hosts are back, and for each host whose power is read as off. Hosts proven dead by other means are recovered all the same. If a host really is dead, run `lifeboat host confirm-dead HOST`.",
		domain, clock(b.Since), b.Reason, until)
}

func names(ids []HostID) (out []string) {
	for _, id := range ids {
		out = append(out, string(id))
	}
	return out
}

func clock(ns int64) string { return time.Unix(0, ns).UTC().Format("2006-01-02 15:04:05 UTC") }

func (t *tx) brake(c *logpb.Brake) string {
	if c.LetGo != "" {
		return t.letGo(c)
	}
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

// letGo takes a host from a brake that has lasted for brake_expiry. It is committed
// before anything is done to the host, so that it counts whatever becomes of that.
func (t *tx) letGo(c *logpb.Brake) string {
	b, on := t.s.brakes.get(c.Domain)
	id := HostID(c.LetGo)
	switch until := b.Until(t.s.Policy); {
	case !on:
		return fmt.Sprintf("no host is held in %s", c.Domain)
	case slices.Contains(b.LetGo, id):
		return ""
	case t.s.Host(id) == nil:
		return fmt.Sprintf("there is no host %s", id)
	case until == 0 || t.now < until:
		return fmt.Sprintf("the brake in %s has not expired", c.Domain)
	case int64(len(b.LetGo)) >= b.Allows(t.s.Policy, t.now):
		return fmt.Sprintf("the brake in %s lets go of no more than %d hosts in %s", c.Domain, t.s.Policy.BrakeMin, t.s.Policy.BrakeExpiry)
	}
	b.LetGo = append(slices.Clip(b.LetGo), id)
	t.s.brakes.set(c.Domain, b)
	t.event("BRAKE.LETGO", Warning, "host "+c.LetGo, "host %s may be fenced although %s: the brake in %s has been on for more than %s (brake_expiry); it is host %d that it lets go of",
		id, b.Reason, c.Domain, t.s.Policy.BrakeExpiry, len(b.LetGo))
	return ""
}

// Allows is how many hosts the brake may have let go of by now.
func (b Brake) Allows(p *Policy, now int64) int64 {
	if p.BrakeExpiry == 0 || now < b.Since {
		return 0
	}
	return (now - b.Since) / int64(p.BrakeExpiry) * int64(p.BrakeMin)
}
