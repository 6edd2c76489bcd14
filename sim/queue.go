package sim

import "time"

// event is something that is going to happen.
type event struct {
	at  time.Duration // on the world's clock, or on its host's
	seq uint64        // of two at one time the one that was planned first happens first
	// routine: it is part of a beat in which nothing changes. A host for which
	// nothing else is planned may sleep.
	routine bool
	do      func()
}

func (e *event) before(o *event) bool { return e.at < o.at || e.at == o.at && e.seq < o.seq }

// queue are the events to come: a heap.
type queue []event

func (q *queue) add(e event) {
	*q = append(*q, e)
	h := *q
	i := len(h) - 1
	for i > 0 {
		up := (i - 1) / 2
		if !e.before(&h[up]) {
			break
		}
		h[i] = h[up]
		i = up
	}
	h[i] = e
}

func (q *queue) pop() event {
	h := *q
	first, last := h[0], h[len(h)-1]
	h[len(h)-1] = event{}
	h = h[:len(h)-1]
	*q = h
	if len(h) == 0 {
		return first
	}
	i := 0
	for {
		c := 2*i + 1
		if c >= len(h) {
			break
		}
		if c+1 < len(h) && h[c+1].before(&h[c]) {
			c++
		}
		if !h[c].before(&last) {
			break
		}
		h[i] = h[c]
		i = c
	}
	h[i] = last
	return first
}

// agenda are the hosts that are awake and for which something is planned: a
// heap by what comes first.
type agenda []*host

// idle is the place of a host that is not in the agenda.
const idle = -1

func (a agenda) before(x, y *host) bool {
	e, o := &x.queue[0], &y.queue[0]
	s, t := e.at+x.slept, o.at+y.slept
	return s < t || s == t && e.seq < o.seq
}

func (a agenda) set(i int, h *host) { a[i], h.place = h, i }

// fix puts a host where it belongs after its queue has changed.
func (a *agenda) fix(h *host) {
	if h.asleep || len(h.queue) == 0 {
		a.remove(h)
		return
	}
	if h.place == idle {
		*a = append(*a, h)
		h.place = len(*a) - 1
	}
	if !a.up(h) {
		a.down(h)
	}
}

func (a *agenda) remove(h *host) {
	i := h.place
	if i == idle {
		return
	}
	l := len(*a) - 1
	last := (*a)[l]
	(*a)[l] = nil
	*a = (*a)[:l]
	h.place = idle
	if last != h {
		a.set(i, last)
		if !a.up(last) {
			a.down(last)
		}
	}
}

func (a agenda) up(h *host) (moved bool) {
	for h.place > 0 {
		p := a[(h.place-1)/2]
		if !a.before(h, p) {
			break
		}
		i := p.place
		a.set(h.place, p)
		a.set(i, h)
		moved = true
	}
	return moved
}

func (a agenda) down(h *host) {
	for {
		c := 2*h.place + 1
		if c >= len(a) {
			return
		}
		if c+1 < len(a) && a.before(a[c+1], a[c]) {
			c++
		}
		x := a[c]
		if !a.before(x, h) {
			return
		}
		a.set(h.place, x)
		a.set(c, h)
	}
}

// next takes the next event that is due until a time.
func (w *World) next(until time.Duration) (at time.Duration, do func(), ok bool) {
	var mine *event
	if len(w.queue) > 0 {
		mine = &w.queue[0]
	}
	if len(w.agenda) > 0 {
		h := w.agenda[0]
		e := &h.queue[0]
		at := e.at + h.slept
		if mine == nil || at < mine.at || at == mine.at && e.seq < mine.seq {
			if at > until {
				return 0, nil, false
			}
			do := h.queue.pop()
			w.agenda.fix(h)
			if !do.routine {
				h.news = at
			}
			return at, do.do, true
		}
	}
	if mine == nil || mine.at > until {
		return 0, nil, false
	}
	e := w.queue.pop()
	return e.at, e.do, true
}
