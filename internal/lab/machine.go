package lab

import (
	"bufio"
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
)

// host is a hypervisor machine. Its directory and addresses outlive power loss;
// everything else is in life, which one power cycle owns.
type host struct {
	n        int
	name     string
	dir      string
	port     *port
	managers []*manager // on the same machine
	bmc      bmc

	powered atomic.Bool // what the BMC reports; readable while mu is held

	mu   sync.Mutex // one power operation at a time
	life *life      // nil: off
}

// life is one power cycle of a host.
type life struct {
	init     *child
	pidns    string // identity of the PID namespace, for listing its processes
	bootID   string
	watchdog *child
	libvirtd *child
}

func (v *life) pid() int { return v.init.cmd.Process.Pid }

type manager struct {
	n     int
	name  string
	dir   string
	ports []*port // data, BMC
	host  *host   // whose machine it is on; nil: its own
}

// cables are the ports that lose power with the host.
func (h *host) cables() []*port {
	ports := []*port{h.port}
	for _, m := range h.managers {
		ports = append(ports, m.ports...)
	}
	return ports
}

// dataCables are those of them that "the network of this machine" means.
func (h *host) dataCables() []*port {
	ports := []*port{h.port}
	for _, m := range h.managers {
		ports = append(ports, m.ports[0])
	}
	return ports
}

func (l *Lab) host(n int) (*host, error) {
	if n < 1 || n > len(l.hosts) {
		return nil, fmt.Errorf("there is no host %d; the lab has %d", n, len(l.hosts))
	}
	return l.hosts[n-1], nil
}

func (l *Lab) manager(n int) (*manager, error) {
	if n < 1 || n > len(l.mgrs) {
		return nil, fmt.Errorf("there is no manager %d; the lab has %d", n, len(l.mgrs))
	}
	return l.mgrs[n-1], nil
}

// HostAddr is the host's IP address on the data network, "" for no such host.
func (l *Lab) HostAddr(n int) string {
	h, err := l.host(n)
	if err != nil {
		return ""
	}
	return h.port.ip
}

// ManagerAddr is the manager's IP address on the data network, "" for no such manager.
func (l *Lab) ManagerAddr(n int) string {
	m, err := l.manager(n)
	if err != nil {
		return ""
	}
	return m.ports[0].ip
}

// ManagerNetns is the name of the manager's network namespace (as in "ip netns
// exec NAME"), "" for no such manager. It has one address on the data network
// and one on the BMCs'.
func (l *Lab) ManagerNetns(n int) string {
	m, err := l.manager(n)
	if err != nil {
		return ""
	}
	return m.ports[0].netns
}

// HostDir is a directory that belongs to the host and survives its reboots,
// under the same path inside and outside.
func (l *Lab) HostDir(n int) string { return filepath.Join(l.opts.Dir, fmt.Sprintf("h%d", n), "data") }

// ManagerDir is the manager's directory, under the same path everywhere.
func (l *Lab) ManagerDir(n int) string { return filepath.Join(l.opts.Dir, fmt.Sprintf("m%d", n)) }

// Powered says whether the host has power. It does not block.
func (l *Lab) Powered(n int) bool {
	h, err := l.host(n)
	return err == nil && h.powered.Load()
}

// BootID is the id of the host's current boot, the same as in its
// /run/lifeboat/boot_id; "" while it is off. New on every power on.
func (l *Lab) BootID(n int) string {
	if v := l.lifeOf(n); v != nil {
		return v.bootID
	}
	return ""
}

// HostRoot is the host's file system seen from outside; "" while it is off.
func (l *Lab) HostRoot(n int) string {
	if v := l.lifeOf(n); v != nil {
		return fmt.Sprintf("/proc/%d/root", v.pid())
	}
	return ""
}

// HostPIDs lists the processes of the host, seen from outside.
func (l *Lab) HostPIDs(n int) []int {
	if v := l.lifeOf(n); v != nil {
		return livePIDs("pid", v.pidns)
	}
	return nil
}

func (l *Lab) lifeOf(n int) *life {
	h, err := l.host(n)
	if err != nil {
		return nil
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.life
}

// mountPoints lists this process's mount points, oldest first.
func mountPoints() ([]string, error) {
	raw, err := os.ReadFile("/proc/self/mountinfo")
	if err != nil {
		return nil, fmt.Errorf("list mounts: %w", err)
	}
	var points []string
	for lines := bufio.NewScanner(bytes.NewReader(raw)); lines.Scan(); {
		if f := strings.Fields(lines.Text()); len(f) > 4 {
			points = append(points, f[4])
		}
	}
	return points, nil
}

// under says whether path is dir or below it.
func under(path, dir string) bool { return path == dir || strings.HasPrefix(path, dir+"/") }
