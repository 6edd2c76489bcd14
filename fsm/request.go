package fsm

import (
	"bytes"
	"cmp"
	"fmt"
	"iter"
	"strings"
	"time"
	"unicode/utf8"

	"lifeboat/fsm/logpb"
)

const (
	// LevelRequests is the feature level that remembers requests.
	LevelRequests = 3
	// MaxRequestID is how long a request id may be, in bytes.
	MaxRequestID = 64
	// RequestsFor is how long the outcome of a request is remembered, by the time of
	// the log, and RequestsKeep of how many; the oldest go first.
	RequestsFor  = 24 * time.Hour
	RequestsKeep = 10_000
	// requestText bounds a remembered rejection, in bytes.
	requestText = 500
)

// Request is what became of a command that had a request id.
type Request struct {
	Index    uint64 // of its entry
	Actor    string // who asked; ids of different actors have nothing to do with one another
	ID       string
	Mark     []byte // of what was asked
	Time     int64  // unix ns
	Rejected string // the rules forbade it; "" = it was done
}

type requestKey struct{ actor, id string }

func lessRequest(a, b requestKey) bool {
	return cmp.Or(strings.Compare(a.actor, b.actor), strings.Compare(a.id, b.id)) < 0
}

// Request returns what became of a request, nil when none is remembered.
func (s *State) Request(actor, id string) *Request { return s.requestAt(actor, id, s.Time) }

func (s *State) requestAt(actor, id string, now int64) *Request {
	index, ok := s.asked.get(requestKey{actor, id})
	if !ok {
		return nil
	}
	r, _ := s.requests.get(index)
	if r.expired(now) {
		return nil
	}
	return r
}

// Requests walks the requests that are remembered, oldest first. Some may have
// expired: they are dropped by the next one.
func (s *State) Requests() iter.Seq2[uint64, *Request] { return s.requests.all() }

func (r *Request) expired(now int64) bool { return now-r.Time > int64(RequestsFor) }

// Refuses says why something else may not be asked under the id of r; "" when it
// is the same.
func (r *Request) Refuses(mark []byte) string {
	if bytes.Equal(mark, r.Mark) {
		return ""
	}
	return fmt.Sprintf("the request id %q was used for something else, at log index %d; nothing was changed: repeat exactly what was asked then, or use a new id", r.ID, r.Index)
}

// once applies a command unless the same actor has asked for it before with the
// same id: then it changes nothing, and the result is the first one.
func (m *Machine) once(s *State, e Entry, c *logpb.Command) Result {
	if c.RequestId == "" || s.Level < LevelRequests {
		rejected, told := m.apply(s, e, c)
		return Result{Index: e.Index, Rejected: rejected, Told: told}
	}
	if was := s.requestAt(c.Actor, c.RequestId, max(s.Time, c.TimeUnixNs)); was != nil {
		if no := was.Refuses(c.RequestMark); no != "" {
			return Result{Index: e.Index, Rejected: no}
		}
		return Result{Index: was.Index, Rejected: was.Rejected, Repeated: true}
	}
	r := Result{Index: e.Index}
	r.Rejected, r.Told = m.apply(s, e, c)
	s.remember(&Request{Index: e.Index, Actor: c.Actor, ID: c.RequestId, Mark: bytes.Clone(c.RequestMark), Time: s.Time, Rejected: cut(r.Rejected, requestText)})
	return r
}

// remember adds a request, and drops what is too old or too many.
func (s *State) remember(r *Request) {
	if old, ok := s.asked.get(requestKey{r.Actor, r.ID}); ok {
		s.requests.delete(old) // expired
	}
	s.requests.set(r.Index, r)
	s.asked.set(requestKey{r.Actor, r.ID}, r.Index)
	for {
		index, old, _ := s.requests.min()
		if s.requests.len() <= RequestsKeep && !old.expired(s.Time) {
			return
		}
		s.requests.delete(index)
		s.asked.delete(requestKey{old.Actor, old.ID})
	}
}

// cut shortens a text to a number of bytes, at the border of a character.
func cut(text string, most int) string {
	if len(text) <= most {
		return text
	}
	for most > 0 && !utf8.RuneStart(text[most]) {
		most--
	}
	return text[:most] + "…"
}

func requestRecord(r *Request) *logpb.Record {
	return &logpb.Record{Body: &logpb.Record_Request{Request: &logpb.RequestRecord{Index: r.Index, Actor: r.Actor, Id: r.ID, Mark: r.Mark,
		TimeUnixNs: r.Time, Rejected: r.Rejected}}}
}

func requestFromLog(p *logpb.RequestRecord) *Request {
	return &Request{Index: p.Index, Actor: p.Actor, ID: p.Id, Mark: p.Mark, Time: p.TimeUnixNs, Rejected: p.Rejected}
}

// loadRequest adds a request to a state that is being read.
func (s *State) loadRequest(r *Request) error {
	if _, ok := s.requests.get(r.Index); ok {
		return fmt.Errorf("two requests have the log index %d", r.Index)
	}
	if _, ok := s.asked.get(requestKey{r.Actor, r.ID}); ok {
		return fmt.Errorf("the request %q of %s is there twice", r.ID, r.Actor)
	}
	s.requests.set(r.Index, r)
	s.asked.set(requestKey{r.Actor, r.ID}, r.Index)
	return nil
}

// requests checks what is remembered of requests.
func (c *checker) requests() {
	c.must(c.s.requests.len() <= RequestsKeep, "requests", "%d are remembered, more than %d", c.s.requests.len(), RequestsKeep)
	c.must(c.s.requests.len() == c.s.asked.len(), "requests", "%d are remembered, %d can be found", c.s.requests.len(), c.s.asked.len())
	for index, r := range c.s.Requests() {
		if at, ok := c.s.asked.get(requestKey{r.Actor, r.ID}); !ok || at != index || r.Index != index || index > c.s.Index {
			c.fail("requests", "request %q of %s at index %d cannot be found, or lies in the future", r.ID, r.Actor, index)
		}
		if r.Time > c.s.Time {
			c.fail("S21", "request %q lies in the future", r.ID)
		}
	}
}
