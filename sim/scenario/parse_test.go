package scenario

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// TestRefusals: what is not understood is refused with the line it stands in
// and a hint.
func TestRefusals(t *testing.T) {
	const hosts = "hosts: {n1: {}, n2: {}}\n"
	for name, c := range map[string]struct {
		text string
		want []string
	}{
		"unknown key":            {hosts + "vmz: {}\n", []string{"x.yaml:2: ", `no key "vmz"`, `did you mean "vms"?`}},
		"unknown host key":       {"hosts:\n  n1: {}\n  n2: {cpu: 3}\n", []string{"x.yaml:3: ", `did you mean "cpus"?`}},
		"unknown setting":        {"settings: {placment: spread}\n" + hosts, []string{"x.yaml:1: ", `did you mean "placement"?`}},
		"a policy that is not":   {"settings:\n  wormhole: true\n" + hosts, []string{"x.yaml:2: ", "this version of lifeboat has no setting"}},
		"a value that is not":    {"settings: {beat: fast}\n" + hosts, []string{"x.yaml:1: ", "not a duration"}},
		"unknown command":        {hosts + "steps:\n  - 10s: [powr n1 off]\n", []string{"x.yaml:3: ", `did you mean "power"?`}},
		"wrong form":             {hosts + "steps:\n  - 10s: [power n1 down]\n", []string{"x.yaml:3: ", "`power H on|off`"}},
		"unknown name":           {hosts + "steps:\n  - 10s: [power n3 off]\n", []string{"x.yaml:3: ", `no host "n3"`}},
		"unknown VM's host":      {hosts + "vms:\n  v1: {host: n9}\n", []string{"x.yaml:3: ", `no host "n9"`}},
		"a rule about nobody":    {hosts + "rules:\n  - {apart: [a, b]}\n", []string{"x.yaml:3: ", `no VM "a"`}},
		"a rule of two kinds":    {hosts + "vms: {v1: {host: n1}}\nrules:\n  - {apart: [v1], together: [v1]}\n", []string{"x.yaml:4: ", "one of together, apart and hosts"}},
		"a rule of no kind":      {hosts + "vms: {v1: {host: n1}}\nrules:\n  - {vms: [v1]}\n", []string{"x.yaml:4: ", "needs one of"}},
		"an unknown host in one": {hosts + "vms: {v1: {host: n1}}\nrules:\n  - {hosts: {n9: 1}, vms: [v1]}\n", []string{"x.yaml:4: ", `no host "n9"`}},
		"a rule that is none":    {hosts + "vms: {v1: {host: n1}}\nsteps:\n  - 1s: [rule add v1]\n", []string{"x.yaml:4: ", "a rule has no key"}},
		"no number of a rule":    {hosts + "steps:\n  - 1s: [rule remove web]\n", []string{"x.yaml:3: ", "no number of a rule"}},
		"a gate that is none":    {hosts + "vms: {v1: {host: n1, gate: soon}}\n", []string{"x.yaml:2: ", "gate"}},
		"it waits for nobody":    {hosts + "vms:\n  v1: {host: n1}\n  v2: {host: n1, depends_on: [v9]}\n", []string{"x.yaml:4: ", `no VM "v9"`}},
		"twice":                  {hosts + "until: 1m\nuntil: 2m\n", []string{"x.yaml:", "until"}},
		"step without time":      {hosts + "steps:\n  - soon: [power n1 off]\n", []string{"x.yaml:3: ", "is no duration"}},
		"unknown expectation":    {hosts + "expect:\n  fences: [n1]\n", []string{"x.yaml:3: ", `did you mean "fenced"?`}},
		"unexpected VM":          {hosts + "expect:\n  vms: {v9: {host: n1}}\n", []string{"x.yaml:3: ", `no VM "v9"`}},
		"alert without subject":  {hosts + "expect:\n  alerts: {HOST: 1}\n", []string{"x.yaml:3: ", "TYPE/subject"}},
		"refused nothing":        {hosts + "expect:\n  refused: [power n1 off]\n", []string{"x.yaml:3: ", "no step has the command"}},
		"refused for nothing":    {hosts + "steps:\n  - 1s: [ha arm]\nexpect:\n  refused: [{ha arm: }]\n", []string{"x.yaml:5: ", "one value"}},
		"refused twice":          {hosts + "steps:\n  - 1s: [ha arm, ha disarm]\nexpect:\n  refused:\n    - {ha arm: a, ha disarm: b}\n", []string{"x.yaml:6: ", "part of the reason"}},
		"a taken name":           {"hosts: {n1: {}}\nvms: {n1: {host: n1}}\n", []string{"x.yaml:2: ", "is taken"}},
		"no YAML":                {"hosts: {n1: {}\n", []string{"x.yaml:1: ", "not YAML"}},
		"empty":                  {"", []string{"x.yaml:1: "}},
		"anchors":                {"hosts: &x {n1: {}}\n", []string{"x.yaml:1: ", "anchors"}},
		"too many":               {"hosts: {count: 99999999999, prefix: n}\n", []string{"x.yaml:1: "}},
		"all at once":            {hosts + "vmz: {}\nrulez: {}\n", []string{"x.yaml:2: ", "x.yaml:3: "}},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := Parse("x.yaml", []byte(c.text))
			if err == nil {
				t.Fatal("it was accepted")
			}
			for _, w := range c.want {
				if !strings.Contains(err.Error(), w) {
					t.Errorf("%q does not say %q", err, w)
				}
			}
		})
	}
}

