package lab

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"time"
)

// Every BMC's account. ipmitool needs "-I lanplus -C 3".
const (
	BMCUser     = "admin"
	BMCPassword = "lifeboat"
)

// bmc is a host's management controller: a process and a network port outside
// the host, so that it works when the host does not.
type bmc struct {
	port *port
	sim  *child

	mu    sync.Mutex
	fail  bool
	lie   bool
	delay time.Duration
}

// BMCAddr is the IP address of the host's BMC, reachable from managers on UDP
// port 623; "" for no such host.
func (l *Lab) BMCAddr(n int) string {
	h, err := l.host(n)
	if err != nil {
		return ""
	}
	return h.bmc.port.ip
}

// BMCGUID is what the host's BMC says it is: an operator's protection against
// two hosts configured with one BMC.
func (l *Lab) BMCGUID(n int) string { return l.uuid(fmt.Sprintf("h%d bmc", n)) }

// BMCDown cuts the BMC's cable: fencing is unreachable, which is not fenced.
func (l *Lab) BMCDown(ctx context.Context, n int) error { return l.bmcCable(ctx, n, true) }

// BMCUp plugs it in again.
func (l *Lab) BMCUp(ctx context.Context, n int) error { return l.bmcCable(ctx, n, false) }

func (l *Lab) bmcCable(ctx context.Context, n int, isolated bool) error {
	h, err := l.host(n)
	if err != nil {
		return fmt.Errorf("change BMC network: %w", err)
	}
	l.logf("BMC of %s unreachable: %t", h.name, isolated)
	return l.net.change(ctx, func(p *port) { p.isolated = isolated }, h.bmc.port)
}

// BMCFail makes every power command of the BMC answer with an error.
func (l *Lab) BMCFail(n int) error { return l.bmcFault(n, func(b *bmc) { b.fail = true }) }

// BMCLie makes the BMC answer every power command with success and do nothing.
// Its power status stays true.
func (l *Lab) BMCLie(n int) error { return l.bmcFault(n, func(b *bmc) { b.lie = true }) }

// BMCDelay makes every power command take that much longer.
func (l *Lab) BMCDelay(n int, d time.Duration) error {
	return l.bmcFault(n, func(b *bmc) { b.delay = d })
}

// BMCHeal ends BMCFail, BMCLie and BMCDelay.
func (l *Lab) BMCHeal(n int) error {
	return l.bmcFault(n, func(b *bmc) { b.fail, b.lie, b.delay = false, false, 0 })
}

func (l *Lab) bmcFault(n int, edit func(*bmc)) error {
	h, err := l.host(n)
	if err != nil {
		return fmt.Errorf("change BMC: %w", err)
	}
	h.bmc.mu.Lock()
	defer h.bmc.mu.Unlock()
	edit(&h.bmc)
	l.logf("BMC of %s: fail %t, lie %t, delay %v", h.name, h.bmc.fail, h.bmc.lie, h.bmc.delay)
	return nil
}

// chassis answers ipmi_sim: "get power", or "set power 0" and the like,
// possibly several in one call.
func (l *Lab) chassis(h *host, words []string) (string, error) {
	switch {
	case words[0] == "get":
		var answers []string
		for _, what := range words[1:] {
			switch what {
			case "power":
				state := 0
				if h.powered.Load() {
					state = 1
				}
				answers = append(answers, fmt.Sprintf("power:%d", state))
			case "boot":
				answers = append(answers, "boot:default")
			default:
				return "", fmt.Errorf("the BMC does not know %q", what)
			}
		}
		return strings.Join(answers, " "), nil
	case words[0] == "set" && len(words)%2 == 1:
		for i := 1; i < len(words); i += 2 {
			if err := l.chassisSet(h, words[i], words[i+1]); err != nil {
				return "", err
			}
		}
		return "", nil
	}
	return "", fmt.Errorf("the BMC does not understand %q", strings.Join(words, " "))
}

func (l *Lab) chassisSet(h *host, what, value string) error {
	var act func(context.Context, int) error
	switch what + " " + value {
	case "power 0", "shutdown 1":
		act = l.PowerCut
	case "power 1":
		act = l.PowerOn
	case "reset 1":
		act = l.Reset
	default:
		return nil // boot device, identify light: accepted, no effect
	}
	h.bmc.mu.Lock()
	fail, lie, delay := h.bmc.fail, h.bmc.lie, h.bmc.delay
	h.bmc.mu.Unlock()
	if delay > 0 {
		select {
		case <-time.After(delay):
		case <-l.closed:
			return errClosed
		}
	}
	l.logf("BMC of %s: %s %s (fail %t, lie %t)", h.name, what, value, fail, lie)
	switch {
	case fail:
		return errors.New("simulated failure")
	case lie:
		return nil
	}
	return act(context.Background(), h.n)
}

