package dev

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"slices"
	"time"

	"lifeboat/hypervisor"
	"lifeboat/hypervisor/mem"
)

// journal is what really happened to the VMs: written by the hypervisors as it
// happens, whatever the cluster believes.
type journal []mem.JournalEntry

// readJournal reads what has been written so far. The last line may be cut.
func readJournal(path string) (journal, error) {
	text, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("read journal: %w", err)
	}
	return parseJournal(text)
}

func parseJournal(text []byte) (journal, error) {
	var j journal
	for n := 1; ; n++ {
		line, rest, whole := bytes.Cut(text, []byte("\n"))
		if !whole {
			return j, nil
		}
		var e mem.JournalEntry
		if err := json.Unmarshal(line, &e); err != nil {
			return nil, fmt.Errorf("read journal, line %d: %w", n, err)
		}
		j, text = append(j, e), rest
	}
}

// stay is the time a VM ran on one host.
type stay struct {
	Host  string
	Begin time.Time
	End   time.Time // zero = it runs
}

// stays are the times a VM ran, in the order in which they began. What ran on a
// host when it died ended when the host did.
func (j journal) stays(id hypervisor.UUID, deaths []Death) []stay {
	var out []stay
	for _, e := range j {
		if e.UUID != id {
			continue
		}
		switch e.Kind {
		case mem.Started:
			out = append(out, stay{Host: e.Host, Begin: e.Time})
		case mem.Stopped:
			for i := len(out) - 1; i >= 0; i-- {
				if out[i].Host == e.Host && out[i].End.IsZero() {
					out[i].End = e.Time
					break
				}
			}
		}
	}
	for i := range out {
		for _, d := range deaths {
			s := &out[i]
			if d.Host == s.Host && d.End.After(s.Begin) && (s.End.IsZero() || s.End.After(d.End)) {
				s.End = d.End
			}
		}
	}
	slices.SortStableFunc(out, func(a, b stay) int { return a.Begin.Compare(b.Begin) })
	return out
}

// where is where a VM runs.
func (j journal) where(id hypervisor.UUID, deaths []Death) (stay, bool) {
	stays := j.stays(id, deaths)
	for _, s := range slices.Backward(stays) {
		if s.End.IsZero() {
			return s, true
		}
	}
	return stay{}, false
}

// overlap finds two times at which a VM ran twice.
func overlap(stays []stay) (a, b stay, found bool) {
	for i, s := range stays {
		for _, other := range stays[i+1:] {
			if s.End.IsZero() || other.Begin.Before(s.End) {
				return s, other, true
			}
		}
	}
	return stay{}, stay{}, false
}
