package sim

import (
	"slices"
	"time"

	"lifeboat/agent/session"
	lifeboatv1 "lifeboat/api/lifeboat/v1"
)

// writeBeats is how soon an agent knows that a beat was or was not written.
const writeBeats = 4 * time.Second

// beats tells the session whether its heartbeat is written, when that changes. The
// file itself is not modelled: it changes while agent and storage work.
func (a *agent) beats(h *host) {
	if h.spec.Heartbeat {
		up := h.storage
		a.tell(h, func(s *session.Session, now session.Instant) session.Out {
			return s.Beats(now, []session.Beat{{Path: sharedDir, Up: up}})
		})
	}
}

// readBeats is what this host sees of the heartbeat of a silent one. It takes as
// long as an unanswered connection does.
func (h *host) readBeats(p *host, q *lifeboatv1.Probe) []*lifeboatv1.BeatSeen {
	if !h.spec.Heartbeat || !slices.Contains(q.Beats, sharedDir) {
		return nil
	}
	b := &lifeboatv1.BeatSeen{Storage: sharedDir}
	switch {
	case !h.storage:
		b.Detail = "cannot be read: the directory does not answer here"
	case p == nil || !p.running() || p.frozen || !p.agent.runs || !p.storage:
		b.Detail = "its heartbeat stands still"
	case p.bootID() != q.BootId:
		b.Detail = "its heartbeat goes on in another boot: the machine has been restarted"
	default:
		b.Moved, b.Detail = true, "its heartbeat goes on"
	}
	return []*lifeboatv1.BeatSeen{b}
}
