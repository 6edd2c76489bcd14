package docstest

import (
	"os"
	"strings"
	"testing"
	"time"
)

func TestParse(t *testing.T) {
	steps, err := parse(strings.Join([]string{
		"# Title", "```console", "n1# one \\", "  more", "out", "you$ cat > f <<'END'", "n2# not a command", "END", "```",
		"<!-- test: until 5s -->", "```console", "n2# look", "ready", "```",
		"<!-- test: exit 3 -->", "```console", "n2# refused", "```",
		"<!-- test: not run: no such thing here -->", "```console", "n2# never", "n2# ever", "```", "```yaml", "n1# text", "```",
	}, "\n"))
	if err != nil {
		t.Fatal(err)
	}
	if len(steps) != 6 {
		t.Fatalf("found %d commands: %+v", len(steps), steps)
	}
	if s := steps[0]; s.line != 3 || !s.root || s.command != "one \\\n  more" || len(s.output) != 1 || s.output[0] != "out" {
		t.Errorf("the first: %+v", s)
	}
	if s := steps[1]; s.root || s.machine != "you" || s.command != "cat > f <<'END'\nn2# not a command\nEND" || len(s.output) != 0 {
		t.Errorf("a here-document: %+v", s)
	}
	if steps[2].until != 5*time.Second || steps[3].exit != 3 || steps[3].until != 0 {
		t.Errorf("remarks: %+v, %+v", steps[2], steps[3])
	}
	if steps[4].notRun != "no such thing here" || steps[5].notRun == "" {
		t.Errorf("not run: %+v", steps[4:])
	}
}

// A command that the test would pass over is an error of the page.
func TestParseRefuses(t *testing.T) {
	for name, text := range map[string]string{
		"a block of no kind":       "```\nn1# rm -rf /\n```",
		"a shell block":            "```sh\nls\n```",
		"no command":               "```console\nls\n```",
		"no end":                   "```console\nn1# ls",
		"a remark and no block":    "<!-- test: until 5s -->\ntext\n",
		"a remark in a line":       "text <!-- test: until 5s -->\n",
		"an unknown remark":        "<!-- test: skip -->\n```console\nn1# ls\n```",
		"nothing to wait for":      "<!-- test: until 5s -->\n```console\nn1# ls\n```",
		"a remark at the end":      "<!-- test: until 5s -->\n",
		"a backslash at the end":   "```console\nn1# ls \\\n```",
		"an endless here-document": "```console\nn1# cat <<'END'\n```",
	} {
		if steps, err := parse(text); err == nil {
			t.Errorf("%s: taken as %+v", name, steps)
		}
	}
}

// The page itself can be read, and little of it is shown only.
func TestThePage(t *testing.T) {
	raw, err := os.ReadFile("../../docs/operations.md")
	if err != nil {
		t.Fatal(err)
	}
	steps, err := parse(string(raw))
	if err != nil {
		t.Fatal(err)
	}
	shown := 0
	for _, s := range steps {
		if s.notRun != "" {
			shown++
		}
	}
	if len(steps) < 80 || shown > 4 {
		t.Errorf("%d commands, %d of them shown only", len(steps), shown)
	}
}

func TestMatch(t *testing.T) {
	known := map[string]string{"HOST": "n1"}
	printed := "NODE  STATE\nn1    Up   leader\n\nn2    Up   voter\nthe end\n"
	for name, c := range map[string]struct {
		want []string
		ok   bool
	}{
		"nothing is asked":         {nil, true},
		"all of it":                {[]string{"NODE STATE", "n1 Up leader", "n2 Up voter", "the end"}, true},
		"lines left out":           {[]string{"...", "n2  Up  ...", "..."}, true},
		"a known word":             {[]string{"...", "$HOST Up leader", "..."}, true},
		"a known word, another":    {[]string{"...", "$HOST Up voter", "..."}, false},
		"a line is missing":        {[]string{"NODE STATE", "n2 Up voter", "the end"}, false},
		"the output goes on":       {[]string{"NODE STATE", "n1 Up leader"}, false},
		"the output has ended":     {[]string{"...", "the end", "and more"}, false},
		"not in this order":        {[]string{"...", "n2 Up voter", "...", "n1 Up leader", "..."}, false},
		"a part of a line":         {[]string{"...", "n2 Up", "..."}, false},
		"not a pattern of its own": {[]string{"...", ".. ... leader", "..."}, false},
	} {
		if _, err := match(c.want, printed, known); (err == nil) != c.ok {
			t.Errorf("%s: %v", name, err)
		}
	}
	found, err := match([]string{"...", "$NODE Up voter", "the $LAST"}, printed, known)
	if err != nil || found["NODE"] != "n2" || found["LAST"] != "end" {
		t.Errorf("found %v, %v", found, err)
	}
	if _, err := match([]string{"$A $A"}, "x y\n", nil); err == nil {
		t.Error("one name for two words")
	}
}
