package docstest

import (
	"fmt"
	"regexp"
	"slices"
	"strings"
)

var variablePattern = regexp.MustCompile(`\$([A-Z][A-Z0-9_]*)`)

// match compares what was printed with what the document shows, and returns the
// words that the document names. known are those of earlier outputs: they must be
// the same again.
func match(want []string, printed string, known map[string]string) (map[string]string, error) {
	found := map[string]string{}
	if len(want) == 0 {
		return found, nil
	}
	got := strings.Split(printed, "\n")
	got = slices.DeleteFunc(got, func(line string) bool { return strings.TrimSpace(line) == "" })
	at, skip := 0, false
	for _, w := range want {
		if strings.TrimSpace(w) == "" {
			continue
		}
		if strings.TrimSpace(w) == "..." {
			skip = true
			continue
		}
		pattern, names := linePattern(w, known, found)
		begin := at
		for {
			if at == len(got) {
				if begin == len(got) {
					return nil, fmt.Errorf("the output has ended, and the document goes on: %s", w)
				}
				return nil, fmt.Errorf("no line from %q on is as in the document: %s", got[begin], w)
			}
			m := pattern.FindStringSubmatch(blanks(got[at]))
			at++
			if m != nil {
				for i, name := range names {
					if earlier, ok := found[name]; ok && earlier != m[i+1] {
						return nil, fmt.Errorf("$%s is %s and %s in the line %q", name, earlier, m[i+1], got[at-1])
					}
					found[name] = m[i+1]
				}
				break
			}
			if !skip {
				return nil, fmt.Errorf("the line is  %q,\nthe document says  %q", got[at-1], w)
			}
		}
		skip = false
	}
	if at < len(got) && !skip {
		return nil, fmt.Errorf("the document ends here, and the output goes on: %s", got[at])
	}
	return found, nil
}

// linePattern is a line of the document as a pattern, and the names of its groups.
func linePattern(line string, known, found map[string]string) (*regexp.Regexp, []string) {
	var names []string
	text := regexp.QuoteMeta(blanks(line))
	text = strings.ReplaceAll(text, `\.\.\.`, `.*`)
	text = variablePattern.ReplaceAllStringFunc(strings.ReplaceAll(text, `\$`, `$`), func(v string) string {
		name := v[1:]
		for _, words := range []map[string]string{known, found} {
			if value, ok := words[name]; ok {
				return regexp.QuoteMeta(value)
			}
		}
		names = append(names, name)
		return `(\S+)`
	})
	return regexp.MustCompile(`^` + text + `$`), names
}

// blanks makes each run of blanks one, and drops those at both ends.
func blanks(s string) string { return strings.Join(strings.Fields(s), " ") }
