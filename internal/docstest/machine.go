package docstest

import (
	"bytes"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// machine is a computer with a disk, a power cord and a network cable.
type machine struct {
	name, addr string
	dir, root  string // of its files; root is its disk
	shared     string // what it sees as /srv/vms; "": nothing
	cgroup     []string

	mu     sync.Mutex
	nspawn *exec.Cmd     // nil: off
	ended  chan struct{} // closed when nspawn has ended
	leader int           // its first process
}

// errNoMachines: what is needed is installed, but no machine can be made here.
var errNoMachines = errors.New("no systemd boots in a container here")

// newMachine makes a copy of this machine that nobody has set up, and plugs it in.
func newMachine(ctx context.Context, room, name, addr string) (*machine, error) {
	m := &machine{name: name, addr: addr, dir: filepath.Join(room, "machines", name)}
	m.root = filepath.Join(m.dir, "root")
	for _, d := range []string{"root", "up", "work", "home"} {
		if err := os.MkdirAll(filepath.Join(m.dir, d), 0o755); err != nil {
			return nil, fmt.Errorf("make machine %s: %w", name, err)
		}
	}
	options := fmt.Sprintf("lowerdir=/,upperdir=%s/up,workdir=%s/work", m.dir, m.dir)
	if err := unix.Mount("overlay", m.root, "overlay", 0, options); err != nil {
		return nil, fmt.Errorf("%w: make the disk of %s, an overlay file system: %w", errNoMachines, name, err)
	}
	var err error
	if m.cgroup, err = ownCgroup(filepath.Join(filepath.Base(room), name)); err != nil {
		return nil, err
	}
	return m, errors.Join(m.clean(), script(ctx,
		"ip netns add "+name,
		fmt.Sprintf("ip link add c-%s type veth peer name eth0 netns %s", name, name),
		fmt.Sprintf("ip link set c-%s master br0 up", name),
		fmt.Sprintf("ip -n %s addr add %s/24 dev eth0", name, addr),
		fmt.Sprintf("ip -n %s link set eth0 up", name),
		fmt.Sprintf("ip -n %s link set lo up", name),
		fmt.Sprintf("ip -n %s route add default via 10.0.0.254", name)))
}

// clean takes away what this machine is set up for, and gives it a name.
func (m *machine) clean() error {
	for _, pattern := range []string{"etc/systemd/system/*.wants", "etc/systemd/system/lifeboat*", "etc/lifeboat", "var/lib/lifeboat", "etc/libvirt", "var/lib/libvirt", "etc/machine-id",
		"usr/sbin/policy-rc.d", "etc/init.d/openipmi", "etc/rc?.d/*openipmi"} {
		found, err := filepath.Glob(filepath.Join(m.root, pattern))
		if err != nil {
			return err
		}
		for _, path := range found {
			if err := os.RemoveAll(path); err != nil {
				return fmt.Errorf("clean machine %s: %w", m.name, err)
			}
		}
	}
	id := make([]byte, 16)
	_, _ = rand.Read(id) // never fails
	for path, text := range map[string]string{
		"etc/machine-id": fmt.Sprintf("%x\n", id),
		"etc/hostname":   m.name + "\n",
		"etc/hosts":      "127.0.0.1 localhost\n" + m.addr + " " + m.name + "\n",
		// What a container cannot do: libvirt puts no guest into a cgroup or a mount
		// namespace of its own.
		"etc/libvirt/qemu.conf": "cgroup_controllers = [ ]\nnamespaces = [ ]\nseccomp_sandbox = 0\nsecurity_driver = \"none\"\nremember_owner = 0\nuser = \"root\"\ngroup = \"root\"\n",
		// The sandbox of a unit mounts /proc anew, and shows the real machine's boot id there.
		"etc/tmpfiles.d/boot-id.conf":                              "C /run/boot-id - - - - /proc/sys/kernel/random/boot_id\n",
		"etc/systemd/system/lifeboat-agent.service.d/boot-id.conf": "[Service]\nBindReadOnlyPaths=/run/boot-id:/proc/sys/kernel/random/boot_id\n",
		"etc/dpkg/dpkg.cfg.d/keep":                                 "force-confold\nforce-unsafe-io\n",
	} {
		path = filepath.Join(m.root, path)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			return fmt.Errorf("clean machine %s: %w", m.name, err)
		}
		if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
			return fmt.Errorf("clean machine %s: %w", m.name, err)
		}
	}
	return nil
}

