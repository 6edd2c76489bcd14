package main

import (
	"bufio"
	"bytes"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"
)

// devCluster is 'lifeboat dev' as a process of its own, and its children.
type devCluster struct {
	t       *testing.T
	runtime string // stands for XDG_RUNTIME_DIR
	cmd     *exec.Cmd
	lines   chan string
	stderr  bytes.Buffer
	done    chan struct{}
	said    []string
}

// lifeboat is this program as a command of a user.
func (d *devCluster) lifeboat(args ...string) *exec.Cmd {
	program, err := os.Executable()
	if err != nil {
		d.t.Fatal(err)
	}
	cmd := exec.Command(program, args...)
	cmd.Args[0] = "lifeboat" // which makes the test binary the program
	cmd.Env = append(os.Environ(), "XDG_RUNTIME_DIR="+d.runtime, "HOME="+d.runtime, "LIFEBOAT_ADDR=", "LIFEBOAT_CONTEXT=")
	return cmd
}

func (d *devCluster) run(args ...string) (string, int) {
	d.t.Helper()
	out, err := d.lifeboat(args...).CombinedOutput()
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) {
		d.t.Fatal(err)
	}
	d.t.Logf("lifeboat %s: %s", strings.Join(args, " "), out)
	if exit != nil {
		return string(out), exit.ExitCode()
	}
	return string(out), 0
}

func newDev(t *testing.T) *devCluster {
	if testing.Short() {
		t.Skip("a cluster of processes takes seconds")
	}
	t.Parallel() // most of it is waiting
	// Not t.TempDir: the path of a socket has little room for a long name.
	dir, err := os.MkdirTemp("", "lb")
	if err != nil {
		t.Fatal(err)
	}
	d := &devCluster{t: t, runtime: dir}
	t.Cleanup(func() {
		if d.cmd != nil {
			_ = d.cmd.Process.Kill()
			<-d.done
		}
		if t.Failed() {
			t.Logf("it said:\n%s\n%s", strings.Join(d.said, "\n"), d.stderr.String())
			t.Logf("its files are left in %s", dir)
			return
		}
		if err := os.RemoveAll(dir); err != nil {
			t.Error(err)
		}
	})
	return d
}

func (d *devCluster) start(args ...string) {
	d.t.Helper()
	cmd := d.lifeboat(append([]string{"dev"}, args...)...)
	out, err := cmd.StdoutPipe()
	if err != nil {
		d.t.Fatal(err)
	}
	cmd.Stderr = &d.stderr
	if err := cmd.Start(); err != nil {
		d.t.Fatal(err)
	}
	d.cmd, d.lines, d.done = cmd, make(chan string, 1000), make(chan struct{})
	go func() {
		for lines := bufio.NewScanner(out); lines.Scan(); {
			d.lines <- lines.Text()
		}
		close(d.lines)
		_ = cmd.Wait()
		close(d.done)
	}()
}

// until reads what it says until a line holds the text.
func (d *devCluster) until(text string) {
	d.t.Helper()
	timeout := time.After(90 * time.Second)
	for {
		select {
		case line, ok := <-d.lines:
			if !ok {
				<-d.done
				d.t.Fatalf("it ended without saying %q", text)
			}
			d.said = append(d.said, line)
			if strings.Contains(line, text) {
				return
			}
		case <-timeout:
			d.t.Fatalf("it has not said %q", text)
		}
	}
}

// end waits for its end and returns the exit code.
func (d *devCluster) end(within time.Duration) int {
	d.t.Helper()
	timeout := time.After(within)
	for {
		select {
		case line, ok := <-d.lines:
			if ok {
				d.said = append(d.said, line)
				continue
			}
			<-d.done
			return d.cmd.ProcessState.ExitCode()
		case <-timeout:
			d.t.Fatalf("it has not ended within %s", within)
		}
	}
}

// children are the processes that run a configuration of this cluster.
func (d *devCluster) children() []string {
	var out []string
	files, _ := filepath.Glob("/proc/[0-9]*/cmdline")
	for _, f := range files {
		line, err := os.ReadFile(f)
		if err == nil && bytes.Contains(line, []byte(d.runtime)) {
			out = append(out, f+": "+string(bytes.ReplaceAll(line, []byte{0}, []byte(" "))))
		}
	}
	return out
}

