package docstest

import (
	"bufio"
	"context"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
)

// The account of every BMC; the document says the same.
const (
	bmcUser     = "admin"
	bmcPassword = "bmc-password"
)

// bmc is a machine's own small computer: it works when the machine does not.
type bmc struct {
	m      *machine
	log    func(string, ...any)
	socket string
}

// startBMC gives a machine a BMC at an address of its own.
func startBMC(ctx context.Context, room string, m *machine, addr string, guid byte, log func(string, ...any)) error {
	dir := filepath.Join(room, "bmc", m.name)
	if err := os.MkdirAll(filepath.Join(dir, "state"), 0o755); err != nil {
		return fmt.Errorf("make BMC: %w", err)
	}
	if err := script(ctx, fmt.Sprintf("ip addr add %s/24 dev br0", addr)); err != nil {
		return err
	}
	b := &bmc{m: m, log: log, socket: filepath.Join(dir, "socket")}
	listener, err := net.Listen("unix", b.socket)
	if err != nil {
		return fmt.Errorf("make BMC: %w", err)
	}
	go b.serve(ctx, listener)
	for name, text := range map[string]string{
		"sim.emu": "mc_setbmc 0x20\nmc_add 0x20 0 has-device-sdrs 0x23 9 8 0x9f 0x1291 0xf02 persist_sdr\nsel_enable 0x20 1000 0x0a\nmc_enable 0x20\n",
		"chassis": fmt.Sprintf("#!/bin/sh\n%s=%s exec /proc/1/exe \"$@\"\n", chassisEnv, b.socket),
		"lan.conf": fmt.Sprintf(`name "%s"
set_working_mc 0x20
  startlan 1
    addr %s 623
    priv_limit admin
    allowed_auths_callback none md2 md5 straight
    allowed_auths_user none md2 md5 straight
    allowed_auths_operator none md2 md5 straight
    allowed_auths_admin none md2 md5 straight
    guid %032x
  endlan
  chassis_control "%s/chassis"
  startnow false
  user 2 true "%s" "%s" admin 10 none md2 md5 straight
`, m.name, addr, guid, dir, bmcUser, bmcPassword),
	} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o755); err != nil {
			return fmt.Errorf("make BMC: %w", err)
		}
	}
	out, err := os.Create(filepath.Join(dir, "log"))
	if err != nil {
		return fmt.Errorf("make BMC: %w", err)
	}
	defer out.Close()
	cmd := exec.Command("ipmi_sim", "-n", "-c", dir+"/lan.conf", "-f", dir+"/sim.emu", "-s", dir+"/state")
	cmd.Stdout, cmd.Stderr = out, out
	if err := cmd.Start(); err != nil {
		return fmt.Errorf("start BMC: %w", err)
	}
	go func() { _ = cmd.Wait() }()
	return nil
}

const chassisEnv = "LIFEBOAT_DOCS_CHASSIS"

// chassis is the program that ipmi_sim runs: "get power", "set power 0". It passes
// the request on to the test.
func chassis(socket string, args []string) int {
	c, err := net.Dial("unix", socket)
	if err != nil {
		fmt.Println(err)
		return 1
	}
	defer c.Close()
	fmt.Fprintln(c, strings.Join(args, " "))
	answer := bufio.NewScanner(c)
	for answer.Scan() {
		if why, bad := strings.CutPrefix(answer.Text(), "error "); bad {
			fmt.Println(why)
			return 1
		}
		fmt.Println(answer.Text())
	}
	return 0
}

func (b *bmc) serve(ctx context.Context, listener net.Listener) {
	for {
		c, err := listener.Accept()
		if err != nil {
			return
		}
		go func() {
			defer c.Close()
			line, _ := bufio.NewReader(c).ReadString('\n')
			answer, err := b.answer(ctx, strings.Fields(line))
			if err != nil {
				answer = "error " + err.Error()
			}
			fmt.Fprintln(c, answer)
		}()
	}
}

func (b *bmc) answer(ctx context.Context, words []string) (string, error) {
	if len(words) > 0 && words[0] == b.m.name { // the machine's name comes first in some versions
		words = words[1:]
	}
	switch request := strings.Join(words, " "); request {
	case "get power":
		if b.m.on() {
			return "power:1", nil
		}
		return "power:0", nil
	case "set power 0":
		b.log("the BMC of %s takes its power away", b.m.name)
		return "", b.m.cut(ctx)
	case "set power 1":
		b.log("the BMC of %s turns it on", b.m.name)
		// The machine has power at once; that it has booted is for others to see.
		go func() {
			if err := b.m.boot(ctx); err != nil {
				b.log("%v", err)
			}
		}()
		return "", nil
	case "set reset 1":
		b.log("the BMC of %s resets it", b.m.name)
		if err := b.m.cut(ctx); err != nil {
			return "", err
		}
		go func() { _ = b.m.boot(ctx) }()
		return "", nil
	default:
		return "", nil // boot devices and the like
	}
}
