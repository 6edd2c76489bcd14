package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
)

// mutation is one rule switched off in one place.
type mutation struct {
	rule string // S1 to S25
	what string // what is switched off, for people
	file string // in the module
	old  string // stands there exactly once
	new  string
	pkgs string // whose tests must fail; tried in this order until one does
}

// outcome is what the tests made of a mutation.
type outcome struct {
	mutation
	caught string // package and test; "" = nothing failed
}

// apply is the file with the rule switched off.
func (m mutation) apply(root string) ([]byte, error) {
	raw, err := os.ReadFile(filepath.Join(root, m.file))
	if err != nil {
		return nil, fmt.Errorf("read what is to be changed: %w", err)
	}
	if n := strings.Count(string(raw), m.old); n != 1 {
		return nil, fmt.Errorf("%s: %q stands there %d times instead of once", m.file, m.old, n)
	}
	return []byte(strings.Replace(string(raw), m.old, m.new, 1)), nil
}

// run tests the module at root with the mutation in it. It blocks for as long as
// the tests of its packages take.
func (m mutation) run(ctx context.Context, root, tags string) (outcome, error) {
	text, err := m.apply(root)
	if err != nil {
		return outcome{}, err
	}
	dir, err := os.MkdirTemp("", "mutation-")
	if err != nil {
		return outcome{}, fmt.Errorf("make directory: %w", err)
	}
	defer os.RemoveAll(dir)
	changed, overlay := filepath.Join(dir, filepath.Base(m.file)), filepath.Join(dir, "overlay.json")
	replace, err := json.Marshal(map[string]map[string]string{"Replace": {filepath.Join(root, m.file): changed}})
	if err != nil {
		return outcome{}, fmt.Errorf("encode overlay: %w", err)
	}
	if err := errors.Join(os.WriteFile(changed, text, 0o600), os.WriteFile(overlay, replace, 0o600)); err != nil {
		return outcome{}, fmt.Errorf("write overlay: %w", err)
	}
	for _, pkg := range strings.Fields(m.pkgs) {
		args := []string{"test", "-tags", tags, "-vet=off", "-failfast", "-count=1", "-timeout=5m", "-overlay", overlay, pkg}
		cmd := exec.CommandContext(ctx, "go", args...)
		cmd.Dir = root
		cmd.Env = append(os.Environ(), "LIFEBOAT_LAB=0")
		out, err := cmd.CombinedOutput()
		switch {
		case ctx.Err() != nil:
			return outcome{}, ctx.Err()
		case err == nil:
			continue
		case strings.Contains(string(out), "build failed]"):
			return outcome{}, fmt.Errorf("the mutation does not build:\n%s", out)
		}
		return outcome{m, pkg + " " + failed(string(out))}, nil
	}
	return outcome{mutation: m}, nil
}

var failLine = regexp.MustCompile(`(?m)^\s*--- FAIL: (\S+)`)

// failed is the first test that failed, with the part of it that did.
func failed(out string) string {
	name := ""
	for _, m := range failLine.FindAllStringSubmatch(out, -1) {
		if name == "" || strings.HasPrefix(m[1], name+"/") {
			name = m[1]
		}
	}
	if name == "" {
		return "(all of it: it panicked or hung)"
	}
	return name
}
