package configfile

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"lifeboat/agent"
	"lifeboat/node"
	"lifeboat/transport"
)

const (
	// soon is how long before its end a certificate is worth a warning.
	soon = 14 * 24 * time.Hour
	// A log of a week and some snapshots fit into plenty; below scarce the next
	// snapshot may be what fills the disk.
	plenty, scarce = 2 << 30, 256 << 20
	// resolveWithin bounds the look-up of all names together.
	resolveWithin = 4 * time.Second
)

// serverMachine checks what the configuration of a server names.
func (c *checker) serverMachine(cfg node.Config) {
	c.credentials(transport.Files{Cert: cfg.Cert, Key: cfg.Key, CA: cfg.CA}, transport.KindNode, cfg.ID, "id")
	if cfg.SecretKey != "" && c.readable("secret_key", cfg.SecretKey, "make one with 'lifeboat ca secret-key' and give every node the same") {
		if err := node.CheckSecretKey(cfg.SecretKey); err != nil {
			c.wrong("secret_key", "make one with 'lifeboat ca secret-key' and give every node the same", "%v", err)
		}
		c.private("secret_key", cfg.SecretKey)
	}
	if cfg.DataDir != "" {
		c.storage("data_dir", cfg.DataDir)
	}
	if cfg.Snapshots.Every > 0 && cfg.Snapshots.Dir != filepath.Join(cfg.DataDir, "backups") {
		c.writable("snapshots.dir", cfg.Snapshots.Dir)
	}
	c.local("listen", cfg.Listen)
	c.local("http_listen", cfg.HTTPListen)
	names := []named{{"advertise", cfg.Advertise}}
	for _, id := range slices.Sorted(maps.Keys(cfg.InitialCluster)) {
		names = append(names, named{"initial_cluster." + id, cfg.InitialCluster[id]})
	}
	for _, id := range slices.Sorted(maps.Keys(cfg.Join)) {
		names = append(names, named{"join." + id, cfg.Join[id]})
	}
	c.resolve(names)
}

// agentMachine checks what the configuration of an agent names.
func (c *checker) agentMachine(f agent.File) {
	c.credentials(f.Files(), transport.KindHost, f.HostID, "host_id")
	c.writable("state_dir", f.StateDir)
	c.writable("run_dir", f.RunDir)
	if kind, ok := filesystem(f.RunDir); ok && kind != "tmpfs" {
		c.warn("run_dir", "name a directory on a tmpfs, such as "+agent.DefaultRunDir, "it is on %s: a lease there would survive a reboot", kind)
	}
	for _, id := range []struct{ key, path string }{{"boot_id_file", f.BootIDFile}, {"machine_id_file", f.MachineIDFile}, {"hardware_id_file", f.HardwareIDFile}} {
		if id.path != "" {
			c.readable(id.key, id.path, "leave the key out, except in a namespace")
		}
	}
	for _, shared := range []struct {
		key  string
		dirs []string
	}{{"shared_dirs", f.SharedDirs}, {"heartbeat_dirs", f.HeartbeatDirs}} {
		for i, d := range shared.dirs {
			if info, err := os.Stat(d); err != nil || !info.IsDir() {
				c.warn(fmt.Sprintf("%s[%d]", shared.key, i), "mount it, or correct the path", "%s is no directory on this host now", d)
			}
		}
	}
	c.watchdog(f)
	if socket, ok := libvirtSocket(f.Hypervisor); ok && socket == "" {
		c.warn("hypervisor", "start libvirtd or virtqemud", "no libvirt answers %s on this host now", f.Hypervisor)
	}
	var names []named
	for i, m := range f.Managers {
		names = append(names, named{fmt.Sprintf("managers[%d]", i), m})
	}
	for i, p := range f.ProbeAddrs {
		names = append(names, named{fmt.Sprintf("probe_addrs[%d]", i), p})
	}
	c.resolve(names)
}

