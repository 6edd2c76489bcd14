package libvirt_test

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	golibvirt "github.com/digitalocean/go-libvirt"
	"github.com/digitalocean/go-libvirt/socket/dialers"
	"golang.org/x/sys/unix"

	"lifeboat/hypervisor"
	"lifeboat/internal/lab"
)

// daemon is a libvirtd of our own: unprivileged, with its files in a directory
// of its own and its sockets there and on loopback. It serves the test driver
// and, as qemu:///session, real emulated guests.
type daemon struct {
	t    *testing.T
	dir  string
	lock *os.File
	port int // plain TCP
	tls  int // 0: it does not listen there
	uid  uint32

	pid  int
	done chan struct{} // closed once it is reaped
}

const daemonDirs = "lv-"

// newDaemon starts a daemon that lives as long as the test. The test is skipped
// where there is no libvirtd.
func newDaemon(t *testing.T, driver, configuration string) *daemon {
	t.Helper()
	requireFiles(t, map[string]string{
		"/usr/sbin/libvirtd": "libvirt-daemon",
		"/usr/lib/*/libvirt/connection-driver/libvirt_driver_" + driver + ".so": "libvirt-daemon-driver-" + driver,
	})
	if driver == "qemu" {
		requireFiles(t, map[string]string{"/usr/bin/qemu-system-x86_64": "qemu-system-x86"})
	}
	sweepDaemons(t)
	ports := freePorts(t, 2)
	d := &daemon{t: t, port: ports[0], uid: uint32(os.Getuid())}
	if strings.Contains(configuration, "listen_tls = 1") {
		d.tls = ports[1]
	}
	gid := os.Getgid()
	if d.uid == 0 { // as root it would use the machine's own directories
		nobody, err := user.Lookup("nobody")
		must(t, err)
		uid, _ := strconv.ParseUint(nobody.Uid, 10, 32)
		gid, _ = strconv.Atoi(nobody.Gid)
		d.uid = uint32(uid)
	}
	var err error
	d.dir, err = os.MkdirTemp("", daemonDirs) // not t.TempDir: socket paths have to be short
	must(t, err)
	d.lock, err = os.Create(filepath.Join(d.dir, "lock"))
	must(t, err)
	must(t, unix.Flock(int(d.lock.Fd()), unix.LOCK_EX))
	must(t, os.WriteFile(filepath.Join(d.dir, "libvirtd.conf"), []byte(fmt.Sprintf(`listen_tcp = 1
listen_addr = "127.0.0.1"
tcp_port = "%d"
tls_port = "%d"
auth_tcp = "none"
auth_unix_rw = "none"
max_client_requests = 20
log_outputs = "3:file:%s/libvirtd.log"
%s
`, ports[0], ports[1], d.dir, ifEmpty(configuration, "listen_tls = 0"))), 0o644))
	for _, dir := range []string{"home", "run", "config", "cache"} {
		path := filepath.Join(d.dir, dir)
		must(t, os.Mkdir(path, 0o700))
		must(t, os.Chown(path, int(d.uid), gid))
	}
	must(t, os.Chmod(d.dir, 0o777))
	t.Cleanup(func() {
		d.stop()
		if t.Failed() {
			log, _ := os.ReadFile(filepath.Join(d.dir, "libvirtd.log"))
			t.Logf("libvirtd's log:\n%.4000s", log)
		}
		endDaemonDir(t, d.dir)
		d.lock.Close()
	})
	d.start()
	return d
}

func ifEmpty(s, otherwise string) string {
	if s == "" {
		return otherwise
	}
	return s
}

// reaperEnv makes this test binary the parent of a daemon, see [reap].
const reaperEnv = "LIBVIRT_TEST_REAPER"

// reap starts the program of its arguments, prints its pid and waits for it and
// for everything that it leaves behind. libvirtd destroys a guest by waiting
// until its process is gone, and PID 1 of a container may be slow to reap it.
func reap() {
	if err := unix.Prctl(unix.PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0); err != nil {
		panic(err)
	}
	pid, err := syscall.ForkExec(os.Args[1], os.Args[1:], &syscall.ProcAttr{Env: os.Environ(), Files: []uintptr{0, 2, 2}})
	if err != nil {
		panic(err)
	}
	fmt.Println(pid)
	for {
		dead, err := unix.Wait4(-1, nil, 0, nil)
		switch {
		case dead == pid:
			os.Stdout.Close() // says that it is gone
		case errors.Is(err, unix.ECHILD):
			os.Exit(0)
		}
	}
}