// chassisMain is the program that ipmi_sim runs: it passes the request on to
// the lab and prints the answer. Errors go to stdout, where ipmi_sim looks.
func chassisMain(socket string, args []string, out io.Writer) error {
	answer, err := ask(socket, "chassis "+strings.Join(args, " "))
	if err != nil {
		fmt.Fprintln(out, err)
		return err
	}
	for _, line := range strings.Fields(answer) {
		fmt.Fprintln(out, line)
	}
	return nil
}

func (l *Lab) bmcUp(ctx context.Context, h *host) error {
	dir := filepath.Join(h.dir, "bmc")
	if err := os.MkdirAll(filepath.Join(dir, "state"), 0o755); err != nil {
		return fmt.Errorf("make BMC directory: %w", err)
	}
	if err := l.net.plug(ctx, h.bmc.port); err != nil {
		return err
	}
	for name, text := range map[string]string{"lan.conf": l.lanConf(h, dir), "sim.emu": simEmu, "chassis": l.chassisScript()} {
		if err := writeFile(filepath.Join(dir, name), text); err != nil {
			return err
		}
	}
	if err := os.Chmod(filepath.Join(dir, "chassis"), 0o755); err != nil {
		return fmt.Errorf("make chassis program: %w", err)
	}
	out, err := logFile(filepath.Join(dir, "ipmi_sim.log"))
	if err != nil {
		return err
	}
	defer out.Close()
	cmd := exec.Command(tool("ipmi_sim"), "-n", "-c", filepath.Join(dir, "lan.conf"), "-f", filepath.Join(dir, "sim.emu"), "-s", filepath.Join(dir, "state"))
	cmd.Env = baseEnv()
	cmd.Stdout, cmd.Stderr = out, out
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	if err := startIn(netnsRef(h.bmc.port.netns), cmd); err != nil {
		return fmt.Errorf("start ipmi_sim: %w", err)
	}
	h.bmc.sim = reap(cmd)
	return h.bmc.waitListening(ctx, out.Name())
}

// waitListening waits for the simulator's UDP socket.
func (b *bmc) waitListening(ctx context.Context, logPath string) error {
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	for {
		table, _ := os.ReadFile(fmt.Sprintf("/proc/%d/net/udp", b.sim.cmd.Process.Pid))
		if strings.Contains(string(table), fmt.Sprintf(":%04X ", ipmiPort)) {
			return nil
		}
		select {
		case <-time.After(pollEvery):
		case <-b.sim.done:
			tail, _ := os.ReadFile(logPath)
			return fmt.Errorf("start ipmi_sim: it ended: %s", lastLine(tail))
		case <-ctx.Done():
			return fmt.Errorf("start ipmi_sim: it does not listen: %w", ctx.Err())
		}
	}
}

const ipmiPort = 623

func (l *Lab) lanConf(h *host, dir string) string {
	return fmt.Sprintf(`name "%s"
set_working_mc 0x20
  startlan 1
    addr %s %d
    priv_limit admin
    allowed_auths_callback none md2 md5 straight
    allowed_auths_user none md2 md5 straight
    allowed_auths_operator none md2 md5 straight
    allowed_auths_admin none md2 md5 straight
    guid %s
  endlan
  chassis_control "%s %d"
  startnow false
  user 2 true "%s" "%s" admin 10 none md2 md5 straight
`, h.name, h.bmc.port.ip, ipmiPort, wireGUID(l.BMCGUID(h.n)),
		filepath.Join(dir, "chassis"), h.n, BMCUser, BMCPassword)
}

// wireGUID is a GUID in the byte order of IPMI, last byte first.
func wireGUID(guid string) string {
	digits := strings.ReplaceAll(guid, "-", "")
	var wire strings.Builder
	for i := len(digits); i > 0; i -= 2 {
		wire.WriteString(digits[i-2 : i])
	}
	return wire.String()
}

const simEmu = `mc_setbmc 0x20
mc_add 0x20 0 has-device-sdrs 0x23 9 8 0x9f 0x1291 0xf02 persist_sdr
sel_enable 0x20 1000 0x0a
mc_enable 0x20
`

// chassisScript wraps this binary: ipmi_sim can pass arguments, but no environment.
func (l *Lab) chassisScript() string {
	return fmt.Sprintf("#!/bin/sh\n%s=%s %s=%s exec %s \"$@\"\n",
		modeEnv, modeChassis, configEnv, quote(controlSocket(l.run)), quote(l.exe))
}

// quote makes one shell word.
func quote(s string) string { return "'" + strings.ReplaceAll(s, "'", `'\''`) + "'" }
