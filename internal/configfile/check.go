package configfile

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"os"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"github.com/goccy/go-yaml"
	"github.com/goccy/go-yaml/ast"
	"github.com/goccy/go-yaml/parser"

	"lifeboat/agent"
	"lifeboat/node"
)

// Severity says what a finding costs.
type Severity string

// The severities.
const (
	Wrong   Severity = "error"   // the process would not start, or not work
	Warning Severity = "warning" // it would, and an operator should know
)

// Finding is one thing to correct, or to know.
type Finding struct {
	Severity Severity `json:"severity"`
	Key      string   `json:"key"`     // of the file; empty: the whole file
	Line     int      `json:"line"`    // of the key; 0: it is not there
	Problem  string   `json:"problem"` // what is wrong, and why that matters
	Do       string   `json:"do"`      // what to do; may be empty
}

// Report is what a check found.
type Report struct {
	File     string    `json:"file"`
	Kind     Kind      `json:"kind"`
	Valid    bool      `json:"valid"` // no finding is an error
	Findings []Finding `json:"findings"`
}

// Options of Check.
type Options struct {
	Kind Kind // empty: the keys say
	// User is who will run the process, by name; empty: who runs the check. For a
	// server that root checks it is "lifeboat", where there is such a user.
	User string
	// Values leaves the machine out: nothing but the file itself is looked at.
	Values bool
}

// maxSize bounds a configuration file, in bytes.
const maxSize = 1 << 20

// Check looks for everything that is wrong with a configuration file and with
// what it names on this machine. The error says why there was nothing to check:
// the file cannot be read, or it is nobody's. It blocks while names are resolved,
// a few seconds at most.
func Check(ctx context.Context, path string, o Options) (Report, error) {
	info, err := os.Stat(path)
	if err != nil {
		return Report{}, fmt.Errorf("read the configuration: %w", err)
	}
	if info.Size() > maxSize {
		return Report{}, fmt.Errorf("read the configuration: %s has %d bytes; is it the right file?", path, info.Size())
	}
	raw, err := os.ReadFile(path)
	if err != nil {
		return Report{}, fmt.Errorf("read the configuration: %w", err)
	}
	c := &checker{ctx: ctx, file: path, raw: raw}
	tree, err := parser.ParseBytes(raw, 0)
	if err != nil {
		if o.Kind == "" {
			return Report{}, fmt.Errorf("%s: %s", path, firstLine(yaml.FormatError(err, false, false)))
		}
		c.decodeError(err)
		return c.report(o.Kind), nil
	}
	c.tree = tree
	kind := o.Kind
	if kind == "" {
		if kind = c.kind(); kind == "" {
			return Report{}, fmt.Errorf("%s: its keys are those of no configuration; name its --kind, server or agent", path)
		}
	}
	c.unknown(kind)
	if c.user, err = runner(kind, o.User); err != nil {
		return Report{}, err
	}
	if kind == Agent {
		c.checkAgent(o.Values)
	} else {
		c.checkServer(o.Values)
	}
	return c.report(kind), nil
}

type checker struct {
	ctx  context.Context
	file string
	raw  []byte
	tree *ast.File
	user account
	list []Finding
}

func (c *checker) report(kind Kind) Report {
	slices.SortStableFunc(c.list, func(a, b Finding) int { return cmp.Compare(a.Line, b.Line) })
	r := Report{File: c.file, Kind: kind, Valid: true, Findings: c.list}
	if r.Findings == nil {
		r.Findings = []Finding{}
	}
	for _, f := range c.list {
		r.Valid = r.Valid && f.Severity != Wrong
	}
	return r
}

func (c *checker) add(s Severity, key, do, format string, args ...any) {
	c.list = append(c.list, Finding{Severity: s, Key: key, Line: c.line(key), Problem: fmt.Sprintf(format, args...), Do: do})
}

func (c *checker) wrong(key, do, format string, args ...any) { c.add(Wrong, key, do, format, args...) }
func (c *checker) warn(key, do, format string, args ...any)  { c.add(Warning, key, do, format, args...) }

// has reports whether a key, or a section that it is in, was found wrong already.
func (c *checker) has(key string) bool {
	for _, f := range c.list {
		if f.Severity == Wrong && (f.Key == key || strings.HasPrefix(f.Key, key+".") || strings.HasPrefix(f.Key, key+"[")) {
			return true
		}
	}
	return false
}

func (c *checker) checkServer(valuesOnly bool) {
	cfg, err := node.ParseConfig(c.file, c.raw)
	if err != nil {
		c.decodeError(err)
		return
	}
	for _, p := range cfg.Problems() {
		problem, do := split(p.Text)
		c.wrong(p.Key, do, "%s", problem)
	}
	if !valuesOnly {
		c.serverMachine(cfg)
	}
}

func (c *checker) checkAgent(valuesOnly bool) {
	f, err := agent.ParseConfig(c.file, c.raw)
	if err != nil {
		c.decodeError(err)
		return
	}
	for _, p := range f.Problems() {
		problem, do := split(p.Text)
		c.wrong(p.Key, do, "%s", problem)
	}
	if !valuesOnly {
		c.agentMachine(f)
	}
}

// split takes what to do out of a sentence such as "is missing: name the file".
func split(text string) (problem, do string) {
	for _, sep := range []string{"; ", ": "} {
		if i := strings.LastIndex(text, sep); i > 0 {
			return text[:i], text[i+len(sep):]
		}
	}
	return text, ""
}

// decodeError is a finding about a file that is no YAML, or has a value of a wrong
// type: nothing else can be said about it.
func (c *checker) decodeError(err error) {
	text := firstLine(yaml.FormatError(err, false, false))
	var ye yaml.Error
	if !errors.As(err, &ye) {
		text = firstLine(strings.TrimPrefix(err.Error(), c.file))
	}
	text = strings.TrimLeft(text, ": ")
	f := Finding{Severity: Wrong, Problem: text, Do: "correct it; the rest of the file was not checked"}
	at := regexp.MustCompile(`^(?:\[(\d+):\d+\]|(\d+):)\s*`)
	if m := at.FindStringSubmatch(text); m != nil {
		f.Line, _ = strconv.Atoi(m[1] + m[2])
		f.Problem = text[len(m[0]):]
	}
	c.list = append(c.list, f)
}

func firstLine(s string) string {
	line, _, _ := strings.Cut(s, "\n")
	return line
}
