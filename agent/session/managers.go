package session

import (
	"slices"
	"time"

	lifeboatv1 "lifeboat/api/lifeboat/v1"
)

// How long managers are waited for, and when the next one is tried.
const (
	// answerSlack is the time for an answer beyond the beat for which a report
	// is parked: short enough that the silence of one dead manager stays below
	// the three beats after which this host is suspect, and never less than a quarter
	// of a beat. When every manager has failed, slowness is more likely than death, and
	// all get patientSlack, or half a beat.
	answerSlack  = 500 * time.Millisecond
	patientSlack = 2 * time.Second
	moveOnAgain  = time.Minute // nor tried again for this long because the one that answers sends us on
	// Pauses after failures, at a beat of a second. They grow with the beat: what beats
	// slowly is many hosts, and tries of all of them are what a cluster without a
	// leader can do without.
	backoffMin   = 100 * time.Millisecond
	backoffMax   = time.Second
	aimlessMax   = 3                // times that a manager may say that nobody leads before another one is asked
	forgiveAfter = 10 * time.Second // a manager that was silent is not preferred for this long
	maxManagers  = 32
)

type manager struct {
	Manager
	failedAt Instant
	failed   bool
	silent   bool // the failure was silence, which costs beats; a refusal costs nothing
	triedAt  Instant
	tried    bool // because another one sent us on
}

// Manager is the address of the manager that this host is registered with; empty:
// none has answered yet, or the one that did is silent.
func (s *Session) Manager() string {
	if s.epoch == 0 || s.conn.target == nil || s.conn.fails > 0 {
		return ""
	}
	return s.conn.target.Addr
}

func (c *connState) init(s *Session) {
	c.beat = defaultBeat
	c.retryAt = s.now
	s.learn(s.ledger.Managers)
	if len(c.managers) > 1 {
		// Hosts begin with different managers, each with the same one again.
		c.target = c.managers[s.rng.IntN(len(c.managers))]
	}
}

// learn makes the given list the last good one; configured addresses stay.
func (s *Session) learn(list []Manager) {
	c := &s.conn
	var next []*manager
	add := func(m Manager) {
		if m.Addr == "" || len(next) >= maxManagers {
			return
		}
		if i := slices.IndexFunc(next, func(x *manager) bool { return x.Addr == m.Addr }); i >= 0 {
			return
		}
		if i := slices.IndexFunc(c.managers, func(x *manager) bool { return x.Addr == m.Addr }); i >= 0 {
			if m.ID != "" {
				c.managers[i].ID = m.ID
			}
			next = append(next, c.managers[i])
			return
		}
		next = append(next, &manager{Manager: m})
	}
	for _, m := range list {
		add(m)
	}
	for _, m := range s.cfg.Managers {
		add(m)
	}
	c.managers = next
	if !slices.Contains(next, c.target) {
		c.target = nil
	}
	if c.target == nil && len(next) > 0 {
		c.target = next[0]
	}
}

// learned takes over a list of managers from an answer.
func (s *Session) learned(list []*lifeboatv1.Manager) {
	var ms []Manager
	for _, m := range list {
		if m.Addr != "" && len(ms) < maxManagers {
			ms = append(ms, Manager{ID: m.Id, Addr: m.Addr})
		}
	}
	if len(ms) == 0 || slices.Equal(ms, s.ledger.Managers) {
		return
	}
	s.ledger.Managers = ms
	s.dirty = true
	s.learn(ms)
}

// follow prefers the leader that is told for the second time: by then the crowd that
// came when it began to lead has been served, and any node forwards. Nor is one
// preferred that was silent a moment ago. A refusal is forgiven at once: it was
// starting, or did not lead yet.
func (s *Session) follow(addr string) {
	c := &s.conn
	if addr == "" {
		return
	}
	if addr != c.leader {
		c.leader = addr
		return
	}
	for _, m := range c.managers {
		if m != c.target && m.Addr == addr && (!m.failed || !m.silent || s.now.Sub(m.failedAt) >= forgiveAfter) {
			c.refuge, c.target = c.target, m
		}
	}
}

// moveOn tries another manager, since the one that answers is about to be worked on.
// It is one at a time, with an answer of the old one in between, and one that was
// silent is left alone for long: each costs beats, and three are what a host has.
func (s *Session) moveOn() {
	c := &s.conn
	if c.target == nil || c.target.Addr == c.leader {
		return // the leader is who to ask; or it is already tried
	}
	for _, m := range c.managers {
		if m == c.target || m.tried && s.now.Sub(m.triedAt) < moveOnAgain || m.failed && m.silent && s.now.Sub(m.failedAt) < forgiveAfter {
			continue
		}
		m.tried, m.triedAt = true, s.now
		c.refuge, c.target = c.target, m
		return
	}
}

// wait asks the same manager again: it lives and reaches no leader, as is most likely true
// of the others, and this host has a connection to it. The pauses grow, and once all have
// failed they begin longer: what all hosts ask meanwhile is in the way of the election
// that they wait for. All of them take less than half a beat before that: the next manager
// may know better, and three beats are what a host has.
func (s *Session) wait() {
	c := &s.conn
	c.unanswered()
	c.retryAt = s.now.Add(s.around(c.backoff(c.aimless + c.fails/max(len(c.managers), 1))))
	c.aimless++ // and no failure: it answers
}

// unanswered notes that the request which is out has failed.
func (c *connState) unanswered() {
	c.waiting, c.registering, c.ticket = false, false, 0
	c.changed = true
}

// lost tries the next manager: the one that answered last, if this was only an
// attempt at a better one; the leader if it has not failed lately; else the one
// whose failure is longest ago. The pause grows only when all failed.
func (s *Session) lost() {
	c := &s.conn
	c.unanswered()
	c.fails++
	c.aimless = 0
	if c.target != nil {
		c.target.failed, c.target.failedAt, c.target.silent = true, s.now, s.now >= c.until.Add(-coalesce)
	}
	best := c.target
	if c.refuge != nil && slices.Contains(c.managers, c.refuge) {
		best, c.refuge = c.refuge, nil
		c.target, c.retryAt = best, s.now.Add(s.jitter(c.backoff(0)))
		return
	}
	for _, m := range c.managers {
		switch {
		case best == nil || !m.failed && best.failed:
			best = m
		case m.failed == best.failed && m.failed && m.failedAt < best.failedAt:
			best = m
		case !m.failed && m.Addr == c.leader:
			best = m
		}
	}
	c.target = best
	c.retryAt = s.now.Add(s.around(c.backoff(c.fails / max(len(c.managers), 1))))
}

// patience is how long a manager may be silent while a report is out, however
// often there is news for it meanwhile.
func (s *Session) patience() time.Duration {
	beat := s.conn.beat
	if s.conn.fails >= len(s.conn.managers) {
		return beat + max(patientSlack, beat/2)
	}
	return beat + max(answerSlack, beat/4)
}

// backoff is the pause after all managers have failed a number of times.
func (c *connState) backoff(rounds int) time.Duration {
	low, high := max(backoffMin, c.beat/10), max(backoffMax, c.beat/2)
	return min(low<<min(rounds, 10), high)
}

// around is a pause about as long as given.
func (s *Session) around(d time.Duration) time.Duration { return d/2 + s.jitter(d) }

// jitter spreads agents that were all told the same thing at the same time.
func (s *Session) jitter(d time.Duration) time.Duration {
	if d <= 0 {
		return 0
	}
	return time.Duration(s.rng.Int64N(int64(d)))
}