func (d *devCluster) noChildren() {
	d.t.Helper()
	deadline := time.Now().Add(3 * time.Second)
	for len(d.children()) > 0 {
		if time.Now().After(deadline) {
			d.t.Fatalf("still running: %v", d.children())
		}
		time.Sleep(20 * time.Millisecond)
	}
}

func (d *devCluster) dir() string {
	return filepath.Join(d.runtime, "lifeboat-dev-"+strconv.Itoa(os.Getuid()))
}

// gone checks that nothing is left that the next one would trip over.
func (d *devCluster) gone() {
	d.t.Helper()
	d.noChildren()
	for _, name := range []string{"context.yaml", "cluster", "control.sock"} {
		if _, err := os.Lstat(filepath.Join(d.dir(), name)); err == nil {
			d.t.Errorf("%s is left behind", name)
		}
	}
}

func TestDevDrillPasses(t *testing.T) {
	d := newDev(t)
	d.start("--drill")
	code := d.end(3 * time.Minute)
	said := strings.Join(d.said, "\n")
	if code != 0 {
		t.Fatalf("exit code %d", code)
	}
	for _, want := range []string{"host h4 is suspect", "evidence about h4", "host h4 is Down", "host h4 is proven dead", "Round 2", "leads now", "DOWNTIME", "The drill passed"} {
		if !strings.Contains(said, want) {
			t.Errorf("the story lacks %q", want)
		}
	}
	if strings.Contains(said, "\x1b[") || strings.Contains(said, "FAIL") {
		t.Error("colours without a terminal, or a check that failed without anybody knowing")
	}
	if ok := strings.Count(said, "  ok  "); ok != 6 {
		t.Errorf("%d checks passed, want 6", ok)
	}
	d.gone()
	t.Logf("\n%s", said)
}

// kill -9 of the parent must not leave a cluster behind that nobody knows of,
// and the next one starts over its remains.
func TestDevKilledLeavesNoChild(t *testing.T) {
	d := newDev(t)
	d.start()
	d.until("waiting for")
	if n := len(d.children()); n < 7 {
		t.Fatalf("%d children, want 3 nodes and 4 agents", n)
	}
	if err := d.cmd.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	<-d.done
	d.noChildren()

	d.start()
	d.until("all are Up")
	if out, code := d.run("dev"); code != 1 || !strings.Contains(out, "runs already") {
		t.Errorf("a second one: exit code %d, %s", code, out)
	}
	if err := d.cmd.Process.Signal(os.Interrupt); err != nil {
		t.Fatal(err)
	}
	if code := d.end(10 * time.Second); code != 0 {
		t.Errorf("exit code %d after Ctrl-C, want 0: that is how it ends", code)
	}
	d.gone()
}

func TestDevDrillInterrupted(t *testing.T) {
	d := newDev(t)
	d.start("--drill", "--dir", filepath.Join(d.runtime, "mine"))
	d.until("is dead: it ran")
	began := time.Now()
	if err := d.cmd.Process.Signal(syscall.SIGINT); err != nil {
		t.Fatal(err)
	}
	if code := d.end(10 * time.Second); code != 130 {
		t.Errorf("exit code %d after Ctrl-C, want 130", code)
	}
	if took := time.Since(began); took > 6*time.Second {
		t.Errorf("it took %s to end", took)
	}
	d.gone()
	if _, err := os.Stat(filepath.Join(d.runtime, "mine")); err == nil {
		t.Error("its directory is left behind")
	}
}

