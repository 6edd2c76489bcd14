package fsm

import (
	"fmt"
	"time"

	"lifeboat/fsm/logpb"
)

// hostLeave is a clean stop of the agent, or a silent host nobody needs to
// investigate (S19). The lease is withdrawn: it proves nothing any more (S16).
func (t *tx) hostLeave(c *logpb.HostLeave) string {
	h, no := t.current(c.Host, c.Epoch)
	if no != "" {
		return no
	}
	if c.Session != "" && h.Session != c.Session {
		return fmt.Sprintf("another agent has registered as host %s since", h.ID)
	}
	switch {
	case h.Status == Disconnected:
		return ""
	case h.HA == HAFenced:
		return fmt.Sprintf("host %s was declared dead in epoch %d; it must register again before it can leave", h.ID, c.Epoch)
	case h.Status == Down:
		// The host stays Down, but its agent lets go of the watchdog once this
		// is committed: from here on the lease proves nothing (S16).
		if h.Lease != nil && c.Session != "" {
			h.Lease = nil
			t.setHost(h)
			t.event("LEASE.WITHDRAW", Warning, hostSubject(h.ID), "the agent of host %s has stopped (%s): its self-fence lease is no proof any more", h.ID, c.Reason)
		}
		return ""
	case c.Session == "" && h.Session != "" && (h.RunsProtected() > 0 || h.owesStart()):
		// Nobody said goodbye: the leader only wants to look no further (S19).
		return fmt.Sprintf("host %s owns protected VMs that may be running: it cannot be disconnected without investigation", h.ID)
	}
	h.Lease, h.Evidence = nil, nil
	h.Silent = t.now
	t.hostState(h, Disconnected, HAAvailable, c.Reason)
	t.setHost(h)
	t.event("HOST.DISCONNECT", Warning, hostSubject(h.ID), "host %s is Disconnected: %s", h.ID, c.Reason)
	switch n := h.RunsProtected(); {
	case n == 0:
	case h.Frozen():
		t.raise(AlertKey{AlertHost, string(h.ID), "agent stopped"}, Warning, "Host %s is %s, and %d protected VMs wait for it (shutdown_policy %s). They run again when it is back; if it does not come back, `lifeboat host confirm-dead %s` starts them elsewhere.", h.ID, h.Stopping, n, t.s.Policy.ShutdownPolicy, h.ID)
	default:
		t.raise(AlertKey{AlertHost, string(h.ID), "agent stopped"}, Warning, "The agent of host %s has stopped while %d protected VMs run there: nobody watches them. Start it again; after agent_stop_grace the host is investigated.", h.ID, n)
	}
	return ""
}

func (t *tx) hostLease(c *logpb.HostLease) string {
	h, no := t.current(c.Host, c.Epoch)
	if no != "" {
		return no
	}
	if h.BootID != c.BootId {
		return "the lease is of another boot"
	}
	if !c.Armed {
		if h.Lease == nil {
			return ""
		}
		h.Lease = nil
		t.setHost(h)
		t.event("LEASE.WITHDRAW", Info, hostSubject(h.ID), "the self-fence lease of host %s was withdrawn", h.ID)
		return ""
	}
	l := &Lease{Armed: true, BootID: c.BootId, DurationNS: c.DurationNs, Watchdog: Watchdog(c.Watchdog), BoundNS: c.BoundNs}
	switch {
	case !t.s.Armed:
		return "HA is disarmed: no lease is armed"
	case h.Lease == nil && c.Assignment != 0 && c.Assignment < max(h.Assigned, t.s.ArmedIndex):
		// A late request must not arm what its agent has been told to give up
		// since, and was then asked for anew (S12).
		return fmt.Sprintf("the agent of host %s has not acted on what it was told since", h.ID)
	case h.Status == Down || h.Status == Disconnected:
		// A late request must not bring back what a goodbye has withdrawn (S16).
		return fmt.Sprintf("host %s is %s: it must register again first", h.ID, h.Status)
	case l.DurationNS <= 0 || l.BoundNS < 0 || c.Watchdog > uint32(WatchdogSoft):
		return fmt.Sprintf("the lease of host %s makes no sense (%s, watchdog %d within %s)", h.ID, time.Duration(l.DurationNS), c.Watchdog, time.Duration(l.BoundNS))
	case !h.HasLevel(DriverLease):
		return fmt.Sprintf("lease is not among the fence levels of host %s", h.ID)
	case l.DurationNS > int64(t.s.Policy.Lease) || l.BoundNS > int64(t.s.Policy.WatchdogBound):
		return fmt.Sprintf("the lease of host %s (%s, watchdog within %s) is longer than the policy allows", h.ID,
			time.Duration(l.DurationNS), time.Duration(l.BoundNS))
	}
	if h.Lease != nil && *h.Lease == *l {
		return ""
	}
	h.Lease = l
	t.setHost(h)
	t.event("LEASE.ARM", Info, hostSubject(h.ID), "host %s runs under a self-fence lease of %s (%s watchdog, within %s)", h.ID,
		time.Duration(l.DurationNS), l.Watchdog, time.Duration(l.BoundNS))
	return ""
}
