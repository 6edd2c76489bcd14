package sim

import (
	"fmt"
	"io"
	"strings"
)

// Write tells people what came of a scenario. Of a failure it says what was
// expected, what happened, and the lines of the log that explain it.
func (r *Result) Write(to io.Writer) error {
	var b strings.Builder
	word := "ok  "
	if !r.Passed {
		word = "FAIL"
	}
	name := r.File
	if r.Name != "" {
		name += "  " + r.Name
	}
	fmt.Fprintf(&b, "%s  %s  (%.0f s, seed %d)\n", word, name, r.Virtual, r.Seed)
	for _, f := range r.Failures {
		at := r.File
		if f.Line > 0 {
			at = fmt.Sprintf("%s:%d", r.File, f.Line)
		}
		fmt.Fprintf(&b, "\n      %s: %s\n        expected: %s\n        actual:   %s\n", at, f.What, f.Expected, f.Actual)
		for _, l := range f.Story {
			fmt.Fprintf(&b, "        | %s\n", l)
		}
	}
	if !r.Passed {
		b.WriteByte('\n')
	}
	_, err := io.WriteString(to, b.String())
	return err
}
