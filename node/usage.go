package node

import (
	"context"
	"fmt"
	"time"
	_ "time/tzdata" // a node without a database of its own still knows the zones

	"lifeboat/fsm"
	"lifeboat/fsm/logpb"
)

const (
	// usageEvery is how often the leader looks whether a window is to be closed.
	usageEvery = 5 * time.Second
	// usageChunk bounds what one entry does about resources or VMs, so that Apply
	// holds up nobody.
	usageChunk = 500
)

// usage closes windows that have ended, looks for VMs whose usage is astray, and gives
// up what is older than the policy keeps. Whatever fails, the next look finds it.
func (t *term) usage(ctx context.Context) error {
	var seen struct {
		closed int64
		vms    bool
		gen    uint32
		done   bool
	}
	for pause(ctx, usageEvery) {
		s := t.node.fsm.State()
		if s.Level < fsm.LevelPolicy {
			continue
		}
		if err := t.closeUsage(ctx); err != nil {
			t.log.Warn("usage could not be closed", "error", err)
			continue
		}
		// A pass over all that is there follows a window, a restore, or a change of policy.
		if s = t.node.fsm.State(); seen.done && seen.closed == lastClosed(s) && seen.vms == s.Policy.UsageVMs && seen.gen == s.Generation {
			continue
		}
		if err := t.syncUsage(ctx); err != nil {
			t.log.Warn("usage of VMs could not be compared", "error", err)
			continue
		}
		if err := t.trimUsage(ctx); err != nil {
			t.log.Warn("usage could not be given up", "error", err)
			continue
		}
		s = t.node.fsm.State()
		seen.closed, seen.vms, seen.gen, seen.done = lastClosed(s), s.Policy.UsageVMs, s.Generation, true
	}
	return nil
}

func lastClosed(s *fsm.State) int64 {
	if w := s.LastUsageWindow(); w != nil {
		return w.End
	}
	return 0
}

// closeUsage closes the windows that have ended, oldest first.
func (t *term) closeUsage(ctx context.Context) error {
	for {
		s := t.node.fsm.State()
		c := dueWindows(s, time.Unix(0, min(t.wall(), s.Time)), usageChunk)
		if c == nil {
			return nil
		}
		if _, err := t.propose(ctx, "", &logpb.Command{Body: &logpb.Command_UsageClose{UsageClose: c}}); err != nil {
			return err
		}
	}
}

// usageZone is the time zone of the policy, UTC if this build does not know it.
func usageZone(p *fsm.Policy) *time.Location {
	if loc, err := time.LoadLocation(p.UsageTimezone); err == nil && p.UsageTimezone != "Local" {
		return loc
	}
	return time.UTC
}

// dueWindows are the next windows that are to be closed at a time, at most most; nil
// when there are none.
func dueWindows(s *fsm.State, now time.Time, most int) *logpb.UsageClose {
	at, ok := nextWindow(s)
	if !ok {
		return nil
	}
	loc := usageZone(s.Policy)
	c := &logpb.UsageClose{Zone: loc.String(), Unit: s.Policy.UsageWindow}
	for len(c.Windows) < most {
		end := windowEnd(at, s.Policy.UsageWindow, loc)
		if end.Add(s.Policy.UsageGrace).After(now) {
			break
		}
		c.Windows = append(c.Windows, &logpb.UsageSpan{StartUnixNs: at.UnixNano(), EndUnixNs: end.UnixNano()})
		at = end
	}
	if len(c.Windows) == 0 {
		return nil
	}
	return c
}

// nextWindow is where the next window begins; false when nothing was heard of usage.
func nextWindow(s *fsm.State) (time.Time, bool) {
	loc := usageZone(s.Policy)
	if w := s.LastUsageWindow(); w != nil {
		return time.Unix(0, w.End).In(loc), true
	}
	if s.UsageSince() == 0 {
		return time.Time{}, false
	}
	from := time.Unix(0, s.UsageSince())
	if x, err := time.Parse(time.RFC3339, s.Policy.UsageFrom); err == nil && x.After(time.Unix(0, 0)) {
		from = x
	}
	return windowStart(from, s.Policy.UsageWindow, loc), true
}