// boot turns the machine on; it returns when its systemd has come up, at most 60 s.
// A machine that is on stays on.
func (m *machine) boot(ctx context.Context) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.nspawn != nil {
		return nil
	}
	if err := script(ctx, fmt.Sprintf("ip link set c-%s up", m.name)); err != nil {
		return err
	}
	args := []string{"-q", "--boot", "--register=no", "--keep-unit", "--capability=all", "--resolv-conf=off", "--timezone=off", "--link-journal=no",
		"--machine=" + m.name, "--network-namespace-path=/run/netns/" + m.name, "-D", m.root, "--bind=" + m.dir + "/home:/root"}
	if m.shared != "" {
		args = append(args, "--bind="+m.shared+":/srv/vms")
	}
	// Into its own cgroup first; the name of the shell's file is $0.
	shell := `for f in $GROUPS_OF_IT; do echo $$ >$f; done; exec systemd-nspawn "$@"`
	cmd := exec.Command("sh", append([]string{"-c", shell, "boot"}, args...)...)
	cmd.Env = []string{"PATH=" + os.Getenv("PATH"), "GROUPS_OF_IT=" + strings.Join(m.cgroup, " ")}
	out, err := os.OpenFile(filepath.Join(m.dir, "console"), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o644)
	if err != nil {
		return fmt.Errorf("boot %s: %w", m.name, err)
	}
	defer out.Close()
	cmd.Stdout, cmd.Stderr = out, out
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	if err := cmd.Start(); err != nil {
		return fmt.Errorf("boot %s: %w", m.name, err)
	}
	ended := make(chan struct{})
	go func() { _ = cmd.Wait(); close(ended) }()
	m.nspawn, m.ended = cmd, ended
	ctx, cancel := context.WithTimeout(ctx, time.Minute)
	defer cancel()
	for {
		select {
		case <-ended:
			m.nspawn = nil
			return fmt.Errorf("boot %s: it ended: %s", m.name, m.console())
		case <-ctx.Done():
			return fmt.Errorf("boot %s: %w: %s", m.name, ctx.Err(), m.console())
		case <-time.After(100 * time.Millisecond):
		}
		if m.leader = firstProcess(cmd.Process.Pid); m.leader == 0 {
			continue
		}
		state, _, _ := m.runIn(ctx, m.leader, true, "systemctl is-system-running", nil)
		if s := strings.TrimSpace(state); s == "running" || s == "degraded" {
			return nil
		}
	}
}

// console is the end of what the machine has shown on its console.
func (m *machine) console() string {
	raw, _ := os.ReadFile(filepath.Join(m.dir, "console"))
	return strings.TrimSpace(string(raw[max(0, len(raw)-2000):]))
}

// firstProcess is the child of a nspawn that is the init of its PID namespace; 0
// when there is none yet.
func firstProcess(nspawn int) int {
	raw, err := os.ReadFile(fmt.Sprintf("/proc/%d/task/%d/children", nspawn, nspawn))
	if err != nil {
		return 0
	}
	own, _ := os.Readlink("/proc/self/ns/pid")
	for _, word := range strings.Fields(string(raw)) {
		if ns, err := os.Readlink("/proc/" + word + "/ns/pid"); err == nil && ns != own {
			var pid int
			if _, err := fmt.Sscan(word, &pid); err == nil {
				return pid
			}
		}
	}
	return 0
}

// cut takes the power away: first the cable is dead, then everything at once.
func (m *machine) cut(ctx context.Context) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.nspawn == nil {
		return nil
	}
	if err := script(ctx, fmt.Sprintf("ip link set c-%s down", m.name)); err != nil {
		return err
	}
	if m.leader != 0 {
		_ = syscall.Kill(m.leader, syscall.SIGKILL) // fails only when it has ended
	} else {
		_ = m.nspawn.Process.Kill()
	}
	<-m.ended
	m.nspawn, m.leader = nil, 0
	return nil
}

func (m *machine) on() bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.nspawn != nil
}

// run executes a command as somebody who is logged in there would, and returns
// what it printed, on both outputs, and its exit code.
func (m *machine) run(ctx context.Context, root bool, command string, env map[string]string) (string, int, error) {
	m.mu.Lock()
	leader := m.leader
	m.mu.Unlock()
	if leader == 0 {
		return "", 0, fmt.Errorf("%s is off", m.name)
	}
	return m.runIn(ctx, leader, root, command, env)
}

func (m *machine) runIn(ctx context.Context, leader int, root bool, command string, env map[string]string) (string, int, error) {
	args := []string{"-a", "-t", fmt.Sprint(leader), "env", "-i", "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "LANG=C.UTF-8", "DEBIAN_FRONTEND=noninteractive"}
	for name, value := range env {
		args = append(args, name+"="+value)
	}
	home, as := "/root", []string{}
	if !root {
		home, as = "/home/"+person, []string{"setpriv", "--reuid=" + person, "--regid=" + person, "--init-groups"}
	}
	args = append(append(append(args, "HOME="+home), as...), "bash", "-c", "cd ~ && "+command)
	cmd := exec.CommandContext(ctx, "nsenter", args...)
	var out bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &out
	// What it leaves in the background may keep its output open.
	cmd.WaitDelay = 2 * time.Second
	err := cmd.Run()
	var exit *exec.ExitError
	switch {
	case err == nil, errors.Is(err, exec.ErrWaitDelay):
		return out.String(), 0, nil
	case errors.As(err, &exit) && exit.ExitCode() >= 0:
		return out.String(), exit.ExitCode(), nil
	default:
		return out.String(), 0, fmt.Errorf("run a command on %s: %w", m.name, err)
	}
}

// person is the account of a user who is not root.
const person = "you"
