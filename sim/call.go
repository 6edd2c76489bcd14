package sim

import (
	"cmp"
	"errors"
	"maps"
	"slices"
	"time"

	"lifeboat/agent/session"
	lifeboatv1 "lifeboat/api/lifeboat/v1"
)

// response is what a manager answers.
type response struct {
	msg      any
	err      error
	register bool // it does not know this epoch of the host
}

// failure is what a session is told of a response that is none.
func (r response) failure() session.Failure {
	return session.Failure{Err: r.err, Register: r.register, NoLeader: errors.Is(r.err, errNoLeader), Broken: errors.Is(r.err, errRefused) || errors.Is(r.err, errReset)}
}

// call is one request to a manager.
type call struct {
	w      *World
	id     uint64
	from   endpoint
	at     *manager
	report bool
	over   bool // answered
	done   bool // whoever asked knows
	finish func(response)
}

var (
	errTimeout   = errors.New("no answer in time")
	errRefused   = errors.New("connection refused")
	errReset     = errors.New("connection reset by peer")
	errNoLeader  = errors.New("there is no leader at the moment; try again in a second")
	errUnknown   = errors.New("the outcome is not known")
	errForwarded = errors.New("the leader does not answer, so the outcome is not known")
)

// ask sends a request to a manager; finish is called once.
func (w *World) ask(from endpoint, to string, timeout time.Duration, req any, finish func(response)) {
	w.book.calls++
	c := &call{w: w, id: w.book.calls, from: from, at: w.byName[to], finish: finish}
	_, c.report = req.(*lifeboatv1.ReportRequest)
	c.after(timeout, func() { c.end(response{err: errTimeout}) })
	m := c.at
	if m == nil {
		return
	}
	w.carry(c, from, m, func() {
		if !m.up {
			c.back(response{err: errRefused})
			return
		}
		m.open[c] = true
		m.do(func() { m.serve(c, req) })
	})
}

// after plans something about the call, on the clock of the host it is from.
func (c *call) after(d time.Duration, do func()) {
	if h, ok := c.from.(*host); ok {
		h.plan(d, c.report, do)
		return
	}
	c.w.after(d, do)
}

// A packet that is lost is sent again after a while, and after a longer one.
const (
	resendMin = 200 * time.Millisecond
	resendMax = 3 * time.Second
)

// carry brings a message to the other end as TCP does: what is lost is sent
// again for as long as somebody waits.
func (w *World) carry(c *call, from, to endpoint, arrive func()) {
	resend := resendMin
	var try func()
	try = func() {
		switch {
		case c.done:
		case w.talk(from, to) && machineUp(to):
			arrive()
		default:
			c.after(resend, try)
			resend = min(2*resend, resendMax)
		}
	}
	c.after(w.latency(), try)
}

// answer is the manager's.
func (c *call) answer(r response) {
	if c.over {
		return
	}
	c.over = true
	delete(c.at.open, c)
	c.back(r)
}

// back carries an answer to whoever asked, if the network does.
func (c *call) back(r response) {
	c.w.carry(c, c.at, c.from, func() { c.end(r) })
}

func (c *call) end(r response) {
	if !c.done {
		c.done, c.over = true, true
		delete(c.at.open, c)
		c.finish(r)
	}
}

// hangUp ends what is open at a manager whose process is gone.
func (m *manager) hangUp() {
	open := slices.SortedFunc(maps.Keys(m.open), func(a, b *call) int { return cmp.Compare(a.id, b.id) })
	m.open = map[*call]bool{}
	for _, c := range open {
		if !c.over {
			c.over = true
			c.back(response{err: errReset})
		}
	}
}
