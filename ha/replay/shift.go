package replay

import (
	"fmt"
	"time"

	"lifeboat/fsm"
	"lifeboat/fsm/logpb"
)

// other is the policy of a state with the asked settings.
func (r *Replay) other(s *fsm.State) *fsm.Policy {
	p, err := s.Policy.With(r.set)
	if err != nil || len(r.set) == 0 {
		return s.Policy
	}
	return p
}

// suspected notes a silence, and says when it would have been noticed.
func (r *Replay) suspected(id fsm.HostID, s *fsm.State) []Finding {
	h := s.Host(id)
	if h == nil || h.Silent == 0 {
		return nil
	}
	r.silence[id] = silence{since: h.Silent, suspect: s.Time}
	was, is := s.Policy.SuspectAfter(), r.other(s).SuspectAfter()
	if was == is {
		return nil
	}
	return []Finding{{Kind: Shifted, Host: string(id), Text: fmt.Sprintf("host %s would have been suspect %s after its last sign of life instead of %s, unless it had been heard before", id, is, was)}}
}

// fencedAt says when a proof by lease would have come: it is the only one whose time
// follows from the policy and the log alone.
func (r *Replay) fencedAt(c *logpb.HostFenced, s *fsm.State) []Finding {
	was, is := s.Policy.Takeover, r.other(s).Takeover
	if was == is || fsm.ProofKind(c.Proof.GetKind()) != fsm.ProofLease {
		return nil
	}
	x, ok := r.silence[fsm.HostID(c.Host)]
	if !ok {
		return nil
	}
	took := time.Duration(s.Time - x.since)
	return []Finding{{Kind: Shifted, Host: c.Host, Text: fmt.Sprintf("its lease proved host %s dead %s after its last sign of life; with takeover %s instead of %s it would have been about %s, not before it was taken to be down",
		c.Host, took.Round(time.Millisecond), is, was, (took + is - was).Round(time.Millisecond))}}
}
