package agent

import (
	"context"
	"errors"

	"lifeboat/agent/session"
	"lifeboat/fence/wire"
)

// fenceKey names a job at another host's power controller.
type fenceKey struct{ term, nonce uint64 }

var errFenceOff = errors.New("the managers called it off")

// runFence does a job at another host's power controller (S25). It ends with its
// deadline, when it is called off and with the agent, and leaves no child
// process behind (S10).
func (a *agent) runFence(x session.RunFence) {
	key := fenceKey{x.Term, x.Job.GetNonce()}
	ctx, off := context.WithCancelCause(a.ctx)
	a.fences[key] = off
	a.wg.Go(func() {
		limited, cancel := context.WithTimeout(ctx, x.Timeout)
		defer cancel()
		o := a.cfg.Fences.Do(limited, wire.ReadJob(x.Job))
		off(nil)
		out := wire.Outcome(x.Job, x.Term, o)
		a.tell(func(s *session.Session, now session.Instant) session.Out {
			delete(a.fences, key)
			return s.Fenced(now, out)
		})
	})
}

func (a *agent) stopFence(x session.StopFence) {
	if off := a.fences[fenceKey{x.Term, x.Nonce}]; off != nil {
		off(errFenceOff)
	}
}
