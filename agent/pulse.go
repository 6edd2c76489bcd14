package agent

import (
	"time"

	"lifeboat/agent/session"
)

// Supervisor is told how the agent fares; whoever is behind it (systemd) ends a
// process that says nothing any more. Its methods do not block for long.
type Supervisor interface {
	Every() time.Duration // how often Alive wants to be called
	Ready()               // its loop turns
	Alive(status string)  // it is well, and does this
	Stopping()            // its stop has begun
	// Extend asks for so much more time from now on, once its stop has begun.
	Extend(by time.Duration)
}

// pulse says that the agent is well each time its loop has taken a question. That
// no manager can be reached is no reason to be restarted. Where a lease is armed
// the machine's own watchdog is quicker; this one is for hosts without.
func (a *agent) pulse() {
	s := a.cfg.Supervisor
	for first := true; ; first = false {
		type standing struct {
			manager string
			holds   bool
		}
		answer := make(chan standing, 1)
		ok := a.tell(func(s *session.Session, now session.Instant) session.Out {
			answer <- standing{s.Manager(), s.Holds()}
			return s.Tick(now)
		})
		if !ok {
			return
		}
		status := "no manager answers"
		now := <-answer
		switch {
		case now.holds:
			status = "the machine waits until its VMs have been moved away"
			s.Extend(2*s.Every() + a.stopTimeout())
		case now.manager != "":
			status = "reporting to " + now.manager
		}
		if first {
			s.Ready()
		}
		s.Alive(status)
		timer := time.NewTimer(s.Every())
		select {
		case <-timer.C:
		case <-a.ctx.Done():
			timer.Stop()
			return
		}
	}
}

// stopTimeout is how long a stop may take that nothing holds up.
func (a *agent) stopTimeout() time.Duration {
	if a.cfg.StopTimeout > 0 {
		return a.cfg.StopTimeout
	}
	return session.StopTimeout
}
