package lab

import (
	"errors"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"slices"

	"golang.org/x/sys/unix"
)

// Where a process inside a host finds what a real machine has elsewhere.
const (
	// BootIDFile holds the boot id, new on every power on.
	BootIDFile = "/run/lifeboat/boot_id"
	// WatchdogSocket is the stand-in for /dev/watchdog.
	WatchdogSocket = "/run/lifeboat/watchdog.sock"
	// markerFile names the PID namespace of the host, for [RebootSelf].
	markerFile = "/run/lifeboat/lab-host"
)

type initConfig struct {
	Name           string
	Dir            string // the host's directory, outside and inside
	BootID         string
	WatchdogSocket string // as seen from outside
	Loops          []int  // loop devices that exist
}

// hostInitMain is PID 1 of a host, already in its own namespaces. It builds the
// host's view of the file system and then reaps orphans until it is killed.
func hostInitMain() error {
	var c initConfig
	if err := helperConfig(&c); err != nil {
		return err
	}
	if os.Getpid() != 1 {
		return errors.New("start host: not PID 1 of a namespace; refusing to change the mounts of a real machine")
	}
	if err := buildHost(c); err != nil {
		return fmt.Errorf("start host %s: %w", c.Name, err)
	}
	signals := make(chan os.Signal, 64)
	signal.Notify(signals, unix.SIGCHLD)
	signal.Ignore(unix.SIGHUP, unix.SIGINT, unix.SIGTERM)
	sayReady()
	for {
		for {
			if pid, err := unix.Wait4(-1, nil, unix.WNOHANG, nil); pid <= 0 && !errors.Is(err, unix.EINTR) {
				break
			}
		}
		<-signals
	}
}

func buildHost(c initConfig) error {
	if err := unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, ""); err != nil {
		return fmt.Errorf("make mounts private: %w", err)
	}
	// The copies of other machines' namespace mounts would keep those machines' networks alive.
	points, err := mountPoints()
	if err != nil {
		return err
	}
	for _, p := range slices.Backward(points) {
		if under(p, "/run/netns") {
			_ = unix.Unmount(p, unix.MNT_DETACH) // a nested one may be gone with its parent
		}
	}
	if err := unix.Sethostname([]byte(c.Name)); err != nil {
		return fmt.Errorf("set host name: %w", err)
	}
	steps := []func(initConfig) error{mountRun, mountDev, mountProc, bindFiles}
	for _, step := range steps {
		if err := step(c); err != nil {
			return err
		}
	}
	return nil
}

func mountProc(c initConfig) error {
	if err := mount("proc", "/proc", "proc", 0, ""); err != nil {
		return err
	}
	// Sysrq is not namespaced: "b" written there would reboot the real machine.
	const sysrq = "/proc/sysrq-trigger"
	if _, err := os.Stat(sysrq); err == nil { // some kernels have none
		if err := bind("/dev/null", sysrq); err != nil {
			return err
		}
	}
	if err := bind(BootIDFile, "/proc/sys/kernel/random/boot_id"); err != nil {
		return err
	}
	if err := mount("sysfs", "/sys", "sysfs", unix.MS_RDONLY, ""); err != nil {
		return err
	}
	ns, err := os.Readlink("/proc/self/ns/pid")
	if err != nil {
		return fmt.Errorf("identify PID namespace: %w", err)
	}
	return writeFile(markerFile, ns+"\n")
}

// mountRun builds /run beside itself and moves it into place, because what goes
// in comes from the /run that it covers.
func mountRun(c initConfig) error {
	stage, err := staged(c, "run", "mode=755,size=64m")
	if err != nil {
		return err
	}
	for _, d := range []string{"lock", "libvirt", "lifeboat"} {
		if err := os.Mkdir(filepath.Join(stage, d), 0o755); err != nil {
			return fmt.Errorf("fill /run: %w", err)
		}
	}
	if err := writeFile(filepath.Join(stage, "lifeboat/boot_id"), c.BootID+"\n"); err != nil {
		return err
	}
	sock := filepath.Join(stage, "lifeboat/watchdog.sock")
	if err := writeFile(sock, ""); err != nil {
		return err
	}
	if err := bind(c.WatchdogSocket, sock); err != nil {
		return err
	}
	return move(stage, "/run")
}

