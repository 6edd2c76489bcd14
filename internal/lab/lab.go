package lab

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"time"

	"golang.org/x/sys/unix"
)

// Options describe a lab.
type Options struct {
	// Dir holds configuration, logs, disks and consoles. What an earlier lab left
	// there is removed by New; Close keeps it, for reading. Empty: a temporary
	// directory that Close removes.
	Dir string
	// Prefix names the lab's network namespaces and picks its subnet. Two labs at
	// once need two prefixes. At most 12 of a-z, 0-9 and -. Empty: "lifeboat".
	Prefix string
	// Hosts and Managers are how many; both may be 0, at most 80.
	Hosts, Managers int
	// ManagerOn puts managers on hosts' machines: manager number → host number.
	// Such a manager keeps its own addresses and loses power and cable with the host.
	ManagerOn map[int]int
	// CacheDir keeps the guest kernel between labs. Empty: [DefaultCacheDir].
	CacheDir string
	// Log gets one line per event of the lab. Nil: nothing.
	Log io.Writer
}

// Lab is a running lab. See the package comment.
type Lab struct {
	opts    Options
	tempDir bool   // Dir is ours to remove
	run     string // sockets; short, because socket paths are limited to 107 bytes
	exe     string // this binary, for programs that cannot use /proc/self/exe
	image   guestImage
	net     *network
	hosts   []*host
	mgrs    []*manager
	lock    *os.File
	control *control
	began   time.Time

	onBoot func(host int) // written with every host's mu, read with one of them

	logMu sync.Mutex

	diskMu sync.Mutex
	disks  map[string]string // guest-visible path → backing file
	luns   []lun

	closeOnce sync.Once
	closeErr  error
	closed    chan struct{}
	boots     sync.WaitGroup // power watchers
}

var validPrefix = regexp.MustCompile(`^[a-z][a-z0-9-]{0,11}$`)

// New makes a lab and waits until every host's libvirtd answers. It removes
// what a crashed lab with the same prefix left, and fails when such a lab still
// runs. On error nothing is left.
func New(ctx context.Context, opts Options) (*Lab, error) {
	if opts.Prefix == "" {
		opts.Prefix = "lifeboat"
	}
	if err := checkOptions(opts); err != nil {
		return nil, err
	}
	l := &Lab{
		opts: opts, run: filepath.Join("/run/lifeboat-lab", opts.Prefix), net: newNetwork(opts.Prefix),
		disks: make(map[string]string), closed: make(chan struct{}), began: time.Now(),
	}
	if err := l.up(ctx); err != nil {
		return nil, errors.Join(fmt.Errorf("start lab %s: %w", opts.Prefix, err), l.Close())
	}
	return l, nil
}

func checkOptions(o Options) error {
	if !validPrefix.MatchString(o.Prefix) {
		return fmt.Errorf("start lab: prefix %q: want at most 12 characters a-z, 0-9 and -, beginning with a letter", o.Prefix)
	}
	if o.Hosts < 0 || o.Hosts > 80 || o.Managers < 0 || o.Managers > 80 {
		return fmt.Errorf("start lab: %d hosts and %d managers: want 0 to 80 of each", o.Hosts, o.Managers)
	}
	for m, h := range o.ManagerOn {
		if m < 1 || m > o.Managers || h < 1 || h > o.Hosts {
			return fmt.Errorf("start lab: manager %d on host %d: the lab has %d managers and %d hosts", m, h, o.Managers, o.Hosts)
		}
	}
	return nil
}

