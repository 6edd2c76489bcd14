package docstest

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"
)

// debianPackages are what the document installs on a machine beside lifeboat. The
// test fetches them before, since its machines reach nobody.
func debianPackages() []string {
	return []string{"libvirt-daemon-system", "libvirt-clients", "qemu-system-x86", "qemu-utils", "ipmitool"}
}

// missing says what keeps the test from running here; "" if nothing does.
func missing() string {
	if os.Geteuid() != 0 {
		return "it needs root"
	}
	var says []string
	for _, need := range [][2]string{
		{"systemd-nspawn", "systemd-container"}, {"dpkg", "dpkg"}, {"apt-get", "apt"}, {"ip", "iproute2"}, {"nsenter", "util-linux"},
		{"ipmi_sim", "openipmi"}, {"qemu-system-x86_64", "qemu-system-x86"}, {"libvirtd", "libvirt-daemon"},
	} {
		if _, err := exec.LookPath(need[0]); err != nil {
			says = append(says, fmt.Sprintf("there is no %s (apt install %s)", need[0], need[1]))
		}
	}
	return strings.Join(says, "; ")
}

// fetch brings the Debian packages that are not installed here into a directory
// that is kept between runs.
func fetch(ctx context.Context) (string, error) {
	cache, err := os.UserCacheDir()
	if err != nil {
		cache = "/var/cache"
	}
	dir := filepath.Join(cache, "lifeboat-docs")
	if err := os.MkdirAll(filepath.Join(dir, "partial"), 0o755); err != nil {
		return "", fmt.Errorf("make package cache: %w", err)
	}
	args := append([]string{"-qq", "-y", "--no-install-recommends", "--download-only", "-o", "Dir::Cache::archives=" + dir,
		"-o", "APT::Sandbox::User=root", "install"}, debianPackages()...)
	if _, err := tool(ctx, "apt-get", args...); err == nil {
		return dir, nil
	}
	if _, err := tool(ctx, "apt-get", "-qq", "update"); err != nil {
		return "", fmt.Errorf("fetch Debian packages: %w", err)
	}
	if _, err := tool(ctx, "apt-get", args...); err != nil {
		return "", fmt.Errorf("fetch Debian packages: %w", err)
	}
	return dir, nil
}

// makePackage makes the deb of this tree, unless LIFEBOAT_DEB names one.
func makePackage(ctx context.Context) (string, error) {
	if deb := os.Getenv("LIFEBOAT_DEB"); deb != "" {
		return deb, nil
	}
	cmd := exec.CommandContext(ctx, "../../deploy/packages/build.sh")
	cmd.Env = append(os.Environ(), "ARCHS="+runtime.GOARCH)
	if out, err := cmd.CombinedOutput(); err != nil {
		return "", fmt.Errorf("make the package: %w: %s", err, out)
	}
	debs, err := filepath.Glob("../../dist/lifeboat_*.deb")
	if err != nil || len(debs) != 1 {
		return "", fmt.Errorf("make the package: want one deb in dist, got %d", len(debs))
	}
	return filepath.Abs(debs[0])
}

// inRoom runs this program again as the first process of namespaces of its own:
// whatever it starts ends with it.
func inRoom(args ...string) error {
	sweep()
	room, err := os.MkdirTemp("", roomPrefix)
	if err != nil {
		return fmt.Errorf("make room: %w", err)
	}
	lock, ok := lockRoom(room)
	if !ok {
		return fmt.Errorf("make room: %s cannot be locked", room)
	}
	defer lock.Close()
	runtime.LockOSThread() // it is this thread whose end kills what is started now
	defer runtime.UnlockOSThread()
	cmd := exec.Command("/proc/self/exe", args...)
	cmd.Env = append(os.Environ(), roomEnv+"="+room)
	cmd.Stdout, cmd.Stderr = os.Stdout, os.Stderr
	cmd.SysProcAttr = &syscall.SysProcAttr{
		Cloneflags: unix.CLONE_NEWPID | unix.CLONE_NEWNS | unix.CLONE_NEWNET | unix.CLONE_NEWUTS | unix.CLONE_NEWIPC,
		Pdeathsig:  syscall.SIGKILL,
	}
	err = cmd.Run()
	return errors.Join(err, os.Remove(room), removeCgroups(filepath.Base(room)))
}

const roomPrefix = "lifeboat-docs-"

