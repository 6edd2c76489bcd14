package lab

import (
	"crypto/sha256"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"
)

// hostDirs are the host's own directories: where they appear → where they are
// below the host's directory. They survive reboots, as a disk does.
var hostDirs = map[string]string{
	"/etc/libvirt":       "etc",
	"/var/lib/libvirt":   "lib",
	"/var/log/libvirt":   "log",
	"/var/cache/libvirt": "cache",
	"/var/lib/lifeboat":  "lifeboat", // an agent with its default settings must not share state with its neighbours
}

// hostFiles are the host's own files in /etc.
var hostFiles = []string{"hosts", "passwd", "group", "machine-id"}

const libvirtdPort = 16509

// writeHostFiles lays out a host's disk: once, except for what a boot rewrites.
func (l *Lab) writeHostFiles(h *host) error {
	// The mount points must exist on the real machine; packages bring them.
	for target, source := range hostDirs {
		for _, d := range []string{target, filepath.Join(h.dir, source)} {
			if err := os.MkdirAll(d, 0o755); err != nil {
				return fmt.Errorf("make host directory: %w", err)
			}
		}
	}
	for _, d := range []string{"files", "data", "bmc", "log/qemu"} {
		if err := os.MkdirAll(filepath.Join(h.dir, d), 0o755); err != nil {
			return fmt.Errorf("make host directory: %w", err)
		}
	}
	passwd, err := accounts("/etc/passwd", map[string]string{
		"libvirt-qemu": "libvirt-qemu:x:64055:64055:Libvirt Qemu:/var/lib/libvirt:/usr/sbin/nologin",
	})
	if err != nil {
		return err
	}
	group, err := accounts("/etc/group", map[string]string{
		"libvirt-qemu": "libvirt-qemu:x:64055:", "kvm": "kvm:x:64056:", "libvirt": "libvirt:x:64057:",
	})
	if err != nil {
		return err
	}
	var hosts strings.Builder
	hosts.WriteString("127.0.0.1 localhost\n")
	for _, o := range l.hosts {
		fmt.Fprintf(&hosts, "%s %s\n", o.port.ip, o.name)
	}
	for _, m := range l.mgrs {
		fmt.Fprintf(&hosts, "%s %s\n", m.ports[0].ip, m.name)
	}
	for name, text := range map[string]string{
		"files/passwd": passwd, "files/group": group, "files/hosts": hosts.String(),
		"files/machine-id":  strings.ReplaceAll(l.uuid(h.name+" machine"), "-", "") + "\n",
		"etc/libvirtd.conf": l.libvirtdConf(h), "etc/qemu.conf": l.qemuConf(h), "etc/libvirt.conf": "",
	} {
		if err := writeFile(filepath.Join(h.dir, name), text); err != nil {
			return err
		}
	}
	return nil
}

// accounts adds entries that libvirtd looks up before it reads its own
// configuration. The package libvirt-daemon-system would make them for the
// whole machine; a host's private copy does as well.
func accounts(path string, add map[string]string) (string, error) {
	raw, err := os.ReadFile(path)
	if err != nil {
		return "", fmt.Errorf("read accounts: %w", err)
	}
	var out strings.Builder
	for line := range strings.Lines(string(raw)) {
		name, _, _ := strings.Cut(line, ":")
		if _, replaced := add[name]; !replaced {
			out.WriteString(line)
		}
	}
	for _, line := range add {
		out.WriteString(line + "\n")
	}
	return out.String(), nil
}

func (l *Lab) libvirtdConf(h *host) string {
	return fmt.Sprintf(`listen_tls = 0
listen_tcp = 1
listen_addr = "%s"
tcp_port = "%d"
auth_tcp = "none"
auth_unix_ro = "none"
auth_unix_rw = "none"
unix_sock_rw_perms = "0700"
host_uuid = "%s"
log_outputs = "2:file:/var/log/libvirt/libvirtd.log"
max_client_requests = 20
`, h.port.ip, libvirtdPort, l.uuid(h.name+" host"))
}

// qemuConf switches off what needs systemd, cgroup delegation or a security
// module: the host's namespaces stand in for all of them.
func (l *Lab) qemuConf(h *host) string {
	return fmt.Sprintf(`user = "root"
group = "root"
dynamic_ownership = 0
remember_owner = 0
security_driver = "none"
security_default_confined = 0
cgroup_controllers = [ ]
namespaces = [ ]
seccomp_sandbox = 0
max_core = 0
stdio_handler = "file"
migration_host = "%[1]s"
migration_address = "%[1]s"
`, h.port.ip)
}

// uuid is stable for a prefix and a name, and differs between labs.
func (l *Lab) uuid(name string) string { return nameUUID(l.opts.Prefix + "/" + name) }

// nameUUID derives a well-formed UUID from a name.
func nameUUID(name string) string {
	sum := sha256.Sum256([]byte("lifeboat lab " + name))
	b := [16]byte(sum[:16])
	b[6], b[8] = b[6]&0x0f|0x50, b[8]&0x3f|0x80
	return formatUUID(b)
}

func lastLine(text []byte) string {
	lines := strings.Split(strings.TrimSpace(string(text)), "\n")
	return lines[len(lines)-1]
}

// pollEvery is how often the lab looks for something it cannot wait on.
const pollEvery = 10 * time.Millisecond