func TestListsAndDefaults(t *testing.T) {
	f, err := Parse("x.yaml", []byte("hosts: {count: 11, prefix: n}\nvms:\n  - {count: 12, prefix: v, host: '*', memory: 1GiB}\n  - {count: 1, prefix: x, host: '*'}\n"))
	if err != nil {
		t.Fatal(err)
	}
	at := map[string]string{}
	for _, v := range f.VMs {
		at[v.Name] = v.Host
	}
	// Dealt in natural order of the hosts: n2 before n10.
	for vm, host := range map[string]string{"v1": "n1", "v2": "n2", "v10": "n10", "v11": "n11", "v12": "n1", "x1": "n2"} {
		if at[vm] != host {
			t.Errorf("%s is on %s, want %s", vm, at[vm], host)
		}
	}
	if f.Hosts[1].Name != "n2" || len(f.Managers) != 3 || f.Until.Minutes() != 5 || f.VMs[0].Memory != 1<<30 || f.VMs[0].Priority != "medium" {
		t.Errorf("defaults: %+v", f.VMs[0])
	}
}

// TestWriteMeansTheSame: what is written reads back as what was read.
func TestWriteMeansTheSame(t *testing.T) {
	paths, _ := filepath.Glob("../../testdata/scenarios/*.yaml")
	for _, path := range paths {
		data, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		f, err := Parse(path, data)
		if err != nil {
			t.Error(err)
			continue
		}
		again, err := Parse(path, f.Write())
		if err != nil {
			t.Errorf("%v\n%s", err, f.Write())
			continue
		}
		f.Expect = Expect{}
		forget := func(f *File) {
			for _, s := range f.Steps {
				for i := range s.Commands {
					s.Commands[i].Line = 0
				}
			}
		}
		forget(f)
		forget(again)
		if d := cmp.Diff(f, again); d != "" {
			t.Errorf("%s: %s", path, d)
		}
	}
}

func FuzzParse(f *testing.F) {
	paths, _ := filepath.Glob("../../testdata/scenarios/*.yaml")
	for _, path := range paths {
		if data, err := os.ReadFile(path); err == nil {
			f.Add(data)
		}
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		s, err := Parse("x.yaml", data)
		if err != nil || len(s.Hosts)+len(s.VMs) > 1000 {
			return
		}
		if _, err := Parse("x.yaml", s.Write()); err != nil {
			t.Fatalf("what was read and written is refused: %v\n%s", err, s.Write())
		}
	})
}
