package main

import (
	"fmt"
	"net"
	"os"
	"regexp"
	"strconv"
	"testing"
	"time"

	"github.com/rogpeppe/go-internal/testscript"
)

// TestScript runs the program as a process: signals, exit codes, files.
func TestScript(t *testing.T) {
	testscript.Run(t, testscript.Params{
		Dir: "testdata/script", UpdateScripts: *update, RequireExplicitExec: true,
		Cmds:  map[string]func(*testscript.TestScript, bool, []string){"waitfile": waitFile, "until": until},
		Setup: func(env *testscript.Env) error { return freePorts(env) },
	})
}

// freePorts gives a script three ports of loopback that nobody listens on.
func freePorts(env *testscript.Env) error {
	for i := range 3 {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			return err
		}
		defer l.Close() // all are open until all are chosen
		env.Setenv(fmt.Sprintf("PORT%d", i+1), strconv.Itoa(l.Addr().(*net.TCPAddr).Port))
	}
	return nil
}

// until is 'until PATTERN COMMAND...': it repeats the command until its output
// matches.
func until(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) < 2 {
		ts.Fatalf("usage: until PATTERN COMMAND...")
	}
	want := regexp.MustCompile(args[0])
	var out string
	for end := time.Now().Add(30 * time.Second); time.Now().Before(end); time.Sleep(100 * time.Millisecond) {
		_ = ts.Exec(args[1], args[2:]...) // it may fail until it succeeds
		if out = ts.ReadFile("stdout") + ts.ReadFile("stderr"); want.MatchString(out) {
			return
		}
	}
	ts.Fatalf("%v never said %s; in the end:\n%s", args[1:], args[0], out)
}

// waitFile is 'waitfile PATH': it waits until another process has written the file.
func waitFile(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 1 {
		ts.Fatalf("usage: waitfile PATH")
	}
	path := ts.MkAbs(args[0])
	for end := time.Now().Add(20 * time.Second); time.Now().Before(end); time.Sleep(10 * time.Millisecond) {
		if fi, err := os.Stat(path); err == nil && fi.Size() > 0 {
			return
		}
	}
	ts.Fatalf("%s was not written", args[0])
}
