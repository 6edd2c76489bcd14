package cli

import (
	"bytes"
	"fmt"
	"strconv"
	"strings"
	"time"
)

// View is what a command draws an answer on, for people. Everything drawn is
// cleaned of control characters.
type View struct {
	Wide bool      // more columns, and times instead of ages
	Now  time.Time // what ages are counted to
	buf  bytes.Buffer
	note string
}

// Column is one column of a table over rows of type R.
type Column[R any] struct {
	Title string
	Cell  func(v *View, row R) string
	Wide  bool // only with -o wide
}

// DrawTable draws one line per row, or notes the sentence empty when there is none.
func DrawTable[R any](v *View, columns []Column[R], rows []R, empty string) {
	if len(rows) == 0 {
		v.Note(empty)
		return
	}
	lines := make([][]string, len(rows)+1)
	for _, c := range columns {
		if c.Wide && !v.Wide {
			continue
		}
		lines[0] = append(lines[0], c.Title)
		for i, row := range rows {
			lines[i+1] = append(lines[i+1], orDash(c.Cell(v, row)))
		}
	}
	writeTable(&v.buf, lines)
}

// Fields draws "name: value" lines, aligned. Pairs with an empty value are left
// out.
func (v *View) Fields(pairs ...[2]string) {
	var lines [][]string
	for _, p := range pairs {
		if p[1] != "" {
			lines = append(lines, []string{p[0] + ":", p[1]})
		}
	}
	writeTable(&v.buf, lines)
}

// Line draws one line.
func (v *View) Line(format string, args ...any) {
	fmt.Fprintln(&v.buf, clean(fmt.Sprintf(format, args...)))
}

// Note says something that is not part of the answer; it goes to stderr.
func (v *View) Note(sentence string) { v.note = clean(sentence) }

// Time is a point in time: its age, or in wide the time itself in UTC. Zero is
// nothing.
func (v *View) Time(unixNS int64) string {
	if unixNS == 0 {
		return ""
	}
	t := time.Unix(0, unixNS)
	if v.Wide {
		return t.UTC().Format(time.RFC3339)
	}
	return Ago(v.Now.Sub(t))
}

// Ago is an age or, when negative, a time to come: "3m12s ago", "in 5s".
func Ago(d time.Duration) string {
	if d < 0 {
		return "in " + Span(-d)
	}
	return Span(d) + " ago"
}

// Span is a length of time with the two units that matter.
func Span(d time.Duration) string {
	switch {
	case d < time.Second:
		return fmt.Sprintf("%dms", d.Milliseconds())
	case d < 10*time.Second:
		return oneDecimal(d.Truncate(100*time.Millisecond).Seconds()) + "s"
	case d < time.Minute:
		return fmt.Sprintf("%ds", int(d.Seconds()))
	case d < time.Hour:
		return fmt.Sprintf("%dm%02ds", int(d.Minutes()), int(d.Seconds())%60)
	case d < 24*time.Hour:
		return fmt.Sprintf("%dh%02dm", int(d.Hours()), int(d.Minutes())%60)
	}
	return fmt.Sprintf("%dd%02dh", int(d.Hours())/24, int(d.Hours())%24)
}

// Millis is Span of milliseconds.
func Millis(ms int64) string { return Span(time.Duration(ms) * time.Millisecond) }

// Bytes is an amount of memory or storage, in binary units.
func Bytes(n uint64) string {
	const units = "KMGTPE"
	if n < 1024 {
		return fmt.Sprintf("%d B", n)
	}
	value, unit := float64(n)/1024, 0
	for value >= 1024 && unit < len(units)-1 {
		value, unit = value/1024, unit+1
	}
	return fmt.Sprintf("%s %ciB", oneDecimal(value), units[unit])
}

// oneDecimal is "8.5", and "8" for what is whole.
func oneDecimal(x float64) string {
	return strings.TrimSuffix(strconv.FormatFloat(x, 'f', 1, 64), ".0")
}

// Count is a number with its noun: "1 host", "3 hosts".
func Count[N ~int | ~uint32](n N, noun string) string {
	if n == 1 {
		return "1 " + noun
	}
	return fmt.Sprintf("%d %ss", n, noun)
}

// YesNo words a flag.
func YesNo(b bool) string {
	if b {
		return "yes"
	}
	return "no"
}

// Joined is a list in one cell.
func Joined(list []string) string { return strings.Join(list, ", ") }

func orDash(s string) string {
	if s == "" {
		return "-"
	}
	return s
}

// Read takes out what was drawn, for views that are not the answer itself.
func (v *View) Read(p []byte) (int, error) { return v.buf.Read(p) }
