package scenario

import (
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"
)

// reader gathers what is wrong with a file, so that one run shows all of it.
type reader struct {
	path string
	errs []error
}

// maxErrors are shown of one file.
const maxErrors = 20

func (r *reader) fail(line int, format string, args ...any) {
	if len(r.errs) < maxErrors {
		r.errs = append(r.errs, &Error{r.path, line, fmt.Sprintf(format, args...)})
	}
}

func (r *reader) err() error { return errors.Join(r.errs...) }

// field reads the value of one key.
type field struct {
	key  string
	read func(*node)
}

// fields reads a mapping whose keys are known.
func (r *reader) fields(n *node, what string, known []field) {
	if n.null {
		return
	}
	if n.kind != mapping {
		r.fail(n.line, "%s is a map, not %s", what, n.kind)
		return
	}
	for _, p := range n.keys {
		i := slices.IndexFunc(known, func(f field) bool { return f.key == p.key })
		if i < 0 {
			var names []string
			for _, f := range known {
				names = append(names, f.key)
			}
			r.fail(p.line, "%s has no key %q; %s", what, p.key, hint(p.key, names))
			continue
		}
		known[i].read(p.val)
	}
}

// each walks a mapping whose keys are names.
func (r *reader) each(n *node, what string, do func(name string, line int, val *node)) {
	if n.null {
		return
	}
	if n.kind != mapping {
		r.fail(n.line, "%s is a map, not %s", what, n.kind)
		return
	}
	for _, p := range n.keys {
		do(p.key, p.line, p.val)
	}
}

// items are those of a list, or the one value that stands for a list of one.
func (r *reader) items(n *node, what string) []*node {
	switch {
	case n.null:
		return nil
	case n.kind == list:
		return n.items
	case n.kind == scalar:
		return []*node{n}
	}
	r.fail(n.line, "%s is a list, not %s", what, n.kind)
	return nil
}

func (r *reader) word(n *node, what string) string {
	if n.kind != scalar || n.null {
		r.fail(n.line, "%s is one value", what)
		return ""
	}
	return n.text
}

// words are a list of texts.
func (r *reader) words(n *node, what string) []string {
	var out []string
	for _, x := range r.items(n, what) {
		out = append(out, r.word(x, what))
	}
	return out
}

func (r *reader) number(n *node, what string, least int) int {
	text := r.word(n, what)
	v, err := strconv.Atoi(text)
	if text != "" && (err != nil || v < least) {
		r.fail(n.line, "%s: %q is no whole number from %d on", what, text, least)
	}
	return v
}

// numbers are the acceptable ones.
func (r *reader) numbers(n *node, what string) []int {
	var out []int
	for _, x := range r.items(n, what) {
		out = append(out, r.number(x, what, 0))
	}
	return out
}

func (r *reader) flag(n *node, what string) bool {
	switch text := r.word(n, what); text {
	case "true":
		return true
	case "false", "":
	default:
		r.fail(n.line, "%s: %q is neither true nor false", what, text)
	}
	return false
}

func (r *reader) duration(n *node, what string) time.Duration {
	text := r.word(n, what)
	d, err := parseDuration(text)
	if text != "" && err != nil {
		r.fail(n.line, "%s: %v", what, err)
	}
	return d
}

func parseDuration(text string) (time.Duration, error) {
	d, err := time.ParseDuration(text)
	if err != nil || d < 0 {
		return 0, fmt.Errorf("%q is no duration; write one with its unit, such as 500ms, 10s or 2m", text)
	}
	return d, nil
}

func (r *reader) oneOf(n *node, what string, allowed ...string) string {
	text := r.word(n, what)
	if text != "" && !slices.Contains(allowed, text) {
		r.fail(n.line, "%s: %q is not known; %s", what, text, hint(text, allowed))
	}
	return text
}

func (r *reader) memory(n *node, what string) uint64 {
	text := r.word(n, what)
	v, err := parseMemory(text)
	if text != "" && err != nil {
		r.fail(n.line, "%s: %v", what, err)
	}
	return v
}

func parseMemory(text string) (uint64, error) {
	for _, u := range []struct {
		name  string
		shift uint
	}{{"KiB", 10}, {"MiB", 20}, {"GiB", 30}, {"TiB", 40}} {
		if num, ok := strings.CutSuffix(text, u.name); ok {
			v, err := strconv.ParseUint(strings.TrimSpace(num), 10, 32)
			if err == nil && v > 0 {
				return v << u.shift, nil
			}
		}
	}
	return 0, fmt.Errorf("%q is no amount of memory; write for example 512MiB or 4GiB", text)
}

// hint says what could have been meant, or what there is.
func hint(got string, known []string) string {
	best, least := "", 3
	for _, k := range known {
		if d := distance(got, k); d < least {
			best, least = k, d
		}
	}
	if best != "" {
		return fmt.Sprintf("did you mean %q?", best)
	}
	if len(known) == 0 {
		return "there are none"
	}
	return "it is one of " + strings.Join(known, ", ")
}

// distance is how many letters must change to make b of a.
func distance(a, b string) int {
	row := make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := range len(a) {
		last := row[0]
		row[0] = i + 1
		for j := range len(b) {
			cost := last
			if a[i] != b[j] {
				cost++
			}
			last = row[j+1]
			row[j+1] = min(cost, row[j]+1, row[j+1]+1)
		}
	}
	return row[len(b)]
}

// Memory reads an amount of memory such as 4GiB, in bytes.
func Memory(text string) (uint64, error) { return parseMemory(text) }