// requireFiles skips the test, or fails it where the lab is the task, unless
// the programs are here. Keys are glob patterns, values Debian packages.
func requireFiles(t *testing.T, files map[string]string) {
	t.Helper()
	if os.Getenv(lab.RequireEnv) == "0" {
		t.Skipf("%s=0: left to make test-lab", lab.RequireEnv)
	}
	for pattern, pkg := range files {
		if strings.HasSuffix(pattern, "_test.so") {
			continue // that driver is part of the client library
		}
		found, err := filepath.Glob(pattern)
		if err == nil && len(found) > 0 {
			continue
		}
		if os.Getenv(lab.RequireEnv) == "1" {
			t.Fatalf("%s=1, but the package %s is missing", lab.RequireEnv, pkg)
		}
		t.Skipf("needs the package %s (there is no %s)", pkg, pattern)
	}
}

// freePorts are ports of loopback that differ and that nobody listens on.
func freePorts(t *testing.T, n int) []int {
	t.Helper()
	var ports []int
	for range n {
		ln, err := net.Listen("tcp", "127.0.0.1:0")
		must(t, err)
		defer ln.Close()
		ports = append(ports, ln.Addr().(*net.TCPAddr).Port)
	}
	return ports
}

func (d *daemon) socket() string { return filepath.Join(d.dir, "run/libvirt/libvirt-sock") }

func (d *daemon) testURI() string { return fmt.Sprintf("test+tcp://127.0.0.1:%d/default", d.port) }
func (d *daemon) qemuURI() string { return "qemu+unix:///session?socket=" + d.socket() }

// start starts the daemon unless it runs, and waits until it listens.
func (d *daemon) start() {
	d.t.Helper()
	if d.running() {
		return
	}
	_ = os.Remove(filepath.Join(d.dir, "run/libvirt/libvirtd.pid"))
	cmd := exec.Command("/proc/self/exe", "/usr/sbin/libvirtd", "--listen", "-f", filepath.Join(d.dir, "libvirtd.conf"))
	cmd.Dir = "/"
	cmd.Env = []string{
		reaperEnv + "=1", "PATH=/usr/sbin:/usr/bin:/sbin:/bin", "LANG=C", "HOME=" + d.dir + "/home",
		"XDG_RUNTIME_DIR=" + d.dir + "/run", "XDG_CONFIG_HOME=" + d.dir + "/config", "XDG_CACHE_HOME=" + d.dir + "/cache",
	}
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	if d.uid != uint32(os.Getuid()) {
		info, err := os.Stat(filepath.Join(d.dir, "home"))
		must(d.t, err)
		cmd.SysProcAttr.Credential = &syscall.Credential{Uid: d.uid, Gid: info.Sys().(*syscall.Stat_t).Gid}
	}
	out, err := cmd.StdoutPipe()
	must(d.t, err)
	must(d.t, cmd.Start())
	go func() { _ = cmd.Wait() }() // ends with the last guest
	d.pid = 0
	if _, err := fmt.Fscanln(out, &d.pid); err != nil {
		d.t.Fatalf("start libvirtd: %v", err)
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		_, _ = io.Copy(io.Discard, out) // until the daemon is reaped
	}()
	d.done = done
	for end := time.Now().Add(20 * time.Second); !d.listening(); time.Sleep(10 * time.Millisecond) {
		if time.Now().After(end) || !d.running() {
			log, _ := os.ReadFile(filepath.Join(d.dir, "libvirtd.log"))
			d.t.Fatalf("libvirtd does not listen:\n%s", log)
		}
	}
}