// watchdog looks whether the device is there. It does not open it: that would
// start it.
func (c *checker) watchdog(f agent.File) {
	if f.Watchdog.Kind != agent.WatchdogHardware {
		return
	}
	device := f.Watchdog.Device
	if device == "" {
		device = agent.DefaultWatchdogDevice
	}
	if info, err := os.Stat(device); err != nil || info.Mode()&fs.ModeCharDevice == 0 {
		c.wrong("watchdog.device", "load the module of this machine's watchdog, or use kind external", "%s is no device on this host: its lease could not be armed", device)
	}
}

// libvirtSocket is where libvirt listens for a URI; ok only for those of the
// system's qemu.
func libvirtSocket(uri string) (socket string, ok bool) {
	if uri != "qemu:///system" {
		return "", false
	}
	for _, s := range []string{"/run/libvirt/virtqemud-sock", "/run/libvirt/libvirt-sock"} {
		if _, err := os.Stat(s); err == nil {
			return s, true
		}
	}
	return "", true
}

// credentials checks certificate, key and CA as the process itself will.
func (c *checker) credentials(files transport.Files, kind transport.Kind, name, nameKey string) {
	all := true
	for _, f := range []struct{ key, path string }{{"cert", files.Cert}, {"key", files.Key}, {"ca", files.CA}} {
		do := fmt.Sprintf("make it with 'lifeboat ca issue %s %s', or correct the path", kind, name)
		if f.key == "ca" {
			do = "copy the ca.crt that 'lifeboat ca init' made, or correct the path"
		}
		all = f.path != "" && c.readable(f.key, f.path, do) && all
	}
	if !all {
		return
	}
	c.private("key", files.Key)
	creds, err := transport.LoadCredentials(files, nil)
	if err != nil {
		problem, do := split(err.Error())
		c.wrong("cert", do, "%s", problem)
		return
	}
	want := transport.Identity{Kind: kind, Name: name}
	if got := creds.Identity(); got != want && !c.has(nameKey) {
		c.wrong("cert", fmt.Sprintf("correct %s, or make a certificate with 'lifeboat ca issue %s %s'", nameKey, kind, name), "it is for %s, this is %s", got, want)
	}
	if left := time.Until(creds.Expires()); left < soon {
		c.warn("cert", fmt.Sprintf("renew it with 'lifeboat ca issue %s %s --replace'", kind, name), "it expires in %d days, on %s", int(left.Hours()/24), creds.Expires().UTC().Format(time.RFC3339))
	}
}

// readable reports whether the file is there and the process may read it.
func (c *checker) readable(key, path, do string) bool {
	info, err := os.Stat(path)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		c.wrong(key, do, "%s is not there", path)
	case err != nil:
		c.wrong(key, do, "%v", err)
	case info.IsDir():
		c.wrong(key, "name the file in it", "%s is a directory", path)
	default:
		why := c.user.reach(mayRead, path)
		if why == "" {
			return true
		}
		c.wrong(key, fmt.Sprintf("chown %s %s, and let it enter the directories above", c.user.name, path), "%s", why)
	}
	return false
}

// private warns about a secret that others can read.
func (c *checker) private(key, path string) {
	if info, err := os.Stat(path); err == nil && info.Mode().Perm()&0o077 != 0 {
		c.warn(key, "chmod 600 "+path, "other users can read this secret (mode %s)", info.Mode().Perm())
	}
}

// writable reports whether the process may write to a directory, or may make it.
func (c *checker) writable(key, dir string) bool {
	at := existing(dir)
	info, err := os.Stat(at)
	switch {
	case err != nil:
		c.wrong(key, "", "%v", err)
	case !info.IsDir():
		c.wrong(key, "name a directory", "%s is none", at)
	default:
		why := c.user.reach(mayWrite|mayEnter, at)
		if why == "" {
			if unix.Access(at, unix.W_OK) == unix.EROFS {
				c.wrong(key, "name a directory that can be written to", "%s is on a file system that is mounted read-only", at)
				return false
			}
			return true
		}
		if at != dir {
			why = fmt.Sprintf("%s is not there, and %s", dir, why)
		}
		c.wrong(key, fmt.Sprintf("run: install -d -m 700 -o %s %s", c.user.name, dir), "%s", why)
	}
	return false
}