// mountDev gives the host device nodes of its own. That hides /dev/kvm, and it
// makes two hosts that open one loop device hold locks on two inodes, as two
// machines on a SAN do.
func mountDev(c initConfig) error {
	stage, err := staged(c, "dev", "mode=755,size=4m")
	if err != nil {
		return err
	}
	type node struct {
		name         string
		mode         uint32
		major, minor uint32
	}
	nodes := []node{
		{"null", unix.S_IFCHR | 0o666, 1, 3}, {"zero", unix.S_IFCHR | 0o666, 1, 5}, {"full", unix.S_IFCHR | 0o666, 1, 7},
		{"random", unix.S_IFCHR | 0o666, 1, 8}, {"urandom", unix.S_IFCHR | 0o666, 1, 9},
		{"tty", unix.S_IFCHR | 0o666, 5, 0}, {"console", unix.S_IFCHR | 0o600, 5, 1},
	}
	for _, n := range c.Loops {
		nodes = append(nodes, node{fmt.Sprintf("loop%d", n), unix.S_IFBLK | 0o660, loopMajor, uint32(n)})
	}
	for _, n := range nodes {
		if err := mknod(filepath.Join(stage, n.name), n.mode, n.major, n.minor); err != nil {
			return err
		}
	}
	for name, to := range map[string]string{"fd": "/proc/self/fd", "stdin": "fd/0", "stdout": "fd/1", "stderr": "fd/2", "ptmx": "pts/ptmx"} {
		if err := os.Symlink(to, filepath.Join(stage, name)); err != nil {
			return fmt.Errorf("fill /dev: %w", err)
		}
	}
	for _, d := range []string{"pts", "shm", "net"} {
		if err := os.Mkdir(filepath.Join(stage, d), 0o755); err != nil {
			return fmt.Errorf("fill /dev: %w", err)
		}
	}
	if err := mknod(filepath.Join(stage, "net/tun"), unix.S_IFCHR|0o666, 10, 200); err != nil {
		return err
	}
	if err := mount("devpts", filepath.Join(stage, "pts"), "devpts", 0, "newinstance,ptmxmode=0666,mode=620"); err != nil {
		return err
	}
	if err := mount("tmpfs", filepath.Join(stage, "shm"), "tmpfs", 0, "mode=1777"); err != nil {
		return err
	}
	return move(stage, "/dev")
}

// bindFiles puts the host's own files over the machine's.
func bindFiles(c initConfig) error {
	for target, source := range hostDirs {
		if err := bind(filepath.Join(c.Dir, source), target); err != nil {
			return err
		}
	}
	for _, name := range hostFiles {
		target := filepath.Join("/etc", name)
		if _, err := os.Stat(target); os.IsNotExist(err) {
			continue // machine-id is missing on some build machines; nothing to hide then
		}
		if err := bind(filepath.Join(c.Dir, "files", name), target); err != nil {
			return err
		}
	}
	return nil
}

func staged(c initConfig, name, options string) (string, error) {
	stage := filepath.Join(c.Dir, "stage-"+name)
	if err := os.MkdirAll(stage, 0o755); err != nil {
		return "", fmt.Errorf("make mount point: %w", err)
	}
	return stage, mount("tmpfs", stage, "tmpfs", 0, options)
}

func mount(source, target, fstype string, flags uintptr, data string) error {
	if err := unix.Mount(source, target, fstype, flags, data); err != nil {
		return fmt.Errorf("mount %s: %w", target, err)
	}
	return nil
}

func bind(source, target string) error {
	if err := unix.Mount(source, target, "", unix.MS_BIND, ""); err != nil {
		return fmt.Errorf("bind %s to %s: %w", source, target, err)
	}
	return nil
}

func move(source, target string) error {
	if err := unix.Mount(source, target, "", unix.MS_MOVE, ""); err != nil {
		return fmt.Errorf("move %s to %s: %w", source, target, err)
	}
	return nil
}

// mknod makes a device node with exactly this mode; one that exists is fine.
func mknod(path string, mode, major, minor uint32) error {
	err := unix.Mknod(path, mode, int(unix.Mkdev(major, minor)))
	if errors.Is(err, unix.EEXIST) {
		return nil
	}
	if err == nil {
		err = os.Chmod(path, os.FileMode(mode&0o777)) // the umask does not apply to a machine's devices
	}
	if err != nil {
		return fmt.Errorf("make device %s: %w", path, err)
	}
	return nil
}

func writeFile(path, text string) error {
	if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
		return fmt.Errorf("write file: %w", err)
	}
	return nil
}
