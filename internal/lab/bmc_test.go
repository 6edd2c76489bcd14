package lab

import (
	"context"
	"os/exec"
	"strings"
	"testing"
	"time"
)

// ipmitool runs the program from manager 1, as a fencing manager does.
func ipmitool(t *testing.T, l *Lab, n int, args ...string) (string, error) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	cmd := exec.CommandContext(ctx, tool("ipmitool"), append([]string{
		"-I", "lanplus", "-C", "3",
		"-H", l.BMCAddr(n), "-U", BMCUser, "-P", BMCPassword}, args...)...)
	var out strings.Builder
	cmd.Stdout, cmd.Stderr = &out, &out
	must(t, l.RunInManager(1, cmd))
	err := cmd.Wait()
	return strings.TrimSpace(out.String()), err
}

func ipmiOK(t *testing.T, l *Lab, n int, want string, args ...string) {
	t.Helper()
	out, err := ipmitool(t, l, n, args...)
	if err != nil || !strings.Contains(strings.ToLower(out), want) {
		t.Fatalf("ipmitool %s on h%d: %q, %v; want %q", strings.Join(args, " "), n, out, err, want)
	}
}

func TestBMCActs(t *testing.T) {
	l := theLab(t)
	ipmiOK(t, l, 2, "is on", "chassis", "power", "status")
	ipmiOK(t, l, 2, "off", "chassis", "power", "off")
	if l.Powered(2) || len(l.HostPIDs(2)) != 0 {
		t.Fatal("the BMC said off, and the host runs on")
	}
	ipmiOK(t, l, 2, "is off", "chassis", "power", "status")
	ipmiOK(t, l, 2, "on", "chassis", "power", "on")
	must(t, l.WaitLibvirtd(t.Context(), 2))
	boot := l.BootID(2)
	ipmiOK(t, l, 2, "reset", "chassis", "power", "reset")
	must(t, l.WaitLibvirtd(t.Context(), 2))
	if l.BootID(2) == boot {
		t.Error("the reset left the host in its boot")
	}
	if !l.Powered(1) || !l.Powered(3) {
		t.Error("another host lost power too")
	}
	guid, err := ipmitool(t, l, 2, "mc", "guid")
	if err != nil || !strings.Contains(guid, l.BMCGUID(2)) {
		t.Errorf("mc guid: %v, want %s in:\n%s", err, l.BMCGUID(2), guid)
	}
}

func TestBMCFaults(t *testing.T) {
	l := theLab(t)
	boot := l.BootID(1)
	unharmed := func() {
		t.Helper()
		if l.BootID(1) != boot {
			t.Fatal("the host lost power")
		}
	}
	must(t, l.BMCLie(1))
	ipmiOK(t, l, 1, "off", "chassis", "power", "off")
	unharmed()
	ipmiOK(t, l, 1, "is on", "chassis", "power", "status") // only looking again tells
	must(t, l.BMCHeal(1))

	must(t, l.BMCFail(1))
	if out, err := ipmitool(t, l, 1, "chassis", "power", "off"); err == nil {
		t.Errorf("a failing BMC said %q", out)
	}
	unharmed()
	must(t, l.BMCHeal(1))

	must(t, l.BMCDown(t.Context(), 1))
	if out, err := ipmitool(t, l, 1, "-N", "1", "-R", "1", "chassis", "power", "off"); err == nil {
		t.Errorf("an unreachable BMC said %q", out)
	}
	unharmed()
	must(t, l.BMCUp(t.Context(), 1))
	ipmiOK(t, l, 1, "is on", "chassis", "power", "status")

	must(t, l.BMCDelay(1, 400*time.Millisecond))
	began := time.Now()
	ipmiOK(t, l, 1, "off", "chassis", "power", "off")
	eventually(t, 5*time.Second, "the slow BMC acts", func() bool { return !l.Powered(1) })
	if took := time.Since(began); took < 400*time.Millisecond {
		t.Errorf("the slow BMC took %v", took)
	}
	must(t, l.BMCHeal(1))
	bootHost(t, l, 1)
}