func (l *Lab) up(ctx context.Context) error {
	err := Check()
	if err != nil {
		return err
	}
	if l.exe, err = os.Executable(); err != nil {
		return fmt.Errorf("find own binary: %w", err)
	}
	if err := l.takePrefix(); err != nil {
		return err
	}
	if err := sweep(l.opts.Prefix); err != nil {
		return fmt.Errorf("remove what an earlier lab left: %w", err)
	}
	if err := l.makeDirs(); err != nil {
		return err
	}
	if l.image, err = prepareImage(ctx, l.opts.CacheDir, l.logf); err != nil {
		return err
	}
	if err := l.net.up(ctx); err != nil {
		return err
	}
	if l.control, err = serveControl(l); err != nil {
		return err
	}
	l.declare()
	for _, m := range l.mgrs {
		if err := os.MkdirAll(m.dir, 0o755); err != nil {
			return fmt.Errorf("make manager directory: %w", err)
		}
		if m.host == nil {
			if err := l.net.plug(ctx, m.ports...); err != nil {
				return err
			}
		}
	}
	for _, h := range l.hosts {
		if err := l.bmcUp(ctx, h); err != nil {
			return fmt.Errorf("start BMC of h%d: %w", h.n, err)
		}
		if err := l.PowerOn(ctx, h.n); err != nil {
			return err
		}
	}
	for _, h := range l.hosts {
		if err := l.WaitLibvirtd(ctx, h.n); err != nil {
			return err
		}
	}
	l.logf("%d hosts and %d managers up in %.1f s", len(l.hosts), len(l.mgrs), time.Since(l.began).Seconds())
	return nil
}

// declare lays out machines and addresses without starting anything.
func (l *Lab) declare() {
	for n := 1; n <= l.opts.Hosts; n++ {
		name := fmt.Sprintf("h%d", n)
		h := &host{n: n, name: name, dir: filepath.Join(l.opts.Dir, name)}
		h.port = l.net.addPort(name, name, "eth0", 0, 10+n)
		h.bmc.port = l.net.addPort(fmt.Sprintf("b%d", n), fmt.Sprintf("b%d", n), "eth0", 1, 10+n)
		l.hosts = append(l.hosts, h)
	}
	for n := 1; n <= l.opts.Managers; n++ {
		name := fmt.Sprintf("m%d", n)
		m := &manager{n: n, name: name, dir: filepath.Join(l.opts.Dir, name)}
		m.ports = []*port{
			l.net.addPort(name, name, "eth0", 0, 100+n),
			l.net.addPort(name+"x", name, "eth1", 1, 100+n),
		}
		if on := l.opts.ManagerOn[n]; on != 0 {
			m.host = l.hosts[on-1]
			m.host.managers = append(m.host.managers, m)
		}
		l.mgrs = append(l.mgrs, m)
	}
}

// takePrefix makes sure that no living lab uses the prefix. The kernel gives
// the lock back when this process ends, however it ends.
func (l *Lab) takePrefix() error {
	if err := os.MkdirAll(filepath.Dir(l.run), 0o755); err != nil {
		return fmt.Errorf("make run directory: %w", err)
	}
	f, err := os.OpenFile(l.run+".lock", os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return fmt.Errorf("open lab lock: %w", err)
	}
	if err := unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB); err != nil {
		f.Close()
		return fmt.Errorf("a lab with prefix %q is running already; close it or choose another prefix", l.opts.Prefix)
	}
	l.lock = f
	return nil
}

func (l *Lab) makeDirs() error {
	if l.opts.Dir == "" {
		dir, err := os.MkdirTemp("", l.opts.Prefix+"-lab-")
		if err != nil {
			return fmt.Errorf("make lab directory: %w", err)
		}
		l.opts.Dir, l.tempDir = dir, true
	}
	if err := os.MkdirAll(l.run, 0o755); err != nil {
		return fmt.Errorf("make run directory: %w", err)
	}
	if l.tempDir {
		if err := writeFile(filepath.Join(l.run, tempDirFile), l.opts.Dir); err != nil {
			return err
		}
	}
	dir, err := filepath.Abs(l.opts.Dir)
	if err != nil {
		return fmt.Errorf("find lab directory: %w", err)
	}
	l.opts.Dir = dir
	// A definition that an earlier lab's libvirtd persisted would come back to life.
	old, err := filepath.Glob(filepath.Join(dir, "[hm][0-9]*"))
	if err != nil {
		return fmt.Errorf("look for an earlier lab: %w", err)
	}
	for _, d := range append(old, l.sharedDir(), l.lunDir()) {
		if err := os.RemoveAll(d); err != nil {
			return fmt.Errorf("remove earlier lab's files: %w", err)
		}
	}
	for _, d := range []string{l.sharedDir(), l.lunDir()} {
		if err := os.MkdirAll(d, 0o755); err != nil {
			return fmt.Errorf("make lab directory: %w", err)
		}
	}
	return nil
}

