package node

import (
	"context"
	"fmt"
	"time"

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
		if err := t.syncUsage(ctx, 0); err != nil {
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

// syncUsage brings the usage of VMs in line that were there before it was counted, of one
// type or (0) of all.
func (t *term) syncUsage(ctx context.Context, typ uint32) error {
	for {
		ids := t.node.fsm.State().UsageAstray(typ, usageChunk)
		if len(ids) == 0 {
			return nil
		}
		c := &logpb.UsageSync{Type: typ}
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
