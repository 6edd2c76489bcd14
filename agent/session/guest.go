package session

import (
	"time"

	"lifeboat/hypervisor"
)

// askEvery is how often the agent of a guest is asked that has not answered yet.
const askEvery = 2 * time.Second

// guestState is what is known of the agent inside a guest, since the guest runs.
type guestState struct {
	asking  bool
	void    bool // the guest that is being asked runs no more
	answers bool
	due     Instant
}

// stepGuest asks the agent inside a guest until it has answered once, where others wait
// for that. One that falls silent later was ready all the same.
func (s *Session) stepGuest(v *vm) {
	g := &v.guest
	if !v.ran() {
		if v.seen && (g.asking || g.answers) {
			s.conn.changed = s.conn.changed || g.answers
			*g = guestState{asking: g.asking, void: g.asking}
		}
		return
	}
	if v.owned == nil || !v.owned.AskGuest || v.dom.State != hypervisor.StateRunning || v.op != opNone || g.asking || g.answers || !s.due(g.due) {
		return
	}
	g.asking = true
	s.do(AskGuest{ID: v.id})
}

// GuestAsked answers [AskGuest].
func (s *Session) GuestAsked(now Instant, id hypervisor.UUID, err error) Out {
	s.begin(now)
	v := s.vms[id]
	if v == nil || !v.guest.asking {
		return s.step()
	}
	g := &v.guest
	if err == nil && !g.void {
		g.answers, s.conn.changed = true, true
		s.note(Info, "the agent of a guest answers", "vm", v.name, "uuid", id.String())
	}
	g.asking, g.void, g.due = false, false, now.Add(askEvery)
	return s.step()
}
