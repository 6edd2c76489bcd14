package lab_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"lifeboat/internal/lab"
)

// TestWorkedExample is the example of the package comment, with sleep in place
// of lifeboat's programs and ipmitool in place of its fencing.
func TestWorkedExample(t *testing.T) {
	lab.Require(t)
	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Minute)
	defer cancel()
	l, err := lab.New(ctx, lab.Options{Prefix: "labexample", Hosts: 3, Managers: 3, ManagerOn: map[int]int{3: 3}, Log: t.Output()})
	must(t, err)
	t.Cleanup(func() {
		if err := l.Close(); err != nil {
			t.Error(err)
		}
	})

	servers := make(map[int]*lab.Program)
	for m := 1; m <= 3; m++ {
		servers[m], err = l.StartInManager(m, "server", exec.Command("sh", "-c", "echo serving; exec sleep 600"))
		must(t, err)
	}
	var mu sync.Mutex
	agents := make(map[int][]*lab.Program)
	started := func(n int) int {
		mu.Lock()
		defer mu.Unlock()
		return len(agents[n])
	}
	l.OnBoot(func(n int) {
		agent, err := l.Start(n, "agent", exec.Command("sh", "-c", "cat "+lab.BootIDFile+"; exec sleep 600"))
		if err != nil {
			t.Errorf("start agent of h%d: %v", n, err)
			return
		}
		mu.Lock()
		defer mu.Unlock()
		agents[n] = append(agents[n], agent)
	})
	for n := 1; n <= 3; n++ {
		name := fmt.Sprint("web", n)
		disk, err := l.AddDisk(name)
		must(t, err)
		must(t, l.StartGuest(ctx, n, lab.GuestSpec{Name: name, Disk: disk, Shareable: true}))
	}
	for n := 1; n <= 3; n++ {
		beat, err := l.WaitBeat(ctx, n, fmt.Sprint("web", n))
		must(t, err)
		if beat.Boot == "" || beat.Count < 1 || time.Since(beat.At) > 10*time.Second {
			t.Errorf("beat of web%d: %+v", n, beat)
		}
		if got := l.Guests(n); len(got) != 1 || got[0] != fmt.Sprint("web", n) {
			t.Errorf("guests of h%d: %v", n, got)
		}
		eventually(t, "the agent of each host runs", func() bool { return started(n) == 1 })
	}

	// Fencing, as a manager does it: which machine is this, off, and look.
	ipmi := func(n int, args ...string) string {
		t.Helper()
		out, err := l.ExecInManager(ctx, 1, "ipmitool", append([]string{"-I", "lanplus", "-C", "3",
			"-H", l.BMCAddr(n), "-U", lab.BMCUser, "-P", lab.BMCPassword}, args...)...)
		must(t, err)
		return out
	}
	if out := ipmi(1, "mc", "guid"); !strings.Contains(out, l.BMCGUID(1)) {
		t.Fatalf("the BMC is of another machine than %s:\n%s", l.BMCGUID(1), out)
	}
	if out := ipmi(1, "chassis", "power", "status"); !strings.Contains(out, "is on") {
		t.Fatalf("before: %s", out)
	}
	ipmi(1, "chassis", "power", "off")
	if out := ipmi(1, "chassis", "power", "status"); !strings.Contains(out, "is off") {
		t.Fatalf("after: %s", out)
	}
	if l.Powered(1) || l.Guests(1) != nil || l.Copies("web1") != nil {
		t.Errorf("h1 is off and yet powered %t with guests %v", l.Powered(1), l.Guests(1))
	}
	if _, err := l.Exec(ctx, 1, "true"); err == nil {
		t.Error("a program ran on a host without power")
	}

	// The others live, and one of them takes over: one copy, no split brain.
	for n := 2; n <= 3; n++ {
		_, err := l.WaitBeat(ctx, n, fmt.Sprint("web", n))
		must(t, err)
	}
	must(t, l.StartGuest(ctx, 2, lab.GuestSpec{Name: "web1", Disk: l.SharedDir() + "/web1.img", Shareable: true}))
	_, err = l.WaitBeat(ctx, 2, "web1")
	must(t, err)
	if got := l.Copies("web1"); !slices.Equal(got, []int{2}) {
		t.Errorf("web1 runs on %v, want h2 alone", got)
	}
	if found, err := l.SplitBrains(); err != nil || len(found) != 0 {
		t.Errorf("split brain: %v, %v", found, err)
	}

	// A manager on a host's machine dies with it; the others do not notice.
	must(t, l.PowerCut(ctx, 3))
	select {
	case <-servers[3].Done():
	case <-ctx.Done():
		t.Error("m3 survived the machine it runs on")
	}
	if servers[1].State() != nil || servers[2].State() != nil {
		t.Error("another manager ended")
	}
	boot := l.BootID(2)
	must(t, l.PowerOn(ctx, 3))
	eventually(t, "the agent is started after a power on", func() bool { return started(3) == 2 })
	eventually(t, "the agent reads a new boot id", func() bool {
		log, err := os.ReadFile(l.HostDir(3) + "/agent.log")
		must(t, err)
		ids := strings.Fields(string(log))
		return len(ids) == 2 && ids[0] != ids[1] && ids[1] == l.BootID(3)
	})
	if got, err := l.Exec(ctx, 2, "cat", "/proc/sys/kernel/random/boot_id"); err != nil || got != boot {
		t.Errorf("boot id of h2: %q, %v, want %s", got, err, boot)
	}

	// The positive control: where nothing prevents it, the guests themselves
	// tell of a second copy.
	must(t, l.WaitLibvirtd(ctx, 3))
	must(t, l.StartGuest(ctx, 3, lab.GuestSpec{Name: "web1", Disk: l.SharedDir() + "/web1.img", Shareable: true}))
	eventually(t, "the guests notice each other", func() bool {
		found, err := l.SplitBrains()
		must(t, err)
		return len(found) > 0
	})
	if got := l.Copies("web1"); !slices.Equal(got, []int{2, 3}) {
		t.Errorf("web1 runs on %v", got)
	}

	servers[1].Kill()
	if servers[1].State() == nil {
		t.Error("a killed program still runs")
	}
	if log, err := os.ReadFile(servers[1].LogPath()); err != nil || string(log) != "serving\n" {
		t.Errorf("its log: %q, %v", log, err)
	}
	if _, err := l.Exec(ctx, 2, "sh", "-c", "echo no such thing >&2; exit 3"); err == nil || !strings.Contains(err.Error(), "no such thing") {
		t.Errorf("a failing program: %v", err)
	}
	short, stop := context.WithTimeout(ctx, 50*time.Millisecond)
	defer stop()
	if _, err := l.Exec(short, 2, "sleep", "60"); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("a program that takes too long: %v", err)
	}
	if _, err := l.WaitBeat(short, 2, "nobody"); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("heartbeat of nobody: %v", err)
	}
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func eventually(t *testing.T, what string, ok func() bool) {
	t.Helper()
	for end := time.Now().Add(90 * time.Second); !ok(); time.Sleep(20 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("in vain: %s", what)
		}
	}
}
