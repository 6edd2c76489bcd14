package lab

import (
	"context"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strings"

	"golang.org/x/sys/unix"
)

const systemPath = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"

// needed are the programs the lab runs and the Debian packages they come in.
var needed = []struct{ program, pkg string }{
	{"libvirtd", "libvirt-daemon"},
	{"virsh", "libvirt-clients"},
	{"qemu-system-x86_64", "qemu-system-x86"},
	{"qemu-img", "qemu-utils"},
	{"ip", "iproute2"},
	{"busybox", "busybox-static"},
	{"ipmitool", "ipmitool"},
	{"ipmi_sim", "openipmi"},
}

const driverPackage = "libvirt-daemon-driver-qemu"

// tool is the path of a system program. sbin is often not in PATH.
func tool(name string) string {
	for dir := range strings.SplitSeq(systemPath, ":") {
		path := filepath.Join(dir, name)
		if st, err := os.Stat(path); err == nil && st.Mode().IsRegular() && st.Mode()&0o111 != 0 {
			return path
		}
	}
	return name
}

func installed(name string) bool { return filepath.IsAbs(tool(name)) }

// MissingError says why a lab cannot run here.
type MissingError struct {
	Missing []string // see [Missing]
}

func (e *MissingError) Error() string {
	return "a lab cannot run here: " + strings.Join(e.Missing, "; ")
}

// Missing says, one short reason per entry, what keeps a lab from running on
// this machine. Packages appear as "package NAME". Empty: nothing does.
func Missing() []string {
	if runtime.GOOS != "linux" || runtime.GOARCH != "amd64" {
		return []string{"the lab's guests need Linux on amd64, this is " + runtime.GOOS + "/" + runtime.GOARCH}
	}
	var missing []string
	for _, pkg := range missingPackages() {
		missing = append(missing, "package "+pkg)
	}
	if os.Geteuid() != 0 {
		return append(missing, "root rights")
	}
	if err := tryNamespaces(); err != nil {
		missing = append(missing, "namespaces ("+err.Error()+")")
	}
	if !exists("/dev/loop-control") {
		missing = append(missing, "loop devices (no /dev/loop-control)")
	}
	return missing
}

func missingPackages() []string {
	var pkgs []string
	for _, n := range needed {
		if !installed(n.program) {
			pkgs = append(pkgs, n.pkg)
		}
	}
	drivers, err := filepath.Glob("/usr/lib/*/libvirt/connection-driver/libvirt_driver_qemu.so")
	if err != nil || len(drivers) == 0 {
		pkgs = append(pkgs, driverPackage)
	}
	if installed("busybox") && !isStatic(tool("busybox")) {
		pkgs = append(pkgs, "busybox-static") // the package busybox is linked dynamically
	}
	return pkgs
}

// tryNamespaces does once what every host needs, on a thread that then ends.
func tryNamespaces() error {
	var err error
	onThrowawayThread(func() {
		err = unix.Unshare(unix.CLONE_FS | unix.CLONE_NEWNS | unix.CLONE_NEWNET | unix.CLONE_NEWUTS | unix.CLONE_NEWIPC | unix.CLONE_NEWPID)
		if err == nil {
			err = unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, "")
		}
		if err == nil {
			err = unix.Mount("tmpfs", "/run", "tmpfs", 0, "mode=755")
		}
	})
	return err
}

// TB is the part of testing.TB that Require needs. (The package testing itself
// must not end up in the program.)
type TB interface {
	Helper()
	Skipf(format string, args ...any)
	Fatalf(format string, args ...any)
}

// RequireEnv, when set to 1, makes [Require] fail instead of skip: a test run
// that is there for the lab must not pass by doing nothing.
const RequireEnv = "LIFEBOAT_LAB"

// Require skips the test, with the reason, where a lab cannot run.
func Require(t TB) {
	t.Helper()
	missing := Missing()
	switch {
	case len(missing) == 0:
	case os.Getenv(RequireEnv) == "1":
		t.Fatalf("%s=1, but %v", RequireEnv, &MissingError{Missing: missing})
	default:
		t.Skipf("%v", &MissingError{Missing: missing})
	}
}

// Install installs the packages a lab needs and does not have, with apt-get, and
// fetches the guests' kernel into cacheDir ("" for [DefaultCacheDir]). It
// reports its progress on w, and needs root and a network.
func Install(ctx context.Context, w io.Writer, cacheDir string) error {
	pkgs := missingPackages()
	slices.Sort(pkgs)
	if len(pkgs) == 0 {
		fmt.Fprintln(w, "lab: all packages are here")
	} else {
		if os.Geteuid() != 0 {
			return fmt.Errorf("install packages: run as root, or install them yourself: %s", strings.Join(pkgs, " "))
		}
		if !installed("apt-get") {
			return fmt.Errorf("install packages: there is no apt-get here; install what has these Debian packages' programs: %s", strings.Join(pkgs, " "))
		}
		fmt.Fprintf(w, "lab: installing %s\n", strings.Join(pkgs, " "))
		if err := apt(ctx, w, "update"); err != nil {
			return err
		}
		if err := apt(ctx, w, append([]string{"install", "-y", "--no-install-recommends"}, pkgs...)...); err != nil {
			return err
		}
	}
	_, err := prepareImage(ctx, cacheDir, func(format string, args ...any) { fmt.Fprintf(w, "lab: "+format+"\n", args...) })
	return err
}

func apt(ctx context.Context, w io.Writer, args ...string) error {
	cmd := exec.CommandContext(ctx, tool("apt-get"), append([]string{"-q"}, args...)...)
	cmd.Env = append(os.Environ(), "DEBIAN_FRONTEND=noninteractive", "PATH="+systemPath)
	cmd.Stdout, cmd.Stderr = w, w
	if err := cmd.Run(); err != nil {
		return fmt.Errorf("run apt-get %s: %w", args[0], err)
	}
	return nil
}
