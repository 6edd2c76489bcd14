package configfile

import (
	"maps"
	"path/filepath"
	"reflect"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/goccy/go-yaml"

	"lifeboat/agent"
	"lifeboat/node"
)

// optional is a setting that is commented out.
var optional = regexp.MustCompile(`(?m)^#((?:  )?[a-z_]+:)`)

// whole is the default file with every setting in force.
func whole(t *testing.T, kind Kind) (asItIs, all []byte) {
	t.Helper()
	text, err := Default(kind)
	if err != nil {
		t.Fatal(err)
	}
	return []byte(text), []byte(optional.ReplaceAllString(text, "$1"))
}

// Every key that the program reads is explained, and no other.
func TestDefaultHasEveryKey(t *testing.T) {
	for _, kind := range []Kind{Server, Agent} {
		_, all := whole(t, kind)
		var got map[string]any
		if err := yaml.Unmarshal(all, &got); err != nil {
			t.Fatalf("%s: %s", kind, yaml.FormatError(err, false, true))
		}
		compareKeys(t, string(kind), keysOf(kind), got)
	}
}

func compareKeys(t *testing.T, where string, want keys, got map[string]any) {
	t.Helper()
	if a, b := slices.Sorted(maps.Keys(want)), slices.Sorted(maps.Keys(got)); !slices.Equal(a, b) {
		t.Errorf("%s: the program reads %v, the file explains %v", where, a, b)
	}
	for key, below := range want {
		if below != nil {
			section, _ := got[key].(map[string]any)
			compareKeys(t, where+"."+key, below, section)
		}
	}
}

// Leaving a setting out is the same as writing the default that is shown.
func TestDefaultsAreTheRealOnes(t *testing.T) {
	asItIs, all := whole(t, Server)
	few, err := node.ParseConfig("/etc/lifeboat/server.yaml", asItIs, yaml.Strict())
	if err != nil {
		t.Fatal(err)
	}
	many, err := node.ParseConfig("/etc/lifeboat/server.yaml", all, yaml.Strict())
	if err != nil {
		t.Fatal(err)
	}
	many.Snapshots.Recipients, many.Join = nil, nil // [] and nothing are the same
	if !reflect.DeepEqual(few, many) {
		t.Errorf("server: left out\n%+v\nwritten\n%+v", few, many)
	}
	if list := many.Problems(); len(list) > 0 {
		t.Errorf("server: %v", list)
	}
	asItIs, all = whole(t, Agent)
	one, err := agent.ParseConfig("/etc/lifeboat/agent.yaml", asItIs, yaml.Strict())
	if err != nil {
		t.Fatal(err)
	}
	two, err := agent.ParseConfig("/etc/lifeboat/agent.yaml", all, yaml.Strict())
	if err != nil {
		t.Fatal(err)
	}
	if one.HardwareIDFile == "" { // filled in later, beside the default machine id only
		one.HardwareIDFile = agent.DefaultHardwareIDFile
	}
	for _, f := range []*agent.File{&one, &two} {
		for _, list := range []*[]string{&f.SharedDirs, &f.HeartbeatDirs, &f.ProbeAddrs, &f.Watchdog.Command} {
			*list = append([]string{}, *list...)
		}
		if len(f.Labels) == 0 {
			f.Labels = nil
		}
	}
	if !reflect.DeepEqual(one, two) {
		t.Errorf("agent: left out\n%+v\nwritten\n%+v", one, two)
	}
	if list := two.Problems(); len(list) > 0 {
		t.Errorf("agent: %v", list)
	}
}

// A setting without a word about it helps nobody, and the convention that a test
// and people rely on is kept: "# text", "#key: value".
func TestEveryKeyIsExplained(t *testing.T) {
	for _, kind := range []Kind{Server, Agent} {
		text, _ := Default(kind)
		above := ""
		for i, line := range strings.Split(text, "\n") {
			setting := regexp.MustCompile(`^#? *[a-z_]+:`).MatchString(line) && !strings.HasPrefix(line, "# ")
			inList := strings.HasPrefix(line, "  n") // the members of initial_cluster
			together := strings.HasPrefix(line, "key: ") || strings.HasPrefix(line, "ca: ") || strings.Contains(line, "_id_file: ")
			if setting && !inList && !together && !strings.HasPrefix(strings.TrimSpace(above), "# ") {
				t.Errorf("%s:%d: %q has no comment above it", kind, i+1, line)
			}
			if len(line) > 90 {
				t.Errorf("%s:%d: too long", kind, i+1)
			}
			above = line
		}
	}
}

// The files that the repository shows are ones that the program takes.
func TestExamplesAreValid(t *testing.T) {
	files, err := filepath.Glob("../../deploy/*/*.yaml")
	if err != nil {
		t.Fatal(err)
	}
	seen := map[Kind]int{}
	for _, f := range files {
		if filepath.Base(f) == "nfpm.yaml" {
			continue
		}
		r, err := Check(t.Context(), f, Options{Values: true})
		if err != nil {
			t.Error(err)
			continue
		}
		if seen[r.Kind]++; len(r.Findings) > 0 {
			t.Errorf("%s:\n%s", f, show(r))
		}
	}
	if seen[Server] < 6 || seen[Agent] < 1 {
		t.Errorf("only %v were looked at", seen)
	}
}
