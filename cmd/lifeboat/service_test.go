package main

import (
	"bytes"
	"encoding/hex"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"lifeboat/agent/session"
	"lifeboat/transport"
	"lifeboat/transport/pki"
)

// manager is a service manager: it hears what a process says by sd_notify.
type manager struct {
	t     *testing.T
	conn  *net.UnixConn
	heard []string
}

func newManager(t *testing.T) *manager {
	t.Helper()
	dir, err := os.MkdirTemp("", "notify") // the path of a socket is short
	if err != nil {
		t.Fatal(err)
	}
	conn, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: filepath.Join(dir, "s"), Net: "unixgram"})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = conn.Close()
		_ = os.RemoveAll(dir)
	})
	return &manager{t: t, conn: conn}
}

func (m *manager) environ() []string {
	return append(os.Environ(), "NOTIFY_SOCKET="+m.conn.LocalAddr().String(), "WATCHDOG_USEC=2000000")
}

// hear reads one message; false: none came in time.
func (m *manager) hear(within time.Duration) (string, bool) {
	m.t.Helper()
	if err := m.conn.SetReadDeadline(time.Now().Add(within)); err != nil {
		m.t.Fatal(err)
	}
	buf := make([]byte, 4096)
	n, err := m.conn.Read(buf)
	if err != nil {
		return "", false
	}
	m.heard = append(m.heard, string(buf[:n]))
	return string(buf[:n]), true
}

// expect reads until a message has the line.
func (m *manager) expect(line string, within time.Duration) {
	m.t.Helper()
	for end := time.Now().Add(within); ; {
		text, ok := m.hear(time.Until(end))
		if !ok {
			m.t.Fatalf("no %q within %s; heard %q", line, within, m.heard)
		}
		if slices.Contains(strings.Split(text, "\n"), line) {
			return
		}
	}
}

// supervised begins a process as a service manager does. The process is ended
// with the test.
func (m *manager) supervised(args ...string) (*exec.Cmd, *bytes.Buffer) {
	m.t.Helper()
	program, err := exec.LookPath("lifeboat")
	if err != nil {
		m.t.Fatal(err)
	}
	cmd := exec.Command(program, args...)
	var stderr bytes.Buffer
	cmd.Env, cmd.Stderr = m.environ(), &stderr
	if err := cmd.Start(); err != nil {
		m.t.Fatal(err)
	}
	m.t.Cleanup(func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
		if m.t.Failed() {
			m.t.Log(stderr.String())
		}
	})
	return cmd, &stderr
}

func freePort(t *testing.T) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return l.Addr().String()
}

