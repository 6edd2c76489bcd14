package ha

import (
	"fmt"
	"slices"
	"time"

	"lifeboat/fsm"
)

// byLease is what proves the death of a host without a power controller.
const byLease = "its self-fence lease"

// Recovery is how long the start order of the VMs of a host may take after it died, by
// the policy's timeouts alone, and what proves the death; no: why nothing does. It is
// without the wait for room, for VMs of higher tiers and for those that a VM depends on,
// of which `lifeboat plan --fail` tells.
func Recovery(p *fsm.Policy, h *fsm.Host) (worst time.Duration, by, no string) {
	power, lease := WorstCase(p)
	switch {
	case slices.ContainsFunc(h.Fence, fsm.FenceLevel.Active):
		return power, "a power controller that answers at once", ""
	case h.HasLevel(fsm.DriverLease) && p.ProvesDeath(h.Watchdog):
		return lease, byLease, ""
	}
	return 0, "", "nothing could prove it dead but an operator"
}

// Missed says why a policy cannot keep its own recovery_objective with the hosts that
// there are; "" = it can, or has none. Hosts that nothing could prove dead are not
// counted: they are in alert for that.
func Missed(s *fsm.State, p *fsm.Policy) string {
	if p.RecoveryObjective == 0 {
		return ""
	}
	power, _ := WorstCase(p)
	if power > p.RecoveryObjective {
		return fmt.Sprintf("recovery_objective: %s cannot be kept: a host is suspect %s after its last report (suspect_beats × beat), evidence is gathered for %s (investigate), and with the readings that prove a death its VMs are ordered to start after %s at the latest; shorten these, or declare at least that",
			p.RecoveryObjective, p.SuspectAfter(), p.Investigate, power)
	}
	var slow []string
	var worst time.Duration
	for id, h := range s.Hosts() {
		if d, _, no := Recovery(p, h); h.Status != fsm.Removed && no == "" && d > p.RecoveryObjective {
			slow, worst = append(slow, string(id)), max(worst, d)
		}
	}
	if len(slow) == 0 {
		return ""
	}
	slices.SortFunc(slow, Natural)
	return fmt.Sprintf("recovery_objective: %s cannot be kept for %s: only the self-fence lease proves a death there, which takes up to %s (takeover); give %s a power controller (`lifeboat host fence set`), shorten lease and takeover, or declare at least that",
		p.RecoveryObjective, some(slow), worst, them(len(slow)))
}

func them(n int) string {
	if n == 1 {
		return "it"
	}
	return "them"
}

// some names hosts, as many as people read.
func some(hosts []string) string {
	const most = 5
	text := "host " + hosts[0]
	if len(hosts) > 1 {
		text = fmt.Sprintf("%d hosts (%s", len(hosts), hosts[0])
		for _, h := range hosts[1:min(len(hosts), most)] {
			text += ", " + h
		}
		if len(hosts) > most {
			text += ", …"
		}
		text += ")"
	}
	return text
}
