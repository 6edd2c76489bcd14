package archtest

import (
	"strings"
	"testing"
)

// The checks are checked: each of these must be found, or its rule is idle.

func TestRoomViolationsAreFound(t *testing.T) {
	for name, tc := range map[string]struct {
		p    pkg
		want string // part of the problem; empty = none
	}{
		"fsm may import its format":  {pkg{name: "fsm", imports: []string{"fsm/logpb", "+time"}}, ""},
		"fsm must not import ha":     {pkg{name: "fsm", imports: []string{"ha"}}, "may import only fsm/logpb"},
		"logpb imports nothing":      {pkg{name: "fsm/logpb", imports: []string{"fsm"}}, "nothing of ours"},
		"a prefix is not a folder":   {pkg{name: "transport", imports: []string{"transportx"}}, "transport imports transportx"},
		"a node may fence":           {pkg{name: "node", imports: []string{"fence"}}, ""},
		"a node knows no driver":     {pkg{name: "node", imports: []string{"fence/ipmi"}}, "node imports fence/ipmi"},
		"the session is no agent":    {pkg{name: "agent/session", imports: []string{"transport"}}, "agent/session imports transport"},
		"an agent may dial":          {pkg{name: "agent", imports: []string{"transport", "agent/session"}}, ""},
		"a new folder needs a line":  {pkg{name: "billing"}, "in no room"},
		"the program may everything": {pkg{name: "cmd/lifeboat", imports: []string{"fsm", "agent"}}, ""},
	} {
		t.Run(name, func(t *testing.T) { wantProblem(t, checkRooms(rooms(), []*pkg{&tc.p}), tc.want) })
	}
}

func TestBannedImportsAreFound(t *testing.T) {
	for name, tc := range map[string]struct {
		p    pkg
		want string
	}{
		"libvirt far below a manager": {pkg{name: "node", deps: []string{"+github.com/digitalocean/go-libvirt/socket"}}, "hang the leader"},
		"raft in an agent":            {pkg{name: "agent", imports: []string{"+github.com/hashicorp/raft"}}, "no vote"},
		"raft below an agent's TLS":   {pkg{name: "agent", imports: []string{"transport"}, deps: []string{"+github.com/hashicorp/raft"}}, ""},
		"a file in a decision":        {pkg{name: "ha", imports: []string{"+os"}}, "no I/O"},
		"a lock in the state":         {pkg{name: "fsm", imports: []string{"+sync"}}, "no goroutines"},
		"an atomic in the state":      {pkg{name: "fsm", imports: []string{"+sync/atomic"}}, ""},
		"flags in a package":          {pkg{name: "node", deps: []string{"+github.com/alecthomas/kong"}}, "belong to the program"},
		"flags in the program":        {pkg{name: "cmd/lifeboat", deps: []string{"+github.com/alecthomas/kong"}}, ""},
		"a test in the program":       {pkg{name: "cmd/lifeboat", deps: []string{"+pgregory.net/rapid"}}, "production machine"},
	} {
		t.Run(name, func(t *testing.T) { wantProblem(t, checkBans(bans(), []*pkg{&tc.p}), tc.want) })
	}
}

func TestImpureCodeIsFound(t *testing.T) {
	for code, want := range map[string]string{
		`import "time"; func f() { _ = time.Now() }`:                                        "time.Now",
		`import clock "time"; func f() { _ = clock.Now }`:                                   "clock.Now",
		`import "time"; const beat = time.Second; func f(now time.Time) {}`:                 "",
		`func f() { go f() }`:                                                               "goroutines",
		`var c chan int`:                                                                    "goroutines",
		`import "math/rand/v2"; func f() int { return rand.IntN(3) }`:                       "rand.IntN",
		`import "math/rand/v2"; func f() *rand.Rand { return rand.New(rand.NewPCG(1, 2)) }`: "",
		`import "maps"; func f(m map[int]int) { for range maps.Keys(m) {} }`:                "",
		`import "maps"; func f(m map[int]int) { for range maps.Values(m) {} }`:              "maps.Values",
	} {
		f, err := parse("fsm/x.go", []byte("package fsm; "+code))
		if err != nil {
			t.Fatal(err)
		}
		t.Run(code, func(t *testing.T) { wantProblem(t, checkPure(f), want) })
	}
}

func TestHiddenStateIsFound(t *testing.T) {
	for code, want := range map[string]string{
		`var n int`:                                        "n is a package-level variable",
		`var mu sync.Mutex`:                                "mu is a package-level variable",
		`var p = sync.Pool{}`:                              "p is a package-level variable",
		`var x = &T{}`:                                     "x is a package-level variable",
		`func init() {}`:                                   "init function",
		`func (t T) init() {}`:                             "",
		`var Err = errors.New("x")`:                        "",
		`var re = regexp.MustCompile("x")`:                 "",
		`var _ I = (*T)(nil)`:                              "",
		"//go:embed x\nvar b []byte":                       "",
		`var names = [...]string{"a"}`:                     "",
		`var m = map[int]int{}; func f() { m[1] = 2 }`:     "is written",
		`var m = map[int]int{}; func f() { delete(m, 1) }`: "is written",
		`var m = []int{1}; func f() *int { return &m[0] }`: "is written",
		`var m = []int{1}; func f() { m := m; m[0] = 2 }`:  "",
		`var m = []int{1}; func f(m []int) { m[0]++ }`:     "",
	} {
		f, err := parse("node/x.go", []byte("package node\n"+code))
		if err != nil {
			t.Fatal(err)
		}
		t.Run(code, func(t *testing.T) { wantProblem(t, checkState(&pkg{name: "node", files: []*file{f}}), want) })
	}
}

func TestMissingDocIsFound(t *testing.T) {
	hand, _ := parse("a/a.go", []byte("package a"))
	empty, _ := parse("a/doc.go", []byte("package a"))
	full, _ := parse("a/doc.go", []byte("// Package a is.\npackage a"))
	made, _ := parse("a/a.pb.go", []byte("// Code generated by protoc. DO NOT EDIT.\npackage a"))
	for want, files := range map[string][]*file{"no doc.go": {hand, hand}, "no package comment": {hand, empty}, "": {hand, full, made}} {
		if got := checkDoc(&pkg{name: "a", files: files}); (want == "") != (got == "") || !strings.Contains(got, want) {
			t.Errorf("got %q, want %q", got, want)
		}
	}
	for what, f := range map[string]*file{"a generated package": made, "a package of one file": full} {
		if got := checkDoc(&pkg{name: "a", files: []*file{f}}); got != "" {
			t.Errorf("%s: %s", what, got)
		}
	}
}

func wantProblem(t *testing.T, problems []string, want string) {
	t.Helper()
	all := strings.Join(problems, "\n")
	if want == "" && all != "" || !strings.Contains(all, want) {
		t.Errorf("got %q, want %q", all, want)
	}
}
