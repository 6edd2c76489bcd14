package fsm

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"lifeboat/fsm/logpb"
)

// Who executes a fence level (S25). A level may also name one host:
// ExecHost + its id.
const (
	ExecLeader = "leader" // the leader itself
	ExecAny    = "any"    // the leader, and where it cannot reach the controller the other managers in turn
	ExecPeers  = "peers"  // agents of other hosts that are Up, in turn
	ExecHost   = "host:"
)

// Who may carry an attempt out, as it stands in Attempt.Via. A node or a host
// is ViaNode or ViaHost + its id.
const (
	ViaLeader = "leader"
	ViaNode   = "node "
	ViaHost   = "host "
)

// By is the level's executor, ExecLeader where none is set.
func (l FenceLevel) By() string {
	if l.Executor == "" {
		return ExecLeader
	}
	return l.Executor
}

// checkExecutor says what is wrong with a level's executor on a host.
func (l FenceLevel) checkExecutor(on HostID) string {
	proxy, named := strings.CutPrefix(l.By(), ExecHost)
	switch {
	case !l.Active() && l.Executor != "":
		return "nobody executes it; leave the executor out"
	case named && proxy == "":
		return "the executor names no host; write it like host:h2"
	case named && HostID(proxy) == on:
		return "a host cannot fence itself; name another one"
	case !named && !slices.Contains([]string{ExecLeader, ExecAny, ExecPeers}, l.By()):
		return fmt.Sprintf("%q is no executor; it is leader, any, peers or host:ID", l.Executor)
	}
	return ""
}

// Through says by whom an attempt is carried out, for people: "" when by the
// leader itself.
func (a *Attempt) Through() string {
	if len(a.Via) == 0 || len(a.Via) == 1 && a.Via[0] == ViaLeader {
		return ""
	}
	return " through " + strings.Join(a.Via, ", then ")
}

// FenceCheck is what is known of a level without having used it: its path was
// tried, its controller said who it is and read its power, and got no order.
type FenceCheck struct {
	Checked  int64  // unix ns of the last check; 0 = never
	Proven   int64  // unix ns of the last one that succeeded; 0 = never
	Failures uint32 // in a row
	Failure  string // of the last check; "" = it succeeded
	By       string // who carried it out
}

// maxCheckFailures in a row make an alert.
const maxCheckFailures = 3

// ProvenAt reports whether the path of an active level counts as proven: its
// last check succeeded, not longer ago than the policy says.
func (l FenceLevel) ProvenAt(p *Policy, now int64) bool {
	c := l.Check
	return l.Active() && c.Proven > 0 && c.Failure == "" && now-c.Proven <= int64(p.FenceCheckMaxAge)
}

// PathProblem says why no active fence level of a host is proven to work; "" when
// one is, or when the host has none.
func (h *Host) PathProblem(p *Policy, now int64) string {
	var why []string
	for i, l := range h.Fence {
		switch c := l.Check; {
		case !l.Active():
		case l.ProvenAt(p, now):
			return ""
		case c.Failure != "":
			why = append(why, fmt.Sprintf("level %d (%s): %s", i+1, l.Driver, c.Failure))
		case c.Proven == 0:
			why = append(why, fmt.Sprintf("level %d (%s) has not been tried yet", i+1, l.Driver))
		default:
			why = append(why, fmt.Sprintf("level %d (%s) was last proven %s ago", i+1, l.Driver, time.Duration(now-c.Proven).Round(time.Minute)))
		}
	}
	return strings.Join(why, "; ")
}

// keepChecks carries over what is known of the levels that stay the same.
func keepChecks(old, fresh []FenceLevel) []FenceLevel {
	for i := range fresh {
		l := &fresh[i]
		l.Check = FenceCheck{}
		for _, o := range old {
			if o.Driver == l.Driver && o.Address == l.Address && o.User == l.User && o.Identity == l.Identity && o.By() == l.By() &&
				slices.Equal(o.Options, l.Options) && slices.Equal(o.Secret, l.Secret) {
				l.Check = o.Check
			}
		}
	}
	return fresh
}

