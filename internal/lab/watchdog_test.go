package lab

import (
	"fmt"
	"net"
	"os/exec"
	"testing"
	"testing/synctest"
	"time"
)

func TestWatchdogTimer(t *testing.T) {
	type step struct {
		command string
		wait    time.Duration
	}
	cases := []struct {
		name  string
		steps []step
		bites bool
	}{
		{"never armed", []step{{"pet", time.Hour}}, false},
		{"starves", []step{{"arm 2", 2100 * time.Millisecond}}, true},
		{"petted", []step{{"arm 2", time.Second}, {"pet", 1900 * time.Millisecond}}, false},
		{"petted, then starves", []step{{"arm 2", time.Second}, {"pet", 2100 * time.Millisecond}}, true},
		{"decimals", []step{{"arm 0.5", 600 * time.Millisecond}}, true},
		{"disarmed", []step{{"arm 2", time.Second}, {"disarm", time.Hour}}, false},
		{"petted after disarm", []step{{"arm 2", 0}, {"disarm", 0}, {"pet", time.Hour}}, false},
		{"armed again with another time", []step{{"arm 1", 0}, {"arm 5", 4 * time.Second}}, false},
		{"nonsense changes nothing", []step{{"arm 2", 0}, {"arm -1", 0}, {"arm NaN", 0}, {"arm", 0}, {"disarm now", 3 * time.Second}}, true},
		{"pet after it ran out is too late", []step{{"arm 1", 2 * time.Second}, {"pet", 0}}, true},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				bites := 0
				w := &watchdog{starved: func() { bites++ }}
				for _, s := range c.steps {
					_ = w.command(s.command)
					time.Sleep(s.wait)
					synctest.Wait()
				}
				if want := map[bool]int{true: 1}[c.bites]; bites != want {
					t.Errorf("the watchdog bit %d times, want %d", bites, want)
				}
				_ = w.command("disarm")
			})
		})
	}
}

// A frozen host cannot pet: the watchdog outside it resets it. That includes
// the agent's death without a goodbye.
func TestWatchdogResetsFrozenHost(t *testing.T) {
	l := theLab(t)
	conn, err := net.Dial("unix", l.HostRoot(2)+WatchdogSocket)
	must(t, err)
	fmt.Fprintln(conn, "arm 1")
	for range 4 { // petting keeps it quiet
		time.Sleep(400 * time.Millisecond)
		fmt.Fprintln(conn, "pet")
	}
	boot := l.BootID(2)
	must(t, conn.Close()) // not a disarm
	must(t, l.Freeze(2))
	eventually(t, 8*time.Second, "the watchdog resets h2", func() bool { return l.BootID(2) != boot && l.Powered(2) })
	must(t, l.WaitLibvirtd(t.Context(), 2))
	// The new boot begins disarmed.
	boot = l.BootID(2)
	time.Sleep(1200 * time.Millisecond)
	if l.BootID(2) != boot {
		t.Error("the watchdog of the last boot bit again")
	}
}

func TestRebootInsideHostOnly(t *testing.T) {
	l := theLab(t)
	if err := RebootSelf(); err == nil {
		t.Fatal("unreachable: this machine would be rebooting")
	}
	boot := l.BootID(3)
	cmd := exec.Command("/proc/self/exe")
	cmd.Env = []string{modeEnv + "=" + modeReboot}
	must(t, l.RunIn(3, cmd))
	_ = cmd.Wait() // killed with its host
	eventually(t, 8*time.Second, "h3 boots again", func() bool { b := l.BootID(3); return b != "" && b != boot })
	must(t, l.WaitLibvirtd(t.Context(), 3))
}
