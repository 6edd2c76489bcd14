package child

import (
	"context"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"
)

func TestRun(t *testing.T) {
	t.Setenv("LEAK", "leaked")
	r, err := Run(t.Context(), Command{Path: "sh", Args: []string{"-c", `read x; echo "got $x $MINE $LEAK"; echo oops >&2; exit 3`}, Env: []string{"MINE=mine"}, Stdin: "line\n"})
	if err != nil || r.Code != 3 || r.Stdout != "got line mine \n" || r.Stderr != "oops\n" {
		t.Fatalf("%+v %v", r, err)
	}
	if _, err := Run(t.Context(), Command{Path: "no-such-program-here"}); !errors.Is(err, exec.ErrNotFound) {
		t.Fatal(err)
	}
	if _, err := Run(t.Context(), Command{Path: "sh", Args: []string{"-c", "kill -9 $$"}}); err == nil {
		t.Fatal("a killed program passed for one that ended")
	}
	if r, err := Run(t.Context(), Command{Path: "head", Args: []string{"-c", "10000000", "/dev/zero"}}); err != nil || len(r.Stdout) != maxOutput {
		t.Fatal(len(r.Stdout), err)
	}
	// One that does not read its stdin is no failure.
	if r, err := Run(t.Context(), Command{Path: "true", Stdin: strings.Repeat("x", 1<<20)}); err != nil || r.Code != 0 {
		t.Fatal(r.Code, err)
	}
}

func TestCancelKillsTheWholeGroup(t *testing.T) {
	dir := t.TempDir()
	pidFile := filepath.Join(dir, "pid")
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	done := make(chan error, 1)
	go func() {
		// The grandchild ignores what can be ignored and holds stdout open.
		_, err := Run(ctx, Command{Path: "sh", Args: []string{"-c", `sh -c 'trap "" TERM HUP INT; echo $$ >` + pidFile + `.new; mv ` + pidFile + `.new ` + pidFile + `; sleep 60' & wait`}})
		done <- err
	}()
	pid := 0
	for end := time.Now().Add(5 * time.Second); pid == 0 && time.Now().Before(end); time.Sleep(5 * time.Millisecond) {
		b, _ := os.ReadFile(pidFile)
		pid, _ = strconv.Atoi(strings.TrimSpace(string(b)))
	}
	if pid == 0 {
		t.Fatal("the grandchild did not start")
	}
	start := time.Now()
	cancel()
	if err := <-done; !errors.Is(err, context.Canceled) || time.Since(start) > 900*time.Millisecond {
		t.Fatalf("%v after %s", err, time.Since(start))
	}
	for end := time.Now().Add(3 * time.Second); alive(pid); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("grandchild %d lives", pid)
		}
	}
}

// alive: a zombie that nobody has collected yet is dead.
func alive(pid int) bool {
	if syscall.Kill(pid, 0) != nil {
		return false
	}
	line, err := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/cmdline")
	return err == nil && len(line) > 0
}
