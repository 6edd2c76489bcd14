package node

import (
	"fmt"
	"time"
	_ "time/tzdata" // a node without a database of its own still knows the zones

	"lifeboat/fsm"
	"lifeboat/fsm/logpb"
)

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
	if s.LastUsageWindow() == nil && s.Policy.UsageFrom == "" && !windowEnd(at, s.Policy.UsageWindow, loc).Add(s.Policy.UsageGrace).After(now) {
		at = windowStart(earliestFact(s, at), s.Policy.UsageWindow, loc)
	}
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

// earliestFact is when the first of what is known happened, no earlier than usage is kept
// and no later than at: the first window holds it. It reads all resources.
func earliestFact(s *fsm.State, at time.Time) time.Time {
	first := at.UnixNano()
	for _, r := range s.UsageResources(fsm.UsageKey{}) {
		if len(r.Facts) > 0 {
			first = min(first, r.Facts[0].Time)
		}
	}
	return time.Unix(0, min(at.UnixNano(), max(first, s.Time-int64(s.Policy.UsageKeep))))
}

// earliestCharged is the time before which nothing is in any record, and what can be done
// about that.
func earliestCharged(s *fsm.State) (int64, string) {
	text := func(at int64) string { return time.Unix(0, at).UTC().Format(time.RFC3339) }
	for start := range s.UsageWindows(0) {
		return start, fmt.Sprintf("the first window begins at %s, and is closed: the time before is in no record, whatever is told. The policy's usage_from says where it begins, until it is closed; charge what was before in another way", text(start))
	}
	if at, ok := nextWindow(s); ok && s.Policy.UsageFrom != "" {
		return at.UnixNano(), fmt.Sprintf("the first window is to begin at %s (policy usage_from): the time before is in no record. Set usage_from to an earlier time before that window is closed", text(at.UnixNano()))
	}
	kept := s.Time - int64(s.Policy.UsageKeep)
	return kept, fmt.Sprintf("the first window begins no earlier than usage is kept, at %s: the time before is in no record. Set usage_keep to a longer time, or usage_from to an earlier one, before that window is closed", text(kept))
}

// windowStart is the last border of hours or days at or before a time.
func windowStart(at time.Time, unit string, loc *time.Location) time.Time {
	at = at.In(loc)
	if unit == "hour" {
		return at.Add(-time.Duration(at.Minute())*time.Minute - time.Duration(at.Second())*time.Second - time.Duration(at.Nanosecond()))
	}
	return Midnight(at.Year(), at.Month(), at.Day(), loc)
}

// windowEnd is the first border after a time: the next full hour or midnight in the
// zone. Days have 23 to 25 hours where clocks are changed.
func windowEnd(at time.Time, unit string, loc *time.Location) time.Time {
	at = at.In(loc)
	if unit == "hour" {
		return windowStart(at, unit, loc).Add(time.Hour)
	}
	for day := 1; ; day++ {
		if end := Midnight(at.Year(), at.Month(), at.Day()+day, loc); end.After(at) {
			return end
		}
	}
}

// Midnight is the first moment of a day in a time zone. Where the clocks skip midnight it
// is that of the change; where they show it twice, the first.
func Midnight(year int, month time.Month, day int, loc *time.Location) time.Time {
	shown := time.Date(year, month, day, 0, 0, 0, 0, time.UTC) // what the clocks are to show
	for at := shown.Add(-48 * time.Hour).In(loc); ; {
		_, offset := at.Zone()
		_, end := at.ZoneBounds()
		if t := shown.Add(-time.Duration(offset) * time.Second).In(loc); end.IsZero() || t.Before(end) {
			if t.Before(at) {
				return at
			}
			return t
		}
		at = end
	}
}

// checkZone refuses a time zone that this build does not know.
func checkZone(name string) error {
	if _, err := time.LoadLocation(name); err != nil || name == "Local" || name == "" {
		return refuse("usage_timezone: there is no time zone %q; write for example UTC or Europe/Berlin", name)
	}
	return nil
}