// windowStart is the last border of hours or days at or before a time.
func windowStart(at time.Time, unit string, loc *time.Location) time.Time {
	at = at.In(loc)
	if unit == "hour" {
		return at.Add(-time.Duration(at.Minute())*time.Minute - time.Duration(at.Second())*time.Second - time.Duration(at.Nanosecond()))
	}
	start := time.Date(at.Year(), at.Month(), at.Day(), 0, 0, 0, 0, loc)
	if start.After(at) { // a midnight that the clocks skip
		return at
	}
	return start
}

// windowEnd is the first border after a time: the next full hour or midnight in the
// zone. Days have 23 to 25 hours where clocks are changed.
func windowEnd(at time.Time, unit string, loc *time.Location) time.Time {
	at = at.In(loc)
	if unit == "hour" {
		return windowStart(at, unit, loc).Add(time.Hour)
	}
	for day := 1; ; day++ {
		if end := time.Date(at.Year(), at.Month(), at.Day()+day, 0, 0, 0, 0, loc); end.After(at) {
			return end
		}
	}
}

// syncUsage brings the usage of VMs in line that were there before it was counted.
func (t *term) syncUsage(ctx context.Context) error {
	for {
		ids := t.node.fsm.State().UsageAstray(usageChunk)
		if len(ids) == 0 {
			return nil
		}
		c := &logpb.UsageSync{}
		for _, id := range ids {
			c.Vms = append(c.Vms, id[:])
		}
		if _, err := t.propose(ctx, "", &logpb.Command{Body: &logpb.Command_UsageSync{UsageSync: c}}); err != nil {
			return err
		}
		if !pause(ctx, time.Millisecond) {
			return ctx.Err()
		}
	}
}

// trimUsage gives up what is older than the policy keeps, some of it at a time.
func (t *term) trimUsage(ctx context.Context) error {
	s := t.node.fsm.State()
	first := firstKept(s)
	if first == nil {
		return nil
	}
	send := func(c *logpb.UsageTrim) error {
		c.BeforeUnixNs = first.Start
		_, err := t.propose(ctx, "", &logpb.Command{Body: &logpb.Command_UsageTrim{UsageTrim: c}})
		return err
	}
	c := &logpb.UsageTrim{}
	for key, r := range s.UsageResources(fsm.UsageKey{}) {
		if !r.Trims(first) {
			continue
		}
		if c.Keys = append(c.Keys, &logpb.UsageKey{Type: key.Type, Resource: key.Resource}); len(c.Keys) < usageChunk {
			continue
		}
		if err := send(c); err != nil {
			return err
		}
		c = &logpb.UsageTrim{}
	}
	for {
		if len(c.Keys) == 0 && !hasBefore(t.node.fsm.State(), first) {
			return nil
		}
		if err := send(c); err != nil {
			return err
		}
		c = &logpb.UsageTrim{}
	}
}

// firstKept is the window from which on usage is to be kept; nil when all is.
func firstKept(s *fsm.State) (first *fsm.UsageWindow) {
	limit := s.Time - int64(s.Policy.UsageKeep)
	for start, w := range s.UsageWindows(0) {
		if start > limit {
			break
		}
		first = w
	}
	return first
}

func hasBefore(s *fsm.State, first *fsm.UsageWindow) bool {
	for start := range s.UsageWindows(0) {
		return start < first.Start
	}
	return false
}

// checkZone refuses a time zone that this build does not know.
func checkZone(name string) error {
	if _, err := time.LoadLocation(name); err != nil || name == "Local" || name == "" {
		return refuse("usage_timezone: there is no time zone %q; write for example UTC or Europe/Berlin", name)
	}
	return nil
}

// usageOwner is an owner from a request.
func usageOwner(domain, account, project string) *logpb.UsageAccount {
	return &logpb.UsageAccount{Domain: valid(domain), Account: valid(account), Project: valid(project)}
}

// sizeOf is roughly what an event takes in the log.
func sizeOf(e *logpb.UsageEvent) int {
	return 48 + len(e.Id) + len(e.Type) + len(e.Resource) + len(e.Account.GetAccount()) + len(e.Account.GetDomain()) + len(e.Account.GetProject()) +
		len(e.Detail.GetName()) + len(e.Detail.GetOffering()) + len(e.Detail.GetZone())
}

// orNobody names an owner that there may not be.
func orNobody(o *fsm.Owner) string {
	if o == nil {
		return "nobody"
	}
	return fmt.Sprint(o)
}
