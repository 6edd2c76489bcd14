package ipmi

import (
	"fmt"
	"math/rand/v2"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"lifeboat/fence"
	"lifeboat/fence/fencetest"
)

const (
	guid     = "3e2d1c0b-5a49-4887-96a5-b4c3d2e1f001"
	password = "Kaleidoscope9"
)

// rig is a real ipmi_sim (package openipmi) on a UDP port of loopback, with a
// machine in a folder behind it.
type rig struct {
	fencetest.Machine
	port string
	sim  *exec.Cmd
}

// needLab skips where the simulator is not installed, and fails where the
// surroundings promised that it is.
func needLab(t *testing.T) {
	t.Helper()
	if os.Getenv("LIFEBOAT_LAB") == "0" {
		t.Skip("LIFEBOAT_LAB=0: left to make test-lab")
	}
	for program, pkg := range map[string]string{"ipmi_sim": "openipmi", "ipmitool": "ipmitool"} {
		if _, err := exec.LookPath(program); err != nil {
			if os.Getenv("LIFEBOAT_LAB") == "1" {
				t.Fatalf("%s is not installed, but LIFEBOAT_LAB=1 promises it: apt install %s", program, pkg)
			}
			t.Skipf("%s is not installed: apt install %s", program, pkg)
		}
	}
}

func newRig(t *testing.T) *rig {
	t.Helper()
	needLab(t)
	m := fencetest.NewMachine(t)
	r := &rig{Machine: m}
	file := func(name, text string, mode os.FileMode) string {
		path := filepath.Join(m.Dir, name)
		if err := os.WriteFile(path, []byte(text), mode); err != nil {
			t.Fatal(err)
		}
		return path
	}
	// ipmi_sim calls it with "get power" or "set power 0|1" and waits for it,
	// deaf to the network meanwhile: that is how it becomes slow or hangs.
	chassis := file("chassis", m.ScriptHead()+`
case $fault in slow) sleep 0.4 ;; hung) sleep 20 ;; esac
case "$1 $2" in
  "get power") echo "power:$(get_power)" ;;
  "set power") set_power "$3" || { echo "simulated failure"; exit 1; } ;;
esac
exit 0
`, 0o700)
	emu := file("sim.emu", "mc_setbmc 0x20\nmc_add 0x20 0 no-device-sdrs 0x23 9 8 0x9f 0x1291 0xf02\nmc_enable 0x20\n", 0o600)
	t.Cleanup(func() { r.stop() })
	// A port that was free a moment ago may have become the source port of
	// another test's ipmitool; then the simulator is deaf, or ends at once.
	for range 3 {
		r.port = freePort(t)
		lan := file("lan.conf", fmt.Sprintf(`name "bmc"
set_working_mc 0x20
startlan 1
  addr 127.0.0.1 %s
  priv_limit admin
  allowed_auths_callback none md2 md5 straight
  allowed_auths_user none md2 md5 straight
  allowed_auths_operator none md2 md5 straight
  allowed_auths_admin none md2 md5 straight
  guid %s
endlan
chassis_control "%s"
startnow false
user 2 true "admin" "%s" admin 10 none md2 md5 straight
`, r.port, strings.ReplaceAll(guid, "-", ""), chassis, password), 0o600)
		if r.start(t, lan, emu) {
			return r
		}
		r.stop()
	}
	said, err := os.ReadFile(filepath.Join(m.Dir, "ipmi_sim.log"))
	t.Fatalf("ipmi_sim answered on none of three ports; it said %q (%v)", said, err)
	return nil
}

// start runs the simulator and reports whether it answers.
func (r *rig) start(t *testing.T, lan, emu string) bool {
	t.Helper()
	output, err := os.Create(filepath.Join(r.Dir, "ipmi_sim.log"))
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = output.Close() }()
	r.sim = exec.Command("ipmi_sim", "-n", "-c", lan, "-f", emu, "-s", filepath.Join(r.Dir, "state"))
	r.sim.Stdout, r.sim.Stderr = output, output
	r.sim.SysProcAttr = &syscall.SysProcAttr{Setpgid: true} // its script may be asleep
	if err := r.sim.Start(); err != nil {
		t.Fatal(err)
	}
	d, err := open(r.Target())
	if err != nil {
		t.Fatal(err)
	}
	for range 2 { // each waits for about 6 s for an answer
		if _, err = d.Power(t.Context()); err == nil {
			return true
		}
	}
	t.Logf("ipmi_sim on port %s does not answer: %v", r.port, err)
	return false
}

func (r *rig) stop() {
	if r.sim != nil {
		_ = syscall.Kill(-r.sim.Process.Pid, syscall.SIGKILL)
		_ = r.sim.Wait()
		r.sim = nil
	}
}

// freePort is a UDP port of loopback that nobody has, from below the range of
// which the kernel gives source ports.
func freePort(t *testing.T) string {
	t.Helper()
	for range 1000 {
		port := 20000 + rand.IntN(12000)
		c, err := net.ListenUDP("udp4", &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1), Port: port})
		if err == nil {
			_ = c.Close()
			return strconv.Itoa(port)
		}
	}
	t.Fatal("no UDP port of 127.0.0.1 is free between 20000 and 32000")
	return ""
}

func (r *rig) Kind() fence.Kind { return Kind() }
func (r *rig) Identity() string { return guid }
func (r *rig) Target() fence.Target {
	return fence.Target{Driver: Name, Address: "127.0.0.1:" + r.port, User: "admin", Password: fence.NewSecret(password)}
}

// Inject: a dead BMC is one that is not running.
func (r *rig) Inject(t *testing.T, f fencetest.Fault) {
	if f == fencetest.Down {
		r.stop()
		return
	}
	r.Machine.Inject(t, f)
}

// Leftovers looks for ipmitool runs against this rig's port.
func (r *rig) Leftovers(t *testing.T) []string {
	return fencetest.Processes(t, "\x00-p\x00"+r.port+"\x00")
}

func TestLabConformance(t *testing.T) {
	needLab(t)
	fencetest.Run(t, func(t *testing.T) fencetest.Rig { return newRig(t) })
}

func TestLabFailuresAreNamed(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	for name, c := range map[string]struct {
		change func(*fence.Target)
		reason fence.Reason
		text   string
	}{
		"user":   {func(t *fence.Target) { t.User = "nobody" }, fence.AuthFailed, "unknown user"},
		"cipher": {func(t *fence.Target) { t.Options = map[string]string{"cipher": "17"} }, fence.Refused, "set option cipher"},
		"name":   {func(t *fence.Target) { t.Address = "bmc.invalid" }, fence.Unreachable, "cannot be resolved"},
		"serial": {func(t *fence.Target) { t.Options = map[string]string{"identity": "serial"} }, fence.IdentityUnknown, "no FRU"},
		"no ipmitool": {func(t *fence.Target) { t.Options = map[string]string{"program": "ipmitool-not-here"} }, fence.NoProgram,
			"ipmitool-not-here is not installed"},
	} {
		target := r.Target()
		c.change(&target)
		d, err := open(target)
		if err != nil {
			t.Fatal(err)
		}
		_, _, err = fence.Probe(t.Context(), d, fence.Expect{Identity: guid})
		if err == nil || !strings.Contains(err.Error(), c.text) {
			t.Errorf("%s: %v", name, err)
			continue
		}
		if e, ok := err.(*fence.Error); !ok || e.Reason != c.reason {
			t.Errorf("%s: reason is not %q: %v", name, c.reason, err)
		}
	}
}