// put writes files into a directory.
func put(t *testing.T, dir string, files map[string]string) {
	t.Helper()
	for name, text := range files {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
}

func issue(t *testing.T, dir string, ids ...transport.Identity) {
	t.Helper()
	ca, err := pki.CreateCA(dir, "test")
	if err != nil {
		t.Fatal(err)
	}
	for _, id := range ids {
		leaf, err := ca.Issue(id, pki.IssueOptions{})
		if err != nil {
			t.Fatal(err)
		}
		if _, err := leaf.Write(dir); err != nil {
			t.Fatal(err)
		}
	}
}

// oneServer is the configuration of a cluster of one node, and its directory.
func oneServer(t *testing.T) (dir, addr string) {
	t.Helper()
	dir, addr = t.TempDir(), freePort(t)
	issue(t, dir, transport.Identity{Kind: transport.KindNode, Name: "n1"}, transport.Identity{Kind: transport.KindOperator, Name: "me"})
	put(t, dir, map[string]string{
		"secret": hex.EncodeToString(make([]byte, 32)),
		"server.yaml": fmt.Sprintf("id: n1\nlisten: %s\ndata_dir: data\ncert: node-n1.crt\nkey: node-n1.key\nca: ca.crt\nsecret_key: secret\ninitial_cluster: {n1: %q}\n",
			addr, addr),
	})
	return dir, addr
}

// The real program says READY=1 once it answers, is heard of while it is well and
// not while it is frozen, and says STOPPING=1 as its stop begins.
func TestServerTellsSystemd(t *testing.T) {
	dir, addr := oneServer(t)
	m := newManager(t)
	cmd, stderr := m.supervised("server", "-c", filepath.Join(dir, "server.yaml"))
	m.expect("READY=1", 20*time.Second)
	conn, err := net.Dial("tcp", addr)
	if err != nil {
		t.Errorf("it said that it is ready, and does not listen: %v", err)
	} else {
		_ = conn.Close()
	}
	m.expect("STATUS=leading", 20*time.Second)
	m.expect("WATCHDOG=1", 5*time.Second)
	m.freeze(cmd)
	m.stopOf(cmd)
	most := regexp.MustCompile(`at_most=(\S+)`).FindStringSubmatch(stderr.String())
	if most == nil {
		t.Fatalf("no deadline in the log:\n%s", stderr)
	}
	if a, b := duration(t, most[1]), stopLimit(t, unitOf(t, "server")); a >= b {
		t.Errorf("its components may take %s to stop, and systemd kills it after %s", a, b)
	}
}

// A machine that goes down is held up by the agent until its VMs have been moved away,
// or have had their time, and the guests are not ended before.
func TestAgentHoldsShutdown(t *testing.T) {
	unit := unitOf(t, "agent")
	if a, b := session.StopTimeout, stopLimit(t, unit); a >= b {
		t.Errorf("its stop may take %s, and systemd kills it after %s unless it asks for more", a, b)
	}
	// What is started after others is stopped before them. libvirt puts its guests before
	// this target, as libvirt-guests needs it; a stop has an order only among units that run.
	for directive, others := range map[string][]string{
		"Wants": {"virt-guest-shutdown.target"},
		"After": {"virt-guest-shutdown.target", "libvirt-guests.service", "libvirtd.service", "virtqemud.service"},
	} {
		var has []string
		for _, m := range regexp.MustCompile(`(?m)^`+directive+`=(.*)$`).FindAllStringSubmatch(unit, -1) {
			has = append(has, strings.Fields(m[1])...)
		}
		for _, other := range others {
			if !slices.Contains(has, other) {
				t.Errorf("%s= of the agent does not name %s: %v", directive, other, has)
			}
		}
	}
}

func unitOf(t *testing.T, of string) string {
	t.Helper()
	unit, err := os.ReadFile("../../deploy/systemd/lifeboat-" + of + ".service")
	if err != nil {
		t.Fatal(err)
	}
	return string(unit)
}

// stopLimit is after how long systemd kills a unit that does not stop.
func stopLimit(t *testing.T, unit string) time.Duration {
	t.Helper()
	limit := regexp.MustCompile(`(?m)^TimeoutStopSec=(\d+)$`).FindStringSubmatch(unit)
	if limit == nil {
		t.Fatal("the unit has no TimeoutStopSec in seconds")
	}
	return duration(t, limit[1]+"s")
}

func duration(t *testing.T, s string) time.Duration {
	t.Helper()
	d, err := time.ParseDuration(s)
	if err != nil {
		t.Fatal(err)
	}
	return d
}

// freeze stops the process for a while, as a hang would, and lets it go on.
func (m *manager) freeze(cmd *exec.Cmd) {
	m.t.Helper()
	if err := cmd.Process.Signal(syscall.SIGSTOP); err != nil {
		m.t.Fatal(err)
	}
	for { // what was said before
		if _, more := m.hear(300 * time.Millisecond); !more {
			break
		}
	}
	if text, ok := m.hear(2 * time.Second); ok {
		m.t.Errorf("frozen, it said %q", text)
	}
	if err := cmd.Process.Signal(syscall.SIGCONT); err != nil {
		m.t.Fatal(err)
	}
	m.expect("WATCHDOG=1", 5*time.Second)
}

func (m *manager) stopOf(cmd *exec.Cmd) {
	m.t.Helper()
	if err := cmd.Process.Signal(syscall.SIGTERM); err != nil {
		m.t.Fatal(err)
	}
	m.expect("STOPPING=1", 5*time.Second)
	if err := cmd.Wait(); err != nil {
		m.t.Errorf("it ended with %v", err)
	}
	if text, ok := m.hear(50 * time.Millisecond); ok && strings.Contains(text, "WATCHDOG") {
		m.t.Errorf("stopped, it said %q", text)
	}
}

func TestAgentTellsSystemd(t *testing.T) {
	dir := t.TempDir()
	issue(t, dir, transport.Identity{Kind: transport.KindHost, Name: "h1"})
	put(t, dir, map[string]string{
		"id": "0123456789abcdef\n",
		"agent.yaml": fmt.Sprintf("host_id: h1\nmanagers: [%q]\ncert: host-h1.crt\nkey: host-h1.key\nca: ca.crt\nhypervisor: \"mem:\"\nstate_dir: state\nrun_dir: run\nboot_id_file: id\nmachine_id_file: id\n",
			freePort(t)),
	})
	m := newManager(t)
	cmd, _ := m.supervised("agent", "-c", filepath.Join(dir, "agent.yaml"))
	m.expect("READY=1", 20*time.Second)
	m.expect("STATUS=no manager answers", 5*time.Second)
	m.expect("WATCHDOG=1", 5*time.Second)
	m.freeze(cmd)
	m.stopOf(cmd)
}

// The units are ones that systemd understands, and what they take away from the
// processes stays taken away. Exposure is systemd's own count, 0 (none) to 10.
func TestUnits(t *testing.T) {
	analyze, err := exec.LookPath("systemd-analyze")
	if err != nil {
		t.Skip("there is no systemd-analyze here (apt install systemd)")
	}
	for unit, most := range map[string]string{"lifeboat-server.service": "20", "lifeboat-agent.service": "60"} {
		text, err := os.ReadFile(filepath.Join("../../deploy/systemd", unit))
		if err != nil {
			t.Fatal(err)
		}
		// The program is not installed, and neither is its manual.
		text = bytes.ReplaceAll(text, []byte("ExecStart=/usr/bin/lifeboat"), []byte("ExecStart=/bin/true"))
		copied := filepath.Join(t.TempDir(), unit)
		if err := os.WriteFile(copied, text, 0o644); err != nil {
			t.Fatal(err)
		}
		if out, err := exec.Command(analyze, "verify", "--man=no", copied).CombinedOutput(); err != nil || len(out) > 0 {
			t.Errorf("%s: %v\n%s", unit, err, out)
		}
		if out, err := exec.Command(analyze, "security", "--no-pager", "--offline=true", "--threshold="+most, copied).CombinedOutput(); err != nil {
			t.Errorf("%s: %v\n%s", unit, err, out)
		}
	}
}
