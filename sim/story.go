package sim

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"lifeboat/fsm"
)

// story is what happened, for whoever asks why.
type story struct {
	lines []line
	last  uint64 // newest event of the audit that was told
}

type line struct {
	at    time.Duration // on the scenario's clock
	about []string      // names; empty: everybody
	text  string
}

func (l line) String() string { return fmt.Sprintf("%10s  %s", stamp(l.at), l.text) }

// stamp writes a time as +83.250s.
func stamp(d time.Duration) string { return fmt.Sprintf("%+.3fs", d.Seconds()) }

// keepLines bounds the story of long runs.
const keepLines = 200_000

func (w *World) note(about []string, format string, args ...any) {
	if len(w.story.lines) >= keepLines {
		w.story.lines = slices.Delete(w.story.lines, 0, keepLines/2)
	}
	w.story.lines = append(w.story.lines, line{w.clock(), about, fmt.Sprintf(format, args...)})
}

// tell adds the new lines of the audit, if there are any.
func (w *World) tell() (any bool) {
	s := w.truth.State()
	for id, e := range s.EventsAfter(fsm.EventID(w.story.last)) {
		any = true
		w.story.last = uint64(id)
		w.book.event(w, e)
		_, subject, _ := strings.Cut(e.Subject, " ")
		w.note([]string{subject}, "[%d] %s: %s", e.Index, e.Type, e.Text)
	}
	return any
}

// maxTold lines explain one failure.
const maxTold = 25

// explain are the last lines about some names, up to a time.
func (s *story) explain(until time.Duration, about ...string) []line {
	var out []line
	for i := len(s.lines) - 1; i >= 0 && len(out) < maxTold; i-- {
		l := s.lines[i]
		if l.at > until || l.at < 0 {
			continue
		}
		if len(about) == 0 || slices.ContainsFunc(l.about, func(a string) bool { return slices.Contains(about, a) }) {
			out = append(out, l)
		}
	}
	slices.Reverse(out)
	return out
}