// existing is the directory itself or the nearest one above that is there.
func existing(dir string) string {
	for {
		if _, err := os.Stat(dir); !errors.Is(err, fs.ErrNotExist) || dir == filepath.Dir(dir) {
			return dir
		}
		dir = filepath.Dir(dir)
	}
}

// storage checks where Raft's log will be.
func (c *checker) storage(key, dir string) {
	if !c.writable(key, dir) {
		return
	}
	kind, ok := filesystem(dir)
	switch {
	case !ok:
	case slices.Contains([]string{"tmpfs", "ramfs"}, kind):
		c.warn(key, "name a directory on a disk", "it is on %s: after a reboot this node has forgotten what it voted for", kind)
	case slices.Contains([]string{"nfs", "cifs", "smb2", "9p", "fuse", "ceph"}, kind):
		c.warn(key, "name a directory on a local disk", "it is on %s: every commit waits for that network, and the node dies with it", kind)
	}
	var st unix.Statfs_t
	if err := unix.Statfs(existing(dir), &st); err != nil {
		c.warn(key, "", "how much space is free is not known: %v", err)
		return
	}
	switch free := st.Bavail * uint64(st.Bsize); {
	case free < scarce:
		c.wrong(key, "make space: the node stops when the disk is full", "only %d MiB are free there", free>>20)
	case free < plenty:
		c.warn(key, "have 2 GiB or more: log, snapshots and backups go there", "only %d MiB are free there", free>>20)
	}
}

// filesystem names the kind of file system below a directory, as far as it matters
// here.
func filesystem(dir string) (kind string, ok bool) {
	var st unix.Statfs_t
	if err := unix.Statfs(existing(dir), &st); err != nil {
		return "", false
	}
	names := map[int64]string{
		unix.TMPFS_MAGIC: "tmpfs", unix.RAMFS_MAGIC: "ramfs", unix.NFS_SUPER_MAGIC: "nfs", unix.V9FS_MAGIC: "9p", unix.FUSE_SUPER_MAGIC: "fuse",
		unix.EXT4_SUPER_MAGIC: "ext4", unix.XFS_SUPER_MAGIC: "xfs", unix.BTRFS_SUPER_MAGIC: "btrfs", unix.OVERLAYFS_SUPER_MAGIC: "overlay",
		0xff534d42: "cifs", 0xfe534d42: "smb2", 0x00c36400: "ceph",
	}
	if name, known := names[int64(st.Type)]; known {
		return name, true
	}
	return fmt.Sprintf("file system %#x", st.Type), true
}

// local checks that an address to listen on is one of this machine's.
func (c *checker) local(key, addr string) {
	host, _, err := net.SplitHostPort(addr)
	if err != nil || host == "" || c.has(key) {
		return
	}
	// Any port: the right one is taken while the server runs.
	l, err := (&net.ListenConfig{}).Listen(c.ctx, "tcp", net.JoinHostPort(host, "0"))
	if err != nil {
		c.wrong(key, "name one of this machine's addresses (ip address), or 0.0.0.0 for all", "%s cannot be listened on here: %v", host, err)
		return
	}
	_ = l.Close()
}

// named is an address that a key gives.
type named struct{ key, addr string }

// resolve looks host names up, all at once.
func (c *checker) resolve(list []named) {
	ctx, cancel := context.WithTimeout(c.ctx, resolveWithin)
	defer cancel()
	type answer struct {
		named
		host string
		err  error
	}
	answers, asked := make(chan answer, len(list)), 0
	for _, n := range list {
		host, _, err := net.SplitHostPort(n.addr)
		if err != nil || host == "" || net.ParseIP(strings.SplitN(host, "%", 2)[0]) != nil {
			continue
		}
		asked++
		go func() {
			_, err := net.DefaultResolver.LookupHost(ctx, host)
			answers <- answer{n, host, err}
		}()
	}
	var failed []answer
	for range asked {
		if a := <-answers; a.err != nil {
			failed = append(failed, a)
		}
	}
	slices.SortFunc(failed, func(a, b answer) int { return strings.Compare(a.key, b.key) })
	for _, a := range failed {
		c.wrong(a.key, "correct the name, add it to /etc/hosts, or write the IP address: no name service can fail then", "%s cannot be resolved: %v", a.host, a.err)
	}
}
