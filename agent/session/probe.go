package session

import (
	"slices"

	lifeboatv1 "lifeboat/api/lifeboat/v1"
)

// maxProbes bounds what a manager can make this host do for its peers at once.
const maxProbes = 64

// probing is one question about a peer, from the moment it was asked until the
// leader has the answer.
type probing struct {
	host   string
	nonce  uint64
	result *lifeboatv1.ProbeResult // nil: under way
	seq    uint64                  // report that first carried the result; 0: none yet
}

// probe begins what is new. The leader repeats a question until it has heard
// the answer.
func (s *Session) probe(list []*lifeboatv1.Probe) {
	for _, q := range list {
		if s.probing(q.HostId, q.Nonce) >= 0 || len(s.conn.probes) >= maxProbes {
			continue
		}
		s.conn.probes = append(s.conn.probes, &probing{host: q.HostId, nonce: q.Nonce})
		s.do(Probe{Req: q})
	}
}

func (s *Session) probing(host string, nonce uint64) int {
	return slices.IndexFunc(s.conn.probes, func(p *probing) bool { return p.host == host && p.nonce == nonce })
}

// Probed answers [Probe].
func (s *Session) Probed(now Instant, r *lifeboatv1.ProbeResult) Out {
	s.begin(now)
	if i := s.probing(r.HostId, r.Nonce); i >= 0 && s.conn.probes[i].result == nil {
		s.conn.probes[i].result = r
		s.conn.changed = true
	}
	return s.step()
}

// probeResults are those that report seq carries.
func (s *Session) probeResults(seq uint64) []*lifeboatv1.ProbeResult {
	var rs []*lifeboatv1.ProbeResult
	for _, p := range s.conn.probes {
		if p.result == nil {
			continue
		}
		if p.seq == 0 {
			p.seq = seq
		}
		rs = append(rs, p.result)
	}
	return rs
}

// heardProbes drops the results that the leader has, by the report it answers.
func (s *Session) heardProbes(seq uint64) {
	s.conn.probes = slices.DeleteFunc(s.conn.probes, func(p *probing) bool { return p.seq != 0 && p.seq <= seq })
}
