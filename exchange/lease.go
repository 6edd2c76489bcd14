package exchange

import (
	"time"

	lifeboatv1 "lifeboat/api/lifeboat/v1"
	"lifeboat/fsm"
	"lifeboat/fsm/logpb"
)

// LeaseChange is what must be committed about the lease that an agent says it
// runs under (S12); nil when nothing.
func LeaseChange(s *fsm.State, h *fsm.Host, req *lifeboatv1.ReportRequest) *logpb.HostLease {
	l := req.GetLease()
	if !l.GetArmed() {
		if h.Lease == nil {
			return nil
		}
		return &logpb.HostLease{Host: string(h.ID), Epoch: h.Epoch, BootId: h.BootID}
	}
	// The watchdog is the one the agent has now: it may have lost the one it
	// registered with, and then the lease is no proof any more.
	kind := watchdogOf(req.Watchdog)
	c := &logpb.HostLease{Host: string(h.ID), Epoch: h.Epoch, Armed: true, BootId: h.BootID, DurationNs: l.DurationMs * int64(time.Millisecond),
		Watchdog: uint32(kind), BoundNs: req.WatchdogBoundMs * int64(time.Millisecond), Assignment: req.HaveAssignment}
	switch held := h.Lease; {
	case held != nil && held.DurationNS == c.DurationNs && held.Watchdog == kind && held.BoundNS == c.BoundNs:
		return nil
	case held == nil && req.HaveAssignment < AssignmentIndex(s, h):
		return nil // it may have been told to give up the lease since
	case WantsLease(s, h) && c.DurationNs > 0 && c.DurationNs <= int64(s.Policy.Lease) && c.BoundNs >= 0 && c.BoundNs <= int64(s.Policy.WatchdogBound):
		return c
	case held != nil && held.Watchdog != kind:
		c.DurationNs, c.BoundNs = held.DurationNS, held.BoundNS
		return c
	}
	return nil // it will be told to change
}

func watchdogOf(k lifeboatv1.WatchdogKind) fsm.Watchdog {
	if k < 0 || k > lifeboatv1.WatchdogKind_WATCHDOG_KIND_SOFT {
		return fsm.WatchdogNone
	}
	return fsm.Watchdog(k)
}