// fenceChecked records the outcome of a check. A level that was replaced
// or checked meanwhile is not judged.
func (t *tx) fenceChecked(c *logpb.FenceChecked) string {
	old := t.s.Host(HostID(c.Host))
	if old == nil || old.Status == Removed {
		return fmt.Sprintf("there is no host %s", c.Host)
	}
	h := edit(old)
	h.Fence = slices.Clone(old.Fence)
	if !t.judge(h, c.Levels, false) {
		return ""
	}
	t.setHost(h)
	t.fencePath(h)
	return ""
}

// judge records what checks found in the levels of a host that is being edited,
// and reports whether any of them counts. fresh: they were made of these levels
// just now, and overtake what was known of the same ones.
func (t *tx) judge(h *Host, checks []*logpb.LevelCheck, fresh bool) (judged bool) {
	for _, x := range checks {
		if int(x.Level) >= len(h.Fence) {
			continue
		}
		l := &h.Fence[x.Level]
		if !l.Active() || l.Driver != x.Driver || l.Address != x.Address || l.Identity != x.Identity || !fresh && l.Check.Checked != x.LastUnixNs {
			continue
		}
		t.checked(h, int(x.Level), l, x)
		judged = true
	}
	return judged
}

func (t *tx) checked(h *Host, i int, l *FenceLevel, x *logpb.LevelCheck) {
	was := l.Check
	l.Check.Checked, l.Check.By, l.Check.Failure = t.now, x.By, x.Failure
	if x.Failure == "" {
		l.Check.Failures, l.Check.Proven = 0, t.now
		if was.Failure != "" {
			t.event("HOST.FENCE.CHECK", Info, hostSubject(h.ID), "fence level %d (%s) of host %s is proven to work again", i+1, l.Driver, h.ID)
		}
		return
	}
	l.Check.Failures++
	if was.Failure == "" {
		t.event("HOST.FENCE.CHECK", Warning, hostSubject(h.ID), "fence level %d (%s) of host %s is not proven to work: %s", i+1, l.Driver, h.ID, x.Failure)
	}
}

// fencePath keeps the alert about a fence path that could not be relied on. It
// is called whenever a check or a change of the levels is committed.
func (t *tx) fencePath(h *Host) {
	key := AlertKey{AlertFence, string(h.ID), "not proven"}
	why := ""
	for i, l := range h.Fence {
		if l.Active() && l.Check.Failures >= maxCheckFailures {
			why = fmt.Sprintf("level %d (%s) failed %d checks in a row: %s", i+1, l.Driver, l.Check.Failures, l.Check.Failure)
			break
		}
	}
	if why == "" && h.pathAged(t.s.Policy, t.now) {
		why = h.PathProblem(t.s.Policy, t.now)
	}
	if why == "" {
		t.resolve(key, "its fence levels are proven to work")
		return
	}
	t.raise(key, Warning, "If host %s dies it may not be possible to fence it: %s. See `lifeboat fence test %s`.", h.ID, why, h.ID)
}

// pathAged reports whether no active level was proven for the policy's time.
// One that never was is judged by its failures alone: it may be new.
func (h *Host) pathAged(p *Policy, now int64) bool {
	aged := false
	for _, l := range h.Fence {
		if !l.Active() {
			continue
		}
		if l.Check.Proven == 0 || now-l.Check.Proven <= int64(p.FenceCheckMaxAge) {
			return false
		}
		aged = true
	}
	return aged
}

func checkFromLog(p *logpb.FenceCheck) FenceCheck {
	return FenceCheck{Checked: p.GetCheckedUnixNs(), Proven: p.GetProvenUnixNs(), Failures: p.GetFailures(), Failure: p.GetFailure(), By: p.GetBy()}
}

func checkToLog(c FenceCheck) *logpb.FenceCheck {
	if c == (FenceCheck{}) {
		return nil
	}
	return &logpb.FenceCheck{CheckedUnixNs: c.Checked, ProvenUnixNs: c.Proven, Failures: c.Failures, Failure: c.Failure, By: c.By}
}
