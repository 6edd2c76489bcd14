package docstest

import (
	"fmt"
	"regexp"
	"strconv"
	"strings"
	"time"
)

// step is a command of the document.
type step struct {
	line    int // in the document, from 1
	machine string
	root    bool // the prompt ends in #
	command string
	output  []string      // what the document says it prints; none: anything
	until   time.Duration // repeat it for that long until it prints that; 0: once
	exit    int
	notRun  string // why it is shown only
}

var (
	promptPattern  = regexp.MustCompile(`^([a-z][a-z0-9]*)([#$]) (.+)$`)
	remarkPattern  = regexp.MustCompile(`^<!-- test: (.+) -->$`)
	heredocPattern = regexp.MustCompile(`<<'([A-Z]+)'`)
)

// parse finds the commands of a document, in order.
func parse(text string) ([]step, error) {
	var (
		steps  []step
		remark string
		fence  string // what ends the block that we are in
		run    bool   // the block has commands
		first  int    // of this block in steps
		opened int
		until  string // the end word of a here-document
		more   bool   // the command goes on
	)
	for i, line := range strings.Split(text, "\n") {
		n := i + 1
		switch {
		case fence == "" && strings.HasPrefix(line, "```"):
			kind := strings.TrimPrefix(line, "```")
			switch kind {
			case "console":
				run = true
			case "yaml", "text":
				run = false
			default:
				return nil, fmt.Errorf("line %d: a block of the kind %q; commands stand in blocks of the kind console, anything else in yaml or text", n, kind)
			}
			fence, first, opened = "```", len(steps), n
		case fence == "":
			if m := remarkPattern.FindStringSubmatch(line); m != nil {
				if remark != "" {
					return nil, fmt.Errorf("line %d: two remarks before one block", n)
				}
				remark = m[1]
			} else if strings.Contains(line, "<!-- test:") {
				return nil, fmt.Errorf("line %d: a remark stands alone in its line", n)
			} else if remark != "" && line != "" {
				return nil, fmt.Errorf("line %d: there is no block after the remark %q", n, remark)
			}
		case line == fence && until == "":
			fence = ""
			if more {
				return nil, fmt.Errorf("line %d: the command ends in a backslash", n)
			}
			if !run {
				continue
			}
			if len(steps) == first {
				return nil, fmt.Errorf("line %d: a console block without a command", opened)
			}
			if err := note(steps[first:], remark); err != nil {
				return nil, fmt.Errorf("line %d: %w", opened, err)
			}
			remark = ""
		case !run:
		case until != "" || more:
			last := &steps[len(steps)-1]
			last.command += "\n" + line
			if until != "" && line == until {
				until = ""
			}
			if more {
				more = strings.HasSuffix(line, `\`)
			}
		default:
			m := promptPattern.FindStringSubmatch(line)
			switch {
			case m != nil:
				steps = append(steps, step{line: n, machine: m[1], root: m[2] == "#", command: m[3]})
				more = strings.HasSuffix(m[3], `\`)
				if h := heredocPattern.FindStringSubmatch(m[3]); h != nil {
					until = h[1]
				}
			case len(steps) == first:
				return nil, fmt.Errorf("line %d: output before the first command of the block", n)
			default:
				last := &steps[len(steps)-1]
				last.output = append(last.output, line)
			}
		}
	}
	if fence != "" {
		return nil, fmt.Errorf("line %d: the block has no end", opened)
	}
	if remark != "" {
		return nil, fmt.Errorf("the document ends after the remark %q", remark)
	}
	return steps, nil
}

// note applies the remark before a block to its commands.
func note(block []step, remark string) error {
	last := &block[len(block)-1]
	switch word, rest, _ := strings.Cut(remark, " "); {
	case remark == "":
	case strings.HasPrefix(remark, "not run: "):
		for i := range block {
			block[i].notRun = strings.TrimPrefix(remark, "not run: ")
		}
	case word == "until":
		d, err := time.ParseDuration(rest)
		if err != nil || d <= 0 {
			return fmt.Errorf("remark %q: %q is no length of time", remark, rest)
		}
		if len(last.output) == 0 {
			return fmt.Errorf("remark %q: the last command of the block shows no output to wait for", remark)
		}
		last.until = d
	case word == "exit":
		code, err := strconv.Atoi(rest)
		if err != nil {
			return fmt.Errorf("remark %q: %q is no exit code", remark, rest)
		}
		last.exit = code
	default:
		return fmt.Errorf("remark %q is not known", remark)
	}
	return nil
}
