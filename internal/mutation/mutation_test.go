package main

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// A mutation whose text is gone would check nothing.
func TestMutationsApply(t *testing.T) {
	root := filepath.Join("..", "..")
	seen := map[string]bool{}
	for _, m := range mutations() {
		if _, err := m.apply(root); err != nil {
			t.Errorf("%s, %s: %v", m.rule, m.what, err)
		}
		if m.old == m.new || m.pkgs == "" || m.what == "" {
			t.Errorf("%s, %s: it changes nothing or is tested by nobody", m.rule, m.what)
		}
		if key := m.file + m.new + m.old; seen[key] {
			t.Errorf("%s, %s: it stands here twice", m.rule, m.what)
		} else {
			seen[key] = true
		}
		for _, pkg := range strings.Fields(m.pkgs) {
			if _, err := os.Stat(filepath.Join(root, pkg)); err != nil {
				t.Errorf("%s, %s: there is no package %s", m.rule, m.what, pkg)
			}
		}
	}
}

func TestEveryRuleIsSwitchedOff(t *testing.T) {
	has := map[string]bool{}
	for _, m := range mutations() {
		has[m.rule] = true
	}
	rules := 0
	for letter, last := range map[string]int{"S": 25, "M": 6} {
		rules += last
		for n := range last {
			if rule := fmt.Sprintf("%s%d", letter, n+1); !has[rule] {
				t.Errorf("%s has no mutation", rule)
			}
		}
	}
	if len(has) != rules {
		t.Errorf("there are %d rules instead of %d", len(has), rules)
	}
}

func TestFailedNamesTheFirstTest(t *testing.T) {
	for out, want := range map[string]string{
		"--- FAIL: TestA (0.1s)\n    --- FAIL: TestA/b.yaml (0s)\n        --- FAIL: TestA/b.yaml/c (0s)\n--- FAIL: TestZ\n": "TestA/b.yaml/c",
		"panic: x\n": "(all of it: it panicked or hung)",
	} {
		if got := failed(out); got != want {
			t.Errorf("%q: %s instead of %s", out, got, want)
		}
	}
}