// Close ends every process of the lab, also those that its user
// started there, and removes its namespaces, cables, loop devices and sockets.
// Closing twice is fine.
func (l *Lab) Close() error {
	l.closeOnce.Do(func() { l.closeErr = l.close() })
	return l.closeErr
}

func (l *Lab) close() error {
	close(l.closed) // from here on nothing is powered on again
	if l.lock == nil {
		return nil // never owned the prefix: whatever has it belongs to somebody else
	}
	var errs []error
	l.control.stop()
	for _, h := range l.hosts {
		if err := l.PowerCut(context.Background(), h.n); err != nil {
			errs = append(errs, err)
		}
		h.bmc.sim.stop()
	}
	l.boots.Wait()
	errs = append(errs, sweep(l.opts.Prefix))
	errs = append(errs, l.lock.Close())
	return errors.Join(errs...)
}

// tempDirFile in the run directory names the temporary directory that a lab
// made for itself: a later one removes it when this one is killed.
const tempDirFile = "temp-dir"

// sweep removes everything that a lab with this prefix made: what lives in its
// network namespaces, these, its loop devices by their label, and its files.
// The caller holds the prefix, so whatever is found belongs to nobody.
func sweep(prefix string) error {
	names, err := labNetns(prefix)
	if err != nil {
		return err
	}
	var ids []string
	for _, name := range names {
		id, err := netnsID(name)
		if err != nil {
			return err
		}
		ids = append(ids, id)
	}
	errs := []error{killAll("net", ids, 10*time.Second)}
	for _, name := range names {
		errs = append(errs, ip(context.Background(), "", "netns del "+name))
	}
	errs = append(errs, detachLoops(prefix))
	run := filepath.Join("/run/lifeboat-lab", prefix)
	if raw, err := os.ReadFile(filepath.Join(run, tempDirFile)); err == nil && isTempDir(prefix, string(raw)) {
		errs = append(errs, os.RemoveAll(string(raw)))
	}
	return errors.Join(append(errs, os.RemoveAll(run))...)
}

// isTempDir refuses to remove what New cannot have made.
func isTempDir(prefix, dir string) bool {
	return filepath.Dir(dir) == filepath.Clean(os.TempDir()) && strings.HasPrefix(filepath.Base(dir), prefix+"-lab-")
}

// Leftovers names what still exists of a lab with this prefix: namespaces,
// processes in them, mounts, loop devices. Empty after Close.
func Leftovers(prefix string) ([]string, error) {
	var found []string
	names, err := labNetns(prefix)
	if err != nil {
		return nil, err
	}
	for _, name := range names {
		found = append(found, "network namespace "+name)
		id, err := netnsID(name)
		if err != nil {
			return nil, err
		}
		for _, pid := range livePIDs("net", id) {
			found = append(found, fmt.Sprintf("process %d in %s", pid, name))
		}
	}
	loops, err := labLoops(prefix)
	if err != nil {
		return nil, err
	}
	for _, dev := range loops {
		found = append(found, "loop device "+dev)
	}
	mounts, err := mountPoints()
	if err != nil {
		return nil, err
	}
	for _, m := range mounts {
		if under(m, netnsPath(prefix+"-net")) || under(m, filepath.Join("/run/lifeboat-lab", prefix)) {
			found = append(found, "mount "+m)
		}
	}
	return found, nil
}

// Dir is where configuration, logs and disks are; it has the same path inside
// the hosts.
func (l *Lab) Dir() string { return l.opts.Dir }

// logf writes one line with the seconds since the lab began.
func (l *Lab) logf(format string, args ...any) {
	if l.opts.Log == nil {
		return
	}
	l.logMu.Lock()
	defer l.logMu.Unlock()
	fmt.Fprintf(l.opts.Log, "lab %6.2f s  %s\n", time.Since(l.began).Seconds(), fmt.Sprintf(format, args...))
}
