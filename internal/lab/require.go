package lab

import (
	"context"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"

	"golang.org/x/sys/unix"
)

const systemPath = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"

// needed are the programs the lab runs and the Debian packages they come in.
// deploy/lab/install.sh installs the same packages.
var needed = []struct{ program, pkg string }{
	{"libvirtd", "libvirt-daemon"},
	{"qemu-system-x86_64", "qemu-system-x86"},
	{"ip", "iproute2"},
	{"busybox", "busybox-static"},
	{"ipmitool", "ipmitool"},
	{"ipmi_sim", "openipmi"},
	{"virsh", "libvirt-clients"},
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

// MissingError says why a lab cannot run here, and what to do about it.
type MissingError struct {
	Packages []string // Debian packages that are not installed
	Reasons  []string // everything else, as sentences
}

func (e *MissingError) Error() string {
	var says []string
	if len(e.Packages) > 0 {
		says = append(says, fmt.Sprintf("%s not installed; run: apt-get install -y --no-install-recommends %s (or deploy/lab/install.sh)",
			plural(e.Packages, "the package %s is", "the packages %s are"), strings.Join(e.Packages, " ")))
	}
	return "a lab cannot run here: " + strings.Join(append(says, e.Reasons...), "; ")
}

func plural(items []string, one, many string) string {
	if len(items) == 1 {
		return fmt.Sprintf(one, items[0])
	}
	return fmt.Sprintf(many, strings.Join(items[:len(items)-1], ", ")+" and "+items[len(items)-1])
}

// Check returns a *[MissingError] when something keeps a lab from running on
// this machine. It changes nothing.
func Check() error {
	e := &MissingError{Packages: missingPackages()}
	if runtime.GOOS != "linux" || runtime.GOARCH != "amd64" {
		e.Packages = nil
		e.Reasons = append(e.Reasons, "its guests need Linux on amd64, and this is "+runtime.GOOS+" on "+runtime.GOARCH)
		return e
	}
	if os.Geteuid() != 0 {
		e.Reasons = append(e.Reasons, "it needs root rights to make namespaces; run it as root")
		return e
	}
	if err := tryNamespaces(); err != nil {
		e.Reasons = append(e.Reasons, "this machine does not let root make namespaces ("+err.Error()+"); in a container, start it privileged")
	}
	if !exists("/dev/loop-control") {
		e.Reasons = append(e.Reasons, "there are no loop devices (no /dev/loop-control); load the kernel module loop")
	}
	if len(e.Packages)+len(e.Reasons) == 0 {
		return nil
	}
	return e
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
	slices.Sort(pkgs)
	return slices.Compact(pkgs)
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
// that is there for the lab must not pass by doing nothing. Set to 0, it skips
// in any case: the run is for what needs no lab.
const RequireEnv = "LIFEBOAT_LAB"

// Require skips the test, with the reason, where a lab cannot run.
func Require(t TB) {
	t.Helper()
	if os.Getenv(RequireEnv) == "0" {
		t.Skipf("%s=0: left to make test-lab", RequireEnv)
	}
	err := Check()
	switch {
	case err == nil:
	case os.Getenv(RequireEnv) == "1":
		t.Fatalf("%s=1, but %v", RequireEnv, err)
	default:
		t.Skipf("%v", err)
	}
}

// Setup makes this machine ready for labs: it checks what [Check] checks, and
// fetches the guests' kernel into [DefaultCacheDir], for which it needs Debian's
// package servers once. It installs nothing and says in its error, a
// *[MissingError], what to install. One line per step goes to log.
func Setup(ctx context.Context, log io.Writer) error {
	if err := Check(); err != nil {
		return err
	}
	fmt.Fprintln(log, "lab: libvirt, qemu and the BMC simulator are installed")
	image, err := prepareImage(ctx, "", func(format string, args ...any) { fmt.Fprintf(log, "lab: "+format+"\n", args...) })
	if err != nil {
		return err
	}
	fmt.Fprintf(log, "lab: the guests' kernel and root file system are in %s\n", filepath.Dir(image.kernel))
	return nil
}