// lockRoom says that the room is in use, for as long as this process lives.
func lockRoom(room string) (*os.File, bool) {
	f, err := os.Open(room)
	if err != nil {
		return nil, false
	}
	if err := unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB); err != nil {
		f.Close()
		return nil, false
	}
	return f, true
}

// sweep removes what a test that was killed could not: an empty directory, and
// cgroups without processes.
func sweep() {
	rooms, _ := filepath.Glob(filepath.Join(os.TempDir(), roomPrefix+"*"))
	for _, room := range rooms {
		if lock, ok := lockRoom(room); ok {
			_ = removeCgroups(filepath.Base(room)) // the next run tries again
			_ = os.Remove(room)
			lock.Close()
		}
	}
}

// cgroupRoots are the hierarchies in which systemd keeps its services.
func cgroupRoots() []string {
	var roots []string
	for _, dir := range []string{"/sys/fs/cgroup", "/sys/fs/cgroup/unified", "/sys/fs/cgroup/systemd"} {
		if _, err := os.Stat(filepath.Join(dir, "cgroup.procs")); err == nil {
			roots = append(roots, dir)
		}
	}
	return roots
}

// ownCgroup makes a cgroup of that name and returns the files by which a process
// goes into it. Each machine has one: what two systemds call lifeboat-server.service
// is not the same.
func ownCgroup(name string) ([]string, error) {
	var files []string
	for _, root := range cgroupRoots() {
		dir := filepath.Join(root, name)
		if err := os.MkdirAll(dir, 0o755); err != nil {
			return nil, fmt.Errorf("make cgroup: %w", err)
		}
		files = append(files, filepath.Join(dir, "cgroup.procs"))
	}
	return files, nil
}

// removeCgroups removes what is left of the machines' cgroups; nothing is in them
// any more.
func removeCgroups(name string) error {
	var errs []error
	for _, root := range cgroupRoots() {
		var dirs []string
		_ = filepath.WalkDir(filepath.Join(root, name), func(path string, d os.DirEntry, err error) error {
			if err == nil && d.IsDir() {
				dirs = append(dirs, path)
			}
			return nil
		})
		for _, dir := range slices.Backward(dirs) {
			errs = append(errs, os.Remove(dir))
		}
	}
	return errors.Join(errs...)
}

const roomEnv = "LIFEBOAT_DOCS_ROOM"

// openRoom makes the directory that holds everything, in memory, and the network.
func openRoom(ctx context.Context) (string, error) {
	if os.Getpid() != 1 {
		return "", errors.New("open room: not the first process of a PID namespace")
	}
	if err := unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, ""); err != nil {
		return "", fmt.Errorf("make mounts private: %w", err)
	}
	if err := unix.Mount("proc", "/proc", "proc", 0, ""); err != nil {
		return "", fmt.Errorf("mount proc: %w", err)
	}
	room := os.Getenv(roomEnv)
	if err := unix.Mount("tmpfs", room, "tmpfs", 0, "mode=755,size=6g"); err != nil {
		return "", fmt.Errorf("mount room: %w", err)
	}
	if err := os.MkdirAll("/run/netns", 0o755); err != nil {
		return "", fmt.Errorf("make room: %w", err)
	}
	if err := unix.Mount("tmpfs", "/run/netns", "tmpfs", 0, "mode=755"); err != nil {
		return "", fmt.Errorf("mount namespaces: %w", err)
	}
	for _, d := range []string{"shared", "machines", "bmc"} {
		if err := os.Mkdir(filepath.Join(room, d), 0o755); err != nil {
			return "", fmt.Errorf("make room: %w", err)
		}
	}
	return room, script(ctx, "ip link set lo up", "ip link add br0 type bridge", "ip link set br0 up", "ip addr add 10.0.0.254/24 dev br0")
}

// script runs commands, each of them words without quotes, until one fails.
func script(ctx context.Context, lines ...string) error {
	for _, line := range lines {
		words := strings.Fields(line)
		if _, err := tool(ctx, words[0], words[1:]...); err != nil {
			return err
		}
	}
	return nil
}

// tool runs a program and returns what it printed.
func tool(ctx context.Context, name string, args ...string) (string, error) {
	cmd := exec.CommandContext(ctx, name, args...)
	cmd.Env = append(os.Environ(), "DEBIAN_FRONTEND=noninteractive", "LC_ALL=C")
	out, err := cmd.CombinedOutput()
	if err != nil {
		return string(out), fmt.Errorf("run %s %s: %w: %s", name, strings.Join(args, " "), err, strings.TrimSpace(string(out)))
	}
	return string(out), nil
}
