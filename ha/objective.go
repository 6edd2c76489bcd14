package ha

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"lifeboat/fsm"
	"lifeboat/fsm/logpb"
)

// Death is what would prove a host dead, and when its VMs would be ordered to start
// elsewhere at the latest.
type Death struct {
	// Worst is the time from the death to the order, by the policy's timeouts alone: without
	// the wait for room, for VMs of higher tiers and for those that a VM depends on, of
	// which `lifeboat plan --fail` tells. 0 = nothing but an operator proves the death.
	Worst   time.Duration
	By      string // what proves it
	Unarmed bool   // nothing would right now: the lease that could is not armed
}

// DeathOf says what would prove a host dead under a policy.
func DeathOf(p *fsm.Policy, h *fsm.Host) Death {
	power, lease := WorstCase(p)
	armed, watchdog := h.Lease != nil && h.Lease.Armed, h.Watchdog
	if armed {
		watchdog = h.Lease.Watchdog
	}
	switch {
	case slices.ContainsFunc(h.Fence, fsm.FenceLevel.Active):
		return Death{Worst: power, By: "a power controller that answers at once"}
	case h.HasLevel(fsm.DriverLease) && p.ProvesDeath(watchdog):
		return Death{Worst: lease, By: "its self-fence lease", Unarmed: !armed}
	}
	return Death{}
}

// Unkept says why an operator's command is refused because of recovery_objective: it
// declares one that the policy cannot keep, or changes the policy so that it cannot keep
// the one that stands. "" = it is not. One that is missed already is no reason to refuse
// anything else, and what is no policy the state machine refuses with its reason.
func Unkept(s *fsm.State, c *logpb.Command) string {
	set := c.GetPolicySet()
	if set == nil {
		return ""
	}
	var settings []fsm.Setting
	declares := false
	for _, x := range set.Settings {
		settings = append(settings, fsm.Setting{Key: x.Key, Value: x.Value})
		declares = declares || x.Key == "recovery_objective"
	}
	if !declares && Missed(s, s.Policy) != "" {
		return ""
	}
	p, err := s.Policy.With(settings)
	if err != nil {
		return ""
	}
	if no := Missed(s, p); no != "" {
		return no + "; nothing was changed"
	}
	return ""
}

// maxSlow hosts are named that cannot keep an objective.
const maxSlow = 5

// Missed says why a policy cannot keep its own recovery_objective with the hosts that
// there are; "" = it can, or has none. Hosts that nothing could prove dead are not
// counted: they are in alert for that.
func Missed(s *fsm.State, p *fsm.Policy) string {
	if p.RecoveryObjective == 0 {
		return ""
	}
	power, lease := WorstCase(p)
	if power > p.RecoveryObjective {
		return fmt.Sprintf("recovery_objective: %s cannot be kept: a host is suspect %s after its last report (suspect_beats × beat), evidence is gathered for %s (investigate), and with the readings that prove a death its VMs are ordered to start after %s at the latest; shorten these, or declare at least that",
			p.RecoveryObjective, p.SuspectAfter(), p.Investigate, power)
	}
	var slow []string
	for id, h := range s.Hosts() {
		if h.Status != fsm.Removed && DeathOf(p, h).Worst > p.RecoveryObjective {
			slow = append(slow, string(id))
		}
	}
	if len(slow) == 0 {
		return ""
	}
	slices.SortFunc(slow, Natural)
	if n := len(slow); n > maxSlow {
		slow = append(slow[:maxSlow], fmt.Sprintf("%d more", n-maxSlow))
	}
	return fmt.Sprintf("recovery_objective: %s cannot be kept where only the self-fence lease proves a death (%s), which takes up to %s (takeover); add power controllers there (`lifeboat host fence set`), shorten lease and takeover, or declare at least that",
		p.RecoveryObjective, strings.Join(slow, ", "), lease)
}
