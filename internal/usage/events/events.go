package events

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"time"
	"unicode/utf8"
)

// maxLine is how long a line may be, in bytes.
const maxLine = 64 << 10

// Event is what happened to a resource. See docs/usage.md.
type Event struct {
	ID       string    `json:"id"`       // counts once for its resource
	Type     string    `json:"type"`     // LB.CREATE
	Resource string    `json:"resource"` // its id
	Time     time.Time `json:"time"`     // when it happened
	Domain   string    `json:"domain,omitempty"`
	Account  string    `json:"account,omitempty"`
	Project  string    `json:"project,omitempty"`
	Size     uint64    `json:"size,omitempty"` // bytes
	Offering string    `json:"offering,omitempty"`
	Zone     string    `json:"zone,omitempty"`
	Name     string    `json:"name,omitempty"`
}

// Read calls f with each event and the number of its line, in order. It stops at the
// first line that is no event, with an error that says which and why, or at an error
// of f. Empty lines are passed over.
func Read(r io.Reader, f func(line int, e Event) error) error {
	lines := bufio.NewScanner(r)
	lines.Buffer(make([]byte, 0, 4096), maxLine)
	n := 0
	for lines.Scan() {
		n++
		raw := bytes.TrimSpace(lines.Bytes())
		if n == 1 {
			raw = bytes.TrimPrefix(raw, []byte("\xef\xbb\xbf"))
		}
		if len(raw) == 0 {
			continue
		}
		e, err := Parse(raw)
		if err != nil {
			return fmt.Errorf("line %d: %w", n, err)
		}
		if err := f(n, e); err != nil {
			return err
		}
	}
	if err := lines.Err(); errors.Is(err, bufio.ErrTooLong) {
		return fmt.Errorf("line %d is longer than %d bytes; write one event on a line", n+1, maxLine)
	} else if err != nil {
		return fmt.Errorf("read line %d: %w", n+1, err)
	}
	return nil
}

// Parse reads one event. A field that it does not know is an error: a misspelled one
// would be lost silently.
func Parse(raw []byte) (Event, error) {
	var e Event
	if !utf8.Valid(raw) {
		return e, errors.New("it is not UTF-8")
	}
	d := json.NewDecoder(bytes.NewReader(raw))
	d.DisallowUnknownFields()
	if err := d.Decode(&e); err != nil {
		return e, fmt.Errorf("it is no event: %w; write for example {\"id\":\"1\",\"type\":\"LB.CREATE\",\"resource\":\"7\",\"time\":\"2026-01-02T03:04:05Z\",\"account\":\"alice\"}", err)
	}
	if _, err := d.Token(); err != io.EOF {
		return e, errors.New("something stands behind the event; write one event on a line")
	}
	return e, e.check()
}

func (e *Event) check() error {
	switch {
	case e.ID == "":
		return errors.New("an event needs an id, by which its repetition is known")
	case e.Type == "" || e.Resource == "":
		return errors.New("an event needs a type and a resource")
	case e.Time.IsZero():
		return errors.New("an event needs the time at which it happened, for example 2026-01-02T03:04:05Z")
	case e.Time.Year() < 1970 || e.Time.Year() > 2115:
		return fmt.Errorf("the year %d is out of range", e.Time.Year())
	}
	return nil
}