// listening tries every way in: they come one after the other.
func (d *daemon) listening() bool {
	ways := map[string]string{d.socket(): "unix", fmt.Sprintf("127.0.0.1:%d", d.port): "tcp"}
	if d.tls != 0 {
		ways[fmt.Sprintf("127.0.0.1:%d", d.tls)] = "tcp"
	}
	for addr, network := range ways {
		c, err := net.Dial(network, addr)
		if err != nil {
			return false
		}
		c.Close()
	}
	return true
}

func (d *daemon) running() bool {
	if d.pid == 0 {
		return false
	}
	select {
	case <-d.done:
		return false
	default:
		return true
	}
}

// stop kills the daemon; its guests run on.
func (d *daemon) stop() {
	if d.running() {
		_ = unix.Kill(d.pid, unix.SIGKILL)
		<-d.done
	}
}

func (d *daemon) freeze(frozen bool) {
	sig := unix.SIGCONT
	if frozen {
		sig = unix.SIGSTOP
	}
	if err := unix.Kill(d.pid, sig); err != nil {
		d.t.Errorf("signal libvirtd: %v", err)
	}
}

// kill ends the qemu of a domain.
func (d *daemon) kill(id hypervisor.UUID) error {
	return killQEMU(processesWith(d.dir), id)
}

func killQEMU(pids []int, id hypervisor.UUID) error {
	for _, pid := range pids {
		if strings.Contains(cmdline(pid), id.String()) {
			return unix.Kill(pid, unix.SIGKILL)
		}
	}
	return fmt.Errorf("domain %s has no process", id)
}

// byHand makes one call on a connection of its own, as a user with virsh does.
func byHand(network, address, name string, call func(*golibvirt.Libvirt) error) error {
	conn, err := net.DialTimeout(network, address, 5*time.Second)
	if err != nil {
		return err
	}
	defer conn.Close()
	if err := conn.SetDeadline(time.Now().Add(20 * time.Second)); err != nil {
		return err
	}
	lv := golibvirt.NewWithDialer(dialers.NewAlreadyConnected(conn))
	if err := lv.ConnectToURI(golibvirt.ConnectURI(name)); err != nil {
		return err
	}
	return call(lv)
}

func pause(lv *golibvirt.Libvirt, id hypervisor.UUID) error {
	dom, err := lv.DomainLookupByUUID(golibvirt.UUID(id))
	if err != nil {
		return err
	}
	return lv.DomainSuspend(dom)
}

func define(lv *golibvirt.Libvirt, xml []byte) error {
	dom, err := lv.DomainDefineXML(string(xml))
	if err != nil {
		return err
	}
	return lv.DomainSetAutostart(dom, 1)
}

// processesWith lists the processes that have text in their command line.
func processesWith(text string) []int {
	var pids []int
	entries, _ := os.ReadDir("/proc")
	for _, e := range entries {
		if pid, err := strconv.Atoi(e.Name()); err == nil && pid != os.Getpid() && strings.Contains(cmdline(pid), text) {
			pids = append(pids, pid)
		}
	}
	return pids
}

func cmdline(pid int) string {
	raw, _ := os.ReadFile(fmt.Sprintf("/proc/%d/cmdline", pid))
	return string(bytes.ReplaceAll(raw, []byte{0}, []byte{' '}))
}

// sweepDaemons removes what a test process that was killed has left: nobody
// holds the lock of its directory any more.
func sweepDaemons(t *testing.T) {
	t.Helper()
	dirs, err := filepath.Glob(filepath.Join(os.TempDir(), daemonDirs+"*"))
	must(t, err)
	for _, dir := range dirs {
		f, err := os.Open(filepath.Join(dir, "lock"))
		if err != nil {
			continue // another user's, or one that is being made
		}
		if err := unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB); err == nil {
			endDaemonDir(t, dir)
		}
		f.Close()
	}
}

// endDaemonDir kills the processes that were started with files in dir, whose
// name is random, and removes it.
func endDaemonDir(t *testing.T, dir string) {
	t.Helper()
	for _, pid := range processesWith(dir) {
		_ = unix.Kill(pid, unix.SIGKILL) // it may have ended meanwhile
	}
	if err := os.RemoveAll(dir); err != nil && !errors.Is(err, os.ErrPermission) {
		t.Logf("remove %s: %v", dir, err)
	}
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}