// A process that dies without having been told to is a failure, and the logs
// stay to say why.
func TestDevDrillFailsAloud(t *testing.T) {
	d := newDev(t)
	d.start("--drill")
	d.until("is dead: it ran")
	if err := syscall.Kill(d.child("h3"), syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	if code := d.end(30 * time.Second); code != 1 {
		t.Errorf("exit code %d, want 1", code)
	}
	if out := d.stderr.String(); !strings.Contains(out, "the drill failed: h3 has ended by itself") || strings.Count(out, "\n") != 1 {
		t.Errorf("it said %q", out)
	}
	if _, err := os.Stat(filepath.Join(d.dir(), "cluster", "log", "h3.log")); err != nil {
		t.Error(err)
	}
	d.noChildren()
}

// What a newcomer types first.
func TestDevPlay(t *testing.T) {
	d := newDev(t)
	if out, code := d.run("dev", "list"); code != 4 || !strings.Contains(out, "lifeboat dev'") {
		t.Errorf("without a cluster: exit code %d, %s", code, out)
	}
	d.start()
	d.until("Ctrl-C ends everything")
	if out, code := d.run("status"); code != 0 || !strings.Contains(out, "12 of 12 protected running") {
		t.Errorf("status: exit code %d, %s", code, out)
	}
	if out, code := d.run("dev", "kill", "h9"); code != 3 || !strings.Contains(out, "h1, h2, h3, h4") {
		t.Errorf("a wrong name: exit code %d, %s", code, out)
	}
	for _, step := range []struct {
		do   []string
		says string // of the command
		sees string // of the cluster; empty = nothing to wait for
	}{
		{[]string{"crash", "web-1"}, "web-1 on host h1 crashes", "VM web-1 runs on host h1 at incarnation 1.2"},
		{[]string{"shutdown", "web-2"}, "shuts down from inside", "VM web-2 on host h2 is off"},
		{[]string{"stop-agent", "h3"}, "was stopped cleanly", "host h3 is Disconnected"},
		{[]string{"start", "h3"}, "runs again", "host h3 is Up"},
		{[]string{"kill", "h4"}, "lost its power", "host h4 is proven dead"},
		{[]string{"list"}, "off", ""},
		{[]string{"start", "h4"}, "boots", "host h4 is Up"},
	} {
		if out, code := d.run(append([]string{"dev"}, step.do...)...); code != 0 || !strings.Contains(out, step.says) {
			t.Errorf("dev %v: exit code %d, %s", step.do, code, out)
		}
		if step.sees != "" {
			d.until(step.sees)
		}
	}
	// A child that ends by itself is no secret.
	pid := d.child("n1")
	if err := syscall.Kill(pid, syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	d.until("n1 has ended by itself")
	if err := d.cmd.Process.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	if code := d.end(10 * time.Second); code != 0 {
		t.Errorf("exit code %d", code)
	}
	d.gone()
}

// child is the pid of one of the processes.
func (d *devCluster) child(name string) int {
	d.t.Helper()
	text, err := os.ReadFile(filepath.Join(d.dir(), "cluster", "pids", name))
	if err != nil {
		d.t.Fatal(err)
	}
	pid, err := strconv.Atoi(strings.TrimSpace(string(text)))
	if err != nil || !slices.ContainsFunc(d.children(), func(c string) bool { return strings.HasPrefix(c, "/proc/"+strconv.Itoa(pid)+"/") }) {
		d.t.Fatalf("%q is no child of this cluster", text)
	}
	return pid
}

func TestDevRefusesWhatItCannotUse(t *testing.T) {
	d := newDev(t)
	foreign := filepath.Join(d.runtime, "documents")
	if err := os.Mkdir(foreign, 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(foreign, "thesis.txt"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	for _, tc := range []struct {
		args []string
		code int
		says string
	}{
		{[]string{"dev", "--drll"}, 2, "--drll"},
		{[]string{"dev", "extra"}, 2, "extra"},
		{[]string{"dev", "kill"}, 2, "<name>"},
		{[]string{"dev", "--dir"}, 2, "--dir"},
		{[]string{"dev", "--dir", foreign}, 1, "not of 'lifeboat dev'"},
		{[]string{"dev", "--dir", filepath.Join(foreign, "thesis.txt")}, 1, "not a directory"},
	} {
		out, code := d.run(tc.args...)
		if code != tc.code || !strings.Contains(out, tc.says) || strings.Count(out, "\n") != 1 {
			t.Errorf("%v: exit code %d and %q, want %d and one line with %q", tc.args, code, out, tc.code, tc.says)
		}
	}
	if _, err := os.Stat(filepath.Join(foreign, "thesis.txt")); err != nil {
		t.Error(err)
	}
	d.gone()
}
