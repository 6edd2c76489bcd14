package lab

import (
	"bufio"
	"bytes"
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// Close leaves nothing, whatever state the hosts are in, beside another lab.
func TestCloseLeavesNothing(t *testing.T) {
	beside := theLab(t)
	l, err := New(t.Context(), Options{Prefix: "labtest2", Dir: t.TempDir(), Hosts: 2, Managers: 1})
	must(t, err)
	defer l.Close()
	if _, err := New(t.Context(), Options{Prefix: "labtest2"}); err == nil || !strings.Contains(err.Error(), "running already") {
		t.Errorf("a second lab with the same prefix: %v", err)
	}
	dev, err := l.AddLUN("left")
	must(t, err)
	must(t, startGuest(t, l, 1, GuestSpec{Name: "left", Disk: dev}))
	sleeper := exec.Command(tool("sleep"), "600")
	must(t, l.RunInManager(1, sleeper))
	pids := append(l.HostPIDs(1), l.HostPIDs(2)...)
	for _, h := range l.hosts {
		pids = append(pids, h.bmc.sim.cmd.Process.Pid, h.life.watchdog.cmd.Process.Pid)
	}
	must(t, l.Freeze(1))
	must(t, l.Isolate(t.Context(), 2))

	must(t, l.Close())
	must(t, l.Close())
	_ = sleeper.Wait()
	for _, pid := range append(pids, sleeper.Process.Pid) {
		if alive(pid) {
			t.Errorf("process %d outlived the lab", pid)
		}
	}
	assertNothingLeft(t, "labtest2")
	if exists(filepath.Join("/sys/block", filepath.Base(dev), "loop")) {
		if now, _ := os.ReadFile(filepath.Join("/sys/block", filepath.Base(dev), "loop/backing_file")); strings.Contains(string(now), l.Dir()) {
			t.Errorf("%s is still attached to %s", dev, now)
		}
	}
	if err := l.PowerOn(t.Context(), 1); err == nil {
		t.Error("a closed lab powered a host on")
	}
	must(t, reach(t, beside, 1, beside.LibvirtTCP(1)))
}

func assertNothingLeft(t *testing.T, prefix string) {
	t.Helper()
	left, err := Leftovers(prefix)
	must(t, err)
	if len(left) != 0 {
		t.Errorf("left behind: %v", left)
	}
}

// A lab whose process was killed is cleaned up by the next with its prefix.
func TestCrashedLab(t *testing.T) {
	Require(t)
	const prefix = "labtest3"
	cmd := exec.Command("/proc/self/exe")
	cmd.Env = append(os.Environ(), crashEnv+"="+prefix)
	out, err := cmd.StdoutPipe()
	must(t, err)
	must(t, cmd.Start())
	line, err := bufio.NewReader(out).ReadString('\n')
	if err != nil || !strings.HasPrefix(line, "up ") {
		t.Fatalf("the doomed lab says %q, %v", line, err)
	}
	dir := strings.TrimSpace(strings.TrimPrefix(line, "up "))
	must(t, cmd.Process.Kill())
	_ = cmd.Wait()
	left, err := Leftovers(prefix)
	must(t, err)
	if all := strings.Join(left, "\n"); !strings.Contains(all, "process") || !strings.Contains(all, "loop device") {
		t.Fatalf("the crash left only: %s", all)
	}
	next, err := New(t.Context(), Options{Prefix: prefix})
	must(t, err)
	for _, name := range left {
		if strings.HasPrefix(name, "process") {
			var pid int
			if _, err := fmt.Sscanf(name, "process %d", &pid); err == nil && alive(pid) {
				t.Errorf("%s survived the next lab", name)
			}
		}
	}
	if exists(dir) {
		t.Errorf("the crashed lab's directory %s is still there", dir)
	}
	must(t, next.Close())
	assertNothingLeft(t, prefix)
	if exists(next.Dir()) {
		t.Errorf("the directory %s is still there", next.Dir())
	}
}

func crashMain(prefix string) {
	l, err := New(context.Background(), Options{Prefix: prefix, Hosts: 1, Managers: 1})
	if err != nil {
		fmt.Println(err)
		os.Exit(1)
	}
	if _, err := l.AddLUN("crash"); err != nil {
		fmt.Println(err)
		os.Exit(1)
	}
	fmt.Println("up", l.Dir())
	time.Sleep(time.Hour) // until it is killed
}

func TestOptionsRefused(t *testing.T) {
	for _, o := range []Options{
		{Prefix: "UPPER"}, {Prefix: "a/b"}, {Prefix: "much-too-long-prefix"}, {Hosts: -1}, {Hosts: 81}, {Managers: 100},
		{Hosts: 1, Managers: 1, ManagerOn: map[int]int{1: 2}}, {Hosts: 1, ManagerOn: map[int]int{1: 1}},
	} {
		if o.Prefix == "" {
			o.Prefix = "labtest4"
		}
		if l, err := New(t.Context(), o); err == nil {
			t.Errorf("%+v was accepted", o)
			_ = l.Close()
		}
	}
}

// Without the marker of a host, or with one of another PID namespace, there is no reboot.
func TestRebootGuard(t *testing.T) {
	dir := t.TempDir()
	ours, err := os.Readlink("/proc/self/ns/pid")
	must(t, err)
	for _, c := range []struct {
		name, text string
		inside     bool
	}{
		{"other", "pid:[1]\n", false}, {"empty", "", false}, {"garbage", "yes\n", false}, {"ours", ours + "\n", true},
	} {
		path := filepath.Join(dir, c.name)
		must(t, os.WriteFile(path, []byte(c.text), 0o600))
		if got := inLabHost(path) == nil; got != c.inside {
			t.Errorf("marker %q: inside a lab host: %t", c.text, got)
		}
	}
	if inLabHost(filepath.Join(dir, "none")) == nil {
		t.Error("no marker, and yet inside a lab host")
	}
}

// fakeTB records what Require does.
type fakeTB struct{ skipped, failed string }

func (f *fakeTB) Helper()                        {}
func (f *fakeTB) Skipf(format string, a ...any)  { f.skipped = fmt.Sprintf(format, a...) }
func (f *fakeTB) Fatalf(format string, a ...any) { f.failed = fmt.Sprintf(format, a...) }

func TestRequireFailsWhereTheLabIsTheTask(t *testing.T) {
	missing := Check() != nil
	for _, demanded := range []string{"", "1"} {
		t.Setenv(RequireEnv, demanded)
		var tb fakeTB
		Require(&tb)
		if got, want := tb.failed != "", missing && demanded == "1"; got != want {
			t.Errorf("%s=%q: failed %t (%s), want %t", RequireEnv, demanded, got, tb.failed, want)
		}
		if got, want := tb.skipped != "", missing && demanded == ""; got != want {
			t.Errorf("%s=%q: skipped %t (%s), want %t", RequireEnv, demanded, got, tb.skipped, want)
		}
	}
}

func TestArchiveIsReadable(t *testing.T) {
	if !installed("busybox") {
		t.Skip("busybox is not installed")
	}
	var b bytes.Buffer
	a := newArchive(&b)
	a.add("dir", 0o040755, nil, 0)
	a.add("dir/odd", 0o100644, []byte("12345"), 0) // a size that needs padding
	a.add("link", 0o120777, []byte("dir/odd"), 0)
	must(t, a.close())
	dir := t.TempDir()
	cmd := exec.Command(tool("busybox"), "cpio", "-idm")
	cmd.Dir, cmd.Stdin = dir, &b
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("unpack: %v: %s", err, out)
	}
	got, err := os.ReadFile(filepath.Join(dir, "link"))
	if err != nil || string(got) != "12345" {
		t.Errorf("through the link: %q, %v", got, err)
	}
}
