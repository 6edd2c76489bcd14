package session

import (
	"slices"
	"time"

	lifeboatv1 "lifeboat/api/lifeboat/v1"
)

const (
	// maxFences bounds what a manager can make this host do at other hosts' power
	// controllers at once, and what is remembered of it.
	maxFences    = 16
	fencesKept   = 4 * maxFences
	maxFenceTime = time.Hour
)

// fencing is one job at another host's power controller, from the moment it was
// asked for; what has ended is remembered for a while, so that an answer that
// was overtaken does not begin it again.
type fencing struct {
	term    uint64
	nonce   uint64
	outcome *lifeboatv1.FenceOutcome // nil: under way
	seq     uint64                   // report that first carried the outcome; 0: none yet
	heard   bool                     // the leader has it
	stopped bool
}

// fences begins the jobs of an answer to report seq that are new, and calls off
// what nobody wants any more. A job's time runs from the moment that report was
// sent, as a lease does (S13): one that comes late is refused, whatever the
// clocks say (S10).
func (s *Session) fences(seq uint64, r *lifeboatv1.ReportResponse) {
	sent, known := s.lease.sent[seq]
	for _, q := range r.Fences {
		if s.fencing(r.Term, q.Nonce) != nil || s.fencesOpen() >= maxFences {
			continue
		}
		f := &fencing{term: r.Term, nonce: q.Nonce}
		s.conn.fences = append(s.conn.fences, f)
		until := sent.Add(time.Duration(min(max(q.WithinMs, 0), maxFenceTime.Milliseconds())) * time.Millisecond)
		switch {
		case !known || until <= s.now:
			s.refuseFence(f, q.HostId, "it was asked for too late: its deadline has passed")
		case q.HostId == s.cfg.HostID:
			s.refuseFence(f, q.HostId, "a host does not fence itself")
		default:
			s.note(Info, "asked to use a power controller", "of", q.HostId, "task", q.Task, "driver", q.Driver, "address", q.Address)
			s.do(RunFence{Term: r.Term, Job: q, Timeout: until.Sub(s.now)})
		}
	}
	for _, nonce := range r.FencesOff {
		s.stopFence(s.fencing(r.Term, nonce))
	}
	if n := len(s.conn.fences) - fencesKept; n > 0 {
		s.conn.fences = slices.DeleteFunc(s.conn.fences, func(f *fencing) bool {
			n--
			return n >= 0 && f.heard
		})
	}
}

// endFences calls off what a leader of an older term asked for: effects end with
// the term (S10).
func (s *Session) endFences(term uint64) {
	for _, f := range s.conn.fences {
		if f.term < term {
			s.stopFence(f)
			f.heard = true // nobody waits for it any more
		}
	}
}

func (s *Session) stopFence(f *fencing) {
	if f == nil || f.outcome != nil || f.stopped {
		return
	}
	f.stopped = true
	s.do(StopFence{Term: f.term, Nonce: f.nonce})
}

func (s *Session) refuseFence(f *fencing, host, why string) {
	f.outcome = &lifeboatv1.FenceOutcome{Nonce: f.nonce, HostId: host, Term: f.term, Failure: why}
	s.conn.changed = true
}

func (s *Session) fencing(term, nonce uint64) *fencing {
	for _, f := range s.conn.fences {
		if f.term == term && f.nonce == nonce {
			return f
		}
	}
	return nil
}

func (s *Session) fencesOpen() int {
	n := 0
	for _, f := range s.conn.fences {
		if !f.heard {
			n++
		}
	}
	return n
}

// Fenced answers [RunFence].
func (s *Session) Fenced(now Instant, o *lifeboatv1.FenceOutcome) Out {
	s.begin(now)
	if f := s.fencing(o.GetTerm(), o.GetNonce()); f != nil && f.outcome == nil {
		f.outcome = o
		s.conn.changed = true
	}
	return s.step()
}

// fenceOutcomes are those that report seq carries.
func (s *Session) fenceOutcomes(seq uint64) []*lifeboatv1.FenceOutcome {
	var out []*lifeboatv1.FenceOutcome
	for _, f := range s.conn.fences {
		if f.outcome == nil || f.heard {
			continue
		}
		if f.seq == 0 {
			f.seq = seq
		}
		out = append(out, f.outcome)
	}
	return out
}

// heardFences notes which outcomes the leader has, by the report it answers.
func (s *Session) heardFences(seq uint64) {
	for _, f := range s.conn.fences {
		if f.seq != 0 && f.seq <= seq {
			f.heard = true
		}
	}
}
